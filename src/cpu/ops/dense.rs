//! Fully connected layers: one matrix product for the whole batch. The work is divided by panels of outputs.

#![allow(unsafe_code, reason = "tasks write their own outputs of one buffer")]

#[cfg(feature = "train")]
pub mod gradient;

use crate::cpu::gemm::{CHAIN, Epilogue, Packed, Rows};
use crate::cpu::kernel::{Call, Kernel, Layer};
use crate::cpu::schedule::Extent;
use crate::error::Result;
use crate::graph::op::Activation;
use crate::graph::tensor::Shape;
use crate::plan::Place;

pub struct Dense {
    /// (in, out).
    weights: Packed,
    relu: bool,
}

impl Dense {
    /// Packs the layer's weight, which is (out, in) with inputs in the order HWC. Fails where a tensor is missing.
    pub fn new(layer: &Layer<'_>, activation: Activation) -> Result<Self> {
        let [weight, bias] = layer.weights()?;
        let weights = Packed::new(layer.isa, &weight, layer.input.per_image(), &bias);
        Ok(Dense { weights, relu: activation == Activation::Relu })
    }
}

impl Kernel for Dense {
    fn check(&self, input: &Place) -> Result<(), String> {
        if !input.is_whole() && input.shape.h * input.shape.w > 1 {
            return Err("a dense layer reads whole buffers only".into());
        }
        Ok(())
    }

    fn algorithm(&self, _: Shape, _: Shape) -> Option<(String, u64)> {
        Some(("GEMM".into(), self.weights.depth() as u64 * self.weights.columns() as u64))
    }

    fn extent(&self, _: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent { panels: self.panels(), ..Extent::WHOLE }
    }

    fn panels(&self) -> usize {
        self.weights.panels()
    }

    #[cfg(feature = "train")]
    fn update(&mut self, weights: &[f32], bias: &[f32]) {
        self.weights.update(weights, bias);
    }

    unsafe fn run(&self, call: Call<'_>) {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = call.inputs.view(0);
            let stride = x.stride * x.shape.h * x.shape.w;
            let rows = Rows::matrix(x.data, stride, self.weights.depth(), x.shape.n);
            self.weights.run(&rows, 0..rows.count, call.out.rows(0), call.panels, Epilogue::relu(self.relu), CHAIN);
        }
    }
}
