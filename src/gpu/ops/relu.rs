//! The gradient of ReLU, which convolutions and dense layers apply to their output.

use crate::gpu::backward::layer::LoweredGradients;
use crate::gpu::job::{Bind, Job};
use crate::gpu::kernel::{EntryPoint, READ_WRITE, params};
use crate::gpu::layout::is_vec4;
use crate::gpu::shaders;
use crate::plan::Place;

static RELU_GRADIENT: EntryPoint = EntryPoint::elementwise("relu_gradient", &shaders::BACKWARD_RELU, READ_WRITE);
static RELU_GRADIENT4: EntryPoint = EntryPoint::elementwise("relu_gradient4", &shaders::BACKWARD_RELU, READ_WRITE);

params! {
    /// The `Params` of `backward/relu.wgsl`.
    Params {
        count: u32,
        channels: u32,
        y_offset: u32,
        y_stride: u32,
        g_offset: u32,
        g_stride: u32,
    }
}

/// Appends a dispatch that sets a gradient to 0 where the output is 0. Both have the same shape.
pub fn lower_gradient(output: Place, gradient: Place, lowered: &mut LoweredGradients) {
    let (entry, each) = if is_vec4(&output) && is_vec4(&gradient) { (&RELU_GRADIENT4, 4) } else { (&RELU_GRADIENT, 1) };
    let count = gradient.shape.len() / each;
    let params = Params {
        count: count as u32,
        channels: gradient.shape.c as u32,
        y_offset: output.offset as u32,
        y_stride: output.stride as u32,
        g_offset: gradient.offset as u32,
        g_stride: gradient.stride as u32,
    };
    let binds = vec![Bind::Activations(output.buffer), Bind::Gradient(gradient.buffer)];
    lowered.jobs.push(Job::new(entry, &params, binds, count));
}
