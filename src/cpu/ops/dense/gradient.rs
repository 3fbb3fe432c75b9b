//! The gradients of a dense layer, as those of a convolution whose pixels are the pictures of the batch.

#![allow(unsafe_code, reason = "tasks write their own part of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::cpu::gemm::{CHAIN, Epilogue, Packed, Rows};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};
use crate::cpu::ops::{activation, conv::gradient::transpose};
use crate::cpu::outer::{self, Pixels};
use crate::cpu::simd::Isa;
use crate::cpu::view::{RowsMut, View};
use crate::graph::op::Activation;
use crate::graph::tensor::Shape;

pub struct DenseGradient {
    isa: Isa,
    relu: bool,
    /// (outputs, inputs); `None` where the input's gradient is never needed.
    input: Option<Packed>,
    transposed: Vec<f32>,
}

impl DenseGradient {
    /// The gradients of a layer between these shapes, with weights of zero until [`Gradient::update`]. `input` says whether
    /// the input's gradient is needed.
    pub fn new(isa: Isa, activation: Activation, [x, y]: [Shape; 2], input: bool) -> Self {
        let input = input.then(|| Packed::zeros(isa, y.c, x.per_image()));
        let transposed = if input.is_some() { vec![0.0; x.per_image() * y.c] } else { Vec::new() };
        DenseGradient { isa, relu: activation == Activation::Relu, input, transposed }
    }
}

/// The number of floats between the pictures of an input, which is whole or has one pixel.
fn stride(view: &View<'_>) -> usize {
    view.stride * view.shape.h * view.shape.w
}

impl Gradient for DenseGradient {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        let mut parts = Vec::new();
        if self.relu || extents.weights {
            parts.extend(activation::parts(extents));
        }
        let values = extents.x.per_image() * extents.y.c;
        if extents.weights {
            parts.extend(Part::divide(Job::Weights, extents.x.per_image(), extents.shares(values)));
        }
        if let Some(packed) = self.input.as_ref().filter(|_| extents.input) {
            parts.extend(Part::divide(Job::Input, packed.panels(), extents.shares(values)));
        }
        parts
    }

    fn scratch(&self, extents: &Extents<'_>, part: &Part) -> usize {
        match part.job {
            Job::Activation => activation::scratch(extents),
            Job::Weights => outer::scratch(self.isa, outer::BLOCK.min(extents.x.n)),
            Job::Input => 0,
        }
    }

    fn update(&mut self, weights: &[f32]) {
        let Some(packed) = &mut self.input else { return };
        transpose(weights, packed.depth(), &mut self.transposed);
        packed.update(&self.transposed, &[]);
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let pieces = call.part.pieces.clone();
        // SAFETY: guaranteed by the caller.
        unsafe {
            match call.part.job {
                Job::Activation => activation::run(self.isa, self.relu, call),
                Job::Weights => {
                    let Some(weights) = call.weights else { return };
                    let (x, dy) = (call.inputs.view(0), call.dy());
                    for first in (0..x.shape.n).step_by(outer::BLOCK) {
                        let pixels = Pixels {
                            a: &x.data[first * stride(&x)..],
                            lines: 1,
                            width: outer::BLOCK.min(x.shape.n - first),
                            line_step: 0,
                            step: stride(&x),
                            segments: 1,
                            pitch: 0,
                            rows: x.shape.per_image(),
                            b: dy,
                            first,
                        };
                        let fresh = call.fresh && first == 0;
                        let c = weights.weights.pointer();
                        outer::outer(self.isa, &pixels, pieces.clone(), c, fresh, call.scratch);
                    }
                }
                Job::Input => {
                    let (Some(packed), Some((out, add))) = (&self.input, call.dx(0)) else { return };
                    let dy = call.dy();
                    let rows = Rows::matrix(dy.data, dy.stride, dy.shape.c, dy.shape.n);
                    // The pixels of a picture are a row.
                    let to = RowsMut { stride: out.stride * out.shape.h * out.shape.w, ..out.rows(0) };
                    packed.run(&rows, 0..rows.count, to, pieces, Epilogue { relu: false, add }, CHAIN);
                }
            }
        }
    }
}
