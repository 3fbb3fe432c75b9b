// The gradient of a concatenation for one of its inputs: its range of the channels, multiplied by its gain. There is one
// thread for each element.

//#include shared/invocation.wgsl

struct Params {
    count: u32, // N * H * W * C
    channels: u32,
    g_offset: u32,
    g_stride: u32,
    to_offset: u32,
    to_stride: u32,
    branch: u32, // the node whose gain applies
    add: u32, // whether the gradient is added to what is there
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>; // (N, H, W, g_stride), the gradient for the concatenation
@group(0) @binding(2) var<storage, read> gains: array<f32>; // (nodes)
@group(0) @binding(3) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride), the gradient for the input

@compute @workgroup_size(THREADS)
fn concat_gradient(
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
    let value = g[pixel * p.g_stride + p.g_offset + c] * gains[p.branch];
    let at = pixel * p.to_stride + p.to_offset + c;
    to[at] = select(value, to[at] + value, p.add != 0u);
}
