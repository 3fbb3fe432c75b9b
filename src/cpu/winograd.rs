//! Convolutions of stride 1 by Winograd's minimal filtering: see [`crate::plan::winograd`].
//!
//! Summed over channels, the products of a tile's points are n² matrix products: tiles by input channels times input
//! channels by output channels.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own tiles of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::gemm::{Tiles, down, product};
use super::memory::Floats;
use super::simd::{Isa, Vector, Work};
use super::view::{Out, View};
use crate::graph::tensor::Shape;
use crate::plan::winograd::{MOST, Tiling};
use std::array::from_fn;
use std::ops::Range;

/// A convolution with its filters transformed.
pub struct Winograd {
    isa: Isa,
    tiling: Tiling,
    channels: usize,
    columns: usize,
    /// Panels of two vectors' output channels, the last of one vector where that is enough.
    panels: Floats,
    /// Whether a panel holds filters as they were, (input channels, 3 x 3, columns), which a run transforms.
    /// Otherwise it holds a matrix (input channels, columns) a point.
    plain: bool,
    bias: Floats,
}

/// Tiles up to which filters are transformed by each run. Each of their points is then multiplied so seldom that
/// four times the weights take longer to come from memory than 3 x 3 to be transformed.
const FEW: usize = 16;

/// Floats of a panel of transformed filters that a run may make: beside its input in a second-level cache. AVX-512's
/// panels are larger, and took more than twice as long as filters that come from memory.
const MADE: usize = 64 * 1024;

/// Floats between two points' matrices that are not used. Matrices are mostly multiples of 1 KiB long, and without
/// these all points of a tile would fall on the same few lines of the first-level cache.
const GAP: usize = 16;

/// Floats of transformed input that one run should hold at most: less than half of most second-level caches.
const BLOCK: usize = 128 * 1024;

impl Winograd {
    /// `weight` is OIHW with `channels` inputs; runs will mostly be over so many `tiles`.
    pub fn new(isa: Isa, tiling: Tiling, channels: usize, tiles: usize, weight: &[f32], bias: &[f32]) -> Self {
        assert!(matches!(tiling.side(), 4 | 6), "transforms are written for tiles of 4 and 6");
        let (columns, lanes, area) = (bias.len(), isa.lanes(), tiling.kernel * tiling.kernel);
        let (side, padded) = (tiling.side(), columns.next_multiple_of(lanes));
        let made = side * side * channels * 2 * lanes;
        let plain = (side, tiling.kernel) == (MOST, 3) && tiles <= FEW && made <= MADE;
        let depth = channels * if plain { area } else { side * side };
        let mut panels = Floats::zeros(padded * depth);
        for (o, filters) in weight.chunks_exact(channels * area).enumerate() {
            let first = o / (2 * lanes) * 2 * lanes;
            let width = (2 * lanes).min(padded - first);
            let panel = &mut panels[first * depth..][..width * depth];
            if plain {
                let column = panel[o - first..].iter_mut().step_by(width);
                column.zip(filters).for_each(|(to, v)| *to = *v);
                continue;
            }
            for (c, filter) in tiling.filters(filters).enumerate() {
                for (i, row) in filter[..side].iter().enumerate() {
                    for (l, &value) in row[..side].iter().enumerate() {
                        panel[((i * side + l) * channels + c) * width + o - first] = value as f32;
                    }
                }
            }
        }
        let mut padded_bias = Floats::zeros(padded);
        padded_bias[..columns].copy_from_slice(bias);
        Winograd { isa, tiling, channels, columns, panels, plain, bias: padded_bias }
    }

    pub fn tiling(&self) -> Tiling {
        self.tiling
    }

    pub fn panels(&self) -> usize {
        self.columns.div_ceil(2 * self.isa.lanes())
    }

    /// Tiles that one run should take at most: a multiple of every GEMM tile's height.
    pub fn block(&self) -> usize {
        // Beyond, the products of a panel leave the first-level cache.
        (BLOCK / (self.points() * self.channels)).clamp(8, 24) / 8 * 8
    }

    /// Floats that a run over so many tiles needs beside input and output.
    pub fn scratch(&self, tiles: usize) -> usize {
        // Transformed input, products of one panel, one tile with its border, and a panel of transformed filters.
        let width = 2 * self.isa.lanes();
        let filters = if self.plain { self.apart(width) } else { 0 };
        self.points() * (self.apart(tiles) + tiles * width + self.channels + filters)
    }

    /// Floats from a point's matrix in the scratch to the next: of so many tiles, or of filters so wide.
    fn apart(&self, across: usize) -> usize {
        self.channels * across + GAP
    }

    fn points(&self) -> usize {
        self.tiling.side() * self.tiling.side()
    }

    /// Computes these tiles (counted through the batch, row by row) of these panels' channels.
    ///
    /// # Safety
    /// Nothing else uses these tiles and channels of `out`.
    pub unsafe fn run(
        &self,
        x: Source<'_>,
        out: Out<'_>,
        tiles: Range<usize>,
        panels: Range<usize>,
        relu: bool,
        scratch: &mut [f32],
    ) {
        let [down, across] = self.tiling.grid(out.shape);
        assert!(tiles.end <= out.shape.n * down * across && panels.end <= self.panels(), "tiles beyond the output");
        let View { data, stride, shape } = x.view;
        assert!(
            shape.c == self.channels && data.len() >= (shape.pixels() - 1) * stride + shape.c,
            "the input is too short"
        );
        assert!(scratch.len() >= self.scratch(tiles.len()) && out.shape.c == self.columns);
        self.isa.run((Call { layer: self, x, out, tiles, panels, relu }, scratch));
    }
}

/// Where tiles come from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub view: View<'a>,
    /// Which picture of the batch the view begins with.
    pub image: usize,
    /// The output's rows and columns before the view's first: its padding, or where a part of the input begins.
    pub origin: [usize; 2],
}

/// One call of [`Winograd::run`].
struct Call<'a> {
    layer: &'a Winograd,
    x: Source<'a>,
    out: Out<'a>,
    tiles: Range<usize>,
    panels: Range<usize>,
    relu: bool,
}

/// A call and its scratch.
impl Work for (Call<'_>, &mut [f32]) {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: `Winograd::run` checked the ranges, and its caller vouches for the output.
        unsafe {
            let (call, scratch) = self;
            match (call.layer.tiling.side(), call.layer.tiling.outputs) {
                (4, _) => call.compute::<V, 4, 2>(scratch),
                (_, 2) => call.compute::<V, 6, 2>(scratch),
                (_, 3) => call.compute::<V, 6, 3>(scratch),
                (..) => call.compute::<V, 6, 4>(scratch),
            }
        }
    }
}

impl Call<'_> {
    /// # Safety
    /// As [`Winograd::run`], the tiling being SIDE wide and giving OUTPUTS.
    #[inline(always)]
    unsafe fn compute<V: Vector, const SIDE: usize, const OUTPUTS: usize>(&self, scratch: &mut [f32]) {
        let Winograd { channels, columns, .. } = *self.layer;
        let (count, points) = (self.tiles.len(), SIDE * SIDE);
        let matrix = self.layer.apart(count);
        let (transformed, rest) = scratch.split_at_mut(points * matrix);
        let (products, rest) = rest.split_at_mut(points * count * 2 * V::LANES);
        let (patch, filters) = rest.split_at_mut(points * channels);
        // SAFETY: the pieces of the scratch are as long as was just cut; the rest is the caller's.
        unsafe {
            self.forward::<V, SIDE>(transformed, patch);
            for panel in self.panels.clone() {
                let column = panel * 2 * V::LANES;
                let wide = columns - column > V::LANES;
                let width = if wide { 2 * V::LANES } else { V::LANES };
                let (b, step) = if SIDE == MOST && self.layer.plain {
                    let from = self.layer.panels[column * 9 * channels..].as_ptr();
                    let step = self.layer.apart(width);
                    transform_filters::<V>(from, channels, width, filters, step);
                    (filters.as_ptr(), step)
                } else {
                    (self.layer.panels[column * points * channels..].as_ptr(), channels * width)
                };
                let pitch = points * 2 * V::LANES;
                for point in 0..points {
                    let a = transformed.as_ptr().add(point * matrix);
                    let to = products.as_mut_ptr().add(point * 2 * V::LANES);
                    let b = b.add(point * step);
                    if wide {
                        Point::<2> { a, channels, b, to, pitch }.multiply::<V>(count);
                    } else {
                        Point::<1> { a, channels, b, to, pitch }.multiply::<V>(count);
                    }
                }
                self.inverse::<V, SIDE, OUTPUTS>(products, column);
            }
        }
    }

    /// Picture, row and column where a tile's output begins.
    #[inline(always)]
    fn origin(&self, tile: usize, outputs: usize) -> [usize; 3] {
        let [high, across] = self.layer.tiling.grid(self.out.shape);
        let (n, tile) = (tile / (high * across), tile % (high * across));
        [n, tile / across * outputs, tile % across * outputs]
    }

    /// Transforms every tile.
    ///
    /// # Safety
    /// The machine has V; `transformed` has a float a point, tile and channel, and `patch` as many as a tile.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    // By itself, since V8 divides registers function by function: amid other code the innermost loops spill.
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn forward<V: Vector, const SIDE: usize>(&self, transformed: &mut [f32], patch: &mut [f32]) {
        let channels = self.layer.channels;
        let matrix = self.layer.apart(self.tiles.len());
        for (i, tile) in self.tiles.clone().enumerate() {
            let [n, y, x] = self.origin(tile, self.layer.tiling.outputs);
            // SAFETY: the caller's; `gather` gives a tile of all channels.
            unsafe {
                let to = transformed.as_mut_ptr().add(i * channels);
                let (from, pitch, step) = self.gather::<SIDE>(n, y, x, patch);
                forward_tile::<V, SIDE>(from, pitch, step, channels, to, matrix);
            }
        }
    }

    /// Transforms a panel's products back, adds the bias, and writes them.
    ///
    /// # Safety
    /// The machine has V; `products` has two vectors a tile and point; the rest as [`Winograd::run`].
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn inverse<V: Vector, const SIDE: usize, const OUTPUTS: usize>(&self, products: &[f32], column: usize) {
        let Shape { h, w, c, .. } = self.out.shape;
        let points = SIDE * SIDE;
        // Without ReLU nothing is raised.
        let floor = V::splat(if self.relu { 0.0 } else { f32::NEG_INFINITY });
        for column in (column..c.min(column + 2 * V::LANES)).step_by(V::LANES) {
            let count = (c - column).min(V::LANES);
            let half = column % (2 * V::LANES);
            for (i, tile) in self.tiles.clone().enumerate() {
                let [n, y, x] = self.origin(tile, OUTPUTS);
                let (rows, columns) = (OUTPUTS.min(h - y), OUTPUTS.min(w - x));
                let pixel = (n * h + y) * w + x;
                // SAFETY: the caller's; `at` sees to the bounds of each row.
                unsafe {
                    let bias = V::load(self.layer.bias.as_ptr().add(column));
                    let from = products.as_ptr().add(i * points * 2 * V::LANES + half);
                    let all = inverse_tile::<V, SIDE, OUTPUTS>(from, bias, floor);
                    let row = |y| self.out.at(pixel + y * w, column, (columns - 1) * self.out.stride + count);
                    if (rows, columns, count) == (OUTPUTS, OUTPUTS, V::LANES) {
                        for (y, values) in all.iter().enumerate().take(OUTPUTS) {
                            let to = row(y);
                            for (x, v) in values.iter().enumerate().take(OUTPUTS) {
                                v.store(to.add(x * self.out.stride));
                            }
                        }
                    } else {
                        for (y, values) in all.iter().enumerate().take(rows) {
                            let to = row(y);
                            for (x, v) in values.iter().enumerate().take(columns) {
                                v.store_first(to.add(x * self.out.stride), count);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The input of the tile whose output begins at (y, x): a pointer, and the floats between its rows and
    /// between its columns. Beyond the input's edges lie zeros, in a copy.
    #[inline(always)]
    fn gather<const SIDE: usize>(&self, n: usize, y: usize, x: usize, patch: &mut [f32]) -> (*const f32, usize, usize) {
        let Source { view: View { data, stride, shape }, image, origin: [top, left] } = self.x;
        let n = n - image;
        if y >= top && x >= left && y - top + SIDE <= shape.h && x - left + SIDE <= shape.w {
            let first = (n * shape.h + y - top) * shape.w + x - left;
            return (data[first * stride..].as_ptr(), shape.w * stride, stride);
        }
        let c = shape.c;
        let patch = &mut patch[..SIDE * SIDE * c];
        patch.fill(0.0);
        // Of the tile's columns, those that lie inside the input.
        let start = left.saturating_sub(x).min(SIDE);
        let end = (shape.w + left).saturating_sub(x).min(SIDE);
        for (i, row) in patch.chunks_exact_mut(SIDE * c).enumerate() {
            let y = (y + i).wrapping_sub(top);
            if y >= shape.h || start >= end {
                continue;
            }
            let first = (n * shape.h + y) * shape.w + x + start - left;
            if stride == c {
                row[start * c..end * c].copy_from_slice(&data[first * c..][..(end - start) * c]);
            } else {
                for (i, pixel) in row[start * c..end * c].chunks_exact_mut(c).enumerate() {
                    pixel.copy_from_slice(self.x.view.pixel(first + i));
                }
            }
        }
        (patch.as_ptr(), SIDE * c, c)
    }
}

/// G g G', where tiles are 6 wide, for every channel and vector of a panel `width` floats wide: point (i, j) of
/// channel c goes to `to[(i * 6 + j) * step + c * width..]`.
///
/// # Safety
/// The machine has V; `from` points to nine rows of `width` a channel.
#[cfg_attr(not(target_family = "wasm"), inline(always))]
#[cfg_attr(target_family = "wasm", inline(never))]
unsafe fn transform_filters<V: Vector>(from: *const f32, channels: usize, width: usize, to: &mut [f32], step: usize) {
    assert!(to.len() >= (MOST * MOST - 1) * step + channels * width);
    let vectors = (0..channels).flat_map(|c| (0..width).step_by(V::LANES).map(move |i| (c, i)));
    for (c, i) in vectors {
        // SAFETY: the caller's, and what was asserted.
        unsafe {
            let from = from.add(c * 9 * width + i);
            let mut to = to.as_mut_ptr().add(c * width + i);
            let columns: [[V; MOST]; 3] = from_fn(|x| filter(from_fn(|y| V::load(from.add((y * 3 + x) * width)))));
            let rows: [[V; 3]; MOST] = from_fn(|y| from_fn(|x| columns[x][y]));
            for row in rows {
                for v in filter(row) {
                    v.store(to);
                    to = to.wrapping_add(step);
                }
            }
        }
    }
}

/// G g: row i is the powers of point i, over the product of its distances to the others.
#[inline(always)]
fn filter<V: Vector>([g0, g1, g2]: [V; 3]) -> [V; MOST] {
    let near = V::splat(-2.0 / 3.0).mul_add(g0, V::splat(-1.0 / 3.0).mul(g2));
    let near_odd = V::splat(-std::f32::consts::SQRT_2 / 3.0).mul(g1);
    let far = V::splat(1.0 / 6.0).mul_add(g0, V::splat(1.0 / 3.0).mul(g2));
    let far_odd = V::splat(std::f32::consts::SQRT_2 / 6.0).mul(g1);
    [g0, near.add(near_odd), near.sub(near_odd), far.add(far_odd), far.sub(far_odd), g2]
}

/// B' d B for every channel of one tile: point (i, j) of channel c goes to `to[(i * SIDE + j) * to_pitch + c]`.
///
/// # Safety
/// `from` points to SIDE rows `pitch` apart of SIDE pixels `step` apart, `to` to a float a point and channel.
#[inline(always)]
unsafe fn forward_tile<V: Vector, const SIDE: usize>(
    from: *const f32,
    pitch: usize,
    step: usize,
    channels: usize,
    to: *mut f32,
    to_pitch: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let full = channels / V::LANES * V::LANES;
        for c in (0..full).step_by(V::LANES) {
            forward_channels::<V, SIDE>(from.add(c), pitch, step, V::LANES, to.add(c), to_pitch);
        }
        if full < channels {
            forward_channels::<V, SIDE>(from.add(full), pitch, step, channels - full, to.add(full), to_pitch);
        }
    }
}

/// [`forward_tile`] for a vector of channels, or for its first `count`.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn forward_channels<V: Vector, const SIDE: usize>(
    from: *const f32,
    pitch: usize,
    step: usize,
    count: usize,
    to: *mut f32,
    to_pitch: usize,
) {
    let zero = V::splat(0.0);
    // SAFETY: the caller's.
    unsafe {
        let load = |y, x| if y < SIDE { V::load_first(from.add(y * pitch + x * step), count) } else { zero };
        let columns: [[V; MOST]; MOST] =
            from_fn(|x| if x < SIDE { forward::<V, SIDE>(from_fn(|y| load(y, x))) } else { [zero; MOST] });
        let rows: [[V; MOST]; MOST] = from_fn(|y| from_fn(|x| columns[x][y]));
        for (y, row) in rows.into_iter().enumerate().take(SIDE) {
            for (x, v) in forward::<V, SIDE>(row).into_iter().enumerate().take(SIDE) {
                v.store_first(to.add((y * SIDE + x) * to_pitch), count);
            }
        }
    }
}

/// B' d: row i is the product of (x - q) over the points q other than i, in the coefficients of x.
#[inline(always)]
fn forward<V: Vector, const SIDE: usize>(d: [V; MOST]) -> [V; MOST] {
    let zero = V::splat(0.0);
    if SIDE == 4 {
        let [d0, d1, d2, d3, ..] = d;
        return [d2.sub(d0), d1.add(d2), d2.sub(d1), d3.sub(d1), zero, zero];
    }
    let [d0, d1, d2, d3, d4, d5] = d;
    let (r, s) = (V::splat(std::f32::consts::FRAC_1_SQRT_2), V::splat(std::f32::consts::SQRT_2));
    let minus = V::splat(-2.5);
    let near = V::splat(-2.0).mul_add(d2, d4);
    let near_odd = r.mul(d3).sub(s.mul(d1));
    let far = V::splat(-0.5).mul_add(d2, d4);
    let far_odd = s.mul(d3).sub(r.mul(d1));
    [
        minus.mul_add(d2, d0.add(d4)),
        near.add(near_odd),
        near.sub(near_odd),
        far.add(far_odd),
        far.sub(far_odd),
        minus.mul_add(d3, d1.add(d5)),
    ]
}

/// A' m: row j is the points' j-th powers; infinity counts in the last.
#[inline(always)]
fn inverse<V: Vector, const SIDE: usize, const OUTPUTS: usize>(m: [V; MOST]) -> [V; MOST] {
    let zero = V::splat(0.0);
    if SIDE == 4 {
        let [m0, m1, m2, m3, ..] = m;
        return [m0.add(m1).add(m2), m1.sub(m2).add(m3), zero, zero, zero, zero];
    }
    let [m0, m1, m2, m3, m4, m5] = m;
    let (r, s) = (V::splat(std::f32::consts::FRAC_1_SQRT_2), V::splat(std::f32::consts::SQRT_2));
    let (near, near_odd) = (m1.add(m2), m1.sub(m2));
    let (far, far_odd) = (m3.add(m4), m3.sub(m4));
    let constant = m0.add(near).add(far);
    let linear = r.mul_add(near_odd, s.mul(far_odd));
    let square = V::splat(0.5).mul_add(near, far.add(far));
    match OUTPUTS {
        2 => [constant, linear.add(m5), zero, zero, zero, zero],
        3 => [constant, linear, square.add(m5), zero, zero, zero],
        _ => {
            let near_odd = V::splat(std::f32::consts::SQRT_2 / 4.0).mul(near_odd);
            let cube = V::splat(std::f32::consts::SQRT_2 * 2.0).mul_add(far_odd, near_odd);
            [constant, linear, square, cube.add(m5), zero, zero]
        }
    }
}

/// A' M A and bias, nothing under `floor`, for a vector of channels; `from` has points two vectors apart.
///
/// # Safety
/// `from` points to SIDE² vectors.
#[inline(always)]
unsafe fn inverse_tile<V: Vector, const SIDE: usize, const OUTPUTS: usize>(
    from: *const f32,
    bias: V,
    floor: V,
) -> [[V; MOST]; MOST] {
    let zero = V::splat(0.0);
    // SAFETY: the caller's.
    let load = |y, x| if y < SIDE { unsafe { V::load(from.add((y * SIDE + x) * 2 * V::LANES)) } } else { zero };
    let columns: [[V; MOST]; MOST] =
        from_fn(|x| if x < SIDE { inverse::<V, SIDE, OUTPUTS>(from_fn(|y| load(y, x))) } else { [zero; MOST] });
    from_fn(|y| {
        if y >= OUTPUTS {
            return [zero; MOST];
        }
        inverse::<V, SIDE, OUTPUTS>(from_fn(|x| columns[x][y])).map(|v| v.add(bias).max(floor))
    })
}

/// The matrix product of one point: tiles times a panel WIDTH vectors wide.
struct Point<const WIDTH: usize> {
    /// A row of `channels` a tile.
    a: *const f32,
    channels: usize,
    /// A row of WIDTH vectors a channel.
    b: *const f32,
    /// Two vectors a tile, `pitch` apart.
    to: *mut f32,
    pitch: usize,
}

impl<const WIDTH: usize> Point<WIDTH> {
    /// # Safety
    /// The machine has V; there are `count` rows and tiles.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn multiply<V: Vector>(&mut self, count: usize) {
        // SAFETY: the caller's.
        unsafe { down::<V, _>(0..count, self) }
    }
}

impl<const WIDTH: usize> Tiles for Point<WIDTH> {
    const TALL: bool = WIDTH == 2;

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        // SAFETY: the rows are there, says the caller, and as long as the fields say.
        unsafe {
            let a: [*const f32; ROWS] = from_fn(|r| self.a.add((row + r) * self.channels));
            let sums = product(a, self.channels, self.b, [[V::splat(0.0); WIDTH]; ROWS]);
            for (r, sum) in sums.into_iter().enumerate() {
                for (i, sum) in sum.into_iter().enumerate() {
                    sum.store(self.to.add((row + r) * self.pitch + i * V::LANES));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn every_tiling_is_a_convolution() {
        for isa in Isa::available() {
            for (outputs, kernel) in [(4, 3), (2, 3), (2, 5), (3, 4)] {
                let tiling = Tiling { outputs, kernel };
                for (n, h, w, channels, columns) in
                    [(1, 7, 7, 4, 8), (2, 5, 9, 3, 5), (1, 13, 6, 20, 37), (1, 18, 17, 5, 21)]
                {
                    let shape = Shape::new(n, h, w, channels);
                    let (x, weight) = (values(shape.len(), 1), values(columns * channels * kernel * kernel, 2));
                    let bias = values(columns, 3);
                    let pad = [kernel / 2, (kernel - 1) / 2];
                    // As many outputs as inputs; an even kernel sees one more below.
                    let out_shape = Shape::new(n, h, w, columns);
                    let [down, across] = tiling.grid(out_shape);
                    let tiles = n * down * across;
                    let layer = Winograd::new(isa, tiling, channels, tiles, &weight, &bias);
                    let mut out = vec![0.0; out_shape.len()];
                    let mut scratch = vec![0.0; layer.scratch(tiles)];
                    let view = View { data: &x, stride: channels, shape };
                    let source = Source { view, image: 0, origin: pad };
                    let to = Out::new(&mut out, columns, out_shape);
                    // SAFETY: `out` is ours alone.
                    unsafe { layer.run(source, to, 0..tiles, 0..layer.panels(), false, &mut scratch) };
                    for (i, &got) in out.iter().enumerate() {
                        let (p, o) = (i / columns, i % columns);
                        let (image, oy, ox) = (p / (h * w), p / w % h, p % w);
                        let mut sum = bias[o] as f64;
                        for ky in 0..kernel {
                            for kx in 0..kernel {
                                let (y, x_at) = ((oy + ky).wrapping_sub(pad[0]), (ox + kx).wrapping_sub(pad[1]));
                                if y < h && x_at < w {
                                    for c in 0..channels {
                                        let v = x[((image * h + y) * w + x_at) * channels + c] as f64;
                                        let k = weight[((o * channels + c) * kernel + ky) * kernel + kx] as f64;
                                        sum += v * k;
                                    }
                                }
                            }
                        }
                        assert!(
                            (got as f64 - sum).abs() < 1e-4,
                            "{isa}, F({outputs},{kernel}), {shape} to {columns}, element {i}: {got}, expected {sum}"
                        );
                    }
                }
            }
        }
    }
}
