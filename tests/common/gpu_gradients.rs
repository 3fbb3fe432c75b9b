//! Gradients by the GPU engine alone, compared with the f64 reference of `backward.rs`.

use super::backward::{Gradients as Exact, Point, Term, masks};
use super::{Case, Rng, name};
use googlenet::engine::Options;
use googlenet::gpu::{Gpu, PreparedGpu};
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::op::Op;
use googlenet::graph::tensor::Tensor;
use googlenet::plan::backward::{self, BackwardPlan, TermKind, Wanted};
use googlenet::plan::random::DropoutKey;
use googlenet::plan::{ConcatMode, Input, Plan, Work};

/// The largest relative error of one operation's gradients in L2 norm.
const OP: f64 = 5e-5;
/// The largest relative error of the gradients of several consecutive layers.
const LAYERS: f64 = 1e-4;
/// The smallest margin of a case, see [`Point::margin`]: f32 must take the same decisions as f64.
const MARGIN: f64 = 1e-5;

/// The L2 norm of the difference, divided by that of the reference. Infinite where values are missing or not finite.
pub fn relative_error(got: &[f32], want: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let off = norm(&mut got.iter().zip(want).map(|(&a, b)| f64::from(a) - b));
    let error = off / norm(&mut want.iter().copied());
    if got.len() != want.len() || off.is_nan() {
        f64::INFINITY
    } else if off == 0.0 {
        0.0
    } else {
        error
    }
}

/// The case with inputs at which f32 takes the same decisions as f64.
pub fn settled(case: Case) -> Case {
    let mut case = case;
    for seed in 0..256 {
        if Point::of(&case).margin() >= MARGIN {
            return case;
        }
        let mut rng = Rng::new(1000 + seed);
        let inputs = case.inputs.iter().map(|x| rng.tensor(x.shape)).collect();
        case = Case { inputs, ..case };
    }
    panic!("{}: every input is close to one that cannot be differentiated", case.name);
}

/// Of each output that no layer reads, half the squares, one channel and the sum, so that gradients are neither constant
/// nor zero where the output is zero. The sum of probabilities is constant.
pub fn objective(network: &Network) -> Vec<backward::Term> {
    let mut terms = Vec::new();
    for (node, read) in network.nodes().iter().enumerate() {
        if network.readers(node).next().is_some() {
            continue;
        }
        terms.push(backward::Term { node, kind: TermKind::HalfSquares { weight: 1.0 } });
        terms.push(backward::Term { node, kind: TermKind::Channel { channel: read.shape.c / 2, weight: -1.3 } });
        if read.op != Op::Softmax {
            terms.push(backward::Term { node, kind: TermKind::Sum { weight: 0.7 } });
        }
    }
    terms
}

/// Gradients of one objective for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Computed {
    pub terms: Vec<f64>,
    /// By the names of inputs, weights and biases. The weights are in the order of a model file.
    pub tensors: Vec<(String, Vec<f32>)>,
}

/// A case's model on the GPU, and what is needed to run it.
pub struct Runner {
    pub gpu: Gpu,
    pub plan: Plan,
    model: googlenet::model::Model,
    gains: Vec<f32>,
    inputs: Vec<Tensor>,
}

fn say(case: &Case, error: &googlenet::Error) -> String {
    format!("{}: {error}", case.name)
}

impl Runner {
    pub async fn new(options: Options, case: &Case, concat: ConcatMode) -> Result<Self, String> {
        let fail = |e: googlenet::Error| say(case, &e);
        let model = case.model()?;
        let plan = Plan::new(&model.network, case.inputs[0].shape.n, concat).map_err(fail)?;
        let prepared = PreparedGpu::with(false, options.kernels).await.map_err(fail)?;
        let mut gpu = Gpu::load(prepared, &model).await.map_err(fail)?;
        gpu.prepare(&plan).map_err(fail)?;
        let gain = |name: &str| case.gains.iter().find(|(branch, _)| branch == name).map_or(1.0, |(_, gain)| *gain);
        let gains = model.network.nodes().iter().map(|node| gain(&node.name)).collect();
        Ok(Runner { gpu, plan, model, gains, inputs: case.inputs.clone() })
    }

    /// Prepares a backward plan for these terms.
    pub fn prepare(&mut self, terms: &[backward::Term], wanted: &Wanted) -> googlenet::Result<BackwardPlan> {
        let seeds: Vec<NodeId> = terms.iter().map(|term| term.node).collect();
        let backward = BackwardPlan::new(&self.model.network, &self.plan, &seeds, wanted)?;
        self.gpu.prepare_backward(&self.plan, &backward, &self.model)?;
        Ok(backward)
    }

    /// A run and a pass after it.
    pub async fn pass(&mut self, terms: &[backward::Term], add: bool) -> googlenet::Result<Vec<f64>> {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        self.gpu.run(Work::All(Input::Tensors(&inputs)), &self.gains, false).await?;
        self.gpu.backward(terms, &self.gains, add).await
    }

    /// Like [`Runner::pass`], in one submit.
    pub async fn pass_at_once(&mut self, terms: &[backward::Term], add: bool) -> googlenet::Result<Vec<f64>> {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        let pass = self.gpu.start_pass(Input::Tensors(&inputs), terms, &self.gains, add).await?;
        pass.await.map(|(_, values)| values)
    }

    /// The gradients for all weights and biases, in the order of a model file.
    pub async fn weights(&self) -> googlenet::Result<Vec<(String, Vec<f32>)>> {
        let network = &self.model.network;
        let mut tensors = Vec::new();
        for (id, node) in network.nodes().iter().enumerate() {
            if network.params(id) == 0 {
                continue;
            }
            let [weight, bias] = self.gpu.weight_gradient(id).await?;
            let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
            let taps = match node.op {
                Op::Conv { window, .. } => window.kernel[0] * window.kernel[1],
                _ => 1,
            };
            let channels = inputs / taps;
            let at = |i: usize| {
                let (o, c, tap) = (i / inputs, i / taps % channels, i % taps);
                (tap * channels + c) * outputs + o
            };
            let sorted = (0..weight.len()).map(|i| weight[at(i)]).collect();
            tensors.push((format!("{}.weight", node.name), sorted));
            tensors.push((format!("{}.bias", node.name), bias));
        }
        Ok(tensors)
    }

    /// The gradients for all inputs, weights and biases.
    pub async fn compute(&mut self, terms: &[backward::Term]) -> googlenet::Result<Computed> {
        let network = self.model.network.clone();
        let (mut values, mut tensors) = (Vec::new(), Vec::new());
        for id in network.inputs() {
            let backward = self.prepare(terms, &Wanted::node(id))?;
            values.push(self.pass(terms, false).await?);
            let gradient = self.gpu.read_gradient(backward.wanted[0]).await?;
            assert_eq!(gradient.shape, network.node(id).shape.with_batch(self.plan.batch));
            tensors.push((network.node(id).name.clone(), gradient.data));
        }
        if network.total_params() > 0 {
            self.prepare(terms, &Wanted::weights(&network, |_| true))?;
            values.push(self.pass(terms, false).await?);
            tensors.extend(self.weights().await?);
        }
        assert!(values.iter().all(|other| *other == values[0]), "the values of the terms differ: {values:?}");
        Ok(Computed { terms: values.swap_remove(0), tensors })
    }
}

/// Compares with the reference, and returns the largest relative error of a tensor.
pub fn compare(network: &Network, got: &Computed, want: &Exact, tolerance: f64) -> Result<f64, String> {
    for (i, (got, want)) in got.terms.iter().zip(&want.terms).enumerate() {
        // Values are sums in f32.
        let close = (got - want).abs() <= 1e-4 * (1.0 + want.abs());
        if !close {
            return Err(format!("the term {i} is {got}, expected {want}"));
        }
    }
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

fn tolerance(case: &Case) -> f64 {
    if case.network.nodes().len() > 2 { LAYERS } else { OP }
}

/// Compares the gradients of a case with the reference's. Then changes one weight or input of the reference, and checks
/// that the comparison fails. Returns the largest relative error of a tensor.
pub async fn check(options: Options, case: &Case, concat: ConcatMode, key: Option<DropoutKey>) -> Result<f64, String> {
    let on = |e: String| format!("{} on {}, {concat:?}: {e}", case.name, name(options));
    let fail = |e: googlenet::Error| on(e.to_string());
    let mut runner = Runner::new(options, case, concat).await?;
    runner.gpu.set_dropout(key).map_err(fail)?;
    let terms = objective(&case.network);
    let got = runner.compute(&terms).await.map_err(fail)?;
    let mut point = Point::of(case);
    if let Some(key) = key {
        point.masks = masks(&case.network, runner.plan.batch, key);
    }
    let exact: Vec<Term> = terms.iter().map(Term::from).collect();
    let want = point.gradients(&exact);
    let worst = compare(&case.network, &got, &want, tolerance(case)).map_err(on)?;

    let mut rng = Rng::new(case.weights.len() as u64 + 7);
    let tensors = point.tensors();
    let wrong = (0..64).find_map(|_| {
        let mut point = point.clone();
        let values = point.tensor_mut(&tensors[rng.below(tensors.len())]);
        let element = rng.below(values.len());
        values[element] += 3.0 + values[element].abs();
        let changed = point.gradients(&exact);
        let shows = |name: &String| {
            let before: Vec<f32> = want.of(&case.network, name).iter().map(|&v| v as f32).collect();
            relative_error(&before, changed.of(&case.network, name)) > 2.0 * tolerance(case)
        };
        tensors.iter().any(shows).then_some(changed)
    });
    let wrong = wrong.ok_or_else(|| on("no change shows in the reference's gradients".into()))?;
    match compare(&case.network, &got, &wrong, tolerance(case)) {
        Ok(_) => Err(on("the comparison held although a number was changed".into())),
        Err(_) => Ok(worst),
    }
}
