//! ONNX: the graph's nodes are matched with the layers of this crate's network, from the classifiers back to the input.
//!
//! Names are ignored. Each node must compute exactly what its layer computes, including padding, so that a converted
//! file computes the same as its graph. Where they differ, the error names the layer and the node.

mod affine;
mod dense;
mod graph;
mod overlay;

use super::layers::{Flatten, collect};
use super::source::Source;
use crate::error::{Error, Result};
use crate::graph::googlenet::{Spec, Variant};
use crate::model::preprocess::{Order, Preprocess};
use affine::{affine, plain};
use dense::Dense;
pub(super) use graph::recognises;
use graph::{FLATTENING, Graph, Node};
use overlay::Overlay;

/// torchvision's preprocessing: ImageNet's mean and standard deviation.
const IMAGENET: Preprocess = Preprocess {
    size: 224,
    order: Order::Rgb,
    scale: 1.0 / 255.0,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    through: None,
};

pub(super) fn read(bytes: &[u8]) -> Result<Source> {
    let graph = Graph::parse(bytes)?;
    let [(input, dims)] = &graph.inputs[..] else {
        return Err(Error::Import(format!("its graph has {} inputs; GoogLeNet has one", graph.inputs.len())));
    };
    let size = match dims[..] {
        [_, _, Some(h), Some(w)] if h == w && (1..=4096).contains(&h) => h,
        [_, _, Some(h), Some(w)] => {
            return Err(Error::Import(format!("its input is {h}x{w}, not a square of 1 to 4096 (NCHW)")));
        }
        _ => 224,
    };
    let variant = variant(&graph)?;
    let mut ends = Ends::default();
    for &output in &graph.outputs {
        ends.add(&graph, output)?;
    }
    let Some((last, classes)) = ends.last else {
        return Err(Error::Import("none of its graph's outputs is GoogLeNet's classifier".into()));
    };
    let spec = Spec { variant, classes, heads: ends.first.is_some() || ends.second.is_some(), size };
    let network = spec.build()?;
    let mut overlay = Overlay::new(&graph, &network);
    for (head, end) in [("loss1", ends.first), ("loss2", ends.second), ("loss3", Some(last))] {
        let Some(node) = network.heads().iter().find(|h| h.name == head).map(|h| h.logits) else { continue };
        let end =
            end.ok_or_else(|| Error::Import(format!("its graph has one auxiliary head, and {head} is missing")))?;
        overlay.set(node, end)?;
    }
    let first_layer = overlay.run()?;
    let affine =
        affine(&graph, first_layer, input, &mut 100).and_then(|channels| plain(&channels)).ok_or_else(|| {
            Error::Shape {
                layer: "data".into(),
                reason: format!(
                    "before the first convolution, the graph does more with its input than to apply one factor and \
                     one offset for each channel (the last node there: {})",
                    graph.producer(first_layer).map_or("none".into(), Node::label)
                ),
            }
        })?;
    let mut found = overlay.found;
    let tensors = collect(&network, Flatten::Chw, |name, dims| {
        found.remove(name).ok_or_else(|| Error::MissingTensor { name: name.to_owned(), expected: dims.into() })
    })?;
    let changed = affine != [(1.0, 0.0); 3];
    let (preprocess, assumed) = match variant {
        Variant::Caffe => (
            Some(Preprocess { size, ..Preprocess::BVLC }),
            Some(
                "an .onnx file does not describe its preprocessing; BVLC's is assumed: \
                 BGR 0..255 minus (104, 117, 123)",
            ),
        ),
        Variant::Torchvision => (
            Some(Preprocess { size, ..IMAGENET }),
            Some(
                "an .onnx file does not describe its preprocessing; torchvision's is assumed: RGB/255, \
                 mean 0.485,0.456,0.406, std 0.229,0.224,0.225",
            ),
        ),
        Variant::Keras | Variant::KerasV2 => (None, None),
    };
    Ok(Source {
        certain: true,
        size,
        preprocess,
        assumed,
        affine: changed.then_some(affine),
        ..Source::new("ONNX graph", variant, tensors)
    })
}

/// Infers the variant from the operations and kernel sizes in which the variants differ. Whether the graph really is of
/// that variant is checked later, when all nodes are matched.
fn variant(graph: &Graph) -> Result<Variant> {
    let kernels: Vec<&[usize]> = graph
        .nodes
        .iter()
        .filter(|node| node.op == "Conv")
        .filter_map(|node| Some(graph.constant(node.inputs.get(1)?)?.dims.as_slice()))
        .collect();
    if kernels.is_empty() {
        return Err(Error::Import("its graph has no convolution with stored weights".into()));
    }
    let has_kernel = |size: [usize; 2]| kernels.iter().any(|dims| dims.ends_with(&size));
    Ok(if graph.nodes.iter().any(|node| node.op == "LRN") {
        Variant::Caffe
    } else if !has_kernel([5, 5]) {
        Variant::Torchvision
    } else if kernels.contains(&&[64, 64, 1, 1][..]) {
        Variant::KerasV2
    } else {
        Variant::Keras
    })
}

/// The values with the classifiers' logits.
#[derive(Default)]
struct Ends<'a> {
    /// The first auxiliary head.
    first: Option<&'a str>,
    /// The second auxiliary head.
    second: Option<&'a str>,
    /// The main classifier, with the number of classes.
    last: Option<(&'a str, usize)>,
}

impl<'a> Ends<'a> {
    /// Adds an output of the graph, which has the logits or probabilities of one of the heads. An auxiliary head has
    /// two dense layers, and a convolution of 512 channels (the first head) or 528 channels (the second). Fails with
    /// [`Error::Import`] where the output is of no head.
    fn add(&mut self, graph: &Graph<'a>, output: &'a str) -> Result<()> {
        let scores = graph.through(output, &["Softmax", "Identity"]);
        let unknown =
            || Error::Import(format!("its graph's output \"{output}\" is not one of GoogLeNet's classifiers"));
        let dense = Dense::at(graph, scores).ok_or_else(unknown)?;
        let before = graph.through(dense.input, &FLATTENING);
        if graph.producer(before).is_none_or(|node| node.op != "Relu") {
            self.last = Some((scores, dense.out()?));
            return Ok(());
        }
        let conv = Dense::at(graph, graph.through(before, &["Relu"])).and_then(|fc| {
            let map = graph.through(graph.through(fc.input, &FLATTENING), &["Relu", "BatchNormalization"]);
            graph.producer(map)?.inputs.get(1).and_then(|weight| graph.constant(weight))
        });
        match conv.map(|weight| weight.dims.get(1).copied()) {
            Some(Some(512)) => self.first = Some(scores),
            Some(Some(528)) => self.second = Some(scores),
            _ => return Err(unknown()),
        }
        Ok(())
    }
}
