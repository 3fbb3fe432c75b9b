// Local response normalisation across channels: y = x / (k + alpha/size * sum of x^2)^beta, the sum
// over `size` channels around this one. One thread an element, or in `lrn4`, for sizes up to 8, four channels of it.
// `lrn_texels` is `lrn4` that reads what winograd.wgsl has laid, and writes for who reads the like. Activations
// are in f16 where the aliases are made so. Twin: src/cpu/ops/lrn.rs.

alias real = f32;
alias real4 = vec4f;

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
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<real>; // (N, H, W, y_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, H, W, y_stride/4), the same buffer
// For `lrn_texels`, what x4 and y4 hold without their other channels, in rows of TEXELS.
@group(0) @binding(3) var xt: texture_2d<f32>;
@group(0) @binding(4) var yt: texture_storage_2d<rgba32float, write>;

const TEXELS = 4096u;
const THREADS = 64u;
// Beta in Caffe's GoogLeNet, for which roots do.
const USUAL_POWER = 0.75;

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
        let value = f32(x[at + j]);
        sum += value * value;
    }
    y[pixel * p.y_stride + p.y_offset + c] = real(f32(x[at + c]) * pow(p.k + p.scale * sum, -p.beta));
}

// Four channels, between those on their left and right.
fn normalised(left: vec4f, here: vec4f, right: vec4f) -> vec4f {
    let a = left * left;
    let b = here * here;
    let c = right * right;
    // Each way of shifting by itself: what is indexed by a variable lies in memory.
    var sum = b;
    if p.before > 0u {
        sum += vec4f(a.w, b.xyz);
    }
    if p.before > 1u {
        sum += vec4f(a.zw, b.xy);
    }
    if p.before > 2u {
        sum += vec4f(a.yzw, b.x);
    }
    if p.after > 0u {
        sum += vec4f(b.yzw, c.x);
    }
    if p.after > 1u {
        sum += vec4f(b.zw, c.xy);
    }
    if p.after > 2u {
        sum += vec4f(b.w, c.xyz);
    }
    if p.after > 3u {
        sum += c;
    }
    let base = p.k + p.scale * sum;
    var power = inverseSqrt(base * sqrt(base));
    if p.beta != USUAL_POWER {
        power = pow(base, vec4f(-p.beta));
    }
    return here * power;
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
    let at = (pixel * p.x_stride + p.x_offset) / 4u + quad;
    var left = vec4f();
    var right = vec4f();
    if quad > 0u {
        left = vec4f(x4[at - 1u]);
    }
    if quad + 1u < quads {
        right = vec4f(x4[at + 1u]);
    }
    y4[(pixel * p.y_stride + p.y_offset) / 4u + quad] = real4(normalised(left, vec4f(x4[at]), right));
}

fn texel(at: u32) -> vec2u {
    return vec2u(at % TEXELS, at / TEXELS);
}

@compute @workgroup_size(THREADS)
fn lrn_texels(
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
    var left = vec4f();
    var right = vec4f();
    if quad > 0u {
        left = textureLoad(xt, texel(i - 1u), 0);
    }
    if quad + 1u < quads {
        right = textureLoad(xt, texel(i + 1u), 0);
    }
    let value = normalised(left, textureLoad(xt, texel(i), 0), right);
    y4[(pixel * p.y_stride + p.y_offset) / 4u + quad] = real4(value);
    textureStore(yt, texel(i), value);
}
