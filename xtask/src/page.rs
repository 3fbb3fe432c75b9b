//! The page: what npm installs, what TypeScript checks, what Vite builds.

use crate::{repo, shell};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest Node that everything in package.json runs on.
const NODE: u32 = 20;

/// Installs the npm packages, unless they are those of package-lock.json already.
pub fn install() -> Result<()> {
    check_node()?;
    let lock = fs::read(repo::www().join("package-lock.json")).context("cannot read www/package-lock.json")?;
    let stamp = repo::www().join("node_modules/.installed");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    shell::run(Command::new(npm).args(["ci", "--no-audit", "--no-fund"]).current_dir(repo::www()))?;
    fs::write(stamp, lock).context("cannot write into node_modules")
}

/// Checks the types.
pub fn check() -> Result<()> {
    install()?;
    shell::run(shell::node_script("typescript/bin/tsc").args(["--noEmit"]))
}

/// Builds the page into `www/dist`.
pub fn build() -> Result<()> {
    install()?;
    shell::run(shell::node_script("vite/bin/vite.js").arg("build"))
}

/// Builds the tests' own page into `target/page-tests`.
pub fn build_tests() -> Result<()> {
    build_other("tests", &repo::target().join("page-tests"))
}

/// Builds the page that measures.
pub fn build_bench(out: &Path) -> Result<()> {
    build_other("bench", out)
}

/// Builds another page than the one that people see; `vite.config.ts` knows it by its mode.
fn build_other(mode: &str, out: &Path) -> Result<()> {
    install()?;
    shell::run(
        shell::node_script("vite/bin/vite.js").args(["build", "--mode", mode, "--emptyOutDir", "--outDir"]).arg(out),
    )
}

/// The files of the page's tests. Node's own ways of finding them differ from version to version.
pub fn tests() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(repo::www().join("tests"))?.collect::<Result<Vec<_>, _>>()?;
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
