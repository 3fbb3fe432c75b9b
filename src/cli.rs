//! The subcommands. They print results on stdout, and one line for each failure on stderr.

mod accuracy;
mod bench;
mod classify;
mod convert;
mod import;
mod plan;
mod summary;
mod trace;
mod tuned;

use clap::Parser;
use clap::error::ErrorKind;
use googlenet::model::Model;
use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// The result of a subcommand: its exit code, or the error that ended it.
type Result<T = ExitCode> = std::result::Result<T, Box<dyn Error>>;

/// GoogLeNet (Inception v1) on the GPU, or on the CPU if there is no GPU.
#[derive(Parser)]
#[command(name = "googlenet", version, arg_required_else_help = true)]
enum Command {
    Classify(classify::Args),
    Summary(summary::Args),
    Plan(plan::Args),
    Import(import::Args),
    Convert(convert::Args),
    Bench(bench::Args),
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
        Command::Bench(args) => bench::run(args),
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

/// Prints a failure as one line on stderr.
fn complain(reason: &str) {
    let words: Vec<&str> = reason.split_whitespace().collect();
    eprintln!("googlenet: {}", words.join(" "));
}

/// Loads a model file, and prints the notes about what was assumed on stderr.
fn load(path: &Path) -> Result<Model> {
    let model = Model::from_bytes(read(path)?).map_err(|e| in_file(path, e))?;
    for note in &model.notes {
        eprintln!("note: {note}");
    }
    Ok(model)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| in_file(path, e))
}

/// Adds the file's path to an error.
fn in_file(path: &Path, error: impl Error) -> Box<dyn Error> {
    format!("{}: {error}", path.display()).into()
}
