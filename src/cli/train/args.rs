//! The arguments of `googlenet train`, and which of them fit together.

use clap::ValueEnum;
use googlenet::engine::Backend;
use googlenet::graph::googlenet::{TABLE, Variant};
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

/// Train a model on a folder that has one sub-folder of pictures for each class
///
/// The default depth, head, computes each picture's features once, and fits a classifier to them: a logistic regression
/// whose penalty is chosen by cross-validation. Deeper depths train layers of the network, too.
#[derive(clap::Args)]
pub struct Args {
    /// A folder with one sub-folder of JPEG, PNG, GIF, WebP or BMP files for each class
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The model file to write
    #[arg(short, long, value_name = "PATH")]
    pub output: PathBuf,
    /// The safetensors model to begin with [default: $GOOGLENET_MODEL, or the bundled one]
    #[arg(long, value_name = "BASE", conflicts_with = "scratch")]
    pub model: Option<PathBuf>,
    /// What is trained: head (the classifier), 5b, 5a, 4e, ... 3a (that module and all layers after it) or all [default:
    /// head; with --scratch: all]
    #[arg(long)]
    pub depth: Option<Depth>,
    /// Begin with random weights instead of a model
    #[arg(long)]
    pub scratch: bool,
    /// The variant to build: keras, keras_v2, caffe or torchvision [default: keras]
    #[arg(long, requires = "scratch")]
    pub variant: Option<Variant>,
    /// Height and width of the network's input in pixels [default: the model's]
    #[arg(long, value_name = "N")]
    pub size: Option<NonZeroUsize>,
    /// How often every picture is trained on
    #[arg(long, value_name = "N")]
    pub epochs: Option<NonZeroUsize>,
    /// Number of pictures in each step
    #[arg(long, value_name = "N")]
    pub batch: Option<NonZeroUsize>,
    /// Number of pictures of a step that are in memory at the same time
    #[arg(long, value_name = "N")]
    pub micro_batch: Option<NonZeroUsize>,
    /// The learning rate, or find to measure one first
    #[arg(long, value_name = "X|find")]
    pub lr: Option<LearningRate>,
    /// How the learning rate changes during the training
    #[arg(long, value_enum)]
    pub schedule: Option<Schedule>,
    /// How a gradient becomes a step
    #[arg(long, value_enum)]
    pub optimiser: Option<Optimiser>,
    /// Weight of the auxiliary heads' losses
    #[arg(long, value_name = "X", value_parser = at_least_zero)]
    pub aux: Option<f32>,
    /// Share of the values that dropout sets to zero: before the classifier, and in the auxiliary heads
    #[arg(long, value_name = "X,X", value_parser = dropout)]
    pub dropout: Option<[f32; 2]>,
    /// Share of the target probability that is spread over all classes
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub label_smoothing: Option<f32>,
    /// Largest norm of the gradient of a step
    #[arg(long, value_name = "X", value_parser = above_zero)]
    pub clip: Option<f32>,
    /// Also average the weights over the steps, with this factor for the average so far, and write the average
    #[arg(long, value_name = "X", value_parser = below_one)]
    pub ema: Option<f32>,
    /// How pictures are varied: any of crop, flip and colour
    #[arg(long, value_enum, value_delimiter = ',', value_name = "crop,flip,colour")]
    pub augment: Option<Vec<Augment>>,
    /// The pictures that the model is judged by: a folder with the same classes, a share of each class such as 0.2, or
    /// kfold:N, which predicts every picture by a classifier that was fitted without it [default: kfold:5 at depth head]
    #[arg(long, value_name = "DIR|0.2|kfold:5")]
    pub validate: Option<Validate>,
    /// Chooses which pictures are held out, and all other random numbers
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u32,
    /// Go on with a training that was stopped, from its checkpoint
    #[arg(long, value_name = "FILE")]
    pub resume: Option<PathBuf>,
    /// Write a checkpoint to this file after each epoch, and when the training is stopped
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// auto, cpu or gpu; auto is the GPU if there is a real one, otherwise the CPU
    #[arg(long, default_value = "auto")]
    pub backend: Backend,
    /// Number of threads on the CPU [default: the number of cores, at most 8]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the losses and accuracies of the epochs
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Write features and class numbers as safetensors, for comparisons
    #[arg(long, value_name = "FILE", hide = true)]
    pub features: Option<PathBuf>,
}

impl Args {
    /// Checks that the arguments fit together, and returns the depth.
    pub fn check(&self) -> Result<Depth, String> {
        let depth = self.depth.unwrap_or(if self.scratch { Depth::All } else { Depth::Head });
        if self.scratch && depth != Depth::All {
            return Err(format!(
                "--scratch begins with random weights, so that all layers must be trained; --depth {depth} trains only \
                 some of them"
            ));
        }
        if depth == Depth::Head {
            let options = [
                ("--epochs", self.epochs.is_some()),
                ("--batch", self.batch.is_some()),
                ("--micro-batch", self.micro_batch.is_some()),
                ("--lr", self.lr.is_some()),
                ("--schedule", self.schedule.is_some()),
                ("--optimiser", self.optimiser.is_some()),
                ("--aux", self.aux.is_some()),
                ("--dropout", self.dropout.is_some()),
                ("--label-smoothing", self.label_smoothing.is_some()),
                ("--clip", self.clip.is_some()),
                ("--ema", self.ema.is_some()),
                ("--augment", self.augment.is_some()),
                ("--resume", self.resume.is_some()),
                ("--checkpoint", self.checkpoint.is_some()),
                ("--plot", self.plot.is_some()),
            ];
            let useless: Vec<&str> = options.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
            if !useless.is_empty() {
                let verb = if useless.len() == 1 { "has" } else { "have" };
                return Err(format!(
                    "{} {verb} no meaning at depth head, which fits the classifier in one go; a deeper training, e.g. \
                     --depth 5b, takes it",
                    useless.join(", ")
                )
                .replace("takes it", if useless.len() == 1 { "takes it" } else { "takes them" }));
            }
        } else if self.features.is_some() {
            return Err(format!("--features has no meaning at depth {depth}"));
        }
        if let (Some(batch), Some(micro)) = (self.batch, self.micro_batch)
            && micro > batch
        {
            return Err(format!("--micro-batch {micro} is more than --batch {batch}, of which it is a part"));
        }
        Ok(depth)
    }
}

/// The first part of the network that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the classifier.
    Head,
    /// This inception module and everything after it.
    Module(&'static str),
    All,
}

impl FromStr for Depth {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "head" => Ok(Depth::Head),
            "all" => Ok(Depth::All),
            _ => {
                let row = TABLE.iter().find(|row| row.name == s || row.module() == s);
                row.map(|row| Depth::Module(row.name)).ok_or_else(|| {
                    let modules: Vec<&str> = TABLE.iter().rev().map(|row| row.name).collect();
                    format!("there are head, {} and all", modules.join(", "))
                })
            }
        }
    }
}

impl fmt::Display for Depth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Depth::Head => "head",
            Depth::Module(name) => name,
            Depth::All => "all",
        })
    }
}

/// The pictures that a model is judged by.
#[derive(Debug, Clone, PartialEq)]
pub enum Validate {
    /// Every picture, predicted by a classifier that was fitted to the other folds.
    Folds(usize),
    /// This share of every class, which is not trained on.
    Share(f64),
    /// The pictures of another folder.
    Folder(PathBuf),
}

impl FromStr for Validate {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(folds) = s.strip_prefix("kfold:") {
            let folds = folds.parse().ok().filter(|&folds| (2..=1000).contains(&folds));
            return folds.map(Validate::Folds).ok_or_else(|| "the number of folds must be from 2 to 1000".into());
        }
        match s.parse() {
            Ok(share) if share > 0.0 && share < 1.0 => Ok(Validate::Share(share)),
            Ok(_) => Err("a share must be between 0 and 1, e.g. 0.2".into()),
            Err(_) => Ok(Validate::Folder(s.into())),
        }
    }
}

impl fmt::Display for Validate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Validate::Folds(folds) => write!(f, "kfold:{folds}"),
            Validate::Share(share) => write!(f, "{share}"),
            // The path on one machine says nothing on another.
            Validate::Folder(_) => f.write_str("folder"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(dead_code, reason = "only deeper trainings read it")]
pub enum LearningRate {
    Find,
    Value(f32),
}

impl FromStr for LearningRate {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "find" { Ok(LearningRate::Find) } else { above_zero(s).map(LearningRate::Value) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Schedule {
    Constant,
    Step,
    Poly,
    OneCycle,
    Cosine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Optimiser {
    Sgd,
    Adam,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Augment {
    Crop,
    Flip,
    Colour,
}

fn number(text: &str, what: &str, fits: impl Fn(f32) -> bool) -> Result<f32, String> {
    let number = text.trim().parse().ok().filter(|v: &f32| v.is_finite() && fits(*v));
    number.ok_or_else(|| format!("expected a number {what}"))
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(text, "above 0", |v| v > 0.0)
}

fn at_least_zero(text: &str) -> Result<f32, String> {
    number(text, "that is 0 or more", |v| v >= 0.0)
}

fn below_one(text: &str) -> Result<f32, String> {
    number(text, "from 0 to below 1", |v| (0.0..1.0).contains(&v))
}

fn dropout(text: &str) -> Result<[f32; 2], String> {
    let ratios: Result<Vec<f32>, String> = text.split(',').map(below_one).collect();
    ratios.ok().and_then(|ratios| ratios.try_into().ok()).ok_or_else(|| {
        "expected two numbers from 0 to below 1, for the classifier and for the auxiliary heads, e.g. 0.4,0.7".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(options: &[&str]) -> Result<Args, String> {
        let command = [&["train", "pets", "-o", "out"], options].concat();
        Command::try_parse_from(command).map(|command| command.args).map_err(|e| e.to_string())
    }

    #[test]
    fn every_option_is_read() {
        let line = "--model base --depth 4e --size 160 --epochs 3 --batch 32 --micro-batch 8 --lr 0.01 --schedule one-cycle \
                    --optimiser adam --aux 0.3 --dropout 0.4,0.7 --label-smoothing 0.1 --clip 1 --ema 0.999 --augment \
                    crop,flip,colour --validate 0.2 --seed 7 --resume a --checkpoint b --backend cpu --threads 2 --json c \
                    --plot d.svg";
        let args = parse(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(args.check(), Ok(Depth::Module("4e")));
        assert_eq!((args.lr, args.dropout), (Some(LearningRate::Value(0.01)), Some([0.4, 0.7])));
        assert_eq!((args.schedule, args.optimiser), (Some(Schedule::OneCycle), Some(Optimiser::Adam)));
        assert_eq!(args.augment, Some(vec![Augment::Crop, Augment::Flip, Augment::Colour]));
        assert_eq!(args.validate, Some(Validate::Share(0.2)));
        let args = parse(&["--scratch", "--variant", "caffe", "--lr", "find", "--validate", "kfold:3"]).unwrap();
        assert_eq!((args.check(), args.lr), (Ok(Depth::All), Some(LearningRate::Find)));
        assert_eq!(args.validate, Some(Validate::Folds(3)));
        let args = parse(&["--validate", "more/pets", "--depth", "head"]).unwrap();
        assert_eq!(args.validate, Some(Validate::Folder("more/pets".into())));
        assert_eq!(parse(&[]).unwrap().check(), Ok(Depth::Head));
    }

    #[test]
    fn values_that_cannot_be_are_errors() {
        let fails = |options: &[&str], part: &str| {
            let error = parse(options).err().unwrap();
            assert!(error.contains(part), "{options:?}: {error}");
        };
        fails(&["--depth", "6a"], "there are head, 5b, 5a, 4e, 4d, 4c, 4b, 4a, 3b, 3a and all");
        fails(&["--validate", "kfold:1"], "from 2 to 1000");
        fails(&["--validate", "1.5"], "between 0 and 1");
        fails(&["--lr", "0"], "above 0");
        fails(&["--lr", "NaN"], "above 0");
        fails(&["--dropout", "0.4"], "two numbers");
        fails(&["--dropout", "0.4,1"], "two numbers");
        fails(&["--ema", "1"], "below 1");
        fails(&["--aux=-1"], "0 or more");
        fails(&["--epochs", "0"], "--epochs");
        fails(&["--augment", "crop,blur"], "blur");
        fails(&["--seed=-1"], "--seed");
        fails(&["--scratch", "--model", "base"], "--model");
        fails(&["--variant", "caffe"], "--scratch");
    }

    #[test]
    fn options_that_do_not_fit_the_depth_are_named() {
        let check = |options: &[&str]| parse(options).unwrap().check();
        let useless = check(&["--epochs", "3"]).unwrap_err();
        assert!(useless.starts_with("--epochs has no meaning at depth head"), "{useless}");
        let two = check(&["--plot", "a.svg", "--lr", "find", "--depth", "head"]).unwrap_err();
        assert!(two.starts_with("--lr, --plot have no meaning at depth head"), "{two}");
        assert!(check(&["--epochs", "3", "--depth", "5b"]).is_ok());
        let scratch = check(&["--scratch", "--depth", "5b"]).unwrap_err();
        assert!(scratch.contains("all layers must be trained"), "{scratch}");
        let micro = check(&["--depth", "all", "--batch", "4", "--micro-batch", "8"]).unwrap_err();
        assert!(micro.contains("--micro-batch 8 is more than --batch 4"), "{micro}");
    }
}
