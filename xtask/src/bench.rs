//! `cargo xtask bench`: compares the engine with other runtimes in browsers, on the same weights.

use crate::server::{Server, Site};
use crate::{browsers, page, python, repo, shell, wasm};
use anyhow::{Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

#[derive(clap::Args)]
pub struct Options {
    /// Write the results to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Number of runs of each runtime, after 10 warm-up runs
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Network: BVLC's (with LRN), Keras' (without LRN), or both
    #[arg(long, value_name = "VARIANT", default_value = "both", value_parser = ["caffe", "keras", "both"])]
    variant: String,
    /// Measure only our engine, with batches of 1 to 8 and pictures of 224 to 448
    #[arg(long)]
    scale: bool,
    /// Measure only our engine, without the threads of other runtimes
    #[arg(long, conflicts_with = "scale")]
    ours: bool,
    /// Print the time of each step of our engine, not only the sums
    #[arg(long, conflicts_with = "scale")]
    layers: bool,
    /// Measure the last build without building again
    #[arg(long)]
    no_build: bool,
}

/// Files from npm packages that other runtimes fetch by name, and the paths at which they are served. They are under
/// `/assets/`, so browsers may cache them.
const PUBLISHED: [(&str, &str); 3] = [
    ("assets/onnxruntime", "onnxruntime-web/dist"),
    ("assets/tensorflow", "@tensorflow/tfjs-backend-wasm/dist"),
    ("assets/litert", "@litertjs/core/wasm"),
];

/// Options of `bench gpu`.
#[derive(clap::Args)]
pub struct GpuOptions {
    /// Write the results to a JSON file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Number of runs of each runtime [default: 20 in Firefox, 3 in Chromium]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Network: BVLC's (with LRN), Keras' (without LRN), or both
    #[arg(long, value_name = "VARIANT", default_value = "both", value_parser = ["caffe", "keras", "both"])]
    variant: String,
    /// Firefox on the machine's Vulkan adapter, Chromium on its software adapter, or natively without other runtimes
    #[arg(long, value_name = "WHERE", default_value = "both", value_parser = ["firefox", "chromium", "both", "native"])]
    browser: String,
    /// Measure the last build without building again
    #[arg(long)]
    no_build: bool,
    /// Only build the native program and print its path, to copy it to a machine with a GPU
    #[arg(long, conflicts_with_all = ["json", "rounds", "browser", "no_build"])]
    binary: bool,
}

/// Measures WebGPU in browsers together with all other WebGPU runtimes, or natively through Vulkan, Metal or Direct3D
/// 12.
pub fn gpu(options: &GpuOptions) -> Result<()> {
    if options.binary || options.browser == "native" {
        return native(options);
    }
    let mut command = driver("run-gpu.mjs", !options.no_build)?;
    command.env("BENCH_VARIANT", &options.variant).env("BENCH_BROWSER", &options.browser);
    command.env("BENCH_ROUNDS", options.rounds.map_or(String::new(), |n| n.to_string()));
    measure(command, "gpu.json", options.json.as_deref())
}

/// Builds the native program, which includes everything except the models, and runs the measurement.
fn native(options: &GpuOptions) -> Result<()> {
    if !options.no_build {
        shell::run(&mut shell::cargo(&["build", "--profile=native", "--package=googlenet-web", "--bin=googlenet"]))?;
    }
    let program = repo::target().join("native").join(format!("googlenet{}", env::consts::EXE_SUFFIX));
    let bvlc = repo::reference().map(|folder| folder.join("imagenet/bvlc_googlenet.safetensors"));
    // The bundled model has the variant without LRN.
    let bundled = repo::www().join("models/cifar10-noheads.safetensors");
    let wanted = |variant: &str| options.variant == variant || options.variant == "both";
    let models = bvlc.filter(|_| wanted("caffe")).into_iter().chain(wanted("keras").then_some(bundled));
    let models: Vec<_> = models.filter(|path| path.is_file()).collect();
    if models.is_empty() {
        bail!("there is no such model: set GOOGLENET_REFERENCE for BVLC's weights");
    }
    let mut command = Command::new(&program);
    command.args(["bench", "--layers", "--tune"]).args(models);
    if options.binary {
        println!("{} is ready. Carry it with the models, and run there:", program.display());
        println!("{}", shell::show(&command).replace(&*program.to_string_lossy(), "googlenet"));
        return Ok(());
    }
    if let Some(rounds) = options.rounds {
        command.args(["--rounds", &rounds.to_string()]);
    }
    if let Some(file) = &options.json {
        command.arg("--json").arg(file);
    }
    shell::run(&mut command)
}

/// Measures the CPU engine in Chromium together with all other WebAssembly runtimes.
pub fn cpu(options: &Options) -> Result<()> {
    let mut command = driver("run.mjs", !options.no_build)?;
    command.env("BENCH_ROUNDS", options.rounds.to_string()).env("BENCH_VARIANT", &options.variant);
    let group = match options {
        Options { scale: true, .. } => "scale",
        Options { ours: true, .. } => "ours",
        _ => "all",
    };
    command.env("BENCH_GROUP", group).env("BENCH_LAYERS", if options.layers { "1" } else { "" });
    measure(command, "cpu.json", options.json.as_deref())
}

/// Runs a driver, and copies its results to `wanted`.
fn measure(mut command: Command, result: &str, wanted: Option<&Path>) -> Result<()> {
    let result = repo::target().join("bench").join(result);
    shell::run(command.env("BENCH_JSON", &result))?;
    if let Some(file) = wanted {
        fs::copy(&result, file)?;
    }
    Ok(())
}

/// Builds and serves the page, and returns the command of the script that drives the browsers.
fn driver(script: &str, build: bool) -> Result<Command> {
    let browsers = browsers::ensure()?;
    let folder = repo::target().join("bench");
    let (root, models) = (folder.join("page"), folder.join("models"));
    if build {
        wasm::build(wasm::Build::Release)?;
        page::build_bench(&root)?;
        make_models(&models)?;
    } else if !made_by(&models).is_file() {
        bail!("nothing was built yet: leave out --no-build");
    }

    let installed = repo::www().join("node_modules");
    let mut mounts: Vec<_> = PUBLISHED.iter().map(|(at, from)| ((*at).to_owned(), installed.join(from))).collect();
    mounts.push(("assets/models".to_owned(), models));
    let server = Server::bind(0, Site { root, mounts, models: Vec::new().into(), expected: false.into() })?;
    let url = format!("http://localhost:{}", server.port()?);
    thread::spawn(move || server.serve());

    let mut command = Command::new("node");
    command.arg(repo::www().join("bench").join(script)).current_dir(repo::www());
    command.env("CHROMIUM", &browsers.chromium).env("FIREFOX", &browsers.firefox).env("BENCH_URL", url);
    Ok(command)
}

/// The file that identifies what a folder of models was made from. It is written after the last model.
fn made_by(folder: &Path) -> PathBuf {
    folder.join("made_by.py")
}

/// Writes the models, unless they are up to date. They have the reference's weights if there is a reference.
fn make_models(folder: &Path) -> Result<()> {
    let script = repo::root().join("bench/make_peers.py");
    let reference = repo::reference();
    let made_of = format!("{}\n# {reference:?}\n", fs::read_to_string(&script)?);
    let done = made_by(folder);
    if fs::read_to_string(&done).is_ok_and(|made_by| made_by == made_of) {
        return Ok(());
    }
    let mut command = Command::new(python::ensure()?);
    command.arg(&script).arg(folder);
    if let Some(reference) = reference {
        fs::create_dir_all(folder)?;
        let (imported, keras) = (folder.join("imported.safetensors"), folder.join("weights.safetensors"));
        let mut import = shell::googlenet(&["import", "--mean", "0,0,0"]);
        shell::run(import.arg(reference.join("keras/googlenet_keras3.weights.h5")).arg("-o").arg(&imported))?;
        let mut convert = shell::googlenet(&["convert", "--dtype", "f32", "--no-heads"]);
        shell::run(convert.arg(&imported).arg("-o").arg(&keras))?;
        command.arg("--caffe").arg(reference.join("imagenet/bvlc_googlenet.safetensors"));
        command.arg("--keras").arg(keras);
    }
    // TensorFlow logs only errors.
    shell::run(command.env("TF_CPP_MIN_LOG_LEVEL", "2"))?;
    fs::write(done, made_of)?;
    Ok(())
}
