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
