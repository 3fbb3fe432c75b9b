// The matrix product of pixels and channels in conv.wgsl: its parameters, its outputs, and the register tile of a
// thread.

// Where the output of one layer of the product is written.
struct To {
    first: u32, // the layer's first group of four channels in the product
    channels: u32,
    offset: u32,
    stride: u32,
}

struct Params {
    to: array<To, 3>,
    pixels: u32, // N * Ho * Wo
    vec4_channels: u32, // the number of groups of four channels of all layers
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    out_height: u32,
    out_width: u32,
    kernel_y: u32, // for conv_pool: the window of the pool
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    relu: u32,
    plane: u32, // for conv_winograd: the number of pixels of each point; no tile spans two points
    before: u32, // for conv_norm: see lrn.wgsl
    after: u32,
    scale: f32,
    beta: f32,
    k: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(3) var<storage, read> b: array<vec4f>; // (vec4_channels)
// (N, Ho, Wo, stride) of each layer, and the same buffers as (N, Ho, Wo, stride/4).
@group(0) @binding(4) var<storage, read_write> y0: array<real>;
@group(0) @binding(5) var<storage, read_write> y1: array<real>;
@group(0) @binding(6) var<storage, read_write> y2: array<real>;
@group(0) @binding(4) var<storage, read_write> y0q: array<real4>;
@group(0) @binding(5) var<storage, read_write> y1q: array<real4>;
@group(0) @binding(6) var<storage, read_write> y2q: array<real4>;

override LANES = 8u;
override ROWS = 8u;
override SLICES = 1u;
// Whether the output is added to what is there, as gradients are.
override ADD = false;

fn product(w: weight4x4, x: mat4x4f) -> mat4x4f {
    return mat4x4f(w * weight4x4(x));
}

// The layer to which a group of four channels belongs.
fn layer(vec4_channel: u32) -> u32 {
    return select(0u, select(1u, 2u, vec4_channel >= p.to[2].first), vec4_channel >= p.to[1].first);
}

fn finished(sum: vec4f, vec4_channel: u32) -> vec4f {
    let value = sum + b[vec4_channel];
    return select(value, max(value, vec4f()), p.relu != 0u);
}

fn store(pixel: u32, vec4_channel: u32, sum: vec4f) {
    var value = finished(sum, vec4_channel);
    let which = layer(vec4_channel);
    let to = p.to[which];
    let at = (pixel * to.stride + to.offset) / 4u + vec4_channel - to.first;
    if (pixel < p.pixels) & (vec4_channel < p.vec4_channels) {
        switch which {
            case 0u: {
                if ADD {
                    value += vec4f(y0q[at]);
                }
                y0q[at] = real4(value);
            }
            case 1u: { y1q[at] = real4(value); }
            default: { y2q[at] = real4(value); }
        }
    }
}

fn store4(pixel: u32, vec4_channel: u32, sum: mat4x4f) {
    store(pixel, vec4_channel, sum[0]);
    store(pixel + 1u, vec4_channel, sum[1]);
    store(pixel + 2u, vec4_channel, sum[2]);
    store(pixel + 3u, vec4_channel, sum[3]);
}

// The first pixel of this thread's tile, its first group of four channels, and the thread's slice.
fn tile(group: vec3u, groups: vec3u, local: vec3u, pixels: u32, vec4_channels: u32) -> vec3u {
    let row = (group.z * groups.x + group.x) * ROWS + local.y;
    return vec3u(row * pixels, group.y * LANES * vec4_channels + local.x, local.z);
}

// Four channels of sixteen pixels.
struct Sixteen {
    a: mat4x4f,
    b: mat4x4f,
    c: mat4x4f,
    d: mat4x4f,
}

fn add(sum: Sixteen, w: weight4x4, x: Sixteen) -> Sixteen {
    return Sixteen(
        sum.a + product(w, x.a),
        sum.b + product(w, x.b),
        sum.c + product(w, x.c),
        sum.d + product(w, x.d),
    );
}

fn store16(pixel: u32, vec4_channel: u32, sum: Sixteen) {
    store4(pixel, vec4_channel, sum.a);
    store4(pixel + 4u, vec4_channel, sum.b);
    store4(pixel + 8u, vec4_channel, sum.c);
    store4(pixel + 12u, vec4_channel, sum.d);
}
