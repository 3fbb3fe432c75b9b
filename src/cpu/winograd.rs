//! Convolutions with stride 1 by the Winograd algorithm: see [`crate::plan::winograd`].
//!
//! For each of the n² points of a tile, the sum over channels is a matrix product: (tiles, input channels) times (input
//! channels, output channels).

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own tiles of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "train")]
pub mod gradient;

use super::gemm::{Epilogue, Tiles, down, product};
use super::memory::Floats;
use super::simd::{Isa, Vector, Work};
use super::view::{Out, View};
use crate::graph::tensor::Shape;
use crate::plan::winograd::{MOST, Tiling};
use std::ops::Range;

/// A convolution with transformed filters.
pub struct Winograd {
    isa: Isa,
    tiling: Tiling,
    channels: usize,
    columns: usize,
    /// Panels of as many output channels as two vectors have lanes; the last panel has one vector if that is enough.
    panels: Floats,
    /// Whether panels hold untransformed filters (input channels, 3 x 3, columns), which are transformed in each run.
    /// Otherwise a panel holds one matrix (input channels, columns) for each point.
    untransformed: bool,
    bias: Floats,
}

/// The largest number of tiles for which filters are transformed in each run. With so few tiles, the products take
/// little time, and it is faster to transform 3 x 3 weights than to load four times as many from memory.
const MAX_TILES_TRANSFORMED: usize = 16;

/// The largest number of floats of a panel of filters that is transformed in each run. It fits into a second-level
/// cache together with the input. The panels of AVX-512 are larger, and transforming them took more than twice as long
/// as loading transformed filters from memory.
const MAX_PANEL_FLOATS: usize = 64 * 1024;

/// The number of unused floats between the matrices of two points. Most matrices are multiples of 1 KiB long, so
/// without the gap all points of a tile would map to the same few lines of the first-level cache.
const GAP: usize = 16;

/// The largest number of floats of transformed input in one task: less than half of most second-level caches.
const MAX_INPUT_FLOATS: usize = 128 * 1024;

impl Winograd {
    /// Transforms and packs `weight`, which is OIHW with `channels` input channels. `tiles` is the usual number of
    /// tiles in a run.
    pub fn new(isa: Isa, tiling: Tiling, channels: usize, tiles: usize, weight: &[f32], bias: &[f32]) -> Self {
        let mut layer = Self::zeros(isa, tiling, channels, tiles, bias.len());
        layer.bias[..bias.len()].copy_from_slice(bias);
        let (lanes, area, side) = (isa.lanes(), tiling.kernel * tiling.kernel, tiling.side());
        let (padded, depth, untransformed) = (layer.bias.len(), layer.panel_depth(), layer.untransformed);
        let panels = &mut layer.panels;
        for (o, filters) in weight.chunks_exact(channels * area).enumerate() {
            let first = o / (2 * lanes) * 2 * lanes;
            let width = (2 * lanes).min(padded - first);
            let panel = &mut panels[first * depth..][..width * depth];
            if untransformed {
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
        layer
    }

    /// A convolution with filters and biases of zero, for [`Winograd::update`].
    pub fn zeros(isa: Isa, tiling: Tiling, channels: usize, tiles: usize, columns: usize) -> Self {
        assert!(matches!(tiling.side(), 4 | 6), "transforms are written for tiles of 4 and 6");
        let (side, padded) = (tiling.side(), columns.next_multiple_of(isa.lanes()));
        let panel_floats = side * side * channels * 2 * isa.lanes();
        let untransformed =
            (side, tiling.kernel) == (MOST, 3) && tiles <= MAX_TILES_TRANSFORMED && panel_floats <= MAX_PANEL_FLOATS;
        let (panels, bias) = (Floats::default(), Floats::zeros(padded));
        let mut layer = Winograd { isa, tiling, channels, columns, panels, untransformed, bias };
        layer.panels = Floats::zeros(padded * layer.panel_depth());
        layer
    }

    /// The number of rows of a panel.
    fn panel_depth(&self) -> usize {
        self.channels * if self.untransformed { self.tiling.kernel * self.tiling.kernel } else { self.points() }
    }

    /// Replaces the filters, which are (kernel, kernel, input channels, output channels), and the bias. An empty bias
    /// leaves the bias as it is. Unlike [`Winograd::new`], which computes in f64, this transforms vectors of filters in
    /// f32, because it is called in each step of a training.
    #[cfg(feature = "train")]
    pub fn update(&mut self, weights: &[f32], bias: &[f32]) {
        let area = self.tiling.kernel * self.tiling.kernel;
        assert_eq!(weights.len(), area * self.channels * self.columns, "one filter for each pair of channels");
        self.bias[..bias.len()].copy_from_slice(bias);
        self.isa.run(Update { layer: self, weights });
    }

    pub fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// The number of output channels.
    #[cfg(feature = "train")]
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn panels(&self) -> usize {
        self.columns.div_ceil(2 * self.isa.lanes())
    }

    /// The largest number of tiles that one task should take: a multiple of the height of every register tile.
    pub fn block(&self) -> usize {
        // With more tiles, the products of a panel would not fit into the first-level cache.
        (MAX_INPUT_FLOATS / (self.points() * self.channels)).clamp(8, 24) / 8 * 8
    }

    /// The number of scratch floats that a task of this many tiles needs.
    pub fn scratch(&self, tiles: usize) -> usize {
        // The transformed input, the products of one panel, one padded input tile, and a panel of transformed filters.
        let width = 2 * self.isa.lanes();
        let filters = if self.untransformed { self.matrix_pitch(width) } else { 0 };
        self.points() * (self.matrix_pitch(tiles) + tiles * width + self.channels + filters)
    }

    /// The number of floats from the matrix of one point to the next, for `across` tiles or columns of filters.
    fn matrix_pitch(&self, across: usize) -> usize {
        self.channels * across + GAP
    }

    fn points(&self) -> usize {
        self.tiling.side() * self.tiling.side()
    }

    /// Computes these tiles of these panels' channels. Tiles are counted over the batch, row by row.
    ///
    /// # Safety
    /// No other thread may access these tiles and channels of `out`.
    pub unsafe fn run(
        &self,
        x: Source<'_>,
        out: Out<'_>,
        tiles: Range<usize>,
        panels: Range<usize>,
        epilogue: Epilogue,
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
        self.isa.run((Call { layer: self, x, out, tiles, panels, epilogue }, scratch));
    }
}

/// The input of the tiles.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub view: View<'a>,
    /// The picture of the batch with which the view begins.
    pub image: usize,
    /// The row and column of the output that correspond to the view's first pixel: the padding, or the position of a
    /// part of the input.
    pub origin: [usize; 2],
}

/// One call of [`Winograd::update`].
#[cfg(feature = "train")]
struct Update<'a> {
    layer: &'a mut Winograd,
    weights: &'a [f32],
}

#[cfg(feature = "train")]
impl Work for Update<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        if self.layer.untransformed {
            return self.copy::<V>();
        }
        match (self.layer.tiling.side(), self.layer.tiling.kernel) {
            (4, _) => self.transform::<V, 4, 3>(),
            (_, 3) => self.transform::<V, 6, 3>(),
            (_, 4) => self.transform::<V, 6, 4>(),
            (..) => self.transform::<V, 6, 5>(),
        }
    }
}

#[cfg(feature = "train")]
impl Update<'_> {
    /// Packs the filters as they are.
    #[inline(always)]
    fn copy<V: Vector>(&mut self) {
        let Winograd { channels, columns, tiling, ref bias, ref mut panels, .. } = *self.layer;
        let area = tiling.kernel * tiling.kernel;
        for first in (0..bias.len()).step_by(2 * V::LANES) {
            let width = (2 * V::LANES).min(bias.len() - first);
            let count = width.min(columns - first);
            let panel = &mut panels[first * area * channels..][..width * area * channels];
            for (i, to) in panel.chunks_exact_mut(width).enumerate() {
                let row = (i % area * channels + i / area) * columns + first;
                to[..count].copy_from_slice(&self.weights[row..row + count]);
            }
        }
    }

    /// Computes G g G' for each filter, a vector of output channels at a time.
    #[inline(always)]
    fn transform<V: Vector, const SIDE: usize, const KERNEL: usize>(&mut self) {
        let Winograd { channels, columns, tiling, ref bias, ref mut panels, .. } = *self.layer;
        let matrix: [[f32; KERNEL]; SIDE] = tiling.filter_matrix_f32();
        for first in (0..bias.len()).step_by(2 * V::LANES) {
            let width = (2 * V::LANES).min(bias.len() - first);
            let panel = &mut panels[first * SIDE * SIDE * channels..][..width * SIDE * SIDE * channels];
            for c in 0..channels {
                for at in (0..width).step_by(V::LANES) {
                    let count = (columns - first).saturating_sub(at).min(V::LANES);
                    let from = |y: usize, x: usize| ((y * KERNEL + x) * channels + c) * columns + first + at;
                    assert!(count == 0 || from(KERNEL - 1, KERNEL - 1) + count <= self.weights.len());
                    assert!((SIDE * SIDE - 1) * channels * width + c * width + at + V::LANES <= panel.len());
                    // SAFETY: guaranteed by the assertions; no filter lies behind the last one.
                    unsafe {
                        let zero = V::splat(0.0);
                        let mut filter = [[zero; KERNEL]; KERNEL];
                        for (y, row) in filter.iter_mut().enumerate() {
                            for (x, v) in row.iter_mut().enumerate() {
                                *v = V::load_first(self.weights.as_ptr().wrapping_add(from(y, x)), count);
                            }
                        }
                        for i in 0..SIDE {
                            let mut half = [zero; KERNEL];
                            for (x, sum) in half.iter_mut().enumerate() {
                                for (k, m) in matrix[i].iter().enumerate() {
                                    *sum = V::splat(*m).mul_add(filter[k][x], *sum);
                                }
                            }
                            for (j, row) in matrix.iter().enumerate() {
                                let mut sum = zero;
                                for (m, half) in row.iter().zip(half) {
                                    sum = V::splat(*m).mul_add(half, sum);
                                }
                                sum.store(panel.as_mut_ptr().add(((i * SIDE + j) * channels + c) * width + at));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One call of [`Winograd::run`].
struct Call<'a> {
    layer: &'a Winograd,
    x: Source<'a>,
    out: Out<'a>,
    tiles: Range<usize>,
    panels: Range<usize>,
    epilogue: Epilogue,
}

/// A call and its scratch memory.
impl Work for (Call<'_>, &mut [f32]) {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // SAFETY: `Winograd::run` has checked the ranges; the rest is guaranteed by its caller.
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
    /// The same as for [`Winograd::run`]. Tiles must be SIDE wide with OUTPUTS outputs.
    #[inline(always)]
    unsafe fn compute<V: Vector, const SIDE: usize, const OUTPUTS: usize>(&self, scratch: &mut [f32]) {
        let Winograd { channels, columns, .. } = *self.layer;
        let (count, points) = (self.tiles.len(), SIDE * SIDE);
        let matrix = self.layer.matrix_pitch(count);
        let (transformed, rest) = scratch.split_at_mut(points * matrix);
        let (products, rest) = rest.split_at_mut(points * count * 2 * V::LANES);
        let (patch, filters) = rest.split_at_mut(points * channels);
        // SAFETY: the parts of the scratch memory have the sizes computed above; the rest is guaranteed by the caller.
        unsafe {
            self.transform_inputs::<V, SIDE>(transformed, patch);
            for panel in self.panels.clone() {
                let column = panel * 2 * V::LANES;
                let wide = columns - column > V::LANES;
                let width = if wide { 2 * V::LANES } else { V::LANES };
                let (b, step) = if SIDE == MOST && self.layer.untransformed {
                    let from = self.layer.panels[column * 9 * channels..].as_ptr();
                    let step = self.layer.matrix_pitch(width);
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
                self.transform_outputs::<V, SIDE, OUTPUTS>(products, column);
            }
        }
    }

    /// The picture, row and column at which a tile's output begins.
    #[inline(always)]
    fn origin(&self, tile: usize, outputs: usize) -> [usize; 3] {
        let [high, across] = self.layer.tiling.grid(self.out.shape);
        let (n, tile) = (tile / (high * across), tile % (high * across));
        [n, tile / across * outputs, tile % across * outputs]
    }

    /// Applies the input transform to all tiles.
    ///
    /// # Safety
    /// The machine must support V. `transformed` must have room for all points, tiles and channels, and `patch` for one
    /// tile.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    // A function of its own, because V8 allocates registers for whole functions: inside a larger function, the
    // innermost loops would spill registers.
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn transform_inputs<V: Vector, const SIDE: usize>(&self, transformed: &mut [f32], patch: &mut [f32]) {
        let channels = self.layer.channels;
        let matrix = self.layer.matrix_pitch(self.tiles.len());
        for (i, tile) in self.tiles.clone().enumerate() {
            let [n, y, x] = self.origin(tile, self.layer.tiling.outputs);
            // SAFETY: guaranteed by the caller; `input_tile` returns a tile with all channels.
            unsafe {
                let to = transformed.as_mut_ptr().add(i * channels);
                let (from, pitch, step) = self.input_tile::<SIDE>(n, y, x, patch);
                input_transform_tile::<V, SIDE>(from, pitch, step, channels, to, matrix);
            }
        }
    }

    /// Applies the output transform to the products of a panel, adds the bias, and writes the outputs.
    ///
    /// # Safety
    /// The machine must support V. `products` must have two vectors for each tile and point. The rest is the same as
    /// for [`Winograd::run`].
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn transform_outputs<V: Vector, const SIDE: usize, const OUTPUTS: usize>(
        &self,
        products: &[f32],
        column: usize,
    ) {
        let Shape { h, w, c, .. } = self.out.shape;
        let points = SIDE * SIDE;
        // Without ReLU there is no lower bound.
        let floor = V::splat(if self.epilogue.relu { 0.0 } else { f32::NEG_INFINITY });
        for column in (column..c.min(column + 2 * V::LANES)).step_by(V::LANES) {
            let count = (c - column).min(V::LANES);
            let half = column % (2 * V::LANES);
            for (i, tile) in self.tiles.clone().enumerate() {
                let [n, y, x] = self.origin(tile, OUTPUTS);
                let (rows, columns) = (OUTPUTS.min(h - y), OUTPUTS.min(w - x));
                let pixel = (n * h + y) * w + x;
                // SAFETY: guaranteed by the caller; `at` checks the bounds of each row.
                unsafe {
                    let bias = V::load(self.layer.bias.as_ptr().add(column));
                    let from = products.as_ptr().add(i * points * 2 * V::LANES + half);
                    let all = output_transform_tile::<V, SIDE, OUTPUTS>(from, bias, floor);
                    let row = |y| self.out.at(pixel + y * w, column, (columns - 1) * self.out.stride + count);
                    if self.epilogue.add {
                        for (y, values) in all.iter().enumerate().take(rows) {
                            let to = row(y);
                            for (x, v) in values.iter().enumerate().take(columns) {
                                let to = to.add(x * self.out.stride);
                                v.add(V::load_first(to, count)).store_first(to, count);
                            }
                        }
                    } else if (rows, columns, count) == (OUTPUTS, OUTPUTS, V::LANES) {
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

    /// The input of the tile whose output begins at (y, x), see [`patch_of`].
    #[inline(always)]
    fn input_tile<const SIDE: usize>(
        &self,
        n: usize,
        y: usize,
        x: usize,
        patch: &mut [f32],
    ) -> (*const f32, usize, usize) {
        let Source { view, image, origin } = self.x;
        patch_of::<SIDE>(view, n - image, [y, x], origin, patch)
    }
}

/// The input of the tile whose output begins at (y, x) of picture `n`: a pointer, the number of floats between rows, and
/// the number of floats between columns. The input begins at row `top` and column `left` of the output. A tile that
/// crosses the edge of the input is copied to `patch` and padded with zeros.
#[inline(always)]
fn patch_of<const SIDE: usize>(
    View { data, stride, shape }: View<'_>,
    n: usize,
    [y, x]: [usize; 2],
    [top, left]: [usize; 2],
    patch: &mut [f32],
) -> (*const f32, usize, usize) {
    if y >= top && x >= left && y - top + SIDE <= shape.h && x - left + SIDE <= shape.w {
        let first = (n * shape.h + y - top) * shape.w + x - left;
        return (data[first * stride..].as_ptr(), shape.w * stride, stride);
    }
    let c = shape.c;
    let patch = &mut patch[..SIDE * SIDE * c];
    patch.fill(0.0);
    // The columns of the tile that are inside the input.
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
                pixel.copy_from_slice(&data[(first + i) * stride..][..c]);
            }
        }
    }
    (patch.as_ptr(), SIDE * c, c)
}

/// The filter transform G g G' for tiles of side 6, for every channel and vector of a panel that is `width` floats
/// wide. Point (i, j) of channel c is written to `to[(i * 6 + j) * step + c * width..]`.
///
/// # Safety
/// The machine must support V. `from` must point to nine rows of `width` floats for each channel.
#[cfg_attr(not(target_family = "wasm"), inline(always))]
#[cfg_attr(target_family = "wasm", inline(never))]
unsafe fn transform_filters<V: Vector>(from: *const f32, channels: usize, width: usize, to: &mut [f32], step: usize) {
    assert!(to.len() >= (MOST * MOST - 1) * step + channels * width);
    let vectors = (0..channels).flat_map(|c| (0..width).step_by(V::LANES).map(move |i| (c, i)));
    for (c, i) in vectors {
        // SAFETY: guaranteed by the caller and the assertion.
        unsafe {
            let from = from.add(c * 9 * width + i);
            let mut to = to.as_mut_ptr().add(c * width + i);
            let zero = V::splat(0.0);
            let mut columns = [[zero; MOST]; 3];
            for (x, column) in columns.iter_mut().enumerate() {
                let mut filter = [zero; 3];
                for (y, v) in filter.iter_mut().enumerate() {
                    *v = V::load(from.add((y * 3 + x) * width));
                }
                *column = filter_transform(filter);
            }
            let [first, second, third] = columns;
            for ((a, b), c) in first.into_iter().zip(second).zip(third) {
                for v in filter_transform([a, b, c]) {
                    v.store(to);
                    to = to.wrapping_add(step);
                }
            }
        }
    }
}

/// G g in one dimension: row i has the powers of point i, divided by the product of its distances to the other points.
#[inline(always)]
fn filter_transform<V: Vector>([g0, g1, g2]: [V; 3]) -> [V; MOST] {
    let near = V::splat(-2.0 / 3.0).mul_add(g0, V::splat(-1.0 / 3.0).mul(g2));
    let near_odd = V::splat(-std::f32::consts::SQRT_2 / 3.0).mul(g1);
    let far = V::splat(1.0 / 6.0).mul_add(g0, V::splat(1.0 / 3.0).mul(g2));
    let far_odd = V::splat(std::f32::consts::SQRT_2 / 6.0).mul(g1);
    [g0, near.add(near_odd), near.sub(near_odd), far.add(far_odd), far.sub(far_odd), g2]
}

/// The input transform B' d B of one tile, for every channel. Point (i, j) of channel c is written to
/// `to[(i * SIDE + j) * to_pitch + c]`.
///
/// # Safety
/// `from` must point to SIDE rows, `pitch` floats apart, of SIDE pixels, `step` floats apart. `to` must have room for
/// all points and channels. The machine must support V.
#[inline(always)]
unsafe fn input_transform_tile<V: Vector, const SIDE: usize>(
    from: *const f32,
    pitch: usize,
    step: usize,
    channels: usize,
    to: *mut f32,
    to_pitch: usize,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let full = channels / V::LANES * V::LANES;
        for c in (0..full).step_by(V::LANES) {
            input_transform_channels::<V, SIDE>(from.add(c), pitch, step, V::LANES, to.add(c), to_pitch);
        }
        if full < channels {
            input_transform_channels::<V, SIDE>(from.add(full), pitch, step, channels - full, to.add(full), to_pitch);
        }
    }
}

/// The input transform of one tile, for the first `count` channels, which are at most a vector.
///
/// # Safety
/// The same as for [`input_transform_tile`].
#[inline(always)]
unsafe fn input_transform_channels<V: Vector, const SIDE: usize>(
    from: *const f32,
    pitch: usize,
    step: usize,
    count: usize,
    to: *mut f32,
    to_pitch: usize,
) {
    let zero = V::splat(0.0);
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut columns = [[zero; MOST]; MOST];
        for (x, column) in columns.iter_mut().enumerate().take(SIDE) {
            let mut d = [zero; MOST];
            for (y, v) in d.iter_mut().enumerate().take(SIDE) {
                *v = V::load_first(from.add(y * pitch + x * step), count);
            }
            *column = input_transform::<V, SIDE>(d);
        }
        for y in 0..SIDE {
            let mut row = [zero; MOST];
            for (v, column) in row.iter_mut().zip(&columns) {
                *v = column[y];
            }
            for (x, v) in input_transform::<V, SIDE>(row).into_iter().enumerate().take(SIDE) {
                v.store_first(to.add((y * SIDE + x) * to_pitch), count);
            }
        }
    }
}

/// B' d in one dimension: row i has the coefficients of the product of (x - q) over all points q other than i.
#[inline(always)]
fn input_transform<V: Vector, const SIDE: usize>(d: [V; MOST]) -> [V; MOST] {
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

/// A' m in one dimension: row j has the j-th powers of the points. The point at infinity contributes to the last row
/// only.
#[inline(always)]
fn output_transform<V: Vector, const SIDE: usize, const OUTPUTS: usize>(m: [V; MOST]) -> [V; MOST] {
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

/// The output transform A' M A of one tile for a vector of channels, plus the bias, and not less than `floor`. The
/// points begin two vectors apart.
///
/// # Safety
/// `from` must point to SIDE² vectors. The machine must support V.
#[inline(always)]
unsafe fn output_transform_tile<V: Vector, const SIDE: usize, const OUTPUTS: usize>(
    from: *const f32,
    bias: V,
    floor: V,
) -> [[V; MOST]; MOST] {
    let zero = V::splat(0.0);
    let mut columns = [[zero; MOST]; MOST];
    for (x, column) in columns.iter_mut().enumerate().take(SIDE) {
        let mut m = [zero; MOST];
        for (y, v) in m.iter_mut().enumerate().take(SIDE) {
            // SAFETY: guaranteed by the caller.
            *v = unsafe { V::load(from.add((y * SIDE + x) * 2 * V::LANES)) };
        }
        *column = output_transform::<V, SIDE, OUTPUTS>(m);
    }
    let mut all = [[zero; MOST]; MOST];
    for (y, to) in all.iter_mut().enumerate().take(OUTPUTS) {
        let mut row = [zero; MOST];
        for (v, column) in row.iter_mut().zip(&columns) {
            *v = column[y];
        }
        let values = output_transform::<V, SIDE, OUTPUTS>(row);
        for (to, v) in to.iter_mut().zip(values).take(OUTPUTS) {
            *to = v.add(bias).max(floor);
        }
    }
    all
}

/// The matrix product of one point: all tiles times a panel of WIDTH vectors.
struct Point<const WIDTH: usize> {
    /// One row of `channels` floats for each tile.
    a: *const f32,
    channels: usize,
    /// One row of WIDTH vectors for each channel.
    b: *const f32,
    /// One row of WIDTH vectors for each tile. The rows begin `pitch` floats apart.
    to: *mut f32,
    pitch: usize,
}

impl<const WIDTH: usize> Point<WIDTH> {
    /// # Safety
    /// The machine must support V. There must be `count` rows of `a` and of `to`.
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn multiply<V: Vector>(&mut self, count: usize) {
        // SAFETY: guaranteed by the caller.
        unsafe { down::<V, _>(0..count, self) }
    }
}

impl<const WIDTH: usize> Tiles for Point<WIDTH> {
    const TALL: bool = WIDTH == 2;

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        // SAFETY: the caller guarantees that the rows exist and have the lengths of the fields.
        unsafe {
            let mut a = [self.a; ROWS];
            for (r, a) in a.iter_mut().enumerate() {
                *a = a.add((row + r) * self.channels);
            }
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

    /// Checks that an update gives the panels of [`Winograd::new`], up to the rounding of the transforms.
    #[cfg(feature = "train")]
    fn assert_updated(layer: &Winograd, weight: &[f32], bias: &[f32], tiles: usize) {
        let Winograd { isa, tiling, channels, columns, .. } = *layer;
        let area = tiling.kernel * tiling.kernel;
        let element =
            |i: usize| weight[(i % columns * channels + i / columns % channels) * area + i / columns / channels];
        let hwio: Vec<f32> = (0..weight.len()).map(element).collect();
        let mut updated = Winograd::zeros(isa, tiling, channels, tiles, columns);
        updated.update(&hwio, bias);
        assert_eq!(updated.bias[..], layer.bias[..]);
        let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-6;
        assert!(!updated.panels.iter().zip(layer.panels.iter()).any(far), "{isa}, {tiling:?}");
        updated.update(&hwio.iter().map(|v| 1.01 * v).collect::<Vec<_>>(), bias);
        assert!(updated.panels.iter().zip(layer.panels.iter()).any(far), "a changed filter changes its panel");
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
                    // The output has the size of the input; an even kernel reads one more row above than below.
                    let out_shape = Shape::new(n, h, w, columns);
                    let [down, across] = tiling.grid(out_shape);
                    let tiles = n * down * across;
                    let layer = Winograd::new(isa, tiling, channels, tiles, &weight, &bias);
                    #[cfg(feature = "train")]
                    assert_updated(&layer, &weight, &bias, tiles);
                    let mut out = vec![0.0; out_shape.len()];
                    let mut scratch = vec![0.0; layer.scratch(tiles)];
                    let view = View { data: &x, stride: channels, shape };
                    let source = Source { view, image: 0, origin: pad };
                    let to = Out::new(&mut out, columns, out_shape);
                    // SAFETY: no other thread accesses `out`.
                    unsafe { layer.run(source, to, 0..tiles, 0..layer.panels(), Epilogue::default(), &mut scratch) };
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
