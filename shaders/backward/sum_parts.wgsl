// Adds the sums over the parts of a batch's pixels to a layer's gradients, in the order of the parts: the second pass
// after conv_weights.wgsl. A thread computes four values.

//#include shared/invocation.wgsl

struct Params {
    count: u32, // the number of values
    parts: u32,
    size: u32, // the number of values of one part, which is a multiple of four
    first: u32, // the index of the first value in `to`
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>; // (parts, size/4)
@group(0) @binding(2) var<storage, read_write> to: array<vec4f>; // (values of all layers / 4)

@compute @workgroup_size(THREADS)
fn sum_parts(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i * 4u >= p.count {
        return;
    }
    var sum = vec4f();
    for (var part = 0u; part < p.parts; part++) {
        sum += parts[part * p.size / 4u + i];
    }
    // What follows the last value of a part was not written.
    let at = vec4u(i * 4u) + vec4u(0u, 1u, 2u, 3u);
    to[p.first / 4u + i] += select(vec4f(), sum, at < vec4u(p.count));
}
