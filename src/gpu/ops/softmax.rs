//! Softmax over the channels of each pixel.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::shaders;

static SOFTMAX: EntryPoint = EntryPoint {
    name: "softmax",
    shader: &shaders::SOFTMAX,
    bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Write), (3, Access::Write)],
    per_workgroup: 1,
};

params! {
    /// The `Params` of `softmax.wgsl`.
    Params {
        pixels: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        y_offset: u32,
        y_stride: u32,
        first: u32,
    }
}

/// Appends one dispatch, with one workgroup for each pixel. The probabilities are also written to
/// [`Bind::HeadOutputs`].
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let (from, to) = (layer.from()?, layer.to());
    let (firsts, count) = &mut lowered.head_outputs;
    let params = Params {
        pixels: to.shape.pixels() as u32,
        channels: to.shape.c as u32,
        x_offset: from.offset as u32,
        x_stride: from.stride as u32,
        y_offset: to.offset as u32,
        y_stride: to.stride as u32,
        first: *count as u32,
    };
    firsts.insert(layer.step().node, *count);
    *count += to.shape.len();
    let binds = vec![Bind::Activations(from.buffer), Bind::Activations(to.buffer), Bind::HeadOutputs];
    lowered.jobs.push(Job::new(&SOFTMAX, &params, binds, to.shape.pixels()));
    Ok(())
}

/// The gradients.
#[cfg(feature = "train")]
pub mod gradient {
    use super::*;
    use crate::gpu::backward::layer::{GradientLayer, LoweredGradients};

    static SOFTMAX_GRADIENT: EntryPoint = EntryPoint {
        name: "softmax_gradient",
        shader: &shaders::BACKWARD_SOFTMAX,
        bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)],
        per_workgroup: 1,
    };

    params! {
        /// The `Params` of `backward/softmax.wgsl`.
        GradientParams {
            pixels: u32,
            channels: u32,
            y_offset: u32,
            y_stride: u32,
            g_offset: u32,
            g_stride: u32,
            to_offset: u32,
            to_stride: u32,
            add: u32,
        }
    }

    /// Appends one dispatch for the gradient, with one workgroup for each pixel.
    pub fn lower_gradient(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) {
        let Some(target) = layer.target() else { return };
        let (output, gradient, to) = (layer.writes, layer.gradient, target.place);
        let params = GradientParams {
            pixels: to.shape.pixels() as u32,
            channels: to.shape.c as u32,
            y_offset: output.offset as u32,
            y_stride: output.stride as u32,
            g_offset: gradient.offset as u32,
            g_stride: gradient.stride as u32,
            to_offset: to.offset as u32,
            to_stride: to.stride as u32,
            add: u32::from(target.add),
        };
        let binds = vec![Bind::Activations(output.buffer), Bind::Gradient(gradient.buffer), Bind::Gradient(to.buffer)];
        lowered.jobs.push(Job::new(&SOFTMAX_GRADIENT, &params, binds, to.shape.pixels()));
    }
}
