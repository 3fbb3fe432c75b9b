//! Matches the nodes of a graph with the layers of this crate's network, from the classifiers back to the input.

use super::dense::{Dense, floats};
use super::graph::{Constant, FLATTENING, Graph, IDLE, Node};
use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Activation, Geometry, Op, Padding, Window};
use crate::graph::tensor::Shape;
use crate::model::import::layers::{BatchNorm, Values};
use std::collections::HashMap;

/// A graph that is being matched with a network.
pub(super) struct Overlay<'g, 'a> {
    graph: &'g Graph<'a>,
    network: &'g Network,
    /// For each node of the network, the value of the graph that is its output, once it is known.
    values: Vec<Option<&'a str>>,
    /// The weights of the layers that have been matched.
    pub found: HashMap<String, Values>,
}

impl<'g, 'a> Overlay<'g, 'a> {
    pub fn new(graph: &'g Graph<'a>, network: &'g Network) -> Self {
        Overlay { graph, network, values: vec![None; network.nodes().len()], found: HashMap::new() }
    }

    /// Records that this value is the node's output. Fails with [`Error::Shape`] where it was matched with another
    /// value before, through another reader of the node.
    pub fn set(&mut self, id: NodeId, value: &'a str) -> Result<()> {
        let value = self.graph.through(value, &IDLE);
        match self.values[id].replace(value) {
            Some(other) if other != value => {
                Err(self.error(id, format!("its output is both \"{other}\" and \"{value}\" in the graph")))
            }
            _ => Ok(()),
        }
    }

    fn error(&self, id: NodeId, reason: String) -> Error {
        Error::Shape { layer: self.network.node(id).name.clone(), reason }
    }

    /// Matches all nodes from the last to the first, so that all readers of a node come before it. Returns the value
    /// that the first layer reads.
    pub fn run(&mut self) -> Result<&'a str> {
        let mut input = "";
        for id in (0..self.values.len()).rev() {
            // Nodes without a value compute probabilities, as matching begins with the logits.
            let Some(value) = self.values[id] else { continue };
            if matches!(self.network.node(id).op, Op::Input(_)) {
                input = value;
            } else {
                self.node(id, value)?;
            }
        }
        Ok(input)
    }

    /// The value to which a node's activation is applied.
    fn activated(&self, id: NodeId, value: &'a str, activation: Activation) -> Result<&'a str> {
        match activation {
            Activation::None => Ok(value),
            Activation::Relu => self.input_of(id, value, "Relu"),
        }
    }

    /// Matches one node whose output is this value, and records the values of its inputs.
    fn node(&mut self, id: NodeId, value: &'a str) -> Result<()> {
        let network = self.network;
        let node = network.node(id);
        let (shape, dims) = (network.input_shape(id), node.op.weight_dims(network.input_shape(id)));
        let read = match &node.op {
            Op::Conv { window, activation, .. } => {
                let value = self.activated(id, value, *activation)?;
                self.conv(id, value, window, shape, &dims.unwrap_or_default())?
            }
            Op::Dense { activation, .. } => {
                let value = self.activated(id, value, *activation)?;
                let value = self.graph.through(value, &IDLE);
                let dense = Dense::at(self.graph, value)
                    .ok_or_else(|| self.error(id, format!("the graph has {} there", self.what(value))))?;
                self.found.insert(node.name.clone(), dense.values(&dims.unwrap_or_default())?);
                self.graph.through(dense.input, &FLATTENING)
            }
            Op::MaxPool(window) => {
                self.slides(id, value, "MaxPool", window, shape, None)?;
                self.input_of(id, value, "MaxPool")?
            }
            Op::AvgPool { window, .. } => {
                self.slides(id, value, "AveragePool", window, shape, None)?;
                self.input_of(id, value, "AveragePool")?
            }
            Op::AdaptiveAvgPool { out: [1, 1] } => self.global_average(id, value, shape)?,
            Op::Lrn { size, alpha, beta, k } => {
                let read = self.input_of(id, value, "LRN")?;
                let lrn = self.expect(id, value, "LRN")?;
                let near = |name, default, want: f32| (lrn.float(name, default) - want).abs() <= 1e-6 * want.abs();
                let same = near("alpha", 1e-4, *alpha) && near("beta", 0.75, *beta) && near("bias", 1.0, *k);
                if !same || usize::try_from(lrn.int("size", 0)) != Ok(*size) {
                    let reason = format!("{} is not of size {size}, alpha {alpha}, beta {beta}, bias {k}", lrn.label());
                    return Err(self.error(id, reason));
                }
                read
            }
            Op::Concat => {
                let concat = self.expect(id, value, "Concat")?;
                let axis = concat.int("axis", 1);
                if !matches!(axis, 1 | -3) || concat.inputs.len() != node.inputs.len() {
                    let reason = format!(
                        "{} does not concatenate {} branches along channels",
                        concat.label(),
                        node.inputs.len()
                    );
                    return Err(self.error(id, reason));
                }
                for (&branch, &value) in node.inputs.iter().zip(&concat.inputs) {
                    self.set(branch, value)?;
                }
                return Ok(());
            }
            op => return Err(self.error(id, format!("the importer does not support a {} of this kind", op.kind()))),
        };
        match node.inputs.first() {
            Some(&input) => self.set(input, read),
            None => Ok(()),
        }
    }

    /// A description of the node that computes a value, for messages.
    fn what(&self, value: &str) -> String {
        self.graph.producer(value).map_or_else(|| format!("the input \"{value}\""), Node::label)
    }

    /// The node that computes the value. Fails with [`Error::Shape`] where it is not of this type.
    fn expect(&self, id: NodeId, value: &str, op: &str) -> Result<&'g Node<'a>> {
        let node = self.graph.producer(value).filter(|node| node.op == op);
        node.ok_or_else(|| self.error(id, format!("the graph has {} where its {op} should be", self.what(value))))
    }

    /// The first input of the node that computes the value, which must be of this type.
    fn input_of(&self, id: NodeId, value: &'a str, op: &str) -> Result<&'a str> {
        let node = self.expect(id, value, op)?;
        let input = node.inputs.first().copied();
        input.ok_or_else(|| self.error(id, format!("{} has no input", node.label())))
    }

    /// Matches a convolution and the batch norm after it, if there is one. Returns the value that the convolution
    /// reads.
    fn conv(&mut self, id: NodeId, value: &'a str, window: &Window, shape: Shape, dims: &[usize]) -> Result<&'a str> {
        let graph = self.graph;
        let name = &self.network.node(id).name;
        let norm = graph.producer(value).filter(|node| node.op == "BatchNormalization");
        let value = match norm {
            Some(_) => graph.through(self.input_of(id, value, "BatchNormalization")?, &IDLE),
            None => value,
        };
        let conv = self.expect(id, value, "Conv")?;
        let constant = |node: &Node<'a>, input: usize, what: &str| {
            let constant = node.inputs.get(input).and_then(|name| graph.constant(name));
            constant.ok_or_else(|| self.error(id, format!("{} has no stored {what}", node.label())))
        };
        let weight = floats(constant(conv, 1, "weights")?, dims)?;
        let bias = match conv.inputs.get(2) {
            Some(name) if !name.is_empty() => floats(constant(conv, 2, "bias")?, &dims[..1])?,
            _ => vec![0.0; dims[0]],
        };
        let mut values = Values { weight, bias };
        if let Some(norm) = norm {
            let of = |input, what| floats(constant(norm, input, what)?, &dims[..1]);
            let epsilon = norm.float("epsilon", 1e-5);
            let (scale, shift, mean, var) = (of(1, "scale")?, of(2, "shift")?, of(3, "mean")?, of(4, "variance")?);
            BatchNorm { scale, shift, mean, var, epsilon }.fold(name, &mut values)?;
        }
        if conv.int("group", 1) != 1 {
            return Err(self.error(id, format!("{} is a grouped convolution", conv.label())));
        }
        self.slides(id, value, "Conv", window, shape, Some([dims[2], dims[3]]))?;
        self.found.insert(name.clone(), values);
        self.input_of(id, value, "Conv")
    }

    /// Checks that a node's window has the same geometry on this input as the layer's window.
    fn slides(
        &self,
        id: NodeId,
        value: &str,
        op: &str,
        window: &Window,
        shape: Shape,
        kernel: Option<[usize; 2]>,
    ) -> Result<()> {
        let node = self.expect(id, value, op)?;
        let theirs = slide(node, kernel).and_then(|window| window.on([shape.h, shape.w]));
        let theirs = theirs.map_err(|reason| self.error(id, format!("{}: {reason}", node.label())))?;
        let want = window.on([shape.h, shape.w]).map_err(|reason| self.error(id, reason))?;
        // Padding at the end matters only for averages.
        let same_end = op != "AveragePool" || theirs.pad_end == want.pad_end;
        if same_end
            && (theirs.kernel, theirs.stride, theirs.pad, theirs.out) == (want.kernel, want.stride, want.pad, want.out)
        {
            return Ok(());
        }
        let describe = |g: &Geometry| {
            let Geometry { kernel, stride, pad, pad_end, .. } = g;
            format!("{kernel:?} with stride {stride:?} and padding {pad:?} and {pad_end:?}")
        };
        let reason = format!("{} has the window {}, not {}", node.label(), describe(&theirs), describe(&want));
        Err(self.error(id, reason))
    }

    /// Matches a global average pool, which exporters write in several ways. Returns the value that it reads.
    fn global_average(&self, id: NodeId, value: &'a str, shape: Shape) -> Result<&'a str> {
        let value = self.graph.through(value, &FLATTENING);
        let node = self.graph.producer(value);
        let op = node.map_or("GlobalAveragePool", |node| node.op);
        match (op, node) {
            ("AveragePool", _) => {
                let all = Window { kernel: [shape.h, shape.w], stride: [1, 1], padding: Padding::Valid };
                let node = self.expect(id, value, op)?;
                let theirs = slide(node, None).and_then(|theirs| theirs.on([shape.h, shape.w]));
                let theirs = theirs.map_err(|reason| self.error(id, format!("{}: {reason}", node.label())))?;
                if theirs.kernel != all.kernel || theirs.pad != [0, 0] || theirs.pad_end != [0, 0] {
                    return Err(self.error(id, format!("{} does not average all of {shape}", node.label())));
                }
            }
            ("ReduceMean", Some(node)) => {
                let listed = node.inputs.get(1).and_then(|name| self.graph.constant(name)).map(Constant::ints);
                let mut axes = listed.or(node.ints("axes").map(<[i64]>::to_vec)).unwrap_or_default();
                for axis in &mut axes {
                    *axis = if *axis < 0 { axis.saturating_add(4) } else { *axis };
                }
                axes.sort_unstable();
                if axes != [2, 3] {
                    return Err(self.error(id, format!("{} does not average over rows and columns", node.label())));
                }
            }
            _ => drop(self.expect(id, value, "GlobalAveragePool")?),
        }
        self.input_of(id, value, op)
    }
}

/// A node's window. Fails with the reason where [`Window`] cannot describe it.
fn slide(node: &Node, kernel: Option<[usize; 2]>) -> Result<Window, String> {
    let numbers = |name: &str| -> Result<Option<Vec<usize>>, String> {
        let Some(ints) = node.ints(name) else { return Ok(None) };
        let small = ints.iter().map(|&i| u16::try_from(i).map(usize::from)).collect::<Result<_, _>>();
        small.map(Some).map_err(|_| format!("{name} {ints:?} is out of range"))
    };
    let pair = |name: &str, default: Option<[usize; 2]>| -> Result<[usize; 2], String> {
        let given = numbers(name)?
            .map(|ints| <[usize; 2]>::try_from(ints).map_err(|_| format!("{name} does not have two numbers")));
        given.transpose()?.or(default).ok_or_else(|| format!("it has no {name}"))
    };
    if pair("dilations", Some([1, 1]))? != [1, 1] {
        return Err("its window is dilated".into());
    }
    let padding = match node.text("auto_pad") {
        "SAME_UPPER" => Padding::Same,
        "VALID" => Padding::Valid,
        "" | "NOTSET" => {
            let pads = numbers("pads")?.unwrap_or_else(|| vec![0; 4]);
            let [top, left, bottom, right] = pads[..] else { return Err("pads does not have four numbers".into()) };
            Padding::Explicit { top, left, bottom, right, ceil: node.int("ceil_mode", 0) != 0 }
        }
        other => return Err(format!("auto_pad {other} is not supported")),
    };
    Ok(Window { kernel: pair("kernel_shape", kernel)?, stride: pair("strides", Some([1, 1]))?, padding })
}
