// Pooling: the greatest or the mean value under a window, one thread an output element, or in `pool4` four
// channels of it. Padding never wins a maximum; a mean divides by what `mode` says. `pool_texels` is `pool4` that
// reads what winograd.wgsl has laid, and writes for who reads the like. Activations
// are in f16 where the aliases are made so. Twin: src/cpu/ops/pool.rs.

alias real = f32;
alias real4 = vec4f;

struct Params {
    count: u32, // N * Ho * Wo * C, or C/4
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    out_height: u32,
    out_width: u32,
    y_offset: u32,
    y_stride: u32,
    kernel_y: u32,
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    end_y: u32, // rows of padding below
    end_x: u32, // columns of padding to the right
    mode: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read_write> y: array<real>; // (N, Ho, Wo, y_stride)
@group(0) @binding(1) var<storage, read> x4: array<real4>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read_write> y4: array<real4>; // (N, Ho, Wo, y_stride/4), the same buffer
// For `pool_texels`, what x4 and y4 hold without their other channels, in rows of TEXELS.
@group(0) @binding(3) var xt: texture_2d<f32>;
@group(0) @binding(4) var yt: texture_storage_2d<rgba32float, write>;

const TEXELS = 4096u;

const MAX = 0u;
const MEAN = 1u; // over the part of the window inside the input
const MEAN_PADDED = 2u; // over the part inside input and padding
const ADAPTIVE = 3u; // the mean over one of Ho x Wo regions that cover the input

const LOWEST = -3.4028234663852886e38f;
const THREADS = 64u;

// First cell inside the input, end of it, and how many cells a mean counts, along one axis.
fn span(at: u32, size: u32, out: u32, kernel: u32, step: u32, pad: u32, end: u32) -> vec3u {
    if p.mode == ADAPTIVE {
        let first = at * size / out;
        let last = ((at + 1u) * size + out - 1u) / out;
        return vec3u(first, last, last - first);
    }
    let start = i32(at * step) - i32(pad);
    let stop = start + i32(kernel);
    let first = max(start, 0);
    let last = max(min(stop, i32(size)), first);
    let counted = select(last - first, min(stop, i32(size + end)) - start, p.mode == MEAN_PADDED);
    return vec3u(u32(first), u32(last), u32(max(counted, 1)));
}

// What an output element lies under.
struct Under {
    pixel: u32,
    channel: u32, // or group of four
    image: u32,
    rows: vec3u,
    columns: vec3u,
}

fn under(i: u32, channels: u32) -> Under {
    let pixel = i / channels;
    let row = pixel / p.out_width;
    let image = row / p.out_height;
    let rows = span(row - image * p.out_height, p.height, p.out_height, p.kernel_y, p.step_y, p.pad_y, p.end_y);
    let columns = span(pixel - row * p.out_width, p.width, p.out_width, p.kernel_x, p.step_x, p.pad_x, p.end_x);
    return Under(pixel, i - pixel * channels, image, rows, columns);
}

@compute @workgroup_size(THREADS)
fn pool(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i >= p.count {
        return;
    }
    let u = under(i, p.channels);
    var most = LOWEST;
    var sum = 0.0;
    for (var iy = u.rows.x; iy < u.rows.y; iy++) {
        let line = (u.image * p.height + iy) * p.width;
        for (var ix = u.columns.x; ix < u.columns.y; ix++) {
            let value = f32(x[(line + ix) * p.x_stride + p.x_offset + u.channel]);
            most = max(most, value);
            sum += value;
        }
    }
    let mean = sum / f32(u.rows.z * u.columns.z);
    y[u.pixel * p.y_stride + p.y_offset + u.channel] = real(select(mean, most, p.mode == MAX));
}

// What four channels of a window come to.
struct Found {
    most: vec4f,
    sum: vec4f,
}

const NOTHING = Found(vec4f(LOWEST), vec4f());

fn take(found: Found, value: vec4f) -> Found {
    return Found(max(found.most, value), found.sum + value);
}

fn made(u: Under, found: Found) -> vec4f {
    return select(found.sum / f32(u.rows.z * u.columns.z), found.most, p.mode == MAX);
}

@compute @workgroup_size(THREADS)
fn pool4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i >= p.count {
        return;
    }
    let u = under(i, p.channels / 4u);
    var found = NOTHING;
    for (var iy = u.rows.x; iy < u.rows.y; iy++) {
        let line = (u.image * p.height + iy) * p.width;
        for (var ix = u.columns.x; ix < u.columns.y; ix++) {
            found = take(found, vec4f(x4[((line + ix) * p.x_stride + p.x_offset) / 4u + u.channel]));
        }
    }
    y4[(u.pixel * p.y_stride + p.y_offset) / 4u + u.channel] = real4(made(u, found));
}

fn texel(at: u32) -> vec2u {
    return vec2u(at % TEXELS, at / TEXELS);
}

@compute @workgroup_size(THREADS)
fn pool_texels(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i >= p.count {
        return;
    }
    let u = under(i, p.channels / 4u);
    var found = NOTHING;
    for (var iy = u.rows.x; iy < u.rows.y; iy++) {
        let line = (u.image * p.height + iy) * p.width;
        for (var ix = u.columns.x; ix < u.columns.y; ix++) {
            found = take(found, textureLoad(xt, texel((line + ix) * (p.channels / 4u) + u.channel), 0));
        }
    }
    let value = made(u, found);
    y4[(u.pixel * p.y_stride + p.y_offset) / 4u + u.channel] = real4(value);
    textureStore(yt, texel(i), value);
}
