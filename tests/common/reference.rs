//! Every operation in f64 and plain loops, written from the definitions and independently of the engine, including
//! padding and output sizes.

use super::Named;
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::{Shape, Tensor};
use std::collections::BTreeMap;
use std::ops::Range;

/// An NHWC tensor in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Values {
    pub fn zeros(shape: Shape) -> Self {
        Values { shape, data: vec![0.0; shape.len()] }
    }

    pub fn from_fn(shape: Shape, mut value: impl FnMut([usize; 4]) -> f64) -> Self {
        let mut data = Vec::with_capacity(shape.len());
        for n in 0..shape.n {
            for y in 0..shape.h {
                for x in 0..shape.w {
                    for c in 0..shape.c {
                        data.push(value([n, y, x, c]));
                    }
                }
            }
        }
        Values { shape, data }
    }

    pub fn at(&self, n: usize, y: usize, x: usize, c: usize) -> f64 {
        self.data[self.index(n, y, x, c)]
    }

    pub fn add(&mut self, [n, y, x, c]: [usize; 4], value: f64) {
        let i = self.index(n, y, x, c);
        self.data[i] += value;
    }

    fn index(&self, n: usize, y: usize, x: usize, c: usize) -> usize {
        let s = self.shape;
        ((n * s.h + y) * s.w + x) * s.c + c
    }
}

impl From<&Tensor> for Values {
    fn from(t: &Tensor) -> Self {
        Values { shape: t.shape, data: t.data.iter().map(|&v| v as f64).collect() }
    }
}

/// Weights and biases in f64, by the names of a model file.
pub type ExactWeights = BTreeMap<String, Vec<f64>>;

pub fn exact(weights: &[Named]) -> ExactWeights {
    let exact = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect();
    weights.iter().map(|(name, _, values)| (name.clone(), exact(values))).collect()
}

/// For nodes with dropout, which values are kept. A node that is not here keeps all, as dropout does outside of
/// training.
pub type Masks = BTreeMap<NodeId, Vec<bool>>;

/// The output of every node except the inputs.
pub fn evaluate(
    network: &Network,
    weights: &[Named],
    inputs: &[Tensor],
    gains: &[(String, f32)],
) -> Vec<(String, Values)> {
    let inputs: Vec<Values> = inputs.iter().map(Values::from).collect();
    let values = forward(network, &exact(weights), &inputs, &gains_of(network, gains), &Masks::new());
    let nodes = network.nodes().iter().zip(values);
    nodes.filter(|(node, _)| !matches!(node.op, Op::Input(_))).map(|(node, v)| (node.name.clone(), v)).collect()
}

/// The gain of each node.
pub fn gains_of(network: &Network, gains: &[(String, f32)]) -> Vec<f64> {
    let gain = |name: &str| gains.iter().find(|gain| gain.0 == name).map_or(1.0, |gain| f64::from(gain.1));
    network.nodes().iter().map(|node| gain(&node.name)).collect()
}

/// The output of every node, the inputs included.
pub fn forward(
    network: &Network,
    weights: &ExactWeights,
    inputs: &[Values],
    gains: &[f64],
    masks: &Masks,
) -> Vec<Values> {
    let mut inputs = inputs.iter();
    let mut values: Vec<Values> = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let read: Vec<&Values> = node.inputs.iter().map(|&i| &values[i]).collect();
        let [weight, bias] = layer(weights, &node.name);
        let out = match &node.op {
            Op::Input(_) => inputs.next().expect("one tensor an input").clone(),
            Op::Conv { window, out, activation } => conv(read[0], window, *out, *activation, weight, bias),
            Op::MaxPool(window) => max_pool(read[0], window),
            Op::AvgPool { window, count_padding } => average_pool(read[0], window, *count_padding),
            Op::AdaptiveAvgPool { out } => adaptive_average_pool(read[0], *out),
            Op::Lrn { size, alpha, beta, k } => lrn(read[0], *size, [*alpha, *beta, *k].map(f64::from)),
            Op::Concat => concat(&read, &node.inputs.iter().map(|&i| gains[i]).collect::<Vec<_>>()),
            Op::Dense { out, activation } => dense(read[0], *out, *activation, weight, bias),
            Op::Softmax => softmax(read[0]),
            Op::Dropout { ratio } => dropout(read[0], masks.get(&id).map(Vec::as_slice), f64::from(*ratio)),
        };
        values.push(out);
    }
    values
}

/// The weights and the biases of a node; empty where it has none.
pub fn layer<'a>(weights: &'a ExactWeights, node: &str) -> [&'a [f64]; 2] {
    ["weight", "bias"].map(|kind| weights.get(&format!("{node}.{kind}")).map_or(&[][..], Vec::as_slice))
}

/// The start of each window along an axis, and the end of the padding after the input.
pub fn starts(window: &Window, axis: usize, size: usize) -> (Vec<i64>, i64) {
    let (size, kernel, stride) = (size as i64, window.kernel[axis] as i64, window.stride[axis] as i64);
    let (before, after, ceil) = match window.padding {
        Padding::Valid => (0, 0, false),
        Padding::Same => {
            let outputs = (size as f64 / stride as f64).ceil() as i64;
            let total = ((outputs - 1) * stride + kernel - size).max(0);
            (total / 2, total - total / 2, false)
        }
        Padding::Explicit { top, left, bottom, right, ceil } => {
            let [before, after] = [[top, bottom], [left, right]][axis];
            (before as i64, after as i64, ceil)
        }
    };
    let mut starts = Vec::new();
    let mut start = -before;
    while start + kernel <= size + after {
        starts.push(start);
        start += stride;
    }
    let reached = starts.last().expect("the window fits") + kernel;
    if ceil && reached < size + after && start < size {
        starts.push(start);
    }
    (starts, size + after)
}

/// Computes each output cell with `value`, from the positions (row, column) in its window, in the order of rows, then
/// columns. These may be outside the input. The last argument is the end of the padding on each axis.
fn slide(
    x: &Values,
    window: &Window,
    channels: usize,
    value: impl Fn(usize, usize, &[(i64, i64)], [i64; 2]) -> f64,
) -> Values {
    let ((ys, bottom), (xs, right)) = (starts(window, 0, x.shape.h), starts(window, 1, x.shape.w));
    let shape = Shape::new(x.shape.n, ys.len(), xs.len(), channels);
    Values::from_fn(shape, |[n, oy, ox, c]| value(n, c, &places(window, ys[oy], xs[ox]), [bottom, right]))
}

/// The positions in a window that starts at this row and column.
pub fn places(window: &Window, y: i64, x: i64) -> Vec<(i64, i64)> {
    let mut places = Vec::new();
    for ky in 0..window.kernel[0] as i64 {
        for kx in 0..window.kernel[1] as i64 {
            places.push((y + ky, x + kx));
        }
    }
    places
}

pub fn is_inside(x: &Values, (y, column): (i64, i64)) -> bool {
    (0..x.shape.h as i64).contains(&y) && (0..x.shape.w as i64).contains(&column)
}

fn activate(v: f64, activation: Activation) -> f64 {
    match activation {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
    }
}

pub fn conv(x: &Values, window: &Window, out: usize, activation: Activation, weight: &[f64], bias: &[f64]) -> Values {
    let (inputs, area) = (x.shape.c, window.kernel[0] * window.kernel[1]);
    slide(x, window, out, |n, o, places, _| {
        let mut sum = bias[o];
        for (tap, &(y, column)) in places.iter().enumerate() {
            if is_inside(x, (y, column)) {
                for i in 0..inputs {
                    sum += weight[(o * inputs + i) * area + tap] * x.at(n, y as usize, column as usize, i);
                }
            }
        }
        activate(sum, activation)
    })
}

pub fn max_pool(x: &Values, window: &Window) -> Values {
    slide(x, window, x.shape.c, |n, c, places, _| {
        let inside = places.iter().filter(|&&p| is_inside(x, p));
        inside.map(|&(y, column)| x.at(n, y as usize, column as usize, c)).fold(f64::NEG_INFINITY, f64::max)
    })
}

fn average_pool(x: &Values, window: &Window, count_padding: bool) -> Values {
    slide(x, window, x.shape.c, |n, c, places, [bottom, right]| {
        let inside = places.iter().filter(|&&p| is_inside(x, p));
        let counted = counted(x, places, count_padding, [bottom, right]);
        inside.map(|&(y, column)| x.at(n, y as usize, column as usize, c)).sum::<f64>() / counted as f64
    })
}

/// The number by which an average pool divides the sum of a window.
pub fn counted(x: &Values, places: &[(i64, i64)], count_padding: bool, [bottom, right]: [i64; 2]) -> usize {
    if count_padding {
        places.iter().filter(|p| p.0 < bottom && p.1 < right).count()
    } else {
        places.iter().filter(|&&p| is_inside(x, p)).count()
    }
}

fn adaptive_average_pool(x: &Values, [h, w]: [usize; 2]) -> Values {
    Values::from_fn(Shape { h, w, ..x.shape }, |[n, oy, ox, c]| {
        let (ys, xs) = (region(oy, x.shape.h, h), region(ox, x.shape.w, w));
        let count = ys.len() * xs.len();
        let cells = ys.flat_map(|y| xs.clone().map(move |column| (y, column)));
        cells.map(|(y, column)| x.at(n, y, column, c)).sum::<f64>() / count as f64
    })
}

/// The inputs along an axis that an output of an adaptive average pool covers.
pub fn region(i: usize, size: usize, out: usize) -> Range<usize> {
    let step = size as f64 / out as f64;
    (i as f64 * step + 1e-9).floor() as usize..((i + 1) as f64 * step - 1e-9).ceil() as usize
}

fn lrn(x: &Values, size: usize, [alpha, beta, k]: [f64; 3]) -> Values {
    Values::from_fn(x.shape, |[n, y, column, c]| {
        let sum: f64 = neighbours(x, size, c).map(|i| x.at(n, y, column, i).powi(2)).sum();
        x.at(n, y, column, c) / (k + alpha / size as f64 * sum).powf(beta)
    })
}

/// The channels whose squares normalise a channel. A window of even size has one more channel above than below.
pub fn neighbours(x: &Values, size: usize, c: usize) -> impl Iterator<Item = usize> + use<> {
    let (first, channels) = (c as i64 - (size as i64 - 1) / 2, x.shape.c as i64);
    (first..first + size as i64).filter(move |i| (0..channels).contains(i)).map(|i| i as usize)
}

fn concat(branches: &[&Values], gains: &[f64]) -> Values {
    let c = branches.iter().map(|b| b.shape.c).sum();
    Values::from_fn(Shape { c, ..branches[0].shape }, |[n, y, x, mut c]| {
        for (branch, gain) in branches.iter().zip(gains) {
            if c < branch.shape.c {
                return gain * branch.at(n, y, x, c);
            }
            c -= branch.shape.c;
        }
        unreachable!("the channel belongs to a branch")
    })
}

pub fn dense(x: &Values, out: usize, activation: Activation, weight: &[f64], bias: &[f64]) -> Values {
    let inputs = x.shape.per_image();
    Values::from_fn(Shape::new(x.shape.n, 1, 1, out), |[n, _, _, o]| {
        let products = (0..inputs).map(|i| weight[o * inputs + i] * x.data[n * inputs + i]);
        activate(products.sum::<f64>() + bias[o], activation)
    })
}

fn softmax(x: &Values) -> Values {
    Values::from_fn(x.shape, |[n, y, column, c]| {
        // Dividing by the value's own power avoids overflow, unless the result is zero anyway.
        let own = x.at(n, y, column, c);
        1.0 / (0..x.shape.c).map(|i| (x.at(n, y, column, i) - own).exp()).sum::<f64>()
    })
}

/// `mask` says which values are kept; without it, dropout is the identity.
fn dropout(x: &Values, mask: Option<&[bool]>, ratio: f64) -> Values {
    let Some(mask) = mask else { return x.clone() };
    let kept = x.data.iter().zip(mask).map(|(v, &kept)| if kept { v / (1.0 - ratio) } else { 0.0 });
    Values { shape: x.shape, data: kept.collect() }
}
