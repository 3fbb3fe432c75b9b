//! Rust to WebAssembly: compile, bind, optimise.

use crate::jobs::{Job, Jobs, quietly};
use crate::{imports, repo, shell};
use anyhow::{Context, Result, anyhow};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use wasm_bindgen_cli_support::Bindgen;

/// How the modules are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As they are shipped: small and fast, and slow to build.
    Release,
    /// Quick to build, for one's own page: no link-time optimisation, and one module for the CPU, with threads, which
    /// stands in for the four.
    Fast,
}

/// A module that the page can load.
struct Module {
    /// What it is called in `www/package/wasm`.
    name: &'static str,
    package: &'static str,
    /// The features of the package; its default features are off.
    features: &'static [&'static str],
    /// The file that cargo makes, without its ending.
    compiled: &'static str,
    relaxed: bool,
    threads: bool,
}

/// The CPU engine without relaxed SIMD and without threads.
const CPU: Module = Module {
    name: "googlenet_cpu",
    package: "googlenet-web",
    features: &["cpu"],
    compiled: "googlenet",
    relaxed: false,
    threads: false,
};

/// The CPU engine's builds, one of which a browser takes.
const CPUS: [Module; 4] = [
    CPU,
    Module { name: "googlenet_cpu_relaxed", relaxed: true, ..CPU },
    Module { name: "googlenet_cpu_threads", threads: true, ..CPU },
    Module { name: "googlenet_cpu_relaxed_threads", relaxed: true, threads: true, ..CPU },
];

const GPU: Module = Module { name: "googlenet_gpu", features: &["gpu"], ..CPU };

/// The learner on the CPU, which the page fetches only when something is to be learnt.
const LEARNING: Module = Module {
    name: "googlenet_learning_cpu_relaxed_threads",
    features: &["cpu", "train"],
    relaxed: true,
    threads: true,
    ..CPU
};

/// The importers, which the page fetches only when a file of another framework is opened.
const IMPORTERS: Module =
    Module { name: "importers", package: "googlenet-importers", features: &[], compiled: "googlenet_importers", ..CPU };

/// The team of threads alone, which the tests exercise.
const TEAM: Module = Module { name: "team", package: "team-test", compiled: "team_test", threads: true, ..IMPORTERS };

/// Flags beyond those of `.cargo/config.toml`: shared memory. The exports are what wasm-bindgen starts a thread with. A
/// shared memory must say how far it may grow, and browsers set that much address space aside: a gigabyte, which is ten
/// pictures at once.
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

/// The modules' names, for those who copy them: the CPU engine's, the GPU engine's and the importers'.
pub fn names() -> impl Iterator<Item = &'static str> {
    CPUS.iter().chain([&GPU, &IMPORTERS]).map(|module| module.name)
}

/// Where the modules go.
fn folder() -> PathBuf {
    repo::www().join("package/wasm")
}

/// The jobs that build every module into `www/package/wasm`: two, as most of a build is one crate, which only one core
/// works on. What is up to date is not built again.
pub fn jobs(jobs: &mut Jobs, build: Build) {
    match build {
        Build::Release => {
            // The second job's builds need a standard library with atomics; each library is built once.
            jobs.add("the engines of one thread, and the importers", move || {
                build_all([&GPU, &CPUS[0], &CPUS[1], &IMPORTERS], build)
            });
            jobs.add("the engines of several threads", move || build_all(&CPUS[2..], build));
        }
        Build::Fast => {
            jobs.add("the CPU engine", move || {
                let built = &CPUS[2];
                build_all([built], build)?;
                CPUS.iter().filter(|other| other.name != built.name).try_for_each(|other| built.stand_in_for(other))
            });
            jobs.add("the GPU engine and the importers", move || build_all([&GPU, &IMPORTERS], build));
        }
    }
}

/// Builds every module, with their progress on the terminal.
pub fn build(build: Build) -> Result<()> {
    let mut all = Jobs::default();
    npm(&mut all);
    jobs(&mut all, build);
    all.run()
}

/// The job that installs npm's packages. wasm-opt is one of them.
pub fn npm(jobs: &mut Jobs) {
    jobs.add("npm's packages", crate::page::install);
}

/// Builds what the tests' own page needs besides.
pub fn build_tests(build: Build) -> Result<()> {
    let mut jobs = Jobs::default();
    jobs.add("the team of threads", || build_all([&TEAM], Build::Fast));
    jobs.add("the module for learning", move || build_all([&LEARNING], build));
    jobs.run()
}

/// Builds modules one after the other, what is up to date left out. While one is compiled, the one before it is bound and
/// optimised, which takes a single core.
fn build_all<'a>(modules: impl IntoIterator<Item = &'a Module>, build: Build) -> Result<()> {
    thread::scope(|scope| {
        let mut rest = Vec::new();
        for module in modules {
            if let Some(compiled) = module.compile(build)? {
                rest.push(scope.spawn(move || quietly(|| module.finish(compiled, build))));
            }
        }
        let results = rest.into_iter().map(|work| work.join().unwrap_or_else(|_| Err(anyhow!("binding panicked"))));
        results.collect::<Result<Vec<()>>>().map(drop)
    })
}

/// A module that is compiled, and the inputs that it was compiled from.
struct Compiled {
    module: Vec<u8>,
    inputs: String,
}

impl Module {
    fn stamp(&self) -> PathBuf {
        folder().join(format!("{}.built", self.name))
    }

    /// Compiles the module; `None` where it is up to date.
    fn compile(&self, build: Build) -> Result<Option<Compiled>> {
        let inputs = format!("{build:?} {}", inputs()?);
        if fs::read_to_string(self.stamp()).is_ok_and(|built| built == inputs) {
            return Ok(None);
        }
        let profile = if build == Build::Release { "wasm" } else { "fast" };
        let compiled = self.target().join(format!("wasm32-unknown-unknown/{profile}/deps/{}.wasm", self.compiled));
        // Modules of other features have the same file, and cargo would take theirs for this one's.
        if compiled.exists() {
            fs::remove_file(&compiled).with_context(|| format!("cannot remove {}", compiled.display()))?;
        }
        let mut cargo = self.cargo("rustc", build)?;
        cargo.args(["--profile", profile, "--lib", "--package", self.package, "--no-default-features"]);
        cargo.args(self.features.iter().flat_map(|feature| ["--features", feature]));
        // Of this package alone: what it depends on is shared among the modules.
        cargo.arg("--");
        if self.relaxed {
            cargo.arg("-Ctarget-feature=+relaxed-simd");
        }
        if build == Build::Release && self.name == GPU.name {
            // It has no loops that count but those that pack weights, so that size matters more.
            cargo.arg("-Copt-level=z");
        }
        Job::run(&mut cargo)?;
        // The next module may replace the file.
        Ok(Some(Compiled { module: fs::read(&compiled)?, inputs }))
    }

    /// Binds and optimises a module that was compiled.
    fn finish(&self, compiled: Compiled, build: Build) -> Result<()> {
        self.bind(compiled.module, build)?;
        fs::write(self.stamp(), compiled.inputs).with_context(|| format!("cannot write into {}", folder().display()))
    }

    /// A command of cargo's with the module's flags, in its folder.
    fn cargo(&self, command: &str, build: Build) -> Result<Command> {
        let mut cargo = shell::cargo(&[command, "--target=wasm32-unknown-unknown"]);
        cargo.arg("--target-dir").arg(self.target());
        let mut flags = Vec::new();
        if self.threads || build == Build::Release {
            // The standard library as rustup ships it is made for speed and has no atomics. Compiling it is the
            // nightly's privilege.
            component("rust-src", "lib/rustlib/src/rust/library/Cargo.lock", &["component", "add", "rust-src"])?;
            cargo.args(["-Z", "build-std=std,panic_abort", "-Z", "build-std-features=optimize_for_size"]);
            cargo.env("RUSTC_BOOTSTRAP", "1");
        } else {
            target()?;
        }
        if build == Build::Release {
            // Which line a panic is in, and how values look when they are debugged, are left out: 19 KB less to
            // download.
            cargo.env("RUSTC_BOOTSTRAP", "1");
            flags.extend(["-Zlocation-detail=none", "-Zfmt-debug=shallow"]);
        }
        if self.threads {
            flags.extend(SHARED);
        }
        if !flags.is_empty() {
            // They are added to those of .cargo/config.toml.
            cargo.arg("--config").arg(format!("target.wasm32-unknown-unknown.rustflags={flags:?}"));
        }
        Ok(cargo)
    }

    /// Other flags have a folder of their own, as they would put what lies there out of date.
    fn target(&self) -> PathBuf {
        repo::target().join(if self.threads { "threads" } else { "wasm" })
    }

    /// Makes a compiled module one that the page can import.
    fn bind(&self, compiled: Vec<u8>, build: Build) -> Result<()> {
        let (name, out) = (self.name, folder());
        let raw = repo::target().join("bindgen").join(name);
        fs::create_dir_all(&raw)?;
        fs::create_dir_all(&out)?;
        let mut bindgen = Bindgen::new();
        bindgen.web(true).and_then(|bindgen| {
            bindgen.input_bytes(name, compiled).out_name(name).typescript(true);
            bindgen.remove_name_section(true).remove_producers_section(true);
            bindgen.generate(&raw)
        })?;
        let [module, script, types] = [format!("{name}_bg.wasm"), format!("{name}.js"), format!("{name}.d.ts")];
        let put = |file: &str| fs::copy(raw.join(file), out.join(file)).with_context(|| format!("cannot copy {file}"));
        put(&types)?;
        if build == Build::Fast {
            put(&script)?;
            put(&module)?;
            return Ok(());
        }
        let (shortened, renamed) =
            imports::shorten(&fs::read(raw.join(&module))?, &fs::read_to_string(raw.join(&script))?)?;
        fs::write(raw.join(&module), shortened)?;
        fs::write(out.join(&script), renamed)?;
        let mut optimise = shell::node_script("binaryen/bin/wasm-opt");
        if self.name == GPU.name {
            // Hundreds of its functions make one call to the browser each and are alike, and few of them must be fast. With
            // these merged, and the control flow rebuilt, the module takes 2.1 KB less gzipped.
            optimise.args(["--merge-similar-functions", "-Os", "--flatten", "--rereloop", "-Os", "--converge"]);
            optimise.args(["--low-memory-unused", "--reorder-functions"]);
        } else {
            // This is as fast as -O3, which keeps more copies. The passes repeat until nothing changes. The lowest kilobyte
            // of memory is the end of the stack, which is never reached. Functions with the same name stand side by side,
            // where they compress well: 0.8 KB less gzipped.
            optimise.args(["-Os", "--converge", "--low-memory-unused", "--reorder-functions-by-name"]);
        }
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
        // npm installs it at the same time.
        crate::page::install()?;
        Job::run(optimise.arg(raw.join(&module)).arg("-o").arg(out.join(&module)))
    }

    /// Copies this module to where another's is expected.
    fn stand_in_for(&self, other: &Module) -> Result<()> {
        for ending in ["_bg.wasm", ".js", ".d.ts"] {
            let [from, to] = [self.name, other.name].map(|name| folder().join(format!("{name}{ending}")));
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        // It is not what a release has there.
        let _ = fs::remove_file(folder().join(format!("{}.built", other.name)));
        Ok(())
    }
}

/// A hash of everything that a module is built from.
fn inputs() -> Result<String> {
    let root = repo::root();
    let mut hasher = Sha256::new();
    let mut rest: Vec<PathBuf> =
        ["src", "shaders", "importers", "tests/team", "build.rs", "Cargo.toml", "Cargo.lock", ".cargo", "xtask/src"]
            .map(|name| root.join(name))
            .into();
    let mut files = Vec::new();
    while let Some(path) = rest.pop() {
        if path.is_dir() {
            rest.extend(fs::read_dir(&path)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?);
        } else {
            files.push(path);
        }
    }
    files.retain(|file| !file.starts_with(root.join("xtask/src")) || file.ends_with("wasm.rs"));
    files.sort();
    for file in files {
        hasher.update(file.strip_prefix(root)?.to_string_lossy().as_bytes());
        hasher.update(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// How much a file weighs, and how much gzipped.
pub fn weigh(path: &Path) -> Result<[usize; 2]> {
    let bytes = fs::read(path).with_context(|| format!("there is no {}", path.display()))?;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&bytes)?;
    Ok([bytes.len(), gzip.finish()?.len()])
}

/// clippy, to which what it shall look at is to be added, for the builds with threads.
pub fn clippy_threads() -> Result<Command> {
    let mut cargo = TEAM.cargo("clippy", Build::Fast)?;
    // What it needs of host programs is then what the module needs too.
    cargo.arg("--profile=fast");
    Ok(cargo)
}

/// The standard library for browsers as rustup has it, installed if need be.
pub fn target() -> Result<()> {
    let target = "wasm32-unknown-unknown";
    component(target, &format!("lib/rustlib/{target}/lib"), &["target", "add", target])
}

/// A part of the toolchain, installed with rustup unless `path` is there.
fn component(name: &str, path: &str, how: &[&str]) -> Result<()> {
    let sysroot = shell::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(repo::root()));
    if Path::new(&sysroot.context("there is no rustc")?).join(path).exists() {
        return Ok(());
    }
    Job::say(format!("installing {name}"));
    Job::run(Command::new("rustup").args(how).current_dir(repo::root()))
        .map_err(|error| anyhow!("{error}\n`rustup {}` is needed", how.join(" ")))
}

/// The folder of wasm-bindgen's program that runs tests in a browser, at the version the crate is locked to; installed if
/// need be.
pub fn test_runner() -> Result<PathBuf> {
    let version = locked("wasm-bindgen")?;
    let root = repo::target().join("tools");
    let (bin, program) = (root.join("bin"), "wasm-bindgen-test-runner");
    let found = shell::output(Command::new(bin.join(program)).arg("--version"));
    if found.as_deref() != Some(&format!("{program} {version}")) {
        // Without --locked: the lock file it was published with names a dependency that not every mirror has.
        let install = ["install", "wasm-bindgen-cli", "--bin", program, "--version", &version, "--root"];
        Job::run(shell::cargo(&install).arg(root))?;
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
