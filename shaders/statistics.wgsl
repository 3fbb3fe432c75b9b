// Statistics of activations: `channels` computes the mean, the maximum, the minimum and the share of zeros of each
// channel; `map` extracts the values of one channel.
// Specification: src/inspect/statistics.rs. CPU twin: src/cpu/statistics.rs.

//#include shared/limits.wgsl

struct Params {
    first_pixel: u32, // the first pixel of the picture in the batch
    pixels: u32, // the number of pixels of one picture
    channels: u32,
    offset: u32,
    stride: u32,
    channel: u32, // the channel that `map` extracts
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, stride)
@group(0) @binding(2) var<storage, read_write> y: array<f32>; // (channels, 4), or (pixels)

// Adjacent threads read adjacent channels: 16 threads along the channels, which is one cache line, and 16 along the
// pixels.
const SIDE = 16u;

var<workgroup> part: array<vec4f, 256>; // sum, maximum, minimum, number of zeros

fn merged(a: vec4f, b: vec4f) -> vec4f {
    return vec4f(a.x + b.x, max(a.y, b.y), min(a.z, b.z), a.w + b.w);
}

@compute @workgroup_size(256)
fn channels(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let channel = group.x * SIDE + thread % SIDE;
    let line = thread / SIDE;
    var all = vec4f(0.0, -GREATEST, GREATEST, 0.0);
    if channel < p.channels {
        for (var i = line; i < p.pixels; i += SIDE) {
            let value = f32(x[(p.first_pixel + i) * p.stride + p.offset + channel]);
            all = merged(all, vec4f(value, value, value, select(0.0, 1.0, value == 0.0)));
        }
    }
    part[thread] = all;
    workgroupBarrier();
    for (var half = SIDE / 2u; half > 0u; half /= 2u) {
        if line < half {
            part[thread] = merged(part[thread], part[thread + half * SIDE]);
        }
        workgroupBarrier();
    }
    if line == 0u && channel < p.channels {
        let whole = part[thread];
        let count = f32(p.pixels);
        y[channel * 4u] = whole.x / count;
        y[channel * 4u + 1u] = whole.y;
        y[channel * 4u + 2u] = whole.z;
        y[channel * 4u + 3u] = whole.w / count;
    }
}

@compute @workgroup_size(64)
fn map(@builtin(global_invocation_id) at: vec3u) {
    if at.x < p.pixels {
        y[at.x] = f32(x[(p.first_pixel + at.x) * p.stride + p.offset + p.channel]);
    }
}
