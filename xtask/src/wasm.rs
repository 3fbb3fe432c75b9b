//! Rust to WebAssembly: compile, bind, optimise.

use crate::{page, repo, shell};
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the engine may weigh as the page ships it: the 488,000 bytes it measured, plus 15 %.
const BUDGET: usize = 561_000;

/// Builds the engine into `www/src/wasm`.
pub fn build() -> Result<()> {
    page::install()?;
    let tools = bindgen()?;
    shell::run(&mut shell::cargo(&["build", "--profile=wasm", "--target=wasm32-unknown-unknown", "--lib"]))?;
    let compiled = repo::target().join("wasm32-unknown-unknown/wasm/googlenet.wasm");
    let out = repo::www().join("src/wasm");
    let bound = out.join("googlenet_bg.wasm");
    if is_newer(&bound, &compiled) {
        return Ok(());
    }
    let raw = repo::target().join("bindgen");
    shell::run(
        Command::new(tools.join("wasm-bindgen"))
            .args(["--target", "web", "--out-name", "googlenet", "--out-dir"])
            .arg(&raw)
            .arg(&compiled),
    )?;
    fs::create_dir_all(&out)?;
    for name in ["googlenet.js", "googlenet.d.ts"] {
        fs::copy(raw.join(name), out.join(name)).with_context(|| format!("cannot copy {name}"))?;
    }
    shell::run(
        shell::node_script("binaryen/bin/wasm-opt")
            .args(["-O3", "--enable-simd", "--enable-bulk-memory", "--enable-nontrapping-float-to-int"])
            .args(["--enable-sign-ext", "--enable-mutable-globals", "--enable-reference-types", "--enable-multivalue"])
            .arg(raw.join("googlenet_bg.wasm"))
            .arg("-o")
            .arg(&bound),
    )
}

/// Says what the built engine weighs, and fails over the budget.
pub fn check_size() -> Result<()> {
    let path = repo::www().join("src/wasm/googlenet_bg.wasm");
    let bytes = fs::read(&path).with_context(|| format!("there is no {}", path.display()))?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&bytes)?;
    println!("wasm: {} bytes, {} gzipped; budget {BUDGET}", bytes.len(), gzip.finish()?.len());
    if bytes.len() > BUDGET {
        bail!("the engine is {} bytes over its budget", bytes.len() - BUDGET);
    }
    Ok(())
}

/// The folder of wasm-bindgen's programs at the version the crate is locked to, installed if need be.
pub fn bindgen() -> Result<PathBuf> {
    let version = locked("wasm-bindgen")?;
    let root = repo::target().join("tools");
    let bin = root.join("bin");
    let found = shell::output(Command::new(bin.join("wasm-bindgen")).arg("--version"));
    if found.as_deref() != Some(&format!("wasm-bindgen {version}")) {
        // Without --locked: the lock file it was published with names a dependency that not every mirror has.
        shell::run(shell::cargo(&["install", "wasm-bindgen-cli", "--version", &version, "--root"]).arg(root))?;
    }
    Ok(bin)
}

/// The version of a package in Cargo.lock.
fn locked(package: &str) -> Result<String> {
    let lock = fs::read_to_string(repo::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    let mut lines = lock.lines().skip_while(|line| *line != format!("name = \"{package}\""));
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.map(str::to_owned).with_context(|| format!("Cargo.lock has no {package}"))
}

fn is_newer(a: &Path, b: &Path) -> bool {
    let time = |path: &Path| path.metadata().and_then(|m| m.modified());
    matches!((time(a), time(b)), (Ok(a), Ok(b)) if a > b)
}
