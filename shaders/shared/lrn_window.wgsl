// Local response normalisation of four channels whose neighbours are at hand, with its parameters.

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

// Beta in Caffe's GoogLeNet, for which roots do.
const USUAL_POWER = 0.75;

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
