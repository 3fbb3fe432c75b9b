//! Depths beyond `head`: layers of the network are trained, too.

use super::args::{self, Args, Depth, LearningRate, Validate};
use super::data::Data;
use super::features::WIDTH;
use super::output::Target;
use super::pictures::{Cached, Pictures};
use super::progress::Progress;
use super::report::{DeepReport, HeldOut, Seconds};
use crate::cli::common;
use googlenet::engine::training::KeptTensor;
use googlenet::engine::{Engine, Info, Options};
use googlenet::graph::googlenet::{Spec, Variant};
use googlenet::graph::network::NodeId;
use googlenet::model::Model;
use googlenet::model::preprocess::Preprocess;
use googlenet::model::weights::Weights;
use googlenet::plan::optimiser::{Optimiser, Rule};
use googlenet::train::augment::{Augment, RandomCrop};
use googlenet::train::checkpoint::{self, Checkpoint, State};
use googlenet::train::dataset::{File, copies};
use googlenet::train::head::{Features, Options as FitOptions, fit};
use googlenet::train::history::Epoch;
use googlenet::train::metrics::{Evaluation, predicted};
use googlenet::train::schedule::{Finder, Schedule};
use googlenet::train::trainer::{Config, DROPOUT, Samples, Trainer, random_weights, with_dropout, with_weights};
use googlenet::train::{plot, split};
use pollster::block_on;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// The share of each class that is held out by default.
const HELD_OUT: f64 = 0.2;
/// The number of folds that choose the penalty of the classifier with which fine-tuning begins.
const FOLDS: usize = 5;
/// The most memory for activations of frozen layers; more pictures run through the frozen layers in each epoch.
const MAX_CACHE_BYTES: usize = 2 << 30;
/// The smallest input at which the auxiliary heads' pools fit.
const SMALLEST_WITH_HEADS: usize = 80;
/// A head whose loss is not below this share of ln(classes) after some epochs has learnt nothing.
const STUCK: f64 = 0.98;
const STUCK_AFTER: u64 = 3;

pub fn run(
    args: &Args,
    depth: Depth,
    data: &Data,
    into: &Target,
    json: Option<&Target>,
    plot: Option<&Target>,
) -> common::Result {
    let started = Instant::now();
    let mut out = stdout();
    let (mut base, path) = base(args, &data.training.classes)?;
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = args.threads.unwrap_or(cores);
    let pictures = Pictures::read(&data.training, base.preprocess, workers, 2)?;
    let validation = match &data.validation {
        Some(folder) => Some(Pictures::read(folder, base.preprocess, workers, 1)?),
        None => None,
    };
    let labels = pictures.labels();
    let groups = copies(&pictures.contents);
    let options = Options { backend: args.backend, threads: args.threads, ..Options::default() };

    let held_out: Vec<bool> = match (&args.validate, &validation) {
        (_, Some(_)) => vec![false; labels.len()],
        (Some(Validate::Share(share)), _) => split::share(&labels, &groups, *share, args.seed),
        (Some(Validate::Folds(_)), _) => {
            return Err(format!(
                "--validate kfold trains a model for each fold, which is possible at depth head only; at depth {depth}, \
                 give a share such as {HELD_OUT}, or a folder"
            )
            .into());
        }
        _ => split::share(&labels, &groups, HELD_OUT, args.seed),
    };
    let numbers = |wanted: bool| (0..labels.len()).filter(|&i| held_out[i] == wanted).collect::<Vec<usize>>();
    let (training, held) = (numbers(false), numbers(true));

    let mut seconds = Seconds { features: 0.0, fit: 0.0 };
    if !args.scratch {
        // Fine-tuning begins with the classifier that fits the features as they are: from random weights, the first
        // steps would destroy what the network knows.
        let mut engine = block_on(Engine::with(base.clone(), options)).map_err(|e| common::in_file(&path, e))?;
        let begun = Instant::now();
        let features = pictures.activations(&mut engine, "pool5/7x7_s1", "features")?;
        seconds.features = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        // Pictures that are held out must not be known to this classifier either.
        let rows: Vec<f32> = training.iter().flat_map(|&i| &features[i * WIDTH..][..WIDTH]).copied().collect();
        let of_rows: Vec<usize> = training.iter().map(|&i| labels[i]).collect();
        let contents: Vec<u64> = training.iter().map(|&i| pictures.contents[i]).collect();
        let folds = FOLDS.min(training.len()).max(2);
        let parts = split::folds(&of_rows, &copies(&contents), folds, args.seed);
        let classes = data.training.classes.len();
        let fit_options = FitOptions { threads: workers, ..FitOptions::default() };
        let head = fit(Features::new(&rows, WIDTH)?, &of_rows, classes, &parts, &fit_options, |_| {})?;
        seconds.fit = begun.elapsed().as_secs_f64();
        base = base.with_classifier(data.training.classes.clone(), &head.weights, &head.bias)?;
    }
    // The part of the network that is trained, and what it reads.
    let augment = augment(args);
    let from = match depth {
        Depth::Module(name) => Some(format!("inception_{name}")),
        _ => None,
    };
    let frozen = match &from {
        Some(module) if augment == Augment::default() => frozen_node(&base, module, labels.len()),
        _ => None,
    };
    let mut trained = base.clone();
    if let Some(node) = frozen {
        trained.network = base.network.after(node)?;
    }
    trained.network =
        with_dropout(&trained.network, args.dropout.unwrap_or(if args.scratch { DROPOUT } else { [0.0; 2] }))?;
    if args.scratch {
        let random = random_weights(&trained.network, args.seed);
        trained = with_weights(&trained, &random)?;
    }
    let cache = match frozen {
        Some(node) => {
            let begun = Instant::now();
            let mut part = base.clone();
            part.network = base.network.until(node, base.preprocess.size)?;
            let mut engine = block_on(Engine::with(part, options)).map_err(|e| common::in_file(&path, e))?;
            let name = base.network.node(node).name.clone();
            let training = pictures.activations(&mut engine, &name, "frozen layers")?;
            let validation = match &validation {
                Some(validation) => validation.activations(&mut engine, &name, "frozen layers")?,
                None => Vec::new(),
            };
            seconds.features += begun.elapsed().as_secs_f64();
            Some((training, validation, base.network.node(node).shape.len()))
        }
        None => None,
    };
    let samples: Box<dyn Samples> = match &cache {
        Some((values, _, width)) => {
            Box::new(Cached { values, width: *width, files: &pictures.files, numbers: training.clone() })
        }
        None => Box::new(pictures.select(training.clone(), augment, args.seed)),
    };
    let plain = Augment::default();
    let judged: Box<dyn Samples> = match (&cache, &validation) {
        (Some((_, values, width)), Some(validation)) => {
            let numbers = (0..validation.files.len()).collect();
            Box::new(Cached { values, width: *width, files: &validation.files, numbers })
        }
        (Some((values, _, width)), None) => {
            Box::new(Cached { values, width: *width, files: &pictures.files, numbers: held.clone() })
        }
        (None, Some(validation)) => Box::new(validation.select((0..validation.files.len()).collect(), plain, 0)),
        (None, None) => Box::new(pictures.select(held.clone(), plain, 0)),
    };
    let judged_files: Vec<File> = match &validation {
        Some(validation) => validation.files.clone(),
        None => held.iter().map(|&i| pictures.files[i].clone()).collect(),
    };
    drop(held_out);

    let mut config = config(args, samples.len());
    config.from = from.filter(|_| frozen.is_none());
    if args.lr == Some(LearningRate::Find) {
        config.rate = find_rate(&trained, options, &config, &*samples)?;
    }
    let mut run = Run {
        trainer: block_on(Trainer::new(trained, options, config, samples.len()))?,
        samples: &*samples,
        judged: &*judged,
        files: &judged_files,
        classes: &data.training.classes,
        checkpoint: args.checkpoint.clone(),
        options: facts(args, depth, &base.name, &data.training.classes, samples.len()),
        history: Vec::new(),
        sums: Vec::new(),
        predictions: Vec::new(),
        warned: false,
    };
    let Info { backend, adapter, reason, threads, .. } = run.trainer.engine().info().clone();
    let shared = if threads > 1 { format!(", {threads} threads") } else { String::new() };
    writeln!(out, "{} on {}: {adapter}{shared} ({reason})", base.name, backend.to_uppercase())?;
    writeln!(
        out,
        "{} pictures of {} classes to train with, {} to judge by; {} steps of {} pictures",
        samples.len(),
        data.training.classes.len(),
        judged.len(),
        run.trainer.steps(),
        run.trainer.config().batch
    )?;
    if let Some(file) = &args.resume {
        run.resume(&Checkpoint::read(file)?)?;
        writeln!(out, "Going on after step {} of {}", run.trainer.steps_done(), run.trainer.steps())?;
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    // Where a handler cannot be set, Ctrl-C ends the program as usual.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst));
    if !run.train(&stopped)? {
        let file = args.checkpoint.clone().unwrap_or_else(|| into.path().with_extension("checkpoint"));
        run.save(&file)?;
        writeln!(out, "\nStopped after step {}. Go on with the same command and", run.trainer.steps_done())?;
        writeln!(out, "  --resume {}", file.display())?;
        // As a shell reports a program that Ctrl-C has ended.
        return Ok(ExitCode::from(130));
    }

    let labels: Vec<usize> = judged_files.iter().map(|file| file.class).collect();
    let classes = &data.training.classes;
    let how = match (&args.validate, &validation) {
        (Some(how @ Validate::Folder(_)), Some(_)) => how.to_string(),
        (Some(how), _) => how.to_string(),
        (None, _) => HELD_OUT.to_string(),
    };
    let evaluation = Evaluation::new(&run.predictions, &labels, classes.len())?;
    let held_out = HeldOut::new(how.clone(), &evaluation, classes, &judged_files, &run.predictions);
    let facts = Training {
        base: (!args.scratch).then_some(base.name.as_str()),
        depth: depth.to_string(),
        examples: samples.len(),
        classes: classes.len(),
        epochs: run.trainer.config().epochs,
        size: base.preprocess.size,
        validation: how,
        held_out_examples: evaluation.examples,
        held_out_accuracy: evaluation.accuracy,
        seed: args.seed,
    };
    let (bytes, name) = model_file(&base, &block_on(run.trainer.weights())?, data, &facts)?;
    into.write(&bytes)?;
    if let Some(plot) = plot {
        plot.write(plot::svg(&name, &run.history).as_bytes())?;
    }
    let (right, examples, share) = (evaluation.right(), evaluation.examples, 100.0 * evaluation.accuracy);
    writeln!(out, "\nHeld-out accuracy: {share:.1} % ({right} of {examples}).")?;
    if let Some(warning) = held_out.warning() {
        writeln!(out, "Warning: {warning}.")?;
    }
    write!(out, "\n{}", evaluation.table(classes))?;
    let (loss, calibration) = (evaluation.cross_entropy, 100.0 * evaluation.calibration_error);
    writeln!(out, "\nCross-entropy: {loss:.3}. Probabilities are off by {calibration:.1} points on average.")?;
    if !held_out.wrong.is_empty() {
        write!(out, "\n{}", held_out.wrong_text())?;
    }
    if let Some(json) = json {
        let report = DeepReport {
            model: name.clone(),
            base: facts.base.map(str::to_owned),
            depth: depth.to_string(),
            backend,
            adapter,
            seed: args.seed,
            pictures: samples.len(),
            held_out,
            seconds: Seconds { fit: started.elapsed().as_secs_f64() - seconds.features, ..seconds },
            epochs: run.history,
            skipped: [Some(&pictures), validation.as_ref()]
                .into_iter()
                .flatten()
                .flat_map(|p| p.skipped.clone())
                .collect(),
        };
        json.write(&serde_json::to_vec(&report)?)?;
    }
    let path = into.path().display();
    writeln!(out, "\nWrote {path}: {name}, {:.1} MB. Use it with", bytes.len() as f64 / 1e6)?;
    writeln!(out, "  googlenet classify --model {path} IMAGE")?;
    Ok(ExitCode::SUCCESS)
}

/// The model to begin with, and its path: the base without auxiliary heads, or a network for random weights.
fn base(args: &Args, classes: &[String]) -> common::Result<(Model, PathBuf)> {
    if !args.scratch {
        let path = match &args.model {
            Some(path) => path.clone(),
            None => common::default_model()?,
        };
        let mut base = common::load(&path)?.without_heads()?;
        if let Some(size) = args.size {
            base = base.with_size(size.get()).map_err(|e| format!("--size {size}: {e}"))?;
        }
        return Ok((base, path));
    }
    let variant = args.variant.unwrap_or(Variant::Keras);
    let size = args.size.map_or(224, NonZeroUsize::get);
    let heads = variant.has_heads() && (variant == Variant::Torchvision || size >= SMALLEST_WITH_HEADS);
    if variant.has_heads() && !heads {
        eprintln!("note: the auxiliary heads need an input of at least {SMALLEST_WITH_HEADS} pixels, and are left out");
    }
    let spec = Spec { variant, classes: classes.len(), heads, size };
    // From bytes to numbers between -1 and 1.
    let preprocess = Preprocess { size, scale: 1.0 / 127.5, mean: [1.0; 3], ..Preprocess::default() };
    preprocess.check().map_err(|e| format!("--size {size}: {e}"))?;
    let model = Model {
        name: format!("a {variant} network with random weights"),
        network: spec.build()?,
        spec,
        weights: Weights::default(),
        labels: classes.to_vec(),
        preprocess,
        source: None,
        license: None,
        training: None,
        notes: Vec::new(),
    };
    Ok((model, PathBuf::new()))
}

/// The node that a module reads, if its activations for all pictures fit into memory.
fn frozen_node(model: &Model, module: &str, pictures: usize) -> Option<NodeId> {
    let network = &model.network;
    let first = network.nodes().iter().find(|node| node.module.as_deref() == Some(module))?;
    let node = *first.inputs.first()?;
    (4 * pictures * network.node(node).shape.len() <= MAX_CACHE_BYTES).then_some(node)
}

fn augment(args: &Args) -> Augment {
    let kinds = args.augment.as_deref().unwrap_or_default();
    Augment {
        crop: kinds.contains(&args::Augment::Crop).then_some(RandomCrop::BySize),
        flip: kinds.contains(&args::Augment::Flip),
        colour: if kinds.contains(&args::Augment::Colour) { 0.3 } else { 0.0 },
    }
}

fn config(args: &Args, pictures: usize) -> Config {
    let optimiser = match args.optimiser {
        Some(args::Optimiser::Adam) => Optimiser::ADAM,
        _ => Optimiser::default(),
    };
    let schedule = match args.schedule {
        Some(args::Schedule::Constant) => Schedule::Constant,
        Some(args::Schedule::Step) => Schedule::Step { gamma: 0.96, every: 8.0 },
        Some(args::Schedule::Poly) => Schedule::Polynomial { power: 0.5 },
        Some(args::Schedule::OneCycle) => Schedule::OneCycle { warm_up: 0.3, start: 25.0, end: 1e4 },
        Some(args::Schedule::Cosine) => Schedule::Cosine { warm_up: 0.05 },
        None if args.scratch => Schedule::OneCycle { warm_up: 0.3, start: 25.0, end: 1e4 },
        None => Schedule::Cosine { warm_up: 0.05 },
    };
    let adam = matches!(optimiser, Optimiser::Adam { .. });
    let rate = match args.lr {
        Some(LearningRate::Value(rate)) => f64::from(rate),
        _ if adam => 1e-4,
        _ if args.scratch => 0.01,
        _ => 1e-3,
    };
    let number = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    let batch = args.batch.unwrap_or(number(32.min(pictures)));
    Config {
        rule: Rule { optimiser, ..Rule::default() },
        schedule,
        rate,
        epochs: args.epochs.map_or(if args.scratch { 30 } else { 10 }, |epochs| epochs.get() as u64),
        batch,
        micro_batch: args.micro_batch.unwrap_or(number(16)),
        auxiliary: args.aux.unwrap_or(0.3),
        smoothing: args.label_smoothing.unwrap_or(0.0),
        clip: args.clip.map(f64::from),
        average: args.ema.map(f64::from),
        from: None,
        seed: args.seed,
    }
}

/// The options on which the result depends, as a checkpoint keeps them.
fn facts(args: &Args, depth: Depth, base: &str, classes: &[String], pictures: usize) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: String| facts.insert(name.to_owned(), value);
    let Args { size, epochs, batch, micro_batch, lr, schedule, optimiser, aux, dropout, .. } = args;
    add("depth", depth.to_string());
    add("model", base.to_owned());
    add("classes", classes.join(", "));
    add("pictures", pictures.to_string());
    add("--size", format!("{size:?}"));
    add("--epochs", format!("{epochs:?}"));
    add("--batch", format!("{batch:?}"));
    add("--micro-batch", format!("{micro_batch:?}"));
    add("--lr", format!("{lr:?}"));
    add("--schedule", format!("{schedule:?}"));
    add("--optimiser", format!("{optimiser:?}"));
    add("--aux", format!("{aux:?}"));
    add("--dropout", format!("{dropout:?}"));
    add("--label-smoothing", format!("{:?}", args.label_smoothing));
    add("--clip", format!("{:?}", args.clip));
    add("--ema", format!("{:?}", args.ema));
    add("--augment", format!("{:?}", args.augment));
    add("--seed", args.seed.to_string());
    facts
}

/// Measures which learning rate is best, with a training that is thrown away.
fn find_rate(model: &Model, options: Options, config: &Config, samples: &dyn Samples) -> common::Result<f64> {
    const STEPS: usize = 60;
    let mut finder = Finder::new(1e-6, 1.0, STEPS)?;
    let config = Config { average: None, ..config.clone() };
    let mut trainer = block_on(Trainer::new(model.clone(), options, config, samples.len()))?;
    let mut progress = Progress::new("learning rates", STEPS);
    while let Some(rate) = finder.next_rate() {
        match block_on(trainer.step_at(samples, rate)) {
            Ok(report) => finder.record(report.loss),
            // The gradients are no longer finite.
            Err(_) => finder.record(f64::INFINITY),
        }
        progress.add(1);
    }
    progress.finish();
    let found = finder.choose()?;
    writeln!(
        stdout(),
        "The loss falls fastest at a learning rate of {:.1e}, and is lowest at {:.1e}; --lr find takes {:.1e}",
        found.steepest,
        found.least,
        found.rate
    )?;
    Ok(found.rate)
}

/// A training in progress, with everything that its epochs need.
struct Run<'a> {
    trainer: Trainer,
    samples: &'a dyn Samples,
    judged: &'a dyn Samples,
    files: &'a [File],
    classes: &'a [String],
    checkpoint: Option<PathBuf>,
    options: BTreeMap<String, String>,
    history: Vec<Epoch>,
    /// The sums of the losses of the steps of the epoch so far: the whole, then each head's.
    sums: Vec<f64>,
    /// The main head's probabilities of the judged pictures after the last epoch.
    predictions: Vec<f32>,
    warned: bool,
}

impl Run<'_> {
    /// Trains until the end. Returns whether it was reached; otherwise the training was stopped.
    fn train(&mut self, stopped: &AtomicBool) -> common::Result<bool> {
        let (per_epoch, batch) = (self.trainer.steps_per_epoch(), self.trainer.config().batch.get());
        let total = self.trainer.config().epochs;
        let width = self.files.len().to_string().len().max(3);
        let mut begun = Instant::now();
        let mut progress = Progress::new("training", per_epoch as usize * batch);
        progress.add((self.trainer.steps_done() % per_epoch) as usize * batch);
        while self.trainer.steps_done() < self.trainer.steps() {
            if stopped.load(Ordering::SeqCst) {
                progress.finish();
                return Ok(false);
            }
            let report = block_on(self.trainer.step(self.samples))?;
            self.sums.resize(1 + report.heads.len(), 0.0);
            self.sums[0] += report.loss;
            self.sums[1..].iter_mut().zip(&report.heads).for_each(|(sum, loss)| *sum += loss);
            progress.add(batch);
            if !self.trainer.steps_done().is_multiple_of(per_epoch) {
                continue;
            }
            progress.finish();
            self.end_epoch(report.rate, per_epoch)?;
            let epoch = &self.history[self.history.len() - 1];
            let heads: Vec<String> = epoch.heads.iter().map(|(name, loss)| format!("{name} {loss:.4}")).collect();
            let heads = if heads.len() > 1 { format!(" ({})", heads.join(", ")) } else { String::new() };
            let accuracy = match epoch.accuracy {
                Some(share) => format!(", held-out accuracy {:.1} %", 100.0 * share),
                None => String::new(),
            };
            writeln!(
                stdout(),
                "epoch {:>width$} of {total}: loss {:.4}{heads}{accuracy}, rate {:.1e}, {:.1} s",
                self.history.len(),
                epoch.loss,
                epoch.rate,
                begun.elapsed().as_secs_f64()
            )?;
            self.warn_of_stuck_heads();
            if let Some(path) = self.checkpoint.clone() {
                self.save(&path)?;
            }
            begun = Instant::now();
            progress = Progress::new("training", per_epoch as usize * batch);
        }
        progress.finish();
        if self.predictions.is_empty() {
            // The checkpoint was written after the last step.
            self.judge()?;
        }
        Ok(true)
    }

    fn judge(&mut self) -> common::Result<Option<f32>> {
        if self.judged.is_empty() {
            return Ok(None);
        }
        let mut all = block_on(self.trainer.predict(self.judged))?;
        self.predictions = all.pop().map(|main| main.probabilities).unwrap_or_default();
        let rows = self.predictions.chunks_exact(self.classes.len());
        let right = rows.zip(self.files).filter(|(p, file)| predicted(p) == file.class).count();
        Ok(Some(right as f32 / self.files.len() as f32))
    }

    fn end_epoch(&mut self, rate: f64, steps: u64) -> common::Result<()> {
        let accuracy = self.judge()?;
        let names = self.trainer.engine().model().network.heads().iter().map(|head| head.name.clone());
        let means: Vec<f32> = self.sums.iter().map(|sum| (sum / steps as f64) as f32).collect();
        let heads = names.zip(means[1..].iter().copied()).collect();
        self.history.push(Epoch { loss: means[0], heads, accuracy, rate: rate as f32 });
        self.sums.clear();
        Ok(())
    }

    /// A head that names every class with the same probability learns nothing: the known failure of this network.
    fn warn_of_stuck_heads(&mut self) {
        let (Some(epoch), chance) = (self.history.last(), (self.classes.len() as f64).ln()) else { return };
        if self.warned || (self.history.len() as u64) < STUCK_AFTER {
            return;
        }
        let stuck: Vec<&str> = epoch
            .heads
            .iter()
            .filter(|(_, loss)| f64::from(**loss) > STUCK * chance)
            .map(|(name, _)| name.as_str())
            .collect();
        if !stuck.is_empty() {
            self.warned = true;
            eprintln!(
                "note: after {} epochs, the loss of {} is still that of guessing (ln {} = {chance:.3}); a lower learning \
                 rate often helps, or --lr find",
                self.history.len(),
                stuck.join(", "),
                self.classes.len()
            );
        }
    }

    fn save(&self, path: &std::path::Path) -> common::Result<()> {
        let tensors = block_on(self.trainer.tensors())?;
        let parts: Vec<checkpoint::Part<'_>> =
            tensors.iter().map(|t| (t.name.as_str(), t.dims.as_slice(), t.data.as_slice())).collect();
        let sums: Vec<String> = self.sums.iter().map(f64::to_string).collect();
        let state = State {
            step: self.trainer.steps_done(),
            epoch: self.history.len() as u64,
            options: self.options.clone(),
            history: self.history.clone(),
            notes: BTreeMap::from([
                ("sums".to_owned(), sums.join(" ")),
                ("rate".to_owned(), self.trainer.config().rate.to_string()),
            ]),
        };
        Ok(checkpoint::write(path, &state, &parts)?)
    }

    fn resume(&mut self, from: &Checkpoint) -> common::Result<()> {
        from.check_options(&self.options)?;
        let find = |name: &str| {
            let dims = from.dims(name)?.to_vec();
            let mut values = vec![0.0; dims.iter().product()];
            from.load(name, &dims, &mut values).ok()?;
            Some(values)
        };
        block_on(self.trainer.resume(from.state.step, find))?;
        self.history = from.state.history.clone();
        let note = |name: &str| from.state.notes.get(name).map(String::as_str).unwrap_or_default();
        self.sums = note("sums").split_whitespace().filter_map(|sum| sum.parse().ok()).collect();
        // A learning rate that was found is not searched again.
        if let Ok(rate) = note("rate").parse() {
            self.trainer.set_rate(rate);
        }
        Ok(())
    }
}

/// Facts about a training that are written to the model file. They do not contain dates or paths, so that the same
/// training gives the same file.
#[derive(Serialize)]
struct Training<'a> {
    base: Option<&'a str>,
    depth: String,
    examples: usize,
    classes: usize,
    epochs: u64,
    size: usize,
    validation: String,
    held_out_examples: usize,
    held_out_accuracy: f64,
    seed: u32,
}

/// The model file, and the model's name.
fn model_file(
    base: &Model,
    weights: &[KeptTensor],
    data: &Data,
    training: &Training<'_>,
) -> common::Result<(Vec<u8>, String)> {
    let mut model = with_weights(base, weights)?;
    model.name = format!("GoogLeNet for {}", data.name());
    let origin = base.source.as_ref().map_or(String::new(), |source| format!(" {source}"));
    let (examples, classes, depth) = (training.examples, training.classes, &training.depth);
    model.source = Some(match training.base {
        Some(base) => format!(
            "Trained by `googlenet train` on {examples} pictures of {classes} classes at depth {depth}, beginning with \
             \"{base}\".{origin}"
        ),
        None => {
            format!("Trained from random weights by `googlenet train` on {examples} pictures of {classes} classes.")
        }
    });
    model.training = Some(serde_json::to_string(training)?);
    Ok((model.weights.to_bytes(&model.metadata()?, false)?, model.name))
}
