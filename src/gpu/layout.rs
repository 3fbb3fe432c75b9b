//! The layout of activations and weights in the GPU's memory: activations are NHWC, in vectors of four channels where
//! possible.

use crate::error::Result;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::graph::tensor::Tensor;
use crate::plan::winograd::Tiling;
use crate::plan::{ConcatMode, Place, Plan};
use half::f16;
use std::borrow::Cow;

/// Whether a place can be read and written as vectors of four channels.
pub fn is_vec4(place: &Place) -> bool {
    [place.shape.c, place.offset, place.stride].iter().all(|n| n.is_multiple_of(4))
}

/// Whether the channels of a node are padded to a multiple of four, which is so for inputs only.
pub fn is_padded(network: &Network, node: NodeId) -> bool {
    matches!(network.node(node).op, Op::Input(_))
}

/// The plan that decides for all plans of a network what is read and written in vectors of four. It writes the branches
/// of a module into one buffer, which allows the fewest vectors. Weights are packed once for all plans, so their layout
/// must not depend on the plan.
pub fn layout_plan(network: &Network) -> Result<Plan> {
    Plan::new(network, 1, ConcatMode::InPlace)
}

/// The plan with the channels of its inputs padded to a multiple of four.
pub fn pad_inputs(network: &Network, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for input in network.inputs() {
        let buffer = plan.places[input].buffer;
        plan.buffers[buffer].c = plan.buffers[buffer].c.next_multiple_of(4);
        let stride = plan.buffers[buffer].c;
        let reads = plan.steps.iter_mut().flat_map(|step| &mut step.reads);
        plan.places.iter_mut().chain(reads).filter(|p| p.buffer == buffer).for_each(|p| p.stride = stride);
    }
    plan
}

/// The tensor at a place, from all values of the place's buffer.
pub fn from_buffer(place: Place, values: Vec<f32>) -> Tensor {
    let channels = place.offset..place.offset + place.shape.c;
    let data = if place.is_whole() {
        values
    } else {
        values.chunks_exact(place.stride).flat_map(|pixel| &pixel[channels.clone()]).copied().collect()
    };
    Tensor { shape: place.shape, data }
}

/// The values of a tensor in the layout of its place's buffer, with zeros in the channels between.
pub fn to_buffer<'a>(place: Place, values: &'a [f32]) -> Cow<'a, [f32]> {
    if place.is_whole() {
        return Cow::Borrowed(values);
    }
    let mut spread = vec![0.0; values.len() / place.shape.c * place.stride];
    for (to, from) in spread.chunks_exact_mut(place.stride).zip(values.chunks_exact(place.shape.c)) {
        to[..from.len()].copy_from_slice(from);
    }
    Cow::Owned(spread)
}

/// How the weights of a dispatch are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    Buffer,
    Texture,
    /// As a texture of the filters after Winograd's filter transform.
    Winograd(Tiling),
}

/// Converts values to f16, as their bits.
pub fn f32_to_f16(values: &[f32]) -> Vec<u16> {
    values.iter().map(|value| f16::from_f32(*value).to_bits()).collect()
}
