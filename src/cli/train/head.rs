//! The depth `head`: the network stays as it is, and a classifier is fitted to its features.

use super::args::{Args, Depth, Validate};
use super::data::{Data, some};
use super::features::{Extracted, WIDTH, extract};
use super::output::Target;
use super::report::{HeldOut, Report, Seconds, short};
use crate::cli::{common, tuned};
use googlenet::Result;
use googlenet::engine::{Engine, Info, Options};
use googlenet::model::Model;
use googlenet::model::weights::Weights;
use googlenet::train::dataset::{File, Folder, copies};
use googlenet::train::head::{Features, Head, Options as FitOptions, fit};
use googlenet::train::metrics::Evaluation;
use googlenet::train::split;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Write, stdout};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

/// The number of folds that choose the penalty where other pictures judge the classifier, and the default of all.
const FOLDS: usize = 5;

pub fn run(args: &Args, data: &Data, into: &Target, json: Option<&Target>) -> common::Result {
    let path = match &args.model {
        Some(path) => path.clone(),
        None => common::default_model()?,
    };
    let mut base = common::load(&path)?.without_heads()?;
    if let Some(size) = args.size {
        base = base.with_size(size.get()).map_err(|e| format!("--size {size}: {e}"))?;
    }
    let options = Options { backend: args.backend, threads: args.threads, ..Options::default() };
    let mut engine = pollster::block_on(Engine::with(base.clone(), options)).map_err(|e| common::in_file(&path, e))?;
    pollster::block_on(tuned::recall(&mut engine));
    let Info { backend, adapter, reason, threads, .. } = engine.info().clone();
    let shared = if threads > 1 { format!(", {threads} threads") } else { String::new() };
    let mut out = stdout();
    writeln!(out, "{} on {}: {adapter}{shared} ({reason})", base.name, backend.to_uppercase())?;
    let Folder { root, classes, files, .. } = &data.training;
    writeln!(out, "{} pictures of {} classes in {}", files.len(), classes.len(), root.display())?;

    // Decoding has threads of its own, which wait while the network has nothing to do with their pictures.
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let workers = args.threads.unwrap_or(cores);
    let pictures = extract(&mut engine, &data.training, workers, 2)?;
    let validation = match &data.validation {
        Some(folder) => Some(extract(&mut engine, folder, workers, 1)?),
        None => None,
    };
    drop(engine);
    let same = copies_of(&pictures);
    warn_of_copies(&pictures, &same, classes);
    if let Some(validation) = &validation {
        warn_of_leaks(&pictures, validation);
    }
    if let Some(path) = &args.features {
        write_features(&pictures, path)?;
    }

    let started = Instant::now();
    let judged = judge(args, &pictures, validation.as_ref(), &same, classes.len(), workers)?;
    let fit_seconds = started.elapsed().as_secs_f64();
    let Judged { head, files, probabilities, validation: how, trained } = judged;
    let labels: Vec<usize> = files.iter().map(|file| file.class).collect();
    let evaluation = Evaluation::new(&probabilities, &labels, classes.len())?;
    let held_out = HeldOut::new(how.to_string(), &evaluation, classes, &files, &probabilities);

    let training = Training {
        base: &base.name,
        depth: Depth::Head.to_string(),
        examples: trained,
        classes: classes.len(),
        size: base.preprocess.size,
        penalty: head.chosen.penalty,
        validation: how.to_string(),
        held_out_examples: evaluation.examples,
        held_out_accuracy: evaluation.accuracy,
        seed: args.seed,
    };
    let (bytes, name) = model_file(&base, &head, data, &training)?;
    into.write(&bytes)?;

    let seconds = Seconds {
        features: pictures.seconds + validation.as_ref().map_or(0.0, |validation| validation.seconds),
        fit: fit_seconds,
    };
    let count = pictures.files.len() + validation.as_ref().map_or(0, |validation| validation.files.len());
    let rate = count as f64 / seconds.features.max(1e-9);
    writeln!(out, "The features of {count} pictures took {:.1} s ({rate:.1} a second).", seconds.features)?;
    writeln!(out, "The classifier took {:.2} s; its penalty is {}.", seconds.fit, short(head.chosen.penalty))?;
    let (right, examples, share) = (evaluation.right(), evaluation.examples, 100.0 * evaluation.accuracy);
    writeln!(out, "\nHeld-out accuracy: {share:.1} % ({right} of {examples}). {}", explain(&how))?;
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
        let report = Report {
            model: name.clone(),
            base: base.name.clone(),
            depth: Depth::Head.to_string(),
            backend,
            adapter,
            seed: args.seed,
            pictures: trained,
            penalty: head.chosen.penalty,
            candidates: head.candidates,
            held_out,
            seconds,
            epochs: Vec::new(),
            skipped: [Some(&pictures), validation.as_ref()]
                .into_iter()
                .flatten()
                .flat_map(|of| of.skipped.clone())
                .collect(),
            copies: same.named(&pictures),
        };
        json.write(&serde_json::to_vec(&report)?)?;
    }
    let path = into.path().display();
    writeln!(out, "\nWrote {path}: {name}, {:.1} MB. Use it with", bytes.len() as f64 / 1e6)?;
    writeln!(out, "  googlenet classify --model {path} IMAGE")?;
    Ok(ExitCode::SUCCESS)
}

/// A sentence about which pictures are meant.
fn explain(validation: &Validate) -> String {
    match validation {
        Validate::Folds(folds) => {
            format!("Each picture was predicted by a classifier that was fitted without it ({folds} folds).")
        }
        Validate::Share(_) => "These pictures were held out of the training.".into(),
        Validate::Folder(path) => format!("These are the pictures of {}.", path.display()),
    }
}

/// A fitted classifier, and the predictions that it is judged by.
struct Judged {
    head: Head,
    files: Vec<File>,
    /// (files, classes).
    probabilities: Vec<f32>,
    /// What was done, which differs from what was asked for where there are few pictures.
    validation: Validate,
    /// The number of pictures that the classifier was fitted to.
    trained: usize,
}

fn judge(
    args: &Args,
    pictures: &Extracted,
    validation: Option<&Extracted>,
    same: &Copies,
    classes: usize,
    threads: NonZeroUsize,
) -> Result<Judged> {
    let labels = pictures.labels();
    let options = FitOptions { threads, ..FitOptions::default() };
    // More folds than different pictures would leave some empty.
    let different = same.first.iter().enumerate().filter(|(number, first)| number == *first).count();
    let folds = |wanted: usize| wanted.min(different).max(2);
    let fit_all = |count: usize| {
        let parts = split::folds(&labels, &same.first, count, args.seed);
        fit(Features::new(&pictures.features, WIDTH)?, &labels, classes, &parts, &options, |_| {})
    };
    match (&args.validate, validation) {
        (Some(Validate::Share(share)), _) => {
            let held_out = split::share(&labels, &same.first, *share, args.seed);
            let part = |wanted: bool| -> (Vec<usize>, Vec<f32>) {
                let rows: Vec<usize> = (0..labels.len()).filter(|&i| held_out[i] == wanted).collect();
                let features = rows.iter().flat_map(|&i| &pictures.features[i * WIDTH..][..WIDTH]).copied().collect();
                (rows, features)
            };
            let ((rows, features), (others, other_features)) = (part(false), part(true));
            let own_labels: Vec<usize> = rows.iter().map(|&i| labels[i]).collect();
            let contents: Vec<u64> = rows.iter().map(|&i| pictures.contents[i]).collect();
            let parts = split::folds(&own_labels, &copies(&contents), folds(FOLDS).min(rows.len()), args.seed);
            let head = fit(Features::new(&features, WIDTH)?, &own_labels, classes, &parts, &options, |_| {})?;
            Ok(Judged {
                probabilities: head.probabilities(Features::new(&other_features, WIDTH)?)?,
                head,
                files: others.iter().map(|&i| pictures.files[i].clone()).collect(),
                validation: Validate::Share(*share),
                trained: rows.len(),
            })
        }
        (Some(folder @ Validate::Folder(_)), Some(other)) => {
            let head = fit_all(folds(FOLDS))?;
            Ok(Judged {
                probabilities: head.probabilities(Features::new(&other.features, WIDTH)?)?,
                head,
                files: other.files.clone(),
                validation: folder.clone(),
                trained: labels.len(),
            })
        }
        (wanted, _) => {
            let count = if let Some(Validate::Folds(count)) = wanted { *count } else { FOLDS };
            let count = folds(count);
            let head = fit_all(count)?;
            Ok(Judged {
                probabilities: head.held_out.clone(),
                head,
                files: pictures.files.clone(),
                validation: Validate::Folds(count),
                trained: labels.len(),
            })
        }
    }
}

/// Which pictures are copies of which.
struct Copies {
    /// For each picture, the number of the first one with the same pixels.
    first: Vec<usize>,
}

fn copies_of(pictures: &Extracted) -> Copies {
    Copies { first: copies(&pictures.contents) }
}

impl Copies {
    /// The numbers of all pictures of which there are several, the first of them first.
    fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, &first) in self.first.iter().enumerate() {
            groups.entry(first).or_default().push(number);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }

    /// The same as paths.
    fn named(&self, pictures: &Extracted) -> Vec<Vec<String>> {
        let path = |number: usize| pictures.files[number].path.display().to_string();
        self.groups().into_iter().map(|group| group.into_iter().map(path).collect()).collect()
    }
}

/// Says which pictures are in several classes, and how many copies there are within classes.
fn warn_of_copies(pictures: &Extracted, same: &Copies, classes: &[String]) {
    const MOST: usize = 5;
    let class = |number: usize| pictures.files[number].class;
    let (mixed, plain): (Vec<_>, Vec<_>) =
        same.groups().into_iter().partition(|group| group.iter().any(|&number| class(number) != class(group[0])));
    for group in mixed.iter().take(MOST) {
        let names: BTreeSet<usize> = group.iter().map(|&number| class(number)).collect();
        let names: Vec<String> = names.into_iter().map(|class| format!("\"{}\"", classes[class])).collect();
        let paths = some(group.iter().map(|&number| pictures.files[number].path.display().to_string()), 4);
        let paths = paths.unwrap_or_default();
        eprintln!("note: the same picture is in the classes {}: {paths}", names.join(" and "));
    }
    if mixed.len() > MOST {
        eprintln!("note: {} more pictures are in several classes; --json lists all copies", mixed.len() - MOST);
    }
    let extra: usize = plain.iter().map(|group| group.len() - 1).sum();
    if extra > 0 {
        let are = if extra == 1 { "one picture is a copy".into() } else { format!("{extra} pictures are copies") };
        eprintln!("note: {are} of others in the same class; copies are always held out together");
    }
}

/// Says whether pictures to judge with were trained on.
fn warn_of_leaks(pictures: &Extracted, validation: &Extracted) {
    let known: BTreeSet<u64> = pictures.contents.iter().copied().collect();
    let leaks = validation.contents.iter().filter(|content| known.contains(content)).count();
    if leaks > 0 {
        let count = validation.files.len();
        eprintln!("note: {leaks} of {count} pictures to judge with are also trained on; the accuracy is too high");
    }
}

/// Facts about a training that are written to the model file. They do not contain dates or paths, so that the same
/// training gives the same file.
#[derive(Serialize)]
struct Training<'a> {
    base: &'a str,
    depth: String,
    examples: usize,
    classes: usize,
    size: usize,
    penalty: f64,
    validation: String,
    held_out_examples: usize,
    held_out_accuracy: f64,
    seed: u32,
}

/// The model file, and the model's name.
fn model_file(base: &Model, head: &Head, data: &Data, training: &Training<'_>) -> common::Result<(Vec<u8>, String)> {
    let mut model = base.clone().with_classifier(data.training.classes.clone(), &head.weights, &head.bias)?;
    model.name = format!("GoogLeNet for {}", data.name());
    let origin = base.source.as_ref().map_or(String::new(), |source| format!(" {source}"));
    model.source = Some(format!(
        "The classifier was fitted by `googlenet train` to {} pictures of {} classes. All other layers are those of \
         \"{}\".{origin}",
        training.examples, training.classes, base.name
    ));
    model.training = Some(serde_json::to_string(training)?);
    Ok((model.weights.to_bytes_as_stored(&model.metadata()?)?, model.name))
}

/// Writes features and class numbers.
fn write_features(pictures: &Extracted, path: &std::path::Path) -> common::Result<()> {
    let labels: Vec<f32> = pictures.files.iter().map(|file| file.class as f32).collect();
    let count = labels.len();
    let tensors = [
        ("features".to_owned(), vec![count, WIDTH], pictures.features.clone()),
        ("labels".to_owned(), vec![count], labels),
    ];
    let bytes = Weights::from_tensors(tensors)?.to_bytes(&BTreeMap::new(), false)?;
    std::fs::write(path, bytes).map_err(|e| common::in_file(path, e))
}
