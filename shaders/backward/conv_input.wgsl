// The gradient for the input of a convolution of any stride: dx[i, c] = sum over the taps k, and the output pixels p
// whose tap k is at i, of g[p, o] * w[k, o, c]. Convolutions of stride 1 are computed by conv.wgsl instead, with flipped
// filters.
//
// A thread computes four channels of four pixels of a row, each `step_x` columns from the last: these have the same taps.

//#include shared/invocation.wgsl

struct Params {
    count: u32, // N * H * phases * tiles * vec4_channels
    phases: u32, // the number of columns that have different taps
    tiles: u32, // the number of tiles of four pixels of one phase in a row
    vec4_channels: u32,
    height: u32,
    width: u32,
    channels: u32,
    to_offset: u32,
    to_stride: u32,
    out_height: u32,
    out_width: u32,
    outputs: u32,
    g_offset: u32,
    g_stride: u32,
    kernel_y: u32,
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    add: u32, // whether the sums are added to what is there
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> g: array<f32>; // (N, Ho, Wo, g_stride), the gradient for the output
@group(0) @binding(2) var<storage, read> w: array<vec4f>; // (Kh, Kw, outputs padded to a multiple of four, vec4_channels)
@group(0) @binding(3) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride)

// Four channels of a pixel of the gradient; 0 if it is outside. Channels after the last have weights of 0.
fn fetch(row: u32, column: i32, o: u32) -> vec4f {
    let inside = (column >= 0) & (column < i32(p.out_width));
    let at = select(0u, (row * p.out_width + u32(column)) * p.g_stride, inside) + p.g_offset;
    let i = min(vec4u(o, o + 1u, o + 2u, o + 3u), vec4u(p.outputs - 1u));
    return select(vec4f(), vec4f(g[at + i.x], g[at + i.y], g[at + i.z], g[at + i.w]), inside);
}

fn store(pixel: u32, vec4_channel: u32, sum: vec4f) {
    let at = pixel * p.to_stride + p.to_offset + vec4_channel * 4u;
    for (var i = 0u; i < min(4u, p.channels - vec4_channel * 4u); i++) {
        to[at + i] = select(sum[i], to[at + i] + sum[i], p.add != 0u);
    }
}

@compute @workgroup_size(THREADS)
fn conv_input(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let row_tile = i / p.vec4_channels;
    let vec4_channel = i - row_tile * p.vec4_channels;
    let line = row_tile / (p.phases * p.tiles); // the row of the input, counted over the batch
    let in_line = row_tile - line * p.phases * p.tiles;
    let phase = in_line / p.tiles;
    let first = phase + (in_line - phase * p.tiles) * 4u * p.step_x; // the first column
    let image = line / p.height;
    let iy = line - image * p.height;
    let padded = (p.outputs + 3u) / 4u * 4u;

    var sum = mat4x4f();
    for (var ky = (iy + p.pad_y) % p.step_y; ky < p.kernel_y; ky += p.step_y) {
        let oy = (iy + p.pad_y - ky) / p.step_y;
        if (ky <= iy + p.pad_y) & (oy < p.out_height) {
            for (var kx = (phase + p.pad_x) % p.step_x; kx < p.kernel_x; kx += p.step_x) {
                let row = image * p.out_height + oy;
                let column = (i32(first + p.pad_x) - i32(kx)) / i32(p.step_x);
                let tap = (ky * p.kernel_x + kx) * padded;
                for (var o = 0u; o < p.outputs; o += 4u) {
                    let at = (tap + o) * p.vec4_channels + vec4_channel;
                    let weights = mat4x4f(
                        w[at],
                        w[at + p.vec4_channels],
                        w[at + 2u * p.vec4_channels],
                        w[at + 3u * p.vec4_channels],
                    );
                    sum += weights * mat4x4f(
                        fetch(row, column, o),
                        fetch(row, column + 1, o),
                        fetch(row, column + 2, o),
                        fetch(row, column + 3, o),
                    );
                }
            }
        }
    }
    for (var j = 0u; j < 4u; j++) {
        let ix = first + j * p.step_x;
        if ix < p.width {
            store(line * p.width + ix, vec4_channel, sum[j]);
        }
    }
}
