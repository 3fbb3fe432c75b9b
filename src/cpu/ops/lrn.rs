//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3), in one pass over each pixel. The
//! work is divided by pixels.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "train")]
mod gradient;

use crate::cpu::kernel::{Call, Kernel};
use crate::cpu::schedule::Extent;
use crate::cpu::simd::{Isa, Vector, Work};
use crate::cpu::view::{Out, View};
use crate::graph::tensor::Shape;
use std::ops::Range;

/// Computes `x / (k + alpha/size * sum of x^2 over size channels)^beta`. The window is centred on the channel; a window
/// of even size has one more channel above than below.
#[derive(Clone, Copy)]
pub struct Lrn {
    pub isa: Isa,
    pub size: usize,
    pub alpha: f32,
    pub beta: f32,
    pub k: f32,
}

/// The window and the power of the BVLC GoogLeNet, which have a vectorised kernel.
const FIXED_SIZE: usize = 5;
const FIXED_POWER: f32 = 0.75;

impl Kernel for Lrn {
    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::pixels(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        // SAFETY: guaranteed by the caller.
        let x = unsafe { call.inputs.view(0) };
        let Call { out, pieces: pixels, .. } = call;
        if self.size == FIXED_SIZE && self.beta == FIXED_POWER {
            return self.isa.run(FixedWindow { lrn: *self, x, out, pixels });
        }
        for p in pixels {
            // SAFETY: guaranteed by the caller.
            self.pixel(x.pixel(p), unsafe { out.pixel(p) });
        }
    }
}

impl Lrn {
    /// Computes one pixel, for any window and power.
    fn pixel(&self, x: &[f32], to: &mut [f32]) {
        let [below, above] = [(self.size - 1) / 2, self.size / 2];
        for (c, (v, to)) in x.iter().zip(to).enumerate() {
            let window = &x[c.saturating_sub(below)..x.len().min(c + above + 1)];
            let sum: f32 = window.iter().map(|v| v * v).sum();
            *to = v / (self.k + self.alpha / self.size as f32 * sum).powf(self.beta);
        }
    }
}

/// One call of [`Kernel::run`].
struct FixedWindow<'a> {
    lrn: Lrn,
    x: View<'a>,
    out: Out<'a>,
    pixels: Range<usize>,
}

impl Work for FixedWindow<'_> {
    type Out = ();

    /// Vectors move along the channels, together with the sums of the squares of each channel and the next one (pairs).
    /// The sum over a window is the pair of the two channels below, the pair of the channel itself and the next one,
    /// and the square of the channel after that.
    #[inline(always)]
    fn run<V: Vector>(self) {
        let FixedWindow { lrn, x, out, pixels } = self;
        let channels = x.shape.c;
        let (alpha, k) = (V::splat(lrn.alpha / FIXED_SIZE as f32), V::splat(lrn.k));
        for p in pixels {
            let from = x.pixel(p).as_ptr();
            let to = out.at(p, 0, channels);
            // SAFETY: the pixel has `channels` floats in input and output, and no other thread accesses it.
            unsafe {
                let mut v = V::load_first(from, channels);
                let mut squares = v.mul(v);
                let mut pairs_below = V::splat(0.0).slide(squares, 1);
                for c in (0..channels).step_by(V::LANES) {
                    let left = channels - c;
                    let next = V::load_first(from.wrapping_add(c + V::LANES), left.saturating_sub(V::LANES));
                    let squares_above = next.mul(next);
                    let pairs = squares.add(squares.slide(squares_above, 1));
                    let below = pairs_below.slide(pairs, V::LANES - 2);
                    let sum = below.add(pairs).add(squares.slide(squares_above, 2));
                    // d^0.75 is computed by two square roots, which are vector instructions.
                    let root = alpha.mul_add(sum, k).sqrt();
                    v.div(root.mul(root.sqrt())).store_first(to.add(c), left);
                    (v, squares, pairs_below) = (next, squares_above, pairs);
                }
            }
        }
    }
}
