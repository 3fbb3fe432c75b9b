// Convolution with bias, optional ReLU and zero padding.
//
// This is an implicit GEMM: y[p, o] = b[o] + sum over k of x[p, k] * w[k, o], where p runs over the output pixels of
// the batch, and k over the cells and channels of a window, row by row. Each thread computes a register tile of pixels
// x channels by products of 4x4 matrices; `conv16x8`, `conv8x8`, `conv4x8` and `conv4x4` are named after their tiles.
// They need channels in multiples of four, whereas `conv` supports any number. A workgroup has LANES threads along the
// channels and ROWS along the pixels. In `sliced8x8`, `sliced4x8` and `sliced4x4`, SLICES threads share the sum over k
// of one tile.
//
// Activations, weights and products are in f16 where the device computes in f16; sums are always in f32.
//
// No function returns early, because some drivers take minutes to compile early returns after inlining.
//
// Up to three layers with the same input are computed as one product, whose channels are written to one buffer for each
// layer. `conv_pool` computes a 1x1 convolution of the output of a max pool, and writes both outputs. `conv_norm`
// writes the output of a convolution, and that output normalised as in lrn.wgsl. Kernels that only software adapters
// run are in software/conv.wgsl.
// CPU twin: src/cpu/ops/conv.rs.

//#include shared/limits.wgsl
//#include shared/conv_tile.wgsl

@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read> w: array<weight4>; // (Kh, Kw, Cin padded to a multiple of four, vec4_channels)

// The partial sums of the threads that share a tile.
var<workgroup> parts: array<mat4x4f, LANES * ROWS * SLICES>;

// The window of one output pixel: its first row and column in the input, and its picture.
struct Origin {
    row: i32, // the first row of the picture, counted over the batch
    y: i32,
    x: i32,
}

fn origin(pixel: u32) -> Origin {
    // Pixels past the end repeat the last pixel, so that all reads are in bounds. They are not stored.
    let inside = min(pixel, p.pixels - 1u);
    let row = inside / p.out_width;
    let image = row / p.out_height;
    let y = (row - image * p.out_height) * p.step_y;
    let x = (inside - row * p.out_width) * p.step_x;
    return Origin(i32(image * p.height), i32(y) - i32(p.pad_y), i32(x) - i32(p.pad_x));
}

// Marks cells outside the input: still negative after the largest offset within a row has been added.
const NOWHERE = -0x40000000;

// The index of the first cell of row ky of a window; NOWHERE if the row is outside the input.
fn line(o: Origin, ky: u32) -> i32 {
    let iy = o.y + i32(ky);
    let at = ((o.row + iy) * i32(p.width) + o.x) * i32(p.x_stride) + i32(p.x_offset);
    return select(NOWHERE, at, u32(iy) < p.height);
}

// The index of the first channel of the cell in column kx of a window's row; negative if it is outside the input.
fn cell(o: Origin, line: i32, kx: u32) -> i32 {
    return select(NOWHERE, line + i32(kx * p.x_stride), u32(o.x + i32(kx)) < p.width);
}

fn fetch(cell: i32, vec4_channel: u32) -> vec4f {
    var value = vec4f();
    if cell >= 0 {
        value = vec4f(x4[u32(cell) / 4u + vec4_channel]);
    }
    return value;
}

fn fetch4(cells: vec4i, vec4_channel: u32) -> mat4x4f {
    return mat4x4f(fetch(cells.x, vec4_channel), fetch(cells.y, vec4_channel), fetch(cells.z, vec4_channel), fetch(cells.w, vec4_channel));
}

// The weights of four consecutive k for four output channels.
fn weights(at: u32) -> weight4x4 {
    return weight4x4(w[at], w[at + p.vec4_channels], w[at + 2u * p.vec4_channels], w[at + 3u * p.vec4_channels]);
}

// The sum over all slices. Only the threads of the first slice get it.
fn sum_slices(sum: mat4x4f, thread: u32) -> mat4x4f {
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

fn put(pixel: u32, vec4_channel: u32, sum: mat4x4f, slice: u32) {
    if slice == 0u {
        store4(pixel, vec4_channel, sum);
    }
}

// The windows of four consecutive output pixels.
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
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    let vec4_channels = p.channels / 4u;
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
            let tap = (ky * p.kernel_x + kx) * p.channels * p.vec4_channels;
            for (var vec4_channel = at.z; vec4_channel < vec4_channels; vec4_channel += SLICES) {
                let k = tap + vec4_channel * 4u * p.vec4_channels;
                let x0 = fetch4(c0, vec4_channel);
                let x1 = fetch4(c1, vec4_channel);
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
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    let vec4_channels = p.channels / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.vec4_channels;
            for (var vec4_channel = at.z; vec4_channel < vec4_channels; vec4_channel += SLICES) {
                let k = tap + vec4_channel * 4u * p.vec4_channels;
                let x = fetch4(c, vec4_channel);
                s0 += product(weights(k + q0), x);
                s1 += product(weights(k + q1), x);
            }
        }
    }
    return array(s0, s1);
}

fn sum4x4(at: vec3u) -> mat4x4f {
    let o = origins(at.x);
    let q = min(at.y, p.vec4_channels - 1u);
    let vec4_channels = p.channels / 4u;
    var sum = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * p.channels * p.vec4_channels;
            for (var vec4_channel = at.z; vec4_channel < vec4_channels; vec4_channel += SLICES) {
                sum += product(weights(tap + vec4_channel * 4u * p.vec4_channels + q), fetch4(c, vec4_channel));
            }
        }
    }
    return sum;
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
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    let vec4_channels = p.channels / 4u;
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
            let tap = (ky * p.kernel_x + kx) * p.channels * p.vec4_channels;
            for (var vec4_channel = 0u; vec4_channel < vec4_channels; vec4_channel++) {
                let k = tap + vec4_channel * 4u * p.vec4_channels;
                let x = Sixteen(fetch4(ca, vec4_channel), fetch4(cb, vec4_channel), fetch4(cc, vec4_channel), fetch4(cd, vec4_channel));
                s0 = add(s0, weights(k + q0), x);
                s1 = add(s1, weights(k + q1), x);
            }
        }
    }
    store16(at.x, at.y, s0);
    store16(at.x, at.y + LANES, s1);
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
    put(at.x, at.y, sum_slices(sum[0], thread), at.z);
    put(at.x + 4u, at.y, sum_slices(sum[1], thread), at.z);
    put(at.x, at.y + LANES, sum_slices(sum[2], thread), at.z);
    put(at.x + 4u, at.y + LANES, sum_slices(sum[3], thread), at.z);
}

fn put4x8(at: vec3u, sum: array<mat4x4f, 2>, thread: u32) {
    put(at.x, at.y, sum_slices(sum[0], thread), at.z);
    put(at.x, at.y + LANES, sum_slices(sum[1], thread), at.z);
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
    put(at.x, at.y, sum_slices(sum, thread), at.z);
}

fn value(cell: i32, c: u32) -> f32 {
    let inside = (cell >= 0) & (c < p.channels);
    return select(0.0, f32(x[select(0u, u32(cell) + c, inside)]), inside);
}

fn values(cell: i32, vec4_channel: u32) -> vec4f {
    let c = vec4_channel * 4u;
    return vec4f(value(cell, c), value(cell, c + 1u), value(cell, c + 2u), value(cell, c + 3u));
}

fn store_any(pixel: u32, vec4_channel: u32, sum: vec4f) {
    let value = finished(sum, vec4_channel);
    let which = layer(vec4_channel);
    let to = p.to[which];
    let first = (vec4_channel - to.first) * 4u;
    let at = pixel * to.stride + to.offset + first;
    if (pixel < p.pixels) & (vec4_channel < p.vec4_channels) {
        for (var i = 0u; i < min(4u, to.channels - first); i++) {
            switch which {
                case 0u: { y0[at + i] = real(select(value[i], value[i] + f32(y0[at + i]), ADD)); }
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
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    let vec4_channels = (p.channels + 3u) / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = lines(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let c = cells(o, l, kx);
            let tap = (ky * p.kernel_x + kx) * vec4_channels * 4u * p.vec4_channels;
            for (var vec4_channel = 0u; vec4_channel < vec4_channels; vec4_channel++) {
                let k = tap + vec4_channel * 4u * p.vec4_channels;
                let x = mat4x4f(values(c.x, vec4_channel), values(c.y, vec4_channel), values(c.z, vec4_channel), values(c.w, vec4_channel));
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

const POOLED = 512u; // the number of vectors of four channels that a workgroup holds

// (POOLED / pixels, pixels): the pool's output for a block of channels and the workgroup's pixels.
var<workgroup> pooled: array<vec4f, POOLED>;

fn greatest(o: Origin, vec4_channel: u32) -> vec4f {
    var most = vec4f(LOWEST);
    for (var ky = 0u; ky < p.kernel_y; ky++) {
        let l = line(o, ky);
        for (var kx = 0u; kx < p.kernel_x; kx++) {
            let at = cell(o, l, kx);
            if at >= 0 {
                most = max(most, vec4f(x4[u32(at) / 4u + vec4_channel]));
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
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    let vec4_channels = p.channels / 4u;
    var s0 = mat4x4f();
    var s1 = mat4x4f();
    for (var first = 0u; first < vec4_channels; first += held) {
        let count = min(held, vec4_channels - first);
        for (var i = thread; i < pixels * count; i += LANES * ROWS * SLICES) {
            let pixel = i / count;
            let vec4_channel = i - pixel * count;
            let most = greatest(origin(first_pixel + pixel), first + vec4_channel);
            pooled[vec4_channel * pixels + pixel] = most;
            if group.y == 0u && first_pixel + pixel < p.pixels {
                y1q[((first_pixel + pixel) * p.to[1].stride + p.to[1].offset) / 4u + first + vec4_channel] = real4(most);
            }
        }
        workgroupBarrier();
        for (var vec4_channel = at.z; vec4_channel < count; vec4_channel += SLICES) {
            let held_at = vec4_channel * pixels + local.y * 4u;
            let x = mat4x4f(pooled[held_at], pooled[held_at + 1u], pooled[held_at + 2u], pooled[held_at + 3u]);
            let k = (first + vec4_channel) * 4u * p.vec4_channels;
            s0 += product(weights(k + q0), x);
            s1 += product(weights(k + q1), x);
        }
        workgroupBarrier();
    }
    s0 = sum_slices(s0, thread);
    s1 = sum_slices(s1, thread);
    put(at.x, at.y, s0, at.z);
    put(at.x, at.y + LANES, s1, at.z);
}

// Normalises four channels of a pixel. The workgroup has already stored the convolution's output for all channels.
fn normalise(pixel: u32, vec4_channel: u32) {
    if (pixel < p.pixels) & (vec4_channel < p.vec4_channels) {
        let start = (pixel * p.to[0].stride + p.to[0].offset) / 4u;
        let c = vec4_channel * 4u;
        var sum = vec4f();
        for (var j = max(c, p.before) - p.before; j < min(c + p.after + 4u, p.vec4_channels * 4u); j++) {
            let value = f32(y0q[start + j / 4u][j % 4u]);
            // Whether channel j is in the window of each of the four channels.
            let after = vec4i(i32(j)) - vec4i(vec4u(c) + vec4u(0u, 1u, 2u, 3u));
            let near = (after >= vec4i(-i32(p.before))) & (after <= vec4i(i32(p.after)));
            sum += select(vec4f(), vec4f(value * value), near);
        }
        let power = pow(p.k + p.scale * sum, vec4f(-p.beta));
        y1q[(pixel * p.to[1].stride + p.to[1].offset) / 4u + vec4_channel] = real4(vec4f(y0q[start + vec4_channel]) * power);
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
