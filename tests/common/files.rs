//! GoogLeNets in the file formats of other frameworks, generated here: with values that are all zero, or without
//! values.

#![allow(dead_code, reason = "each test binary uses its own part")]

use googlenet::graph::googlenet::{Spec, Variant};
use googlenet::graph::network::Network;
use googlenet::graph::op::{Op, Padding, Window};
use serde_json::json;

/// The network that the files contain.
pub fn network(variant: Variant) -> Network {
    Spec { variant, classes: 3, heads: false, size: 224 }.build().unwrap()
}

/// The layers that have weights, each with the dimensions of its weights: OIHW, or (out, in).
pub fn layers(network: &Network) -> Vec<(String, Vec<usize>)> {
    let dims = |id| network.node(id).op.weight_dims(network.input_shape(id));
    let all = network.nodes().iter().enumerate();
    all.filter_map(|(id, node)| Some((node.name.clone(), dims(id)?))).collect()
}

/// A builder of protobuf messages.
#[derive(Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub fn int(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    pub fn float(mut self, field: u64, value: f32) -> Self {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    /// Adds a field of bytes: a string, a message or packed numbers.
    pub fn bytes(mut self, field: u64, value: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.as_ref().len() as u64);
        self.0.extend(value.as_ref());
        self
    }

    fn ints(self, field: u64, values: &[usize]) -> Self {
        let mut packed = Message::default();
        values.iter().for_each(|&v| packed.varint(v as u64));
        self.bytes(field, packed.0)
    }
}

/// A BlobProto with these dimensions.
fn blob(dims: &[usize], values: bool) -> Vec<u8> {
    let shape = Message::default().ints(1, dims).0;
    let data = vec![0; if values { 4 * dims.iter().product::<usize>() } else { 0 }];
    Message::default().bytes(7, shape).bytes(5, data).0
}

/// A LayerParameter with these blobs.
pub fn caffe_layer(name: &str, kind: &str, blobs: &[Vec<u8>]) -> Vec<u8> {
    blobs.iter().fold(Message::default().bytes(1, name).bytes(2, kind), |layer, blob| layer.bytes(7, blob)).0
}

/// A LayerParameter with weights of these dimensions and a bias.
pub fn caffe_weights(name: &str, dims: &[usize], values: bool) -> Vec<u8> {
    let kind = if dims.len() == 4 { "Convolution" } else { "InnerProduct" };
    caffe_layer(name, kind, &[blob(dims, values), blob(&dims[..1], values)])
}

/// A .caffemodel with these layers.
pub fn caffemodel(layers: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    layers.into_iter().fold(Message::default().bytes(1, "GoogleNet"), |net, layer| net.bytes(100, layer)).0
}

/// The BVLC network as a .caffemodel.
pub fn caffe(values: bool) -> Vec<u8> {
    let network = network(Variant::Caffe);
    caffemodel(layers(&network).iter().map(|(name, dims)| caffe_weights(name, dims, values)))
}

fn attribute(name: &str, value: impl FnOnce(Message) -> Message) -> Vec<u8> {
    value(Message::default().bytes(1, name)).0
}

fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input));
    let node = node.bytes(2, output).bytes(3, format!("node of {output}")).bytes(4, op);
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute)).0
}

fn window(w: &Window) -> Vec<Vec<u8>> {
    let (pads, ceil) = match w.padding {
        Padding::Explicit { top, left, bottom, right, ceil } => ([top, left, bottom, right], ceil),
        _ => panic!("the variant pads explicitly"),
    };
    vec![
        attribute("kernel_shape", |a| a.ints(8, &w.kernel)),
        attribute("strides", |a| a.ints(8, &w.stride)),
        attribute("pads", |a| a.ints(8, &pads)),
        attribute("ceil_mode", |a| a.int(3, ceil.into())),
    ]
}

/// The BVLC network as an ONNX graph with values in f16.
pub fn onnx(values: bool) -> Vec<u8> {
    onnx_of(&network(Variant::Caffe), values)
}

/// A network with explicit padding as an ONNX graph.
pub fn onnx_of(network: &Network, values: bool) -> Vec<u8> {
    let mut graph = Message::default();
    let value_info = |name: &str, dims: &[u64]| {
        let shape = dims.iter().fold(Message::default(), |s, &d| s.bytes(1, Message::default().int(1, d).0));
        let tensor = Message::default().int(1, 1).bytes(2, shape.0);
        Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor.0).0).0
    };
    let initializer = |name: &str, dims: &[usize]| {
        let raw = vec![0; if values { 2 * dims.iter().product::<usize>() } else { 0 }];
        Message::default().ints(1, dims).int(2, 10).bytes(8, name).bytes(9, raw).0
    };
    for (id, this) in network.nodes().iter().enumerate() {
        let name = this.name.as_str();
        let inputs: Vec<&str> = this.inputs.iter().map(|&i| network.node(i).name.as_str()).collect();
        let [weight, bias] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        if let Some(dims) = this.op.weight_dims(network.input_shape(id)) {
            graph = graph.bytes(5, initializer(&weight, &dims)).bytes(5, initializer(&bias, &dims[..1]));
        }
        let one = |op: &str, attributes: &[Vec<u8>]| vec![node(op, &inputs, name, attributes)];
        let before = format!("{name} before");
        let nodes = match &this.op {
            Op::Input(_) => Vec::new(),
            Op::Conv { window: w, .. } => {
                vec![
                    node("Conv", &[inputs[0], &weight, &bias], &before, &window(w)[..3]),
                    node("Relu", &[&before], name, &[]),
                ]
            }
            Op::MaxPool(w) => one("MaxPool", &window(w)),
            Op::AdaptiveAvgPool { .. } => one("GlobalAveragePool", &[]),
            Op::Lrn { size, alpha, beta, k } => one(
                "LRN",
                &[
                    attribute("size", |a| a.int(3, *size as u64)),
                    attribute("alpha", |a| a.float(2, *alpha)),
                    attribute("beta", |a| a.float(2, *beta)),
                    attribute("bias", |a| a.float(2, *k)),
                ],
            ),
            Op::Concat => one("Concat", &[attribute("axis", |a| a.int(3, 1))]),
            Op::Dense { .. } => vec![
                node("Flatten", &inputs, &before, &[]),
                node("Gemm", &[&before, &weight, &bias], name, &[attribute("transB", |a| a.int(3, 1))]),
            ],
            Op::Softmax => one("Softmax", &[]),
            Op::Dropout { .. } => one("Dropout", &[]),
            Op::AvgPool { .. } => panic!("only the heads average so"),
        };
        graph = nodes.into_iter().fold(graph, |graph, node| graph.bytes(1, node));
    }
    let graph = graph.bytes(11, value_info("data", &[1, 3, 224, 224])).bytes(12, value_info("prob", &[1, 3]));
    Message::default().int(1, 8).bytes(7, graph.0).0
}

/// A builder of HDF5 files in the oldest version of the format, which has no checksums, so that damaged files are
/// parsed.
pub struct Hdf5(Vec<u8>);

const NOWHERE: u64 = u64::MAX;

impl Default for Hdf5 {
    fn default() -> Self {
        Hdf5(vec![0; 96])
    }
}

impl Hdf5 {
    fn object(&mut self, messages: &[(u16, Vec<u8>)]) -> u64 {
        let mut body = Vec::new();
        for (kind, data) in messages {
            let len = data.len().next_multiple_of(8);
            body.extend(kind.to_le_bytes());
            body.extend((len as u16).to_le_bytes());
            body.extend([0; 4]);
            body.extend(data);
            body.resize(body.len() + len - data.len(), 0);
        }
        let at = self.0.len() as u64;
        self.0.extend([1, 0]);
        self.0.extend((messages.len() as u16).to_le_bytes());
        self.0.extend(1u32.to_le_bytes());
        self.0.extend((body.len() as u32).to_le_bytes());
        self.0.extend([0; 4]);
        self.0.extend(body);
        at
    }

    /// Adds a dataset of f32 without stored data, so all values are zero. Returns its address.
    pub fn dataset(&mut self, dims: &[usize]) -> u64 {
        let layout = [&[3, 1][..], &NOWHERE.to_le_bytes(), &0u64.to_le_bytes()].concat();
        let fill = [&[2, 2, 0, 1][..], &0u32.to_le_bytes()].concat();
        self.object(&[(1, dataspace(dims)), (3, FLOAT.to_vec()), (5, fill), (8, layout)])
    }

    /// Adds a group with these members and with attributes that are lists of strings. Returns its address.
    pub fn group(&mut self, members: &[(String, u64)], attributes: &[(&str, Vec<String>)]) -> u64 {
        let mut messages = vec![(2, [&[0, 0][..], &NOWHERE.to_le_bytes(), &NOWHERE.to_le_bytes()].concat())];
        for (name, at) in members {
            messages.push((6, [&[1, 0, name.len() as u8][..], name.as_bytes(), &at.to_le_bytes()].concat()));
        }
        for (name, strings) in attributes {
            messages.push((12, strings_attribute(name, strings)));
        }
        self.object(&messages)
    }

    pub fn finish(mut self, root: u64) -> Vec<u8> {
        let end = self.0.len() as u64;
        let mut head = b"\x89HDF\r\n\x1a\n".to_vec();
        head.extend([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0]);
        [0, NOWHERE, end, NOWHERE, 0, root, 0, 0, 0].iter().for_each(|v: &u64| head.extend(v.to_le_bytes()));
        self.0[..96].copy_from_slice(&head);
        self.0
    }
}

/// The data type of 4-byte IEEE floats, little-endian.
const FLOAT: [u8; 20] = [0x11, 0x20, 0x1f, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0];

fn dataspace(dims: &[usize]) -> Vec<u8> {
    let mut data = vec![1, dims.len() as u8, 0, 0, 0, 0, 0, 0];
    dims.iter().for_each(|&d| data.extend((d as u64).to_le_bytes()));
    data
}

fn strings_attribute(name: &str, strings: &[String]) -> Vec<u8> {
    let len = strings.iter().map(String::len).max().unwrap_or(0) + 1;
    let padded = |data: &[u8], to: usize| {
        let mut data = data.to_vec();
        data.resize(to, 0);
        data
    };
    let space = dataspace(&[strings.len()]);
    let mut data = vec![1, 0];
    [name.len() + 1, 8, space.len()].iter().for_each(|&n| data.extend((n as u16).to_le_bytes()));
    data.extend(padded(name.as_bytes(), (name.len() + 1).next_multiple_of(8)));
    data.extend([0x13, 0, 0, 0]);
    data.extend((len as u32).to_le_bytes());
    data.extend(space);
    strings.iter().for_each(|s| data.extend(padded(s.as_bytes(), len)));
    data
}

/// Dimensions OIHW as HWIO, and (out, in) as (in, out).
fn keras_dims(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [o, i, h, w] => vec![h, w, i, o],
        _ => dims.iter().rev().copied().collect(),
    }
}

/// The Keras network as Keras 3 writes it, with our own paths.
pub fn keras() -> Vec<u8> {
    let mut file = Hdf5::default();
    let (mut root, mut module) = (Vec::new(), Vec::new());
    let mut open = String::new();
    let mut close = |file: &mut Hdf5, open: &str, module: &mut Vec<(String, u64)>| {
        let at = file.group(&std::mem::take(module), &[]);
        root.push((open.to_owned(), at));
    };
    for (name, dims) in layers(&network(Variant::KerasV2)) {
        let (group, layer) = name.split_once('/').unwrap();
        if group != open && !open.is_empty() {
            close(&mut file, &open, &mut module);
        }
        open = group.to_owned();
        let members = [("0".to_owned(), file.dataset(&keras_dims(&dims))), ("1".into(), file.dataset(&dims[..1]))];
        let vars = file.group(&members, &[]);
        module.push((layer.to_owned(), file.group(&[("vars".into(), vars)], &[])));
    }
    close(&mut file, &open, &mut module);
    let layers = file.group(&root, &[]);
    let root = file.group(&[("layers".into(), layers)], &[]);
    file.finish(root)
}

/// The Keras network as TensorFlow 2 wrote it: layers by name, with their variables.
pub fn tf_keras() -> Vec<u8> {
    let mut file = Hdf5::default();
    let (mut members, mut names) = (Vec::new(), Vec::new());
    let all = layers(&network(Variant::KerasV2));
    for module in all.chunk_by(|a, b| a.0.split('/').next() == b.0.split('/').next()) {
        let name = module[0].0.split('/').next().unwrap().to_owned();
        let (mut inside, mut weights) = (Vec::new(), Vec::new());
        for (path, dims) in module {
            let layer = path.split_once('/').unwrap().1;
            let variables =
                [("kernel:0".to_owned(), file.dataset(&keras_dims(dims))), ("bias:0".into(), file.dataset(&dims[..1]))];
            weights.extend(variables.iter().map(|(variable, _)| format!("{layer}/{variable}")));
            inside.push((layer.to_owned(), file.group(&variables, &[])));
        }
        members.push((name.clone(), file.group(&inside, &[("weight_names", weights)])));
        names.push(name);
    }
    let root = file.group(&members, &[("layer_names", names)]);
    file.finish(root)
}

/// A safetensors file of this header and these values.
pub fn together(header: &str, values: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), values].concat()
}

/// A safetensors file with a tensor of each type.
pub fn small() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"variant": "keras"},
        "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "b": {"dtype": "F16", "shape": [4], "data_offsets": [16, 24]},
        "c": {"dtype": "I8", "shape": [2, 4], "data_offsets": [24, 32]},
        "c_scale": {"dtype": "F32", "shape": [2], "data_offsets": [32, 40]},
    });
    let values: Vec<u8> = [1.0f32, -2.0, 3.0, 4.5].iter().flat_map(|v| v.to_le_bytes()).collect();
    together(
        &header.to_string(),
        &[&values, &[0, 60, 0, 60, 0, 60, 0, 60, 1, 2, 3, 4, 5, 6, 7, 8][..], &values[..8]].concat(),
    )
}

/// A zip archive with one stored file.
pub fn zip(name: &str, data: &[u8]) -> Vec<u8> {
    let crc = crc32(data);
    let mut common = [20u16, 0, 0, 0, 0].map(u16::to_le_bytes).concat();
    [crc, data.len() as u32, data.len() as u32].iter().for_each(|v| common.extend(v.to_le_bytes()));
    common.extend((name.len() as u32).to_le_bytes());
    let mut file = [b"PK\x03\x04", &common[..], name.as_bytes(), data].concat();
    let directory = file.len() as u32;
    file.extend([b"PK\x01\x02\x14\0", &common[..], &[0; 14], name.as_bytes()].concat());
    let len = file.len() as u32 - directory;
    file.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
    file.extend([len.to_le_bytes(), directory.to_le_bytes()].concat());
    file.extend([0; 2]);
    file
}

/// The checksum of zip archives (CRC-32), computed bit by bit.
pub fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}
