// The windows of pooling: the parameters, the input cells of a window, and the reduction of four channels. Requires
// shared/limits.wgsl and shared/pool_span.wgsl to be included first.

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

// The window of an output element.
struct Under {
    pixel: u32,
    channel: u32, // or the group of four channels
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

// The maximum and the sum of four channels over a window.
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
