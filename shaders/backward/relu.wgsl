// The gradient of ReLU, in place: the gradient is 0 where the output is 0. In `relu_gradient`, a thread computes one
// element; in `relu_gradient4`, a thread computes four channels.

//#include shared/invocation.wgsl

struct Params {
    count: u32, // N * H * W * C, or C/4
    channels: u32,
    y_offset: u32,
    y_stride: u32,
    g_offset: u32,
    g_stride: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>; // (N, H, W, y_stride), the output of ReLU
@group(0) @binding(2) var<storage, read_write> g: array<f32>; // (N, H, W, g_stride), the gradient
@group(0) @binding(1) var<storage, read> y4: array<vec4f>; // (N, H, W, y_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> g4: array<vec4f>; // (N, H, W, g_stride/4), the same buffer

@compute @workgroup_size(THREADS)
fn relu_gradient(
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
    let at = pixel * p.g_stride + p.g_offset + c;
    g[at] = select(0.0, g[at], y[pixel * p.y_stride + p.y_offset + c] > 0.0);
}

@compute @workgroup_size(THREADS)
fn relu_gradient4(
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
    let c = i - pixel * vec4_channels;
    let at = (pixel * p.g_stride + p.g_offset) / 4u + c;
    g4[at] = select(vec4f(), g4[at], y4[(pixel * p.y_stride + p.y_offset) / 4u + c] > vec4f());
}
