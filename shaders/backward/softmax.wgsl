// The gradient of softmax over channels: dx[c] = y[c] * (g[c] - sum over j of g[j] y[j]). A workgroup computes one
// pixel.

//#include shared/total.wgsl

struct Params {
    pixels: u32, // N * H * W
    channels: u32,
    y_offset: u32,
    y_stride: u32,
    g_offset: u32,
    g_stride: u32,
    to_offset: u32,
    to_stride: u32,
    add: u32, // whether the gradient is added to what is there
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>; // (N, H, W, y_stride), the probabilities
@group(0) @binding(2) var<storage, read> g: array<f32>; // (N, H, W, g_stride), the gradient for them
@group(0) @binding(3) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride), the gradient for the input

@compute @workgroup_size(GROUP)
fn softmax_gradient(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= p.pixels {
        return;
    }
    let y_at = pixel * p.y_stride + p.y_offset;
    let g_at = pixel * p.g_stride + p.g_offset;
    let to_at = pixel * p.to_stride + p.to_offset;
    var sum = 0.0;
    for (var c = thread; c < p.channels; c += GROUP) {
        sum += y[y_at + c] * g[g_at + c];
    }
    sum = total(thread, sum);
    for (var c = thread; c < p.channels; c += GROUP) {
        let value = y[y_at + c] * (g[g_at + c] - sum);
        to[to_at + c] = select(value, to[to_at + c] + value, p.add != 0u);
    }
}
