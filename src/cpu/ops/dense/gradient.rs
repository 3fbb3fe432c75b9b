//! The gradients of a dense layer, as those of a convolution whose pixels are the pictures of the batch.

#![allow(unsafe_code, reason = "tasks write their own part of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::cpu::gemm::{CHAIN, Epilogue, Packed, Rows};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};
use crate::cpu::ops::activation;
use crate::cpu::outer::{self, Pixels};
use crate::cpu::simd::Isa;
use crate::cpu::view::{RowsMut, View};
use crate::graph::op::Activation;
use crate::graph::tensor::Shape;
use std::sync::{Mutex, PoisonError};

pub struct DenseGradient {
    isa: Isa,
    relu: bool,
    /// The number of pictures, and of outputs.
    pictures: usize,
    outputs: usize,
    /// Memory for the output's gradient as a matrix (outputs, pictures), of which each thread takes one.
    packed: Mutex<Vec<Packed>>,
}

/// The number of inputs in a piece of the input's gradient: a multiple of the height of every register tile.
const STRIP: usize = 24;

impl DenseGradient {
    /// The gradients of a layer between these shapes.
    pub fn new(isa: Isa, activation: Activation, y: Shape) -> Self {
        let relu = activation == Activation::Relu;
        DenseGradient { isa, relu, pictures: y.n, outputs: y.c, packed: Mutex::new(Vec::new()) }
    }

    /// The product of these rows of the weights, (inputs, outputs), and the output's gradient.
    ///
    /// # Safety
    /// The same as for [`Gradient::run`].
    unsafe fn input(&self, call: GradientCall<'_>) {
        let (Some((out, add)), Some(weights)) = (call.dx(0), call.parameters) else { return };
        let (pictures, outputs) = (self.pictures, self.outputs);
        // SAFETY: guaranteed by the caller.
        let dy = unsafe { call.dy() };
        let (across, rest) = call.scratch.split_at_mut(outputs * pictures);
        for picture in 0..pictures {
            across[picture..].iter_mut().step_by(pictures).zip(dy.pixel(picture)).for_each(|(to, v)| *to = *v);
        }
        let free = || self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut packed = taken.unwrap_or_else(|| Packed::zeros(self.isa, outputs, pictures));
        packed.update(across, &[]);
        let Shape { h, w, c, .. } = out.shape;
        let first = call.part.pieces.start * STRIP;
        let count = (call.part.pieces.end * STRIP).min(h * w * c) - first;
        let rows = Rows::matrix(&weights[first * outputs..], outputs, outputs, count);
        let products = &mut rest[..count * pictures];
        let to = RowsMut { data: products.as_mut_ptr(), stride: pictures };
        // SAFETY: there is room for the products.
        unsafe { packed.run(&rows, 0..count, to, 0..packed.panels(), Epilogue::default(), CHAIN) };
        free().push(packed);
        for (i, products) in products.chunks_exact(pictures).enumerate() {
            let (pixel, channel) = ((first + i) / c, (first + i) % c);
            for (picture, product) in products.iter().enumerate() {
                // SAFETY: no other thread accesses these values.
                unsafe {
                    let to = out.at(picture * h * w + pixel, channel, 1);
                    *to = if add { *to + product } else { *product };
                }
            }
        }
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
        if extents.input {
            parts.extend(Part::divide(Job::Input, extents.x.per_image().div_ceil(STRIP), extents.shares(values)));
        }
        parts
    }

    fn scratch(&self, extents: &Extents<'_>, part: &Part) -> usize {
        match part.job {
            Job::Activation => activation::scratch(extents),
            Job::Weights => outer::scratch(self.isa, outer::BLOCK.min(extents.x.n)),
            Job::Input => self.pictures * (self.outputs + part.pieces.len() * STRIP),
        }
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
                Job::Input => self.input(call),
            }
        }
    }
}
