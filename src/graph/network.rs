//! A network: named nodes in topological order, which are checked when they are added.

use crate::error::{Error, Result};
use crate::graph::op::{Field, Op};
use crate::graph::tensor::Shape;

/// The largest number of elements of one node's output (4 GiB in f32), so that no product of sizes overflows.
const MAX_LEN: usize = 1 << 30;

/// A node's index in [`Network::nodes`].
pub type NodeId = usize;

/// The four branches of an inception module, in the order in which they are concatenated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    Conv1x1,
    Conv3x3,
    Conv5x5,
    Pool,
}

impl Branch {
    pub const ALL: [Branch; 4] = [Branch::Conv1x1, Branch::Conv3x3, Branch::Conv5x5, Branch::Pool];

    /// The branch's name as in Caffe's layer names.
    pub fn name(self) -> &'static str {
        match self {
            Branch::Conv1x1 => "1x1",
            Branch::Conv3x3 => "3x3",
            Branch::Conv5x5 => "5x5",
            Branch::Pool => "pool",
        }
    }
}

/// One operation of the network, with its name, its inputs and the shape of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Caffe's name for the layer: `inception_3a/5x5_reduce`.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<NodeId>,
    /// The output's shape for a batch of one.
    pub shape: Shape,
    /// The receptive field of the output's cells in the network's input.
    pub field: Field,
    /// `inception_3a`, `loss1`, ...; `None` for the stem, the pools between stages and the main classifier.
    pub module: Option<String>,
    pub branch: Option<Branch>,
}

/// A classifier: the nodes that compute its logits and its probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `loss1`, `loss2` or `loss3`.
    pub name: String,
    pub logits: NodeId,
    pub prob: NodeId,
}

/// Nodes in topological order: each node reads only nodes before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    nodes: Vec<Node>,
    heads: Vec<Head>,
    module: Option<String>,
    branch: Option<Branch>,
}

impl Network {
    pub fn new() -> Self {
        Network::default()
    }

    /// Adds an input node of this shape; its batch is set to one.
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<NodeId> {
        self.add(name, Op::Input(shape.with_batch(1)), &[])
    }

    /// Adds a node that reads `inputs`. Fails with [`Error::Shape`] where the name is used already, or where the
    /// operation cannot process these inputs.
    pub fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let fail = |reason: String| Error::Shape { layer: name.to_owned(), reason };
        if self.find(name).is_ok() {
            return Err(fail("there are two nodes of this name".into()));
        }
        if inputs.iter().any(|&i| i >= self.nodes.len()) {
            return Err(fail("it reads a node that does not exist yet".into()));
        }
        let shapes: Vec<Shape> = inputs.iter().map(|&i| self.nodes[i].shape).collect();
        let shape = op.out_shape(&shapes).map_err(fail)?;
        let len = [shape.n, shape.h, shape.w, shape.c].iter().try_fold(1usize, |len, &n| len.checked_mul(n));
        if len.is_none_or(|len| len > MAX_LEN) {
            return Err(fail(format!("its output of {shape} is too large")));
        }
        // A cell of a concatenation depends on all pixels that any of its inputs depends on.
        let field = inputs
            .iter()
            .map(|&i| op.receptive_field(self.nodes[i].field, self.nodes[i].shape))
            .reduce(Field::union)
            .unwrap_or(Field::PIXEL);
        let id = self.nodes.len();
        self.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs: inputs.to_vec(),
            shape,
            field,
            module: self.module.clone(),
            branch: self.branch,
        });
        Ok(id)
    }

    /// Sets the module and branch of the nodes that are added from now on.
    pub fn enter(&mut self, module: Option<&str>, branch: Option<Branch>) {
        self.module = module.map(str::to_owned);
        self.branch = branch;
    }

    /// Declares a classifier. The one that is declared last is the main classifier.
    pub fn add_head(&mut self, name: &str, logits: NodeId, prob: NodeId) {
        self.heads.push(Head { name: name.to_owned(), logits, prob });
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    /// The node with this name. Fails with [`Error::UnknownNode`] where there is none.
    pub fn find(&self, name: &str) -> Result<NodeId> {
        let at = self.nodes.iter().position(|node| node.name == name);
        at.ok_or_else(|| Error::UnknownNode(name.to_owned()))
    }

    /// The part of the network up to the node `last`, with the same ids and without heads, for inputs of this height
    /// and width.
    pub fn until(&self, last: NodeId, size: usize) -> Result<Network> {
        let mut part = Network::new();
        for node in &self.nodes[..=last] {
            let op = match &node.op {
                Op::Input(shape) => Op::Input(Shape { h: size, w: size, ..*shape }),
                op => op.clone(),
            };
            part.add(&node.name, op, &node.inputs)?;
        }
        Ok(part)
    }

    /// The classifiers, the main one last.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The input nodes in the order in which they were added.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.nodes.len()).filter(|&i| matches!(self.nodes[i].op, Op::Input(_)))
    }

    /// The shape of a node's first input, on which the shape of its weights depends; the node's own shape if it has no
    /// input.
    pub fn input_shape(&self, id: NodeId) -> Shape {
        self.nodes[id].inputs.first().map_or(self.nodes[id].shape, |&i| self.nodes[i].shape)
    }

    /// The number of weights and biases of one node.
    pub fn params(&self, id: NodeId) -> usize {
        self.nodes[id].op.params(self.input_shape(id))
    }

    /// Multiply-adds of one node for a batch of one.
    pub fn macs(&self, id: NodeId) -> u64 {
        self.nodes[id].op.macs(self.input_shape(id), self.nodes[id].shape)
    }

    pub fn total_params(&self) -> usize {
        (0..self.nodes.len()).map(|i| self.params(i)).sum()
    }

    pub fn total_macs(&self) -> u64 {
        (0..self.nodes.len()).map(|i| self.macs(i)).sum()
    }

    /// The nodes that read `id`.
    pub fn readers(&self, id: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.nodes.len()).filter(move |&i| self.nodes[i].inputs.contains(&id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::{Padding, Window};

    #[test]
    fn nodes_are_checked_when_they_are_added() {
        let mut net = Network::new();
        let x = net.input("data", Shape::new(1, 4, 4, 3)).unwrap();
        let wide = Op::MaxPool(Window::square(5, 1, Padding::Valid));
        let error = net.add("pool", wide, &[x]).unwrap_err();
        assert_eq!((error.code(), error.detail()), ("shape", Some("pool")));
        assert!(net.add("data", Op::Softmax, &[x]).is_err());
        assert!(net.add("prob", Op::Softmax, &[7]).is_err());
        assert_eq!(net.find("nothing").unwrap_err().code(), "unknown-node");
    }
}
