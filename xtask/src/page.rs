//! The page, which is built of the package: what npm installs, what TypeScript checks, what Vite builds.

use crate::jobs::Job;
use crate::{package, repo, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The oldest Node that everything in package.json runs on.
const NODE: u32 = 20;

/// Installs the npm packages, unless they are those of package-lock.json already.
pub fn install() -> Result<()> {
    install_in(&repo::www())
}

/// The same of another folder with a package-lock.json. Concurrent callers wait for the first one.
pub fn install_in(folder: &Path) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    check_node()?;
    let lock = fs::read(folder.join("package-lock.json"));
    let lock = lock.with_context(|| format!("cannot read package-lock.json of {}", folder.display()))?;
    let stamp = folder.join("node_modules/.installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    Job::run(package::npm().args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))?;
    fs::write(stamp, lock).context("cannot write into node_modules")
}

/// Checks the types; those of the package are the built ones.
pub fn check() -> Result<()> {
    package::build()?;
    shell::run(shell::node_script("typescript/bin/tsc").args(["--noEmit"]))
}

/// Builds the package, and of it the page.
pub fn build() -> Result<()> {
    package::build()?;
    vite("production", &built())
}

/// Where the built page is.
pub fn built() -> PathBuf {
    repo::target().join("page")
}

/// Builds the tests' own page into `target/page-tests`.
pub fn build_tests() -> Result<()> {
    vite("tests", &repo::target().join("page-tests"))
}

/// Builds the page that measures.
pub fn build_bench(out: &Path) -> Result<()> {
    vite("bench", out)
}

/// Builds a page; `vite.config.ts` knows which by its mode.
fn vite(mode: &str, out: &Path) -> Result<()> {
    install()?;
    Job::run(
        shell::node_script("vite/bin/vite.js").args(["build", "--mode", mode, "--emptyOutDir", "--outDir"]).arg(out),
    )
}

/// The files of tests in a folder of `www`. Node's own ways of finding them differ from version to version.
pub fn tests(folder: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(repo::www().join(folder))?.collect::<Result<Vec<_>, _>>()?;
    let mut files: Vec<PathBuf> = entries.iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(".test.mjs"));
    files.sort();
    Ok(files)
}

fn check_node() -> Result<()> {
    let Some(version) = shell::output(Command::new("node").arg("--version")) else {
        bail!("Node.js is needed and not installed; take version {NODE} or later from https://nodejs.org");
    };
    let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE) {
        bail!("Node.js {NODE} or later is needed; this is {version}");
    }
    Ok(())
}
