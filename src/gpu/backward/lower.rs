//! Lowers a backward plan to dispatches.

use super::layer::{GradientLayer, LoweredGradients, Transposed};
use crate::error::Result;
use crate::gpu::device::KernelSet;
use crate::gpu::job::{Bind, Layer, Lowered};
use crate::gpu::launch::{ConvKey, LaunchConfig};
use crate::gpu::layout::{WeightLayout, pad_inputs};
use crate::gpu::ops::{self, concat, conv, dropout, lrn, pool, relu, softmax};
use crate::gpu::software;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Activation, Geometry, Op, Padding, Window};
use crate::graph::tensor::Shape;
use crate::plan::backward::{BackwardPlan, BackwardStep, Target};
use crate::plan::{Place, Plan, Step};

/// A part of a backward pass.
pub enum Part {
    /// The gradient of a term, by its number, of the output at this place.
    Seed { seed: usize, node: NodeId, from: Place, target: Target },
    /// The next dispatch.
    Job,
}

/// The gradients for the weights and biases of one layer, among those of all layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    pub node: NodeId,
    /// The index of the first weight, which is a multiple of four.
    pub first: usize,
    /// The number of weights. The biases follow them.
    pub weights: usize,
    pub biases: usize,
}

/// A backward plan, lowered to dispatches.
pub struct LoweredBackward {
    pub gradients: LoweredGradients,
    /// All parts in the order in which they run.
    pub parts: Vec<Part>,
    pub blocks: Vec<Block>,
}

impl LoweredBackward {
    /// The number of values of the gradients for the weights and biases of all layers.
    pub fn weight_values(&self) -> usize {
        self.blocks.last().map_or(0, Block::end)
    }
}

impl Block {
    /// The index after the layer's last value, rounded up to a multiple of four.
    pub fn end(&self) -> usize {
        (self.first + self.weights + self.biases).next_multiple_of(4)
    }
}

/// Lowers a backward plan of `plan`. `config` returns the launch configuration of each convolution.
pub fn lower(
    network: &Network,
    plan: &Plan,
    backward: &BackwardPlan,
    set: KernelSet,
    config: &dyn Fn(ConvKey) -> LaunchConfig,
) -> Result<LoweredBackward> {
    let plan = pad_inputs(network, plan);
    let mut lowered = LoweredBackward {
        gradients: LoweredGradients::default(),
        parts: Vec::new(),
        blocks: blocks(network, backward),
    };
    // The concatenations whose gradient has been through the ReLU of all branches.
    let mut masked = vec![false; network.nodes().len()];
    for step in &backward.steps {
        let (node, gradient, inputs) = match step {
            BackwardStep::Seed { seed, node, target } => {
                let from = plan.places[*node];
                lowered.parts.push(Part::Seed { seed: *seed, node: *node, from, target: *target });
                continue;
            }
            BackwardStep::Node { node, gradient, inputs, .. } => (*node, *gradient, inputs),
        };
        let reads: Vec<Place> = network.node(node).inputs.iter().map(|&input| plan.places[input]).collect();
        let weights = lowered.blocks.iter().find(|block| block.node == node).map(|block| block.first);
        let writes = plan.places[node];
        let layer = GradientLayer { network, node, reads: &reads, writes, gradient, inputs, weights, set, config };
        let from = lowered.gradients.jobs.len();
        if has_relu(&layer.op_node().op) {
            lower_relu(&layer, &plan, &mut masked, &mut lowered.gradients);
        }
        lower_node(&layer, &mut lowered.gradients)?;
        lowered.parts.extend((from..lowered.gradients.jobs.len()).map(|_| Part::Job));
    }
    Ok(lowered)
}

/// The layers for whose weights gradients are computed.
fn blocks(network: &Network, backward: &BackwardPlan) -> Vec<Block> {
    let mut nodes: Vec<NodeId> = backward
        .steps
        .iter()
        .filter_map(|step| match step {
            BackwardStep::Node { node, weights: true, .. } => Some(*node),
            _ => None,
        })
        .collect();
    nodes.sort_unstable();
    let mut first = 0;
    let block = |node: NodeId| {
        let biases = network.node(node).shape.c;
        let block = Block { node, first, weights: network.params(node) - biases, biases };
        first = block.end();
        block
    };
    nodes.into_iter().map(block).collect()
}

fn has_relu(op: &Op) -> bool {
    matches!(op, Op::Conv { activation: Activation::Relu, .. } | Op::Dense { activation: Activation::Relu, .. })
}

/// Applies the gradient of ReLU to the gradient for a layer's output, and if the layer is a branch whose output is
/// concatenated in place, to those for all branches at once.
fn lower_relu(layer: &GradientLayer<'_>, plan: &Plan, masked: &mut [bool], lowered: &mut LoweredGradients) {
    let network = layer.network;
    let is_slice = |reader: &NodeId| {
        network.node(*reader).op == Op::Concat
            && plan.places[*reader].buffer == layer.writes.buffer
            && !layer.gradient.is_whole()
    };
    let Some(concat) = network.readers(layer.node).find(is_slice) else {
        return relu::lower_gradient(layer.writes, layer.gradient, lowered);
    };
    if masked[concat] {
        return;
    }
    if network.node(concat).inputs.iter().all(|&branch| has_relu(&network.node(branch).op)) {
        masked[concat] = true;
        let all = plan.places[concat];
        let gradient = Place { buffer: layer.gradient.buffer, offset: 0, stride: all.shape.c, shape: all.shape };
        return relu::lower_gradient(all, gradient, lowered);
    }
    relu::lower_gradient(layer.writes, layer.gradient, lowered);
}

fn lower_node(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) -> Result<()> {
    match &layer.op_node().op {
        Op::Input(_) => {}
        Op::Conv { window, .. } => {
            let geometry = layer.geometry(window)?;
            if let Some(first) = layer.weights {
                conv::gradient::lower_weights(layer, &geometry, first, lowered)?;
            }
            match layer.target() {
                Some(target) if geometry.stride == [1, 1] => lower_conv_input(layer, &geometry, target, lowered)?,
                _ => conv::gradient::lower_input(layer, &geometry, lowered)?,
            }
        }
        Op::Dense { .. } => {
            let input = layer.from()?.shape;
            let geometry = whole_window([input.h, input.w]);
            if let Some(first) = layer.weights {
                conv::gradient::lower_weights(layer, &geometry, first, lowered)?;
            }
            match layer.target() {
                // All values of a picture as the channels of one pixel.
                Some(Target { place, add }) if place.is_whole() => {
                    let shape = Shape::new(input.n, 1, 1, input.per_image());
                    let place = Place { offset: 0, stride: shape.c, shape, ..place };
                    let one = whole_window([1, 1]);
                    lower_conv_input(layer, &one, Target { place, add }, lowered)?;
                }
                _ => conv::gradient::lower_input(layer, &geometry, lowered)?,
            }
        }
        Op::MaxPool(_) | Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } => {
            pool::gradient::lower_gradient(layer, lowered)?;
        }
        Op::Lrn { .. } => lrn::gradient::lower_gradient(layer, lowered)?,
        Op::Concat => concat::gradient::lower_gradient(layer, lowered),
        Op::Softmax => softmax::gradient::lower_gradient(layer, lowered),
        Op::Dropout { .. } => dropout::lower_gradient(layer, lowered)?,
    }
    Ok(())
}

/// The geometry of a window that is the whole input.
fn whole_window(kernel: [usize; 2]) -> Geometry {
    Geometry { kernel, stride: [1, 1], pad: [0, 0], pad_end: [0, 0], out: [1, 1] }
}

/// The number of the convolution in the network of [`lower_conv_input`].
const CONV: NodeId = 2;

/// Lowers the gradient for the input of a convolution of stride 1 as what it is: a convolution of the gradient for the
/// output, with the filters transposed and flipped. It is lowered as a network of its own, by the kernels of forward
/// runs.
fn lower_conv_input(
    layer: &GradientLayer<'_>,
    geometry: &Geometry,
    Target { place: to, add }: Target,
    lowered: &mut LoweredGradients,
) -> Result<()> {
    let from = layer.gradient;
    let pad = |axis: usize| geometry.kernel[axis] - 1 - geometry.pad[axis];
    let end = |axis: usize, size: usize, out: usize| size + geometry.kernel[axis] - 1 - out - pad(axis);
    let padding = Padding::Explicit {
        top: pad(0),
        left: pad(1),
        bottom: end(0, to.shape.h, from.shape.h),
        right: end(1, to.shape.w, from.shape.w),
        ceil: false,
    };
    let window = Window { kernel: geometry.kernel, stride: [1, 1], padding };
    let mut network = Network::new();
    let input = network.input("input", from.shape)?;
    // The convolution does not read the input node itself, because inputs are padded and gradients are not.
    let gradient = network.add("gradient", Op::Softmax, &[input])?;
    let conv = network.add("conv", Op::Conv { window, out: to.shape.c, activation: Activation::None }, &[gradient])?;
    debug_assert_eq!((conv, network.node(conv).shape.with_batch(to.shape.n)), (CONV, to.shape));
    let step = Step { node: conv, reads: vec![from], writes: to };
    let plan = Plan {
        batch: to.shape.n,
        concat: Default::default(),
        buffers: Vec::new(),
        places: vec![from, from, to],
        steps: vec![step],
    };
    let mut forward = Lowered {
        plan: plan.clone(),
        jobs: Vec::new(),
        spans: Vec::new(),
        head_outputs: Default::default(),
        textures: std::mem::take(&mut lowered.textures),
    };
    let conv_layer = Layer { network: &network, steps: &plan.steps, layout_plan: &plan, config: layer.config, add };
    let layout = match layer.set {
        KernelSet::Hardware => {
            ops::lower(&conv_layer, &mut forward)?;
            WeightLayout::Buffer
        }
        KernelSet::Software => {
            software::Lowering::default().lower(&conv_layer, &mut forward)?;
            software::weight_layout(&network, &plan, &[conv])
        }
    };
    lowered.textures = forward.textures;
    let dims = [to.shape.c, from.shape.c, geometry.kernel[0], geometry.kernel[1]];
    lowered.transposed.push(Transposed { node: layer.node, dims, flipped: true, layout });
    for mut job in forward.jobs {
        for bind in &mut job.binds {
            *bind = match *bind {
                Bind::Activations(buffer) => Bind::Gradient(buffer),
                Bind::Weight(_) => Bind::Transposed(layer.node),
                Bind::Bias(_) => Bind::NoBias(layer.node),
                other => other,
            };
        }
        lowered.jobs.push(job);
    }
    Ok(())
}
