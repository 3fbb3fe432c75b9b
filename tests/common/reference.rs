//! Every operation in f64 and plain loops, written from the definitions and independently of the engine, including
//! padding and output sizes.

use super::Named;
use googlenet::graph::network::Network;
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::{Shape, Tensor};

/// An NHWC tensor in f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Values {
    pub shape: Shape,
    pub data: Vec<f64>,
}

impl Values {
    fn from_fn(shape: Shape, mut value: impl FnMut([usize; 4]) -> f64) -> Self {
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

    fn at(&self, n: usize, y: usize, x: usize, c: usize) -> f64 {
        let s = self.shape;
        self.data[((n * s.h + y) * s.w + x) * s.c + c]
    }
}

impl From<&Tensor> for Values {
    fn from(t: &Tensor) -> Self {
        Values { shape: t.shape, data: t.data.iter().map(|&v| v as f64).collect() }
    }
}

/// The output of every node except the inputs.
pub fn evaluate(
    network: &Network,
    weights: &[Named],
    inputs: &[Tensor],
    gains: &[(String, f32)],
) -> Vec<(String, Values)> {
    let tensor = |name: String| -> &[f32] { &weights.iter().find(|w| w.0 == name).expect("the tensor is there").2 };
    let mut inputs = inputs.iter();
    let mut values: Vec<Values> = Vec::new();
    for node in network.nodes() {
        let read: Vec<&Values> = node.inputs.iter().map(|&i| &values[i]).collect();
        let weight = || tensor(format!("{}.weight", node.name));
        let bias = || tensor(format!("{}.bias", node.name));
        let out = match &node.op {
            Op::Input(_) => inputs.next().expect("one tensor an input").into(),
            Op::Conv { window, out, activation } => conv(read[0], window, *out, *activation, weight(), bias()),
            Op::MaxPool(window) => max_pool(read[0], window),
            Op::AvgPool { window, count_padding } => average_pool(read[0], window, *count_padding),
            Op::AdaptiveAvgPool { out } => adaptive_average_pool(read[0], *out),
            Op::Lrn { size, alpha, beta, k } => lrn(read[0], *size, [*alpha, *beta, *k].map(f64::from)),
            Op::Concat => {
                let gain = |&i: &usize| {
                    let name = &network.node(i).name;
                    gains.iter().find(|g| g.0 == *name).map_or(1.0, |g| g.1 as f64)
                };
                concat(&read, &node.inputs.iter().map(gain).collect::<Vec<_>>())
            }
            Op::Dense { out, activation } => dense(read[0], *out, *activation, weight(), bias()),
            Op::Softmax => softmax(read[0]),
            Op::Dropout { .. } => read[0].clone(),
        };
        values.push(out);
    }
    let nodes = network.nodes().iter().zip(values);
    nodes.filter(|(node, _)| !matches!(node.op, Op::Input(_))).map(|(node, v)| (node.name.clone(), v)).collect()
}

/// The start of each window along an axis, and the end of the padding after the input.
fn starts(window: &Window, axis: usize, size: usize) -> (Vec<i64>, i64) {
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

/// Computes each output cell with `value`, from the positions (row, column) in its window. These may be outside the
/// input. `ends` is the end of the padding on each axis.
fn slide(
    x: &Values,
    window: &Window,
    channels: usize,
    value: impl Fn(usize, usize, &[(i64, i64)], [i64; 2]) -> f64,
) -> Values {
    let ((ys, bottom), (xs, right)) = (starts(window, 0, x.shape.h), starts(window, 1, x.shape.w));
    let shape = Shape::new(x.shape.n, ys.len(), xs.len(), channels);
    Values::from_fn(shape, |[n, oy, ox, c]| {
        let mut places = Vec::new();
        for ky in 0..window.kernel[0] as i64 {
            for kx in 0..window.kernel[1] as i64 {
                places.push((ys[oy] + ky, xs[ox] + kx));
            }
        }
        value(n, c, &places, [bottom, right])
    })
}

fn is_inside(x: &Values, (y, column): (i64, i64)) -> bool {
    (0..x.shape.h as i64).contains(&y) && (0..x.shape.w as i64).contains(&column)
}

fn activate(v: f64, activation: Activation) -> f64 {
    match activation {
        Activation::None => v,
        Activation::Relu => v.max(0.0),
    }
}

fn conv(x: &Values, window: &Window, out: usize, activation: Activation, weight: &[f32], bias: &[f32]) -> Values {
    let (inputs, area) = (x.shape.c, window.kernel[0] * window.kernel[1]);
    slide(x, window, out, |n, o, places, _| {
        let mut sum = bias[o] as f64;
        for (tap, &(y, column)) in places.iter().enumerate() {
            if is_inside(x, (y, column)) {
                for i in 0..inputs {
                    sum += weight[(o * inputs + i) * area + tap] as f64 * x.at(n, y as usize, column as usize, i);
                }
            }
        }
        activate(sum, activation)
    })
}

fn max_pool(x: &Values, window: &Window) -> Values {
    slide(x, window, x.shape.c, |n, c, places, _| {
        let inside = places.iter().filter(|&&p| is_inside(x, p));
        inside.map(|&(y, column)| x.at(n, y as usize, column as usize, c)).fold(f64::NEG_INFINITY, f64::max)
    })
}

fn average_pool(x: &Values, window: &Window, count_padding: bool) -> Values {
    slide(x, window, x.shape.c, |n, c, places, [bottom, right]| {
        let inside = places.iter().filter(|&&p| is_inside(x, p));
        let counted = if count_padding {
            places.iter().filter(|p| p.0 < bottom && p.1 < right).count()
        } else {
            inside.clone().count()
        };
        inside.map(|&(y, column)| x.at(n, y as usize, column as usize, c)).sum::<f64>() / counted as f64
    })
}

fn adaptive_average_pool(x: &Values, [h, w]: [usize; 2]) -> Values {
    let range = |i: usize, size: usize, out: usize| {
        let step = size as f64 / out as f64;
        let end = ((i + 1) as f64 * step - 1e-9).ceil() as usize;
        (i as f64 * step + 1e-9).floor() as usize..end
    };
    Values::from_fn(Shape { h, w, ..x.shape }, |[n, oy, ox, c]| {
        let (ys, xs) = (range(oy, x.shape.h, h), range(ox, x.shape.w, w));
        let count = ys.len() * xs.len();
        let cells = ys.flat_map(|y| xs.clone().map(move |column| (y, column)));
        cells.map(|(y, column)| x.at(n, y, column, c)).sum::<f64>() / count as f64
    })
}

fn lrn(x: &Values, size: usize, [alpha, beta, k]: [f64; 3]) -> Values {
    Values::from_fn(x.shape, |[n, y, column, c]| {
        // The first channel of the window. A window of even size has one more channel above than below.
        let first = c as i64 - (size as i64 - 1) / 2;
        let channels = (first..first + size as i64).filter(|i| (0..x.shape.c as i64).contains(i));
        let sum: f64 = channels.map(|i| x.at(n, y, column, i as usize).powi(2)).sum();
        x.at(n, y, column, c) / (k + alpha / size as f64 * sum).powf(beta)
    })
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

fn dense(x: &Values, out: usize, activation: Activation, weight: &[f32], bias: &[f32]) -> Values {
    let inputs = x.shape.per_image();
    Values::from_fn(Shape::new(x.shape.n, 1, 1, out), |[n, _, _, o]| {
        let products = (0..inputs).map(|i| weight[o * inputs + i] as f64 * x.data[n * inputs + i]);
        activate(products.sum::<f64>() + bias[o] as f64, activation)
    })
}

fn softmax(x: &Values) -> Values {
    Values::from_fn(x.shape, |[n, y, column, c]| {
        // Dividing by the value's own power avoids overflow, unless the result is zero anyway.
        let own = x.at(n, y, column, c);
        1.0 / (0..x.shape.c).map(|i| (x.at(n, y, column, i) - own).exp()).sum::<f64>()
    })
}
