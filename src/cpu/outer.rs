//! The product `C = A' B` over pixels, which is the weights' gradient of a convolution or a dense layer.
//!
//! Row k of A has what the filter sees for pixel k of the output, and row k of B has the gradient of that pixel. Both
//! are read in place, or from a padded copy of a few lines; only B is copied to panels. A register tile keeps its part
//! of C in registers while it goes through a block of pixels. Each value of C is a sum over all pixels in their order,
//! however the rows of C are divided among threads.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own rows of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::gemm::{Tiles, down};
use super::simd::{Isa, Vector, Work};
use super::view::View;
use std::ops::Range;

/// The number of pixels of a block. A panel of B for this many pixels fits into the first-level cache.
pub const BLOCK: usize = 256;

/// A block of pixels.
pub struct Pixels<'a> {
    /// What the filter sees: pixel (line, column) has `rows` floats for each of the `segments` rows of the kernel.
    /// Segment s of the pixel begins at `(line * line_step + column * step + s * pitch)`.
    pub a: &'a [f32],
    pub lines: usize,
    pub width: usize,
    pub line_step: usize,
    pub step: usize,
    pub segments: usize,
    pub pitch: usize,
    /// The number of rows of C in a segment.
    pub rows: usize,
    /// The gradients of the pixels. The first is pixel `first`.
    pub b: View<'a>,
    pub first: usize,
}

impl Pixels<'_> {
    fn count(&self) -> usize {
        self.lines * self.width
    }

    fn fits(&self) -> bool {
        let last = (self.lines - 1) * self.line_step
            + (self.width - 1) * self.step
            + (self.segments - 1) * self.pitch
            + self.rows;
        let pixel = (self.first + self.count() - 1) * self.b.stride + self.b.shape.c;
        last <= self.a.len() && pixel <= self.b.data.len()
    }
}

/// The number of scratch floats that a block of at most `pixels` pixels needs.
pub fn scratch(isa: Isa, pixels: usize) -> usize {
    pixels * 2 * isa.lanes()
}

/// Adds the products of a block of pixels to these rows of C, which are counted over the segments and have as many
/// columns as B has channels. With `fresh`, the products replace what C holds.
///
/// # Safety
/// `c` must point to all rows of C, and no other thread may access these rows.
pub unsafe fn outer(isa: Isa, pixels: &Pixels<'_>, rows: Range<usize>, c: *mut f32, fresh: bool, scratch: &mut [f32]) {
    if pixels.count() == 0 {
        return;
    }
    assert!(pixels.fits() && rows.end <= pixels.segments * pixels.rows, "pixels beyond the buffers");
    let panel = &mut scratch[..self::scratch(isa, pixels.count())];
    isa.run(Call { pixels, rows, c, fresh, panel });
}

/// One call of [`outer`].
struct Call<'a> {
    pixels: &'a Pixels<'a>,
    rows: Range<usize>,
    c: *mut f32,
    fresh: bool,
    panel: &'a mut [f32],
}

impl Work for Call<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Call { pixels, rows, c, fresh, panel } = self;
        let columns = pixels.b.shape.c;
        for column in (0..columns).step_by(2 * V::LANES) {
            let left = columns - column;
            // SAFETY: `outer` has checked the ranges; the rest is guaranteed by its caller.
            unsafe {
                if left > V::LANES {
                    pack::<V, 2>(pixels, column, panel);
                    segments::<V, 2>(pixels, &rows, c, column, panel, fresh);
                } else {
                    pack::<V, 1>(pixels, column, panel);
                    segments::<V, 1>(pixels, &rows, c, column, panel, fresh);
                }
            }
        }
    }
}

/// Copies WIDTH vectors of columns of B to a panel.
///
/// # Safety
/// The machine must support V, and the panel must have room for all pixels.
#[inline(always)]
unsafe fn pack<V: Vector, const WIDTH: usize>(pixels: &Pixels<'_>, column: usize, panel: &mut [f32]) {
    let View { data, stride, shape } = pixels.b;
    let count = (shape.c - column).min(WIDTH * V::LANES);
    for (i, to) in panel.chunks_exact_mut(WIDTH * V::LANES).take(pixels.count()).enumerate() {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let from = data.as_ptr().add((pixels.first + i) * stride + column);
            for lane in (0..WIDTH * V::LANES).step_by(V::LANES) {
                let v = V::load_first(from.wrapping_add(lane), count.saturating_sub(lane));
                v.store(to.as_mut_ptr().add(lane));
            }
        }
    }
}

/// Multiplies the rows of all segments by a panel.
///
/// # Safety
/// The same as for [`outer`].
#[inline(always)]
unsafe fn segments<V: Vector, const WIDTH: usize>(
    pixels: &Pixels<'_>,
    rows: &Range<usize>,
    c: *mut f32,
    column: usize,
    panel: &[f32],
    fresh: bool,
) {
    let stride = pixels.b.shape.c;
    for segment in 0..pixels.segments {
        let first = segment * pixels.rows;
        let own = rows.start.max(first)..rows.end.min(first + pixels.rows);
        if own.is_empty() {
            continue;
        }
        let mut product = Product::<WIDTH> {
            pixels,
            a: pixels.a[segment * pixels.pitch..].as_ptr(),
            b: panel.as_ptr(),
            c: c.wrapping_add(first * stride + column),
            stride,
            columns: stride - column,
            fresh,
        };
        // SAFETY: guaranteed by the caller.
        unsafe { product.multiply::<V>(own.start - first..own.end - first) };
    }
}

/// The rows of one segment and a panel of WIDTH vectors.
struct Product<'a, const WIDTH: usize> {
    pixels: &'a Pixels<'a>,
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    columns: usize,
    fresh: bool,
}

impl<const WIDTH: usize> Product<'_, WIDTH> {
    /// # Safety
    /// The same as for [`outer`].
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    // A function of its own, because V8 allocates registers for whole functions.
    #[cfg_attr(target_family = "wasm", inline(never))]
    unsafe fn multiply<V: Vector>(&mut self, rows: Range<usize>) {
        // SAFETY: guaranteed by the caller.
        unsafe { down::<V, _>(rows, self) }
    }
}

impl<const WIDTH: usize> Tiles for Product<'_, WIDTH> {
    const TALL: bool = WIDTH == 2;

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        let Pixels { lines, width, line_step, step, .. } = *self.pixels;
        // SAFETY: guaranteed by the caller of `outer`; no more than `columns` columns of C are accessed.
        unsafe {
            let mut sums = [[V::splat(0.0); WIDTH]; ROWS];
            let mut b = self.b;
            for line in 0..lines {
                let mut a = self.a.add(line * line_step + row);
                for _ in 0..width {
                    let mut values = [V::splat(0.0); WIDTH];
                    for (i, v) in values.iter_mut().enumerate() {
                        *v = V::load(b.add(i * V::LANES));
                    }
                    for (r, sum) in sums.iter_mut().enumerate() {
                        let a = V::splat(*a.add(r));
                        for (sum, b) in sum.iter_mut().zip(values) {
                            *sum = a.mul_add(b, *sum);
                        }
                    }
                    a = a.wrapping_add(step);
                    b = b.wrapping_add(WIDTH * V::LANES);
                }
            }
            for (r, sum) in sums.into_iter().enumerate() {
                let c = self.c.add((row + r) * self.stride);
                for (i, sum) in sum.into_iter().enumerate() {
                    let (to, count) = (c.wrapping_add(i * V::LANES), self.columns.saturating_sub(i * V::LANES));
                    let sum = if self.fresh { sum } else { sum.add(V::load_first(to, count)) };
                    sum.store_first(to, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::tensor::Shape;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i + seed) * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn the_product_is_right_in_every_instruction_set() {
        for isa in Isa::available() {
            // Lines of pixels whose filters overlap: a kernel of three rows, `rows` floats each.
            for (lines, width, rows, columns) in [(1, 1, 1, 1), (3, 7, 9, 5), (2, 14, 21, 33), (5, 4, 40, 70)] {
                let (step, pitch) = (3, 40 + 3 * width);
                let a = values((lines + 3) * pitch, 1);
                // B is a slice of a wider buffer.
                let stride = columns + 3;
                let b = values((lines * width + 2) * stride, 2);
                let view = View { data: &b, stride, shape: Shape::new(1, 1, lines * width + 2, columns) };
                let pixels =
                    Pixels { a: &a, lines, width, line_step: pitch, step, segments: 3, pitch, rows, b: view, first: 2 };
                let before = values(3 * rows * columns, 3);
                for (fresh, parts) in [(true, 1), (false, 1), (false, 2), (true, 5)] {
                    let mut c = before.clone();
                    let mut room = vec![0.0; scratch(isa, lines * width)];
                    let size = (3 * rows).div_ceil(parts);
                    for first in (0..3 * rows).step_by(size) {
                        let own = first..(first + size).min(3 * rows);
                        // SAFETY: C has all rows.
                        unsafe { outer(isa, &pixels, own, c.as_mut_ptr(), fresh, &mut room) };
                    }
                    for (i, &got) in c.iter().enumerate() {
                        let (row, column) = (i / columns, i % columns);
                        let product = |k: usize| {
                            let from = k / width * pitch + k % width * step + row / rows * pitch + row % rows;
                            a[from] as f64 * b[(k + 2) * stride + column] as f64
                        };
                        let sum: f64 = (0..lines * width).map(product).sum();
                        let expected = sum + if fresh { 0.0 } else { before[i] as f64 };
                        assert!((got as f64 - expected).abs() < 1e-4, "{isa}, row {row}, {column}: {got}, {expected}");
                    }
                }
            }
        }
    }
}
