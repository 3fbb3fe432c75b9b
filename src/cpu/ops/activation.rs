//! The gradient of ReLU, and of the biases that are added before it.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own channels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::cpu::gradient::{Extents, GradientCall, Job, Part, channel_block, channel_blocks};
use crate::cpu::simd::{Isa, Vector, Work};
use crate::cpu::view::{Out, View};

/// The number of pixels whose gradients are summed before the sum is added to the total, which limits rounding errors.
const BLOCK: usize = 256;

/// The parts of [`run`]: blocks of output channels.
pub fn parts(extents: &Extents<'_>) -> Vec<Part> {
    Part::divide(Job::Activation, channel_blocks(extents.y.c), extents.shares(extents.y.len()))
}

/// The number of scratch floats that a part needs.
pub fn scratch(extents: &Extents<'_>) -> usize {
    extents.y.c
}

/// Sets the gradient to zero where ReLU gave zero, and sums the gradients over all pixels for the biases, if they are
/// wanted.
///
/// # Safety
/// No other thread may access these channels of the gradients.
pub unsafe fn run(isa: Isa, relu: bool, call: GradientCall<'_>) {
    let channels = call.y.shape.c;
    let pieces = &call.part.pieces;
    let first = channel_block(pieces.start, channels).start;
    let last = channel_block(pieces.end.saturating_sub(1), channels).end;
    let bias = call.weights.map(|weights| weights.bias.pointer().wrapping_add(first));
    let (y, dy) = (call.y, call.dy_out());
    isa.run(Channels { relu, y, dy, first, count: last - first, bias, fresh: call.fresh, sums: call.scratch });
}

/// A range of channels of all pixels.
struct Channels<'a> {
    relu: bool,
    y: View<'a>,
    dy: Out<'a>,
    first: usize,
    count: usize,
    /// Points to `count` floats.
    bias: Option<*mut f32>,
    fresh: bool,
    sums: &'a mut [f32],
}

impl Work for Channels<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Channels { relu, y, dy, first, count, bias, fresh, sums } = self;
        let pixels = y.shape.pixels();
        let zero = V::splat(0.0);
        let sums = &mut sums[..count];
        let mut fresh = fresh;
        for start in (0..pixels).step_by(BLOCK) {
            sums.fill(0.0);
            for p in start..(start + BLOCK).min(pixels) {
                let from = y.pixel(p)[first..].as_ptr();
                let to = dy.at(p, first, count);
                // SAFETY: the pixel has these channels, and no other thread accesses them.
                unsafe {
                    for at in (0..count).step_by(V::LANES) {
                        let left = count - at;
                        let mut v = V::load_first(to.add(at), left);
                        if relu {
                            v = V::load_first(from.add(at), left).select_equal(zero, zero, v);
                            v.store_first(to.add(at), left);
                        }
                        if bias.is_some() {
                            let sum = sums.as_mut_ptr().add(at);
                            V::load_first(sum, left).add(v).store_first(sum, left);
                        }
                    }
                }
            }
            if let Some(bias) = bias {
                for (i, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller of `run` guarantees that the biases exist and that no other thread accesses them.
                    unsafe {
                        let to = bias.add(i);
                        *to = if fresh { *sum } else { *to + sum };
                    }
                }
                fresh = false;
            }
        }
    }
}
