//! Shared by the tests of operations: cases, the f64 reference, and the comparison.
//!
//! A case is a small network with its weights, its inputs, and the expected output of every node. The same cases run
//! natively (`tests/ops.rs`) and in a browser (`tests/browser.rs`).

#![allow(dead_code, reason = "each test binary uses its own part")]

#[cfg(feature = "train")]
pub mod backward;
pub mod cases;
#[cfg(feature = "train")]
pub mod gradients;
#[cfg(all(feature = "train", not(target_arch = "wasm32")))]
pub mod keras;
pub mod onnx;
pub mod preprocess;
pub mod reference;
pub mod stats;
#[cfg(not(target_arch = "wasm32"))]
pub mod strategies;
pub mod tiles;

use googlenet::engine::{Backend, Engine, Options};
use googlenet::gpu::KernelSet;
use googlenet::graph::network::Network;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::model::Model;
use googlenet::model::weights::Weights;
use googlenet::plan::{ConcatMode, Input};
use reference::{Values, evaluate};

pub const CPU: Options = Options {
    backend: Backend::Cpu,
    threads: None,
    check: None,
    half: false,
    concat: ConcatMode::InPlace,
    #[cfg(feature = "train")]
    gradients: false,
    kernels: None,
};
/// A GPU or software adapter with the kernels for GPUs.
pub const HARDWARE: Options = Options { backend: Backend::Gpu, kernels: Some(KernelSet::Hardware), ..CPU };
/// A GPU or software adapter with the kernels for software adapters.
pub const SOFTWARE: Options = Options { backend: Backend::Gpu, kernels: Some(KernelSet::Software), ..CPU };

/// The engines to test.
pub const ENGINES: [Options; 3] = [CPU, HARDWARE, SOFTWARE];

/// The name of one of [`ENGINES`] in messages.
pub fn name(options: Options) -> &'static str {
    match (options.backend, options.kernels) {
        (Backend::Cpu, _) => "the CPU",
        (_, Some(KernelSet::Hardware)) => "the GPU by hardware's kernels",
        (_, Some(KernelSet::Software)) => "the GPU by software's kernels",
        (_, None) => "the GPU",
    }
}

/// A weight tensor: name, dimensions, values.
pub type Named = (String, Vec<usize>, Vec<f32>);

/// Two values agree if `|a - b| <= atol + rtol * |b|`.
#[derive(Debug, Clone, Copy)]
pub struct Tolerance {
    pub atol: f64,
    pub rtol: f64,
}

impl Tolerance {
    /// For one operation on values around 1: f32 sums of up to a few thousand products, and powers, which GPUs compute
    /// to about 1e-5.
    pub const OP: Tolerance = Tolerance { atol: 2e-5, rtol: 1e-4 };
    /// For several consecutive layers.
    pub const LAYERS: Tolerance = Tolerance { atol: 1e-4, rtol: 1e-3 };

    pub fn holds(&self, a: f64, b: f64) -> bool {
        // Equal infinities agree. NaN agrees with nothing.
        a == b || (a - b).abs() <= self.atol + self.rtol * b.abs()
    }
}

/// A network, its inputs and its expected outputs.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    pub network: Network,
    pub weights: Vec<Named>,
    pub inputs: Vec<Tensor>,
    /// Branches and their gains. The gain of all others is 1.
    pub gains: Vec<(String, f32)>,
    pub expected: Vec<(String, Values)>,
    pub tolerance: Tolerance,
}

impl Case {
    /// A case that expects the reference's output of every node.
    pub fn new(name: &str, network: Network, weights: Vec<Named>, inputs: Vec<Tensor>) -> Self {
        let case = Case {
            name: name.to_owned(),
            network,
            weights,
            inputs,
            gains: Vec::new(),
            expected: Vec::new(),
            tolerance: Tolerance::OP,
        };
        case.expecting()
    }

    pub fn with_gains(self, gains: &[(&str, f32)]) -> Self {
        let gains = gains.iter().map(|(branch, gain)| (branch.to_string(), *gain)).collect();
        Case { gains, ..self }.expecting()
    }

    pub fn within(self, tolerance: Tolerance) -> Self {
        Case { tolerance, ..self }
    }

    fn expecting(mut self) -> Self {
        self.expected = evaluate(&self.network, &self.weights, &self.inputs, &self.gains);
        self
    }

    pub fn model(&self) -> Result<Model, String> {
        let weights = Weights::from_tensors(self.weights.clone()).map_err(|e| self.say(&e))?;
        Model::from_network(self.network.clone(), weights).map_err(|e| self.say(&e))
    }

    /// Loads the case's model on a new engine.
    pub async fn load(&self, options: Options) -> Result<Engine, String> {
        Engine::with(self.model()?, options).await.map_err(|e| self.say(&e))
    }

    /// Runs the case on a new engine, and returns the engine.
    pub async fn run(&self, options: Options) -> Result<Engine, String> {
        let mut engine = self.load(options).await?;
        for (branch, gain) in &self.gains {
            engine.set_gain(branch, *gain).map_err(|e| self.say(&e))?;
        }
        self.run_on(&mut engine).await?;
        Ok(engine)
    }

    /// Runs the case's inputs on an engine with its model.
    pub async fn run_on(&self, engine: &mut Engine) -> Result<(), String> {
        let inputs: Vec<&Tensor> = self.inputs.iter().collect();
        engine.run_input(Input::Tensors(&inputs)).await.map_err(|e| self.say(&e))?;
        Ok(())
    }

    /// Compares all expected outputs with those of the engine.
    pub async fn compare(&self, engine: &Engine) -> Result<(), String> {
        for (node, expected) in &self.expected {
            let got = engine.read(node).await.map_err(|e| self.say(&e))?;
            compare(&got, expected, self.tolerance).map_err(|e| format!("{}, node \"{node}\": {e}", self.name))?;
        }
        Ok(())
    }

    fn say(&self, error: &googlenet::Error) -> String {
        format!("{}: {error}", self.name)
    }

    fn unchanged(&self) -> String {
        format!("{}: no change of a weight or input shows in the reference", self.name)
    }

    /// The case with one changed weight or input value, such that the output of the reference changes.
    fn perturbed(&self) -> Option<Case> {
        let mut rng = Rng::new(self.expected.len() as u64 + 7);
        for _ in 0..64 {
            let mut case = self.clone();
            let values = match rng.below(case.weights.len().max(1) * 2) {
                i if i < case.weights.len() => &mut case.weights[i].2,
                _ => &mut case.inputs[0].data,
            };
            let i = rng.below(values.len());
            values[i] += 3.0 + values[i].abs();
            case = case.expecting();
            // The expected outputs may come from elsewhere, so the reference is computed for the original case as well.
            let before = self.clone().expecting();
            let differs = before.expected.iter().zip(&case.expected).any(|((name, a), (_, b))| {
                let doubled = Tolerance { atol: 2.0 * self.tolerance.atol, rtol: 2.0 * self.tolerance.rtol };
                self.expected.iter().any(|(n, _)| n == name)
                    && a.data.iter().zip(&b.data).any(|(a, b)| !doubled.holds(*b, *a))
            });
            if differs {
                case.expected = self.expected.clone();
                return Some(case);
            }
        }
        None
    }
}

/// Runs the case and compares its outputs. Then changes one value, and checks that the comparison fails.
pub async fn check(options: Options, case: &Case) -> Result<(), String> {
    let on = |e: String| format!("on {}: {e}", name(options));
    case.compare(&case.run(options).await.map_err(on)?).await.map_err(on)?;
    let perturbed = case.perturbed().ok_or_else(|| case.unchanged())?;
    match perturbed.compare(&perturbed.run(options).await.map_err(on)?).await {
        Ok(()) => Err(on(format!("{}: the comparison held although a value was changed", case.name))),
        Err(_) => Ok(()),
    }
}

/// Runs the case with each candidate of its convolutions' kernels, and compares the outputs each time. Also checks that
/// the comparison with a perturbed case fails. Returns the number of candidates.
#[cfg(not(target_arch = "wasm32"))]
pub async fn check_candidates(options: Options, case: &Case) -> Result<usize, String> {
    let mut engine = case.run(options).await?;
    let perturbed = case.perturbed().ok_or_else(|| case.unchanged())?.expecting();
    let mut count = 1;
    let mut i = 0;
    while i < count {
        let on = |e: String| format!("on {}, candidate {i}: {e}", name(options));
        count = engine.set_candidate(i).map_err(|e| on(case.say(&e)))?.unwrap_or(0);
        case.run_on(&mut engine).await.map_err(on)?;
        case.compare(&engine).await.map_err(on)?;
        if perturbed.compare(&engine).await.is_ok() {
            return Err(on(format!("{}: the comparison held for what a changed value gives", case.name)));
        }
        i += 1;
    }
    Ok(count)
}

/// Compares element by element. The error reports the worst element.
pub fn compare(got: &Tensor, expected: &Values, tolerance: Tolerance) -> Result<(), String> {
    if got.shape != expected.shape {
        return Err(format!("the shape is {}, expected {}", got.shape, expected.shape));
    }
    let pairs = || got.data.iter().map(|&a| a as f64).zip(expected.data.iter().copied());
    let wrong = pairs().filter(|&(a, b)| !tolerance.holds(a, b)).count();
    if wrong == 0 {
        return Ok(());
    }
    let excess = |(a, b): (f64, f64)| match (a - b).abs() / (tolerance.atol + tolerance.rtol * b.abs()) {
        e if e.is_nan() => f64::INFINITY,
        e => e,
    };
    let (i, (a, b)) = pairs()
        .enumerate()
        .filter(|&(_, (a, b))| !tolerance.holds(a, b))
        .max_by(|x, y| excess(x.1).total_cmp(&excess(y.1)))
        .expect("there is a wrong element");
    let Shape { h, w, c, .. } = got.shape;
    Err(format!(
        "{wrong} of {} elements differ; worst at n {} y {} x {} c {}: got {a:e}, expected {b:e} (off by {:.1e}, {:.1} \
         times atol {:e} + rtol {:e})",
        got.data.len(),
        i / (h * w * c),
        i / (w * c) % h,
        i / c % w,
        i % c,
        (a - b).abs(),
        excess((a, b)),
        tolerance.atol,
        tolerance.rtol,
    ))
}

/// A random number generator with the same numbers on every machine (SplitMix64).
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `n - 1`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number from -1 to 1.
    pub fn signed(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.signed()).collect()
    }

    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor { shape, data: self.values(shape.len()) }
    }
}
