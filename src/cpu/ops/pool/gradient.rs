//! The gradients of pools. The work is divided by pictures and blocks of channels, because windows overlap.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own channels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::{Area, AvgPool, MaxPool, adaptive_area, average_area, inside};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};
use crate::cpu::simd::{Vector, Work};
use crate::cpu::view::{Out, View};
use crate::graph::tensor::Shape;

impl Gradient for MaxPool {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        parts(extents)
    }

    /// The gradient of each window goes to its first maximum, in the order of rows and columns.
    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some(g) = call.geometry else { return };
        let windows = |cell: [usize; 2], size: [usize; 2]| [0, 1].map(|axis| inside(g, axis, cell[axis], size));
        // SAFETY: guaranteed by the caller.
        unsafe { each_block(call, |block| self.isa.run(Maxima { block, windows: &windows })) }
    }
}

impl Gradient for AvgPool {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        parts(extents)
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some(g) = call.geometry else { return };
        let areas = |cell: [usize; 2], size: [usize; 2]| average_area(g, self.count_padding, cell, size);
        // SAFETY: guaranteed by the caller.
        unsafe { each_block(call, |block| self.isa.run(Means { block, areas: &areas })) }
    }
}

impl Gradient for super::AdaptiveAvgPool {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        parts(extents)
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let grid = [call.y.shape.h, call.y.shape.w];
        let areas = |cell: [usize; 2], size: [usize; 2]| adaptive_area(cell, size, grid);
        // SAFETY: guaranteed by the caller.
        unsafe { each_block(call, |block| self.isa.run(Means { block, areas: &areas })) }
    }
}

/// The number of channels of a block.
const CHANNELS: usize = 64;

/// The parts of the work: piece `n * blocks + b` has block b of the channels of picture n.
fn parts(extents: &Extents<'_>) -> Vec<Part> {
    if !extents.input {
        return Vec::new();
    }
    let pieces = extents.x.n * extents.x.c.div_ceil(CHANNELS);
    Part::divide(Job::Input, pieces, extents.shares(extents.x.len()))
}

/// Some channels of one picture: the input, the output, and their gradients.
struct Block<'a> {
    x: View<'a>,
    y: View<'a>,
    dy: View<'a>,
    dx: Out<'a>,
    picture: usize,
    first: usize,
    count: usize,
}

/// Calls `f` for each block of the part, whose input gradients are zeros if they are not to be added to others.
///
/// # Safety
/// No other thread may access the channels of the part.
unsafe fn each_block(call: GradientCall<'_>, f: impl Fn(Block<'_>)) {
    let Some((dx, add)) = call.dx(0) else { return };
    // SAFETY: guaranteed by the caller.
    let (x, dy) = unsafe { (call.inputs.view(0), call.dy()) };
    let Shape { h, w, c, .. } = dx.shape;
    let blocks = c.div_ceil(CHANNELS);
    for piece in call.part.pieces.clone() {
        let (picture, first) = (piece / blocks, piece % blocks * CHANNELS);
        let count = CHANNELS.min(c - first);
        if !add {
            for p in 0..h * w {
                // SAFETY: guaranteed by the caller; `at` checks the bounds.
                unsafe { std::slice::from_raw_parts_mut(dx.at(picture * h * w + p, first, count), count) }.fill(0.0);
            }
        }
        f(Block { x, y: call.y, dy, dx, picture, first, count });
    }
}

/// The channels of a block in a picture of one buffer.
#[derive(Clone, Copy)]
struct Picture<T> {
    /// Points to the first channel of the first pixel.
    pointer: T,
    stride: usize,
    width: usize,
}

impl<T: Copy> Picture<T> {
    /// The offset of a pixel's first channel.
    #[inline(always)]
    fn at(self, y: usize, x: usize) -> usize {
        (y * self.width + x) * self.stride
    }
}

impl Block<'_> {
    #[inline(always)]
    fn reads(&self, view: View<'_>) -> Picture<*const f32> {
        let Shape { h, w, .. } = view.shape;
        let first = self.picture * h * w * view.stride + self.first;
        assert!(first + (h * w - 1) * view.stride + self.count <= view.data.len(), "a picture beyond the buffer");
        Picture { pointer: view.data[first..].as_ptr(), stride: view.stride, width: w }
    }

    #[inline(always)]
    fn writes(&self) -> Picture<*mut f32> {
        let Shape { h, w, .. } = self.dx.shape;
        let first = self.picture * h * w;
        self.dx.at(first + h * w - 1, self.first, self.count);
        Picture { pointer: self.dx.at(first, self.first, self.count), stride: self.dx.stride, width: w }
    }
}

/// The gradients of maxima. `windows` returns the window of an output cell in an input of a given size.
struct Maxima<'a, F> {
    block: Block<'a>,
    windows: &'a F,
}

impl<F: Fn([usize; 2], [usize; 2]) -> Area> Work for Maxima<'_, F> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Block { x, y, dy, count, .. } = self.block;
        let (from, most, gradient) = (self.block.reads(x), self.block.reads(y), self.block.reads(dy));
        let to = self.block.writes();
        let zero = V::splat(0.0);
        for oy in 0..y.shape.h {
            for ox in 0..y.shape.w {
                let [rows, columns] = (self.windows)([oy, ox], [x.shape.h, x.shape.w]);
                for at in (0..count).step_by(V::LANES) {
                    let left = count - at;
                    // SAFETY: all pixels have these channels, and no other thread accesses them in `dx`.
                    unsafe {
                        let maximum = V::load_first(most.pointer.add(most.at(oy, ox) + at), left);
                        let mut rest = V::load_first(gradient.pointer.add(gradient.at(oy, ox) + at), left);
                        for iy in rows.clone() {
                            for ix in columns.clone() {
                                let value = V::load_first(from.pointer.add(from.at(iy, ix) + at), left);
                                let to = to.pointer.add(to.at(iy, ix) + at);
                                let share = value.select_equal(maximum, rest, zero);
                                V::load_first(to, left).add(share).store_first(to, left);
                                // What a maximum has got is no longer there for the next.
                                rest = value.select_equal(maximum, zero, rest);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The gradients of means. `areas` returns the region of an output cell in an input of a given size, and the factor of its
/// sum.
struct Means<'a, F> {
    block: Block<'a>,
    areas: &'a F,
}

impl<F: Fn([usize; 2], [usize; 2]) -> (Area, f32)> Work for Means<'_, F> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Block { x, dy, count, .. } = self.block;
        let (gradient, to) = (self.block.reads(dy), self.block.writes());
        for oy in 0..dy.shape.h {
            for ox in 0..dy.shape.w {
                let ([rows, columns], scale) = (self.areas)([oy, ox], [x.shape.h, x.shape.w]);
                for at in (0..count).step_by(V::LANES) {
                    let left = count - at;
                    // SAFETY: all pixels have these channels, and no other thread accesses them in `dx`.
                    unsafe {
                        let share = V::load_first(gradient.pointer.add(gradient.at(oy, ox) + at), left);
                        let share = share.mul(V::splat(scale));
                        for iy in rows.clone() {
                            for ix in columns.clone() {
                                let to = to.pointer.add(to.at(iy, ix) + at);
                                V::load_first(to, left).add(share).store_first(to, left);
                            }
                        }
                    }
                }
            }
        }
    }
}
