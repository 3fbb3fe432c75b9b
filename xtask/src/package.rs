//! The npm package: what `www/dist` holds, what it weighs, and `cargo xtask pack`.

use crate::fetch::sha256;
use crate::jobs::Job;
use crate::wasm::Build;
use crate::{budgets, page, repo, shell, wasm};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The JavaScript that every page loads, beside the chosen module and its bindings.
const SCRIPTS: [&str; 3] = ["index.js", "client.js", "worker.js"];

/// Builds the package into `www/dist`, from the modules in `www/package/wasm`.
pub fn build() -> Result<()> {
    page::install()?;
    let (www, dist) = (repo::www(), dist());
    if dist.exists() {
        fs::remove_dir_all(&dist).context("cannot empty www/dist")?;
    }
    Job::run(shell::node_script("rolldown/bin/cli.mjs").args(["--config", "rolldown.config.mjs"]))?;
    Job::run(shell::node_script("typescript/bin/tsc").args(["--project", "tsconfig.package.json"]))?;
    for name in wasm::names() {
        for ending in ["_bg.wasm", ".d.ts"] {
            copy(&www.join("package/wasm"), &dist.join("wasm"), &format!("{name}{ending}"))?;
        }
    }
    // The tests' page is built of the sources, which look for it beside the modules.
    for folder in [www.join("package/wasm"), dist.join("wasm")] {
        copy(&repo::root().join("src/model"), &folder, "imagenet_labels.txt")?;
    }
    for name in ["cifar10.safetensors", "cifar10-noheads.safetensors"] {
        copy(&www.join("models"), &dist.join("models"), name)?;
    }
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(repo::root(), &dist, name)?;
    }
    Ok(())
}

/// `cargo xtask pack`
pub fn run() -> Result<()> {
    wasm::build(Build::Release)?;
    let tarball = pack()?;
    check(&tarball)?;
    document()?;
    println!("{} is ready.", tarball.display());
    Ok(())
}

/// Builds the package and packs it, as npm would publish it, into `target/package`.
pub fn pack() -> Result<PathBuf> {
    build()?;
    check_models()?;
    let out = repo::target().join("package");
    fs::create_dir_all(&out)?;
    let mut pack = npm();
    pack.args(["pack", "--silent", "--ignore-scripts", "--pack-destination"]).arg(&out);
    let name = shell::output(&mut pack).context("`npm pack` failed")?;
    Ok(out.join(name.lines().last().context("`npm pack` names no file")?))
}

/// What others' tools say of the package, and what it weighs.
pub fn check(tarball: &Path) -> Result<()> {
    shell::run(shell::node_script("publint/src/cli.js").args(["run", "--strict"]).arg(tarball))?;
    let mut types = shell::node_script("@arethetypeswrong/cli/dist/index.js");
    // CommonJS is not offered; what the patterns hold is no code.
    types.arg(tarball).args(["--profile", "esm-only", "--exclude-entrypoints", "./wasm/*.wasm", "./models/*"]);
    shell::run(&mut types)?;
    check_size()
}

/// Writes the API reference into `target/api`; an export without a word of explanation fails it.
pub fn document() -> Result<()> {
    let docs = repo::www().join("docs");
    page::install_in(&docs)?;
    let mut typedoc = Command::new("node");
    typedoc.arg(docs.join("node_modules/typedoc/bin/typedoc")).current_dir(&docs).arg("--out");
    shell::run(typedoc.arg(repo::target().join("api")))
}

/// Says what each file weighs, and what a page downloads before the weights.
pub fn check_size() -> Result<()> {
    let size = |name: &str| wasm::weigh(&dist().join(name));
    println!("{:<40} {:>8} {:>8}", "file", "bytes", "gzipped");
    let show = |name: &str| -> Result<usize> {
        let [bytes, gzipped] = size(name)?;
        println!("{name:<40} {bytes:>8} {gzipped:>8}");
        Ok(gzipped)
    };
    let scripts = SCRIPTS.iter().map(|name| show(name)).sum::<Result<usize>>()?;
    for other in ["session.js", "element.js", "wasm/importers.js", "wasm/importers_bg.wasm"] {
        show(other)?;
    }
    let mut over = Vec::new();
    let mut lines = Vec::new();
    for name in wasm::names().filter(|name| *name != "importers") {
        let total = scripts + show(&format!("wasm/{name}.js"))? + show(&format!("wasm/{name}_bg.wasm"))?;
        let budget = budgets::get("download", if name.contains("gpu") { "gpu" } else { "cpu" })?;
        lines.push(format!("{name:<40} {total:>8} {budget:>8}"));
        if total as u64 > budget {
            over.push(name);
        }
    }
    println!("\n{:<40} {:>8} {:>8}", "a page's download before the weights", "gzipped", "budget");
    println!("{}", lines.join("\n"));
    if !over.is_empty() {
        bail!("over budget: {}", over.join(", "));
    }
    Ok(())
}

/// The models are those whose hashes the package knows.
fn check_models() -> Result<()> {
    let known = fs::read_to_string(repo::www().join("package/api/models.ts"))
        .context("cannot read www/package/api/models.ts")?;
    for entry in fs::read_dir(dist().join("models"))? {
        let path = entry?.path();
        let hash = sha256(&path)?;
        if !known.contains(&hash) {
            bail!("www/package/api/models.ts does not know {}, whose SHA-256 is {hash}", path.display());
        }
    }
    Ok(())
}

/// npm, in `www`.
pub fn npm() -> Command {
    let mut npm = Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
    npm.current_dir(repo::www());
    npm
}

pub fn dist() -> PathBuf {
    repo::www().join("dist")
}

fn copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    fs::copy(from.join(name), to.join(name)).with_context(|| format!("cannot copy {name}"))?;
    Ok(())
}
