//! Local response normalisation across channels. The work is divided by pixels.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::simd::{Isa, Vector, Work};
use super::view::{Out, View};
use crate::tensor::Shape;
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

/// Beta and the channels around one in Caffe's GoogLeNet, which have a loop of their own.
const USUAL_POWER: f32 = 0.75;
const USUAL_REACH: usize = 4;

impl Lrn {
    /// Channels below and above the one that is normalised, no more than there are.
    fn reach(&self, channels: usize) -> [usize; 2] {
        [(self.size - 1) / 2, self.size / 2].map(|r| r.min(channels))
    }

    /// Floats needed beside input and output.
    pub fn scratch(&self, x: Shape) -> usize {
        let [below, above] = self.reach(x.c);
        // A vector more, which the last one reads into.
        x.c + below + above + 16
    }

    /// Channels over the power of the sum of `more + 1` squares each.
    ///
    /// # Safety
    /// `squares` points to a vector and `more` floats behind it.
    #[inline(always)]
    unsafe fn normalise<V: Vector, const USUAL: bool>(&self, v: V, squares: *const f32, more: usize) -> V {
        let more = if USUAL { USUAL_REACH } else { more };
        // SAFETY: the caller's.
        let sum = unsafe {
            let mut sum = V::load(squares);
            for shift in 1..=more {
                sum = sum.add(V::load(squares.add(shift)));
            }
            sum
        };
        let d = V::splat(self.alpha / self.size as f32).mul_add(sum, V::splat(self.k));
        if USUAL || self.beta == USUAL_POWER {
            // d^0.75 without a power: two square roots, which vectors have.
            let root = d.sqrt();
            v.div(root.mul(root.sqrt()))
        } else {
            v.div(power(d, self.beta))
        }
    }

    /// # Safety
    /// Nothing else uses these pixels of `out`.
    pub unsafe fn run(&self, isa: Isa, x: View<'_>, out: Out<'_>, pixels: Range<usize>, scratch: &mut [f32]) {
        let scratch = &mut scratch[..self.scratch(x.shape)];
        isa.run(Normalise { lrn: *self, x, out, pixels, scratch });
    }
}

/// One call of [`Lrn::run`].
struct Normalise<'a> {
    lrn: Lrn,
    x: View<'a>,
    out: Out<'a>,
    pixels: Range<usize>,
    scratch: &'a mut [f32],
}

impl Work for Normalise<'_> {
    type Out = ();

    /// The window is summed anew at every channel, not kept running: `size` vector additions are
    /// cheaper than one chain of scalar ones, and nothing cancels.
    #[inline(always)]
    fn run<V: Vector>(self) {
        let [below, above] = self.lrn.reach(self.x.shape.c);
        if self.lrn.beta == USUAL_POWER && below + above == USUAL_REACH {
            self.each::<V, true>();
        } else {
            self.each::<V, false>();
        }
    }
}

impl Normalise<'_> {
    /// Every pixel, by the usual numbers or any.
    #[inline(always)]
    fn each<V: Vector, const USUAL: bool>(self) {
        let Normalise { lrn, x, out, pixels, scratch } = self;
        let channels = x.shape.c;
        let [below, above] = lrn.reach(channels);
        scratch.fill(0.0);
        for p in pixels {
            let from = x.pixel(p).as_ptr();
            let to = out.at(p, 0, channels);
            // SAFETY: a pixel has `channels` floats on either side; the squares have `below` more before, `above` and
            // a vector more behind. The pixel is the caller's alone.
            unsafe {
                let squares = scratch.as_mut_ptr();
                let full = channels / V::LANES * V::LANES;
                for c in (0..full).step_by(V::LANES) {
                    let v = V::load(from.add(c));
                    v.mul(v).store(squares.add(below + c));
                }
                let v = V::load_first(from.add(full), channels - full);
                v.mul(v).store_first(squares.add(below + full), channels - full);
                for c in (0..full).step_by(V::LANES) {
                    let v = lrn.normalise::<V, USUAL>(V::load(from.add(c)), squares.add(c), below + above);
                    v.store(to.add(c));
                }
                let v = lrn.normalise::<V, USUAL>(v, squares.add(full), below + above);
                v.store_first(to.add(full), channels - full);
            }
        }
    }
}

/// Each lane to the same power.
#[inline(always)]
fn power<V: Vector>(v: V, exponent: f32) -> V {
    let mut lanes = [0.0; 16];
    // SAFETY: no vector is longer.
    unsafe {
        v.store(lanes.as_mut_ptr());
        lanes.iter_mut().take(V::LANES).for_each(|v| *v = v.powf(exponent));
        V::load(lanes.as_ptr())
    }
}
