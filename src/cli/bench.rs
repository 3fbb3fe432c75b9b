//! `googlenet bench`: measures the time of a network and of each of its steps on this machine.

mod train;

use super::common::milliseconds;
use super::tuned;
use googlenet::engine::{Backend, Engine, Options};
use googlenet::gpu::Peak;
use googlenet::graph::network::{Network, NodeId};
use googlenet::graph::tensor::Tensor;
use googlenet::plan::Input;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Measure the time of networks on this machine, and of each of their steps
#[derive(clap::Args)]
pub struct Args {
    /// Safetensors models
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// cpu or gpu; the GPU may be one that is emulated on the CPU
    #[arg(long, default_value = "gpu")]
    backend: Backend,
    /// Number of pictures in each run
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZeroUsize,
    /// Number of measured runs
    #[arg(long, value_name = "N", default_value = "30")]
    rounds: NonZeroUsize,
    /// Number of runs before them that are not measured
    #[arg(long, value_name = "N", default_value_t = 10)]
    warm_up: usize,
    /// Number of threads on the CPU [default: the number of cores, at most 8]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Compute in half precision if the GPU can
    #[arg(long)]
    f16: bool,
    /// Measure training steps instead: a forward run, a backward run, and the change of the weights
    #[arg(long, conflicts_with_all = ["f16", "layers", "tune", "no_tune"])]
    train: bool,
    /// Also print each step
    #[arg(long)]
    layers: bool,
    /// Measure first which kernels are fastest on this GPU, and save the result
    #[arg(long)]
    tune: bool,
    /// Ignore saved measurements of the fastest kernels
    #[arg(long, conflicts_with = "tune")]
    no_tune: bool,
    /// Write the measurements as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The measurements that are written as JSON.
#[derive(Default, Serialize)]
struct Report {
    machine: String,
    browser: &'static str,
    rows: Vec<Row>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    training: Vec<train::Row>,
}

/// The measurements of one model.
#[derive(Serialize)]
struct Row {
    runtime: String,
    version: &'static str,
    variant: &'static str,
    adapter: String,
    f16: bool,
    threads: usize,
    batch: usize,
    median_ms: f64,
    min_ms: f64,
    /// Milliseconds of the first run. A GPU has compiled its kernels before it.
    first_ms: f64,
    /// Milliseconds from the parsed model to an engine that can run.
    load_ms: f64,
    /// GFLOP/s of the median run, with the operations of direct convolutions, where a multiply-add counts as two.
    gflops: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak: Option<Peak>,
    /// Empty where the adapter cannot time steps.
    steps: Vec<Step>,
}

/// The measurements of one layer, for the whole batch.
#[derive(Serialize)]
struct Step {
    node: String,
    /// The median time in milliseconds.
    ms: f64,
    /// Multiply-adds of direct convolutions.
    macs: u64,
    /// The size of its inputs, parameters and output, each counted once.
    bytes: u64,
}

pub fn run(args: Args) -> super::common::Result {
    // The file is created first, so that a wrong path fails before anything is measured.
    let into = match &args.json {
        Some(path) => Some((path, fs::File::create(path).map_err(|e| super::common::in_file(path, e))?)),
        None => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let machine = format!("{cores} cores, {} {}", std::env::consts::OS, std::env::consts::ARCH);
    let mut report = Report { machine, browser: "native", rows: Vec::new(), training: Vec::new() };
    let mut printed = Ok(());
    for path in &args.models {
        if args.train {
            let Args { backend, threads, .. } = args;
            let settings = train::Settings { backend, threads, batch: args.batch.get(), rounds: args.rounds.get() };
            let row = pollster::block_on(train::measure(path, &settings))?;
            printed = printed.and(row.print().map_err(Into::into));
            report.training.push(row);
            continue;
        }
        let row = pollster::block_on(measure(path, &args))?;
        // After a closed pipe, the remaining models are still measured for the file.
        printed = printed.and(row.print(args.layers));
        report.rows.push(row);
    }
    if let Some((path, file)) = into {
        serde_json::to_writer_pretty(file, &report).map_err(|e| super::common::in_file(path, e))?;
    }
    printed.map(|()| ExitCode::SUCCESS)
}

async fn measure(path: &Path, args: &Args) -> super::common::Result<Row> {
    let model = super::common::load(path)?.without_heads()?;
    let variant = model.spec.variant.name();
    let options = Options { backend: args.backend, threads: args.threads, half: args.f16, ..Options::default() };
    let start = Instant::now();
    let mut engine = Engine::with(model, options).await.map_err(|e| super::common::in_file(path, e))?;
    let load_ms = milliseconds(start);
    if !args.no_tune {
        tuned::recall(&mut engine).await;
    }
    let batch = args.batch.get();
    let network = &engine.model().network;
    let shape = network.inputs().next().map(|id| network.node(id).shape).ok_or("the network has no input")?;
    let shape = shape.with_batch(batch);
    // Arbitrary values in the range of a preprocessed picture.
    let values = (0..shape.len()).map(|i| (i * 7919 % 251) as f32 - 125.0).collect();
    let input = Tensor::new(shape, values)?;

    let first_ms = time(&mut engine, &input).await?;
    if args.tune {
        tuned::tune(&mut engine).await?;
    }
    for _ in 0..args.warm_up {
        time(&mut engine, &input).await?;
    }
    let mut times = Vec::new();
    for _ in 0..args.rounds.get() {
        times.push(time(&mut engine, &input).await?);
    }
    let steps = steps(&mut engine, &input, args.rounds.get()).await?;
    let median_ms = median(&mut times);
    let network = &engine.model().network;
    let macs: u64 = (0..network.nodes().len()).map(|id| network.macs(id) * batch as u64).sum();
    let info = engine.info();
    Ok(Row {
        runtime: format!("googlenet-web native {}", info.backend),
        version: env!("CARGO_PKG_VERSION"),
        variant,
        adapter: info.adapter.clone(),
        f16: info.f16,
        threads: info.threads,
        batch,
        median_ms,
        min_ms: times[0],
        first_ms,
        load_ms,
        gflops: macs as f64 * 2.0 / median_ms / 1e6,
        peak: engine.gpu_peak().await?,
        steps,
    })
}

/// Milliseconds from a preprocessed input to its probabilities.
async fn time(engine: &mut Engine, input: &Tensor) -> super::common::Result<f64> {
    let start = Instant::now();
    engine.run_input(Input::Tensors(&[input])).await?;
    Ok(milliseconds(start))
}

/// The median times of the steps in `rounds` more runs. These runs are not counted as measured runs, as timing the
/// steps makes them slower.
async fn steps(engine: &mut Engine, input: &Tensor, rounds: usize) -> super::common::Result<Vec<Step>> {
    engine.set_timed(true);
    let mut times: BTreeMap<NodeId, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        for step in engine.run_input(Input::Tensors(&[input])).await?.steps {
            times.entry(step.node).or_default().push(step.ms);
        }
    }
    engine.set_timed(false);
    let network = &engine.model().network;
    let batch = input.shape.n as u64;
    let step = |(node, mut ms): (NodeId, Vec<f64>)| Step {
        node: network.node(node).name.clone(),
        ms: median(&mut ms),
        macs: network.macs(node) * batch,
        bytes: numbers(network, node, batch) * if engine.info().f16 { 2 } else { 4 },
    };
    Ok(times.into_iter().map(step).collect())
}

/// The number of values that a step reads and writes, including parameters.
fn numbers(network: &Network, node: NodeId, batch: u64) -> u64 {
    let values = |id: NodeId| network.node(id).shape.per_image() as u64 * batch;
    let read: u64 = network.node(node).inputs.iter().map(|&id| values(id)).sum();
    read + network.params(node) as u64 + values(node)
}

/// The median, for which the times are sorted in place.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

impl Row {
    fn print(&self, layers: bool) -> super::common::Result<()> {
        let mut out = stdout().lock();
        let Row { runtime, variant, adapter, threads, batch, median_ms, min_ms, first_ms, load_ms, gflops, .. } = self;
        let threads = if *threads > 1 { format!(", {threads} threads") } else { String::new() };
        let f16 = if self.f16 { ", f16" } else { "" };
        writeln!(out, "{runtime}, {variant}, batch {batch}: {adapter}{threads}{f16}")?;
        writeln!(out, "  {median_ms:.2} ms (minimum {min_ms:.2}, first {first_ms:.1}, loaded in {load_ms:.0} ms)")?;
        write!(out, "  {gflops:.1} GFLOP/s, counted as direct convolutions")?;
        if let Some(Peak { gflops: most, copy_gb_s }) = self.peak {
            let part = 100.0 * gflops / most;
            write!(out, ": {part:.0} % of the adapter's measured peak of {most:.0}; it copies {copy_gb_s:.1} GB/s")?;
        }
        writeln!(out)?;
        if !layers {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<30} {:>8} {:>8} {:>8} {:>7} {:>8} {:>7} {:>7}",
            "step", "ms", "M macs", "GFLOP/s", "of peak", "MB", "GB/s", "of copy"
        )?;
        let share = |of: f64, peak: fn(&Peak) -> f64| {
            self.peak.as_ref().map_or(String::new(), |best| format!("{:.0} %", 100.0 * of / peak(best)))
        };
        for Step { node, ms, macs, bytes } in &self.steps {
            let gflops = *macs as f64 * 2.0 / ms / 1e6;
            let gb_s = *bytes as f64 / ms / 1e6;
            let (of_peak, of_copy) = (share(gflops, |p| p.gflops), share(gb_s, |p| p.copy_gb_s));
            let (macs, mb) = (*macs as f64 / 1e6, *bytes as f64 / 1e6);
            writeln!(
                out,
                "{node:<30} {ms:>8.3} {macs:>8.1} {gflops:>8.1} {of_peak:>7} {mb:>8.2} {gb_s:>7.1} {of_copy:>7}"
            )?;
        }
        let all: f64 = self.steps.iter().map(|step| step.ms).sum();
        writeln!(out, "{:<30} {all:>8.3}\n", "all steps")?;
        Ok(())
    }
}
