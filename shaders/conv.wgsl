// Convolution with bias and, where it follows, ReLU; zero padding.
//
// An implicit matrix product: y[p, o] = b[o] + sum over k of x[p, k] * w[k, o], where p counts the output pixels
// of the batch and k runs over a window row by row. Each thread makes a tile of pixels x channels in registers, by
// products of 4x4 matrices: `conv16x8`, `conv8x8`, `conv4x8` and `conv4x4` are named after it. They read four
// channels at a time; `conv` takes any number of them. A workgroup has LANES threads along the channels and ROWS
// along the pixels; in `sliced8x8` and so on, SLICES threads share the sum over k of one tile.
//
// Activations, weights and products are in f16 where the aliases below are made so; sums are in f32.
//
// No function returns early: a driver's compiler may take minutes for what becomes of that once all is inlined.
// Up to three layers of one input are one product, whose channels go to a buffer a layer. `conv_pool` is a 1x1
// convolution of what a max pool makes, and gives both; `conv_norm` gives what a convolution makes, and that after
// lrn.wgsl's normalisation. Some software adapters load from buffers a lane at a time, at seven times the cost of a
// texture: for them `conv_texels` is a 1x1 convolution from textures, and `conv_points` the products of winograd.wgsl.
// Twin: src/cpu/ops/conv.rs.

alias real = f32;
alias real4 = vec4f;
alias weight4 = vec4f;
alias weight4x4 = mat4x4f;

// Where the channels from a quad (group of four) on go.
struct To {
    first: u32, // quad
    channels: u32,
    offset: u32,
    stride: u32,
}

struct Params {
    to: array<To, 3>,
    pixels: u32, // N * Ho * Wo
    quads: u32, // of channels of all layers
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    out_height: u32,
    out_width: u32,
    kernel_y: u32, // of the pool, for conv_pool
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    relu: u32,
    plane: u32, // for conv_points: pixels of a point, which no tile crosses
    before: u32, // for conv_norm, as in lrn.wgsl
    after: u32,
    scale: f32,
    beta: f32,
    k: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read> w: array<weight4>; // (Kh, Kw, Cin filled up to fours, quads)
@group(0) @binding(3) var<storage, read> b: array<vec4f>; // (quads)
// (N, Ho, Wo, stride) of each layer, or stride/4: the same buffers.
@group(0) @binding(4) var<storage, read_write> y0: array<real>;
@group(0) @binding(5) var<storage, read_write> y1: array<real>;
@group(0) @binding(6) var<storage, read_write> y2: array<real>;
@group(0) @binding(4) var<storage, read_write> y0q: array<real4>;
@group(0) @binding(5) var<storage, read_write> y1q: array<real4>;
@group(0) @binding(6) var<storage, read_write> y2q: array<real4>;

// For conv_texels and conv_points, what x4 and w are in other kernels, as texels in rows of TEXELS.
@group(0) @binding(7) var xt: texture_2d<f32>; // (N, H, W, channels/4), or (points, plane, channels/4)
@group(0) @binding(8) var wt: texture_2d<f32>; // (points, Cin filled up to fours, quads)
@group(0) @binding(9) var yt: texture_storage_2d<rgba32float, write>; // (points, plane, quads)

override LANES = 8u;
override ROWS = 8u;
override SLICES = 1u;

// Sums of the slices of a tile.
var<workgroup> parts: array<mat4x4f, LANES * ROWS * SLICES>;

// The window of one output pixel: where it starts in the input, and in which picture.
struct Origin {
    row: i32, // of the first row of its picture, among all pictures'
    y: i32,
    x: i32,
}

fn origin(pixel: u32) -> Origin {
    // What is past the end is computed and thrown away: as the last pixel, so that all of it can be read.
    let inside = min(pixel, p.pixels - 1u);
    let row = inside / p.out_width;
    let image = row / p.out_height;
    let y = (row - image * p.out_height) * p.step_y;
    let x = (inside - row * p.out_width) * p.step_x;
    return Origin(i32(image * p.height), i32(y) - i32(p.pad_y), i32(x) - i32(p.pad_x));
}

// Further below zero than any line is long.
const NOWHERE = -0x40000000;

// Where line ky of a window begins; NOWHERE outside the input.
fn line(o: Origin, ky: u32) -> i32 {
    let iy = o.y + i32(ky);
    let at = ((o.row + iy) * i32(p.width) + o.x) * i32(p.x_stride) + i32(p.x_offset);
    return select(NOWHERE, at, u32(iy) < p.height);
}

// Where the channels of a window's cell in column kx of its line begin; less than zero outside the input.
fn cell(o: Origin, line: i32, kx: u32) -> i32 {
    return select(NOWHERE, line + i32(kx * p.x_stride), u32(o.x + i32(kx)) < p.width);
}

fn fetch(cell: i32, quad: u32) -> vec4f {
    var value = vec4f();
    if cell >= 0 {
        value = vec4f(x4[u32(cell) / 4u + quad]);
    }
    return value;
}

fn fetch4(cells: vec4i, quad: u32) -> mat4x4f {
    return mat4x4f(fetch(cells.x, quad), fetch(cells.y, quad), fetch(cells.z, quad), fetch(cells.w, quad));
}

// The weights of four steps of k for a quad of channels.
fn weights(at: u32) -> weight4x4 {
    return weight4x4(w[at], w[at + p.quads], w[at + 2u * p.quads], w[at + 3u * p.quads]);
}

fn product(w: weight4x4, x: mat4x4f) -> mat4x4f {
    return mat4x4f(w * weight4x4(x));
}

// The sum of all slices, in the first of them.
fn join(sum: mat4x4f, thread: u32) -> mat4x4f {
    parts[thread] = sum;
    workgroupBarrier();
    var total = sum;
    if thread < LANES * ROWS {
        for (var slice = 1u; slice < SLICES; slice++) {
            total += parts[thread + slice * LANES * ROWS];
        }
    }
    workgroupBarrier();
    return total;
}

// Which layer a quad is of.
fn layer(quad: u32) -> u32 {
    return select(0u, select(1u, 2u, quad >= p.to[2].first), quad >= p.to[1].first);
}

fn finished(sum: vec4f, quad: u32) -> vec4f {
    let value = sum + b[quad];
    return select(value, max(value, vec4f()), p.relu != 0u);
}

fn store(pixel: u32, quad: u32, sum: vec4f) {
    let value = finished(sum, quad);
    let which = layer(quad);
    let to = p.to[which];
    let at = (pixel * to.stride + to.offset) / 4u + quad - to.first;
    if (pixel < p.pixels) & (quad < p.quads) {
        switch which {
            case 0u: { y0q[at] = real4(value); }
            case 1u: { y1q[at] = real4(value); }
            default: { y2q[at] = real4(value); }
        }
    }
}

fn store4(pixel: u32, quad: u32, sum: mat4x4f) {
    store(pixel, quad, sum[0]);
    store(pixel + 1u, quad, sum[1]);
    store(pixel + 2u, quad, sum[2]);
    store(pixel + 3u, quad, sum[3]);
}

fn put(pixel: u32, quad: u32, sum: mat4x4f, slice: u32) {
    if slice == 0u {
        store4(pixel, quad, sum);
    }
}

// The first pixel and the first quad of channels of this thread's tile, and its slice.
fn tile(group: vec3u, groups: vec3u, local: vec3u, pixels: u32, quads: u32) -> vec3u {
    let row = (group.z * groups.x + group.x) * ROWS + local.y;
    return vec3u(row * pixels, group.y * LANES * quads + local.x, local.z);
}

// The windows of four output pixels.
struct Origins {
    a: Origin,
    b: Origin,
    c: Origin,
    d: Origin,
}

fn origins(pixel: u32) -> Origins {
    return Origins(origin(pixel), origin(pixel + 1u), origin(pixel + 2u), origin(pixel + 3u));
}

fn lines(o: Origins, ky: u32) -> vec4i {
    return vec4i(line(o.a, ky), line(o.b, ky), line(o.c, ky), line(o.d, ky));
}

fn cells(o: Origins, l: vec4i, kx: u32) -> vec4i {
    return vec4i(cell(o.a, l.x, kx), cell(o.b, l.y, kx), cell(o.c, l.z, kx), cell(o.d, l.w, kx));
}

fn sum8x8(at: vec3u) -> array<mat4x4f, 4> {
    let o0 = origins(at.x);
    let o1 = origins(at.x + 4u);
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    let quads = p.channels / 4u;
    var s00 = mat4x4f();
    var s01 = mat4x4f();
    var s10 = mat4x4f();
    var s11 = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l0 = lines(o0, ky);
        let l1 = lines(o1, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c0 = cells(o0, l0, kx);
            let c1 = cells(o1, l1, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.quads;
            for (var quad = at.z; quad < quads; quad += SLICES) {
                let k = tap + quad * 4u * p.quads;
                let x0 = fetch4(c0, quad);
                let x1 = fetch4(c1, quad);
                let w0 = weights(k + q0);
                s00 += product(w0, x0);
                s01 += product(w0, x1);
                let w1 = weights(k + q1);
                s10 += product(w1, x0);
                s11 += product(w1, x1);
            }
        }
    }
    return array(s00, s01, s10, s11);
}

fn sum4x8(at: vec3u) -> array<mat4x4f, 2> {
    let o = origins(at.x);
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    let quads = p.channels / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.quads;
            for (var quad = at.z; quad < quads; quad += SLICES) {
                let k = tap + quad * 4u * p.quads;
                let x = fetch4(c, quad);
                s0 += product(weights(k + q0), x);
                s1 += product(weights(k + q1), x);
            }
        }
    }
    return array(s0, s1);
}

fn sum4x4(at: vec3u) -> mat4x4f {
    let o = origins(at.x);
    let q = min(at.y, p.quads - 1u);
    let quads = p.channels / 4u;
    var sum = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.quads;
            for (var quad = at.z; quad < quads; quad += SLICES) {
                sum += product(weights(tap + quad * 4u * p.quads + q), fetch4(c, quad));
            }
        }
    }
    return sum;
}

// A quad of channels of sixteen pixels.
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

fn store16(pixel: u32, quad: u32, sum: Sixteen) {
    store4(pixel, quad, sum.a);
    store4(pixel + 4u, quad, sum.b);
    store4(pixel + 8u, quad, sum.c);
    store4(pixel + 12u, quad, sum.d);
}

@compute @workgroup_size(LANES, ROWS)
fn conv16x8(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 16u, 2u);
    let oa = origins(at.x);
    let ob = origins(at.x + 4u);
    let oc = origins(at.x + 8u);
    let od = origins(at.x + 12u);
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    let quads = p.channels / 4u;
    var s0 = Sixteen();
    var s1 = Sixteen();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let la = lines(oa, ky);
        let lb = lines(ob, ky);
        let lc = lines(oc, ky);
        let ld = lines(od, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let ca = cells(oa, la, kx);
            let cb = cells(ob, lb, kx);
            let cc = cells(oc, lc, kx);
            let cd = cells(od, ld, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.quads;
            for (var quad = 0u; quad < quads; quad++) {
                let k = tap + quad * 4u * p.quads;
                let x = Sixteen(fetch4(ca, quad), fetch4(cb, quad), fetch4(cc, quad), fetch4(cd, quad));
                s0 = add(s0, weights(k + q0), x);
                s1 = add(s1, weights(k + q1), x);
            }
        }
    }
    store16(at.x, at.y, s0);
    store16(at.x, at.y + LANES, s1);
}

const TEXELS = 4096u;

fn texel(at: u32) -> vec2u {
    return vec2u(at % TEXELS, at / TEXELS);
}

fn texels4(pixel: u32, quad: u32) -> mat4x4f {
    let quads = p.channels / 4u;
    let at = vec4u(pixel, pixel + 1u, pixel + 2u, pixel + 3u);
    let all = min(at, vec4u(p.pixels - 1u)) * quads + quad;
    return mat4x4f(
        textureLoad(xt, texel(all.x), 0),
        textureLoad(xt, texel(all.y), 0),
        textureLoad(xt, texel(all.z), 0),
        textureLoad(xt, texel(all.w), 0),
    );
}

fn weight_texels(at: u32) -> weight4x4 {
    return weight4x4(
        weight4(textureLoad(wt, texel(at), 0)),
        weight4(textureLoad(wt, texel(at + p.quads), 0)),
        weight4(textureLoad(wt, texel(at + 2u * p.quads), 0)),
        weight4(textureLoad(wt, texel(at + 3u * p.quads), 0)),
    );
}

// The sums of conv16x8 for a window of one cell, from textures; weights from `first` on.
fn sum_texels(at: vec3u, first: u32) -> array<Sixteen, 2> {
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    var s0 = Sixteen();
    var s1 = Sixteen();
    for (var quad = 0u; quad < p.channels / 4u; quad++) {
        let k = first + quad * 4u * p.quads;
        let x = Sixteen(
            texels4(at.x, quad),
            texels4(at.x + 4u, quad),
            texels4(at.x + 8u, quad),
            texels4(at.x + 12u, quad),
        );
        s0 = add(s0, weight_texels(k + q0), x);
        s1 = add(s1, weight_texels(k + q1), x);
    }
    return array(s0, s1);
}

@compute @workgroup_size(LANES, ROWS)
fn conv_texels(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 16u, 2u);
    let sum = sum_texels(at, 0u);
    store16(at.x, at.y, sum[0]);
    store16(at.x, at.y + LANES, sum[1]);
}

fn keep4(pixel: u32, quad: u32, sum: mat4x4f) {
    let at = pixel * p.quads + quad;
    if (pixel < p.pixels) & (quad < p.quads) {
        textureStore(yt, texel(at), sum[0]);
        textureStore(yt, texel(at + p.quads), sum[1]);
        textureStore(yt, texel(at + 2u * p.quads), sum[2]);
        textureStore(yt, texel(at + 3u * p.quads), sum[3]);
    }
}

fn keep16(pixel: u32, quad: u32, sum: Sixteen) {
    keep4(pixel, quad, sum.a);
    keep4(pixel + 4u, quad, sum.b);
    keep4(pixel + 8u, quad, sum.c);
    keep4(pixel + 12u, quad, sum.d);
}

@compute @workgroup_size(LANES, ROWS)
fn conv_points(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 16u, 2u);
    let sum = sum_texels(at, at.x / p.plane * p.channels * p.quads);
    keep16(at.x, at.y, sum[0]);
    keep16(at.x, at.y + LANES, sum[1]);
}

@compute @workgroup_size(LANES, ROWS)
fn conv8x8(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 8u, 2u);
    let sum = sum8x8(at);
    store4(at.x, at.y, sum[0]);
    store4(at.x + 4u, at.y, sum[1]);
    store4(at.x, at.y + LANES, sum[2]);
    store4(at.x + 4u, at.y + LANES, sum[3]);
}

@compute @workgroup_size(LANES, ROWS)
fn conv4x8(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 4u, 2u);
    let sum = sum4x8(at);
    store4(at.x, at.y, sum[0]);
    store4(at.x, at.y + LANES, sum[1]);
}

@compute @workgroup_size(LANES, ROWS)
fn conv4x4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 4u, 1u);
    let sum = sum4x4(at);
    store4(at.x, at.y, sum);
}

@compute @workgroup_size(LANES, ROWS, SLICES)
fn sliced8x8(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = tile(group, groups, local, 8u, 2u);
    let sum = sum8x8(at);
    put(at.x, at.y, join(sum[0], thread), at.z);
    put(at.x + 4u, at.y, join(sum[1], thread), at.z);
    put(at.x, at.y + LANES, join(sum[2], thread), at.z);
    put(at.x + 4u, at.y + LANES, join(sum[3], thread), at.z);
}

fn put4x8(at: vec3u, sum: array<mat4x4f, 2>, thread: u32) {
    put(at.x, at.y, join(sum[0], thread), at.z);
    put(at.x, at.y + LANES, join(sum[1], thread), at.z);
}

@compute @workgroup_size(LANES, ROWS, SLICES)
fn sliced4x8(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = tile(group, groups, local, 4u, 2u);
    put4x8(at, sum4x8(at), thread);
}

@compute @workgroup_size(LANES, ROWS, SLICES)
fn sliced4x4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let at = tile(group, groups, local, 4u, 1u);
    let sum = sum4x4(at);
    put(at.x, at.y, join(sum, thread), at.z);
}

fn value(cell: i32, c: u32) -> f32 {
    let inside = (cell >= 0) & (c < p.channels);
    return select(0.0, f32(x[select(0u, u32(cell) + c, inside)]), inside);
}

fn values(cell: i32, quad: u32) -> vec4f {
    let c = quad * 4u;
    return vec4f(value(cell, c), value(cell, c + 1u), value(cell, c + 2u), value(cell, c + 3u));
}

fn store_any(pixel: u32, quad: u32, sum: vec4f) {
    let value = finished(sum, quad);
    let which = layer(quad);
    let to = p.to[which];
    let first = (quad - to.first) * 4u;
    let at = pixel * to.stride + to.offset + first;
    if (pixel < p.pixels) & (quad < p.quads) {
        for (var i = 0u; i < min(4u, to.channels - first); i++) {
            switch which {
                case 0u: { y0[at + i] = real(value[i]); }
                case 1u: { y1[at + i] = real(value[i]); }
                default: { y2[at + i] = real(value[i]); }
            }
        }
    }
}

@compute @workgroup_size(LANES, ROWS)
fn conv(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 4u, 2u);
    let o = origins(at.x);
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    let quads = (p.channels + 3u) / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * quads * 4u * p.quads;
            for (var quad = 0u; quad < quads; quad++) {
                let k = tap + quad * 4u * p.quads;
                let x = mat4x4f(values(c.x, quad), values(c.y, quad), values(c.z, quad), values(c.w, quad));
                s0 += product(weights(k + q0), x);
                s1 += product(weights(k + q1), x);
            }
        }
    }
    for (var i = 0u; i < 4u; i++) {
        store_any(at.x + i, at.y, s0[i]);
        store_any(at.x + i, at.y + LANES, s1[i]);
    }
}

const POOLED = 512u; // fours of channels that a workgroup holds
const LOWEST = -3.4028234663852886e38f;

// (POOLED / pixels, pixels): what the pool makes of some channels of the workgroup's pixels.
var<workgroup> pooled: array<vec4f, POOLED>;

fn greatest(o: Origin, quad: u32) -> vec4f {
    var most = vec4f(LOWEST);
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = line(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let at = cell(o, l, kx);
            if at >= 0 {
                most = max(most, vec4f(x4[u32(at) / 4u + quad]));
            }
        }
    }
    return most;
}

@compute @workgroup_size(LANES, ROWS, SLICES)
fn conv_pool(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixels = 4u * ROWS;
    let held = POOLED / pixels;
    let at = tile(group, groups, local, 4u, 2u);
    let first_pixel = at.x - local.y * 4u;
    let q0 = min(at.y, p.quads - 1u);
    let q1 = min(at.y + LANES, p.quads - 1u);
    let quads = p.channels / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var first = 0u; first < quads; first += held) {
        let count = min(held, quads - first);
        for (var i = thread; i < pixels * count; i += LANES * ROWS * SLICES) {
            let pixel = i / count;
            let quad = i - pixel * count;
            let most = greatest(origin(first_pixel + pixel), first + quad);
            pooled[quad * pixels + pixel] = most;
            if group.y == 0u && first_pixel + pixel < p.pixels {
                y1q[((first_pixel + pixel) * p.to[1].stride + p.to[1].offset) / 4u + first + quad] = real4(most);
            }
        }
        workgroupBarrier();
        for (var quad = at.z; quad < count; quad += SLICES) {
            let held_at = quad * pixels + local.y * 4u;
            let x = mat4x4f(pooled[held_at], pooled[held_at + 1u], pooled[held_at + 2u], pooled[held_at + 3u]);
            let k = (first + quad) * 4u * p.quads;
            s0 += product(weights(k + q0), x);
            s1 += product(weights(k + q1), x);
        }
        workgroupBarrier();
    }
    s0 = join(s0, thread);
    s1 = join(s1, thread);
    put(at.x, at.y, s0, at.z);
    put(at.x, at.y + LANES, s1, at.z);
}

// One quad of a pixel normalised, whose neighbours the workgroup has stored.
fn normalise(pixel: u32, quad: u32) {
    if (pixel < p.pixels) & (quad < p.quads) {
        let start = (pixel * p.to[0].stride + p.to[0].offset) / 4u;
        let c = quad * 4u;
        var sum = vec4f();
        for (var j = max(c, p.before) - p.before; j < min(c + p.after + 4u, p.quads * 4u); j++) {
            let value = f32(y0q[start + j / 4u][j % 4u]);
            // Of which of the four channels it is in the window.
            let after = vec4i(i32(j)) - vec4i(vec4u(c) + vec4u(0u, 1u, 2u, 3u));
            let near = (after >= vec4i(-i32(p.before))) & (after <= vec4i(i32(p.after)));
            sum += select(vec4f(), vec4f(value * value), near);
        }
        let power = pow(p.k + p.scale * sum, vec4f(-p.beta));
        y1q[(pixel * p.to[1].stride + p.to[1].offset) / 4u + quad] = real4(vec4f(y0q[start + quad]) * power);
    }
}

@compute @workgroup_size(LANES, ROWS, SLICES)
fn conv_norm(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    // The workgroup has all channels of its pixels.
    let at = tile(group, groups, local, 4u, 2u);
    put4x8(at, sum4x8(at), thread);
    storageBarrier();
    for (var i = at.z; i < 8u; i += SLICES) {
        normalise(at.x + i % 4u, at.y + i / 4u * LANES);
    }
}
