//! `cargo xtask test`: runs the tests in steps.

use crate::ahead::{self, Ahead};
use crate::browsers::{self, Browsers};
use crate::jobs::{self, Job};
use crate::wasm::Build;
use crate::{budgets, imagenet, licences, package, page, python, repo, shell, wasm};
use anyhow::{Context, Result, anyhow, bail};
use std::cell::{Cell, OnceCell};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Options {
    /// Run all tests, with the modules as they are shipped, like CI
    #[arg(long)]
    full: bool,
    /// Compile what the steps need without running them (for internal use)
    #[arg(long, hide = true)]
    prepare: bool,
    /// Run only these steps, in the usual order
    #[arg(value_name = "STEP", value_parser = STEPS.map(|step| step.name))]
    steps: Vec<String>,
}

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// Every area, with both engines in a real browser, within minutes.
    Default,
    /// All tests.
    Full,
}

struct Step {
    name: &'static str,
    what: &'static str,
    /// Whether the step runs only with `--full` or if it is named.
    full: bool,
    /// Compiles what the step needs. It may run while earlier steps test in browsers.
    prepare: Option<fn() -> Result<()>>,
    run: fn(&Machine) -> Result<()>,
}

const STEPS: [Step; 13] = [
    Step::new("fmt", "Rust is formatted", fmt),
    Step::new("licences", "what everything depended on is under", |_| licences::run()),
    Step::new("wasm", "the modules that browsers load", modules),
    Step::new("types", "TypeScript", |_| page::check()),
    Step::new("build", "the page", |_| page::build().and_then(|()| page::build_tests())),
    Step::new(PACKAGE_STEP, "the npm package, packed, in fresh projects", packed),
    Step::new("page", "the page in real browsers", pages).prepared_by(page_references),
    Step::new("native", "native tests", native).prepared_by(compile_native),
    Step::new("clippy", "clippy, native", |_| lint()).prepared_by(lint),
    Step::new("clippy-wasm", "clippy, wasm32", |_| lint_wasm()).prepared_by(lint_wasm).in_full(),
    Step::new("ops", "every operation in Chromium, on WebGPU and in wasm", ops).prepared_by(compile_ops).in_full(),
    Step::new("imagenet", "the ImageNet model from the reference", imagenet_model).in_full(),
    Step::new("importers", "files that Keras, Caffe's schema, ONNX and torchvision wrote", importers)
        .prepared_by(|| python::models().map(drop))
        .in_full(),
];

/// The first step that tests in browsers. Later steps are prepared from here on, because the steps before it keep all
/// cores busy.
const PACKAGE_STEP: &str = "package";

impl Step {
    const fn new(name: &'static str, what: &'static str, run: fn(&Machine) -> Result<()>) -> Self {
        Self { name, what, full: false, prepare: None, run }
    }

    const fn in_full(self) -> Self {
        Self { full: true, ..self }
    }

    const fn prepared_by(self, prepare: fn() -> Result<()>) -> Self {
        Self { prepare: Some(prepare), ..self }
    }
}

/// The page's tests of the default tier, by file: both engines in Chromium, the GPU in Firefox, each of the two
/// modules, views and pictures.
const PAGE: [&str; 4] = ["modules", "page", "threads", "tiles"];

/// The package's tests of the default tier.
const PACKAGE: [&str; 3] = ["api", "node", "types"];

/// The steps that need the browsers, or the software Vulkan driver that is installed with them.
const NEED_BROWSERS: [&str; 4] = [PACKAGE_STEP, "page", "native", "ops"];

/// State that the steps share. Browsers are looked for once, and only if a step needs them.
struct Machine {
    tier: Tier,
    browsers: OnceCell<Browsers>,
    /// Whether the preparation of the current step has succeeded.
    prepared: Cell<bool>,
}

impl Machine {
    fn browsers(&self) -> Result<&Browsers> {
        if self.browsers.get().is_none() {
            // This cannot fail, because no other thread sets the value.
            let _ = self.browsers.set(browsers::ensure()?);
        }
        self.browsers.get().context("the browsers were just found")
    }
}

/// Runs the steps, and continues after a step has failed. Fails if a step has failed, or if the tests took longer than
/// their budget.
pub fn run(options: &Options) -> Result<()> {
    if options.prepare {
        prepare(options);
        return Ok(());
    }
    let all = Instant::now();
    match repo::reference() {
        Some(path) => println!("Reference data: {}", path.display()),
        None => println!("Reference data: none; what compares with it is skipped (set GOOGLENET_REFERENCE)"),
    }
    let tier = if options.full { Tier::Full } else { Tier::Default };
    if tier == Tier::Default && options.steps.is_empty() {
        println!("The default tier; `cargo xtask test --full` runs everything.");
    }
    let machine = Machine { tier, browsers: OnceCell::new(), prepared: Cell::new(false) };
    let wanted = |step: &&Step| match options.steps.is_empty() {
        true => tier == Tier::Full || !step.full,
        false => options.steps.iter().any(|name| name == step.name),
    };
    if STEPS.iter().filter(wanted).any(|step| NEED_BROWSERS.contains(&step.name)) {
        // The browsers are downloaded while other steps compile. The first step that needs them waits, and reports
        // errors.
        thread::spawn(|| jobs::quietly(|| drop(browsers::ensure())));
    }
    let mut ahead: Option<Ahead> = None;
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for step in STEPS.iter().filter(wanted) {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        if step.name == PACKAGE_STEP {
            let later = STEPS.iter().filter(wanted).filter(|step| step.prepare.is_some()).map(|step| step.name);
            ahead = Ahead::start(&later.collect::<Vec<_>>())?;
        }
        if let (Some(ahead), Some(_)) = (&ahead, step.prepare) {
            machine.prepared.set(ahead.wait(step.name));
        }
        let result = (step.run)(&machine);
        let seconds = start.elapsed().as_secs_f64();
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        println!("--- {}: {verdict}, {seconds:.1} s", step.name);
        lines.push(format!("{:<12} {verdict:<7} {seconds:>7.1} s", step.name));
        if let Err(error) = result {
            println!("{error:#}");
            failures.push(format!("{}: {error:#}", step.name));
        }
    }
    // Failures are repeated at the end of the log, where people look first.
    for failure in &failures {
        println!("\n{failure}");
    }
    println!("\n{}", lines.join("\n"));
    let (took, failed) = (all.elapsed().as_secs(), failures.len());
    println!("{:<12} {:<7} {took:>7} s", "all", "");
    println!("{} passed, {failed} failed", lines.len() - failed);
    if failed > 0 {
        bail!("{failed} of {} steps failed", lines.len());
    }
    let budget = budgets::get("tests", if tier == Tier::Full { "full" } else { "default" })?;
    if options.steps.is_empty() && took > budget {
        bail!("the tests took {took} s, more than the {budget} s of budgets.json");
    }
    Ok(())
}

/// Prepares the steps, in the process that [`Ahead`] starts.
fn prepare(options: &Options) {
    for step in STEPS.iter().filter(|step| options.steps.iter().any(|name| name == step.name)) {
        if let Some(prepare) = step.prepare {
            // A step that could not be prepared prepares itself later, and then reports the error.
            ahead::report(step.name, jobs::quietly(prepare).is_ok());
        }
    }
}

/// cargo, with the environment variable for the reference data.
fn cargo(args: &[&str]) -> Command {
    let mut command = shell::cargo(args);
    if let Some(path) = repo::reference() {
        command.env("GOOGLENET_REFERENCE", path);
    }
    command
}

fn fmt(_: &Machine) -> Result<()> {
    shell::run(&mut cargo(&["fmt", "--all", "--check"]))
}

fn lint() -> Result<()> {
    Job::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// On this target, only the browser tests are built; all others are native programs.
const WASM: &str = "--target=wasm32-unknown-unknown";

fn lint_wasm() -> Result<()> {
    wasm::target()?;
    let packages = ["--package=googlenet-web", "--package=googlenet-importers"];
    Job::run(cargo(&["clippy", WASM]).args(packages).args(["--lib", "--test=browser", "--", "-D", "warnings"]))?;
    for engine in ["cpu", "gpu"] {
        // Each module has only one of the engines.
        let only = ["--package=googlenet-web", "--lib", "--no-default-features", "--features", engine];
        Job::run(cargo(&["clippy", WASM]).args(only).args(["--", "-D", "warnings"]))?;
    }
    let packages = ["--package=googlenet-web", "--package=team-test"];
    Job::run(wasm::clippy_threads()?.args(packages).args(["--lib", "--", "-D", "warnings"]))
}

fn native(machine: &Machine) -> Result<()> {
    // The software Vulkan driver is installed with the browsers.
    machine.browsers()?;
    shell::run(&mut cargo(&NATIVE))?;
    // In the profile with which `cargo xtask` has compiled the dependencies.
    shell::run(&mut cargo(&["test", "--package=xtask", "--profile=xtask"]))
}

const NATIVE: [&str; 3] = ["test", "--workspace", "--exclude=xtask"];

fn compile_native() -> Result<()> {
    Job::run(cargo(&NATIVE).arg("--no-run"))
}

fn importers(_: &Machine) -> Result<()> {
    let mut command = cargo(&["test", "--test=importers", "--", "--show-output"]);
    shell::run(command.env("GOOGLENET_MODELS", python::models()?))
}

fn ops(machine: &Machine) -> Result<()> {
    wasm::target()?;
    let browsers = machine.browsers()?;
    let mut command = cargo(&OPS);
    command.env("CHROMEDRIVER", &browsers.chromedriver);
    // In seconds. Software adapters are slow.
    command.env("WASM_BINDGEN_TEST_TIMEOUT", "600");
    shell::with_path(&mut command, &wasm::test_runner()?)?;
    shell::run(&mut command)
}

const OPS: [&str; 3] = ["test", WASM, "--test=browser"];

fn compile_ops() -> Result<()> {
    wasm::target()?;
    wasm::test_runner()?;
    Job::run(cargo(&OPS).arg("--no-run"))
}

fn imagenet_model(_: &Machine) -> Result<()> {
    let Some(reference) = repo::reference() else {
        println!("skipped: GOOGLENET_REFERENCE is not set");
        return Ok(());
    };
    let model = repo::target().join("imagenet.safetensors");
    imagenet::make(&reference.join("imagenet/bvlc_googlenet.safetensors"), &model)?;
    imagenet::check(&model, &reference)
}

fn modules(machine: &Machine) -> Result<()> {
    let build = if machine.tier == Tier::Full { Build::Release } else { Build::Fast };
    wasm::build(build)?;
    wasm::build_tests(build)
}

fn pages(machine: &Machine) -> Result<()> {
    page::install()?;
    let mut tests = NodeTests::new(machine, "tests", &PAGE)?;
    let command = &mut tests.command;
    command.env("XTASK", env::current_exe()?).env("PAGE_TESTS", repo::target().join("page-tests"));
    if repo::reference().is_some() {
        // If cargo was called here, it would wait for everything that is being compiled for later steps.
        if !machine.prepared.get() {
            page_references()?;
        }
        command.env("KERAS_MODEL", keras_model());
    }
    tests.run()
}

/// Makes a model file of the reference's Keras weights.
pub fn make_keras_model() -> Result<()> {
    let reference =
        repo::reference().context("the Keras weights are in the reference data: set GOOGLENET_REFERENCE")?;
    let h5 = reference.join("keras/googlenet_keras3.weights.h5");
    let mut import = cargo(&["run", "--quiet", "--package=googlenet-web", "--", "import"]);
    Job::run(import.arg(h5).arg("-o").arg(keras_model()).args(["--mean", "0,0,0"]))
}

/// The path of the Keras weights as a model file.
pub fn keras_model() -> PathBuf {
    repo::target().join("keras.safetensors")
}

/// Makes the references of the page's tests: the Keras weights as a model file, and the layers of the BVLC network in
/// f64.
fn page_references() -> Result<()> {
    if repo::reference().is_none() {
        return Ok(());
    }
    compile_native()?;
    make_keras_model()?;
    let mut exact = cargo(&["test", "--quiet", "--test=golden", "bvlc_against_exact_arithmetic"]);
    Job::run(exact.env("GOOGLENET_EXACT", repo::target().join("exact.safetensors")))
}

fn packed(machine: &Machine) -> Result<()> {
    let tarball = package::pack()?;
    if machine.tier == Tier::Full {
        package::check(&tarball)?;
        package::document()?;
    }
    let mut tests = NodeTests::new(machine, "tests/package", &PACKAGE)?;
    tests.command.env("PACKAGE", tarball);
    tests.run()
}

/// The tests in a folder of `www`, which Node runs.
struct NodeTests {
    command: Command,
    report: PathBuf,
}

impl NodeTests {
    /// The tests of the default tier, or all tests.
    fn new(machine: &Machine, folder: &str, default: &[&str]) -> Result<Self> {
        let browsers = machine.browsers()?;
        let report = repo::target().join("failed-tests.txt");
        let mut command = Command::new("node");
        // One file at a time, because software adapters use all cores.
        command.args(["--test", "--test-concurrency=1"]);
        command.args(["--test-reporter=spec", "--test-reporter-destination=stdout"]);
        command.args(["--test-reporter=spec", "--test-reporter-destination"]).arg(&report);
        let mut files = page::tests(folder)?;
        if machine.tier == Tier::Default {
            command.env("QUICK_MODULES", "1");
            files.retain(|file| default.iter().any(|name| file.ends_with(format!("{name}.test.mjs"))));
        }
        command.args(files).current_dir(repo::www());
        command.env("CHROMIUM", &browsers.chromium).env("FIREFOX", &browsers.firefox);
        if let Some(webkit) = &browsers.webkit {
            command.env("WEBKIT", webkit);
        }
        if let Some(reference) = repo::reference() {
            command.env("GOOGLENET_REFERENCE", reference);
        }
        Ok(Self { command, report })
    }

    /// Runs the tests. The error contains the failed tests.
    fn run(mut self) -> Result<()> {
        shell::run(&mut self.command).map_err(|error| {
            let report = fs::read_to_string(&self.report).unwrap_or_default();
            let failed = report.split_once("failing tests:").map_or("", |(_, failed)| failed);
            anyhow!("{error}\n{}", failed.trim())
        })
    }
}
