//! The graph of an ONNX file. Field numbers are those of onnx.proto.

use crate::error::{Error, Result};
use crate::model::import::layers::product;
use crate::model::import::protobuf::{Value, fields};
use crate::model::import::source::MAX_ITEMS;
use half::{bf16, f16};
use std::collections::HashMap;

/// Nodes that do nothing in inference.
pub const IDLE: [&str; 2] = ["Identity", "Dropout"];
/// Nodes that only change the shape of features. Features are NCHW, so dense layers read CHW.
pub const FLATTENING: [&str; 5] = ["Identity", "Dropout", "Flatten", "Reshape", "Squeeze"];

/// The largest number of consecutive nodes that are skipped because they only pass a value on.
const MAX_CHAIN: usize = 100;
/// The largest number of attributes, inputs and outputs of all nodes together. GoogLeNet has about 2,000.
const MAX_PARTS: usize = 10 * MAX_ITEMS;

/// The graph's field in ModelProto.
const GRAPH: u64 = 7;

#[derive(Default)]
pub(super) struct Graph<'a> {
    pub nodes: Vec<Node<'a>>,
    /// The graph's inputs without those that are weights, each with its dimensions. `None` is a dimension that is not
    /// fixed.
    pub inputs: Vec<(&'a str, Vec<Option<usize>>)>,
    pub outputs: Vec<&'a str>,
    constants: HashMap<&'a str, Constant<'a>>,
    /// The index of the node that computes each value.
    producers: HashMap<&'a str, usize>,
}

#[derive(Default)]
pub(super) struct Node<'a> {
    pub op: &'a str,
    name: &'a str,
    pub inputs: Vec<&'a str>,
    pub outputs: Vec<&'a str>,
    attributes: HashMap<&'a str, Attribute<'a>>,
}

#[derive(Default)]
struct Attribute<'a> {
    float: f32,
    int: i64,
    text: &'a str,
    ints: Vec<i64>,
    tensor: Option<Constant<'a>>,
}

/// A tensor whose values have not been decoded.
#[derive(Default, Clone)]
pub(super) struct Constant<'a> {
    pub name: &'a str,
    pub dims: Vec<usize>,
    /// The element type, a `TensorProto.DataType`.
    kind: i64,
    /// The field `raw_data`.
    raw: &'a [u8],
    /// The fields `float_data`, `double_data` or `int64_data`, each with its number.
    listed: Vec<(u64, Value<'a>)>,
    /// Whether the values are in another file.
    external: bool,
}

pub(in crate::model::import) fn recognises(bytes: &[u8]) -> bool {
    let (mut version, mut graph) = (false, false);
    for field in fields(bytes) {
        match field {
            Ok((1, Value::Varint(_))) => version = true,
            Ok((GRAPH, Value::Bytes(_))) => graph = true,
            // The other fields of ModelProto.
            Ok((2..=6 | 8 | 14 | 20 | 25 | 26, _)) => {}
            Ok(_) => return false,
            Err(broken) => return version && (graph || broken.field == Some(GRAPH)),
        }
    }
    version && graph
}

impl<'a> Graph<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let mut graph = Graph::default();
        let mut inputs = Vec::new();
        let mut parts = 0;
        for field in fields(bytes) {
            let (GRAPH, message) = field? else { continue };
            for field in fields(message.bytes()) {
                match field? {
                    (1, value) => {
                        let node = node(value.bytes())?;
                        parts += node.inputs.len() + node.outputs.len() + node.attributes.len();
                        graph.nodes.push(node);
                    }
                    (5, value) => {
                        let constant = constant(value.bytes())?;
                        graph.constants.insert(constant.name, constant);
                    }
                    (11, value) => inputs.push(input(value.bytes())?),
                    (12, value) => graph.outputs.push(input(value.bytes())?.0),
                    _ => {}
                }
                let items = graph.nodes.len() + graph.constants.len() + inputs.len() + graph.outputs.len();
                if items > MAX_ITEMS || parts > MAX_PARTS {
                    return Err(Error::Import("its graph has far more nodes than GoogLeNet".into()));
                }
            }
        }
        for (index, node) in graph.nodes.iter_mut().enumerate() {
            if node.op == "Constant"
                && let Some(value) = node.attributes.remove("value").and_then(|a| a.tensor)
                && let Some(name) = node.outputs.first()
            {
                graph.constants.insert(name, value);
            }
            graph.producers.extend(node.outputs.iter().filter(|name| !name.is_empty()).map(|&name| (name, index)));
        }
        // Before 2019, exporters also listed weights as inputs.
        inputs.retain(|(name, _)| !graph.constants.contains_key(name));
        graph.inputs = inputs;
        Ok(graph)
    }

    /// The node that computes this value. `None` for inputs and constants.
    pub fn producer(&self, value: &str) -> Option<&Node<'a>> {
        self.producers.get(value).map(|&index| &self.nodes[index])
    }

    /// The stored tensor with this name. `None` where the value is not a constant.
    pub fn constant(&self, value: &'a str) -> Option<&Constant<'a>> {
        self.constants.get(self.through(value, &["Identity"]))
    }

    /// The value before all consecutive nodes of these types, which only pass on their first input.
    pub fn through(&self, mut value: &'a str, ops: &[&str]) -> &'a str {
        // The number is limited as a damaged graph may have a cycle. Exporters do not write long chains of such nodes.
        for _ in 0..MAX_CHAIN {
            match self.producer(value) {
                Some(node) if ops.contains(&node.op) && !node.inputs.is_empty() => value = node.inputs[0],
                _ => break,
            }
        }
        value
    }
}

impl Node<'_> {
    /// The node's type and name, for messages.
    pub fn label(&self) -> String {
        let name = if self.name.is_empty() { self.outputs.first().copied().unwrap_or_default() } else { self.name };
        format!("{} \"{name}\"", self.op)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attributes.get(name).map_or(default, |a| a.int)
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attributes.get(name).map_or(default, |a| a.float)
    }

    pub fn text(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", |a| a.text)
    }

    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attributes.get(name).map(|a| a.ints.as_slice())
    }
}

impl Constant<'_> {
    /// The values of a tensor of floating-point numbers. Fails with [`Error::TensorType`] for other types, and with
    /// [`Error::Import`] where the values are in another file, or where their number does not fit the shape.
    pub fn floats(&self) -> Result<Vec<f32>> {
        if self.external {
            return Err(Error::Import(format!(
                "its weights are in another file (at least \"{}\"); export it again with external_data=False",
                self.name
            )));
        }
        let mut values: Vec<f32> = match self.kind {
            1 => self.raw.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            10 => self.raw.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32()).collect(),
            11 => self.raw.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32).collect(),
            16 => self.raw.as_chunks().0.iter().map(|&b| bf16::from_le_bytes(b).to_f32()).collect(),
            kind => {
                let found = format!("ONNX type {kind}");
                return Err(Error::TensorType { name: self.name.to_owned(), found });
            }
        };
        for (field, value) in &self.listed {
            match (field, self.kind) {
                (4, 1) => value.floats(&mut values),
                (10, 11) => value.doubles(&mut values),
                _ => {}
            }
        }
        if product(&self.dims) != Some(values.len()) {
            let reason = format!("the tensor \"{}\" does not have the number of values of its shape", self.name);
            return Err(Error::Import(reason));
        }
        Ok(values)
    }

    /// The values of a tensor of integers; empty for other types.
    pub fn ints(&self) -> Vec<i64> {
        let mut values: Vec<i64> = match self.kind {
            6 => self.raw.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b).into()).collect(),
            7 => self.raw.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect(),
            _ => Vec::new(),
        };
        for (field, value) in &self.listed {
            // If the values cannot be decoded, the empty list is rejected by the caller.
            if *field == 7 && self.kind == 7 && value.ints(&mut values).is_err() {
                return Vec::new();
            }
        }
        values
    }
}

fn node(message: &[u8]) -> Result<Node<'_>> {
    let mut node = Node::default();
    for field in fields(message) {
        match field? {
            (1, value) => node.inputs.push(value.text()),
            (2, value) => node.outputs.push(value.text()),
            (3, value) => node.name = value.text(),
            (4, value) => node.op = value.text(),
            (5, value) => {
                let (name, attribute) = attribute(value.bytes())?;
                node.attributes.insert(name, attribute);
            }
            _ => {}
        }
        if node.inputs.len() + node.outputs.len() + node.attributes.len() > 256 {
            return Err(Error::Import("a node of its graph has far too many inputs, outputs or attributes".into()));
        }
    }
    Ok(node)
}

fn attribute(message: &[u8]) -> Result<(&str, Attribute<'_>)> {
    let (mut name, mut attribute) = ("", Attribute::default());
    for field in fields(message) {
        match field? {
            (1, value) => name = value.text(),
            (2, value) => attribute.float = value.float(),
            (3, value) => attribute.int = value.int(),
            (4, value) => attribute.text = value.text(),
            (5, value) => attribute.tensor = Some(constant(value.bytes())?),
            (8, value) => value.ints(&mut attribute.ints)?,
            _ => {}
        }
    }
    Ok((name, attribute))
}

fn constant(message: &[u8]) -> Result<Constant<'_>> {
    let mut constant = Constant::default();
    let mut dims = Vec::new();
    for field in fields(message) {
        match field? {
            (1, value) => value.ints(&mut dims)?,
            (2, value) => constant.kind = value.int(),
            (8, value) => constant.name = value.text(),
            (9, value) => constant.raw = value.bytes(),
            (n @ (4 | 7 | 10), value) => constant.listed.push((n, value)),
            (13, _) => constant.external = true,
            _ => {}
        }
    }
    constant.dims = dims.into_iter().map(|d| usize::try_from(d).unwrap_or(usize::MAX)).collect();
    Ok(constant)
}

/// The name and dimensions of a ValueInfoProto. The dimensions are in the fields type, tensor_type, shape, dim,
/// dim_value.
fn input(message: &[u8]) -> Result<(&str, Vec<Option<usize>>)> {
    let (mut name, mut dims) = ("", Vec::new());
    for field in fields(message) {
        match field? {
            (1, value) => name = value.text(),
            (2, kind) => {
                let Some(shape) = first(kind.bytes(), 1)?.map(|tensor| first(tensor, 2)).transpose()?.flatten() else {
                    continue;
                };
                for dim in fields(shape) {
                    let (_, dim) = dim?;
                    let mut size = None;
                    for field in fields(dim.bytes()) {
                        if let (1, value) = field? {
                            size = usize::try_from(value.int()).ok();
                        }
                    }
                    dims.push(size);
                }
            }
            _ => {}
        }
    }
    Ok((name, dims))
}

/// The first message in the field with this number.
fn first(message: &[u8], wanted: u64) -> Result<Option<&[u8]>> {
    for field in fields(message) {
        let (field, value) = field?;
        if field == wanted {
            return Ok(Some(value.bytes()));
        }
    }
    Ok(None)
}
