//! `googlenet bench --train`: measures the time of training steps.

use crate::cli::common::{self, milliseconds};
use googlenet::engine::gradient::{Objective, Wrt};
use googlenet::engine::training::Update;
use googlenet::engine::{Backend, Engine, Options};
use googlenet::graph::tensor::Tensor;
use googlenet::plan::Input;
use googlenet::plan::optimiser::Rule;
use googlenet::plan::random::DropoutKey;
use serde::Serialize;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Instant;

/// The measurements of one model, in milliseconds a picture.
#[derive(Serialize)]
pub struct Row {
    runtime: String,
    variant: &'static str,
    adapter: String,
    threads: usize,
    batch: usize,
    /// The medians of a forward run, of a forward and a backward run, and of the change of the weights.
    forward_ms: f64,
    gradient_ms: f64,
    update_ms: f64,
    /// The median of whole steps, and the fastest.
    step_ms: f64,
    least_step_ms: f64,
    /// The peak resident memory of the process in MB, where the system tells it.
    peak_mb: Option<u64>,
}

/// What is measured.
pub struct Settings {
    pub backend: Backend,
    pub threads: Option<NonZeroUsize>,
    pub batch: usize,
    pub rounds: usize,
}

pub async fn measure(path: &Path, settings: &Settings) -> common::Result<Row> {
    let model = common::load(path)?;
    let variant = model.spec.variant.name();
    let options =
        Options { backend: settings.backend, threads: settings.threads, gradients: true, ..Options::default() };
    let mut engine = Engine::with(model, options).await.map_err(|e| common::in_file(path, e))?;
    let batch = settings.batch;
    let network = &engine.model().network;
    let shape = network.inputs().next().map(|id| network.node(id).shape).ok_or("the network has no input")?;
    let shape = shape.with_batch(batch);
    // Arbitrary values in the range of a preprocessed picture.
    let input = Tensor::new(shape, (0..shape.len()).map(|i| (i * 7919 % 251) as f32 - 125.0).collect())?;
    let input = Input::Tensors(&[&input]);
    let heads: Vec<String> = network.heads().iter().map(|head| head.name.clone()).collect();
    let heads: Vec<(&str, f32)> =
        heads.iter().map(|name| (name.as_str(), if name == "loss3" { 1.0 } else { 0.3 })).collect();
    let classes: Vec<usize> = (0..batch).map(|i| i % engine.model().spec.classes).collect();
    let loss = Objective::Loss { classes: &classes, heads: &heads, smoothing: 0.0 };
    let (mut forward, mut gradient, mut update, mut step) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..settings.rounds + 2 {
        let start = Instant::now();
        engine.run_input(input).await?;
        let forward_ms = milliseconds(start);
        let start = Instant::now();
        let key = DropoutKey { seed: round as u32, first: 0 };
        engine.accumulate(input, &loss, Wrt::Weights, key, true).await?;
        let gradient_ms = milliseconds(start);
        let start = Instant::now();
        // So small a rate leaves the weights of a trained model almost as they are.
        let change =
            Update { rule: Rule::default(), rate: 1e-9, step: round as u64, scale: 1.0, clip: None, average: None };
        engine.update(&change).await?;
        let update_ms = milliseconds(start);
        if round >= 2 {
            forward.push(forward_ms / batch as f64);
            gradient.push(gradient_ms / batch as f64);
            update.push(update_ms / batch as f64);
            step.push((gradient_ms + update_ms) / batch as f64);
        }
    }
    let info = engine.info();
    Ok(Row {
        runtime: format!("googlenet-web {}", info.backend),
        variant,
        adapter: info.adapter.clone(),
        threads: info.threads,
        batch,
        forward_ms: median(&mut forward),
        gradient_ms: median(&mut gradient),
        update_ms: median(&mut update),
        least_step_ms: step.iter().copied().fold(f64::INFINITY, f64::min),
        step_ms: median(&mut step),
        peak_mb: peak_mb(),
    })
}

impl Row {
    pub fn print(&self) -> std::io::Result<()> {
        let Row { runtime, variant, adapter, threads, batch, forward_ms, gradient_ms, .. } = self;
        let Row { update_ms, step_ms, least_step_ms, peak_mb, .. } = self;
        let mut out = stdout();
        writeln!(
            out,
            "{variant}, {runtime} ({adapter}), {threads} threads, batches of {batch}; milliseconds a picture"
        )?;
        writeln!(out, "  forward               {forward_ms:8.2}")?;
        writeln!(
            out,
            "  forward and backward  {gradient_ms:8.2}   {:.2} times a forward run",
            gradient_ms / forward_ms
        )?;
        writeln!(out, "  change of the weights {update_ms:8.2}")?;
        writeln!(out, "  whole step            {step_ms:8.2}   the fastest {least_step_ms:.2}")?;
        match peak_mb {
            Some(mb) => writeln!(out, "  peak memory           {mb:8} MB"),
            None => Ok(()),
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// The peak resident memory of this process, where the system has `/proc`.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? / 1000)
}
