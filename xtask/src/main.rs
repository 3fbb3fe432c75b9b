//! The commands of the repository: `cargo xtask start`, `test`, `pack`, `model`, `accuracy`, `screenshots`, `soak`,
//! `bench`, `fuzz` and `licences`. They need only rustup and Node, and install everything else.

#![forbid(unsafe_code)]

mod accuracy;
mod ahead;
mod bench;
mod bench_train;
mod browsers;
mod budgets;
mod bundled;
mod fetch;
mod fuzz;
mod imagenet;
mod imports;
mod jobs;
mod licences;
mod models;
mod package;
mod page;
mod python;
mod repo;
mod screenshots;
mod server;
mod shell;
mod soak;
mod start;
mod test;
mod wasm;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, serve and test GoogLeNet for the web")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build, and serve the page
    Start(start::Options),
    /// Install what is missing, and run the tests
    Test(test::Options),
    /// Build, pack and check the npm package
    Pack,
    /// Make another model for the page
    #[command(subcommand)]
    Model(Model),
    /// Measure the bundled model on the 10,000 test pictures of CIFAR-10
    Accuracy(accuracy::Options),
    /// Take a screenshot of every view of the page
    Screenshots,
    /// Use the page at random for a while, and check that it keeps working
    Soak(soak::Options),
    /// Compare the engine's speed with other runtimes
    #[command(subcommand)]
    Bench(Bench),
    /// Run every parser, the picture decoder and the plan builder on random input
    Fuzz(fuzz::Options),
    /// Check the licences of all dependencies
    Licences,
}

#[derive(Subcommand)]
enum Bench {
    /// The CPU engine in Chromium, compared with all WebAssembly runtimes and the limits of the machine
    Cpu(bench::Options),
    /// The GPU engine in Firefox and Chromium, compared with all WebGPU runtimes
    Gpu(bench::GpuOptions),
    /// Training steps, natively in turn with PyTorch, and in Chromium
    Train(bench_train::Options),
}

#[derive(Subcommand)]
enum Model {
    /// Make the bundled model from the result of a training
    Cifar10(bundled::Options),
    /// Make a model of the BVLC GoogLeNet with 1000 classes
    Imagenet(imagenet::Options),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Start(options) => start::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Pack => package::run(),
        Command::Model(Model::Cifar10(options)) => bundled::run(&options),
        Command::Model(Model::Imagenet(options)) => imagenet::run(&options),
        Command::Accuracy(options) => accuracy::run(&options),
        Command::Screenshots => screenshots::run(),
        Command::Soak(options) => soak::run(&options),
        Command::Bench(Bench::Cpu(options)) => bench::cpu(&options),
        Command::Bench(Bench::Gpu(options)) => bench::gpu(&options),
        Command::Bench(Bench::Train(options)) => bench_train::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Licences => licences::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
