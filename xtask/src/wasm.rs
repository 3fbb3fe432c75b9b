//! Rust to WebAssembly: compile, bind, optimise.

use crate::{imports, page, repo, shell};
use anyhow::{Context, Result, bail};
use flate2::{Compression, write::GzEncoder};
use std::fs;
use std::io::Write;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A module that the page can load.
struct Module {
    /// What it is called in `www/src/wasm`.
    name: &'static str,
    package: &'static str,
    /// The file that cargo makes, without its ending.
    compiled: &'static str,
    relaxed: bool,
    threads: bool,
    /// What it may weigh as the page ships it.
    budget: Option<usize>,
}

impl Module {
    const ENGINE: Module = Module {
        name: "googlenet",
        package: "googlenet-web",
        compiled: "googlenet",
        relaxed: false,
        threads: false,
        budget: Some(BUDGET),
    };
}

/// What an engine may weigh: the 552,360 bytes it measured, plus 3 %. `package.rs` has what a page may download.
const BUDGET: usize = 570_000;

/// The engine for every sort of browser, and the importers, which the page fetches only when it needs them.
const MODULES: [Module; 5] = [
    Module::ENGINE,
    Module { name: "googlenet_relaxed", relaxed: true, ..Module::ENGINE },
    Module { name: "googlenet_threads", threads: true, ..Module::ENGINE },
    Module { name: "googlenet_relaxed_threads", relaxed: true, threads: true, ..Module::ENGINE },
    Module {
        name: "importers",
        package: "googlenet-importers",
        compiled: "googlenet_importers",
        budget: None,
        ..Module::ENGINE
    },
];

/// The team of threads alone, which the tests exercise.
const TEAM: Module =
    Module { name: "team", package: "team-test", compiled: "team_test", threads: true, budget: None, ..Module::ENGINE };

/// Flags beyond those of `.cargo/config.toml`: relaxed SIMD.
const RELAXED: [&str; 1] = ["-Ctarget-feature=+relaxed-simd"];

/// Shared memory. The exports are what wasm-bindgen starts a thread with. A shared memory must say how far it
/// may grow, and browsers set that much address space aside: a gigabyte, which is ten pictures at once.
const SHARED: [&str; 9] = [
    "-Ctarget-feature=+atomics,+bulk-memory,+mutable-globals",
    "-Clink-arg=--shared-memory",
    "-Clink-arg=--import-memory",
    "-Clink-arg=--max-memory=1073741824",
    "-Clink-arg=--export=__wasm_init_tls",
    "-Clink-arg=--export=__tls_size",
    "-Clink-arg=--export=__tls_align",
    "-Clink-arg=--export=__tls_base",
    "-Clink-arg=--export=__heap_base",
];

/// Builds every module into `www/src/wasm`, two at a time: most of a build is one crate, which only one core works on.
pub fn build() -> Result<()> {
    page::install()?;
    let tools = bindgen()?;
    // Before two ask for it at once.
    rust_src()?;
    let next = AtomicUsize::new(0);
    let some = || {
        iter::from_fn(|| MODULES.get(next.fetch_add(1, Ordering::Relaxed))).try_for_each(|module| module.build(&tools))
    };
    thread::scope(|scope| {
        let others = scope.spawn(some);
        some().and(others.join().expect("a build reports its errors"))
    })?;
    let labels = "imagenet_labels.txt";
    fs::copy(repo::root().join("src").join(labels), repo::www().join("src/wasm").join(labels))?;
    Ok(())
}

/// Builds what the tests' own page needs besides.
pub fn build_tests() -> Result<()> {
    TEAM.build(&bindgen()?)
}

impl Module {
    fn build(&self, tools: &Path) -> Result<()> {
        let mut cargo = self.cargo("build")?;
        cargo.args(["--profile=wasm", "--lib", "--package", self.package]);
        if self.compiled == Module::ENGINE.compiled {
            // The names of ImageNet's classes are a file of their own.
            cargo.arg("--no-default-features");
        }
        shell::run(&mut cargo)?;
        let compiled = format!("wasm32-unknown-unknown/wasm/{}.wasm", self.compiled);
        self.bind(tools, &self.target().join(compiled))
    }

    /// A command of cargo's with the module's flags, in its folder.
    fn cargo(&self, command: &str) -> Result<Command> {
        // The standard library as rustup ships it is made for speed and has no atomics. Compiling it is the nightly's
        // privilege, as is to leave out which line a panic is in, and how values look to who debugs: 19 KB less to
        // download, as fast.
        rust_src()?;
        let mut cargo = shell::cargo(&[command, "--target=wasm32-unknown-unknown"]);
        cargo.args(["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"]);
        cargo.env("RUSTC_BOOTSTRAP", "1").arg("--target-dir").arg(self.target());
        let mut flags = vec!["-Zlocation-detail=none", "-Zfmt-debug=shallow"];
        if self.relaxed {
            flags.extend(RELAXED);
        }
        if self.threads {
            flags.extend(SHARED);
        }
        // They are added to those of .cargo/config.toml.
        cargo.arg("--config").arg(format!("target.wasm32-unknown-unknown.rustflags={flags:?}"));
        Ok(cargo)
    }

    /// Other flags have a folder of their own, as they would put what lies there out of date.
    fn target(&self) -> PathBuf {
        match (self.relaxed, self.threads) {
            // With other features of the engine, whose file would take the place of the engine's own.
            (false, false) if self.compiled != Module::ENGINE.compiled => repo::target().join("importers"),
            (false, false) => repo::target(),
            (true, false) => repo::target().join("relaxed"),
            (false, true) => repo::target().join("threads"),
            (true, true) => repo::target().join("relaxed-threads"),
        }
    }

    /// Makes a compiled module one that the page can import.
    fn bind(&self, tools: &Path, compiled: &Path) -> Result<()> {
        let name = self.name;
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
        let types = format!("{name}.d.ts");
        fs::copy(raw.join(&types), out.join(&types)).with_context(|| format!("cannot copy {types}"))?;
        let [module, script] = [format!("{name}_bg.wasm"), format!("{name}.js")];
        let (shortened, renamed) =
            imports::shorten(&fs::read(raw.join(&module))?, &fs::read_to_string(raw.join(&script))?)?;
        fs::write(raw.join(&module), shortened)?;
        fs::write(out.join(&script), renamed)?;
        let mut optimise = shell::node_script("binaryen/bin/wasm-opt");
        // As fast as -O3, which keeps more copies; again until nothing changes. The lowest kilobyte of memory is the
        // end of the stack, where none gets. Functions of one name lie side by side, and are alike: 0.8 KB less gzipped.
        optimise.args(["-Os", "--converge", "--low-memory-unused", "--reorder-functions-by-name"]);
        optimise.args(["--enable-simd", "--enable-bulk-memory", "--enable-nontrapping-float-to-int"]);
        optimise.args([
            "--enable-sign-ext",
            "--enable-mutable-globals",
            "--enable-reference-types",
            "--enable-multivalue",
        ]);
        if self.relaxed {
            optimise.arg("--enable-relaxed-simd");
        }
        if self.threads {
            optimise.arg("--enable-threads");
        }
        shell::run(optimise.arg(raw.join(&module)).arg("-o").arg(&bound))
    }

    fn size(&self) -> Result<[usize; 2]> {
        weigh(&repo::www().join(format!("src/wasm/{}_bg.wasm", self.name)))
    }
}

/// How much a file weighs, and how much gzipped.
pub fn weigh(path: &Path) -> Result<[usize; 2]> {
    let bytes = fs::read(path).with_context(|| format!("there is no {}", path.display()))?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&bytes)?;
    Ok([bytes.len(), gzip.finish()?.len()])
}

/// Says what the modules weigh, and fails where one is over its budget.
pub fn check_size() -> Result<()> {
    let mut over = Vec::new();
    println!("{:<26} {:>8} {:>8} {:>8}", "module", "bytes", "gzipped", "budget");
    for module in &MODULES {
        let [bytes, gzipped] = module.size()?;
        let budget = module.budget.map_or("none".to_owned(), |budget| budget.to_string());
        println!("{:<26} {bytes:>8} {gzipped:>8} {budget:>8}", module.name);
        if module.budget.is_some_and(|budget| bytes > budget) {
            over.push(module.name);
        }
    }
    if !over.is_empty() {
        bail!("over budget: {}", over.join(", "));
    }
    Ok(())
}

/// clippy, to which what it shall look at is to be added, for the builds with threads.
pub fn clippy_threads() -> Result<Command> {
    let mut cargo = TEAM.cargo("clippy")?;
    // What it needs of host programs is then what the module needs too.
    cargo.arg("--profile=wasm");
    Ok(cargo)
}

/// The standard library's source, installed if need be.
fn rust_src() -> Result<()> {
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(repo::root()));
    let lock = Path::new(&sysroot.context("there is no rustc")?).join("lib/rustlib/src/rust/library/Cargo.lock");
    if !lock.is_file() {
        shell::run(Command::new("rustup").args(["component", "add", "rust-src"]).current_dir(repo::root()))?;
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
