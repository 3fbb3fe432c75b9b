// Pooling: the maximum or the mean of each window. In `pool`, a thread computes one element of the output; in `pool4`,
// a thread computes four channels. Padding never counts in a maximum; `mode` decides what a mean divides by.
// CPU twin: src/cpu/ops/pool.rs.

//#include shared/invocation.wgsl
//#include shared/limits.wgsl
//#include shared/pool_span.wgsl
//#include shared/pool_window.wgsl

@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<real>; // (N, Ho, Wo, y_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, Ho, Wo, y_stride/4), the same buffer

@compute @workgroup_size(THREADS)
fn pool(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let u = under(i, p.channels);
    var most = LOWEST;
    var sum = 0.0;
    for (var iy = u.rows.x; iy < u.rows.y; iy++) {
        let line = (u.image * p.height + iy) * p.width;
        for (var ix = u.columns.x; ix < u.columns.y; ix++) {
            let value = f32(x[(line + ix) * p.x_stride + p.x_offset + u.channel]);
            most = max(most, value);
            sum += value;
        }
    }
    let mean = sum / f32(u.rows.z * u.columns.z);
    y[u.pixel * p.y_stride + p.y_offset + u.channel] = real(select(mean, most, p.mode == MAX));
}

@compute @workgroup_size(THREADS)
fn pool4(
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
            found = take(found, vec4f(x4[((line + ix) * p.x_stride + p.x_offset) / 4u + u.channel]));
        }
    }
    y4[(u.pixel * p.y_stride + p.y_offset) / 4u + u.channel] = real4(made(u, found));
}
