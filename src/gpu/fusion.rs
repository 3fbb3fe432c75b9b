//! Decides which steps of a plan one dispatch computes.

use super::layout::is_vec4;
use super::ops::conv::{MAX_LAYERS, MAX_NORMALISED, has_relu};
use crate::graph::network::Network;
use crate::graph::op::Op;
use crate::plan::Plan;

/// Groups the steps of a plan by dispatch, as indices into [`Plan::steps`]. The groups are those of [`Plan::fused`]
/// within the limits of the shaders: the layers of one dispatch write to different buffers and either all or none of
/// them apply ReLU, and a fused pool needs channels in vectors of four. In addition, a convolution is fused with the
/// normalisation that follows it if one workgroup can hold all channels. The same layers are fused in every plan of a
/// network, because their weights are packed together.
pub fn groups(network: &Network, plan: &Plan, layout_plan: &Plan) -> Vec<Vec<usize>> {
    let op = |step: usize| &network.node(plan.steps[step].node).op;
    let place = |step: usize| layout_plan.places[plan.steps[step].node];
    let read = |step: usize| layout_plan.places[network.node(plan.steps[step].node).inputs[0]];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for fused in plan.fused(network) {
        let is_pool = matches!(op(fused[0]), Op::MaxPool(_));
        let start = groups.len();
        for step in fused {
            let joins = |group: &&mut Vec<usize>| {
                let apart = group.iter().all(|&other| place(other).buffer != place(step).buffer);
                let alike = if is_pool {
                    group.len() == 1 && [read(group[0]), place(group[0]), place(step)].iter().all(is_vec4)
                } else {
                    group.len() < MAX_LAYERS && has_relu(op(group[0])) == has_relu(op(step))
                };
                apart && alike
            };
            match groups[start..].iter_mut().find(joins) {
                Some(group) => group.push(step),
                None => groups.push(vec![step]),
            }
        }
    }
    let is_norm = |step: usize| matches!(op(step), Op::Lrn { .. });
    let mut joined: Vec<Vec<usize>> = Vec::new();
    for group in groups {
        let normalised = |before: &&mut Vec<usize>| {
            let (conv, norm) = (before[0], group[0]);
            let follows = network.node(plan.steps[norm].node).inputs == [plan.steps[conv].node];
            let vec4 = [read(conv), place(conv), place(norm)].iter().all(is_vec4);
            let fits = place(conv).shape.c <= MAX_NORMALISED;
            before.len() == 1 && is_norm(norm) && matches!(op(conv), Op::Conv { .. }) && follows && vec4 && fits
        };
        match joined.iter_mut().find(normalised) {
            Some(conv) => conv.extend(group),
            None => joined.push(group),
        }
    }
    joined
}
