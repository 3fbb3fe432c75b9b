// Convolution for software adapters by the Winograd algorithms F(4x4,3x3), F(2x2,5x5) and F(3x3,4x4): Lavin and Gray,
// "Fast algorithms for convolutional neural networks" (CVPR 2016). `winograd_input` transforms input tiles of 6x6
// pixels to a texture, `conv_winograd` of software/conv.wgsl multiplies them by the transformed filters, one matrix for
// each of the 36 points, and `winograd_output` transforms the products to output tiles of 4x4, 2x2 or 3x3 pixels. The
// points are 0, ±√2/2, ±√2 and infinity. A convolution of stride 2 is computed as one of stride 1 on the four phases of
// its input, each of which has all channels. `copy_to_texture` copies a layer's output to a texture without a
// transform.
// CPU twin: src/cpu/winograd.rs.

//#include shared/invocation.wgsl
//#include shared/texture.wgsl

struct Params {
    tiles: u32, // images * down * across
    plane: u32, // the number of tiles of each point, padded
    down: u32,
    across: u32,
    height: u32, // of the input in `winograd_input`, of the output in `winograd_output`
    width: u32,
    vec4_channels: u32, // the number of groups of four channels of all phases
    offset: u32,
    stride: u32,
    pad_y: u32,
    pad_x: u32,
    relu: u32,
    outputs: u32, // the side of an output tile: 4, 2 or 3
    step: u32, // the stride of the convolution: 1 or 2
    first: u32, // the first picture
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real4>; // (N, H, W, stride/4)
@group(0) @binding(2) var<storage, read> b: array<vec4f>; // (vec4_channels)
@group(0) @binding(3) var<storage, read_write> y: array<real4>; // (N, Ho, Wo, stride/4)
@group(0) @binding(4) var yt: texture_storage_2d<rgba32float, write>; // (36, plane, vec4_channels)
@group(0) @binding(5) var xt: texture_2d<f32>; // (36, plane, vec4_channels), for `winograd_output`

// Whether the output is added to what is there, as gradients are.
override ADD = false;

const A = 0.7071067811865476f;
const B = 1.4142135623730951f; // 2 * A; a factor that is a power of two does not round

struct Six {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
    e: vec4f,
    f: vec4f,
}

// A thread's tile and channels.
struct Part {
    tile: u32,
    vec4_channel: u32,
    image: u32,
    y: u32, // in tiles
    x: u32,
}

fn part(i: u32) -> Part {
    let tile = i / p.vec4_channels;
    let row = tile / p.across;
    let image = row / p.down;
    return Part(tile, i - tile * p.vec4_channels, p.first + image, row - image * p.down, tile - row * p.across);
}

// The input transform B' d of one column or row.
fn inward(d: Six) -> Six {
    let even_a = d.e - 2.0 * d.c;
    let odd_a = A * (d.d - 2.0 * d.b);
    let even_b = d.e - 0.5 * d.c;
    let odd_b = B * (d.d - 0.5 * d.b);
    return Six(
        fma(vec4f(-2.5), d.c, d.a + d.e),
        even_a + odd_a,
        even_a - odd_a,
        even_b + odd_b,
        even_b - odd_b,
        fma(vec4f(-2.5), d.d, d.b + d.f),
    );
}

// The position of a thread's input tile.
struct Corner {
    image: u32,
    vec4_channel: u32, // of the input
    y: i32,
    x: i32,
}

fn corner(t: Part) -> Corner {
    let vec4_channels = p.vec4_channels / (p.step * p.step);
    let phase = t.vec4_channel / vec4_channels;
    let y = t.y * p.outputs * p.step + phase / p.step;
    let x = t.x * p.outputs * p.step + phase % p.step;
    return Corner(t.image, t.vec4_channel - phase * vec4_channels, i32(y) - i32(p.pad_y), i32(x) - i32(p.pad_x));
}

fn pixel(c: Corner, row: u32, column: u32) -> vec4f {
    let iy = c.y + i32(row * p.step);
    let ix = c.x + i32(column * p.step);
    let inside = (iy >= 0) & (ix >= 0) & (iy < i32(p.height)) & (ix < i32(p.width));
    let at = select(0u, (c.image * p.height + u32(iy)) * p.width + u32(ix), inside);
    return select(vec4f(), vec4f(x[(at * p.stride + p.offset) / 4u + c.vec4_channel]), inside);
}

fn pixels(c: Corner, row: u32) -> Six {
    return Six(
        pixel(c, row, 0u),
        pixel(c, row, 1u),
        pixel(c, row, 2u),
        pixel(c, row, 3u),
        pixel(c, row, 4u),
        pixel(c, row, 5u),
    );
}

fn keep(at: u32, value: vec4f) {
    textureStore(yt, texel(at), value);
}

fn put(place: Part, column: u32, d: Six) {
    let v = inward(d);
    let step = 6u * p.plane * p.vec4_channels;
    let at = (column * p.plane + place.tile) * p.vec4_channels + place.vec4_channel;
    keep(at, v.a);
    keep(at + step, v.b);
    keep(at + 2u * step, v.c);
    keep(at + 3u * step, v.d);
    keep(at + 4u * step, v.e);
    keep(at + 5u * step, v.f);
}

@compute @workgroup_size(THREADS)
fn winograd_input(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.tiles * p.vec4_channels {
        return;
    }
    let at = part(i);
    let c = corner(at);
    let r0 = inward(pixels(c, 0u));
    let r1 = inward(pixels(c, 1u));
    let r2 = inward(pixels(c, 2u));
    let r3 = inward(pixels(c, 3u));
    let r4 = inward(pixels(c, 4u));
    let r5 = inward(pixels(c, 5u));
    put(at, 0u, Six(r0.a, r1.a, r2.a, r3.a, r4.a, r5.a));
    put(at, 1u, Six(r0.b, r1.b, r2.b, r3.b, r4.b, r5.b));
    put(at, 2u, Six(r0.c, r1.c, r2.c, r3.c, r4.c, r5.c));
    put(at, 3u, Six(r0.d, r1.d, r2.d, r3.d, r4.d, r5.d));
    put(at, 4u, Six(r0.e, r1.e, r2.e, r3.e, r4.e, r5.e));
    put(at, 5u, Six(r0.f, r1.f, r2.f, r3.f, r4.f, r5.f));
}

// Copies the input of a 1x1 convolution to a texture. A tile is one pixel here.
@compute @workgroup_size(THREADS)
fn copy_to_texture(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i < p.tiles * p.vec4_channels {
        let tile = i / p.vec4_channels;
        keep(i, vec4f(x[(tile * p.stride + p.offset) / 4u + i - tile * p.vec4_channels]));
    }
}

struct Four {
    a: vec4f,
    b: vec4f,
    c: vec4f,
    d: vec4f,
}

// The output transform A' m of one column or row.
fn outward(m: Six) -> Four {
    let even_a = m.b + m.c;
    let odd_a = m.b - m.c;
    let even_b = m.d + m.e;
    let odd_b = m.d - m.e;
    // The point at infinity contributes to the last output only.
    return Four(
        m.a + even_a + even_b,
        A * (odd_a + 2.0 * odd_b) + select(vec4f(), m.f, p.outputs == 2u),
        0.5 * even_a + 2.0 * even_b + select(vec4f(), m.f, p.outputs == 3u),
        A * (0.5 * odd_a + 4.0 * odd_b) + m.f,
    );
}

fn product(at: u32) -> vec4f {
    return textureLoad(xt, texel(at), 0);
}

fn products(t: Part, row: u32) -> Four {
    let step = p.plane * p.vec4_channels;
    let at = (row * 6u * p.plane + t.tile) * p.vec4_channels + t.vec4_channel;
    return outward(Six(
        product(at),
        product(at + step),
        product(at + 2u * step),
        product(at + 3u * step),
        product(at + 4u * step),
        product(at + 5u * step),
    ));
}

fn store(t: Part, row: u32, column: u32, sum: vec4f) {
    let oy = t.y * p.outputs + row;
    let ox = t.x * p.outputs + column;
    var value = sum + b[t.vec4_channel];
    value = select(value, max(value, vec4f()), p.relu != 0u);
    let at = (((t.image * p.height + oy) * p.width + ox) * p.stride + p.offset) / 4u + t.vec4_channel;
    if (oy < p.height) & (ox < p.width) & (row < p.outputs) & (column < p.outputs) {
        if ADD {
            value += vec4f(y[at]);
        }
        y[at] = real4(value);
    }
}

fn column(t: Part, column: u32, m: Six) {
    let v = outward(m);
    store(t, 0u, column, v.a);
    store(t, 1u, column, v.b);
    store(t, 2u, column, v.c);
    store(t, 3u, column, v.d);
}

@compute @workgroup_size(THREADS)
fn winograd_output(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.tiles * p.vec4_channels {
        return;
    }
    let t = part(i);
    let r0 = products(t, 0u);
    let r1 = products(t, 1u);
    let r2 = products(t, 2u);
    let r3 = products(t, 3u);
    let r4 = products(t, 4u);
    let r5 = products(t, 5u);
    column(t, 0u, Six(r0.a, r1.a, r2.a, r3.a, r4.a, r5.a));
    column(t, 1u, Six(r0.b, r1.b, r2.b, r3.b, r4.b, r5.b));
    column(t, 2u, Six(r0.c, r1.c, r2.c, r3.c, r4.c, r5.c));
    column(t, 3u, Six(r0.d, r1.d, r2.d, r3.d, r4.d, r5.d));
}
