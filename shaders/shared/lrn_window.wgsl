// Local response normalisation of four channels whose neighbours have been loaded, and its parameters. Requires
// shared/lrn_sum.wgsl to be included first.

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

// Normalises four channels. `left` and `right` are the four channels on either side.
fn normalised(left: vec4f, here: vec4f, right: vec4f) -> vec4f {
    let sum = neighbours(left * left, here * here, right * right, p.before, p.after);
    return here * powered(p.k + p.scale * sum, p.beta);
}
