//! Dropout. The work is divided by pixels.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::cpu::kernel::{Call, Inputs, Kernel};
use crate::cpu::schedule::Extent;
use crate::graph::tensor::Shape;
#[cfg(feature = "train")]
use crate::{
    cpu::gradient::{Extents, Gradient, GradientCall, Job, Part},
    plan::random::threshold,
};

/// Sets a random `ratio` of the values to zero in training runs, and multiplies the others by `1 / (1 - ratio)`.
pub struct Dropout {
    #[cfg_attr(not(feature = "train"), expect(dead_code, reason = "only training runs drop values"))]
    pub ratio: f32,
}

impl Kernel for Dropout {
    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::pixels(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        // SAFETY: guaranteed by the caller.
        let x = unsafe { call.inputs.view(0) };
        for p in call.pieces {
            // SAFETY: guaranteed by the caller.
            let to = unsafe { call.out.pixel(p) };
            for (c, (to, v)) in to.iter_mut().zip(x.pixel(p)).enumerate() {
                *to = v * self.factor(&call.inputs, x.shape, p, c);
            }
        }
    }
}

impl Dropout {
    /// The factor of channel `c` of pixel `p`, which is counted over the batch.
    fn factor(&self, inputs: &Inputs<'_>, shape: Shape, p: usize, c: usize) -> f32 {
        #[cfg(feature = "train")]
        if let Some(key) = inputs.dropout {
            let pixels = shape.h * shape.w;
            let keeps = key.keeps(inputs.step.node, p / pixels, p % pixels * shape.c + c, threshold(self.ratio));
            return if keeps { 1.0 / (1.0 - self.ratio) } else { 0.0 };
        }
        let _ = (inputs, shape, p, c);
        1.0
    }
}

#[cfg(feature = "train")]
impl Gradient for Dropout {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        if extents.input { extents.by_pixels(Job::Input) } else { Vec::new() }
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some((out, add)) = call.dx(0) else { return };
        // SAFETY: guaranteed by the caller.
        let dy = unsafe { call.dy() };
        for p in call.part.pieces.clone() {
            // SAFETY: guaranteed by the caller.
            let to = unsafe { out.pixel(p) };
            for (c, (to, v)) in to.iter_mut().zip(dy.pixel(p)).enumerate() {
                let value = v * self.factor(&call.inputs, dy.shape, p, c);
                *to = if add { *to + value } else { value };
            }
        }
    }
}
