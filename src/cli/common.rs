//! What the subcommands share: their result, reading files, and messages for people.

use googlenet::model::Model;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// The result of a subcommand: its exit code, or the error that ended it.
pub type Result<T = ExitCode> = std::result::Result<T, Box<dyn Error>>;

/// Prints a failure as one line on stderr.
pub fn complain(reason: &str) {
    let words: Vec<&str> = reason.split_whitespace().collect();
    eprintln!("googlenet: {}", words.join(" "));
}

/// Loads a model file, and prints the notes about what was assumed on stderr.
pub fn load(path: &Path) -> Result<Model> {
    let model = Model::from_bytes(read(path)?).map_err(|e| in_file(path, e))?;
    for note in &model.notes {
        eprintln!("note: {note}");
    }
    Ok(model)
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| in_file(path, e))
}

/// Adds the file's path to an error.
pub fn in_file(path: &Path, error: impl Error) -> Box<dyn Error> {
    format!("{}: {error}", path.display()).into()
}

/// The milliseconds since `start`.
pub fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
