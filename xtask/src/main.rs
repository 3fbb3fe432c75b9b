//! The only entry points: `cargo xtask start` and `cargo xtask test`. Nothing else has to be typed on a
//! machine that has rustup and Node.

mod browsers;
mod models;
mod page;
mod repo;
mod server;
mod shell;
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
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Start(options) => start::run(&options),
        Command::Test(options) => test::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
