//! Gradients by an engine, compared with the f64 reference of `backward.rs`.

use super::backward::{Function, Gradients as Exact, Point, Term};
use super::{Case, Rng, name};
use googlenet::engine::gradient::{Gradients, Objective, Wrt};
use googlenet::engine::{Engine, Options};
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::op::Op;
use googlenet::graph::tensor::Tensor;
use googlenet::plan::Input;
use googlenet::plan::backward::{self, TermKind};

/// The largest relative error of one operation's gradients, see [`relative_error`]. They are sums of up to a few thousand
/// products in f32, whose rounding errors of 6e-8 partly cancel; the Winograd algorithm adds some 1e-6, and GPUs compute
/// powers to about 1e-5. A wrong factor, index or weight gives an error of 1e-3 or more.
pub const OP: f64 = 5e-5;
/// The largest relative error of the gradients of several consecutive layers, or of a whole network.
pub const LAYERS: f64 = 1e-4;

/// The smallest margin, see [`Point::margin`], of a case that an engine computes. The rounding errors of f32 must change
/// neither the sign before a ReLU nor a maximum.
const MARGIN: f64 = 1e-5;

/// The L2 norm of the difference, divided by the L2 norm of the reference. Infinite where the numbers of values differ,
/// where a value is NaN, and where only the reference is zero.
pub fn relative_error<T: Copy + Into<f64>>(got: &[T], want: &[f64]) -> f64 {
    let off: f64 = got.iter().zip(want).map(|(&a, b)| (a.into() - b).powi(2)).sum::<f64>().sqrt();
    let error = off / norm(want);
    match off {
        _ if got.len() != want.len() => f64::INFINITY,
        0.0 => 0.0,
        _ if error.is_nan() => f64::INFINITY,
        _ => error,
    }
}

/// The L2 norm.
pub fn norm<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    values.iter().map(|&v| v.into().powi(2)).sum::<f64>().sqrt()
}

/// The case with inputs at which f32 takes the same decisions as f64. They are drawn again until that is so.
pub fn settled(case: Case) -> Case {
    let mut case = case;
    for seed in 0..256 {
        if Point::of(&case).margin() >= MARGIN {
            return case.expecting();
        }
        let mut rng = Rng::new(1000 + seed);
        let inputs = case.inputs.iter().map(|x| rng.tensor(x.shape)).collect();
        case = Case { inputs, ..case };
    }
    panic!("{}: every input is close to one that cannot be differentiated", case.name);
}

/// Loads the case's model on a new engine that computes gradients, and sets the case's gains.
pub async fn load(options: Options, case: &Case) -> Result<Engine, String> {
    let mut engine = case.load(Options { gradients: true, ..options }).await?;
    for (branch, gain) in &case.gains {
        engine.set_gain(branch, *gain).map_err(|e| case.say(&e))?;
    }
    Ok(engine)
}

/// The gradients of an objective for the case's inputs.
pub async fn differentiate(
    engine: &mut Engine,
    case: &Case,
    objective: &Objective<'_>,
    wrt: Wrt<'_>,
) -> Result<Gradients, String> {
    let inputs: Vec<&Tensor> = case.inputs.iter().collect();
    engine.gradient(Input::Tensors(&inputs), objective, wrt).await.map_err(|e| case.say(&e))
}

/// An objective that depends on every layer of a network: of each output that no layer reads, half the squares, one
/// channel and the sum. With these, the gradient of an output is neither constant nor zero where the output is zero, so
/// that a missing ReLU shows. The sum of probabilities is constant, so it is left out behind a softmax.
pub fn objective(network: &Network) -> Vec<backward::Term> {
    let mut terms = Vec::new();
    for (node, read) in network.nodes().iter().enumerate() {
        if network.readers(node).next().is_some() {
            continue;
        }
        let mut add = |kind| terms.push(backward::Term { node, kind });
        add(TermKind::HalfSquares { weight: 1.0 });
        add(TermKind::Channel { channel: read.shape.c / 2, weight: -1.3 });
        if read.op != Op::Softmax {
            add(TermKind::Sum { weight: 0.7 });
        }
    }
    terms
}

/// The terms whose sum is the objective, for a batch of this many pictures.
pub fn terms(network: &Network, objective: &Objective<'_>, batch: usize) -> Vec<Term> {
    let find = |layer: &str| network.find(layer).expect("a layer of the network");
    let head = |name: &str| network.heads().iter().find(|head| head.name == name).expect("a head of the network");
    let one = |node: NodeId, weight: f64, function: Function| vec![Term { node, weight, function }];
    match objective {
        Objective::Score { head: name, class } => one(head(name).logits, 1.0, Function::Channel(*class)),
        Objective::Probability { head: name, class } => one(head(name).prob, 1.0, Function::Channel(*class)),
        Objective::Mean { layer, channel } => {
            let shape = network.node(find(layer)).shape;
            match channel {
                Some(channel) => one(find(layer), 1.0 / shape.pixels() as f64, Function::Channel(*channel)),
                None => one(find(layer), 1.0 / shape.len() as f64, Function::Sum),
            }
        }
        Objective::HalfSquares { layer } => one(find(layer), 1.0, Function::HalfSquares),
        Objective::Loss { classes, heads, smoothing } => {
            let term = |(name, weight): &(&str, f32)| Term {
                node: head(name).logits,
                weight: f64::from(*weight) / batch as f64,
                function: Function::CrossEntropy { classes: classes.to_vec(), smoothing: f64::from(*smoothing) },
            };
            heads.iter().map(term).collect()
        }
        Objective::Terms(terms) => terms.iter().map(Term::from).collect(),
    }
}

/// What an engine computed for a case: the value of [`objective`], and its gradient for each input, for all weights and
/// for all biases, by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    pub value: f64,
    pub tensors: Vec<(String, Vec<f32>)>,
}

impl Computed {
    /// The bits of all values.
    pub fn bits(&self) -> Vec<u32> {
        self.tensors.iter().flat_map(|(_, values)| values.iter().map(|v| v.to_bits())).collect()
    }
}

/// Computes the gradients for all inputs, and for all weights and biases if there are any.
pub async fn compute(engine: &mut Engine, case: &Case) -> Result<Computed, String> {
    let network = &case.network;
    let terms = objective(network);
    let objective = Objective::Terms(&terms);
    let fail = |reason: String| Err(format!("{}: {reason}", case.name));
    let (mut values, mut tensors) = (Vec::new(), Vec::new());
    for (id, x) in network.inputs().zip(&case.inputs) {
        let name = &network.node(id).name;
        let wrt = if case.inputs.len() == 1 { Wrt::Input } else { Wrt::Layer(name) };
        let got = differentiate(engine, case, &objective, wrt).await?;
        let Some(of_input) = got.layer else { return fail(format!("there is no gradient for \"{name}\"")) };
        if of_input.shape != x.shape || !got.weights.is_empty() {
            return fail(format!("the gradient is {}, the input {}", of_input.shape, x.shape));
        }
        values.push(got.value);
        tensors.push((name.clone(), of_input.data));
    }
    if !case.weights.is_empty() {
        let got = differentiate(engine, case, &objective, Wrt::Weights).await?;
        if got.layer.is_some() {
            return fail("there is a gradient for a layer, although none was asked for".into());
        }
        if got.weights.len() != case.weights.len() {
            return fail(format!("there are gradients for {} of {} tensors", got.weights.len(), case.weights.len()));
        }
        for gradient in got.weights {
            if !case.weights.iter().any(|(name, dims, _)| (name, dims) == (&gradient.name, &gradient.dims)) {
                return fail(format!("no tensor is \"{}\" of {:?}", gradient.name, gradient.dims));
            }
            tensors.push((gradient.name, gradient.data));
        }
        values.push(got.value);
    }
    let Some(&value) = values.first() else { return fail("there is nothing to differentiate".into()) };
    if values.iter().any(|other| other.to_bits() != value.to_bits()) {
        return fail(format!("the objective's value differs between runs: {values:?}"));
    }
    Ok(Computed { value, tensors })
}

/// Compares with the reference, and returns the largest relative error of a tensor.
pub fn compare(network: &Network, got: &Computed, want: &Exact, tolerance: f64) -> Result<f64, String> {
    close(got.value, &want.terms)?;
    let mut worst = 0f64;
    for (name, gradient) in &got.tensors {
        let error = relative_error(gradient, want.of(network, name));
        if error > tolerance {
            return Err(format!("\"{name}\": the gradient has a relative error of {error:.1e}, not {tolerance:.0e}"));
        }
        worst = worst.max(error);
    }
    Ok(worst)
}

/// Compares the objective's value with the reference's terms. It is a sum in f32, whose error is relative to the terms.
pub fn close(value: f64, terms: &[f64]) -> Result<(), String> {
    let (sum, size) = (terms.iter().sum::<f64>(), terms.iter().map(|v| v.abs()).sum::<f64>());
    let close = (value - sum).abs() <= LAYERS * (1.0 + size);
    if close { Ok(()) } else { Err(format!("the objective is {value}, expected {sum}")) }
}

/// The tolerance for a case.
pub fn tolerance(case: &Case) -> f64 {
    if case.network.nodes().len() > 2 { LAYERS } else { OP }
}

/// The terms of [`objective`] for the reference.
pub fn exact_objective(case: &Case) -> Vec<Term> {
    objective(&case.network).iter().map(Term::from).collect()
}

/// The reference's gradients after a change of one weight, bias or input that shows in them.
pub fn perturbed(case: &Case, want: &Exact) -> Option<Exact> {
    let objective = exact_objective(case);
    let mut rng = Rng::new(case.weights.len() as u64 + 7);
    let tensors = Point::of(case).tensors();
    (0..64).find_map(|_| {
        let mut point = Point::of(case);
        let values = point.tensor_mut(&tensors[rng.below(tensors.len())]);
        let element = rng.below(values.len());
        values[element] += 3.0 + values[element].abs();
        let changed = point.gradients(&objective);
        let [before, after] = [want, &changed].map(|gradients| move |name: &str| gradients.of(&case.network, name));
        let shows = tensors.iter().any(|name| relative_error(before(name), after(name)) > 2.0 * tolerance(case));
        shows.then_some(changed)
    })
}

/// Compares an engine's gradients with the reference's. Then changes one number of the reference, and checks that the
/// comparison fails. Returns the largest relative error of a tensor.
pub async fn check(options: Options, case: &Case) -> Result<f64, String> {
    let on = |e: String| format!("on {}: {e}", name(options));
    let of_case = |e: String| on(format!("{}: {e}", case.name));
    let got = compute(&mut load(options, case).await.map_err(on)?, case).await.map_err(on)?;
    let want = Point::of(case).gradients(&exact_objective(case));
    let worst = compare(&case.network, &got, &want, tolerance(case)).map_err(of_case)?;
    let no_change = || of_case("no change shows in the reference's gradients".into());
    let wrong = perturbed(case, &want).ok_or_else(no_change)?;
    match compare(&case.network, &got, &wrong, tolerance(case)) {
        Ok(_) => Err(of_case("the comparison held although a number was changed".into())),
        Err(_) => Ok(worst),
    }
}
