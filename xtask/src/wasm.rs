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

/// What is built: the file cargo makes, and what it is called in `www/src/wasm`. The page fetches the
/// importers only when it needs them.
const MODULES: [[&str; 2]; 2] = [["googlenet", "googlenet"], ["googlenet_importers", "importers"]];

/// Builds the engine and the importers into `www/src/wasm`.
pub fn build() -> Result<()> {
    page::install()?;
    let tools = bindgen()?;
    let packages = ["--package=googlenet-web", "--package=googlenet-importers"];
    shell::run(shell::cargo(&["build", "--profile=wasm", "--target=wasm32-unknown-unknown", "--lib"]).args(packages))?;
    for [compiled, name] in MODULES {
        let compiled = repo::target().join(format!("wasm32-unknown-unknown/wasm/{compiled}.wasm"));
        bind(&tools, &compiled, name)?;
    }
    Ok(())
}

/// Makes a compiled module one that the page can import.
fn bind(tools: &Path, compiled: &Path, name: &str) -> Result<()> {
    let out = repo::www().join("src/wasm");
    let bound = out.join(format!("{name}_bg.wasm"));
    if is_newer(&bound, compiled) {
        return Ok(());
    }
    let raw = repo::target().join("bindgen");
    shell::run(
        Command::new(tools.join("wasm-bindgen"))
            .args(["--target", "web", "--out-name", name, "--out-dir"])
            .arg(&raw)
            .arg(compiled),
    )?;
    fs::create_dir_all(&out)?;
    for file in [format!("{name}.js"), format!("{name}.d.ts")] {
        fs::copy(raw.join(&file), out.join(&file)).with_context(|| format!("cannot copy {file}"))?;
    }
    shell::run(
        shell::node_script("binaryen/bin/wasm-opt")
            .args(["-O3", "--enable-simd", "--enable-bulk-memory", "--enable-nontrapping-float-to-int"])
            .args(["--enable-sign-ext", "--enable-mutable-globals", "--enable-reference-types", "--enable-multivalue"])
            .arg(raw.join(format!("{name}_bg.wasm")))
            .arg("-o")
            .arg(&bound),
    )
}

/// Says what the modules weigh, and fails where the engine is over its budget.
pub fn check_size() -> Result<()> {
    for [_, name] in MODULES {
        let path = repo::www().join(format!("src/wasm/{name}_bg.wasm"));
        let bytes = fs::read(&path).with_context(|| format!("there is no {}", path.display()))?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&bytes)?;
        println!("{name}: {} bytes, {} gzipped", bytes.len(), gzip.finish()?.len());
        if name == "googlenet" && bytes.len() > BUDGET {
            bail!("the engine is {} bytes over its budget of {BUDGET}", bytes.len() - BUDGET);
        }
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
