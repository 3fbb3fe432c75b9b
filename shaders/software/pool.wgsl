// Pooling for software adapters, like `pool4` of pool.wgsl. It reads its input from a texture, and also writes its
// output to a texture for the layers that read it.

//#include shared/invocation.wgsl
//#include shared/limits.wgsl
//#include shared/texture.wgsl
//#include shared/pool_span.wgsl
//#include shared/pool_window.wgsl

@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, Ho, Wo, y_stride/4)
@group(0) @binding(3) var xt: texture_2d<f32>; // (N, H, W, C/4)
@group(0) @binding(4) var yt: texture_storage_2d<rgba32float, write>; // (N, Ho, Wo, C/4)

@compute @workgroup_size(THREADS)
fn pool_texture(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let u = under(i, p.channels / 4u);
    var found = NOTHING;
    for (var iy = u.rows.x; iy < u.rows.y; iy++) {
        let line = (u.image * p.height + iy) * p.width;
        for (var ix = u.columns.x; ix < u.columns.y; ix++) {
            found = take(found, textureLoad(xt, texel((line + ix) * (p.channels / 4u) + u.channel), 0));
        }
    }
    let value = made(u, found);
    y4[(u.pixel * p.y_stride + p.y_offset) / 4u + u.channel] = real4(value);
    textureStore(yt, texel(i), value);
}
