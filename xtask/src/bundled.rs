//! `cargo xtask model cifar10`: the bundled model's files from what training wrote.

use crate::{repo, shell};
use anyhow::Result;
use std::fs;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// The trained model, as tools/train_cifar10.py exports it
    file: PathBuf,
    /// Write an int8 copy too; worth it where `cargo xtask accuracy --model` finds it under 0.3 points worse
    #[arg(long)]
    int8: bool,
}

/// Each file with the options that make it of the trained one.
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
