//! `googlenet classify`: classifies pictures.

use super::trace::Trace;
use super::tuned;
use googlenet::engine::{Backend, Engine, Info, Options, Output};
use googlenet::model::preprocess::{Crop, Image};
use googlenet::plan::Input;
use googlenet::{Error, Result};
use serde::Serialize;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Classify pictures, and print the most probable classes of each
#[derive(clap::Args)]
pub struct Args {
    /// JPEG, PNG, GIF, WebP or BMP files
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// A safetensors model [default: $GOOGLENET_MODEL, or the bundled one]
    #[arg(long, value_name = "PATH")]
    model: Option<PathBuf>,
    /// auto, cpu or gpu; auto is the GPU if there is a real one, otherwise the CPU
    #[arg(long, default_value = "auto")]
    backend: Backend,
    /// Number of threads on the CPU [default: the number of cores, at most 8]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Compute in half precision if the GPU can
    #[arg(long)]
    f16: bool,
    /// Number of classes to print for each picture
    #[arg(long, value_name = "N", default_value = "5")]
    top: NonZeroUsize,
    /// How the picture becomes square: center (crop the largest centre square), squash (scale both sides to the same
    /// length) or fit (scale the whole picture, and add bars)
    #[arg(long, default_value = "center")]
    crop: Crop,
    /// Print one line of JSON for each picture
    #[arg(long)]
    json: bool,
    /// Do not measure which kernels are fastest on this GPU after the last picture, and ignore earlier measurements
    #[arg(long)]
    no_tune: bool,
    /// Write the time of each step as a trace in Chrome's JSON format
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

pub fn run(args: Args) -> super::common::Result {
    let path = match args.model {
        Some(path) => path,
        None => super::common::default_model()?,
    };
    // The file is created first, so that a wrong path fails before anything runs.
    let into = match &args.trace {
        Some(path) => Some((path, fs::File::create(path).map_err(|e| super::common::in_file(path, e))?)),
        None => None,
    };
    // Only the main classifier's output is printed.
    let model = super::common::load(&path)?.without_heads()?;
    let options = Options { backend: args.backend, threads: args.threads, half: args.f16, ..Options::default() };
    let mut engine = pollster::block_on(Engine::with(model, options)).map_err(|e| super::common::in_file(&path, e))?;
    let known = !args.no_tune && pollster::block_on(tuned::recall(&mut engine));
    if !args.json {
        let Info { backend, adapter, reason, threads, f16 } = engine.info();
        let name = &engine.model().name;
        let threads = if *threads > 1 { format!(", {threads} threads") } else { String::new() };
        let f16 = if *f16 { ", f16" } else { "" };
        writeln!(std::io::stdout(), "{name} on {}: {adapter}{threads}{f16} ({reason})", backend.to_uppercase())?;
    }
    engine.set_timed(into.is_some());
    let mut trace = Trace::default();
    let mut code = ExitCode::SUCCESS;
    for path in &args.images {
        match classify(&mut engine, path, args.crop) {
            Ok(output) => {
                if into.is_some() {
                    trace.add(path, &engine, &output);
                }
                let answer = Answer::new(path, &engine, &output, args.top.get());
                let text = if args.json { serde_json::to_string(&answer)? } else { answer.to_string() };
                writeln!(std::io::stdout(), "{text}")?;
            }
            // The other pictures are still classified.
            Err(e) => {
                super::common::complain(&super::common::in_file(path, e).to_string());
                code = ExitCode::FAILURE;
            }
        }
    }
    if let Some((path, file)) = into {
        serde_json::to_writer(file, &trace).map_err(|e| super::common::in_file(path, e))?;
    }
    if !args.no_tune && !known && engine.can_tune() {
        // Measured once for each adapter, after the results are printed. A failure only means that the next call is not
        // faster than this one.
        if let Err(e) = pollster::block_on(tuned::tune(&mut engine)) {
            eprintln!("note: the fastest kernels could not be measured and saved: {e}");
        }
    }
    Ok(code)
}

fn classify(engine: &mut Engine, path: &Path, crop: Crop) -> Result<Output> {
    let bytes = fs::read(path).map_err(|e| Error::Io(e.to_string()))?;
    let image = Image::decode(&bytes)?;
    pollster::block_on(engine.run_input(Input::Images(&[&image], crop)))
}

/// The output for one picture, as a line of JSON or as text.
#[derive(Serialize)]
struct Answer<'a> {
    image: String,
    model: &'a str,
    backend: &'a str,
    adapter: &'a str,
    threads: usize,
    top: Vec<Class<'a>>,
    ms: Time,
}

#[derive(Serialize)]
struct Class<'a> {
    index: usize,
    label: &'a str,
    probability: f32,
}

#[derive(Serialize)]
struct Time {
    preprocess: f64,
    run: f64,
}

impl<'a> Answer<'a> {
    fn new(path: &Path, engine: &'a Engine, output: &Output, count: usize) -> Self {
        let (model, info) = (engine.model(), engine.info());
        let top = output.answer().map(|head| head.top(0, count)).unwrap_or_default();
        let label = |index: usize| model.labels.get(index).map_or("", String::as_str);
        Answer {
            image: path.display().to_string(),
            model: &model.name,
            backend: info.backend,
            adapter: &info.adapter,
            threads: info.threads,
            top: top.into_iter().map(|(index, p)| Class { index, label: label(index), probability: p }).collect(),
            ms: Time { preprocess: output.preprocess_ms, run: output.run_ms },
        }
    }
}

/// Writes the picture's name and times, then one line with a bar for each class.
impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const BAR: usize = 20;
        let Time { preprocess, run } = self.ms;
        write!(f, "\n{}  ({preprocess:.1} ms to preprocess, {run:.1} ms to run)", self.image)?;
        for class in &self.top {
            let full = (class.probability * BAR as f32).round() as usize;
            let bar = "█".repeat(full.min(BAR));
            write!(f, "\n  {:5.1} %  {bar:<BAR$}  {}", class.probability * 100.0, class.label)?;
        }
        Ok(())
    }
}
