//! `googlenet plan`: prints the dispatches of a run on a GPU.

use googlenet::gpu::{Outline, outline};
use googlenet::graph::googlenet::{Spec, Variant};
use googlenet::plan::{ConcatMode, Plan};
use serde::Serialize;
use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;

/// Print the dispatches of a run on a GPU: kernel, layers, multiply-adds, workgroups
#[derive(clap::Args)]
pub struct Args {
    /// keras, keras_v2, caffe or torchvision
    #[arg(long, default_value = "keras")]
    variant: Variant,
    /// Number of classes
    #[arg(long, value_name = "N", default_value_t = 1000)]
    classes: usize,
    /// Without the auxiliary heads
    #[arg(long)]
    no_heads: bool,
    /// Number of pictures in each run
    #[arg(long, value_name = "N", default_value = "1")]
    batch: NonZeroUsize,
    /// Concatenate branches with a kernel, as for runs with a branch switched off
    #[arg(long)]
    gains: bool,
    /// The backend; only the GPU has dispatches
    #[arg(long, default_value = "gpu", value_parser = ["gpu"], hide_possible_values = true)]
    backend: String,
    /// Print one JSON object: {"steps": [{"op", "reads", "writes", "macs", "workgroups"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Steps {
    steps: Vec<Outline>,
}

pub fn run(args: Args) -> super::common::Result {
    let spec = Spec { variant: args.variant, classes: args.classes, heads: !args.no_heads, ..Spec::default() };
    let network = spec.build()?;
    let concat = if args.gains { ConcatMode::WithGains } else { ConcatMode::InPlace };
    let steps = outline(&network, &Plan::new(&network, args.batch.get(), concat)?)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&Steps { steps })?)?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{:>3}  {:<10} {:>10} {:>10}  layers", "", "kernel", "M macs", "workgroups")?;
    for (i, step) in steps.iter().enumerate() {
        let Outline { op, macs, workgroups, writes, .. } = step;
        writeln!(out, "{:>3}  {op:<10} {:>10.1} {workgroups:>10}  {}", i + 1, *macs as f64 / 1e6, writes.join(", "))?;
    }
    writeln!(out, "{} dispatches on a GPU whose kernels have not been measured", steps.len())?;
    Ok(ExitCode::SUCCESS)
}
