//! Subcommands, and how they end: answers on stdout, one line a failure on stderr.

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

/// A subcommand's end: its exit code, or the one thing that stopped it.
type Result<T = ExitCode> = std::result::Result<T, Box<dyn Error>>;

/// GoogLeNet (Inception v1) on the GPU, or on the CPU where there is none.
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
        // Whoever reads the output has seen enough: `googlenet summary | head`.
        let closed = e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        if closed {
            return ExitCode::SUCCESS;
        }
        complain(&e.to_string());
        ExitCode::FAILURE
    })
}

/// Help and version as they are; what is wrong with the arguments in one line.
fn usage(error: &clap::Error) -> ExitCode {
    let asked =
        [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    if asked.contains(&error.kind()) {
        error.exit();
    }
    let text = error.to_string();
    let reason = text.split("\n\n").next().unwrap_or(&text);
    complain(&format!("{} (try --help)", reason.trim_start_matches("error: ")));
    ExitCode::from(2)
}

/// One line on stderr.
fn complain(reason: &str) {
    let words: Vec<&str> = reason.split_whitespace().collect();
    eprintln!("googlenet: {}", words.join(" "));
}

/// Loads a model file; its notes about what was assumed go to stderr.
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

/// An error that names its file.
fn in_file(path: &Path, error: impl Error) -> Box<dyn Error> {
    format!("{}: {error}", path.display()).into()
}
