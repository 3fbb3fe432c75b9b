//! One function for each parser, and one for plans. Each accepts any bytes. A panic, a hang or excessive memory use is
//! a bug.
//!
//! The crate's tests also run these functions on the corpus, without libFuzzer.

use googlenet::graph::googlenet::{Spec, Variant};
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::Shape;
use googlenet::model::Model;
use googlenet::model::import::{Options, import, recognises};
use googlenet::model::preprocess::{Crop, Image, Order, Preprocess};
use googlenet::model::weights::Weights;
use googlenet::plan::{ConcatMode, Plan};
use googlenet::train::checkpoint::{Checkpoint, Part, write_to};
use std::io::Cursor;

pub type Target = fn(&[u8]);

pub const ALL: [(&str, Target); 8] = [
    ("safetensors", safetensors),
    ("checkpoint", checkpoint),
    ("caffe", caffe),
    ("onnx", onnx),
    ("hdf5", hdf5),
    ("archive", archive),
    ("picture", picture),
    ("plan", plan),
];

/// Parses a safetensors file. If it is valid, it is written in every element type and parsed again. The bytes are also
/// parsed as a model.
pub fn safetensors(data: &[u8]) {
    if let Ok(weights) = Weights::parse(data.to_vec()) {
        let mut finite = true;
        for name in weights.names() {
            let (dims, values) = weights.get(name).expect("it has the name");
            assert_eq!(dims.iter().product::<usize>(), values.len(), "{name}");
            let checked = weights.check(name, dims);
            assert_eq!(checked.is_ok(), values.iter().all(|v| v.is_finite()), "{name}: {checked:?}");
            finite &= checked.is_ok();
        }
        // Quantizing adds tensors of scales, so it cannot work where a tensor has the name of another one's scales.
        let names_clash = weights.names().any(|name| weights.dims(&format!("{name}_scale")).is_some());
        if finite && !names_clash {
            for (weights, half) in [(weights.clone(), false), (weights.quantized().expect("finite"), true)] {
                let written = weights.to_bytes(weights.metadata(), half).expect("it was read");
                let again = Weights::parse(written).expect("it was written");
                assert!(again.names().eq(weights.names()));
            }
        }
    }
    let _ = Model::from_bytes(data.to_vec());
}

/// Reads a checkpoint of a training. If it is valid, it is written and read again, which must change nothing.
pub fn checkpoint(data: &[u8]) {
    let written = |bytes: Vec<u8>| {
        let read = Checkpoint::parse(bytes)?;
        let mut tensors = Vec::new();
        for name in read.names() {
            let dims = read.dims(name).expect("it has the name");
            let mut values = vec![0.0; dims.iter().product()];
            read.load(name, dims, &mut values)?;
            tensors.push((name, dims, values));
        }
        let parts: Vec<Part> = tensors.iter().map(|(name, dims, values)| (*name, *dims, &values[..])).collect();
        let mut file = Vec::new();
        write_to(&mut file, &read.state, &parts).map(|()| file)
    };
    if let Ok(file) = written(data.to_vec()) {
        assert_eq!(written(file.clone()), Ok(file));
    }
}

fn imports(data: &[u8]) {
    let known = recognises(data);
    let options = Options { mean: Some([0.0; 3]), ..Options::default() };
    if let Err(error) = import(data, &options) {
        assert!(!error.to_string().is_empty());
    } else {
        assert!(known);
    }
}

pub fn caffe(data: &[u8]) {
    imports(data);
}

pub fn onnx(data: &[u8]) {
    imports(data);
}

/// Imports the bytes after HDF5's signature.
pub fn hdf5(data: &[u8]) {
    imports(&with_signature(b"\x89HDF\r\n\x1a\n", data));
}

/// Imports the bytes after the signature of a zip archive.
pub fn archive(data: &[u8]) {
    imports(&with_signature(b"PK\x03\x04", data));
}

/// The data with this signature before it, unless it begins with it already.
fn with_signature(signature: &[u8], data: &[u8]) -> Vec<u8> {
    [signature, data.strip_prefix(signature).unwrap_or(data)].concat()
}

/// Decodes a picture file, and preprocesses it with options that are taken from its last bytes.
pub fn picture(data: &[u8]) {
    let reader = image::ImageReader::new(Cursor::new(data)).with_guessed_format();
    let Some((width, height)) = reader.ok().and_then(|reader| reader.into_dimensions().ok()) else {
        assert!(Image::decode(data).is_err());
        return;
    };
    // Large pictures take long, and find no bugs that small ones do not find.
    if u64::from(width) * u64::from(height) > 1 << 18 {
        return;
    }
    let Ok(image) = Image::decode(data) else { return };
    let mut tail = Bytes(&data[data.len().saturating_sub(16)..]);
    let preprocess = Preprocess {
        size: tail.below(96) + 1,
        order: [Order::Rgb, Order::Bgr][tail.below(2)],
        scale: 1.0 / 255.0,
        mean: [0.25, 0.5, 0.75],
        std: [0.5, 1.0, 2.0],
        through: (tail.below(2) == 1).then(|| tail.below(96) + 1),
    };
    let crop = [Crop::Center, Crop::Squash, Crop::Fit][tail.below(3)];
    let tensor = preprocess.tensor(&[&image], crop);
    assert!(tensor.data.iter().all(|v| (-2.0..=2.0).contains(v)));
}

/// Builds a network that the bytes describe, and plans it. Checks that every step reads only outputs that were written
/// before it, and that every place is inside its buffer.
pub fn plan(data: &[u8]) {
    let mut bytes = Bytes(data);
    let network = if bytes.below(4) == 0 { googlenet(&mut bytes) } else { Some(any(&mut bytes)) };
    let Some(network) = network else { return };
    let (batch, concat) = (bytes.below(5), [ConcatMode::InPlace, ConcatMode::WithGains][bytes.below(2)]);
    let Ok(plan) = Plan::new(&network, batch, concat) else {
        assert_eq!(batch, 0);
        return;
    };
    assert_eq!(plan.places.len(), network.nodes().len());
    let mut written = vec![false; network.nodes().len()];
    for (id, place) in plan.places.iter().enumerate() {
        let buffer = plan.buffers[place.buffer];
        assert_eq!(place.shape, network.node(id).shape.with_batch(batch));
        assert!(place.offset + place.shape.c <= place.stride && place.stride == buffer.c);
        written[id] = matches!(network.node(id).op, Op::Input(_));
    }
    for step in &plan.steps {
        for &input in &network.node(step.node).inputs {
            // A concatenation without a step is written by its branches.
            let in_place = network.node(input).op == Op::Concat && plan.steps.iter().all(|s| s.node != input);
            assert!(written[input] || in_place);
        }
        written[step.node] = true;
    }
    let mut all: Vec<usize> = plan.fused(&network).into_iter().flatten().collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..plan.steps.len()));
    // The number of weights is not limited when a network is built, so the totals could overflow.
    if network.nodes().iter().all(|node| node.shape.len() < 1 << 20) {
        let _ = network.total_macs() + network.total_params() as u64;
    }
}

fn googlenet(bytes: &mut Bytes) -> Option<Network> {
    let variant = Variant::ALL[bytes.below(4)];
    let spec = Spec { variant, classes: bytes.long(), heads: bytes.below(2) == 1, size: bytes.long() % 600 };
    spec.build().ok()
}

/// A network of arbitrary operations. Nodes that cannot be added are left out.
fn any(bytes: &mut Bytes) -> Network {
    let mut network = Network::new();
    while !bytes.0.is_empty() && network.nodes().len() < 40 {
        let name = format!("node{}", bytes.below(64));
        let window = Window {
            kernel: [bytes.below(8), bytes.below(8)],
            stride: [bytes.below(4), bytes.below(4)],
            padding: match bytes.below(3) {
                0 => Padding::Same,
                1 => Padding::Valid,
                _ => Padding::Explicit {
                    top: bytes.below(8),
                    left: bytes.below(8),
                    bottom: bytes.below(8),
                    right: bytes.below(8),
                    ceil: bytes.below(2) == 1,
                },
            },
        };
        let op = match bytes.below(9) {
            0 => Op::Input(Shape::new(bytes.below(3), bytes.long(), bytes.long(), bytes.long())),
            1 => Op::Conv { window, out: bytes.long(), activation: Activation::Relu },
            2 => Op::MaxPool(window),
            3 => Op::AvgPool { window, count_padding: bytes.below(2) == 1 },
            4 => Op::AdaptiveAvgPool { out: [bytes.below(5), bytes.below(5)] },
            5 => Op::Lrn { size: bytes.below(8), alpha: 1e-4, beta: 0.75, k: 1.0 },
            6 => Op::Concat,
            7 => Op::Dense { out: bytes.long(), activation: Activation::None },
            _ => Op::Softmax,
        };
        let inputs: Vec<NodeId> = (0..bytes.below(5)).map(|_| bytes.below(network.nodes().len() + 1)).collect();
        let _ = network.add(&name, op, &inputs);
    }
    network
}

/// Reads numbers from bytes. After the last byte, it returns zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first.into()
    }

    fn below(&mut self, n: usize) -> usize {
        self.byte() % n
    }

    /// A number that is mostly small, and sometimes up to the largest.
    fn long(&mut self) -> usize {
        match self.byte() {
            small @ 0..=199 => small,
            exponent => (1usize << (exponent - 200).min(63)) + self.byte(),
        }
    }
}
