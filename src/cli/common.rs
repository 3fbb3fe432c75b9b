//! What the subcommands share: their result, reading files, and messages for people.

use googlenet::model::Model;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
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

/// The error where there is no model, with what to do.
const NO_MODEL: &str = "there is no model: name one with --model, or set GOOGLENET_MODEL. BVLC's model of ImageNet's \
                        classes is at http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel, and `googlenet \
                        import bvlc_googlenet.caffemodel -o googlenet.safetensors` makes it a model file";

/// The default model: the one that `GOOGLENET_MODEL` names, otherwise the bundled one if it exists, otherwise BVLC's
/// model in the reference data if it exists.
pub fn default_model() -> Result<PathBuf> {
    let chosen = env::var_os("GOOGLENET_MODEL").filter(|path| !path.is_empty()).map(PathBuf::from);
    let bundled = Some(PathBuf::from("www/models/cifar10.safetensors"));
    let reference =
        env::var_os("GOOGLENET_REFERENCE").map(|dir| Path::new(&dir).join("imagenet/bvlc_googlenet.safetensors"));
    let path = chosen.or_else(|| [bundled, reference].into_iter().flatten().find(|path| path.is_file()));
    let Some(path) = path else {
        return Err(NO_MODEL.into());
    };
    eprintln!("note: using the model {}", path.display());
    Ok(path)
}
