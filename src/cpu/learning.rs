//! What gradients and training keep beside a forward plan: weights, what an optimiser keeps for them, and gradients.

use super::gradient::{Gradient, Part, WeightGradient};
use super::memory::{Buffer, Floats, Scratch};
use crate::graph::network::NodeId;
use crate::graph::op::Geometry;
use crate::plan::backward::{BackwardPlan, Target};
use crate::plan::optimiser::{Kept, Role};
use crate::plan::random::DropoutKey;
use crate::plan::{Place, Step};
use std::ops::Range;

/// The weights and biases of one layer, in the layout of [`Kernel::update`](super::kernel::Kernel::update), and what an
/// optimiser keeps for them.
pub struct Parameters {
    pub weights: Trained,
    pub bias: Trained,
}

/// A tensor that is trained.
#[derive(Default)]
pub struct Trained {
    pub values: Buffer,
    /// The state of the optimiser; empty where it keeps none.
    pub states: [Buffer; 2],
    /// The moving average of the values; empty where none is kept.
    pub average: Buffer,
}

impl Trained {
    pub fn new(values: Floats) -> Self {
        Trained { values: Buffer::new(values), ..Trained::default() }
    }

    pub fn tensor(&self, kind: Kept) -> &Buffer {
        match kind {
            Kept::Values => &self.values,
            Kept::First => &self.states[0],
            Kept::Second => &self.states[1],
            Kept::Average => &self.average,
        }
    }

    pub fn tensor_mut(&mut self, kind: Kept) -> &mut Buffer {
        match kind {
            Kept::Values => &mut self.values,
            Kept::First => &mut self.states[0],
            Kept::Second => &mut self.states[1],
            Kept::Average => &mut self.average,
        }
    }
}

/// What gradients need beyond a forward run.
pub struct Learning {
    /// The weights of each node that has some.
    pub parameters: Vec<Option<Parameters>>,
    pub dropout: Option<DropoutKey>,
    pub prepared: Option<PreparedBackward>,
}

/// A backward plan with everything that a run needs.
pub struct PreparedBackward {
    pub plan: BackwardPlan,
    pub buffers: Vec<Buffer>,
    /// One for each step of the plan; `None` for seeds.
    pub steps: Vec<Option<Layer>>,
    /// One for each node whose weights' gradients are computed.
    pub weights: Vec<Option<WeightGradient>>,
    pub scratch: Scratch,
    /// The parts of the trained tensors, for [`Cpu::update`](super::Cpu::update).
    pub chunks: Vec<Chunk>,
    /// The sum of the squares of each chunk's gradients.
    pub sums: Vec<f64>,
    /// The nodes whose weights are trained.
    pub trained: Vec<NodeId>,
    /// The step of each node.
    pub order: Vec<Option<usize>>,
}

/// A part of a tensor that is trained.
pub struct Chunk {
    pub node: NodeId,
    pub role: Role,
    pub range: Range<usize>,
}

/// One step that computes a layer's gradients.
pub struct Layer {
    pub node: NodeId,
    pub kernel: Box<dyn Gradient>,
    /// The step of the forward plan.
    pub step: Step,
    pub geometry: Option<Geometry>,
    pub gradient: Place,
    pub targets: Vec<Option<Target>>,
    /// The parts of [`Job::Activation`], and the others.
    pub rounds: [Vec<Part>; 2],
}

impl Learning {
    /// Gives up the prepared backward plan, which belongs to an earlier forward plan.
    pub fn forget(&mut self) {
        self.prepared = None;
    }

    pub fn dropout(&self) -> Option<DropoutKey> {
        self.dropout
    }
}
