//! What a kernel of the CPU engine is: how its work can be divided, and how it is called.

use super::memory::Buffer;
use super::schedule::Extent;
use super::simd::Isa;
use super::view::{Out, View};
use crate::error::Result;
use crate::graph::op::{Geometry, Window};
use crate::graph::tensor::Shape;
use crate::model::{Model, tensor_names};
#[cfg(feature = "train")]
use crate::plan::random::DropoutKey;
use crate::plan::{Place, Step};
use std::ops::Range;

/// What a kernel is made from.
pub struct Layer<'a> {
    pub isa: Isa,
    pub name: &'a str,
    pub model: &'a Model,
    /// The shapes of the first input and of the output, for one picture.
    pub input: Shape,
    pub output: Shape,
}

impl Layer<'_> {
    /// The layer's weight and bias, as in a model file.
    pub fn weights(&self) -> Result<[Vec<f32>; 2]> {
        let [weight, bias] = tensor_names(self.name);
        Ok([self.model.weights.get(&weight)?.1, self.model.weights.get(&bias)?.1])
    }
}

/// The computation of one layer. Its work is divided into pieces of the output map, whose unit is the kernel's choice, and
/// into panels of output channels.
pub trait Kernel: Send + Sync {
    /// The window that slides over the input, if one does.
    fn window(&self) -> Option<Window> {
        None
    }

    /// Says why an input at this place cannot be read, if it cannot.
    fn check(&self, _input: &Place) -> Result<(), String> {
        Ok(())
    }

    /// The name of the algorithm and the number of multiply-adds that it executes for one picture; `None` where there is
    /// only one way and no multiply-adds are counted.
    fn algorithm(&self, _input: Shape, _output: Shape) -> Option<(String, u64)> {
        None
    }

    /// How the work can be divided. `others` are the kernels of the other steps of the group: siblings that read the same
    /// input, or a convolution that reads the output of this pool.
    fn extent(&self, output: Shape, others: &[&dyn Kernel]) -> Extent;

    /// The number of panels of output channels.
    fn panels(&self) -> usize {
        1
    }

    /// The largest number of pieces that one task should take, so that its data stays in the second-level cache.
    fn block(&self, _output: Shape) -> usize {
        usize::MAX
    }

    /// The number of scratch floats that a task of this many pieces needs.
    fn scratch(&self, _geometry: Option<&Geometry>, _input: Shape, _output: Shape, _pieces: usize) -> usize {
        0
    }

    /// Replaces the weights, which are (height, width, input channels, output channels), or (inputs, outputs) for a dense
    /// layer, and the biases. Kernels without weights do nothing.
    #[cfg(feature = "train")]
    fn update(&mut self, _weights: &[f32], _bias: &[f32]) {}

    /// Computes pieces and panels of a step.
    ///
    /// # Safety
    /// No other thread may write what the call reads, or access the pieces and panels that it writes.
    #[allow(unsafe_code, reason = "tasks write their own part of one buffer")]
    unsafe fn run(&self, call: Call<'_>);
}

/// One call of [`Kernel::run`].
pub struct Call<'a> {
    pub inputs: Inputs<'a>,
    pub out: Out<'a>,
    /// The geometry of the kernel's window on the first input.
    pub geometry: Option<&'a Geometry>,
    pub pieces: Range<usize>,
    pub panels: Range<usize>,
    /// As many floats as [`Kernel::scratch`] asks for.
    pub scratch: &'a mut [f32],
}

/// The inputs of a step.
pub struct Inputs<'a> {
    pub buffers: &'a [Buffer],
    pub step: &'a Step,
    /// The nodes that the step reads.
    pub nodes: &'a [usize],
    /// One factor for each node of the network.
    pub gains: &'a [f32],
    /// Which values dropout keeps; `None` outside of training.
    #[cfg(feature = "train")]
    pub dropout: Option<DropoutKey>,
}

impl<'a> Inputs<'a> {
    /// The number of inputs.
    pub fn len(&self) -> usize {
        self.step.reads.len()
    }

    /// The values of an input.
    ///
    /// # Safety
    /// No other thread may write them while they are in use.
    #[allow(unsafe_code, reason = "buffers that several threads use")]
    pub unsafe fn view(&self, input: usize) -> View<'a> {
        let place = self.step.reads[input];
        // SAFETY: guaranteed by the caller.
        View::new(unsafe { self.buffers[place.buffer].read() }, place)
    }

    /// The factor of an input.
    pub fn gain(&self, input: usize) -> f32 {
        self.gains.get(self.nodes[input]).copied().unwrap_or(1.0)
    }
}
