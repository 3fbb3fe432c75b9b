//! `googlenet accuracy`: measures accuracy, confusion matrix and calibration of a model on labelled pictures.
//!
//! `cargo xtask accuracy` downloads CIFAR-10's test pictures and calls this.

use googlenet::Error;
use googlenet::engine::{Backend, Engine, Options};
use googlenet::model::Model;
use googlenet::model::preprocess::{Crop, Image};
use googlenet::plan::Input;
use serde::Serialize;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

/// Measure a model's accuracy on labelled pictures
#[derive(clap::Args)]
pub struct Args {
    /// An image file in which each row of pixels is one square picture
    pictures: PathBuf,
    /// A JSON array with the class number of each picture
    labels: PathBuf,
    /// A safetensors model
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// Use only the first N pictures
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Number of threads, each with its own engine [default: the number of cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Write the probabilities of every picture as JSON
    #[arg(long, value_name = "PATH")]
    answers: Option<PathBuf>,
}

/// The number of pictures in each run. A dense layer's weights are read once for all of them.
const BATCH: usize = 4;

/// The probabilities of every head for one picture, the main classifier last.
type Heads = Vec<Vec<f32>>;

pub fn run(args: Args) -> super::common::Result {
    let model = super::common::load(&args.model)?;
    let labels: Vec<usize> = serde_json::from_slice(&super::common::read(&args.labels)?)?;
    let mut pictures = rows(&args.pictures)?;
    if pictures.len() != labels.len() {
        return Err(format!("there are {} pictures and {} labels", pictures.len(), labels.len()).into());
    }
    if let Some(label) = labels.iter().find(|&&label| label >= model.labels.len()) {
        return Err(format!("there is a label {label}, but the model has {} classes", model.labels.len()).into());
    }
    pictures.truncate(args.limit.unwrap_or(usize::MAX).max(1));

    let names: Vec<String> = model.network.heads().iter().map(|head| head.name.clone()).collect();
    let threads = args.threads.or(thread::available_parallelism().ok().map(Into::into)).unwrap_or(1).max(1);
    let start = Instant::now();
    let answers = answer(&model, &pictures, threads)?;
    let seconds = start.elapsed().as_secs_f64();

    let report = Report { model: &model, heads: &names, labels: &labels, answers: &answers };
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report.text())?;
    let each = seconds * 1e3 * threads as f64 / pictures.len() as f64;
    writeln!(out, "\n{} pictures in {seconds:.1} s on {threads} threads: {each:.1} ms each", pictures.len())?;
    if let Some(path) = &args.answers {
        fs::write(path, report.json()?).map_err(|e| super::common::in_file(path, e))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the pictures from the rows of an image file.
fn rows(path: &PathBuf) -> super::common::Result<Vec<Image>> {
    let picture = image::open(path).map_err(|e| super::common::in_file(path, e))?.into_rgba8();
    let (width, side) = (picture.width() as usize, picture.width().isqrt() as usize);
    if side * side != width {
        return Err(format!("{}: a row of {width} pixels is not a square picture", path.display()).into());
    }
    Ok(picture.chunks_exact(4 * width).map(|row| Image::new(side, side, row.to_vec())).collect::<Result<_, _>>()?)
}

/// Classifies all pictures, and returns the probabilities in the order of the pictures. Each of the threads has an
/// engine of its own that uses no other thread.
fn answer(model: &Model, pictures: &[Image], threads: usize) -> Result<Vec<Heads>, Error> {
    let work = Mutex::new(pictures.chunks(BATCH).enumerate());
    let alone = Options { backend: Backend::Cpu, threads: Some(NonZeroUsize::MIN), ..Options::default() };
    let worker = || -> Result<Vec<(usize, Vec<Heads>)>, Error> {
        let mut engine = pollster::block_on(Engine::with(model.clone(), alone))?;
        let mut done = Vec::new();
        loop {
            // A statement of its own: in the condition of a `while let`, the lock would be held during the run.
            let next = work.lock().map_err(|_| Error::Argument("a thread failed".into()))?.next();
            let Some((at, batch)) = next else { break };
            let images: Vec<&Image> = batch.iter().collect();
            let output = pollster::block_on(engine.run_input(Input::Images(&images, Crop::Center)))?;
            let heads = |n| output.heads.iter().map(|head| head.probabilities.image(n).to_vec()).collect();
            done.push((at, (0..batch.len()).map(heads).collect()));
            let seen = at * BATCH;
            if seen > 0 && seen.is_multiple_of(500) {
                eprintln!("{seen} of {}", pictures.len());
            }
        }
        Ok(done)
    };
    let mut parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let ends = threads.into_iter().map(|thread| thread.join());
        ends.map(|end| end.unwrap_or_else(|_| Err(Error::Argument("a thread failed".into()))))
            .collect::<Result<Vec<_>, _>>()
    })?
    .concat();
    parts.sort_by_key(|(at, _)| *at);
    Ok(parts.into_iter().flat_map(|(_, answers)| answers).collect())
}

/// What the report is computed from.
struct Report<'a> {
    model: &'a Model,
    heads: &'a [String],
    labels: &'a [usize],
    answers: &'a [Heads],
}

#[derive(Serialize)]
struct Answers<'a> {
    model: &'a str,
    heads: &'a [String],
    pictures: Vec<Picture<'a>>,
}

#[derive(Serialize)]
struct Picture<'a> {
    label: usize,
    /// One list for each head, with one probability for each class.
    probabilities: &'a Heads,
}

/// The pictures whose predicted class has a probability in one interval.
#[derive(Default, Clone, Copy)]
struct Bin {
    count: usize,
    /// The number of correct predictions.
    right: usize,
    /// The sum of the predicted probabilities.
    confidence: f64,
}

impl Report<'_> {
    fn text(&self) -> String {
        let mut text = format!("{}\n\nTop-1 of {} pictures\n", self.model.name, self.answers.len());
        for (head, name) in self.heads.iter().enumerate() {
            let right = self.pairs(head).filter(|(label, (class, _))| label == class).count();
            // Writing into a String cannot fail.
            let _ = writeln!(text, "  {name:<6} {:6.2} %", 100.0 * share(right, self.answers.len()));
        }
        let last = self.heads.len() - 1;
        self.confusion(last, &mut text);
        self.calibration(last, &mut text);
        text
    }

    /// The label of each picture, with the predicted class and its probability.
    fn pairs(&self, head: usize) -> impl Iterator<Item = (usize, (usize, f32))> + '_ {
        let best = |p: &[f32]| p.iter().copied().enumerate().fold((0, 0.0), |a, b| if b.1 > a.1 { b } else { a });
        self.labels.iter().copied().zip(self.answers.iter().map(move |heads| best(&heads[head])))
    }

    /// Writes the confusion matrix: rows are labels, columns are predicted classes.
    fn confusion(&self, head: usize, text: &mut String) {
        let names = &self.model.labels;
        // More columns would not fit on a screen.
        if names.len() > 20 {
            return;
        }
        let mut counts = vec![vec![0usize; names.len()]; names.len()];
        for (label, (class, _)) in self.pairs(head) {
            counts[label][class] += 1;
        }
        let _ = write!(text, "\nConfusion matrix: labels (rows), predicted classes (columns)\n{:12}", "");
        for name in names {
            let _ = write!(text, "{:>7.6}", name);
        }
        for (row, (name, counts)) in names.iter().zip(&counts).enumerate() {
            let _ = write!(text, "\n{name:12}");
            for count in counts {
                let _ = write!(text, "{count:>7}");
            }
            let right = share(counts[row], counts.iter().sum());
            let _ = write!(text, "   {:5.1} %", 100.0 * right);
        }
        text.push('\n');
    }

    /// Writes the expected calibration error with 15 bins of equal width (Guo et al., ICML 2017), and each bin.
    fn calibration(&self, head: usize, text: &mut String) {
        const BINS: usize = 15;
        let mut bins = [Bin::default(); BINS];
        for (label, (class, p)) in self.pairs(head) {
            let bin = &mut bins[((p * BINS as f32) as usize).min(BINS - 1)];
            bin.count += 1;
            bin.right += usize::from(label == class);
            bin.confidence += f64::from(p);
        }
        let gap = |bin: &Bin| (bin.right as f64 - bin.confidence).abs();
        let error = bins.iter().map(gap).sum::<f64>() / self.answers.len() as f64;
        let _ = writeln!(text, "\nCalibration: expected error {:.2} points", 100.0 * error);
        let _ = writeln!(text, "  probability    pictures  mean    right");
        for (i, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.count > 0) {
            let [from, to] = [i, i + 1].map(|edge| 100.0 * edge as f64 / BINS as f64);
            let mean = 100.0 * bin.confidence / bin.count as f64;
            let right = 100.0 * share(bin.right, bin.count);
            let _ = writeln!(text, "  {from:5.1}..{to:5.1} %  {:8}  {mean:5.1} %  {right:5.1} %", bin.count);
        }
    }

    fn json(&self) -> serde_json::Result<String> {
        let pictures = self.labels.iter().zip(self.answers);
        let pictures = pictures.map(|(&label, probabilities)| Picture { label, probabilities }).collect();
        serde_json::to_string(&Answers { model: &self.model.name, heads: self.heads, pictures })
    }
}

fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use googlenet::graph::network::Network;
    use googlenet::graph::op::Op;
    use googlenet::graph::tensor::Shape;
    use googlenet::model::weights::Weights;

    /// A model of two classes that is never run.
    fn model() -> Model {
        let mut net = Network::new();
        let x = net.input("data", Shape::new(1, 1, 1, 2)).unwrap();
        let prob = net.add("prob", Op::Softmax, &[x]).unwrap();
        net.add_head("loss3", x, prob);
        Model::from_network(net, Weights::default()).unwrap()
    }

    #[test]
    fn a_small_case_has_the_expected_counts_and_calibration() {
        let answers: Vec<Heads> = [0.9f32, 0.8, 0.3, 0.55].iter().map(|&p| vec![vec![p, 1.0 - p]]).collect();
        let model = model();
        let heads = ["loss3".to_owned()];
        let report = Report { model: &model, heads: &heads, labels: &[0, 1, 1, 0], answers: &answers };
        let text = report.text();
        assert!(text.contains("loss3   75.00 %"), "{text}");
        assert!(text.contains("class 0           2      0   100.0 %"), "{text}");
        assert!(text.contains("class 1           1      1    50.0 %"), "{text}");
        // (|1 - 0.9| + |0 - 0.8| + |1 - 0.7| + |1 - 0.55|) / 4, where each picture is in a bin of its own.
        assert!(text.contains("expected error 41.25 points"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["pictures"][1]["label"], 1);
    }
}
