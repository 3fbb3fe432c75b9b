//! Turns a network into a plan: the steps in order, and the place in memory of each node's output.
//!
//! Every node's output stays in its place until the next run, so that any layer can be read after a run.

#[cfg(feature = "train")]
pub mod backward;
#[cfg(feature = "train")]
pub mod numbers;
#[cfg(feature = "train")]
pub mod optimiser;
#[cfg(feature = "train")]
pub mod random;
#[cfg(any(feature = "cpu", feature = "gpu"))]
pub(crate) mod winograd;

use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::graph::tensor::{Shape, Tensor};
use crate::model::preprocess::{Crop, Image};
use std::pin::Pin;

/// How the branches of a module are concatenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub enum ConcatMode {
    /// Each branch writes straight into its channels of the module's output, so that concatenation costs nothing.
    #[default]
    InPlace,
    /// Each branch has a buffer of its own, and a step copies the branches to the module's output, each multiplied by
    /// its gain. The activations of a branch that is switched off can then still be read.
    WithGains,
}

/// The place of a node's output: a channel slice of a buffer. The element at pixel p and channel c is `buffer[p *
/// stride + offset + c]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The buffer's index in [`Plan::buffers`].
    pub buffer: usize,
    /// The slice's first channel.
    pub offset: usize,
    /// The number of channels of the whole buffer.
    pub stride: usize,
    /// The node's own shape, including the batch.
    pub shape: Shape,
}

impl Place {
    /// Whether the node's output is a whole buffer, and not a slice of a larger one.
    pub fn is_whole(&self) -> bool {
        self.stride == self.shape.c
    }
}

/// The computation of one node.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub node: NodeId,
    pub reads: Vec<Place>,
    pub writes: Place,
}

/// A network's steps and buffers for one batch size.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub batch: usize,
    pub concat: ConcatMode,
    /// The shape of each buffer, including the batch.
    pub buffers: Vec<Shape>,
    /// The place of each node's output.
    pub places: Vec<Place>,
    /// One step for each node, except inputs and concatenations whose inputs are written in place.
    pub steps: Vec<Step>,
}

impl Plan {
    /// Plans runs of `batch` pictures. Fails with [`Error::Argument`] where the batch is 0, and with [`Error::Memory`]
    /// where the total size of the buffers overflows `isize`.
    pub fn new(network: &Network, batch: usize, concat: ConcatMode) -> Result<Self> {
        if batch == 0 {
            return Err(Error::Argument("a batch needs at least one picture".into()));
        }
        let nodes = network.nodes();
        let mut places: Vec<Option<Place>> = vec![None; nodes.len()];
        let mut buffers = Vec::new();
        // A concatenation comes after its branches but determines their places, so places are assigned from the end.
        for (id, node) in nodes.iter().enumerate().rev() {
            let shape = node.shape.with_batch(batch);
            let place = *places[id].get_or_insert_with(|| {
                buffers.push(shape);
                Place { buffer: buffers.len() - 1, offset: 0, stride: shape.c, shape }
            });
            if concat == ConcatMode::InPlace && writes_directly(network, id) {
                let mut offset = place.offset;
                for &branch in &node.inputs {
                    let shape = nodes[branch].shape.with_batch(batch);
                    places[branch] = Some(Place { offset, shape, ..place });
                    offset += shape.c;
                }
            }
        }
        let places: Vec<Place> = places.into_iter().flatten().collect();
        let steps = nodes
            .iter()
            .enumerate()
            .filter(|(id, node)| match node.op {
                Op::Input(_) => false,
                Op::Concat => concat == ConcatMode::WithGains || !writes_directly(network, *id),
                _ => true,
            })
            .map(|(id, node)| Step {
                node: id,
                reads: node.inputs.iter().map(|&i| places[i]).collect(),
                writes: places[id],
            })
            .collect();
        let plan = Plan { batch, concat, buffers, places, steps };
        // A size that overflows isize cannot be allocated.
        if plan.bytes() > isize::MAX as u64 {
            return Err(Error::Memory { bytes: plan.bytes() });
        }
        Ok(plan)
    }

    /// The total size of the buffers in bytes; it may be more than can be addressed.
    pub fn bytes(&self) -> u64 {
        let each = |shape: &Shape| (shape.n as u64).saturating_mul(4 * shape.per_image() as u64);
        self.buffers.iter().map(each).fold(0, u64::saturating_add)
    }

    /// Groups of steps that one kernel can compute, as indices of [`Plan::steps`]: 1x1 convolutions that read the same
    /// input, and a max pool with the 1x1 convolution that is its only reader. Every other step is a group of its own.
    /// The groups are in an order in which they can run.
    pub fn fused(&self, network: &Network) -> Vec<Vec<usize>> {
        let pointwise = |step: &Step| {
            let Op::Conv { window, .. } = network.node(step.node).op else { return false };
            window.kernel == [1, 1]
                && window.stride == [1, 1]
                && step.reads[0].shape.pixels() == step.writes.shape.pixels()
        };
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (i, step) in self.steps.iter().enumerate() {
            let node = network.node(step.node);
            let can_fuse = |group: &&mut Vec<usize>| {
                let first = &self.steps[group[0]];
                let siblings = pointwise(first) && network.node(first.node).inputs == node.inputs;
                let pool = matches!(network.node(first.node).op, Op::MaxPool(_))
                    && node.inputs == [first.node]
                    && network.readers(first.node).count() == 1;
                pointwise(step) && (siblings || pool)
            };
            match groups.iter_mut().find(can_fuse) {
                Some(group) => group.push(i),
                None => groups.push(vec![i]),
            }
        }
        groups
    }
}

/// The input of a run.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// One picture for each place of the batch. They are preprocessed as the model requires.
    Images(&'a [&'a Image], Crop),
    /// One tensor for each input node, used without preprocessing.
    Tensors(&'a [&'a Tensor]),
}

impl Input<'_> {
    /// The number of pictures.
    pub fn batch(&self) -> usize {
        match self {
            Input::Images(images, _) => images.len(),
            Input::Tensors(tensors) => tensors.first().map_or(0, |t| t.shape.n),
        }
    }

    /// Fails with [`Error::Argument`] where a network cannot read this input. Pictures are resized to `size` pixels each
    /// way.
    pub fn check(&self, network: &Network, size: usize) -> Result<()> {
        let batch = self.batch();
        if batch == 0 {
            return Err(Error::Argument("there is no picture to run".into()));
        }
        let wanted: Vec<Shape> = network.inputs().map(|id| network.node(id).shape.with_batch(batch)).collect();
        match self {
            Input::Images(..) => {
                if wanted.iter().any(|s| (s.h, s.w, s.c) != (size, size, 3)) || wanted.len() != 1 {
                    return Err(Error::Argument("this network does not read pictures; hand it tensors".into()));
                }
            }
            Input::Tensors(tensors) => {
                if tensors.len() != wanted.len() {
                    let reason = format!("the network reads {} tensors, not {}", wanted.len(), tensors.len());
                    return Err(Error::Argument(reason));
                }
                if let Some((t, w)) = tensors.iter().zip(&wanted).find(|(t, w)| t.shape != **w) {
                    return Err(Error::Argument(format!("the input tensor is {}, but the network reads {w}", t.shape)));
                }
            }
        }
        Ok(())
    }

    /// Like [`Input::check`], for a plan of this batch size.
    pub fn check_for(&self, network: &Network, size: usize, batch: usize) -> Result<()> {
        if self.batch() != batch {
            return Err(Error::Argument(format!("the plan is for {batch} pictures, not {}", self.batch())));
        }
        self.check(network, size)
    }
}

/// The part of a plan that a run executes.
#[derive(Debug, Clone, Copy)]
pub enum Work<'a> {
    /// All steps, with this input.
    All(Input<'a>),
    /// The steps up to and including this node, with this input. The outputs of the heads are not valid then.
    Until(Input<'a>, NodeId),
    /// Only the steps of the marked nodes (see [`stale`]), with the last run's activations of all other nodes.
    Stale(&'a [bool]),
}

impl<'a> Work<'a> {
    /// The run's input; `None` where the run reuses the last one.
    pub fn input(&self) -> Option<Input<'a>> {
        match *self {
            Work::All(input) | Work::Until(input, _) => Some(input),
            Work::Stale(_) => None,
        }
    }

    /// Whether the run computes this node.
    pub fn includes(&self, node: NodeId) -> bool {
        match self {
            Work::All(_) => true,
            Work::Until(_, last) => node <= *last,
            Work::Stale(nodes) => nodes[node],
        }
    }
}

/// Returns for each node whether its output with `gains` differs from that of an earlier run with the gains `applied`.
/// These are the concatenations of branches whose gain has changed, and all nodes downstream of them. The branches
/// themselves do not change.
pub fn stale(network: &Network, applied: &[f32], gains: &[f32]) -> Vec<bool> {
    let mut stale: Vec<bool> = Vec::with_capacity(network.nodes().len());
    for node in network.nodes() {
        let gain_changed = |&input: &NodeId| node.op == Op::Concat && gains[input] != applied[input];
        let changed = node.inputs.iter().any(|input| stale[*input] || gain_changed(input));
        stale.push(changed);
    }
    stale
}

/// The output of one run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Output {
    /// The outputs of all heads, the main classifier last.
    pub heads: Vec<HeadOutput>,
    /// The time of each step that was run, in the plan's order. Empty unless timing was requested, or where it cannot be
    /// measured.
    pub steps: Vec<StepTime>,
    /// Milliseconds from pixels to the network's input.
    pub preprocess_ms: f64,
    /// Milliseconds from the input to the probabilities.
    pub run_ms: f64,
}

/// A head's probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadOutput {
    /// `loss1`, `loss2` or `loss3`.
    pub name: String,
    /// (n, 1, 1, classes).
    pub probabilities: Tensor,
}

impl Output {
    /// The output of the main classifier.
    pub fn answer(&self) -> Option<&HeadOutput> {
        self.heads.last()
    }
}

impl HeadOutput {
    /// The `k` most probable classes of picture `n` with their probabilities, the most probable first.
    pub fn top(&self, n: usize, k: usize) -> Vec<(usize, f32)> {
        // One at a time, each the first of those after the one before: sorting would be the largest function that
        // the page downloads.
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let all = self.probabilities.image(n);
        let mut top: Vec<(usize, f32)> = Vec::new();
        while top.len() < k {
            let after = |class: &(usize, f32)| top.last().is_none_or(|last| order(last, class).is_lt());
            match all.iter().copied().enumerate().filter(after).min_by(order) {
                Some(next) => top.push(next),
                None => break,
            }
        }
        top
    }
}

/// A run in progress, whose output comes when the GPU has computed it. A CPU has computed it before.
pub type PendingRun = Pin<Box<dyn Future<Output = Result<Output>>>>;

/// How a node is computed.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Algorithm {
    /// The algorithm's name, e.g. `GEMM` or `Winograd F(4,3)`; the operation's name if it has only one algorithm.
    pub algorithm: String,
    /// The number of multiply-adds that the algorithm executes for one picture.
    pub executed: u64,
}

/// The time that one step took, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    pub node: NodeId,
    pub ms: f64,
}

/// Whether a node is a concatenation whose inputs can all be written directly into its output: each is computed by a
/// step, and no other node reads it.
fn writes_directly(network: &Network, id: NodeId) -> bool {
    let node = network.node(id);
    node.op == Op::Concat
        && node.inputs.iter().enumerate().all(|(i, &branch)| {
            !matches!(network.node(branch).op, Op::Input(_) | Op::Concat)
                && network.readers(branch).count() == 1
                && !node.inputs[..i].contains(&branch)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::googlenet::{Spec, TABLE, Variant};
    use crate::graph::op::Op;

    #[test]
    fn branches_write_into_their_slice_of_the_output() {
        let net = Spec { variant: Variant::Caffe, ..Spec::default() }.build().unwrap();
        let plan = Plan::new(&net, 2, ConcatMode::InPlace).unwrap();
        for row in &TABLE {
            let place = |layer: &str| plan.places[net.find(&format!("{}/{layer}", row.module())).unwrap()];
            let mut offset = 0;
            for branch in ["1x1", "3x3", "5x5", "pool_proj"] {
                let p = place(branch);
                assert_eq!((p.buffer, p.offset, p.stride), (place("output").buffer, offset, row.out()));
                offset += p.shape.c;
            }
            assert!(place("3x3_reduce").is_whole());
            assert_eq!(place("output").shape.n, 2);
        }
        assert!(plan.steps.iter().all(|s| net.node(s.node).op != Op::Concat));
        assert!(plan.steps.iter().flat_map(|s| &s.reads).all(Place::is_whole), "no step reads a slice");
    }

    #[test]
    fn buffers_too_large_to_address_are_an_error() {
        let net = Spec::default().build().unwrap();
        for batch in [1 << 48, usize::MAX] {
            assert!(matches!(Plan::new(&net, batch, ConcatMode::InPlace), Err(Error::Memory { .. })), "{batch}");
        }
        let one = Plan::new(&net, 1, ConcatMode::InPlace).unwrap();
        assert_eq!(Plan::new(&net, 3, ConcatMode::InPlace).unwrap().bytes(), 3 * one.bytes());
    }

    #[test]
    fn with_gains_every_branch_has_its_own_buffer() {
        let net = Spec::default().build().unwrap();
        let plan = Plan::new(&net, 1, ConcatMode::WithGains).unwrap();
        assert!(plan.places.iter().all(Place::is_whole));
        assert_eq!(plan.buffers.len(), net.nodes().len());
        assert_eq!(plan.steps.len(), net.nodes().len() - 1);
        assert!(Plan::new(&net, 0, ConcatMode::WithGains).is_err());
    }

    #[test]
    fn convolutions_of_one_input_are_fused() {
        let net = Spec { heads: false, ..Spec::default() }.build().unwrap();
        let plan = Plan::new(&net, 1, ConcatMode::InPlace).unwrap();
        let groups = plan.fused(&net);
        let names = |group: &Vec<usize>| -> Vec<&str> {
            group.iter().map(|&i| net.node(plan.steps[i].node).name.as_str()).collect()
        };
        let of_3a: Vec<_> = groups.iter().map(names).filter(|g| g[0].starts_with("inception_3a/")).collect();
        assert_eq!(
            of_3a,
            [
                vec!["inception_3a/1x1", "inception_3a/3x3_reduce", "inception_3a/5x5_reduce"],
                vec!["inception_3a/3x3"],
                vec!["inception_3a/5x5"],
                vec!["inception_3a/pool", "inception_3a/pool_proj"],
            ]
        );
        // Four groups for each module, two convolutions in the stem, four pools, and three steps of the classifier.
        assert_eq!(groups.len(), 9 * 4 + 2 + 4 + 3);
        let mut all: Vec<usize> = groups.into_iter().flatten().collect();
        all.sort();
        assert!(all.into_iter().eq(0..plan.steps.len()), "each step once");
    }

    #[test]
    fn a_gain_changes_its_concatenation_and_the_nodes_downstream() {
        let net = Spec::default().build().unwrap();
        let applied = vec![1.0; net.nodes().len()];
        let mut gains = applied.clone();
        assert!(!stale(&net, &applied, &gains).contains(&true));
        gains[net.find("inception_4d/5x5").unwrap()] = 0.5;
        let changed = stale(&net, &applied, &gains);
        let named = |name: &str| changed[net.find(name).unwrap()];
        for name in ["inception_4d/output", "inception_4e/3x3_reduce", "inception_5b/pool", "loss2/conv", "prob"] {
            assert!(named(name), "{name}");
        }
        for name in ["data", "inception_4c/output", "inception_4d/5x5", "inception_4d/1x1", "loss1/fc", "loss1/prob"] {
            assert!(!named(name), "{name}");
        }
        assert_eq!(changed, stale(&net, &gains, &applied), "back again");
    }

    #[test]
    fn a_concatenation_of_shared_nodes_is_a_step() {
        let mut net = Network::new();
        let shape = Shape::new(1, 2, 2, 3);
        let (a, b) = (net.input("a", shape).unwrap(), net.input("b", shape).unwrap());
        let both = net.add("both", Op::Concat, &[a, b]).unwrap();
        net.add("twice", Op::Concat, &[both, both]).unwrap();
        let plan = Plan::new(&net, 1, ConcatMode::InPlace).unwrap();
        assert_eq!(plan.steps.iter().map(|s| s.node).collect::<Vec<_>>(), [2, 3]);
        assert!(plan.places.iter().all(Place::is_whole));
    }
}
