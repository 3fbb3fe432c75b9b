//! What the gradients of one node are lowered from, and to.

use crate::error::{Error, Result};
use crate::gpu::device::KernelSet;
use crate::gpu::job::Job;
use crate::gpu::launch::{ConvKey, LaunchConfig};
use crate::gpu::layout::WeightLayout;
use crate::graph::network::{Network, Node, NodeId};
use crate::graph::op::{Geometry, Window};
use crate::plan::Place;
use crate::plan::backward::Target;

/// A node whose gradients are lowered to dispatches.
pub struct GradientLayer<'a> {
    pub network: &'a Network,
    pub node: NodeId,
    /// The places of the node's inputs and of its output among the activations.
    pub reads: &'a [Place],
    pub writes: Place,
    /// The gradient for the output, which may be overwritten.
    pub gradient: Place,
    /// Where the gradient for each input is written; `None` where it is not needed.
    pub inputs: &'a [Option<Target>],
    /// The index of the node's first value in [`Bind::WeightGradients`](crate::gpu::job::Bind::WeightGradients); `None`
    /// where the gradients for its weights are not needed.
    pub weights: Option<usize>,
    pub set: KernelSet,
    /// Returns the launch configuration of a convolution.
    pub config: &'a dyn Fn(ConvKey) -> LaunchConfig,
}

/// The dispatches of a backward plan, without those of its terms.
#[derive(Default)]
pub struct LoweredGradients {
    pub jobs: Vec<Job>,
    /// The weights that the dispatches read.
    pub transposed: Vec<Transposed>,
    /// The number of values in each texture, as in [`Lowered`](crate::gpu::job::Lowered).
    pub textures: Vec<usize>,
    /// The number of values in [`Bind::Parts`](crate::gpu::job::Bind::Parts).
    pub parts: usize,
}

/// A layer's weights as those of a convolution from its output's channels to its input's channels.
pub struct Transposed {
    pub node: NodeId,
    /// (input's channels, output's channels, kh, kw).
    pub dims: [usize; 4],
    /// Whether the cells of the window are in reverse order.
    pub flipped: bool,
    pub layout: WeightLayout,
}

impl GradientLayer<'_> {
    pub fn op_node(&self) -> &Node {
        self.network.node(self.node)
    }

    /// The place of the first input. Fails with [`Error::Shape`] if there is none.
    pub fn from(&self) -> Result<Place> {
        self.reads.first().copied().ok_or_else(|| self.fail("it reads nothing".into()))
    }

    /// Where the gradient for the first input is written; `None` where it is not needed.
    pub fn target(&self) -> Option<Target> {
        self.inputs.first().copied().flatten()
    }

    /// The geometry of a window on the first input.
    pub fn geometry(&self, window: &Window) -> Result<Geometry> {
        let shape = self.from()?.shape;
        window.on([shape.h, shape.w]).map_err(|reason| self.fail(reason))
    }

    pub fn fail(&self, reason: String) -> Error {
        Error::Shape { layer: self.op_node().name.clone(), reason }
    }
}
