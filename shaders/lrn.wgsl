// Local response normalisation across channels: y = x / (k + alpha/size * sum of x^2)^beta, the sum
// over `size` channels around this one. One thread an element. Twin: src/cpu/lrn.rs.

struct Params {
    count: u32, // N * H * W * C
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    before: u32, // channels of the sum before this one
    after: u32, // and after it
    scale: f32, // alpha / size
    beta: f32,
    k: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (N, H, W, y_stride)

const THREADS = 64u;

@compute @workgroup_size(THREADS)
fn lrn(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i >= p.count {
        return;
    }
    let pixel = i / p.channels;
    let c = i - pixel * p.channels;
    let at = pixel * p.x_stride + p.x_offset;
    var sum = 0.0;
    for (var j = max(c, p.before) - p.before; j < min(c + p.after + 1u, p.channels); j++) {
        let value = x[at + j];
        sum += value * value;
    }
    y[pixel * p.y_stride + p.y_offset + c] = x[at + c] * pow(p.k + p.scale * sum, -p.beta);
}
