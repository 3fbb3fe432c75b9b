// Draws activations as a contact sheet with one tile for each channel. `extent` finds the smallest and largest value of
// each tile, `merge` those of the whole sheet, and `draw` colours a band of the sheet's rows.
// Specification: src/inspect/contact_sheet.rs. CPU twin: src/cpu/contact_sheet.rs.

//#include shared/invocation.wgsl
//#include shared/limits.wgsl

struct Params {
    first_pixel: u32, // the first pixel of the picture in the batch
    height: u32, // of the activations
    width: u32,
    offset: u32,
    stride: u32,
    tiles: u32,
    columns: u32, // the number of tiles in a row
    scale: u32, // the side of an activation on the sheet, in pixels
    gap: u32, // the space between tiles, in pixels
    sheet_width: u32,
    first_row: u32, // the first row of this band
    rows: u32, // the number of rows of this band
    range: u32,
    low: f32, // the ends of a fixed range
    high: f32,
    diverging: u32, // whether the range is made symmetric around zero
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<real>; // (N, H, W, stride)
@group(0) @binding(2) var<storage, read> channels: array<u32>; // (tiles)
@group(0) @binding(3) var<storage, read_write> extents: array<vec2f>; // (tiles + 1) min, max; the last are the sheet's
@group(0) @binding(4) var<storage, read> table: array<u32>; // (256) RGBA, with red in the low byte
@group(0) @binding(5) var<storage, read_write> sheet: array<u32>; // (rows, sheet_width) RGBA

const CHANNEL = 0u;
const SHEET = 1u;
const FIXED = 2u;

var<workgroup> part: array<vec2f, 64>;

// The smallest and largest value of all threads.
fn reduce(thread: u32, value: vec2f) -> vec2f {
    part[thread] = value;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            let a = part[thread];
            let b = part[thread + half];
            part[thread] = vec2f(min(a.x, b.x), max(a.y, b.y));
        }
        workgroupBarrier();
    }
    return part[0];
}

@compute @workgroup_size(THREADS)
fn extent(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = group.y * groups.x + group.x;
    if tile >= p.tiles {
        return;
    }
    var range = vec2f(GREATEST, -GREATEST);
    for (var i = thread; i < p.height * p.width; i += THREADS) {
        let value = f32(x[(p.first_pixel + i) * p.stride + p.offset + channels[tile]]);
        range = vec2f(min(range.x, value), max(range.y, value));
    }
    range = reduce(thread, range);
    if thread == 0u {
        extents[tile] = range;
    }
}

@compute @workgroup_size(THREADS)
fn merge(@builtin(local_invocation_index) thread: u32) {
    var range = vec2f(GREATEST, -GREATEST);
    for (var i = thread; i < p.tiles; i += THREADS) {
        range = vec2f(min(range.x, extents[i].x), max(range.y, extents[i].y));
    }
    range = reduce(thread, range);
    if thread == 0u {
        extents[p.tiles] = range;
    }
}

@compute @workgroup_size(THREADS)
fn draw(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let i = element(group, groups, thread);
    if i >= p.rows * p.sheet_width {
        return;
    }
    let row = i / p.sheet_width + p.first_row;
    let col = i % p.sheet_width;
    let tall = p.height * p.scale + p.gap;
    let wide = p.width * p.scale + p.gap;
    let tile = row / tall * p.columns + col / wide;
    let cell_y = row % tall / p.scale;
    let cell_x = col % wide / p.scale;
    if tile >= p.tiles || cell_y >= p.height || cell_x >= p.width {
        sheet[i] = 0u;
        return;
    }
    var range = vec2f(p.low, p.high);
    if p.range != FIXED {
        range = extents[select(tile, p.tiles, p.range == SHEET)];
    }
    if p.diverging != 0u {
        let reach = max(abs(range.x), abs(range.y));
        range = vec2f(-reach, reach);
    }
    let value = f32(x[(p.first_pixel + cell_y * p.width + cell_x) * p.stride + p.offset + channels[tile]]);
    let span = range.y - range.x;
    var level = 0u;
    if span > 0.0 {
        level = u32(clamp((value - range.x) / span * 255.0 + 0.5, 0.0, 255.0));
    }
    sheet[i] = table[level];
}
