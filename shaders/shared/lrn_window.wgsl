// Local response normalisation of four channels whose neighbours have been loaded, and its parameters.

struct Params {
    count: u32, // N * H * W * C, or C/4
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    y_offset: u32,
    y_stride: u32,
    before: u32, // the number of channels in the window before the current one
    after: u32, // the number of channels in the window after it
    scale: f32, // alpha / size
    beta: f32,
    k: f32,
}

@group(0) @binding(0) var<uniform> p: Params;

// The beta of the BVLC GoogLeNet, for which square roots are enough.
const USUAL_POWER = 0.75;

// Normalises four channels. `left` and `right` are the four channels on either side.
fn normalised(left: vec4f, here: vec4f, right: vec4f) -> vec4f {
    let a = left * left;
    let b = here * here;
    let c = right * right;
    // Each shift is written out, because vectors that are indexed by a variable are kept in memory.
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
