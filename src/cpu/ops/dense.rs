//! Fully connected layers: one matrix product for the whole batch. The work is divided by panels of outputs.

#![allow(unsafe_code, reason = "tasks write their own outputs of one buffer")]

use crate::cpu::gemm::{CHAIN, Packed, Rows};
use crate::cpu::simd::Isa;
use crate::cpu::view::{Out, View};
use crate::graph::op::Activation;
use std::ops::Range;

pub struct Dense {
    /// (in, out).
    weights: Packed,
    relu: bool,
}

impl Dense {
    /// Packs `weight`, which is (out, in) with inputs in the order HWC, as in a model file.
    pub fn new(isa: Isa, activation: Activation, inputs: usize, weight: &[f32], bias: &[f32]) -> Self {
        Dense { weights: Packed::new(isa, weight, inputs, bias), relu: activation == Activation::Relu }
    }

    pub fn panels(&self) -> usize {
        self.weights.panels()
    }

    /// Computes these panels' outputs for all pictures. `x` must be a whole buffer, or have one pixel for each picture.
    ///
    /// # Safety
    /// No other thread may access these panels' channels of `out`.
    pub unsafe fn run(&self, x: View<'_>, out: Out<'_>, panels: Range<usize>) {
        let stride = x.stride * x.shape.h * x.shape.w;
        let rows = Rows::matrix(x.data, stride, self.weights.depth(), x.shape.n);
        // SAFETY: guaranteed by the caller.
        unsafe { self.weights.run(&rows, 0..rows.count, out.rows(0), panels, self.relu, CHAIN) }
    }
}
