//! What the gradient of a kernel is: how its work is divided, and how it is called.

#![allow(unsafe_code, reason = "buffers that many threads write into, each its own part")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::kernel::Inputs;
use super::memory::Buffer;
use super::view::{Out, View};
use crate::graph::op::Geometry;
use crate::graph::tensor::Shape;
use crate::plan::Place;
use crate::plan::backward::Target;
use std::ops::Range;

/// Work of less than this many values is not shared among threads.
const MIN_SHARED_VALUES: usize = 16 * 1024;

/// The channels of a part are a multiple of this number, which is a cache line.
const CHANNELS: usize = 16;

/// Which of a layer's gradients a part of its work computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// The gradient before the activation function, and the biases' gradient. All of it is done before the other jobs.
    Activation,
    Weights,
    Input,
}

/// A part of the work on a layer's gradients, for one thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub job: Job,
    /// The range of the job's pieces, whose unit is the kernel's choice.
    pub pieces: Range<usize>,
    /// The range of the panels of channels.
    pub panels: Range<usize>,
}

impl Part {
    /// Divides a job into at most `count` parts of consecutive pieces.
    pub fn divide(job: Job, pieces: usize, count: usize) -> Vec<Part> {
        let size = pieces.div_ceil(count.max(1)).max(1);
        (0..pieces)
            .step_by(size)
            .map(|first| Part { job, pieces: first..(first + size).min(pieces), panels: 0..1 })
            .collect()
    }
}

/// What the division of the work depends on.
#[derive(Debug, Clone, Copy)]
pub struct Extents<'a> {
    /// The shape of the first input, with the batch.
    pub x: Shape,
    /// The shape of the output, with the batch.
    pub y: Shape,
    pub geometry: Option<&'a Geometry>,
    /// Whether the gradient for the first input is computed.
    pub input: bool,
    /// Whether the gradients for the weights are computed.
    pub weights: bool,
    pub threads: usize,
}

impl Extents<'_> {
    /// The number of parts into which work on this many values should be divided.
    pub fn shares(&self, values: usize) -> usize {
        if self.threads == 1 || values < MIN_SHARED_VALUES { 1 } else { 2 * self.threads }
    }

    /// Parts by pixels of the output, which are counted over the batch.
    pub fn by_pixels(&self, job: Job) -> Vec<Part> {
        Part::divide(job, self.y.pixels(), self.shares(self.y.len()))
    }
}

/// The number of blocks of channels.
pub fn channel_blocks(channels: usize) -> usize {
    channels.div_ceil(CHANNELS)
}

/// The channels of a block.
pub fn channel_block(block: usize, channels: usize) -> Range<usize> {
    block * CHANNELS..((block + 1) * CHANNELS).min(channels)
}

/// The gradients of one layer.
pub trait Gradient: Send + Sync {
    /// The parts of the work. Those of [`Job::Activation`] are done before the others.
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part>;

    /// The number of scratch floats that a part needs.
    fn scratch(&self, _extents: &Extents<'_>, _part: &Part) -> usize {
        0
    }

    /// Replaces the weights, in the layout of [`Kernel::update`](super::kernel::Kernel::update).
    fn update(&mut self, _weights: &[f32]) {}

    /// Computes a part.
    ///
    /// # Safety
    /// No other thread may write what the call reads, or access what it writes.
    unsafe fn run(&self, call: GradientCall<'_>);
}

/// The gradients for the weights and biases of one layer, in the layout of
/// [`Kernel::update`](super::kernel::Kernel::update).
pub struct WeightGradient {
    pub weights: Buffer,
    pub bias: Buffer,
}

/// One call of [`Gradient::run`].
pub struct GradientCall<'a> {
    /// The inputs of the forward run.
    pub inputs: Inputs<'a>,
    /// The output of the forward run.
    pub y: View<'a>,
    /// The place of the gradient with respect to the output.
    pub gradient: Place,
    /// For each input, where the gradient with respect to it is written.
    pub targets: &'a [Option<Target>],
    /// The gradient buffers.
    pub buffers: &'a [Buffer],
    /// The layer's weights, in the layout of [`Kernel::update`](super::kernel::Kernel::update), if it has some.
    pub parameters: Option<&'a [f32]>,
    /// Where the gradients for weights and biases are written, if they are computed.
    pub weights: Option<&'a WeightGradient>,
    /// Whether the gradients for weights and biases replace those of an earlier run, instead of being added to them.
    pub fresh: bool,
    /// The geometry of the layer's window on the first input.
    pub geometry: Option<&'a Geometry>,
    pub part: &'a Part,
    /// As many floats as [`Gradient::scratch`] asks for.
    pub scratch: &'a mut [f32],
}

impl<'a> GradientCall<'a> {
    /// The gradient with respect to the output.
    ///
    /// # Safety
    /// No other thread may write it while it is in use.
    pub unsafe fn dy(&self) -> View<'a> {
        // SAFETY: guaranteed by the caller.
        View::new(unsafe { self.buffers[self.gradient.buffer].read() }, self.gradient)
    }

    /// The gradient with respect to the output, to be changed in place.
    pub fn dy_out(&self) -> Out<'a> {
        self.buffers[self.gradient.buffer].out(self.gradient)
    }

    /// The gradient with respect to an input, and whether it is added to what is there; `None` where it is not needed.
    pub fn dx(&self, input: usize) -> Option<(Out<'a>, bool)> {
        let Target { place, add } = self.targets[input]?;
        Some((self.buffers[place.buffer].out(place), add))
    }
}
