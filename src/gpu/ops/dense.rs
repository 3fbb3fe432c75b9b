//! Fully connected layers.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::shaders;
use crate::graph::op::{Activation, Op};

/// The number of outputs that one workgroup computes.
const OUTPUTS: usize = 32;

static DENSE: EntryPoint = EntryPoint {
    name: "dense",
    shader: &shaders::DENSE,
    bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Read), (4, Access::Write)],
    per_workgroup: OUTPUTS,
};

params! {
    /// The `Params` of `dense.wgsl`.
    Params {
        inputs: u32,
        channels: u32,
        pixels: u32,
        x_offset: u32,
        x_stride: u32,
        outputs: u32,
        y_offset: u32,
        y_stride: u32,
        relu: u32,
    }
}

/// Appends one dispatch, with one row of workgroups for each picture.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Op::Dense { out, activation } = layer.node().op else { return Ok(()) };
    let (from, to, node) = (layer.from()?, layer.to(), layer.step().node);
    let params = Params {
        inputs: from.shape.per_image() as u32,
        channels: from.shape.c as u32,
        pixels: (from.shape.h * from.shape.w) as u32,
        x_offset: from.offset as u32,
        x_stride: from.stride as u32,
        outputs: out as u32,
        y_offset: to.offset as u32,
        y_stride: to.stride as u32,
        relu: u32::from(activation == Activation::Relu),
    };
    let binds =
        vec![Bind::Activations(from.buffer), Bind::Weight(node), Bind::Bias(node), Bind::Activations(to.buffer)];
    let grid = [out.div_ceil(OUTPUTS) as u32, to.shape.n as u32, 1];
    lowered.jobs.push(Job { grid, ..Job::new(&DENSE, &params, binds, 0) });
    Ok(())
}
