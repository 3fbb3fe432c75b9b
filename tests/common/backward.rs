//! The gradients of every operation in f64 and plain loops, written from the definitions and independently of the
//! engine, and reverse-mode differentiation of a whole network with them. Finite differences of the forward reference
//! check them (`tests/gradients.rs`).
//!
//! Each function gets the gradient of an objective with respect to an operation's output, and returns that with respect
//! to its input, weights and biases. The operations themselves are in `reference.rs`.

use super::reference::{
    ExactWeights, Masks, Values, counted, exact, forward, gains_of, is_inside, layer, neighbours, places, region,
    starts,
};
use super::{Case, reference};
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::op::{Activation, Op, Window};
use googlenet::graph::tensor::Shape;
use googlenet::plan::backward;
use googlenet::plan::random::{DropoutKey, threshold};

/// A point at which a network is differentiated: its weights and inputs in f64, with the gain of each node.
#[derive(Debug, Clone)]
pub struct Point<'a> {
    pub network: &'a Network,
    pub weights: ExactWeights,
    pub inputs: Vec<Values>,
    pub gains: Vec<f64>,
    pub masks: Masks,
}

/// A term of an objective: `weight` times a function of a node's output, which is summed over the pictures of a batch.
#[derive(Debug, Clone)]
pub struct Term {
    pub node: NodeId,
    pub weight: f64,
    pub function: Function,
}

#[derive(Debug, Clone)]
pub enum Function {
    /// The sum of a channel over all pixels.
    Channel(usize),
    /// The sum of all values.
    Sum,
    /// Half the sum of the squares of all values.
    HalfSquares,
    /// The cross-entropy of the softmax of the values, with a class for each picture and label smoothing.
    CrossEntropy { classes: Vec<usize>, smoothing: f64 },
    /// The sum of the products of the values with these numbers.
    Products(Vec<f64>),
}

impl From<&backward::Term> for Term {
    fn from(term: &backward::Term) -> Self {
        let (weight, function) = match &term.kind {
            backward::TermKind::Channel { channel, weight } => (weight, Function::Channel(*channel)),
            backward::TermKind::Sum { weight } => (weight, Function::Sum),
            backward::TermKind::HalfSquares { weight } => (weight, Function::HalfSquares),
            backward::TermKind::CrossEntropy { classes, weight, smoothing } => {
                (weight, Function::CrossEntropy { classes: classes.clone(), smoothing: f64::from(*smoothing) })
            }
        };
        Term { node: term.node, weight: f64::from(*weight), function }
    }
}

impl Term {
    /// The term's value, and its gradient with respect to the output of its node.
    fn differentiate(&self, y: &Values) -> (f64, Values) {
        let elements = || y.data.iter().enumerate();
        let (value, gradient): (f64, Vec<f64>) = match &self.function {
            Function::Channel(channel) => {
                let is_in = |i: usize| f64::from(u8::from(i % y.shape.c == *channel));
                (elements().map(|(i, v)| is_in(i) * v).sum(), elements().map(|(i, _)| is_in(i)).collect())
            }
            Function::Sum => (y.data.iter().sum(), vec![1.0; y.data.len()]),
            Function::HalfSquares => (y.data.iter().map(|v| v * v / 2.0).sum(), y.data.clone()),
            Function::CrossEntropy { classes, smoothing } => cross_entropy(y, classes, *smoothing),
            Function::Products(factors) => {
                (y.data.iter().zip(factors).map(|(v, factor)| v * factor).sum(), factors.clone())
            }
        };
        let gradient = gradient.iter().map(|g| self.weight * g).collect();
        (self.weight * value, Values { shape: y.shape, data: gradient })
    }
}

/// The terms' values, and the gradients of their sum.
#[derive(Debug, Clone)]
pub struct Gradients {
    /// Each term's value, multiplied by its weight.
    pub terms: Vec<f64>,
    /// The gradient with respect to the output of each node.
    pub nodes: Vec<Values>,
    pub weights: ExactWeights,
}

impl Gradients {
    /// The gradient with respect to the output of a node, or to weights or biases.
    pub fn of(&self, network: &Network, name: &str) -> &[f64] {
        match network.find(name) {
            Ok(node) => &self.nodes[node].data,
            Err(_) => &self.weights[name],
        }
    }
}

impl<'a> Point<'a> {
    /// The weights and inputs of a case. Dropout keeps all values.
    pub fn of(case: &'a Case) -> Self {
        Point {
            network: &case.network,
            weights: exact(&case.weights),
            inputs: case.inputs.iter().map(Values::from).collect(),
            gains: gains_of(&case.network, &case.gains),
            masks: Masks::new(),
        }
    }

    /// The names of the inputs, weights and biases.
    pub fn tensors(&self) -> Vec<String> {
        let inputs = self.network.inputs().map(|id| self.network.node(id).name.clone());
        inputs.chain(self.weights.keys().cloned()).collect()
    }

    /// The values of an input, weights or biases.
    pub fn tensor_mut(&mut self, name: &str) -> &mut Vec<f64> {
        match self.network.inputs().position(|id| self.network.node(id).name == name) {
            Some(input) => &mut self.inputs[input].data,
            None => self.weights.get_mut(name).expect("a tensor of the network"),
        }
    }

    /// The output of every node.
    pub fn forward(&self) -> Vec<Values> {
        forward(self.network, &self.weights, &self.inputs, &self.gains, &self.masks)
    }

    /// The sum of the terms.
    pub fn value(&self, objective: &[Term]) -> f64 {
        let values = self.forward();
        objective.iter().map(|term| term.differentiate(&values[term.node]).0).sum()
    }

    /// The gradients of the sum of the terms, by one pass over the nodes from the last to the first.
    pub fn gradients(&self, objective: &[Term]) -> Gradients {
        let values = self.forward();
        let mut nodes: Vec<Values> = values.iter().map(|v| Values::zeros(v.shape)).collect();
        let mut terms = Vec::new();
        for term in objective {
            let (value, gradient) = term.differentiate(&values[term.node]);
            terms.push(value);
            accumulate(&mut nodes[term.node], &gradient);
        }
        let mut weights = ExactWeights::new();
        for (id, node) in self.network.nodes().iter().enumerate().rev() {
            let read: Vec<&Values> = node.inputs.iter().map(|&i| &values[i]).collect();
            let [weight, _] = layer(&self.weights, &node.name);
            let (y, gradient) = (&values[id], &nodes[id]);
            let mut of_layer = None;
            let mut with_weights = |[of_x, of_weight, of_bias]: [Values; 3]| {
                of_layer = Some([("weight", of_weight), ("bias", of_bias)]);
                vec![of_x]
            };
            let of_inputs = match &node.op {
                Op::Input(_) => Vec::new(),
                Op::Conv { window, activation, .. } => {
                    with_weights(conv(read[0], window, weight, &activation_gradient(y, *activation, gradient)))
                }
                Op::Dense { activation, .. } => {
                    with_weights(dense(read[0], weight, &activation_gradient(y, *activation, gradient)))
                }
                Op::MaxPool(window) => vec![max_pool(read[0], window, gradient)],
                Op::AvgPool { window, count_padding } => vec![average_pool(read[0], window, *count_padding, gradient)],
                Op::AdaptiveAvgPool { out } => vec![adaptive_average_pool(read[0], *out, gradient)],
                Op::Lrn { size, alpha, beta, k } => {
                    vec![lrn(read[0], *size, [*alpha, *beta, *k].map(f64::from), gradient)]
                }
                Op::Concat => concat(&read, &node.inputs.iter().map(|&i| self.gains[i]).collect::<Vec<_>>(), gradient),
                Op::Softmax => vec![softmax(y, gradient)],
                Op::Dropout { ratio } => {
                    vec![dropout(self.masks.get(&id).map(Vec::as_slice), f64::from(*ratio), gradient)]
                }
            };
            for (kind, gradient) in of_layer.into_iter().flatten() {
                weights.insert(format!("{}.{kind}", node.name), gradient.data);
            }
            for (&input, gradient) in node.inputs.iter().zip(&of_inputs) {
                accumulate(&mut nodes[input], gradient);
            }
        }
        Gradients { terms, nodes, weights }
    }

    /// How far the point is from the nearest one that a ReLU or a max pool makes not differentiable: the smallest
    /// absolute value before a ReLU, or the smallest difference of a window's maximum from the greatest other value.
    /// Equal values are no such point here: they are zeros behind a ReLU, whose gradient is zero anyway, or two copies
    /// of one value.
    pub fn margin(&self) -> f64 {
        let values = self.forward();
        let mut margin = f64::INFINITY;
        for node in self.network.nodes() {
            let [weight, bias] = layer(&self.weights, &node.name);
            let x = || &values[node.inputs[0]];
            let before = match &node.op {
                Op::Conv { window, out, activation: Activation::Relu } => {
                    reference::conv(x(), window, *out, Activation::None, weight, bias)
                }
                Op::Dense { out, activation: Activation::Relu } => {
                    reference::dense(x(), *out, Activation::None, weight, bias)
                }
                Op::MaxPool(window) => {
                    for_each_window(x().shape, window, |n, _, places, _| {
                        for c in 0..x().shape.c {
                            let inside = places.iter().filter(|&&p| is_inside(x(), p));
                            let values: Vec<f64> =
                                inside.map(|&(y, column)| x().at(n, y as usize, column as usize, c)).collect();
                            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                            let others = values.iter().filter(|&&v| v < greatest);
                            margin = others.fold(margin, |least, v| least.min(greatest - v));
                        }
                    });
                    continue;
                }
                _ => continue,
            };
            margin = before.data.iter().fold(margin, |least, v| least.min(v.abs()));
        }
        margin
    }
}

/// Which values the dropout nodes of a network keep for this key.
pub fn masks(network: &Network, batch: usize, key: DropoutKey) -> Masks {
    let mut masks = Masks::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let Op::Dropout { ratio } = node.op else { continue };
        let elements = node.shape.per_image();
        let keeps = |i: usize| key.keeps(id, i / elements, i % elements, threshold(ratio));
        masks.insert(id, (0..batch * elements).map(keeps).collect());
    }
    masks
}

/// The derivative of the objective with respect to one number of a tensor, by a central difference. Its error is of the
/// order of `STEP^2` times the third derivative, and of `1e-16 / STEP` times the objective, from rounding.
pub fn difference(point: &Point, objective: &[Term], tensor: &str, element: usize) -> f64 {
    let [above, below] = [STEP, -STEP].map(|step| {
        let mut moved = point.clone();
        moved.tensor_mut(tensor)[element] += step;
        moved.value(objective)
    });
    (above - below) / (2.0 * STEP)
}

/// The step of [`difference`], 2^-18.
pub const STEP: f64 = 1.0 / 262_144.0;

fn accumulate(sum: &mut Values, values: &Values) {
    assert_eq!(sum.shape, values.shape, "a gradient has the shape of what it is for");
    sum.data.iter_mut().zip(&values.data).for_each(|(sum, v)| *sum += v);
}

/// Calls `f(picture, [row, column] of the output, positions in the window, ends of the padding)` for each window.
fn for_each_window(x: Shape, window: &Window, mut f: impl FnMut(usize, [usize; 2], &[(i64, i64)], [i64; 2])) {
    let ((ys, bottom), (xs, right)) = (starts(window, 0, x.h), starts(window, 1, x.w));
    for n in 0..x.n {
        for (oy, &y) in ys.iter().enumerate() {
            for (ox, &column) in xs.iter().enumerate() {
                f(n, [oy, ox], &places(window, y, column), [bottom, right]);
            }
        }
    }
}

/// From the gradient with respect to the output `y` of an activation to that with respect to its input. The gradient of
/// ReLU at zero is zero.
fn activation_gradient(y: &Values, activation: Activation, gradient: &Values) -> Values {
    let pass = |(&y, &g): (&f64, &f64)| match activation {
        Activation::None => g,
        Activation::Relu if y > 0.0 => g,
        Activation::Relu => 0.0,
    };
    Values { shape: y.shape, data: y.data.iter().zip(&gradient.data).map(pass).collect() }
}

fn flat(len: usize) -> Values {
    Values::zeros(Shape::new(1, 1, 1, len))
}

/// The gradients with respect to the input, the weights (OIHW) and the biases.
pub fn conv(x: &Values, window: &Window, weight: &[f64], gradient: &Values) -> [Values; 3] {
    let (inputs, outputs, area) = (x.shape.c, gradient.shape.c, window.kernel[0] * window.kernel[1]);
    let (mut of_x, mut of_weight, mut of_bias) = (Values::zeros(x.shape), flat(weight.len()), flat(outputs));
    for_each_window(x.shape, window, |n, [oy, ox], places, _| {
        for o in 0..outputs {
            let g = gradient.at(n, oy, ox, o);
            // Adding zeros takes most of the time behind a ReLU.
            if g == 0.0 {
                continue;
            }
            of_bias.data[o] += g;
            for (tap, &(y, column)) in places.iter().enumerate() {
                if is_inside(x, (y, column)) {
                    let (y, column) = (y as usize, column as usize);
                    for i in 0..inputs {
                        let w = (o * inputs + i) * area + tap;
                        of_x.add([n, y, column, i], g * weight[w]);
                        of_weight.data[w] += g * x.at(n, y, column, i);
                    }
                }
            }
        }
    });
    [of_x, of_weight, of_bias]
}

/// The gradient of each output goes to the first maximum of its window, in the order of rows, then columns.
pub fn max_pool(x: &Values, window: &Window, gradient: &Values) -> Values {
    let mut of_x = Values::zeros(x.shape);
    for_each_window(x.shape, window, |n, [oy, ox], places, _| {
        for c in 0..x.shape.c {
            let mut first: Option<(f64, [usize; 4])> = None;
            for &(y, column) in places.iter().filter(|&&p| is_inside(x, p)) {
                let at = [n, y as usize, column as usize, c];
                let value = x.at(n, at[1], at[2], c);
                if first.is_none_or(|(greatest, _)| value > greatest) {
                    first = Some((value, at));
                }
            }
            let (_, at) = first.expect("a window has at least one value");
            of_x.add(at, gradient.at(n, oy, ox, c));
        }
    });
    of_x
}

pub fn average_pool(x: &Values, window: &Window, count_padding: bool, gradient: &Values) -> Values {
    let mut of_x = Values::zeros(x.shape);
    for_each_window(x.shape, window, |n, [oy, ox], places, ends| {
        let counted = counted(x, places, count_padding, ends) as f64;
        for &(y, column) in places.iter().filter(|&&p| is_inside(x, p)) {
            for c in 0..x.shape.c {
                of_x.add([n, y as usize, column as usize, c], gradient.at(n, oy, ox, c) / counted);
            }
        }
    });
    of_x
}

pub fn adaptive_average_pool(x: &Values, [h, w]: [usize; 2], gradient: &Values) -> Values {
    let mut of_x = Values::zeros(x.shape);
    for n in 0..x.shape.n {
        for oy in 0..h {
            for ox in 0..w {
                let (ys, xs) = (region(oy, x.shape.h, h), region(ox, x.shape.w, w));
                let counted = (ys.len() * xs.len()) as f64;
                for y in ys {
                    for column in xs.clone() {
                        for c in 0..x.shape.c {
                            of_x.add([n, y, column, c], gradient.at(n, oy, ox, c) / counted);
                        }
                    }
                }
            }
        }
    }
    of_x
}

/// With `s = k + alpha/size * (sum of squares)`, the output is `x s^-beta`. A value acts on its own output directly, and
/// through `s` on the outputs of all channels in whose window it is.
pub fn lrn(x: &Values, size: usize, [alpha, beta, k]: [f64; 3], gradient: &Values) -> Values {
    let alpha = alpha / size as f64;
    let mut of_x = Values::zeros(x.shape);
    for n in 0..x.shape.n {
        for y in 0..x.shape.h {
            for column in 0..x.shape.w {
                for c in 0..x.shape.c {
                    let (value, g) = (x.at(n, y, column, c), gradient.at(n, y, column, c));
                    let squares: f64 = neighbours(x, size, c).map(|i| x.at(n, y, column, i).powi(2)).sum();
                    let s = k + alpha * squares;
                    of_x.add([n, y, column, c], g * s.powf(-beta));
                    for i in neighbours(x, size, c) {
                        let of_s = -beta * value * s.powf(-beta - 1.0);
                        of_x.add([n, y, column, i], g * of_s * 2.0 * alpha * x.at(n, y, column, i));
                    }
                }
            }
        }
    }
    of_x
}

/// The gradients with respect to the branches, each of which is multiplied by its gain.
pub fn concat(branches: &[&Values], gains: &[f64], gradient: &Values) -> Vec<Values> {
    let mut first = 0;
    let slices = branches.iter().zip(gains).map(|(branch, gain)| {
        let of_branch = Values::from_fn(branch.shape, |[n, y, x, c]| gain * gradient.at(n, y, x, first + c));
        first += branch.shape.c;
        of_branch
    });
    slices.collect()
}

/// The gradients with respect to the input, the weights (out, in) and the biases.
pub fn dense(x: &Values, weight: &[f64], gradient: &Values) -> [Values; 3] {
    let (inputs, outputs) = (x.shape.per_image(), gradient.shape.c);
    let (mut of_x, mut of_weight, mut of_bias) = (Values::zeros(x.shape), flat(weight.len()), flat(outputs));
    for n in 0..x.shape.n {
        for o in 0..outputs {
            let g = gradient.at(n, 0, 0, o);
            of_bias.data[o] += g;
            for i in 0..inputs {
                of_x.data[n * inputs + i] += g * weight[o * inputs + i];
                of_weight.data[o * inputs + i] += g * x.data[n * inputs + i];
            }
        }
    }
    [of_x, of_weight, of_bias]
}

/// `y` is the output of the softmax.
pub fn softmax(y: &Values, gradient: &Values) -> Values {
    Values::from_fn(y.shape, |[n, row, column, c]| {
        let mean: f64 = (0..y.shape.c).map(|i| y.at(n, row, column, i) * gradient.at(n, row, column, i)).sum();
        y.at(n, row, column, c) * (gradient.at(n, row, column, c) - mean)
    })
}

/// The cross-entropy of the softmax of the logits, summed over the pictures, and its gradient. The target of a picture's
/// class is `1 - smoothing + smoothing/classes`, and that of every other class is `smoothing/classes`.
pub fn cross_entropy(logits: &Values, classes: &[usize], smoothing: f64) -> (f64, Vec<f64>) {
    let count = logits.shape.per_image();
    let (mut value, mut gradient) = (0.0, Vec::new());
    for (logits, &class) in logits.data.chunks(count).zip(classes) {
        let greatest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let log_sum = greatest + logits.iter().map(|v| (v - greatest).exp()).sum::<f64>().ln();
        for (i, logit) in logits.iter().enumerate() {
            let target = smoothing / count as f64 + if i == class { 1.0 - smoothing } else { 0.0 };
            value -= target * (logit - log_sum);
            gradient.push((logit - log_sum).exp() - target);
        }
    }
    (value, gradient)
}

/// `mask` says which values are kept; without it, dropout is the identity.
pub fn dropout(mask: Option<&[bool]>, ratio: f64, gradient: &Values) -> Values {
    let Some(mask) = mask else { return gradient.clone() };
    let kept = gradient.data.iter().zip(mask).map(|(g, &kept)| if kept { g / (1.0 - ratio) } else { 0.0 });
    Values { shape: gradient.shape, data: kept.collect() }
}
