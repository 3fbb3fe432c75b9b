// The gradient of local response normalisation, y[c] = x[c] / s[c]^beta with s[c] = k + alpha/size * sum of x^2:
// dx[c] = g[c] / s[c]^beta - 2 beta alpha/size * x[c] * sum over j of g[j] x[j] / s[j]^(beta+1), where j runs over the
// channels whose window has c. In `lrn_gradient`, a thread computes one element; in `lrn_gradient4`, for windows of up to
// five channels, a thread computes four channels.

//#include shared/invocation.wgsl
//#include shared/lrn_sum.wgsl

struct Params {
    count: u32, // N * H * W * C, or C/4
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    g_offset: u32,
    g_stride: u32,
    to_offset: u32,
    to_stride: u32,
    add: u32, // whether the gradient is added to what is there
    before: u32, // the number of channels in the window before the current one
    after: u32, // the number of channels in the window after it
    scale: f32, // alpha / size
    beta: f32,
    k: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> g: array<f32>; // (N, H, W, g_stride), the gradient for the output
@group(0) @binding(3) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride), the gradient for the input
// The same buffers, with a quarter of the strides.
@group(0) @binding(1) var<storage, read> x4: array<vec4f>; // (N, H, W, x_stride/4)
@group(0) @binding(2) var<storage, read> g4: array<vec4f>; // (N, H, W, g_stride/4)
@group(0) @binding(3) var<storage, read_write> to4: array<vec4f>; // (N, H, W, to_stride/4)

// The sum s of a channel, whose pixel begins at `at`.
fn base(at: u32, c: u32) -> f32 {
    var sum = 0.0;
    for (var j = max(c, p.before) - p.before; j < min(c + p.after + 1u, p.channels); j++) {
        sum += x[at + j] * x[at + j];
    }
    return p.k + p.scale * sum;
}

@compute @workgroup_size(THREADS)
fn lrn_gradient(
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
    let x_at = pixel * p.x_stride + p.x_offset;
    let g_at = pixel * p.g_stride + p.g_offset;
    var sum = 0.0;
    for (var j = max(c, p.after) - p.after; j < min(c + p.before + 1u, p.channels); j++) {
        sum += g[g_at + j] * x[x_at + j] * pow(base(x_at, j), -p.beta - 1.0);
    }
    let value = g[g_at + c] * pow(base(x_at, c), -p.beta) - 2.0 * p.scale * p.beta * x[x_at + c] * sum;
    let at = pixel * p.to_stride + p.to_offset + c;
    to[at] = select(value, to[at] + value, p.add != 0u);
}

// Four channels of the sums s, by the squares of the channels on either side.
fn base4(left: vec4f, here: vec4f, right: vec4f) -> vec4f {
    return p.k + p.scale * neighbours(left * left, here * here, right * right, p.before, p.after);
}

@compute @workgroup_size(THREADS)
fn lrn_gradient4(
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
    let x_at = (pixel * p.x_stride + p.x_offset) / 4u + c;
    let g_at = (pixel * p.g_stride + p.g_offset) / 4u + c;
    var left = vec4f();
    var right = vec4f();
    var g_left = vec4f();
    var g_right = vec4f();
    if c > 0u {
        left = x4[x_at - 1u];
        g_left = g4[g_at - 1u];
    }
    if c + 1u < vec4_channels {
        right = x4[x_at + 1u];
        g_right = g4[g_at + 1u];
    }
    let here = x4[x_at];
    let g_here = g4[g_at];
    // The sums of the outer channels on either side lack what is beyond. A window that has one of these four channels
    // does not reach that far.
    let s = base4(left, here, right);
    let s_left = base4(vec4f(), left, here);
    let s_right = base4(here, right, vec4f());
    let power = powered(s, p.beta);
    let t = neighbours(
        g_left * left * powered(s_left, p.beta) / s_left,
        g_here * here * power / s,
        g_right * right * powered(s_right, p.beta) / s_right,
        p.after,
        p.before,
    );
    let value = g_here * power - 2.0 * p.scale * p.beta * here * t;
    let at = (pixel * p.to_stride + p.to_offset) / 4u + c;
    to4[at] = select(value, to4[at] + value, p.add != 0u);
}
