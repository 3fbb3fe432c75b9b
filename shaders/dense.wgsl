// Fully connected layer with bias and optional ReLU: y[n, o] = b[o] + sum over i of x[n, i] * w[i, o], where i runs
// over H, W and C of a picture. A workgroup computes 32 outputs of one picture; 32 threads share the sum of four
// outputs.
// CPU twin: src/cpu/ops/dense.rs.

struct Params {
    inputs: u32, // H * W * C
    channels: u32, // C
    pixels: u32, // H * W
    x_offset: u32,
    x_stride: u32,
    outputs: u32,
    y_offset: u32,
    y_stride: u32,
    relu: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, x_stride)
@group(0) @binding(2) var<storage, read> w: array<weight4>; // (H, W, C, Out/4)
@group(0) @binding(3) var<storage, read> b: array<vec4f>; // (Out/4)
@group(0) @binding(4) var<storage, read_write> y: array<real>; // (N, y_stride)

const QUADS = 8u; // the number of groups of four outputs in a workgroup
const PARTS = 32u; // the number of threads that share one sum
const THREADS = 256u;

var<workgroup> part: array<vec4f, 256>; // (PARTS, QUADS)

@compute @workgroup_size(THREADS)
fn dense(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
    let vec4_channels = (p.outputs + 3u) / 4u;
    let vec4_channel = group.x * QUADS + thread % QUADS;
    let image = group.y;
    var sum = vec4f();
    if vec4_channel < vec4_channels {
        for (var i = thread / QUADS; i < p.inputs; i += PARTS) {
            let pixel = i / p.channels;
            let at = (image * p.pixels + pixel) * p.x_stride + p.x_offset + i - pixel * p.channels;
            sum += f32(x[at]) * vec4f(w[i * vec4_channels + vec4_channel]);
        }
    }
    part[thread] = sum;
    workgroupBarrier();
    for (var half = THREADS / 2u; half >= QUADS; half /= 2u) {
        if thread < half {
            part[thread] += part[thread + half];
        }
        workgroupBarrier();
    }
    if thread >= QUADS || vec4_channel >= vec4_channels {
        return;
    }
    var value = part[thread] + b[vec4_channel];
    if p.relu != 0u {
        value = max(value, vec4f());
    }
    let at = image * p.y_stride + p.y_offset;
    for (var j = 0u; j < min(4u, p.outputs - vec4_channel * 4u); j++) {
        y[at + vec4_channel * 4u + j] = real(value[j]);
    }
}
