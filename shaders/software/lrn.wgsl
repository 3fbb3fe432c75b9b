// Local response normalisation for software adapters, like `lrn4` of lrn.wgsl. It reads its input from a texture, and
// also writes its output to a texture for the layers that read it.

//#include shared/invocation.wgsl
//#include shared/texture.wgsl
//#include shared/lrn_sum.wgsl
//#include shared/lrn_window.wgsl

@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, H, W, y_stride/4)
@group(0) @binding(3) var xt: texture_2d<f32>; // (N, H, W, C/4)
@group(0) @binding(4) var yt: texture_storage_2d<rgba32float, write>; // (N, H, W, C/4)

@compute @workgroup_size(THREADS)
fn lrn_texture(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let vec4_channels = p.channels / 4u;
    let pixel = i / vec4_channels;
    let vec4_channel = i - pixel * vec4_channels;
    var left = vec4f();
    var right = vec4f();
    if vec4_channel > 0u {
        left = textureLoad(xt, texel(i - 1u), 0);
    }
    if vec4_channel + 1u < vec4_channels {
        right = textureLoad(xt, texel(i + 1u), 0);
    }
    let value = normalised(left, textureLoad(xt, texel(i), 0), right);
    y4[(pixel * p.y_stride + p.y_offset) / 4u + vec4_channel] = real4(value);
    textureStore(yt, texel(i), value);
}
