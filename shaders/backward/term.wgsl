// The terms of an objective: their values, and the gradients with which the backward pass begins.
// `term` sums a function of each value; a workgroup computes PER_GROUP of them. `cross_entropy` is that of the softmax of
// the channels of one pixel, which are logits. Each workgroup writes its part of the term's value.
// Specification: src/plan/backward.rs.

//#include shared/limits.wgsl
//#include shared/total.wgsl

struct Params {
    count: u32, // N * H * W * C
    pixels: u32, // H * W
    channels: u32,
    y_offset: u32,
    y_stride: u32,
    to_offset: u32,
    to_stride: u32,
    add: u32, // whether the gradient is added to what is there
    first: u32, // the index of the first part in `values`
    kind: u32,
    channel: u32,
    weight: f32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<f32>; // (N, H, W, y_stride), the output of the term's node
@group(0) @binding(2) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride), the gradient for it
@group(0) @binding(3) var<storage, read_write> values: array<f32>; // (parts of all terms)
@group(0) @binding(4) var<storage, read> classes: array<u32>; // (N), for `cross_entropy`

const PER_GROUP = 4096u;

const CHANNEL = 0u; // the sum of one channel
const SUM = 1u;
const HALF_SQUARES = 2u; // half the sum of the squares

@compute @workgroup_size(GROUP)
fn term(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let part = group.y * groups.x + group.x;
    if part * PER_GROUP >= p.count {
        return;
    }
    var sum = 0.0;
    for (var i = part * PER_GROUP + thread; i < min((part + 1u) * PER_GROUP, p.count); i += GROUP) {
        let pixel = i / p.channels;
        let c = i - pixel * p.channels;
        let value = y[pixel * p.y_stride + p.y_offset + c];
        let is_in = (p.kind != CHANNEL) | (c == p.channel);
        let squares = p.kind == HALF_SQUARES;
        sum += select(0.0, select(value, 0.5 * value * value, squares), is_in);
        let gradient = p.weight * select(0.0, select(1.0, value, squares), is_in);
        let at = pixel * p.to_stride + p.to_offset + c;
        to[at] = select(gradient, to[at] + gradient, p.add != 0u);
    }
    sum = total(thread, sum);
    if thread == 0u {
        values[p.first + part] = sum;
    }
}

@compute @workgroup_size(GROUP)
fn cross_entropy(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixel = group.y * groups.x + group.x;
    if pixel * p.channels >= p.count {
        return;
    }
    let start = pixel * p.y_stride + p.y_offset;
    let label = classes[pixel / p.pixels];
    let others = p.smoothing / f32(p.channels); // the target of every other class
    var most = LOWEST;
    for (var c = thread; c < p.channels; c += GROUP) {
        most = max(most, y[start + c]);
    }
    most = greatest(thread, most);
    var sum = 0.0;
    var expected = 0.0; // of the logits under the target
    for (var c = thread; c < p.channels; c += GROUP) {
        let logit = y[start + c] - most;
        sum += exp(logit);
        expected += (others + select(0.0, 1.0 - p.smoothing, c == label)) * logit;
    }
    sum = total(thread, sum);
    expected = total(thread, expected);
    let at = pixel * p.to_stride + p.to_offset;
    for (var c = thread; c < p.channels; c += GROUP) {
        let target_share = others + select(0.0, 1.0 - p.smoothing, c == label);
        let gradient = p.weight * (exp(y[start + c] - most) / sum - target_share);
        to[at + c] = select(gradient, to[at + c] + gradient, p.add != 0u);
    }
    if thread == 0u {
        values[p.first + pixel] = log(sum) - expected;
    }
}
