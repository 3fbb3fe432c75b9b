//! Dropout (Srivastava et al. 2014), with the random numbers of [`crate::plan::random`].

use crate::error::Result;
use crate::gpu::backward::layer::{GradientLayer, LoweredGradients};
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::shaders;
use crate::graph::network::NodeId;
use crate::graph::op::Op;
use crate::plan::Place;
use crate::plan::random::{node_seed, threshold};

static DROPOUT: EntryPoint = EntryPoint::elementwise(
    "dropout",
    &shaders::BACKWARD_DROPOUT,
    &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)],
);
static DROPOUT_GRADIENT: EntryPoint = EntryPoint::elementwise(
    "dropout_gradient",
    &shaders::BACKWARD_DROPOUT,
    &[(0, Access::Params), (4, Access::Read), (2, Access::Read), (5, Access::Write)],
);

params! {
    /// The `Params` of `backward/dropout.wgsl`.
    Params {
        count: u32,
        per_image: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        y_offset: u32,
        y_stride: u32,
        add: u32,
        node: u32,
        threshold: u32,
        factor: f32,
    }
}

impl Params {
    fn new(node: NodeId, ratio: f32, from: Place, to: Place, add: bool) -> Self {
        Params {
            count: to.shape.len() as u32,
            per_image: to.shape.per_image() as u32,
            channels: to.shape.c as u32,
            x_offset: from.offset as u32,
            x_stride: from.stride as u32,
            y_offset: to.offset as u32,
            y_stride: to.stride as u32,
            add: u32::from(add),
            node: node_seed(node),
            threshold: threshold(ratio),
            factor: 1.0 / (1.0 - ratio),
        }
    }
}

/// Appends one dispatch.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Op::Dropout { ratio } = layer.node().op else { return Ok(()) };
    let (from, to) = (layer.from()?, layer.to());
    let params = Params::new(layer.step().node, ratio, from, to, false);
    let binds = vec![Bind::Activations(from.buffer), Bind::DropoutKey, Bind::Activations(to.buffer)];
    lowered.jobs.push(Job::new(&DROPOUT, &params, binds, to.shape.len()));
    Ok(())
}

/// Appends one dispatch for the gradient.
pub fn lower_gradient(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) -> Result<()> {
    let (Op::Dropout { ratio }, Some(target)) = (&layer.op_node().op, layer.target()) else { return Ok(()) };
    let params = Params::new(layer.node, *ratio, layer.gradient, target.place, target.add);
    let binds = vec![Bind::Gradient(layer.gradient.buffer), Bind::DropoutKey, Bind::Gradient(target.place.buffer)];
    lowered.jobs.push(Job::new(&DROPOUT_GRADIENT, &params, binds, target.place.shape.len()));
    Ok(())
}
