// What a window of pooling covers along one axis. The parameters `p` of a shader that includes this have a `mode`.

const MAX = 0u;
const MEAN = 1u; // the mean over the part of the window inside the input
const MEAN_PADDED = 2u; // the mean over the part of the window inside the input and its padding
const ADAPTIVE = 3u; // the mean over one of Ho x Wo regions that cover the input

// Along one axis: the first cell of a window inside the input, the end of its cells, and the number of cells by which a
// mean divides.
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
