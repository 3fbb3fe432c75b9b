//! The result of lowering a plan: dispatches with their kernels, parameters, bindings and workgroups, computed without
//! a device.

use super::kernel::{EntryPoint, KernelId, PARAMS_BYTES, slot};
use super::launch::{ConvKey, LaunchConfig};
use super::vec_map::VecMap;
use crate::error::{Error, Result};
use crate::graph::network::{Network, Node, NodeId};
use crate::graph::op::{Geometry, Op, Window};
use crate::plan::{Place, Plan, Step};
use std::ops::Range;

/// One dispatch.
pub struct Job {
    pub kernel: KernelId,
    pub params: [u8; PARAMS_BYTES],
    /// The bindings after the parameters.
    pub binds: Vec<Bind>,
    /// The number of workgroups in each dimension.
    pub grid: [u32; 3],
    /// For a convolution: the properties that its launch configuration depends on.
    pub conv: Option<ConvKey>,
}

/// A buffer or a texture that a dispatch binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// A buffer of the plan, by its index.
    Activations(usize),
    /// The weights of a dispatch. The node is the dispatch's first layer that has weights.
    Weight(NodeId),
    Bias(NodeId),
    /// A texture from which kernels for software adapters read, by its index.
    Texture(usize),
    /// The probabilities of all heads, which are read back after a run.
    HeadOutputs,
    /// One gain for each node.
    Gains,
    /// A placeholder for an output that the dispatch does not have.
    Unused(usize),
    /// The key of dropout's random numbers.
    #[cfg(feature = "train")]
    DropoutKey,
    /// A buffer of gradients of a backward plan, by its index.
    #[cfg(feature = "train")]
    Gradient(usize),
    /// The weights of a layer, arranged for the gradient for its input.
    #[cfg(feature = "train")]
    Transposed(NodeId),
    /// As many zeros as such a layer has biases.
    #[cfg(feature = "train")]
    NoBias(NodeId),
    /// The gradients for the weights and biases of all layers.
    #[cfg(feature = "train")]
    WeightGradients,
    /// Sums over the parts of a batch's pixels.
    #[cfg(feature = "train")]
    Parts,
}

impl Job {
    /// A dispatch with enough workgroups for `count` units of work.
    pub fn new<P: bytemuck::Pod>(entry: &'static EntryPoint, params: &P, binds: Vec<Bind>, count: usize) -> Self {
        Self::with(entry, slot(params), binds, count)
    }

    #[inline(never)]
    fn with(entry: &'static EntryPoint, params: [u8; PARAMS_BYTES], binds: Vec<Bind>, count: usize) -> Self {
        Job { kernel: entry.into(), params, binds, grid: entry.grid(count), conv: None }
    }
}

/// Steps that are computed and timed together.
pub struct Span {
    /// The nodes, and each node's share of the work.
    pub nodes: Vec<(NodeId, f64)>,
    pub jobs: Range<usize>,
}

/// A plan, lowered to dispatches.
pub struct Lowered {
    /// The plan that the dispatches execute. The channels of its inputs are padded to a multiple of four.
    pub plan: Plan,
    pub jobs: Vec<Job>,
    pub spans: Vec<Span>,
    /// The index of the first value of each softmax in [`Bind::HeadOutputs`], and the total number of values.
    pub head_outputs: (VecMap<NodeId, usize>, usize),
    /// The number of values in each texture; empty for [`KernelSet::Hardware`](super::device::KernelSet::Hardware).
    pub textures: Vec<usize>,
}

/// Steps that are lowered together, to one dispatch or to a few consecutive ones.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub network: &'a Network,
    pub steps: &'a [Step],
    /// See [`layout_plan`](super::layout::layout_plan).
    pub layout_plan: &'a Plan,
    /// Returns the launch configuration of a convolution.
    pub config: &'a dyn Fn(ConvKey) -> LaunchConfig,
    /// Whether a convolution adds its output to what is there. Otherwise it replaces it.
    pub add: bool,
}

impl<'a> Layer<'a> {
    /// A layer of only these steps.
    pub fn with(self, steps: &'a [Step]) -> Self {
        Layer { steps, ..self }
    }

    pub fn step(&self) -> &'a Step {
        &self.steps[0]
    }

    #[inline(never)]
    pub fn node(&self) -> &'a Node {
        self.network.node(self.step().node)
    }

    /// The place of the first input. Fails with [`Error::Shape`] if there is none.
    #[inline(never)]
    pub fn from(&self) -> Result<Place> {
        self.step().reads.first().copied().ok_or_else(|| self.fail("it reads nothing".into()))
    }

    pub fn to(&self) -> Place {
        self.step().writes
    }

    /// The second step's operation, and the place of its output.
    pub fn next(&self) -> Option<(Place, &'a Op)> {
        self.steps.get(1).map(|step| (step.writes, &self.network.node(step.node).op))
    }

    /// The geometry of a window on the input.
    #[inline(never)]
    pub fn geometry(&self, window: &Window) -> Result<Geometry> {
        let shape = self.from()?.shape;
        window.on([shape.h, shape.w]).map_err(|reason| self.fail(reason))
    }

    /// The kernel of a convolution, which adds if the layer does.
    pub fn adding(&self, mut kernel: KernelId) -> KernelId {
        if self.add {
            kernel.overrides.push(("ADD", 1));
        }
        kernel
    }

    #[inline(never)]
    pub fn fail(&self, reason: String) -> Error {
        Error::Shape { layer: self.node().name.clone(), reason }
    }
}
