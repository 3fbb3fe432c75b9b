//! What a plan is lowered to: dispatches with their kernels, parameters, bindings and workgroups, worked out without a
//! device.

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
    /// What it binds after its parameters.
    pub binds: Vec<Bind>,
    /// The number of workgroups in each dimension.
    pub grid: [u32; 3],
    /// Of a convolution: what its launch configuration depends on.
    pub conv: Option<ConvKey>,
}

/// A buffer or a texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// A buffer of the plan.
    Activations(usize),
    /// The weights of the dispatch whose first layer with weights this is.
    Weight(NodeId),
    Bias(NodeId),
    /// A texture that software adapters read from.
    Texture(usize),
    /// The probabilities of all heads, which are read back.
    HeadOutputs,
    /// One factor a node.
    Gains,
    /// What stands in for an output that is not there.
    Unused(usize),
}

impl Job {
    /// A dispatch that reads one place and writes another, and makes `count` things.
    pub fn new<P: bytemuck::Pod>(entry: &'static EntryPoint, params: &P, binds: Vec<Bind>, count: usize) -> Self {
        Job { kernel: entry.into(), params: slot(params), binds, grid: entry.grid(count), conv: None }
    }
}

/// Steps that are computed, and timed, together.
pub struct Span {
    /// The nodes, and each one's part of the work.
    pub nodes: Vec<(NodeId, f64)>,
    pub jobs: Range<usize>,
}

/// A plan as dispatches.
pub struct Lowered {
    /// The plan with its inputs' channels padded to a multiple of four, which the jobs are for.
    pub plan: Plan,
    pub jobs: Vec<Job>,
    pub spans: Vec<Span>,
    /// Where the values of each softmax begin in [`Bind::HeadOutputs`], and how many values there are in all.
    pub head_outputs: (VecMap<NodeId, usize>, usize),
    /// The number of values that each texture holds; without textures on GPUs.
    pub textures: Vec<usize>,
}

/// Steps that one dispatch computes, or a few dispatches in a row.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub network: &'a Network,
    pub steps: &'a [Step],
    /// See [`super::layout::layout_plan`].
    pub layout_plan: &'a Plan,
    /// The launch configuration of a convolution.
    pub config: &'a dyn Fn(ConvKey) -> LaunchConfig,
}

impl<'a> Layer<'a> {
    /// The same layer with fewer steps.
    pub fn with(self, steps: &'a [Step]) -> Self {
        Layer { steps, ..self }
    }

    pub fn step(&self) -> &'a Step {
        &self.steps[0]
    }

    pub fn node(&self) -> &'a Node {
        self.network.node(self.step().node)
    }

    /// The place of the first input.
    pub fn from(&self) -> Result<Place> {
        self.step().reads.first().copied().ok_or_else(|| self.fail("it reads nothing".into()))
    }

    pub fn to(&self) -> Place {
        self.step().writes
    }

    /// The second step's operation and where its output is written.
    pub fn next(&self) -> Option<(Place, &'a Op)> {
        self.steps.get(1).map(|step| (step.writes, &self.network.node(step.node).op))
    }

    /// A window on the input.
    pub fn geometry(&self, window: &Window) -> Result<Geometry> {
        let shape = self.from()?.shape;
        window.on([shape.h, shape.w]).map_err(|reason| self.fail(reason))
    }

    pub fn fail(&self, reason: String) -> Error {
        Error::Shape { layer: self.node().name.clone(), reason }
    }
}
