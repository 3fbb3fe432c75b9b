//! `cargo xtask bench train`: the time of training steps, natively in turn with PyTorch, and in Chromium.

use crate::{browsers, page, python, repo, shell, test, wasm};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct Options {
    /// Write the results to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How often the programs run, in turn
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
    /// Number of measured steps of each run
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Number of pictures of a step
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// native, browser or both
    #[arg(long, value_name = "WHERE", default_value = "both", value_parser = ["native", "browser", "both"])]
    at: String,
    /// Measure the last build without building again
    #[arg(long)]
    no_build: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let mut results = Vec::new();
    if options.at != "browser" {
        native(options, &mut results)?;
    }
    if options.at != "native" {
        browser(options, &mut results)?;
    }
    if let Some(file) = &options.json {
        fs::write(file, serde_json::to_string_pretty(&json!({ "rows": results }))?)?;
    }
    Ok(())
}

/// The Keras network with its auxiliary heads, 224x224, in f32: ours, and PyTorch with its default layout and with NHWC.
fn native(options: &Options, results: &mut Vec<Value>) -> Result<()> {
    if !options.no_build {
        shell::run(&mut shell::cargo(&["build", "--profile=native", "--package=googlenet-web", "--bin=googlenet"]))?;
    }
    test::make_keras_model()?;
    let program = repo::target().join("native").join(format!("googlenet{}", env::consts::EXE_SUFFIX));
    let (python, script) = (python::ensure()?, repo::root().join("bench/train_torch.py"));
    let [batch, rounds] = [options.batch, options.rounds].map(|n| n.to_string());
    let mut rows: Vec<(String, u64, Vec<[f64; 3]>)> = Vec::new();
    let mut add = |row: &Value| -> Result<()> {
        let number = |name: &str| row[name].as_f64().with_context(|| format!("{name} is missing"));
        let times = [number("forward_ms")?, number("gradient_ms")?, number("step_ms")?];
        let (runtime, threads) = (row["runtime"].as_str().unwrap_or_default(), row["threads"].as_u64().unwrap_or(0));
        match rows.iter_mut().find(|(name, of, _)| name == runtime && *of == threads) {
            Some((.., all)) => all.push(times),
            None => rows.push((runtime.to_owned(), threads, vec![times])),
        }
        results.push(row.clone());
        Ok(())
    };
    for _ in 0..options.turns {
        for threads in ["1", "2"] {
            let into = repo::target().join("bench-train.json");
            let mut ours = Command::new(&program);
            ours.args(["bench", "--train", "--backend", "cpu", "--batch", &batch, "--rounds", &rounds]);
            ours.args(["--threads", threads, "--json"]).arg(&into).arg(test::keras_model());
            shell::output(&mut ours).context("googlenet bench --train failed")?;
            let report: Value = serde_json::from_slice(&fs::read(&into)?)?;
            add(&report["training"][0])?;
            for layout in [None, Some("--channels-last")] {
                let mut torch = Command::new(&python);
                torch.arg(&script).args(["--threads", threads, "--batch", &batch, "--rounds", &rounds]).args(layout);
                let line = shell::output(&mut torch).context("PyTorch failed")?;
                add(&serde_json::from_str(&line)?)?;
            }
        }
    }
    println!("Natively, milliseconds a picture, batches of {batch}, medians of {} turns:", options.turns);
    println!("| runtime | threads | forward | forward and backward | whole step | ours / it |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    let median = |all: &[[f64; 3]], i: usize| {
        let mut values: Vec<f64> = all.iter().map(|times| times[i]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ours = |threads: u64| {
        rows.iter()
            .find(|(name, of, _)| name.starts_with("googlenet") && *of == threads)
            .map(|(.., all)| median(all, 2))
    };
    for (runtime, threads, all) in &rows {
        let [forward, gradient, step] = [0, 1, 2].map(|i| median(all, i));
        let ratio = ours(*threads).filter(|_| !runtime.starts_with("googlenet")).map(|ours| ours / step);
        let ratio = ratio.map_or(String::new(), |ratio| format!("{ratio:.2}x"));
        println!("| {runtime} | {threads} | {forward:.1} | {gradient:.1} | {step:.1} | {ratio} |");
    }
    Ok(())
}

/// The bundled network with its auxiliary heads, in Chromium.
fn browser(options: &Options, results: &mut Vec<Value>) -> Result<()> {
    let browsers = browsers::ensure()?;
    if !options.no_build {
        wasm::build(wasm::Build::Release)?;
        wasm::build_tests(wasm::Build::Release)?;
        page::build()?;
        page::build_tests()?;
    }
    let mut command = Command::new("node");
    command.arg(repo::www().join("bench/run-train.mjs")).current_dir(repo::www());
    command.env("CHROMIUM", &browsers.chromium).env("FIREFOX", &browsers.firefox).env("XTASK", env::current_exe()?);
    command.env("PAGE_TESTS", repo::target().join("page-tests")).env("BENCH_ROUNDS", options.rounds.to_string());
    let into = repo::target().join("bench-train.json");
    shell::run(command.env("BENCH_JSON", &into))?;
    let rows: Vec<Value> = serde_json::from_slice(&fs::read(&into)?)?;
    results.extend(rows);
    Ok(())
}
