// Local response normalisation across channels: y = x / (k + alpha/size * sum of x^2)^beta, where the sum runs over a
// window of `size` channels around the current one. In `lrn`, a thread computes one element; in `lrn4`, for sizes up to
// 8, a thread computes four channels.
// CPU twin: src/cpu/ops/lrn.rs.

//#include shared/invocation.wgsl
//#include shared/lrn_sum.wgsl
//#include shared/lrn_window.wgsl

@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<real>; // (N, H, W, y_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, H, W, y_stride/4), the same buffer

@compute @workgroup_size(THREADS)
fn lrn(
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
    let at = pixel * p.x_stride + p.x_offset;
    var sum = 0.0;
    for (var j = max(c, p.before) - p.before; j < min(c + p.after + 1u, p.channels); j++) {
        let value = f32(x[at + j]);
        sum += value * value;
    }
    y[pixel * p.y_stride + p.y_offset + c] = real(f32(x[at + c]) * pow(p.k + p.scale * sum, -p.beta));
}

@compute @workgroup_size(THREADS)
fn lrn4(
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
    let vec4_channel = i - pixel * vec4_channels;
    let at = (pixel * p.x_stride + p.x_offset) / 4u + vec4_channel;
    var left = vec4f();
    var right = vec4f();
    if vec4_channel > 0u {
        left = vec4f(x4[at - 1u]);
    }
    if vec4_channel + 1u < vec4_channels {
        right = vec4f(x4[at + 1u]);
    }
    y4[(pixel * p.y_stride + p.y_offset) / 4u + vec4_channel] = real4(normalised(left, vec4f(x4[at]), right));
}
