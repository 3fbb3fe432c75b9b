//! `cargo xtask test`

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
    /// Run every test there is, with the modules as they are shipped: what CI runs
    #[arg(long)]
    full: bool,
    /// Compile what the steps need, and run none (the tests use it)
    #[arg(long, hide = true)]
    prepare: bool,
    /// Run only these steps, in the usual order
    #[arg(value_name = "STEP", value_parser = STEPS.map(|step| step.name))]
    steps: Vec<String>,
}

/// How much is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tier {
    /// What a person runs: every area, with a real browser on both engines, in minutes.
    Default,
    /// All there is.
    Full,
}

struct Step {
    name: &'static str,
    what: &'static str,
    /// Whether it runs only with `--full`, or where it is asked for by name.
    full: bool,
    /// What can be done of it ahead, while browsers are tested: a compiler's work.
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
    Step::new("clippy", "clippy, native", clippy).prepared_by(lint),
    Step::new("clippy-wasm", "clippy, wasm32", clippy_wasm).prepared_by(lint_wasm).in_full(),
    Step::new("ops", "every operation in Chromium, on WebGPU and in wasm", ops).prepared_by(compile_ops).in_full(),
    Step::new("imagenet", "the ImageNet model from the reference", imagenet_model).in_full(),
    Step::new("importers", "files that Keras, Caffe's schema, ONNX and torchvision wrote", importers)
        .prepared_by(|| python::models().map(drop))
        .in_full(),
];

/// The step with which work ahead begins: the first that tests in browsers. The steps before it keep every core busy.
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

/// The page's tests of the default tier, by file: both engines in Chromium, the GPU in Firefox, one module and the other,
/// views and pictures.
const PAGE: [&str; 4] = ["modules", "page", "threads", "tiles"];

/// The package's tests of the default tier.
const PACKAGE: [&str; 3] = ["api", "node", "types"];

/// The steps that need the browsers, or the software Vulkan driver that comes with them.
const BROWSED: [&str; 4] = [PACKAGE_STEP, "page", "native", "ops"];

/// What steps share: looked for once, and only by the steps that need it.
struct Machine {
    tier: Tier,
    browsers: OnceCell<Browsers>,
    /// Whether all that can be done ahead of the present step is done.
    prepared: Cell<bool>,
}

impl Machine {
    fn browsers(&self) -> Result<&Browsers> {
        if self.browsers.get().is_none() {
            // Another thread cannot have come first: there is none.
            let _ = self.browsers.set(browsers::ensure()?);
        }
        self.browsers.get().context("the browsers were just found")
    }
}

/// Runs the steps; all of them, even after one has failed. Fails, too, where they take longer than is budgeted.
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
    if STEPS.iter().filter(wanted).any(|step| BROWSED.contains(&step.name)) {
        // Downloaded and unpacked while others compute. The first step that needs them waits, and tells what went wrong.
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
    // Once more, as the end of a long log is where one looks.
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

/// What the process that [`Ahead`] starts does.
fn prepare(options: &Options) {
    for step in STEPS.iter().filter(|step| options.steps.iter().any(|name| name == step.name)) {
        if let Some(prepare) = step.prepare {
            // Where it fails, the step does it again, and tells what went wrong.
            ahead::tell(step.name, jobs::quietly(prepare).is_ok());
        }
    }
}

/// cargo with the reference data made known to the tests.
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

fn clippy(_: &Machine) -> Result<()> {
    lint()
}

fn lint() -> Result<()> {
    Job::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The browser's tests and no others: the rest are native programs.
const WASM: &str = "--target=wasm32-unknown-unknown";

fn clippy_wasm(_: &Machine) -> Result<()> {
    lint_wasm()
}

fn lint_wasm() -> Result<()> {
    wasm::target()?;
    let packages = ["--package=googlenet-web", "--package=googlenet-importers"];
    Job::run(cargo(&["clippy", WASM]).args(packages).args(["--lib", "--test=browser", "--", "-D", "warnings"]))?;
    for engine in ["cpu", "gpu"] {
        // As its module has it, without the other.
        let only = ["--package=googlenet-web", "--lib", "--no-default-features", "--features", engine];
        Job::run(cargo(&["clippy", WASM]).args(only).args(["--", "-D", "warnings"]))?;
    }
    let packages = ["--package=googlenet-web", "--package=team-test"];
    Job::run(wasm::clippy_threads()?.args(packages).args(["--lib", "--", "-D", "warnings"]))
}

fn native(machine: &Machine) -> Result<()> {
    // The software Vulkan driver comes with them.
    machine.browsers()?;
    shell::run(&mut cargo(&NATIVE))?;
    // In the profile that its dependencies were compiled in for `cargo xtask`.
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
    // Seconds; software adapters are slow.
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
    wasm::build(if machine.tier == Tier::Full { Build::Release } else { Build::Fast })?;
    wasm::build_tests()
}

fn pages(machine: &Machine) -> Result<()> {
    page::install()?;
    let mut tests = NodeTests::new(machine, "tests", &PAGE)?;
    let command = &mut tests.command;
    command.env("XTASK", env::current_exe()?).env("PAGE_TESTS", repo::target().join("page-tests"));
    if repo::reference().is_some() {
        // Asked of the step's preparation and not of cargo, which would wait for what is compiled ahead after it.
        if !machine.prepared.get() {
            page_references()?;
        }
        command.env("KERAS_MODEL", keras_model());
    }
    tests.run()
}

/// The Keras weights as a model file.
fn keras_model() -> PathBuf {
    repo::target().join("keras.safetensors")
}

/// Makes what the page is compared with: the Keras weights as a model file, and beside it BVLC's layers in f64.
fn page_references() -> Result<()> {
    let Some(reference) = repo::reference() else { return Ok(()) };
    compile_native()?;
    let h5 = reference.join("keras/googlenet_keras3.weights.h5");
    let mut import = cargo(&["run", "--quiet", "--package=googlenet-web", "--", "import"]);
    Job::run(import.arg(h5).arg("-o").arg(keras_model()).args(["--mean", "0,0,0"]))?;
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

/// The tests of a folder in `www`, for Node to run.
struct NodeTests {
    command: Command,
    report: PathBuf,
}

impl NodeTests {
    /// Those of the default tier, or all.
    fn new(machine: &Machine, folder: &str, default: &[&str]) -> Result<Self> {
        let browsers = machine.browsers()?;
        let report = repo::target().join("failed-tests.txt");
        let mut command = Command::new("node");
        // One file after the other: software adapters take every core there is.
        command.args(["--test", "--test-concurrency=1"]);
        command.args(["--test-reporter=spec", "--test-reporter-destination=stdout"]);
        command.args(["--test-reporter=spec", "--test-reporter-destination"]).arg(&report);
        let mut files = page::tests(folder)?;
        if machine.tier == Tier::Default {
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

    /// Runs them; the error holds what failed.
    fn run(mut self) -> Result<()> {
        shell::run(&mut self.command).map_err(|error| {
            let report = fs::read_to_string(&self.report).unwrap_or_default();
            let failed = report.split_once("failing tests:").map_or("", |(_, failed)| failed);
            anyhow!("{error}\n{}", failed.trim())
        })
    }
}
