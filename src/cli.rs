//! The subcommands. They print results on stdout, and one line for each failure on stderr.

mod accuracy;
mod bench;
mod classify;
mod common;
mod convert;
mod gradient;
mod import;
mod plan;
mod summary;
mod trace;
#[cfg(feature = "train")]
mod train;
mod tuned;

use clap::Parser;
use clap::error::ErrorKind;
use common::complain;
use std::io;
use std::process::ExitCode;

/// GoogLeNet (Inception v1) on the GPU, or on the CPU if there is no GPU.
#[derive(Parser)]
#[command(name = "googlenet", version, arg_required_else_help = true)]
enum Command {
    Classify(classify::Args),
    Summary(summary::Args),
    Plan(plan::Args),
    Import(import::Args),
    Convert(convert::Args),
    Gradient(gradient::Args),
    Bench(bench::Args),
    #[cfg(feature = "train")]
    Train(Box<train::Args>),
    #[command(hide = true)]
    Accuracy(accuracy::Args),
}

pub fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(e) => return usage(&e),
    };
    let result = match command {
        Command::Classify(args) => classify::run(args),
        Command::Summary(args) => summary::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Import(args) => import::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Gradient(args) => gradient::run(args),
        Command::Bench(args) => bench::run(args),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(*args),
        Command::Accuracy(args) => accuracy::run(args),
    };
    result.unwrap_or_else(|e| {
        // The reader closed the pipe, as in `googlenet summary | head`, which is no failure.
        let closed = e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        if closed {
            return ExitCode::SUCCESS;
        }
        complain(&e.to_string());
        ExitCode::FAILURE
    })
}

/// Prints help and version as clap does, and invalid arguments as one line.
fn usage(error: &clap::Error) -> ExitCode {
    let help = [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    if help.contains(&error.kind()) {
        error.exit();
    }
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or(&text);
    complain(&format!("{} (try --help)", reason.trim_start_matches("error: ")));
    ExitCode::from(2)
}
