// Softmax over channels: y = exp(x - max) / sum of exp(x - max). A workgroup computes one pixel. The probabilities are
// written twice: as activations, and in f32 to the buffer that is read back.
// CPU twin: src/cpu/ops/softmax.rs.

//#include shared/limits.wgsl
//#include shared/total.wgsl

struct Params {
    pixels: u32, // N * H * W
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    first: u32, // the index of this layer's first value in head_outputs
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<real>; // (N, H, W, y_stride)
@group(0) @binding(3) var<storage, read_write> head_outputs: array<f32>; // (N, H, W, channels) of each head

@compute @workgroup_size(GROUP)
fn softmax(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixel = group.y * groups.x + group.x;
    if pixel >= p.pixels {
        return;
    }
    let start = pixel * p.x_stride + p.x_offset;
    var most = LOWEST;
    for (var c = thread; c < p.channels; c += GROUP) {
        most = max(most, f32(x[start + c]));
    }
    most = greatest(thread, most);
    var sum = 0.0;
    for (var c = thread; c < p.channels; c += GROUP) {
        sum += exp(f32(x[start + c]) - most);
    }
    sum = total(thread, sum);
    let to = pixel * p.y_stride + p.y_offset;
    for (var c = thread; c < p.channels; c += GROUP) {
        let value = exp(f32(x[start + c]) - most) / sum;
        y[to + c] = real(value);
        head_outputs[p.first + pixel * p.channels + c] = value;
    }
}
