//! Training: gradients of random batches, step after step, with held-out pictures judged after each epoch.
//!
//! A training repeats bit for bit: the order of the pictures, the augmentation and dropout depend only on the seed and on
//! the number of the step, and gradients are summed in a fixed order on any number of threads.

use crate::engine::gradient::{Objective, Wrt};
use crate::engine::training::{KeptTensor, Update};
use crate::engine::{Backend, Engine, Options};
use crate::error::{Error, Result};
use crate::graph::network::{Network, Node};
use crate::graph::op::Op;
use crate::graph::tensor::{Shape, Tensor};
use crate::model::Model;
use crate::model::weights::Weights;
use crate::plan::Input;
use crate::plan::optimiser::{Kept, Rule, average_decay};
use crate::plan::random::{DropoutKey, hash};
use crate::train::schedule::Schedule;
use std::num::NonZeroUsize;

/// The pictures of a training, as inputs of the network.
pub trait Samples: Sync {
    /// The number of pictures.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a picture.
    fn class(&self, picture: usize) -> usize;

    /// Writes the network's input for a picture in an epoch, in the order HWC.
    fn load(&self, picture: usize, epoch: u64, out: &mut [f32]) -> Result<()>;
}

/// The weights of the losses of the heads. The auxiliary heads' is the paper's 0.3 (section 5).
pub const AUXILIARY_WEIGHT: f32 = 0.3;

/// How a network is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub rule: Rule,
    pub schedule: Schedule,
    /// The base learning rate.
    pub rate: f64,
    pub epochs: u64,
    /// The number of pictures of a step.
    pub batch: NonZeroUsize,
    /// The largest number of pictures that are in memory at the same time. Each takes about 20 MB at 224x224. A batch is
    /// divided into micro-batches of equal size, so the size is the largest divisor of `batch` up to this number.
    pub micro_batch: NonZeroUsize,
    /// The weight of the losses of the auxiliary heads.
    pub auxiliary: f32,
    /// Label smoothing, see [`TermKind::CrossEntropy`](crate::plan::backward::TermKind::CrossEntropy).
    pub smoothing: f32,
    /// The largest norm of the gradients.
    pub clip: Option<f64>,
    /// The decay of the moving average of the weights, which then is the result of the training.
    pub average: Option<f64>,
    /// The first layer, or the module, from which on weights are trained; all by default.
    pub from: Option<String>,
    pub seed: u32,
}

/// SGD as Caffe's GoogLeNet was trained (`quick_solver.prototxt`), for one epoch.
impl Default for Config {
    fn default() -> Self {
        Config {
            rule: Rule::default(),
            schedule: Schedule::default(),
            rate: 0.01,
            epochs: 1,
            batch: NonZeroUsize::new(32).unwrap_or(NonZeroUsize::MIN),
            micro_batch: NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN),
            auxiliary: AUXILIARY_WEIGHT,
            smoothing: 0.0,
            clip: None,
            average: None,
            from: None,
            seed: 0,
        }
    }
}

/// The dropout of Caffe's GoogLeNet: the share of values that is dropped before the main classifier, and before those of
/// the auxiliary heads (section 5 of the paper has 40 % and 70 %).
pub const DROPOUT: [f32; 2] = [0.4, 0.7];

/// The network with dropout in front of the last dense layer of each head, under Caffe's names. A ratio of 0 adds none.
pub fn with_dropout(network: &Network, [main, auxiliary]: [f32; 2]) -> Result<Network> {
    let last = network.heads().last().map(|head| head.logits);
    let mut behind: Vec<Option<(String, f32)>> = vec![None; network.nodes().len()];
    for head in network.heads() {
        let ratio = if Some(head.logits) == last { main } else { auxiliary };
        let Some(&input) = network.node(head.logits).inputs.first() else { continue };
        if ratio > 0.0 && !matches!(network.node(input).op, Op::Input(_)) {
            let name = if Some(head.logits) == last {
                "pool5/drop_7x7_s1".to_owned()
            } else {
                format!("{}/drop_fc", head.name)
            };
            behind[input] = Some((name, ratio));
        }
    }
    let find = |node: &Node| behind[network.find(&node.name).ok()?].clone();
    network.with_dropout(find)
}

/// What one step has done.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepReport {
    /// The loss before the step: the weighted sum over the heads.
    pub loss: f64,
    /// The cross-entropy of each head, averaged over the batch, in the order of the network's heads.
    pub heads: Vec<f64>,
    /// The learning rate.
    pub rate: f64,
}

/// The predictions of a head for pictures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Predictions {
    /// The name of the head.
    pub head: String,
    /// (pictures, classes).
    pub probabilities: Vec<f32>,
}

/// A training in progress.
pub struct Trainer {
    engine: Engine,
    config: Config,
    /// The number of pictures.
    pictures: usize,
    /// The number of steps that were done.
    step: u64,
    /// The pictures in their order in the epoch `ordered`.
    order: Vec<u32>,
    ordered: Option<u64>,
    micro_batch: usize,
    input: Tensor,
    classes: Vec<usize>,
    heads: Vec<(String, f32)>,
}

impl Trainer {
    /// A training of a model with this many pictures. The model's network may begin behind frozen layers and may contain
    /// dropout. Fails where the configuration is not possible, and as [`Engine::with`] does.
    pub async fn new(model: Model, options: Options, config: Config, pictures: usize) -> Result<Self> {
        if pictures == 0 {
            return Err(Error::Argument("there are no pictures to train with".into()));
        }
        config.rule.check()?;
        config.schedule.check()?;
        if !(config.rate > 0.0 && config.rate.is_finite()) {
            return Err(Error::Argument(format!("the learning rate must be above 0, not {}", config.rate)));
        }
        if !(0.0..1.0).contains(&config.smoothing) {
            return Err(Error::Argument("label smoothing must be from 0 up to, but not including, 1".into()));
        }
        let network = &model.network;
        let input = network.inputs().next().map(|id| network.node(id).shape);
        let Some(shape) = input else { return Err(Error::Argument("the network has no input".into())) };
        let last = network.heads().len().saturating_sub(1);
        let weight = |i: usize| if i == last { 1.0 } else { config.auxiliary };
        let heads = network.heads().iter().enumerate().map(|(i, head)| (head.name.clone(), weight(i))).collect();
        let batch = config.batch.get();
        let micro_batch =
            (1..=config.micro_batch.get().min(batch)).rev().find(|size| batch.is_multiple_of(*size)).unwrap_or(1);
        // The GPU computes gradients, but does not change weights yet.
        let backend = if options.backend == Backend::Auto { Backend::Cpu } else { options.backend };
        let engine = Engine::with(model, Options { backend, gradients: true, ..options }).await?;
        Ok(Trainer {
            engine,
            pictures,
            step: 0,
            order: (0..pictures as u32).collect(),
            ordered: None,
            micro_batch,
            input: Tensor::zeros(shape.with_batch(micro_batch)),
            classes: vec![0; micro_batch],
            heads,
            config,
        })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The engine, whose weights change from step to step.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// The number of pictures that are in memory at the same time.
    pub fn micro_batch(&self) -> usize {
        self.micro_batch
    }

    /// The number of steps that were done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The number of steps of an epoch. The last batch of an epoch is filled up with pictures of the next one.
    pub fn steps_per_epoch(&self) -> u64 {
        self.pictures.div_ceil(self.config.batch.get()) as u64
    }

    /// The number of steps of the whole training.
    pub fn steps(&self) -> u64 {
        self.config.epochs * self.steps_per_epoch()
    }

    /// Uses another base learning rate from the next step on.
    pub fn set_rate(&mut self, rate: f64) {
        self.config.rate = rate;
    }

    /// Does one step with the next batch. Fails with [`Error::Argument`] where the gradients are not finite, and where a
    /// picture cannot be loaded; the weights are as before then.
    pub async fn step(&mut self, samples: &dyn Samples) -> Result<StepReport> {
        let rate = self.config.schedule.rate(self.config.rate, self.step, self.steps(), self.steps_per_epoch());
        self.step_at(samples, rate).await
    }

    /// Does one step with this learning rate.
    pub async fn step_at(&mut self, samples: &dyn Samples, rate: f64) -> Result<StepReport> {
        if samples.len() != self.pictures {
            let reason = format!("the training is of {} pictures, not {}", self.pictures, samples.len());
            return Err(Error::Argument(reason));
        }
        let batch = self.config.batch.get();
        let runs = batch / self.micro_batch;
        let seed = hash([self.config.seed, self.step as u32, (self.step >> 32) as u32])[0];
        let mut report = StepReport { heads: vec![0.0; self.heads.len()], rate, ..StepReport::default() };
        for run in 0..runs {
            let first = self.step * batch as u64 + (run * self.micro_batch) as u64;
            self.load(samples, first)?;
            let heads: Vec<(&str, f32)> = self.heads.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
            let smoothing = self.config.smoothing;
            let loss = Objective::Loss { classes: &self.classes, heads: &heads, smoothing };
            let wrt = self.config.from.as_deref().map_or(Wrt::Weights, Wrt::WeightsFrom);
            let key = DropoutKey { seed, first: (run * self.micro_batch) as u32 };
            let input = Input::Tensors(&[&self.input]);
            let losses = self.engine.accumulate(input, &loss, wrt, key, run == 0).await?;
            report.heads.iter_mut().zip(losses).for_each(|(sum, loss)| *sum += loss / runs as f64);
        }
        report.loss = self.heads.iter().zip(&report.heads).map(|((_, weight), loss)| f64::from(*weight) * loss).sum();
        let update = Update {
            rule: self.config.rule,
            rate,
            step: self.step,
            scale: 1.0 / runs as f64,
            clip: self.config.clip,
            average: self.config.average.map(|decay| average_decay(decay, self.step)),
        };
        self.engine.update(&update).await?;
        self.step += 1;
        Ok(report)
    }

    /// Loads a micro-batch that begins with picture `first` of the whole training.
    fn load(&mut self, samples: &dyn Samples, first: u64) -> Result<()> {
        let per = self.input.shape.per_image();
        let mut chosen = Vec::with_capacity(self.micro_batch);
        for i in 0..self.micro_batch as u64 {
            // The batches are cut out of one sequence of epochs, each of which has every picture once. The steps of an
            // epoch are rounded up, so the sequence goes ahead of them a little.
            let (epoch, place) = ((first + i) / self.pictures as u64, (first + i) % self.pictures as u64);
            self.arrange(epoch);
            chosen.push((self.order[place as usize] as usize, epoch));
        }
        self.classes.clear();
        self.classes.extend(chosen.iter().map(|&(picture, _)| samples.class(picture)));
        let slots = self.input.data.chunks_exact_mut(per).zip(&chosen);
        load_all(slots.map(|(out, &(picture, epoch))| (picture, epoch, out)).collect(), samples)
    }

    /// Shuffles the pictures for an epoch.
    fn arrange(&mut self, epoch: u64) {
        if self.ordered == Some(epoch) {
            return;
        }
        self.ordered = Some(epoch);
        self.order.clear();
        self.order.extend(0..self.pictures as u32);
        // Fisher and Yates, with numbers that depend only on seed, epoch and place.
        for i in (1..self.pictures).rev() {
            let number = hash([self.config.seed ^ 0x5bd1_e995, epoch as u32, i as u32])[1];
            let other = (u64::from(number) * (i as u64 + 1)) >> 32;
            self.order.swap(i, other as usize);
        }
    }

    /// Predicts pictures with the current weights or, if they are kept, with their moving averages, and without dropout.
    /// Returns the predictions of each head, the main one last.
    pub async fn predict(&mut self, samples: &dyn Samples) -> Result<Vec<Predictions>> {
        if self.config.average.is_some() && self.step > 0 {
            self.engine.swap_averages().await?;
        }
        let result = self.predictions(samples).await;
        if self.config.average.is_some() && self.step > 0 {
            self.engine.swap_averages().await?;
        }
        result
    }

    async fn predictions(&mut self, samples: &dyn Samples) -> Result<Vec<Predictions>> {
        let per = self.input.shape.per_image();
        let named = |(name, _): &(String, f32)| Predictions { head: name.clone(), ..Predictions::default() };
        let mut all: Vec<Predictions> = self.heads.iter().map(named).collect();
        for first in (0..samples.len()).step_by(self.micro_batch) {
            let count = self.micro_batch.min(samples.len() - first);
            self.input.data[count * per..].fill(0.0);
            let slots = self.input.data.chunks_exact_mut(per).take(count).enumerate();
            load_all(slots.map(|(i, out)| (first + i, 0, out)).collect(), samples)?;
            let output = self.engine.run_input(Input::Tensors(&[&self.input])).await?;
            for (head, to) in output.heads.iter().zip(&mut all) {
                let classes = head.probabilities.shape.c;
                to.probabilities.extend_from_slice(&head.probabilities.data[..count * classes]);
            }
        }
        Ok(all)
    }

    /// The trained weights of the network: the moving averages if they are kept, otherwise the current weights.
    pub async fn weights(&self) -> Result<Vec<KeptTensor>> {
        let averages = match self.config.average {
            Some(_) => self.engine.kept(Kept::Average).await?,
            None => Vec::new(),
        };
        let mut values = self.engine.kept(Kept::Values).await?;
        for average in averages {
            if let Some(value) = values.iter_mut().find(|value| value.name == average.name) {
                *value = average;
            }
        }
        Ok(values)
    }

    /// Everything that a checkpoint needs beside the configuration: all tensors that are kept, named by what they are and
    /// by their weight or bias.
    pub async fn tensors(&self) -> Result<Vec<KeptTensor>> {
        let mut all = Vec::new();
        for kind in Kept::ALL {
            let tensors = self.engine.kept(kind).await?.into_iter();
            all.extend(
                tensors.map(|tensor| KeptTensor { name: format!("{}/{}", prefix(kind), tensor.name), ..tensor }),
            );
        }
        Ok(all)
    }

    /// Continues from the tensors of [`Trainer::tensors`] after this many steps. `find` returns a tensor by its name.
    /// Fails as [`Engine::set_kept`] does.
    pub async fn resume(&mut self, step: u64, find: impl Fn(&str) -> Option<Vec<f32>>) -> Result<()> {
        for kind in Kept::ALL {
            self.engine.set_kept(kind, |name| find(&format!("{}/{name}", prefix(kind)))).await?;
        }
        self.step = step;
        Ok(())
    }

    /// Ends the training.
    pub fn into_engine(self) -> Engine {
        self.engine
    }
}

/// The prefix of a tensor's name in a checkpoint.
fn prefix(kind: Kept) -> &'static str {
    match kind {
        Kept::Values => "weights",
        Kept::First => "first",
        Kept::Second => "second",
        Kept::Average => "average",
    }
}

/// Loads pictures, natively on as many threads as there are cores.
fn load_all(mut slots: Vec<(usize, u64, &mut [f32])>, samples: &dyn Samples) -> Result<()> {
    let threads =
        if cfg!(target_arch = "wasm32") { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let load = |slots: &mut [(usize, u64, &mut [f32])]| {
        slots.iter_mut().try_for_each(|(picture, epoch, out)| samples.load(*picture, *epoch, out))
    };
    if threads == 1 || slots.len() == 1 {
        return load(&mut slots);
    }
    let share = slots.len().div_ceil(threads);
    std::thread::scope(|scope| {
        let parts: Vec<_> = slots.chunks_mut(share).map(|part| scope.spawn(|| load(part))).collect();
        parts.into_iter().try_for_each(|part| {
            part.join().unwrap_or_else(|_| Err(Error::Argument("a picture could not be loaded".into())))
        })
    })
}

/// A model of these weights, with everything else from `model`, whose tensors of the same names are replaced. Tensors of
/// layers that `model`'s network does not have are left out. Fails where the network needs a tensor that neither has.
pub fn with_weights(model: &Model, trained: &[KeptTensor]) -> Result<Model> {
    let network = &model.network;
    let mut tensors = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let specs = node.op.tensors(network.input_shape(id));
        for (name, spec) in crate::model::tensor_names(&node.name).into_iter().zip(specs) {
            let values = match trained.iter().find(|tensor| tensor.name == name) {
                Some(tensor) => tensor.data.clone(),
                None => model.weights.get(&name)?.1,
            };
            tensors.push((name, spec.dims, values));
        }
    }
    Ok(Model { weights: Weights::from_tensors(tensors)?, ..model.clone() })
}

/// Random weights as Caffe's GoogLeNet begins with: Xavier's uniform distribution from -sqrt(3 / inputs) to sqrt(3 /
/// inputs) (Caffe's `xavier` filler), and biases of 0.2, but 0 for the classifiers.
pub fn random_weights(network: &Network, seed: u32) -> Vec<KeptTensor> {
    let mut tensors = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let specs = node.op.tensors(network.input_shape(id));
        for (name, spec) in crate::model::tensor_names(&node.name).into_iter().zip(specs) {
            let len: usize = spec.dims.iter().product();
            let data = match (spec.name, &node.op) {
                ("weight", _) => {
                    let bound = (3.0 / (len / spec.dims[0]) as f64).sqrt();
                    let number = |i: usize| f64::from(hash([seed, id as u32, i as u32])[2]) / 4_294_967_295.0;
                    (0..len).map(|i| (bound * (2.0 * number(i) - 1.0)) as f32).collect()
                }
                (_, Op::Dense { activation: crate::graph::op::Activation::None, .. }) => vec![0.0; len],
                _ => vec![0.2; len],
            };
            tensors.push(KeptTensor { name, dims: spec.dims, data });
        }
    }
    tensors
}

/// The shape of the network's input for one picture.
pub fn input_shape(network: &Network) -> Option<Shape> {
    network.inputs().next().map(|id| network.node(id).shape)
}
