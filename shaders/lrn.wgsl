// Local response normalisation across channels: y = x / (k + alpha/size * sum of x^2)^beta, the sum
// over `size` channels around this one. One thread an element, or in `lrn4`, for sizes up to 8, four channels of it.
// Twin: src/cpu/lrn.rs.

struct Params {
    count: u32, // N * H * W * C, or C/4
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
@group(0) @binding(1) var<storage, read> x4: array<vec4f>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> y4: array<vec4f>; // (N, H, W, y_stride/4), the same buffer

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

@compute @workgroup_size(THREADS)
fn lrn4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i >= p.count {
        return;
    }
    let quads = p.channels / 4u;
    let pixel = i / quads;
    let quad = i - pixel * quads;
    let at = (pixel * p.x_stride + p.x_offset) / 4u;
    let here = x4[at + quad];
    var left = vec4f();
    var right = vec4f();
    if quad > 0u {
        left = x4[at + quad - 1u];
    }
    if quad + 1u < quads {
        right = x4[at + quad + 1u];
    }
    // Squares of the channels from four before this thread's first to four after its last.
    var squares = array(left * left, here * here, right * right);
    var sum = vec4f();
    for (var j = 4u - p.before; j <= 4u + p.after; j++) {
        sum += vec4f(
            squares[j / 4u][j % 4u],
            squares[(j + 1u) / 4u][(j + 1u) % 4u],
            squares[(j + 2u) / 4u][(j + 2u) % 4u],
            squares[(j + 3u) / 4u][(j + 3u) % 4u],
        );
    }
    y4[(pixel * p.y_stride + p.y_offset) / 4u + quad] = here * pow(p.k + p.scale * sum, vec4f(-p.beta));
}
