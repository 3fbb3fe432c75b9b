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
