//! Maximum and average pooling, vectorised over channels. The work is divided by output lines, counted over the batch.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "train")]
mod gradient;

use crate::cpu::kernel::{Call, Kernel};
use crate::cpu::schedule::Extent;
use crate::cpu::simd::{Isa, Vector, Work};
use crate::cpu::view::{Out, View};
use crate::graph::op::{Geometry, Window, adaptive_range};
use crate::graph::tensor::Shape;
use std::ops::Range;

/// The maximum of each window.
pub struct MaxPool {
    pub isa: Isa,
    pub window: Window,
}

/// The mean of each window.
pub struct AvgPool {
    pub isa: Isa,
    pub window: Window,
    pub count_padding: bool,
}

/// The mean of each region of a grid.
pub struct AdaptiveAvgPool {
    pub isa: Isa,
}

impl Kernel for MaxPool {
    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn extent(&self, output: Shape, others: &[&dyn Kernel]) -> Extent {
        // A line of the pool's output is a row of pixels for the convolution that reads it.
        let block = others.first().map_or(usize::MAX, |conv| (conv.block(output) / output.w).max(1));
        Extent { block, ..Extent::lines(output) }
    }

    fn scratch(&self, _: Option<&Geometry>, input: Shape, _: Shape, _: usize) -> usize {
        // One line of the input.
        input.w * input.c
    }

    unsafe fn run(&self, call: Call<'_>) {
        let Some(g) = call.geometry else { return };
        // SAFETY: guaranteed by the caller.
        unsafe { max(self.isa, g, call.inputs.view(0), call.out, call.pieces, call.scratch) }
    }
}

impl Kernel for AvgPool {
    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::lines(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        let Some(g) = call.geometry else { return };
        // SAFETY: guaranteed by the caller.
        unsafe { average(self.isa, g, self.count_padding, call.inputs.view(0), call.out, call.pieces) }
    }
}

impl Kernel for AdaptiveAvgPool {
    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::lines(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        // SAFETY: guaranteed by the caller.
        unsafe { adaptive_average(self.isa, call.inputs.view(0), call.out, call.pieces) }
    }
}

/// The rows and columns of a region of the input.
type Area = [Range<usize>; 2];

/// The maximum of each window, first down the columns, then along the rows.
///
/// # Safety
/// No other thread may access these lines of `out`.
unsafe fn max(isa: Isa, g: &Geometry, x: View<'_>, out: Out<'_>, lines: Range<usize>, scratch: &mut [f32]) {
    let Shape { n, h, w, c } = x.shape;
    assert!(lines.end <= out.shape.n * out.shape.h && out.shape.n <= n && out.shape.c == c);
    assert!(x.data.len() >= (x.shape.pixels() - 1) * x.stride + c && scratch.len() >= w * c);
    let size = [h, w];
    for line in lines {
        let (n, oy) = (line / out.shape.h, line % out.shape.h);
        let rows = inside(g, 0, oy, size);
        let first = n * h + rows.start;
        // A whole line at once, if its pixels are adjacent in memory.
        let (runs, length) = if x.stride == c { (1, w * c) } else { (w, c) };
        for run in 0..runs {
            let from = &x.data[first * w * x.stride + run * x.stride..];
            let to = &mut scratch[run * c..][..length];
            isa.run(Maximum { from, step: w * x.stride, count: rows.len(), to: to.as_mut_ptr(), length });
        }
        for ox in 0..out.shape.w {
            let columns = inside(g, 1, ox, size);
            let to = out.at(line * out.shape.w + ox, 0, c);
            isa.run(Maximum { from: &scratch[columns.start * c..], step: c, count: columns.len(), to, length: c });
        }
    }
}

/// The element-wise maximum of `count` runs of floats that begin `step` floats apart.
struct Maximum<'a> {
    from: &'a [f32],
    step: usize,
    count: usize,
    /// Points to `length` floats that no other thread accesses.
    to: *mut f32,
    length: usize,
}

impl Work for Maximum<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Maximum { from, step, count, to, length } = self;
        assert!(count > 0 && (count - 1) * step + length <= from.len(), "a window beyond the input");
        let full = length / V::LANES * V::LANES;
        // SAFETY: guaranteed by the assertion and by `max`, which provides `to`.
        unsafe {
            let from = from.as_ptr();
            // Three is the most frequent count, which is computed in one pass without an inner loop.
            if count == 3 {
                for i in (0..full).step_by(V::LANES) {
                    let (a, b, c) =
                        (V::load(from.add(i)), V::load(from.add(step + i)), V::load(from.add(2 * step + i)));
                    a.max(b).max(c).store(to.add(i));
                }
            } else {
                for i in (0..full).step_by(V::LANES) {
                    let mut max = V::load(from.add(i));
                    for k in 1..count {
                        max = max.max(V::load(from.add(k * step + i)));
                    }
                    max.store(to.add(i));
                }
            }
            for i in full..length {
                let all = (0..count).map(|k| *from.add(k * step + i));
                *to.add(i) = all.fold(f32::NEG_INFINITY, |max, v| if v > max { v } else { max });
            }
        }
    }
}

/// The mean of each window, over its part inside the input or, with `count_padding`, over its part inside the input and
/// its padding.
///
/// # Safety
/// No other thread may access these lines of `out`.
unsafe fn average(isa: Isa, g: &Geometry, count_padding: bool, x: View<'_>, out: Out<'_>, lines: Range<usize>) {
    let size = [x.shape.h, x.shape.w];
    // SAFETY: guaranteed by the caller.
    unsafe { reduce(isa, x, out, lines, |cell| average_area(g, count_padding, cell, size)) }
}

/// The part of a window inside an input of this size, and the factor of its sum.
fn average_area(g: &Geometry, count_padding: bool, cell: [usize; 2], size: [usize; 2]) -> (Area, f32) {
    let area = [0, 1].map(|a| inside(g, a, cell[a], size));
    let counted = if count_padding { [0, 1].map(|a| padded(g, a, cell[a], size)) } else { area.clone() };
    (area, reciprocal(&counted))
}

/// The mean of each region of a grid. Regions may overlap.
///
/// # Safety
/// No other thread may access these lines of `out`.
unsafe fn adaptive_average(isa: Isa, x: View<'_>, out: Out<'_>, lines: Range<usize>) {
    let (size, grid) = ([x.shape.h, x.shape.w], [out.shape.h, out.shape.w]);
    // SAFETY: guaranteed by the caller.
    unsafe { reduce(isa, x, out, lines, |cell| adaptive_area(cell, size, grid)) }
}

/// The region of a cell of this grid in an input of this size, and the factor of its sum.
fn adaptive_area(cell: [usize; 2], size: [usize; 2], grid: [usize; 2]) -> (Area, f32) {
    let area = [0, 1].map(|a| {
        let (start, end) = adaptive_range(cell[a], size[a], grid[a]);
        start..end
    });
    let scale = reciprocal(&area);
    (area, scale)
}

/// The part of a window inside the input, along an axis.
fn inside(g: &Geometry, axis: usize, cell: usize, size: [usize; 2]) -> Range<usize> {
    let start = cell * g.stride[axis];
    let end = (start + g.kernel[axis]).saturating_sub(g.pad[axis]).min(size[axis]);
    start.saturating_sub(g.pad[axis]).min(end)..end
}

/// The part of a window inside the input and its padding, counted from the first row or column of the padding.
fn padded(g: &Geometry, axis: usize, cell: usize, size: [usize; 2]) -> Range<usize> {
    let start = cell * g.stride[axis];
    start..(start + g.kernel[axis]).min(g.pad[axis] + size[axis] + g.pad_end[axis])
}

fn reciprocal(area: &Area) -> f32 {
    1.0 / (area[0].len() * area[1].len()).max(1) as f32
}

/// The mean of a region of the input for each output cell. `area` returns the region and the factor for its sum.
///
/// # Safety
/// No other thread may access these lines of `out`.
unsafe fn reduce(isa: Isa, x: View<'_>, out: Out<'_>, lines: Range<usize>, area: impl Fn([usize; 2]) -> (Area, f32)) {
    let (from, to) = (x.shape, out.shape);
    for line in lines {
        let (n, oy) = (line / to.h, line % to.h);
        for ox in 0..to.w {
            let ([ys, xs], scale) = area([oy, ox]);
            let first = ((n * from.h + ys.start) * from.w + xs.start) * x.stride;
            isa.run(Mean {
                from: x.data.get(first..).unwrap_or_default(),
                size: [ys.len(), xs.len()],
                steps: [from.w * x.stride, x.stride],
                scale,
                // SAFETY: guaranteed by the caller.
                to: unsafe { out.pixel(line * to.w + ox) },
            });
        }
    }
}

/// The sum of a region of pixels, multiplied by a factor, for each channel.
struct Mean<'a> {
    from: &'a [f32],
    size: [usize; 2],
    /// The number of floats from one row to the next, and from one column to the next.
    steps: [usize; 2],
    scale: f32,
    to: &'a mut [f32],
}

impl Work for Mean<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Mean { from, size, steps, scale, to } = self;
        let length = to.len();
        let last: usize = size.iter().zip(&steps).map(|(size, step)| size.saturating_sub(1) * step).sum();
        assert!(size.contains(&0) || last + length <= from.len(), "a window beyond the input");
        let scale = V::splat(scale);
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        let blocks = length / (4 * V::LANES) * (4 * V::LANES);
        // SAFETY: guaranteed by the assertion.
        unsafe {
            // Four independent sums, so that no addition waits for the previous one.
            for i in (0..blocks).step_by(4 * V::LANES) {
                let mut sums = [V::splat(0.0); 4];
                for row in (0..size[0]).map(|y| from.add(y * steps[0] + i)) {
                    for pixel in (0..size[1]).map(|x| row.add(x * steps[1])) {
                        for (lane, sum) in sums.iter_mut().enumerate() {
                            *sum = sum.add(V::load(pixel.add(lane * V::LANES)));
                        }
                    }
                }
                for (lane, sum) in sums.iter().enumerate() {
                    sum.mul(scale).store(to.add(i + lane * V::LANES));
                }
            }
            for i in (blocks..length).step_by(V::LANES) {
                let mut sum = V::splat(0.0);
                for row in (0..size[0]).map(|y| from.add(y * steps[0] + i)) {
                    for pixel in (0..size[1]).map(|x| row.add(x * steps[1])) {
                        sum = sum.add(V::load_first(pixel, length - i));
                    }
                }
                sum.mul(scale).store_first(to.add(i), length - i);
            }
        }
    }
}
