// Concatenation along channels: copies one input to its range of the output's channels, multiplied by its gain. There
// is one dispatch for each input, with one thread for each element.
// CPU twin: src/cpu/ops/concat.rs.

//#include shared/invocation.wgsl

struct Params {
    count: u32, // N * H * W * C
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    branch: u32, // the node whose gain applies
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> gains: array<f32>; // (nodes)
@group(0) @binding(3) var<storage, read_write> y: array<real>; // (N, H, W, y_stride)

@compute @workgroup_size(THREADS)
fn concat(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let pixel = i / p.channels;
    let c = i - pixel * p.channels;
    let value = f32(x[pixel * p.x_stride + p.x_offset + c]) * gains[p.branch];
    y[pixel * p.y_stride + p.y_offset + c] = real(value);
}
