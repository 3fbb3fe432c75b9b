// Dropout, in training runs: each value becomes 0 with a probability, and the others are multiplied. `dropout` computes
// the output; `dropout_gradient` does the same to the gradient, with the same mask. There is one thread for each element.
// Specification: src/plan/random.rs.

//#include shared/invocation.wgsl
//#include shared/random.wgsl

struct Params {
    count: u32, // N * H * W * C
    per_image: u32, // H * W * C
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    add: u32, // whether the gradient is added to what is there
    node: u32, // the node's number, multiplied so that nodes have different seeds
    threshold: u32, // random numbers below it drop a value
    factor: f32, // of the values that are kept
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> key: array<u32>; // (3): whether this is a training run, the seed, the first picture
@group(0) @binding(3) var<storage, read_write> y: array<real>; // (N, H, W, y_stride)
@group(0) @binding(4) var<storage, read> g: array<f32>; // (N, H, W, x_stride), the gradient for the output
@group(0) @binding(5) var<storage, read_write> to: array<f32>; // (N, H, W, y_stride), the gradient for the input

// What element i is multiplied by.
fn mask(i: u32) -> f32 {
    let image = i / p.per_image;
    let random = hash(vec3u(key[1] ^ p.node, key[2] + image, i - image * p.per_image)).x;
    return select(1.0, select(0.0, p.factor, random >= p.threshold), key[0] != 0u);
}

@compute @workgroup_size(THREADS)
fn dropout(
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
    y[pixel * p.y_stride + p.y_offset + c] = real(f32(x[pixel * p.x_stride + p.x_offset + c]) * mask(i));
}

@compute @workgroup_size(THREADS)
fn dropout_gradient(
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
    let value = g[pixel * p.x_stride + p.x_offset + c] * mask(i);
    let at = pixel * p.y_stride + p.y_offset + c;
    to[at] = select(value, to[at] + value, p.add != 0u);
}
