// The gradients of pooling. A maximum sends its gradient to the first cell of its window that has it, in the order of
// rows; a mean sends an equal part to every cell. Each thread gathers the gradient of one cell of the input, or of four
// channels in `max_pool_gradient4` and `mean_pool_gradient4`, from the windows that cover it.

//#include shared/invocation.wgsl
//#include shared/pool_span.wgsl

struct Params {
    count: u32, // N * H * W * C, or C/4
    height: u32,
    width: u32,
    channels: u32,
    x_offset: u32,
    x_stride: u32,
    out_height: u32,
    out_width: u32,
    y_offset: u32,
    y_stride: u32,
    g_offset: u32,
    g_stride: u32,
    to_offset: u32,
    to_stride: u32,
    kernel_y: u32,
    kernel_x: u32,
    step_y: u32,
    step_x: u32,
    pad_y: u32,
    pad_x: u32,
    end_y: u32, // rows of padding below
    end_x: u32, // columns of padding to the right
    mode: u32,
    add: u32, // whether the gradient is added to what is there
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> y: array<f32>; // (N, Ho, Wo, y_stride)
@group(0) @binding(3) var<storage, read> g: array<f32>; // (N, Ho, Wo, g_stride), the gradient for the output
@group(0) @binding(4) var<storage, read_write> to: array<f32>; // (N, H, W, to_stride), the gradient for the input
// The same buffers, with a quarter of the strides.
@group(0) @binding(1) var<storage, read> x4: array<vec4f>; // (N, H, W, x_stride/4)
@group(0) @binding(2) var<storage, read> y4: array<vec4f>; // (N, Ho, Wo, y_stride/4)
@group(0) @binding(3) var<storage, read> g4: array<vec4f>; // (N, Ho, Wo, g_stride/4)
@group(0) @binding(4) var<storage, read_write> to4: array<vec4f>; // (N, H, W, to_stride/4)

// The windows that cover a cell of the input.
struct Over {
    pixel: u32, // of the input, counted over the batch
    channel: u32, // or the group of four channels
    line: u32, // the first row of the picture in the input
    out_line: u32, // the first row of the picture in the output
    iy: u32,
    ix: u32,
    rows: vec2u, // the first row of the output that covers the cell, and the end
    columns: vec2u,
}

// Along one axis: the first window that covers a cell, and the end of the windows.
fn covering(at: u32, size: u32, out: u32, kernel: u32, step: u32, pad: u32) -> vec2u {
    if p.mode == ADAPTIVE {
        return vec2u(at * out / size, ((at + 1u) * out + size - 1u) / size);
    }
    let first = (max(at + pad + 1u, kernel) - kernel + step - 1u) / step;
    return vec2u(first, min((at + pad) / step + 1u, out));
}

fn over(i: u32, channels: u32) -> Over {
    let pixel = i / channels;
    let row = pixel / p.width;
    let image = row / p.height;
    let iy = row - image * p.height;
    let ix = pixel - row * p.width;
    let rows = covering(iy, p.height, p.out_height, p.kernel_y, p.step_y, p.pad_y);
    let columns = covering(ix, p.width, p.out_width, p.kernel_x, p.step_x, p.pad_x);
    return Over(pixel, i - pixel * channels, image * p.height, image * p.out_height, iy, ix, rows, columns);
}

// The first cell of a window inside the input along one axis.
fn begin(at: u32, step: u32, pad: u32) -> u32 {
    return max(at * step, pad) - pad;
}

// The end of the cells of a window in row `jy` that come before the cell under consideration.
fn before(o: Over, jy: u32, ox: u32) -> u32 {
    return select(min(ox * p.step_x + p.kernel_x - p.pad_x, p.width), o.ix, jy == o.iy);
}

// The number of cells by which the mean of a window divides.
fn divisor(oy: u32, ox: u32) -> f32 {
    let rows = span(oy, p.height, p.out_height, p.kernel_y, p.step_y, p.pad_y, p.end_y);
    let columns = span(ox, p.width, p.out_width, p.kernel_x, p.step_x, p.pad_x, p.end_x);
    return f32(rows.z * columns.z);
}

@compute @workgroup_size(THREADS)
fn max_pool_gradient(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let o = over(i, p.channels);
    let here = x[o.pixel * p.x_stride + p.x_offset + o.channel];
    var sum = 0.0;
    for (var oy = o.rows.x; oy < o.rows.y; oy++) {
        for (var ox = o.columns.x; ox < o.columns.y; ox++) {
            let out = (o.out_line + oy) * p.out_width + ox;
            let most = y[out * p.y_stride + p.y_offset + o.channel];
            var is_first = here == most;
            for (var jy = begin(oy, p.step_y, p.pad_y); is_first && jy <= o.iy; jy++) {
                let end = before(o, jy, ox);
                for (var jx = begin(ox, p.step_x, p.pad_x); is_first && jx < end; jx++) {
                    is_first = x[((o.line + jy) * p.width + jx) * p.x_stride + p.x_offset + o.channel] != most;
                }
            }
            sum += select(0.0, g[out * p.g_stride + p.g_offset + o.channel], is_first);
        }
    }
    let at = o.pixel * p.to_stride + p.to_offset + o.channel;
    to[at] = select(sum, to[at] + sum, p.add != 0u);
}

@compute @workgroup_size(THREADS)
fn max_pool_gradient4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let o = over(i, p.channels / 4u);
    let here = x4[(o.pixel * p.x_stride + p.x_offset) / 4u + o.channel];
    var sum = vec4f();
    for (var oy = o.rows.x; oy < o.rows.y; oy++) {
        for (var ox = o.columns.x; ox < o.columns.y; ox++) {
            let out = (o.out_line + oy) * p.out_width + ox;
            let most = y4[(out * p.y_stride + p.y_offset) / 4u + o.channel];
            var is_first = here == most;
            if any(is_first) {
                for (var jy = begin(oy, p.step_y, p.pad_y); any(is_first) && jy <= o.iy; jy++) {
                    let end = before(o, jy, ox);
                    for (var jx = begin(ox, p.step_x, p.pad_x); any(is_first) && jx < end; jx++) {
                        let other = x4[(((o.line + jy) * p.width + jx) * p.x_stride + p.x_offset) / 4u + o.channel];
                        is_first = is_first & (other != most);
                    }
                }
                sum += select(vec4f(), g4[(out * p.g_stride + p.g_offset) / 4u + o.channel], is_first);
            }
        }
    }
    let at = (o.pixel * p.to_stride + p.to_offset) / 4u + o.channel;
    to4[at] = select(sum, to4[at] + sum, p.add != 0u);
}

@compute @workgroup_size(THREADS)
fn mean_pool_gradient(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let o = over(i, p.channels);
    var sum = 0.0;
    for (var oy = o.rows.x; oy < o.rows.y; oy++) {
        for (var ox = o.columns.x; ox < o.columns.y; ox++) {
            let out = (o.out_line + oy) * p.out_width + ox;
            sum += g[out * p.g_stride + p.g_offset + o.channel] / divisor(oy, ox);
        }
    }
    let at = o.pixel * p.to_stride + p.to_offset + o.channel;
    to[at] = select(sum, to[at] + sum, p.add != 0u);
}

@compute @workgroup_size(THREADS)
fn mean_pool_gradient4(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.count {
        return;
    }
    let o = over(i, p.channels / 4u);
    var sum = vec4f();
    for (var oy = o.rows.x; oy < o.rows.y; oy++) {
        for (var ox = o.columns.x; ox < o.columns.y; ox++) {
            let out = (o.out_line + oy) * p.out_width + ox;
            sum += g4[(out * p.g_stride + p.g_offset) / 4u + o.channel] / divisor(oy, ox);
        }
    }
    let at = (o.pixel * p.to_stride + p.to_offset) / 4u + o.channel;
    to4[at] = select(sum, to4[at] + sum, p.add != 0u);
}
