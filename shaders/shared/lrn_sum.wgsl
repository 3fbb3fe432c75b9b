// The parts of local response normalisation that do not depend on a shader's parameters, for four channels at a time.

// The beta of the BVLC GoogLeNet, for which square roots are enough.
const USUAL_POWER = 0.75;

// For each of the four channels of `b`, the sum over the window around it. `a` and `c` are the four channels on either
// side.
fn neighbours(a: vec4f, b: vec4f, c: vec4f, before: u32, after: u32) -> vec4f {
    // Each shift is written out, because vectors that are indexed by a variable are kept in memory.
    var sum = b;
    if before > 0u {
        sum += vec4f(a.w, b.xyz);
    }
    if before > 1u {
        sum += vec4f(a.zw, b.xy);
    }
    if before > 2u {
        sum += vec4f(a.yzw, b.x);
    }
    if after > 0u {
        sum += vec4f(b.yzw, c.x);
    }
    if after > 1u {
        sum += vec4f(b.zw, c.xy);
    }
    if after > 2u {
        sum += vec4f(b.w, c.xyz);
    }
    if after > 3u {
        sum += c;
    }
    return sum;
}

// base^-beta.
fn powered(base: vec4f, beta: f32) -> vec4f {
    var power = inverseSqrt(base * sqrt(base));
    if beta != USUAL_POWER {
        power = pow(base, vec4f(-beta));
    }
    return power;
}
