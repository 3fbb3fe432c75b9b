// The gradients for the weights and biases of a convolution or a dense layer: dw[tap, c, o] = sum over p of
// x[p at tap, c] * g[p, o], and db[o] = sum over p of g[p, o], where p runs over the output pixels of the batch. A dense
// layer is a convolution whose window is the whole input.
//
// This is a matrix product over pixels, for one tap of the window at a time. Each thread computes a register tile of
// channels x outputs by outer products; `weights16x8`, `weights8x8` and `weights4x8` are named after their tiles. They
// need channels in multiples of four, whereas `weights_any` supports any number. A workgroup has LANES threads along the
// outputs and ROWS along the channels. The pixels are divided into parts, each of which has its own sums;
// sum_parts.wgsl adds them up. The tap after the last is that of the biases.
//
// The columns of the output at which a tap lies inside the input are computed once, so that the loop over pixels has no
// branches. The order of all sums is fixed.

struct Params {
    rows: u32, // N * Ho
    rows_per_part: u32,
    out_height: u32,
    out_width: u32,
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    outputs: u32,
    g_offset: u32,
    g_stride: u32,
    kernel_y: u32,
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    columns: u32, // the number of workgroups along the outputs
    first: u32, // the index of the first weight in `to`
    size: u32, // the number of values of one part
    add: u32, // whether the sums are added to what is there
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> g: array<f32>; // (N, Ho, Wo, g_stride), the gradient for the output
@group(0) @binding(3) var<storage, read_write> to: array<f32>; // (parts, Kh * Kw * channels + 1, outputs)
@group(0) @binding(1) var<storage, read> x4: array<vec4f>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read> g4: array<vec4f>; // (N, Ho, Wo, g_stride/4), the same buffer
@group(0) @binding(3) var<storage, read_write> to4: array<vec4f>; // (parts, Kh * Kw * channels + 1, outputs/4)

override LANES = 8u;
override ROWS = 8u;

// What a workgroup computes: a tap of the window for a part of the pixels.
struct Work {
    tap: u32,
    is_bias: bool,
    ky: u32,
    kx: u32,
    rows: vec2u, // the first row of the output, and the end of the rows
    columns: vec2u,
}

// The positions of the output along one axis at which cell `k` of the window is inside the input: the first, and the
// end.
fn covered(k: u32, step: u32, pad: u32, size: u32, out: u32) -> vec2u {
    let first = (max(pad, k) - k + step - 1u) / step;
    let end = (max(size + pad, k) - k + step - 1u) / step;
    return vec2u(first, min(end, out));
}

fn work(group: vec3u) -> Work {
    let ky = group.y / p.kernel_x;
    let kx = group.y - ky * p.kernel_x;
    let first = group.z * p.rows_per_part;
    let rows = vec2u(first, min(first + p.rows_per_part, p.rows));
    let columns = covered(kx, p.step_x, p.pad_x, p.width, p.out_width);
    return Work(group.y, ky == p.kernel_y, ky, kx, rows, columns);
}

// The first output (or group of four) of a thread, and its first tile of channels.
fn tile(group: vec3u, local: vec3u, outputs: u32) -> vec2u {
    let row = group.x / p.columns;
    let column = group.x - row * p.columns;
    return vec2u(column * LANES * outputs + local.x, row * ROWS + local.y);
}

// The index in x of the pixel under the tap, for the first column of a row of the output; negative if the tap is above
// or below the input.
fn under(w: Work, row: u32) -> i32 {
    let image = row / p.out_height;
    let iy = (row - image * p.out_height) * p.step_y + w.ky - p.pad_y;
    let pixel = (image * p.height + iy) * p.width + w.columns.x * p.step_x + w.kx - p.pad_x;
    return select(-1, i32(pixel * p.x_stride + p.x_offset), iy < p.height);
}

// The index in g of the first column of a row.
fn above(w: Work, row: u32) -> u32 {
    return (row * p.out_width + w.columns.x) * p.g_stride + p.g_offset;
}

fn outer(sum: mat4x4f, x: vec4f, g: vec4f) -> mat4x4f {
    return mat4x4f(
        fma(vec4f(x.x), g, sum[0]),
        fma(vec4f(x.y), g, sum[1]),
        fma(vec4f(x.z), g, sum[2]),
        fma(vec4f(x.w), g, sum[3]),
    );
}

fn put(w: Work, part: u32, channel: u32, q: u32, sum: vec4f) {
    if (channel < p.channels) & (q < p.outputs / 4u) {
        let at = (part * p.size + p.first) / 4u + (w.tap * p.channels + channel) * (p.outputs / 4u) + q;
        to4[at] = select(sum, to4[at] + sum, p.add != 0u);
    }
}

fn put4(w: Work, part: u32, channel: u32, q: u32, sum: mat4x4f) {
    put(w, part, channel, q, sum[0]);
    put(w, part, channel + 1u, q, sum[1]);
    put(w, part, channel + 2u, q, sum[2]);
    put(w, part, channel + 3u, q, sum[3]);
}

// The sums over pixels of two groups of four outputs.
fn biases(w: Work, q0: u32, q1: u32) -> array<vec4f, 2> {
    var b0 = vec4f();
    var b1 = vec4f();
    var at = (w.rows.x * p.out_width * p.g_stride + p.g_offset) / 4u;
    for (var pixel = w.rows.x * p.out_width; pixel < w.rows.y * p.out_width; pixel++) {
        b0 += g4[at + q0];
        b1 += g4[at + q1];
        at += p.g_stride / 4u;
    }
    return array(b0, b1);
}

fn put_biases(w: Work, part: u32, tile: vec2u, b: array<vec4f, 2>) {
    // The biases follow the weights as one more channel would.
    if tile.y == 0u {
        put(w, part, 0u, tile.x, b[0]);
        put(w, part, 0u, tile.x + LANES, b[1]);
    }
}

@compute @workgroup_size(LANES, ROWS)
fn weights16x8(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let w = work(group);
    let at = tile(group, local, 2u);
    let q0 = min(at.x, p.outputs / 4u - 1u);
    let q1 = min(at.x + LANES, p.outputs / 4u - 1u);
    if w.is_bias {
        put_biases(w, group.z, at, biases(w, q0, q1));
    } else {
        let last = p.channels / 4u - 1u;
        let c0 = min(at.y * 4u, last);
        let c1 = min(at.y * 4u + 1u, last);
        let c2 = min(at.y * 4u + 2u, last);
        let c3 = min(at.y * 4u + 3u, last);
        var s00 = mat4x4f();
        var s01 = mat4x4f();
        var s10 = mat4x4f();
        var s11 = mat4x4f();
        var s20 = mat4x4f();
        var s21 = mat4x4f();
        var s30 = mat4x4f();
        var s31 = mat4x4f();
        for (var row = w.rows.x; row < w.rows.y; row++) {
            let start = under(w, row);
            var x_at = u32(max(start, 0)) / 4u;
            var g_at = above(w, row) / 4u;
            let end = select(0u, w.columns.y, start >= 0);
            for (var column = w.columns.x; column < end; column++) {
                let g0 = g4[g_at + q0];
                let g1 = g4[g_at + q1];
                let x0 = x4[x_at + c0];
                s00 = outer(s00, x0, g0);
                s01 = outer(s01, x0, g1);
                let x1 = x4[x_at + c1];
                s10 = outer(s10, x1, g0);
                s11 = outer(s11, x1, g1);
                let x2 = x4[x_at + c2];
                s20 = outer(s20, x2, g0);
                s21 = outer(s21, x2, g1);
                let x3 = x4[x_at + c3];
                s30 = outer(s30, x3, g0);
                s31 = outer(s31, x3, g1);
                g_at += p.g_stride / 4u;
                x_at += p.step_x * p.x_stride / 4u;
            }
        }
        let channel = at.y * 16u;
        put4(w, group.z, channel, at.x, s00);
        put4(w, group.z, channel, at.x + LANES, s01);
        put4(w, group.z, channel + 4u, at.x, s10);
        put4(w, group.z, channel + 4u, at.x + LANES, s11);
        put4(w, group.z, channel + 8u, at.x, s20);
        put4(w, group.z, channel + 8u, at.x + LANES, s21);
        put4(w, group.z, channel + 12u, at.x, s30);
        put4(w, group.z, channel + 12u, at.x + LANES, s31);
    }
}

@compute @workgroup_size(LANES, ROWS)
fn weights8x8(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let w = work(group);
    let at = tile(group, local, 2u);
    let q0 = min(at.x, p.outputs / 4u - 1u);
    let q1 = min(at.x + LANES, p.outputs / 4u - 1u);
    if w.is_bias {
        put_biases(w, group.z, at, biases(w, q0, q1));
    } else {
        let last = p.channels / 4u - 1u;
        let c0 = min(at.y * 2u, last);
        let c1 = min(at.y * 2u + 1u, last);
        var s00 = mat4x4f();
        var s01 = mat4x4f();
        var s10 = mat4x4f();
        var s11 = mat4x4f();
        for (var row = w.rows.x; row < w.rows.y; row++) {
            let start = under(w, row);
            var x_at = u32(max(start, 0)) / 4u;
            var g_at = above(w, row) / 4u;
            let end = select(0u, w.columns.y, start >= 0);
            for (var column = w.columns.x; column < end; column++) {
                let g0 = g4[g_at + q0];
                let g1 = g4[g_at + q1];
                let x0 = x4[x_at + c0];
                s00 = outer(s00, x0, g0);
                s01 = outer(s01, x0, g1);
                let x1 = x4[x_at + c1];
                s10 = outer(s10, x1, g0);
                s11 = outer(s11, x1, g1);
                g_at += p.g_stride / 4u;
                x_at += p.step_x * p.x_stride / 4u;
            }
        }
        let channel = at.y * 8u;
        put4(w, group.z, channel, at.x, s00);
        put4(w, group.z, channel, at.x + LANES, s01);
        put4(w, group.z, channel + 4u, at.x, s10);
        put4(w, group.z, channel + 4u, at.x + LANES, s11);
    }
}

@compute @workgroup_size(LANES, ROWS)
fn weights4x8(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let w = work(group);
    let at = tile(group, local, 2u);
    let q0 = min(at.x, p.outputs / 4u - 1u);
    let q1 = min(at.x + LANES, p.outputs / 4u - 1u);
    if w.is_bias {
        put_biases(w, group.z, at, biases(w, q0, q1));
    } else {
        // The channels of an input are padded to a multiple of four.
        let c = min(at.y, (p.channels + 3u) / 4u - 1u);
        var s0 = mat4x4f();
        var s1 = mat4x4f();
        for (var row = w.rows.x; row < w.rows.y; row++) {
            let start = under(w, row);
            var x_at = u32(max(start, 0)) / 4u;
            var g_at = above(w, row) / 4u;
            let end = select(0u, w.columns.y, start >= 0);
            for (var column = w.columns.x; column < end; column++) {
                let value = x4[x_at + c];
                s0 = outer(s0, value, g4[g_at + q0]);
                s1 = outer(s1, value, g4[g_at + q1]);
                g_at += p.g_stride / 4u;
                x_at += p.step_x * p.x_stride / 4u;
            }
        }
        put4(w, group.z, at.y * 4u, at.x, s0);
        put4(w, group.z, at.y * 4u, at.x + LANES, s1);
    }
}

// Four values of a buffer at `at`, or the last of them again after the end.
fn x_values(at: u32, c: u32) -> vec4f {
    let i = min(vec4u(c, c + 1u, c + 2u, c + 3u), vec4u(p.channels - 1u));
    return vec4f(x[at + i.x], x[at + i.y], x[at + i.z], x[at + i.w]);
}

fn g_values(at: u32, o: u32) -> vec4f {
    let i = min(vec4u(o, o + 1u, o + 2u, o + 3u), vec4u(p.outputs - 1u));
    return vec4f(g[at + i.x], g[at + i.y], g[at + i.z], g[at + i.w]);
}

fn put_any(w: Work, part: u32, channel: u32, o: u32, sum: vec4f) {
    if channel < p.channels {
        let at = part * p.size + p.first + (w.tap * p.channels + channel) * p.outputs + o;
        for (var i = 0u; i < 4u; i++) {
            if o + i < p.outputs {
                to[at + i] = select(sum[i], to[at + i] + sum[i], p.add != 0u);
            }
        }
    }
}

@compute @workgroup_size(LANES, ROWS)
fn weights_any(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let w = work(group);
    let at = tile(group, local, 1u);
    let o = at.x * 4u;
    if w.is_bias {
        var b = vec4f();
        for (var pixel = w.rows.x * p.out_width; pixel < w.rows.y * p.out_width; pixel++) {
            b += g_values(pixel * p.g_stride + p.g_offset, o);
        }
        if at.y == 0u {
            put_any(w, group.z, 0u, o, b);
        }
    } else {
        let c = at.y * 4u;
        var sum = mat4x4f();
        for (var row = w.rows.x; row < w.rows.y; row++) {
            let start = under(w, row);
            var x_at = u32(max(start, 0));
            var g_at = above(w, row);
            let end = select(0u, w.columns.y, start >= 0);
            for (var column = w.columns.x; column < end; column++) {
                sum = outer(sum, x_values(x_at, c), g_values(g_at, o));
                g_at += p.g_stride;
                x_at += p.step_x * p.x_stride;
            }
        }
        put_any(w, group.z, c, o, sum[0]);
        put_any(w, group.z, c + 1u, o, sum[1]);
        put_any(w, group.z, c + 2u, o, sum[2]);
        put_any(w, group.z, c + 3u, o, sum[3]);
    }
}
