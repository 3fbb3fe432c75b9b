//! The weights' gradient of a convolution with stride 1 by the Winograd algorithm.
//!
//! The output is `Y = A' ((G g G') . (B' d B)) A`, so the gradient for a filter is the sum over tiles of
//! `G' ((B' d B) . (A dY A')) G`. For each of the n² points of a tile, the sum is a matrix product over tiles: (input
//! channels, tiles) times (tiles, output channels). F(4x4,3x3) needs a quarter of the multiply-adds of the direct sum.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own channels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::{input_transform_tile, patch_of};
use crate::cpu::outer::{self, Pixels};
use crate::cpu::simd::{Isa, Vector, Work};
use crate::cpu::view::View;
use crate::graph::tensor::Shape;
use crate::plan::winograd::{MOST, Tiling};
use std::ops::Range;

/// The number of tiles that are transformed at a time.
const TILES: usize = 128;

/// The points of a tile.
const POINTS: usize = MOST * MOST;

/// The tiling for the weights' gradient of a square kernel with stride 1; `None` where the direct sum is used.
pub fn tiling(kernel: usize) -> Option<Tiling> {
    match kernel {
        3 => Some(Tiling { outputs: 4, kernel: 3 }),
        5 => Some(Tiling { outputs: 2, kernel: 5 }),
        _ => None,
    }
}

/// The number of scratch floats for this many input channels.
pub fn scratch(isa: Isa, tiling: Tiling, y: Shape, channels: usize) -> usize {
    let tiles = count(tiling, y).min(TILES);
    POINTS * (tiles * (channels + y.c) + channels * y.c + channels.max(y.c)) + outer::scratch(isa, tiles)
}

fn count(tiling: Tiling, y: Shape) -> usize {
    y.n * tiling.grid(y).iter().product::<usize>()
}

/// What the gradient is computed from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub tiling: Tiling,
    pub x: View<'a>,
    /// Padding rows above and columns to the left of the input.
    pub pad: [usize; 2],
    /// The gradient with respect to the output.
    pub dy: View<'a>,
}

/// Computes the gradient for the filters of these input channels. With `fresh` it replaces what `weights` holds, otherwise
/// it is added.
///
/// # Safety
/// `weights` must point to (kernel, kernel, input channels, output channels) floats, and no other thread may access those
/// of these input channels.
pub unsafe fn run(
    isa: Isa,
    sources: Sources<'_>,
    channels: Range<usize>,
    weights: *mut f32,
    fresh: bool,
    scratch: &mut [f32],
) {
    let Sources { tiling, x, dy, .. } = sources;
    let (inputs, outputs, all) = (channels.len(), dy.shape.c, count(tiling, dy.shape));
    if inputs == 0 || all == 0 {
        return;
    }
    assert!(channels.end <= x.shape.c && x.data.len() >= (x.shape.pixels() - 1) * x.stride + x.shape.c);
    assert!(dy.data.len() >= (dy.shape.pixels() - 1) * dy.stride + outputs && tiling.side() == MOST);
    let most = all.min(TILES);
    let (a, rest) = scratch.split_at_mut(POINTS * most * inputs);
    let (b, rest) = rest.split_at_mut(POINTS * most * outputs);
    let (sums, rest) = rest.split_at_mut(POINTS * inputs * outputs);
    let (patch, room) = rest.split_at_mut(POINTS * inputs.max(outputs));
    for first in (0..all).step_by(TILES) {
        let tiles = first..(first + TILES).min(all);
        let count = tiles.len();
        isa.run(Transform { sources, tiles, channels: channels.clone(), a, b, patch });
        for point in 0..POINTS {
            let b = &b[point * count * outputs..][..count * outputs];
            let pixels = Pixels {
                a: &a[point * count * inputs..][..count * inputs],
                lines: 1,
                width: count,
                line_step: 0,
                step: inputs,
                segments: 1,
                pitch: 0,
                rows: inputs,
                b: View { data: b, stride: outputs, shape: Shape::new(1, 1, count, outputs) },
                first: 0,
            };
            let c = sums[point * inputs * outputs..].as_mut_ptr();
            // SAFETY: each point has a matrix of its own in the scratch memory.
            unsafe { outer::outer(isa, &pixels, 0..inputs, c, first == 0, room) };
        }
    }
    isa.run(Finish { tiling, sums, inputs: x.shape.c, channels, outputs, weights, fresh });
}

/// Transforms the inputs and the gradients of some tiles: point p of tile t has its channels at `(p * tiles + t) *
/// channels`.
struct Transform<'a> {
    sources: Sources<'a>,
    tiles: Range<usize>,
    channels: Range<usize>,
    a: &'a mut [f32],
    b: &'a mut [f32],
    patch: &'a mut [f32],
}

impl Work for Transform<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Transform { sources: Sources { tiling, x, pad, dy }, tiles, channels, a, b, patch } = self;
        let [down, across] = tiling.grid(dy.shape);
        let (count, inputs, outputs) = (tiles.len(), channels.len(), dy.shape.c);
        // The channels of the part alone.
        let part = View { data: &x.data[channels.start..], shape: Shape { c: inputs, ..x.shape }, ..x };
        for (i, tile) in tiles.enumerate() {
            let (n, at) = (tile / (down * across), tile % (down * across));
            let [top, left] = [at / across * tiling.outputs, at % across * tiling.outputs];
            // SAFETY: `run` has checked the lengths; a patch is a whole tile.
            unsafe {
                let (from, pitch, step) = patch_of::<MOST>(part, n, [top, left], pad, patch);
                input_transform_tile::<V, MOST>(
                    from,
                    pitch,
                    step,
                    inputs,
                    a.as_mut_ptr().add(i * inputs),
                    count * inputs,
                );
                let (rows, columns) = (tiling.outputs.min(dy.shape.h - top), tiling.outputs.min(dy.shape.w - left));
                let pixel = (n * dy.shape.h + top) * dy.shape.w + left;
                let from = dy.data.as_ptr().add(pixel * dy.stride);
                let to = b.as_mut_ptr().add(i * outputs);
                for c in (0..outputs).step_by(V::LANES) {
                    let gradient = Gradient { from: from.add(c), dy, rows, columns, count: outputs - c };
                    gradient.transform::<V>(tiling.outputs, to.add(c), count * outputs);
                }
            }
        }
    }
}

/// A vector of channels of the gradient of one tile.
struct Gradient<'a> {
    from: *const f32,
    dy: View<'a>,
    rows: usize,
    columns: usize,
    count: usize,
}

impl Gradient<'_> {
    /// A dY A' of one tile.
    ///
    /// # Safety
    /// The machine must support V. The tile's pixels must exist, and `to` must have room for all points.
    #[inline(always)]
    unsafe fn transform<V: Vector>(&self, outputs: usize, to: *mut f32, to_pitch: usize) {
        let zero = V::splat(0.0);
        let mut columns = [[zero; MOST]; 4];
        for (x, column) in columns.iter_mut().enumerate().take(self.columns) {
            let mut d = [zero; 4];
            for (y, v) in d.iter_mut().enumerate().take(self.rows) {
                let at = (y * self.dy.shape.w + x) * self.dy.stride;
                // SAFETY: guaranteed by the caller.
                *v = unsafe { V::load_first(self.from.add(at), self.count) };
            }
            *column = spread(d, outputs);
        }
        let [a, b, c, d] = columns;
        for (y, (((a, b), c), d)) in a.into_iter().zip(b).zip(c).zip(d).enumerate() {
            for (x, v) in spread([a, b, c, d], outputs).into_iter().enumerate() {
                // SAFETY: guaranteed by the caller.
                unsafe { v.store_first(to.add((y * MOST + x) * to_pitch), self.count) };
            }
        }
    }
}

/// A d in one dimension: the values at the points of a polynomial with these coefficients. The point at infinity has the
/// last coefficient.
#[inline(always)]
fn spread<V: Vector>(d: [V; 4], outputs: usize) -> [V; MOST] {
    let (r, s) = (V::splat(std::f32::consts::FRAC_1_SQRT_2), V::splat(std::f32::consts::SQRT_2));
    let (r3, s3) = (V::splat(std::f32::consts::SQRT_2 / 4.0), V::splat(std::f32::consts::SQRT_2 * 2.0));
    let [d0, d1, d2, d3] = d;
    let (near, near_odd) = (V::splat(0.5).mul_add(d2, d0), r.mul_add(d1, r3.mul(d3)));
    let (far, far_odd) = (V::splat(2.0).mul_add(d2, d0), s.mul_add(d1, s3.mul(d3)));
    let last = if outputs == 2 { d1 } else { d3 };
    [d0, near.add(near_odd), near.sub(near_odd), far.add(far_odd), far.sub(far_odd), last]
}

/// Applies G' and G to the sums of all points.
struct Finish<'a> {
    tiling: Tiling,
    sums: &'a [f32],
    /// The number of all input channels.
    inputs: usize,
    channels: Range<usize>,
    outputs: usize,
    weights: *mut f32,
    fresh: bool,
}

impl Work for Finish<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.tiling.kernel {
            3 => self.finish::<V, 3>(),
            _ => self.finish::<V, 5>(),
        }
    }
}

impl Finish<'_> {
    #[inline(always)]
    fn finish<V: Vector, const KERNEL: usize>(self) {
        let Finish { tiling, sums, inputs, channels, outputs, weights, fresh } = self;
        let matrix: [[f32; KERNEL]; MOST] = tiling.filter_matrix_f32();
        let zero = V::splat(0.0);
        let point = channels.len() * outputs;
        assert!(sums.len() >= POINTS * point);
        for (i, c) in channels.enumerate() {
            for o in (0..outputs).step_by(V::LANES) {
                let left = outputs - o;
                // SAFETY: the sums have all points; the caller of `run` guarantees that the weights exist and that no
                // other thread accesses them.
                unsafe {
                    let from = sums.as_ptr().add(i * outputs + o);
                    let mut half = [[zero; MOST]; KERNEL];
                    for x in 0..MOST {
                        for (y, factors) in matrix.iter().enumerate() {
                            let v = V::load_first(from.add((y * MOST + x) * point), left);
                            for (factor, row) in factors.iter().zip(&mut half) {
                                row[x] = V::splat(*factor).mul_add(v, row[x]);
                            }
                        }
                    }
                    for (k, row) in half.into_iter().enumerate() {
                        let mut sums = [zero; KERNEL];
                        for (factors, v) in matrix.iter().zip(row) {
                            for (factor, sum) in factors.iter().zip(&mut sums) {
                                *sum = V::splat(*factor).mul_add(v, *sum);
                            }
                        }
                        for (l, sum) in sums.into_iter().enumerate() {
                            let to = weights.wrapping_add(((k * KERNEL + l) * inputs + c) * outputs + o);
                            let sum = if fresh { sum } else { sum.add(V::load_first(to, left)) };
                            sum.store_first(to, left);
                        }
                    }
                }
            }
        }
    }
}
