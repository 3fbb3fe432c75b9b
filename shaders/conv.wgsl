// Convolution with bias and, where it follows, ReLU; zero padding.
//
// An implicit matrix product: y[p, o] = b[o] + sum over k of x[p, k] * w[k, o], where p counts the
// output pixels of the batch and k = (ky * Kw + kx) * Cin + c runs over a window. A workgroup makes
// 32 pixels x 32 channels, 16 of k at a time; a thread makes 4 pixels x 4 channels.
//
// `conv` takes any number of channels; `conv4` reads four at a time and needs Cin, x_stride and
// x_offset to be multiples of 4. Twin: src/cpu/conv.rs.

struct Params {
    pixels: u32, // N * Ho * Wo
    depth: u32, // Kh * Kw * Cin
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    out_height: u32,
    out_width: u32,
    out_channels: u32,
    y_offset: u32,
    y_stride: u32,
    kernel_width: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    relu: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (N, H, W, x_stride)
@group(0) @binding(1) var<storage, read> x4: array<vec4f>; // (N, H, W, x_stride/4), the same buffer
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // (Kh, Kw, Cin, Cout/4)
@group(0) @binding(3) var<storage, read> b: array<vec4f>; // (Cout/4)
@group(0) @binding(4) var<storage, read_write> y: array<f32>; // (N, Ho, Wo, y_stride)

const TILE = 32u; // pixels, and channels, of a workgroup
const QUADS = 8u; // groups of four channels among them
const STEP = 16u; // of k at a time
const STEP_QUADS = 4u;
const THREADS = 64u;

var<workgroup> tile_x: array<vec4f, 128>; // (TILE, STEP/4)
var<workgroup> tile_w: array<vec4f, 128>; // (STEP, QUADS)

// The window of one output pixel: where it starts in the input, and in which picture.
struct Origin {
    image: u32,
    y: i32,
    x: i32,
    inside: bool,
}

fn origin(pixel: u32) -> Origin {
    let row = pixel / p.out_width;
    let image = row / p.out_height;
    let y = (row - image * p.out_height) * p.step_y;
    let x = (pixel - row * p.out_width) * p.step_x;
    return Origin(image, i32(y) - i32(p.pad_y), i32(x) - i32(p.pad_x), pixel < p.pixels);
}

// Where the input cell (ky, kx) of a window stands, counted in pixels; -1 outside the input.
fn cell(o: Origin, ky: u32, kx: u32) -> i32 {
    let iy = o.y + i32(ky);
    let ix = o.x + i32(kx);
    if !o.inside || iy < 0 || ix < 0 || iy >= i32(p.height) || ix >= i32(p.width) {
        return -1;
    }
    return (i32(o.image * p.height) + iy) * i32(p.width) + ix;
}

fn fetch(o: Origin, k: u32) -> f32 {
    if k >= p.depth {
        return 0.0;
    }
    let tap = k / p.channels;
    let ky = tap / p.kernel_width;
    let at = cell(o, ky, tap - ky * p.kernel_width);
    if at < 0 {
        return 0.0;
    }
    return x[u32(at) * p.x_stride + p.x_offset + k - tap * p.channels];
}

fn fetch4(o: Origin, ky: u32, kx: u32, c: u32) -> vec4f {
    let at = cell(o, ky, kx);
    if at < 0 {
        return vec4f();
    }
    return x4[(u32(at) * p.x_stride + p.x_offset + c) / 4u];
}

fn weight(k: u32, quad: u32) -> vec4f {
    let quads = (p.out_channels + 3u) / 4u;
    if k >= p.depth || quad >= quads {
        return vec4f();
    }
    return w[k * quads + quad];
}

// This step's part of the sum; each column is one pixel's four channels. Steps are summed by
// themselves first: adding every product to the whole would round it an order more often.
fn multiply(row: u32, col: u32) -> mat4x4f {
    var out = mat4x4f();
    for (var q = 0u; q < STEP_QUADS; q++) {
        let at_x = row * 4u * STEP_QUADS + q;
        let at_w = q * 4u * QUADS + col;
        out += mat4x4f(tile_w[at_w], tile_w[at_w + QUADS], tile_w[at_w + 2u * QUADS], tile_w[at_w + 3u * QUADS])
            * mat4x4f(
                tile_x[at_x],
                tile_x[at_x + STEP_QUADS],
                tile_x[at_x + 2u * STEP_QUADS],
                tile_x[at_x + 3u * STEP_QUADS],
            );
    }
    return out;
}

fn store(pixel: u32, quad: u32, sum: vec4f) {
    let first = quad * 4u;
    if pixel >= p.pixels || first >= p.out_channels {
        return;
    }
    var value = sum + b[quad];
    if p.relu != 0u {
        value = max(value, vec4f());
    }
    let at = pixel * p.y_stride + p.y_offset + first;
    y[at] = value.x;
    if first + 1u < p.out_channels {
        y[at + 1u] = value.y;
    }
    if first + 2u < p.out_channels {
        y[at + 2u] = value.z;
    }
    if first + 3u < p.out_channels {
        y[at + 3u] = value.w;
    }
}

@compute @workgroup_size(THREADS)
fn conv(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixel = (group.z * groups.x + group.x) * TILE;
    let quad = group.y * QUADS;
    if pixel >= p.pixels {
        return;
    }
    let lane = thread % STEP_QUADS;
    let first = origin(pixel + thread / STEP_QUADS);
    let second = origin(pixel + thread / STEP_QUADS + TILE / 2u);
    let row = thread / QUADS;
    let col = thread % QUADS;
    var sum = mat4x4f();
    for (var k = 0u; k < p.depth; k += STEP) {
        let at = k + lane * 4u;
        tile_x[thread] = vec4f(fetch(first, at), fetch(first, at + 1u), fetch(first, at + 2u), fetch(first, at + 3u));
        tile_x[thread + THREADS] =
            vec4f(fetch(second, at), fetch(second, at + 1u), fetch(second, at + 2u), fetch(second, at + 3u));
        tile_w[thread] = weight(k + row, quad + col);
        tile_w[thread + THREADS] = weight(k + row + STEP / 2u, quad + col);
        workgroupBarrier();
        sum += multiply(row, col);
        workgroupBarrier();
    }
    let to = pixel + row * 4u;
    store(to, quad + col, sum[0]);
    store(to + 1u, quad + col, sum[1]);
    store(to + 2u, quad + col, sum[2]);
    store(to + 3u, quad + col, sum[3]);
}

@compute @workgroup_size(THREADS)
fn conv4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let pixel = (group.z * groups.x + group.x) * TILE;
    let quad = group.y * QUADS;
    if pixel >= p.pixels {
        return;
    }
    let lane = thread % STEP_QUADS;
    let first = origin(pixel + thread / STEP_QUADS);
    let second = origin(pixel + thread / STEP_QUADS + TILE / 2u);
    let row = thread / QUADS;
    let col = thread % QUADS;
    // This thread's place in the window, carried along: divisions would cost more than the loads.
    var c = lane * 4u;
    var ky = 0u;
    var kx = 0u;
    var sum = mat4x4f();
    for (var k = 0u; k < p.depth; k += STEP) {
        while c >= p.channels {
            c -= p.channels;
            kx++;
            if kx == p.kernel_width {
                kx = 0u;
                ky++;
            }
        }
        var here = vec4f();
        var there = vec4f();
        if k + lane * 4u < p.depth {
            here = fetch4(first, ky, kx, c);
            there = fetch4(second, ky, kx, c);
        }
        c += STEP;
        tile_x[thread] = here;
        tile_x[thread + THREADS] = there;
        tile_w[thread] = weight(k + row, quad + col);
        tile_w[thread + THREADS] = weight(k + row + STEP / 2u, quad + col);
        workgroupBarrier();
        sum += multiply(row, col);
        workgroupBarrier();
    }
    let to = pixel + row * 4u;
    store(to, quad + col, sum[0]);
    store(to + 1u, quad + col, sum[1]);
    store(to + 2u, quad + col, sum[2]);
    store(to + 3u, quad + col, sum[3]);
}
