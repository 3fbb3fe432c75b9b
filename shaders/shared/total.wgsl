// Sums and maxima over the 256 threads of a workgroup, in a fixed order.

const GROUP = 256u;

var<workgroup> part: array<f32, 256>;

fn greatest(thread: u32, value: f32) -> f32 {
    part[thread] = value;
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        if thread < half {
            part[thread] = max(part[thread], part[thread + half]);
        }
        workgroupBarrier();
    }
    let most = part[0];
    workgroupBarrier();
    return most;
}

fn total(thread: u32, value: f32) -> f32 {
    part[thread] = value;
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        if thread < half {
            part[thread] += part[thread + half];
        }
        workgroupBarrier();
    }
    let sum = part[0];
    workgroupBarrier();
    return sum;
}
