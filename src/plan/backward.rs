//! The backward plan: in which order gradients are computed, and where each of them is written.
//!
//! A forward run leaves the output of every node in its place, so it already is the tape of reverse-mode
//! differentiation. The backward plan goes through the nodes from the last to the first. When it reaches a node, all
//! readers of the node have added their part to the gradient with respect to its output. Only what is needed for the
//! wanted results is computed. A gradient's buffer is used again as soon as the last step that needs it has run.

use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::graph::tensor::Shape;
use crate::plan::{Place, Plan};

/// What a gradient is wanted for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Nodes for whose output the gradient is wanted, e.g. the network's input.
    pub nodes: Vec<NodeId>,
    /// For each node, whether the gradients for its weights and biases are wanted. Nodes beyond the end are not.
    pub weights: Vec<bool>,
}

impl Wanted {
    /// The gradient for the output of one node.
    pub fn node(node: NodeId) -> Self {
        Wanted { nodes: vec![node], weights: Vec::new() }
    }

    /// The gradients for the weights of all nodes for which `wanted` is true.
    pub fn weights(network: &Network, wanted: impl Fn(NodeId) -> bool) -> Self {
        let weights = (0..network.nodes().len()).map(|id| network.params(id) > 0 && wanted(id)).collect();
        Wanted { nodes: Vec::new(), weights }
    }

    fn weights_of(&self, node: NodeId) -> bool {
        self.weights.get(node).copied().unwrap_or(false)
    }
}

/// Where a gradient is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub place: Place,
    /// Whether the values are added to those of an earlier step. Otherwise they replace what the buffer holds.
    pub add: bool,
}

/// One step of a backward plan.
#[derive(Debug, Clone, PartialEq)]
pub enum BackwardStep {
    /// Writes the gradient of the objective's term number `seed` with respect to the output of `node`.
    Seed { seed: usize, node: NodeId, target: Target },
    /// Computes a node's gradients from the gradient with respect to its output.
    Node {
        node: NodeId,
        /// The gradient with respect to the node's output. The step may overwrite it.
        gradient: Place,
        /// For each input, where the gradient with respect to it is written; `None` where it is not needed.
        inputs: Vec<Option<Target>>,
        /// Whether the gradients for the node's weights and biases are computed.
        weights: bool,
    },
}

/// The steps and buffers that compute gradients after a forward run of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct BackwardPlan {
    /// The number of values of each gradient buffer.
    pub buffers: Vec<usize>,
    pub steps: Vec<BackwardStep>,
    /// The place of the gradient of each of [`Wanted::nodes`], which is valid after the run.
    pub wanted: Vec<Place>,
}

impl BackwardPlan {
    /// Plans the gradients of an objective that is a sum of terms, each of which depends on the output of one of the nodes
    /// `seeds`. Fails with [`Error::Argument`] where a wanted node has no influence on the objective, or where it lies
    /// between the objective and another wanted result.
    pub fn new(network: &Network, plan: &Plan, seeds: &[NodeId], wanted: &Wanted) -> Result<Self> {
        let nodes = network.nodes();
        let mut has_step = vec![false; nodes.len()];
        plan.steps.iter().for_each(|step| has_step[step.node] = true);
        let in_place = |id: NodeId| nodes[id].op == Op::Concat && !has_step[id];

        // Whether something that is wanted lies at a node or before it.
        let mut leads = vec![false; nodes.len()];
        for (id, node) in nodes.iter().enumerate() {
            let before = node.inputs.iter().any(|&input| leads[input]);
            if before && wanted.nodes.contains(&id) {
                let reason = format!(
                    "the gradient for \"{}\" cannot be computed together with gradients for layers before it",
                    node.name
                );
                return Err(Error::Argument(reason));
            }
            leads[id] = before || wanted.nodes.contains(&id) || wanted.weights_of(id);
        }
        // Whether the objective depends on a node.
        let mut reaches = vec![false; nodes.len()];
        seeds.iter().for_each(|&seed| reaches[seed] = true);
        for (id, node) in nodes.iter().enumerate().rev() {
            if reaches[id] {
                node.inputs.iter().for_each(|&input| reaches[input] = true);
            }
        }
        let needed = |id: NodeId| leads[id] && reaches[id];
        if let Some(&id) = wanted.nodes.iter().find(|&&id| !needed(id)) {
            return Err(Error::Argument(format!("the objective does not depend on \"{}\"", nodes[id].name)));
        }

        // The gradient of a branch that is concatenated in place is a slice of the gradient of the concatenation.
        let mut owner: Vec<NodeId> = (0..nodes.len()).collect();
        for id in (0..nodes.len()).filter(|&id| needed(id) && in_place(id)) {
            nodes[id].inputs.iter().for_each(|&branch| owner[branch] = id);
        }
        let mut written = vec![false; nodes.len()];
        let mut steps = Vec::new();
        for (id, node) in nodes.iter().enumerate().rev().filter(|(id, _)| needed(*id)) {
            // Buffers are assigned below, when it is known how long each is needed.
            let mut target = |id: NodeId| {
                let add = std::mem::replace(&mut written[id], true);
                Target { place: unassigned(plan, &owner, id), add }
            };
            for (seed, _) in seeds.iter().enumerate().filter(|(_, seed)| **seed == id) {
                steps.push(BackwardStep::Seed { seed, node: id, target: target(id) });
            }
            if in_place(id) {
                node.inputs.iter().for_each(|&branch| written[branch] = true);
                continue;
            }
            let inputs: Vec<Option<Target>> =
                node.inputs.iter().map(|&input| needed(input).then(|| target(input))).collect();
            let weights = wanted.weights_of(id);
            if weights || inputs.iter().any(Option::is_some) {
                let gradient = unassigned(plan, &owner, id);
                steps.push(BackwardStep::Node { node: id, gradient, inputs, weights });
            }
        }

        // The first and the last step that uses each gradient, by the node that owns the buffer.
        let mut uses: Vec<Option<[usize; 2]>> = vec![None; nodes.len()];
        for (i, step) in steps.iter_mut().enumerate() {
            for place in step.places() {
                let [_, last] = uses[place.buffer].get_or_insert([i, i]);
                *last = i;
            }
        }
        for &id in &wanted.nodes {
            if let Some([_, last]) = &mut uses[owner[id]] {
                *last = usize::MAX;
            }
        }
        let (buffers, assigned) = assign(&uses, |id| nodes[id].shape.with_batch(plan.batch).len());
        for place in steps.iter_mut().flat_map(BackwardStep::places) {
            place.buffer = assigned[place.buffer];
        }
        let place = |&id: &NodeId| {
            let place = unassigned(plan, &owner, id);
            Place { buffer: assigned[place.buffer], ..place }
        };
        Ok(BackwardPlan { buffers, steps, wanted: wanted.nodes.iter().map(place).collect() })
    }

    /// Whether the gradients for a node's weights are computed.
    pub fn computes(&self, id: NodeId) -> bool {
        self.steps.iter().any(|step| matches!(step, BackwardStep::Node { node, weights: true, .. } if *node == id))
    }

    /// The total size of the gradient buffers in bytes, without those for weights.
    pub fn bytes(&self) -> u64 {
        self.buffers.iter().map(|&len| 4 * len as u64).sum()
    }
}

impl BackwardStep {
    /// All gradients that the step reads or writes.
    fn places(&mut self) -> Vec<&mut Place> {
        match self {
            BackwardStep::Seed { target, .. } => vec![&mut target.place],
            BackwardStep::Node { gradient, inputs, .. } => {
                let inputs = inputs.iter_mut().flatten().map(|target| &mut target.place);
                std::iter::once(gradient).chain(inputs).collect()
            }
        }
    }
}

/// The place of a node's gradient in a buffer whose number is that of the node that owns it.
fn unassigned(plan: &Plan, owner: &[NodeId], id: NodeId) -> Place {
    let Place { offset, stride, shape, .. } = plan.places[id];
    if owner[id] == id {
        return Place { buffer: id, offset: 0, stride: shape.c, shape };
    }
    // A branch has the same slice of the gradient as of the output.
    Place { buffer: owner[id], offset, stride, shape }
}

/// Assigns a buffer to each node that needs one, for the steps from its first to its last use. Returns the length of each
/// buffer, and the number of each node's buffer.
fn assign(uses: &[Option<[usize; 2]>], len: impl Fn(NodeId) -> usize) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<(NodeId, [usize; 2])> =
        uses.iter().enumerate().filter_map(|(id, uses)| Some((id, (*uses)?))).collect();
    order.sort_by_key(|&(id, [first, _])| (first, id));
    // The length of each buffer, and the last step that needs it.
    let mut buffers: Vec<(usize, usize)> = Vec::new();
    let mut assigned = vec![usize::MAX; uses.len()];
    for (id, [first, last]) in order {
        let len = len(id);
        // The free buffer that wastes or lacks the least.
        let free = (0..buffers.len()).filter(|&i| buffers[i].1 < first).min_by_key(|&i| buffers[i].0.abs_diff(len));
        let i = free.unwrap_or_else(|| {
            buffers.push((0, 0));
            buffers.len() - 1
        });
        buffers[i] = (buffers[i].0.max(len), last);
        assigned[id] = i;
    }
    (buffers.into_iter().map(|(len, _)| len).collect(), assigned)
}

/// A backward plan with what it was made for.
#[derive(Debug, Clone, PartialEq)]
pub struct Differentiation {
    pub seeds: Vec<NodeId>,
    pub wanted: Wanted,
    pub plan: BackwardPlan,
}

/// The layout in which engines keep weights and their gradients is (height, width, input channels, output channels), and
/// (inputs, outputs) for dense layers. Returns where a model file has element `i` of it.
pub fn file_index(op: &Op, input: Shape, outputs: usize, i: usize) -> usize {
    let (o, rest) = (i % outputs, i / outputs);
    match op {
        Op::Conv { window, .. } => {
            let area = window.kernel[0] * window.kernel[1];
            (o * input.c + rest % input.c) * area + rest / input.c
        }
        _ => o * input.per_image() + rest,
    }
}

/// Reorders weights from the engines' layout (see [`file_index`]) into that of a model file.
pub fn to_file(op: &Op, input: Shape, weights: &[f32]) -> Vec<f32> {
    let outputs = op.weight_dims(input).map_or(1, |dims| dims[0]);
    let mut file = vec![0.0; weights.len()];
    for (i, v) in weights.iter().enumerate() {
        file[file_index(op, input, outputs, i)] = *v;
    }
    file
}

/// A term of an objective: a function of one node's output, summed over the pictures of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    pub node: NodeId,
    pub kind: TermKind,
}

/// The function of a [`Term`].
#[derive(Debug, Clone, PartialEq)]
pub enum TermKind {
    /// `weight` times the sum of one channel over all pixels. The score of a class is a channel of its head's logits.
    Channel { channel: usize, weight: f32 },
    /// `weight` times the sum of all values.
    Sum { weight: f32 },
    /// `weight` times half the sum of the squares of all values.
    HalfSquares { weight: f32 },
    /// `weight` times the cross-entropy of the softmax of the values, which are logits. There is one class for each
    /// picture. With label smoothing s, the target of the picture's class is 1 - s + s/classes, and s/classes that of
    /// every other class (Szegedy et al., "Rethinking the Inception architecture", section 7).
    CrossEntropy { classes: Vec<usize>, weight: f32, smoothing: f32 },
}

impl TermKind {
    /// The factor of the term in the objective.
    pub fn weight(&self) -> f32 {
        match self {
            TermKind::Channel { weight, .. }
            | TermKind::Sum { weight }
            | TermKind::HalfSquares { weight }
            | TermKind::CrossEntropy { weight, .. } => *weight,
        }
    }
}

impl Term {
    /// Fails with [`Error::Argument`] where the node has no such channel or class, or where the number of classes is not
    /// the number of pictures.
    pub fn check(&self, network: &Network, batch: usize) -> Result<()> {
        let node = network.node(self.node);
        let Shape { c, .. } = node.shape;
        let fail = |reason: String| Err(Error::Argument(reason));
        match &self.kind {
            TermKind::Channel { channel, .. } if *channel >= c => {
                fail(format!("\"{}\" has {c} channels, so there is no channel {channel}", node.name))
            }
            TermKind::CrossEntropy { classes, .. } if classes.len() != batch => {
                fail(format!("there are {} classes for {batch} pictures", classes.len()))
            }
            TermKind::CrossEntropy { classes, .. } => match classes.iter().find(|&&class| class >= c) {
                Some(class) => fail(format!("\"{}\" has {c} classes, so there is no class {class}", node.name)),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::googlenet::{Spec, Variant};
    use crate::plan::ConcatMode;

    fn caffe() -> Network {
        Spec { variant: Variant::Caffe, ..Spec::default() }.build().unwrap()
    }

    fn logits(network: &Network) -> Vec<NodeId> {
        network.heads().iter().map(|head| head.logits).collect()
    }

    fn names<'a>(network: &'a Network, plan: &BackwardPlan) -> Vec<&'a str> {
        let name = |step: &BackwardStep| match step {
            BackwardStep::Seed { .. } => None,
            BackwardStep::Node { node, .. } => Some(network.node(*node).name.as_str()),
        };
        plan.steps.iter().filter_map(name).collect()
    }

    #[test]
    fn all_weights_need_every_layer_once() {
        let network = caffe();
        for concat in [ConcatMode::InPlace, ConcatMode::WithGains] {
            let plan = Plan::new(&network, 2, concat).unwrap();
            let backward =
                BackwardPlan::new(&network, &plan, &logits(&network), &Wanted::weights(&network, |_| true)).unwrap();
            let names = names(&network, &backward);
            // Everything but the input, the three softmaxes, and concatenations in place.
            let concats = if concat == ConcatMode::InPlace { 9 } else { 0 };
            assert_eq!(names.len(), network.nodes().len() - 1 - 3 - concats);
            assert_eq!(names.last(), Some(&"conv1/7x7_s2"));
            let BackwardStep::Node { inputs, weights, .. } = backward.steps.last().unwrap() else { panic!() };
            assert_eq!(
                (inputs.as_slice(), *weights),
                ([None].as_slice(), true),
                "the picture's gradient is not needed"
            );
            // Reuse saves most of the memory.
            assert!(backward.bytes() < plan.bytes() / 2, "{} of {}", backward.bytes(), plan.bytes());
        }
    }

    #[test]
    fn only_what_is_needed_is_computed() {
        let network = caffe();
        let plan = Plan::new(&network, 1, ConcatMode::InPlace).unwrap();
        let last = *logits(&network).last().unwrap();
        let of_5b = |id: NodeId| network.node(id).module.as_deref() == Some("inception_5b");
        let backward = BackwardPlan::new(&network, &plan, &[last], &Wanted::weights(&network, of_5b)).unwrap();
        assert_eq!(
            names(&network, &backward),
            [
                "loss3/classifier",
                "pool5/7x7_s1",
                "inception_5b/pool_proj",
                "inception_5b/5x5",
                "inception_5b/5x5_reduce",
                "inception_5b/3x3",
                "inception_5b/3x3_reduce",
                "inception_5b/1x1"
            ]
        );
        let output = network.find("inception_4e/output").unwrap();
        let backward = BackwardPlan::new(&network, &plan, &[last], &Wanted::node(output)).unwrap();
        assert!(names(&network, &backward).iter().all(|name| !name.contains("4e") && !name.contains("4d")));
        assert_eq!(backward.wanted[0].shape, network.node(output).shape);
    }

    #[test]
    fn the_first_reader_writes_and_the_others_add() {
        let network = caffe();
        let plan = Plan::new(&network, 1, ConcatMode::InPlace).unwrap();
        let data = network.find("data").unwrap();
        let backward = BackwardPlan::new(&network, &plan, &logits(&network), &Wanted::node(data)).unwrap();
        let mut writes = vec![Vec::new(); network.nodes().len()];
        for step in &backward.steps {
            let BackwardStep::Node { node, inputs, .. } = step else { continue };
            for (&input, target) in network.node(*node).inputs.iter().zip(inputs) {
                writes[input].push(target.unwrap().add);
            }
        }
        // Four branches of 4b and the auxiliary head's pool read the output of 4a.
        assert_eq!(writes[network.find("inception_4a/output").unwrap()], [false, true, true, true, true]);
        assert_eq!(writes[network.find("inception_3a/output").unwrap()], [false, true, true, true]);
    }

    #[test]
    fn no_step_overwrites_a_gradient_that_is_still_needed() {
        let network = caffe();
        for concat in [ConcatMode::InPlace, ConcatMode::WithGains] {
            let plan = Plan::new(&network, 1, concat).unwrap();
            let wanted = Wanted { nodes: vec![0], weights: vec![false] };
            let backward = BackwardPlan::new(&network, &plan, &logits(&network), &wanted).unwrap();
            // Which node's gradient each buffer holds. Branches that are concatenated in place share a buffer.
            let mut holds = vec![None; backward.buffers.len()];
            let owner = |id: NodeId| match network.readers(id).next() {
                Some(reader) if concat == ConcatMode::InPlace && network.node(reader).op == Op::Concat => reader,
                _ => id,
            };
            for step in &backward.steps {
                match step {
                    BackwardStep::Seed { node, target, .. } => holds[target.place.buffer] = Some(owner(*node)),
                    BackwardStep::Node { node, gradient, inputs, .. } => {
                        assert_eq!(holds[gradient.buffer], Some(owner(*node)), "{}", network.node(*node).name);
                        for (&input, target) in network.node(*node).inputs.iter().zip(inputs) {
                            let Target { place, add } = target.unwrap();
                            assert!(!add || holds[place.buffer] == Some(owner(input)), "a sum goes on where it began");
                            holds[place.buffer] = Some(owner(input));
                        }
                    }
                }
            }
            assert_eq!(holds[backward.wanted[0].buffer], Some(0), "the input's gradient is kept");
            for step in &backward.steps {
                let BackwardStep::Node { gradient, inputs, .. } = step else { continue };
                let targets = inputs.iter().flatten();
                assert!(targets.clone().all(|t| t.place.buffer != gradient.buffer), "a step writes what it reads");
                assert!(
                    targets.clone().all(|t| t.place.offset + t.place.shape.len() <= backward.buffers[t.place.buffer])
                );
            }
        }
    }

    #[test]
    fn what_cannot_be_differentiated_is_an_error() {
        let network = caffe();
        let plan = Plan::new(&network, 1, ConcatMode::InPlace).unwrap();
        let [loss1, .., last] = logits(&network)[..] else { panic!() };
        let late = network.find("inception_5a/output").unwrap();
        let error = BackwardPlan::new(&network, &plan, &[loss1], &Wanted::node(late)).unwrap_err();
        assert_eq!(error.to_string(), "the objective does not depend on \"inception_5a/output\"");
        let both = Wanted { nodes: vec![late], weights: vec![true; 5] };
        assert!(BackwardPlan::new(&network, &plan, &[last], &both).is_err());
        let term = |kind| Term { node: last, kind }.check(&network, 2);
        assert!(term(TermKind::Channel { channel: 1000, weight: 1.0 }).is_err());
        let entropy =
            |classes: &[usize]| TermKind::CrossEntropy { classes: classes.into(), weight: 1.0, smoothing: 0.0 };
        assert!(term(entropy(&[1])).is_err());
        assert!(term(entropy(&[1, 1000])).is_err());
        assert!(term(entropy(&[1, 999])).is_ok());
    }
}
