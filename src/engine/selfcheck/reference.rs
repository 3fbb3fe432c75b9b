//! Computes a network with plain loops over NHWC tensors, one operation after the other. The WebAssembly module for the
//! GPU, which does not contain the CPU engine, computes the expected values of the self-check with it.

use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Activation, Geometry, Op};
use crate::graph::tensor::{Shape, Tensor};
use crate::model::{Model, tensor_names};

/// The output of the last node of `network` for `input`, with the weights that `model` has under the nodes' names.
/// Fails with [`Error::Shape`] where an operation does not occur up to the first inception module of a GoogLeNet.
pub fn last(network: &Network, model: &Model, input: &Tensor) -> Result<Tensor> {
    let mut outputs: Vec<Tensor> = Vec::with_capacity(network.nodes().len());
    for (id, node) in network.nodes().iter().enumerate() {
        let fail = |reason: String| Error::Shape { layer: node.name.clone(), reason };
        let geometry = |window: &crate::graph::op::Window| {
            let Shape { h, w, .. } = network.input_shape(id);
            window.on([h, w]).map_err(fail)
        };
        let read = |at: usize| -> &Tensor { &outputs[node.inputs[at]] };
        let data = match &node.op {
            Op::Input(_) => input.data.clone(),
            Op::Conv { window, activation, .. } => {
                let [weight, bias] = tensor_names(&node.name).map(|name| model.weights.get(&name));
                conv(&geometry(window)?, read(0), &by_tap(network, id, &weight?.1), &bias?.1, *activation)
            }
            Op::MaxPool(window) => max_pool(&geometry(window)?, read(0)),
            // Every GoogLeNet has this exponent. It needs no general power function, which saves 1 KB of every
            // download.
            Op::Lrn { size, alpha, beta: 0.75, k } => lrn(read(0), *size, alpha / *size as f32, *k),
            Op::Concat => concat(node.inputs.iter().map(|&input| &outputs[input]).collect()),
            _ => return Err(fail(format!("the self-check does not support {}", node.op.kind()))),
        };
        outputs.push(Tensor::new(node.shape, data)?);
    }
    outputs.pop().ok_or_else(|| Error::Argument("the network has no nodes".into()))
}

/// Reorders weights (out, in, kh, kw) into (kh, kw, in, out), so that the innermost loop reads contiguous memory.
fn by_tap(network: &Network, id: NodeId, weight: &[f32]) -> Vec<f32> {
    let (out, channels) = (network.node(id).shape.c, network.input_shape(id).c);
    let taps = weight.len() / (out * channels);
    let mut sorted = vec![0.0; weight.len()];
    for (i, &value) in weight.iter().enumerate() {
        let (o, c, tap) = (i / (channels * taps), i / taps % channels, i % taps);
        sorted[(tap * channels + c) * out + o] = value;
    }
    sorted
}

/// The input pixels that the window of an output pixel covers, each as (index in the window, index of its first channel
/// in the input).
fn covered(g: &Geometry, input: Shape, y: usize, x: usize) -> impl Iterator<Item = (usize, usize)> {
    let Geometry { kernel, stride, pad, .. } = *g;
    (0..kernel[0] * kernel[1]).filter_map(move |tap| {
        let row = (y * stride[0] + tap / kernel[1]).checked_sub(pad[0]).filter(|&row| row < input.h)?;
        let column = (x * stride[1] + tap % kernel[1]).checked_sub(pad[1]).filter(|&column| column < input.w)?;
        Some((tap, (row * input.w + column) * input.c))
    })
}

fn conv(g: &Geometry, input: &Tensor, weight: &[f32], bias: &[f32], activation: Activation) -> Vec<f32> {
    let (channels, out) = (input.shape.c, bias.len());
    let mut output = Vec::with_capacity(g.out[0] * g.out[1] * out);
    for pixel in 0..g.out[0] * g.out[1] {
        let mut sums = bias.to_vec();
        for (tap, at) in covered(g, input.shape, pixel / g.out[1], pixel % g.out[1]) {
            let rows = weight[tap * channels * out..].chunks_exact(out);
            for (value, row) in input.data[at..at + channels].iter().zip(rows) {
                sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += value * weight);
            }
        }
        output.extend(sums.iter().map(|&sum| match activation {
            Activation::None => sum,
            Activation::Relu => sum.max(0.0),
        }));
    }
    output
}

fn max_pool(g: &Geometry, input: &Tensor) -> Vec<f32> {
    let channels = input.shape.c;
    let mut output = Vec::with_capacity(g.out[0] * g.out[1] * channels);
    for pixel in 0..g.out[0] * g.out[1] {
        let mut most = vec![f32::NEG_INFINITY; channels];
        for (_, at) in covered(g, input.shape, pixel / g.out[1], pixel % g.out[1]) {
            most.iter_mut().zip(&input.data[at..]).for_each(|(most, &value)| *most = most.max(value));
        }
        output.extend(most);
    }
    output
}

fn lrn(input: &Tensor, size: usize, scale: f32, k: f32) -> Vec<f32> {
    let (before, after) = (size.saturating_sub(1) / 2, size / 2);
    let pixel = |pixel: &[f32]| -> Vec<f32> {
        let normalised = |(c, value): (usize, &f32)| {
            let window = &pixel[c.saturating_sub(before)..(c + after + 1).min(pixel.len())];
            let squares: f32 = window.iter().map(|value| value * value).sum();
            let root = (k + scale * squares).sqrt();
            value / (root * root.sqrt())
        };
        pixel.iter().enumerate().map(normalised).collect()
    };
    input.data.chunks_exact(input.shape.c).flat_map(pixel).collect()
}

fn concat(branches: Vec<&Tensor>) -> Vec<f32> {
    let pixels = branches.first().map_or(0, |branch| branch.shape.h * branch.shape.w);
    let pixel = |at: usize| branches.iter().flat_map(move |b| &b.data[at * b.shape.c..(at + 1) * b.shape.c]).copied();
    (0..pixels).flat_map(pixel).collect()
}
