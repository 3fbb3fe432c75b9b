//! The gradient of local response normalisation. With `d_i = k + alpha/size * sum of x_j^2 over the window of i` and
//! `y_i = x_i * d_i^-beta`, it is `dx_i = dy_i * d_i^-beta - 2 * alpha * beta / size * x_i * sum of dy_j * y_j / d_j` over
//! all channels j whose window contains i.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::{FIXED_POWER, Lrn};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};
use crate::cpu::simd::{Vector, Work};

impl Gradient for Lrn {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        if extents.input { extents.by_pixels(Job::Input) } else { Vec::new() }
    }

    fn scratch(&self, extents: &Extents<'_>, _: &Part) -> usize {
        // The squares, then the terms of the sum, with a window of zeros on either side; and the powers.
        2 * extents.x.c + 2 * self.size
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some((out, add)) = call.dx(0) else { return };
        // SAFETY: guaranteed by the caller.
        let (x, dy) = unsafe { (call.inputs.view(0), call.dy()) };
        let c = x.shape.c;
        let (padded, powers) = call.scratch.split_at_mut(c + 2 * self.size);
        padded.fill(0.0);
        for p in call.part.pieces.clone() {
            // SAFETY: guaranteed by the caller.
            let to = unsafe { out.pixel(p) };
            let (x, y, dy) = (x.pixel(p), call.y.pixel(p), dy.pixel(p));
            self.isa.run(Pixel { lrn: self, x, y, dy, to, add, padded, powers: &mut powers[..c] });
        }
    }
}

/// The channels of one pixel. All slices have as many values, but `padded` has `size` more on either side.
struct Pixel<'a> {
    lrn: &'a Lrn,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    to: &'a mut [f32],
    add: bool,
    padded: &'a mut [f32],
    powers: &'a mut [f32],
}

impl Work for Pixel<'_> {
    type Out = ();

    // The loops are simple enough for the compiler to vectorise them.
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Pixel { lrn, x, y, dy, to, add, padded, powers } = self;
        let (c, size) = (x.len(), lrn.size);
        let [below, above] = [(size - 1) / 2, size / 2];
        let scale = lrn.alpha / size as f32;
        let (y, dy, to, powers) = (&y[..c], &dy[..c], &mut to[..c], &mut powers[..c]);
        padded[size..size + c].iter_mut().zip(x).for_each(|(to, x)| *to = x * x);
        window_sums(padded, size - below, size, powers);
        powers.iter_mut().for_each(|d| *d = lrn.k + scale * *d);
        for (((t, d), y), dy) in padded[size..size + c].iter_mut().zip(&*powers).zip(y).zip(dy) {
            *t = dy * y / d;
        }
        if lrn.beta == FIXED_POWER {
            powers.iter_mut().for_each(|d| *d = 1.0 / (d.sqrt() * d.sqrt().sqrt()));
        } else {
            powers.iter_mut().for_each(|d| *d = d.powf(-lrn.beta));
        }
        powers.iter_mut().zip(dy).for_each(|(d, dy)| *d *= dy);
        // The windows that contain a channel are as many, but with their sides exchanged.
        let factor = -2.0 * scale * lrn.beta;
        for (i, to) in to.iter_mut().enumerate() {
            let sum: f32 = padded[size - above + i..][..size].iter().sum();
            let value = powers[i] + factor * x[i] * sum;
            *to = if add { *to + value } else { value };
        }
    }
}

/// The sum of `size` values from `first + i` on, for each i.
#[inline(always)]
fn window_sums(padded: &[f32], first: usize, size: usize, sums: &mut [f32]) {
    sums.fill(0.0);
    for j in 0..size {
        sums.iter_mut().zip(&padded[first + j..]).for_each(|(sum, v)| *sum += v);
    }
}
