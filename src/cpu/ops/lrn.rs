//! Local response normalisation across channels, each pixel in one pass. The work is divided by pixels.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::cpu::simd::{Isa, Vector, Work};
use crate::cpu::view::{Out, View};
use std::ops::Range;

/// `x / (k + alpha/size * sum of x^2 over size channels)^beta`. The channel stands in the window's
/// middle; an even window reaches one further up than down.
#[derive(Clone, Copy)]
pub struct Lrn {
    pub size: usize,
    pub alpha: f32,
    pub beta: f32,
    pub k: f32,
}

/// The window and the power of Caffe's GoogLeNet, which are computed with vectors.
const USUAL_SIZE: usize = 5;
const USUAL_POWER: f32 = 0.75;

impl Lrn {
    /// # Safety
    /// Nothing else uses these pixels of `out`.
    pub unsafe fn run(&self, isa: Isa, x: View<'_>, out: Out<'_>, pixels: Range<usize>) {
        if self.size == USUAL_SIZE && self.beta == USUAL_POWER {
            return isa.run(Usual { lrn: *self, x, out, pixels });
        }
        for p in pixels {
            // SAFETY: the caller's.
            self.pixel(x.pixel(p), unsafe { out.pixel(p) });
        }
    }

    /// Any window and power.
    fn pixel(&self, x: &[f32], to: &mut [f32]) {
        let [below, above] = [(self.size - 1) / 2, self.size / 2];
        for (c, (v, to)) in x.iter().zip(to).enumerate() {
            let window = &x[c.saturating_sub(below)..x.len().min(c + above + 1)];
            let sum: f32 = window.iter().map(|v| v * v).sum();
            *to = v / (self.k + self.alpha / self.size as f32 * sum).powf(self.beta);
        }
    }
}

/// One call of [`Lrn::run`].
struct Usual<'a> {
    lrn: Lrn,
    x: View<'a>,
    out: Out<'a>,
    pixels: Range<usize>,
}

impl Work for Usual<'_> {
    type Out = ();

    /// Vectors run along the channels. What runs along with them are the sums of two squares, of a channel and the one
    /// above: a window is the two below its middle, the middle and the one above, and the square above those.
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Usual { lrn, x, out, pixels } = self;
        let channels = x.shape.c;
        let (alpha, k) = (V::splat(lrn.alpha / USUAL_SIZE as f32), V::splat(lrn.k));
        for p in pixels {
            let from = x.pixel(p).as_ptr();
            let to = out.at(p, 0, channels);
            // SAFETY: a pixel has `channels` floats on either side. The pixel is the caller's alone.
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
                    // d^0.75 without a power: two square roots, which vectors have.
                    let root = alpha.mul_add(sum, k).sqrt();
                    v.div(root.mul(root.sqrt())).store_first(to.add(c), left);
                    (v, squares, pairs_below) = (next, squares_above, pairs);
                }
            }
        }
    }
}
