// Preprocesses a picture to the network's input: antialiased resampling along rows (`across`), then along columns with
// normalisation (`down`). The taps list the input pixels and the weights of each output pixel. Transparent pixels are
// drawn on white. Output pixels without taps get the mean colour, which is zero after normalisation.
// Specification and CPU twin: src/model/preprocess.rs.

//#include shared/invocation.wgsl

struct Params {
    width: u32, // the width of the picture
    first_row: u32, // the first row of the picture that was uploaded
    rows: u32, // the number of rows that were uploaded
    size: u32, // the width and height of the network's input
    image: u32, // the picture's place in the batch
    y_offset: u32,
    y_stride: u32,
    // For each input channel: the colour that it reads (red, green or blue), the factor and the offset.
    from_0: u32,
    from_1: u32,
    from_2: u32,
    factor_0: f32,
    factor_1: f32,
    factor_2: f32,
    offset_0: f32,
    offset_1: f32,
    offset_2: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> spans: array<u32>; // (2, size, 3): x, then y; first pixel, count, first weight
@group(0) @binding(2) var<storage, read> weights: array<f32>; // the weights of all spans, one span after the other
@group(0) @binding(3) var<storage, read> pixels: array<u32>; // (rows, width) RGBA, with red in the low byte
@group(0) @binding(4) var<storage, read_write> narrow: array<vec4f>; // (rows, size) red, green, blue, unused
@group(0) @binding(5) var<storage, read_write> y: array<real>; // (N, size, size, y_stride)

fn colour(at: u32) -> vec4f {
    let rgba = vec4f((vec4u(pixels[at]) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u));
    if rgba.w == 255.0 {
        return rgba;
    }
    return 255.0 + (rgba - 255.0) * (rgba.w / 255.0);
}

@compute @workgroup_size(THREADS)
fn across(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.rows * p.size {
        return;
    }
    let row = i / p.size;
    let span = 3u * (i - row * p.size);
    let first = row * p.width + spans[span];
    let start = spans[span + 2u];
    var sum = vec4f();
    for (var t = 0u; t < spans[span + 1u]; t++) {
        sum += colour(first + t) * weights[start + t];
    }
    narrow[i] = sum;
}

@compute @workgroup_size(THREADS)
fn down(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.size * p.size {
        return;
    }
    let row = i / p.size;
    let col = i - row * p.size;
    let span = 3u * (p.size + row);
    let count = spans[span + 1u];
    let start = spans[span + 2u];
    var sum = vec4f();
    for (var t = 0u; t < count; t++) {
        sum += narrow[(spans[span] + t - p.first_row) * p.size + col] * weights[start + t];
    }
    var value = vec3f(sum[p.from_0], sum[p.from_1], sum[p.from_2])
        * vec3f(p.factor_0, p.factor_1, p.factor_2) + vec3f(p.offset_0, p.offset_1, p.offset_2);
    if count == 0u || spans[3u * col + 1u] == 0u {
        value = vec3f();
    }
    let to = (p.image * p.size * p.size + i) * p.y_stride + p.y_offset;
    y[to] = real(value.x);
    y[to + 1u] = real(value.y);
    y[to + 2u] = real(value.z);
}
