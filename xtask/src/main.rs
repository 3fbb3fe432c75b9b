//! The only entry points: `cargo xtask start`, `test`, `pack`, `model`, `accuracy`, `screenshots`, `soak`, `bench`, `fuzz`
//! and `licences`. Nothing else has to be typed on a machine that has rustup and Node.

#![forbid(unsafe_code)]

mod accuracy;
mod ahead;
mod bench;
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
    /// Install what is missing and run every test there is
    Test(test::Options),
    /// Build the npm package, pack and check it
    Pack,
    /// Get another model for the page
    #[command(subcommand)]
    Model(Model),
    /// Measure the bundled model on CIFAR-10's 10,000 test pictures
    Accuracy(accuracy::Options),
    /// Take a picture of every view of the page
    Screenshots,
    /// Use the page at random, and watch that it keeps working
    Soak(soak::Options),
    /// Measure the engine against others
    #[command(subcommand)]
    Bench(Bench),
    /// Run every parser, the picture path and the plan builder against made-up input
    Fuzz(fuzz::Options),
    /// Check the licences of everything that is depended on
    Licences,
}

#[derive(Subcommand)]
enum Bench {
    /// The CPU path in Chromium, against every WebAssembly peer and the machine's own limit
    Cpu(bench::Options),
    /// The GPU path in Firefox and in Chromium, against every WebGPU peer
    Gpu(bench::GpuOptions),
}

#[derive(Subcommand)]
enum Model {
    /// The bundled model, from a training's result
    Cifar10(bundled::Options),
    /// BVLC's GoogLeNet: a thousand classes
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
