//! The gradients of pools. The work is divided by pictures and blocks of channels, because windows overlap.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own channels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::{Area, AvgPool, MaxPool, adaptive_area, average_area, inside};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part, channel_block, channel_blocks};
use crate::cpu::simd::{Vector, Work};
use crate::cpu::view::{Out, View};
use crate::graph::tensor::Shape;

impl Gradient for MaxPool {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        if extents.input { extents.by_channels(Job::Input) } else { Vec::new() }
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
        if extents.input { extents.by_channels(Job::Input) } else { Vec::new() }
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
        if extents.input { extents.by_channels(Job::Input) } else { Vec::new() }
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let grid = [call.y.shape.h, call.y.shape.w];
        let areas = |cell: [usize; 2], size: [usize; 2]| adaptive_area(cell, size, grid);
        // SAFETY: guaranteed by the caller.
        unsafe { each_block(call, |block| self.isa.run(Means { block, areas: &areas })) }
    }
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
    let blocks = channel_blocks(dx.shape.c);
    for piece in call.part.pieces.clone() {
        let (picture, channels) = (piece / blocks, channel_block(piece % blocks, dx.shape.c));
        if !add {
            for p in 0..dx.shape.h * dx.shape.w {
                // SAFETY: guaranteed by the caller.
                let to = dx.at(picture * dx.shape.h * dx.shape.w + p, channels.start, channels.len());
                unsafe { std::slice::from_raw_parts_mut(to, channels.len()) }.fill(0.0);
            }
        }
        f(Block { x, y: call.y, dy, dx, picture, first: channels.start, count: channels.len() });
    }
}

impl Block<'_> {
    /// The index of a pixel of the input, counted over the batch.
    #[inline(always)]
    fn input(&self, y: usize, x: usize) -> usize {
        (self.picture * self.dx.shape.h + y) * self.dx.shape.w + x
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
        let Block { x, y, dy, dx, picture, first, count } = self.block;
        let Shape { h, w, .. } = y.shape;
        let zero = V::splat(0.0);
        for oy in 0..h {
            for ox in 0..w {
                let [rows, columns] = (self.windows)([oy, ox], [x.shape.h, x.shape.w]);
                let pixel = (picture * h + oy) * w + ox;
                let [most, from] = [y, dy].map(|view| view.pixel(pixel)[first..].as_ptr());
                for at in (0..count).step_by(V::LANES) {
                    let left = count - at;
                    // SAFETY: all pixels have these channels, and no other thread accesses them in `dx`.
                    unsafe {
                        let most = V::load_first(most.add(at), left);
                        let mut rest = V::load_first(from.add(at), left);
                        for iy in rows.clone() {
                            for ix in columns.clone() {
                                let p = self.block.input(iy, ix);
                                let value = V::load_first(x.pixel(p)[first..].as_ptr().add(at), left);
                                let to = dx.at(p, first + at, left.min(V::LANES));
                                let share = value.select_equal(most, rest, zero);
                                V::load_first(to, left).add(share).store_first(to, left);
                                // What a maximum has got is no longer there for the next.
                                rest = value.select_equal(most, zero, rest);
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
        let Block { dy, dx, picture, first, count, .. } = self.block;
        let Shape { h, w, .. } = dy.shape;
        for oy in 0..h {
            for ox in 0..w {
                let ([rows, columns], scale) = (self.areas)([oy, ox], [dx.shape.h, dx.shape.w]);
                let from = dy.pixel((picture * h + oy) * w + ox)[first..].as_ptr();
                for at in (0..count).step_by(V::LANES) {
                    let left = count - at;
                    // SAFETY: all pixels have these channels, and no other thread accesses them in `dx`.
                    unsafe {
                        let share = V::load_first(from.add(at), left).mul(V::splat(scale));
                        for iy in rows.clone() {
                            for ix in columns.clone() {
                                let to = dx.at(self.block.input(iy, ix), first + at, left.min(V::LANES));
                                V::load_first(to, left).add(share).store_first(to, left);
                            }
                        }
                    }
                }
            }
        }
    }
}
