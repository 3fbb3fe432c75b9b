//! Concatenation along channels, with one gain for each input. Each input is copied to its range of the output's
//! channels.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::shaders;

static CONCAT: EntryPoint = EntryPoint::elementwise(
    "concat",
    &shaders::CONCAT,
    &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)],
);

params! {
    /// The `Params` of `concat.wgsl`.
    Params {
        count: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        y_offset: u32,
        y_stride: u32,
        branch: u32,
    }
}

/// Appends one dispatch for each input.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let to = layer.to();
    let mut offset = to.offset;
    for (&branch, &from) in layer.node().inputs.iter().zip(&layer.step().reads) {
        let params = Params {
            count: from.shape.len() as u32,
            channels: from.shape.c as u32,
            x_offset: from.offset as u32,
            x_stride: from.stride as u32,
            y_offset: offset as u32,
            y_stride: to.stride as u32,
            branch: branch as u32,
        };
        let binds = vec![Bind::Activations(from.buffer), Bind::Gains, Bind::Activations(to.buffer)];
        lowered.jobs.push(Job::new(&CONCAT, &params, binds, from.shape.len()));
        offset += from.shape.c;
    }
    Ok(())
}

/// The gradients.
#[cfg(feature = "train")]
pub mod gradient {
    use super::*;
    use crate::gpu::backward::layer::{GradientLayer, LoweredGradients};

    static CONCAT_GRADIENT: EntryPoint = EntryPoint::elementwise(
        "concat_gradient",
        &shaders::BACKWARD_CONCAT,
        &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)],
    );

    params! {
        /// The `Params` of `backward/concat.wgsl`.
        GradientParams {
            count: u32,
            channels: u32,
            g_offset: u32,
            g_stride: u32,
            to_offset: u32,
            to_stride: u32,
            branch: u32,
            add: u32,
        }
    }

    /// Appends one dispatch for the gradient for each input that needs it.
    pub fn lower_gradient(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) {
        let from = layer.gradient;
        let mut offset = from.offset;
        for ((&branch, read), target) in layer.op_node().inputs.iter().zip(layer.reads).zip(layer.inputs) {
            if let Some(target) = target {
                let to = target.place;
                let params = GradientParams {
                    count: to.shape.len() as u32,
                    channels: to.shape.c as u32,
                    g_offset: offset as u32,
                    g_stride: from.stride as u32,
                    to_offset: to.offset as u32,
                    to_stride: to.stride as u32,
                    branch: branch as u32,
                    add: u32::from(target.add),
                };
                let binds = vec![Bind::Gradient(from.buffer), Bind::Gains, Bind::Gradient(to.buffer)];
                lowered.jobs.push(Job::new(&CONCAT_GRADIENT, &params, binds, to.shape.len()));
            }
            offset += read.shape.c;
        }
    }
}
