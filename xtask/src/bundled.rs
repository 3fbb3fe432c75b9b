//! `cargo xtask model cifar10`: makes the files of the bundled model from a trained model.

use crate::{repo, shell};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// Trained model, as exported by tools/train_cifar10.py
    file: PathBuf,
    /// Also write an int8 copy; worthwhile if `cargo xtask accuracy --model` finds it less than 0.3 points worse
    #[arg(long)]
    int8: bool,
}

/// Each file, with the options of `convert` that make it from the trained model.
const FILES: [(&str, &[&str]); 3] = [
    ("cifar10", &["--dtype", "f16"]),
    ("cifar10-noheads", &["--dtype", "f16", "--no-heads"]),
    ("cifar10-int8", &["--dtype", "int8", "--no-heads", "--name", "GoogLeNet on CIFAR-10, int8"]),
];

pub fn run(options: &Options) -> Result<()> {
    let folder = repo::www().join("models");
    fs::create_dir_all(&folder)?;
    for (name, how) in FILES.iter().filter(|(name, _)| options.int8 || !name.ends_with("int8")) {
        let to = folder.join(format!("{name}.safetensors"));
        let mut convert = shell::googlenet(&["convert"]);
        shell::run(convert.args(*how).arg(options.file.canonicalize()?).arg("-o").arg(to))?;
    }
    Ok(())
}
