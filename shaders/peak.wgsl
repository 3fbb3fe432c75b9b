// Measures the peak performance of an adapter: `multiply` only multiplies and adds in registers, `copy` only copies
// memory. Run by src/gpu/peak.rs.

struct Params {
    rounds: u32, // the number of rounds of `multiply`
    count: u32, // the number of vectors that `copy` copies
    factor: f32,
    summand: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

const THREADS = 256u;

// Each thread has eight independent chains of vectors, so that no instruction waits for the previous result. That makes
// 32 multiply-adds in each round.
@compute @workgroup_size(THREADS)
fn multiply(@builtin(global_invocation_id) at: vec3u) {
    let a = vec4f(p.factor);
    let b = vec4f(p.summand);
    let first = vec4f(f32(at.x));
    var c0 = first;
    var c1 = first + 1.0;
    var c2 = first + 2.0;
    var c3 = first + 3.0;
    var c4 = first + 4.0;
    var c5 = first + 5.0;
    var c6 = first + 6.0;
    var c7 = first + 7.0;
    for (var i = 0u; i < p.rounds; i += 1u) {
        c0 = fma(c0, a, b);
        c1 = fma(c1, a, b);
        c2 = fma(c2, a, b);
        c3 = fma(c3, a, b);
        c4 = fma(c4, a, b);
        c5 = fma(c5, a, b);
        c6 = fma(c6, a, b);
        c7 = fma(c7, a, b);
    }
    y[at.x % p.count] = (c0 + c1) + (c2 + c3) + ((c4 + c5) + (c6 + c7));
}

@compute @workgroup_size(THREADS)
fn copy(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = (group.y * groups.x + group.x) * THREADS + thread;
    if i < p.count {
        y[i] = x[i];
    }
}
