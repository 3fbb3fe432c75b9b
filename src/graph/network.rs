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

    /// The part of the network after a node: an input of the node's shape and name, and all nodes that depend on it, with
    /// their heads. Fails with [`Error::Argument`] where one of them depends on something else, too, or where nothing does.
    pub fn after(&self, node: NodeId) -> Result<Network> {
        let mut part = Network::new();
        let mut ids: Vec<Option<NodeId>> = vec![None; self.nodes.len()];
        ids[node] = Some(part.input(&self.nodes[node].name, self.nodes[node].shape)?);
        for (id, node) in self.nodes.iter().enumerate().skip(node + 1) {
            if node.inputs.iter().all(|&input| ids[input].is_none()) {
                continue;
            }
            let inputs: Option<Vec<NodeId>> = node.inputs.iter().map(|&input| ids[input]).collect();
            let Some(inputs) = inputs else {
                let reason = format!("\"{}\" depends on more than \"{}\"", node.name, part.nodes[0].name);
                return Err(Error::Argument(reason));
            };
            part.enter(node.module.as_deref(), node.branch);
            ids[id] = Some(part.add(&node.name, node.op.clone(), &inputs)?);
        }
        if part.nodes.len() == 1 {
            return Err(Error::Argument(format!("nothing depends on \"{}\"", part.nodes[0].name)));
        }
        for head in &self.heads {
            if let (Some(logits), Some(prob)) = (ids[head.logits], ids[head.prob]) {
                part.add_head(&head.name, logits, prob);
            }
        }
        Ok(part)
    }

    /// The network with dropout between some nodes and the nodes that read them: `ratio` returns the name and the ratio of
    /// the dropout behind a node, if there is one.
    pub fn with_dropout(&self, ratio: impl Fn(&Node) -> Option<(String, f32)>) -> Result<Network> {
        let mut network = Network::new();
        // The node that readers read, and the node itself.
        let mut ids: Vec<[NodeId; 2]> = Vec::new();
        for node in &self.nodes {
            network.enter(node.module.as_deref(), node.branch);
            let inputs: Vec<NodeId> = node.inputs.iter().map(|&input| ids[input][0]).collect();
            let id = network.add(&node.name, node.op.clone(), &inputs)?;
            let read = match ratio(node) {
                Some((name, ratio)) => network.add(&name, Op::Dropout { ratio }, &[id])?,
                None => id,
            };
            ids.push([read, id]);
        }
        for head in &self.heads {
            network.add_head(&head.name, ids[head.logits][1], ids[head.prob][1]);
        }
        Ok(network)
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
    fn a_part_begins_after_a_node() {
        let net = crate::graph::googlenet::Spec::default().build().unwrap();
        let part = net.after(net.find("inception_4d/output").unwrap()).unwrap();
        assert_eq!(part.node(0).op, Op::Input(Shape::new(1, 14, 14, 528)));
        let heads: Vec<&str> = part.heads().iter().map(|head| head.name.as_str()).collect();
        assert_eq!(heads, ["loss2", "loss3"]);
        assert_eq!(part.node(part.heads()[1].logits).name, "loss3/classifier");
        assert_eq!(part.node(part.find("inception_5b/3x3").unwrap()).module.as_deref(), Some("inception_5b"));
        let error = net.after(net.find("inception_4d/1x1").unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "\"inception_4d/output\" depends on more than \"inception_4d/1x1\"");
        assert!(net.after(net.find("prob").unwrap()).is_err());
    }

    #[test]
    fn dropout_is_inserted_behind_a_node() {
        let net = crate::graph::googlenet::Spec::default().build().unwrap();
        let ratio = |node: &Node| (node.name == "pool5/7x7_s1").then(|| ("pool5/drop_7x7_s1".to_owned(), 0.4));
        let with = net.with_dropout(ratio).unwrap();
        let classifier = with.node(with.find("loss3/classifier").unwrap());
        assert_eq!(with.node(classifier.inputs[0]).op, Op::Dropout { ratio: 0.4 });
        assert_eq!((with.nodes().len(), with.heads().len()), (net.nodes().len() + 1, 3));
        assert_eq!(with.total_params(), net.total_params());
    }

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
