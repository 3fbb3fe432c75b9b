//! The gradient of a concatenation: each branch gets its channels, multiplied by its gain.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::Concat;
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};

impl Gradient for Concat {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        extents.by_pixels(Job::Input)
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        // SAFETY: guaranteed by the caller.
        let dy = unsafe { call.dy() };
        let mut first = 0;
        for input in 0..call.inputs.len() {
            let channels = call.inputs.step.reads[input].shape.c;
            let gain = call.inputs.gain(input);
            if let Some((out, add)) = call.dx(input) {
                for p in call.part.pieces.clone() {
                    // SAFETY: guaranteed by the caller.
                    let to = unsafe { out.pixel(p) };
                    for (to, dy) in to.iter_mut().zip(&dy.pixel(p)[first..first + channels]) {
                        *to = gain * dy + if add { *to } else { 0.0 };
                    }
                }
            }
            first += channels;
        }
    }
}
