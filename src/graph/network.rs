//! A network: named nodes in topological order, checked as they are added.

use crate::error::{Error, Result};
use crate::graph::op::{Field, Op};
use crate::graph::tensor::Shape;

/// Elements of one node's output, so that no product of sizes overflows: 4 GiB.
const MAX_LEN: usize = 1 << 30;

/// A node's place in [`Network::nodes`].
pub type NodeId = usize;

/// The four ways through an inception module, in the order in which they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Branch {
    Conv1x1,
    Conv3x3,
    Conv5x5,
    Pool,
}

impl Branch {
    pub const ALL: [Branch; 4] = [Branch::Conv1x1, Branch::Conv3x3, Branch::Conv5x5, Branch::Pool];

    /// The branch as Caffe's layer names have it.
    pub fn name(self) -> &'static str {
        match self {
            Branch::Conv1x1 => "1x1",
            Branch::Conv3x3 => "3x3",
            Branch::Conv5x5 => "5x5",
            Branch::Pool => "pool",
        }
    }
}

/// One operation with a name, what it reads, and what it gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Caffe's name for the layer: `inception_3a/5x5_reduce`.
    pub name: String,
    pub op: Op,
    pub inputs: Vec<NodeId>,
    /// Output shape for a batch of one.
    pub shape: Shape,
    /// What of the network's input each cell of the output sees.
    pub field: Field,
    /// `inception_3a`, `loss1`, ...; `None` in the stem and the tail.
    pub module: Option<String>,
    pub branch: Option<Branch>,
}

/// A classifier: where its scores and its probabilities are.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `loss1`, `loss2` or `loss3`.
    pub name: String,
    pub logits: NodeId,
    pub prob: NodeId,
}

/// Nodes in topological order: a node reads only what stands before it.
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

    /// Adds an input of this shape (batch of one).
    pub fn input(&mut self, name: &str, shape: Shape) -> Result<NodeId> {
        self.add(name, Op::Input(shape.with_batch(1)), &[])
    }

    /// Adds a node that reads `inputs`, or says why it cannot.
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
        // Where branches meet, a cell sees what any of them does.
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

    /// The nodes added from here on belong to this module and branch.
    pub fn enter(&mut self, module: Option<&str>, branch: Option<Branch>) {
        self.module = module.map(str::to_owned);
        self.branch = branch;
    }

    /// Declares a classifier; the last one declared is the network's answer.
    pub fn add_head(&mut self, name: &str, logits: NodeId, prob: NodeId) {
        self.heads.push(Head { name: name.to_owned(), logits, prob });
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id]
    }

    pub fn find(&self, name: &str) -> Result<NodeId> {
        let at = self.nodes.iter().position(|node| node.name == name);
        at.ok_or_else(|| Error::UnknownNode(name.to_owned()))
    }

    /// The nodes up to this one, with the same ids, on inputs of this height and width. No heads.
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

    /// The classifiers, the network's own answer last.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The input nodes in the order in which they were added.
    pub fn inputs(&self) -> impl Iterator<Item = NodeId> + '_ {
        (0..self.nodes.len()).filter(|&i| matches!(self.nodes[i].op, Op::Input(_)))
    }

    /// The shape of what a node reads first (its weights depend on it).
    pub fn input_shape(&self, id: NodeId) -> Shape {
        self.nodes[id].inputs.first().map_or(self.nodes[id].shape, |&i| self.nodes[i].shape)
    }

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
    fn a_node_is_checked_when_it_is_added() {
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
