//! `cargo xtask test`

use crate::browsers::{self, Browsers};
use crate::wasm::Build;
use crate::{budgets, imagenet, licences, package, page, python, repo, shell, wasm};
use anyhow::{Context, Result, anyhow, bail};
use std::cell::OnceCell;
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
    run: fn(&Machine) -> Result<()>,
}

const STEPS: [Step; 13] = [
    Step { name: "fmt", what: "Rust is formatted", full: false, run: fmt },
    Step { name: "licences", what: "what everything depended on is under", full: false, run: |_| licences::run() },
    Step { name: "wasm", what: "the modules that browsers load", full: false, run: modules },
    Step { name: "types", what: "TypeScript", full: false, run: |_| page::check() },
    Step { name: "build", what: "the page", full: false, run: |_| page::build().and_then(|()| page::build_tests()) },
    Step { name: "page", what: "the page in real browsers", full: false, run: pages },
    Step { name: "package", what: "the npm package, packed, in fresh projects", full: false, run: packed },
    Step { name: "clippy", what: "clippy, native", full: false, run: clippy },
    Step { name: "native", what: "native tests", full: false, run: native },
    Step { name: "clippy-wasm", what: "clippy, wasm32", full: true, run: clippy_wasm },
    Step { name: "imagenet", what: "the ImageNet model from the reference", full: true, run: imagenet_model },
    Step {
        name: "importers",
        what: "files that Keras, Caffe's schema, ONNX and torchvision wrote",
        full: true,
        run: importers,
    },
    Step { name: "ops", what: "every operation in Chromium, on WebGPU and in wasm", full: true, run: ops },
];

/// The page's tests of the default tier, by file: both engines in Chromium, the GPU in Firefox, one module and the other,
/// views and pictures.
const PAGE: [&str; 4] = ["modules", "page", "threads", "tiles"];

/// The package's tests of the default tier.
const PACKAGE: [&str; 3] = ["api", "node", "types"];

/// What steps share: looked for once, and only by the steps that need it.
struct Machine {
    tier: Tier,
    browsers: OnceCell<Browsers>,
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
    let all = Instant::now();
    match repo::reference() {
        Some(path) => println!("Reference data: {}", path.display()),
        None => println!("Reference data: none; what compares with it is skipped (set GOOGLENET_REFERENCE)"),
    }
    let tier = if options.full { Tier::Full } else { Tier::Default };
    if tier == Tier::Default && options.steps.is_empty() {
        println!("The default tier; `cargo xtask test --full` runs everything.");
    }
    let machine = Machine { tier, browsers: OnceCell::new() };
    let wanted = |step: &&Step| match options.steps.is_empty() {
        true => tier == Tier::Full || !step.full,
        false => options.steps.iter().any(|name| name == step.name),
    };
    if STEPS.iter().filter(wanted).any(|step| step.name == "importers") {
        // Gigabytes to download and unpack, while others compute. Its step waits for it, and tells what went wrong.
        thread::spawn(|| drop(python::ensure()));
    }
    let mut lines = Vec::new();
    let mut failures = Vec::new();
    for step in STEPS.iter().filter(wanted) {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
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
    shell::run(&mut cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

/// The browser's tests and no others: the rest are native programs.
const WASM: &str = "--target=wasm32-unknown-unknown";

fn clippy_wasm(_: &Machine) -> Result<()> {
    wasm::target()?;
    let packages = ["--package=googlenet-web", "--package=googlenet-importers"];
    shell::run(cargo(&["clippy", WASM]).args(packages).args(["--lib", "--test=browser", "--", "-D", "warnings"]))?;
    for engine in ["cpu", "gpu"] {
        // As its module has it, without the other.
        let only = ["--package=googlenet-web", "--lib", "--no-default-features", "--features", engine];
        shell::run(cargo(&["clippy", WASM]).args(only).args(["--", "-D", "warnings"]))?;
    }
    let packages = ["--package=googlenet-web", "--package=team-test"];
    shell::run(wasm::clippy_threads()?.args(packages).args(["--lib", "--", "-D", "warnings"]))
}

fn native(machine: &Machine) -> Result<()> {
    // The software Vulkan driver comes with them.
    machine.browsers()?;
    shell::run(&mut cargo(&["test", "--workspace", "--exclude=xtask"]))?;
    // In the profile that its dependencies were compiled in for `cargo xtask`.
    shell::run(&mut cargo(&["test", "--package=xtask", "--profile=xtask"]))
}

fn importers(_: &Machine) -> Result<()> {
    let mut command = cargo(&["test", "--test=importers", "--", "--show-output"]);
    shell::run(command.env("GOOGLENET_MODELS", python::models()?))
}

fn ops(machine: &Machine) -> Result<()> {
    wasm::target()?;
    let browsers = machine.browsers()?;
    let mut command = cargo(&["test", WASM, "--test=browser"]);
    command.env("CHROMEDRIVER", &browsers.chromedriver);
    // Seconds; software adapters are slow.
    command.env("WASM_BINDGEN_TEST_TIMEOUT", "600");
    shell::with_path(&mut command, &wasm::test_runner()?)?;
    shell::run(&mut command)
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
    if let Some(reference) = repo::reference() {
        // The Keras weights as a model file.
        let h5 = reference.join("keras/googlenet_keras3.weights.h5");
        let keras = repo::target().join("keras.safetensors");
        let mut import = cargo(&["run", "--quiet", "--package=googlenet-web", "--", "import"]);
        shell::run(import.arg(h5).arg("-o").arg(&keras).args(["--mean", "0,0,0"]))?;
        command.env("KERAS_MODEL", keras);
        // BVLC's layers in f64, beside it.
        let mut exact = cargo(&["test", "--quiet", "--test=golden", "bvlc_against_exact_arithmetic"]);
        shell::run(exact.env("GOOGLENET_EXACT", repo::target().join("exact.safetensors")))?;
    }
    tests.run()
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
