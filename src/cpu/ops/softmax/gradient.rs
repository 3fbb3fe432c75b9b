//! The gradient of softmax: `dx_i = y_i * (dy_i - sum of dy_j * y_j)`.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::Softmax;
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};

impl Gradient for Softmax {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        if extents.input { extents.by_pixels(Job::Input) } else { Vec::new() }
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some((out, add)) = call.dx(0) else { return };
        for p in call.part.pieces.clone() {
            // SAFETY: guaranteed by the caller.
            let (dy, to) = unsafe { (call.dy().pixel(p), out.pixel(p)) };
            let y = call.y.pixel(p);
            let sum = dy.iter().zip(y).map(|(dy, y)| f64::from(*dy) * f64::from(*y)).sum::<f64>() as f32;
            for ((to, dy), y) in to.iter_mut().zip(dy).zip(y) {
                *to = y * (dy - sum) + if add { *to } else { 0.0 };
            }
        }
    }
}
