//! Concatenation of branches along channels, each multiplied by its gain. The work is divided by pixels.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "train")]
mod gradient;

use crate::cpu::kernel::{Call, Kernel};
use crate::cpu::schedule::Extent;
use crate::cpu::view::{Out, View};
use crate::graph::tensor::Shape;
use std::ops::Range;

pub struct Concat;

impl Kernel for Concat {
    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::pixels(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        let mut first = 0;
        for input in 0..call.inputs.len() {
            // SAFETY: guaranteed by the caller.
            unsafe {
                let branch = call.inputs.view(input);
                copy(branch, call.inputs.gain(input), call.out, first, call.pieces.clone());
                first += branch.shape.c;
            }
        }
    }
}

/// Writes a branch to the channels of `out` from `first` on. A gain of 1 copies the values bit by bit.
///
/// # Safety
/// No other thread may access these pixels and channels of `out`.
unsafe fn copy(branch: View<'_>, gain: f32, out: Out<'_>, first: usize, pixels: Range<usize>) {
    for p in pixels {
        // SAFETY: guaranteed by the caller.
        let to = unsafe { &mut out.pixel(p)[first..first + branch.shape.c] };
        if gain == 1.0 {
            to.copy_from_slice(branch.pixel(p));
        } else {
            to.iter_mut().zip(branch.pixel(p)).for_each(|(to, v)| *to = v * gain);
        }
    }
}
