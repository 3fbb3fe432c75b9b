//! The engine: a model on one backend. Run it, read any node of it, switch branches.

#[cfg(feature = "gpu")]
mod selfcheck;

use crate::cpu::Cpu;
use crate::cpu::threads::Team;
#[cfg(feature = "gpu")]
use crate::engine::selfcheck::SelfCheck;
use crate::error::{Error, Result};
use crate::gpu::{self, Counts, Drawn, Gpu, PreparedGpu};
use crate::graph::network::NodeId;
use crate::graph::op::Op;
use crate::graph::tensor::Tensor;
use crate::inspect::contact_sheet::Sheet;
use crate::inspect::statistics::Stats;
use crate::model::Model;
use crate::model::preprocess::{Crop, Image};
use crate::model::weights::Weights;
pub use crate::plan::Algorithm;
use crate::plan::{Input, Join, Plan, Run, StepTime, Work, stale};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Backend {
    /// The GPU where there is a real one, the CPU otherwise.
    #[default]
    Auto,
    Cpu,
    /// The GPU, be it a software adapter.
    Gpu,
}

impl FromStr for Backend {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Backend::Auto),
            "cpu" | "wasm" => Ok(Backend::Cpu),
            "gpu" | "webgpu" => Ok(Backend::Gpu),
            _ => Err(Error::Argument(format!("\"{s}\" is no backend; there are auto, cpu and gpu"))),
        }
    }
}

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub backend: Backend,
    /// Threads that share a step on the CPU; unasked a thread a core, at most eight. In a browser no more
    /// than helper workers have arrived, see [`Engine::set_threads`].
    pub threads: Option<NonZeroUsize>,
    /// Whether a GPU has to compute, before it is used, part of a test picture as plain loops do. Default: one that is
    /// hardware: a software adapter takes long for it, and has nothing that breaks.
    pub check: Option<bool>,
    /// Whether a GPU that can stores activations and weights in f16 and multiplies in it; sums are in f32 all the same,
    /// and probabilities.
    pub half: bool,
    /// How branches come together. With [`Join::Gains`] already the first gain that differs from 1 leaves what lies
    /// upstream as it is; each run copies every branch once for it.
    pub join: Join,
    /// Which kernels a GPU that is opened for it runs, be they its own or not: for tests.
    #[doc(hidden)]
    pub kernels: Option<gpu::KernelSet>,
}

/// What an engine runs on, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Info {
    /// `cpu` or `gpu`.
    pub backend: &'static str,
    /// The GPU's name, or the CPU path's instruction set.
    pub adapter: String,
    /// Why this backend, in a sentence.
    pub reason: String,
    /// Threads that share a step of the CPU path; 1 on the GPU.
    pub threads: usize,
    /// Whether it multiplies in f16, as [`Options::half`] asks.
    pub f16: bool,
}

/// What one run answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// One a head, the network's own answer last.
    pub heads: Vec<HeadOutput>,
    /// Time of each step that was run; empty unless asked for with [`Engine::set_timed`], or where it cannot be measured.
    pub steps: Vec<StepTime>,
    /// Milliseconds from pixels to the network's input.
    pub preprocess_ms: f64,
    /// Milliseconds from the input to the probabilities.
    pub run_ms: f64,
}

/// A head's probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadOutput {
    /// `loss1`, `loss2` or `loss3`.
    pub name: String,
    /// (n, 1, 1, classes).
    pub probabilities: Tensor,
}

impl Output {
    /// The network's own answer.
    pub fn answer(&self) -> Option<&HeadOutput> {
        self.heads.last()
    }
}

impl HeadOutput {
    /// Class and probability of the `k` likeliest classes of picture `n`, likeliest first.
    pub fn top(&self, n: usize, k: usize) -> Vec<(usize, f32)> {
        // One at a time, each the first of those after the one before: sorting would be the largest function that
        // the page downloads.
        let order = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        let all = self.probabilities.image(n);
        let mut top: Vec<(usize, f32)> = Vec::new();
        while top.len() < k {
            let after = |class: &(usize, f32)| top.last().is_none_or(|last| order(last, class).is_lt());
            match all.iter().copied().enumerate().filter(after).min_by(order) {
                Some(next) => top.push(next),
                None => break,
            }
        }
        top
    }
}

/// A run that was started. The CPU has done it already; a GPU may still be computing.
pub struct PendingRun {
    heads: Vec<String>,
    way: Way,
}

enum Way {
    Done(Run),
    Gpu(Box<gpu::PendingRun>),
}

impl PendingRun {
    /// Waits for the run, and gives its output.
    pub async fn finish(self) -> Result<Output> {
        let Run { heads, steps, preprocess_ms, run_ms } = match self.way {
            Way::Done(run) => run,
            Way::Gpu(run) => run.finish().await?,
        };
        let heads = self.heads.into_iter().zip(heads).map(|(name, probabilities)| HeadOutput { name, probabilities });
        Ok(Output { heads: heads.collect(), steps, preprocess_ms, run_ms })
    }
}

/// A model on a backend.
pub struct Engine {
    /// Its weights are gone into the backend.
    model: Model,
    runner: Runner,
    info: Info,
    /// One a node; only branches of a join may differ from 1.
    gains: Vec<f32>,
    /// Those of the last run.
    applied: Vec<f32>,
    /// Of the next plan; once branches were weighed they keep places of their own.
    join: Join,
    timed: bool,
    /// The plan in force, and whether a run has filled it.
    plan: Option<Plan>,
    filled: bool,
    /// Whether faster kernels than the plan's were found.
    outdated: bool,
}

enum Runner {
    Cpu(Box<Cpu>),
    Gpu(Box<Gpu>),
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("model", &self.model.name).field("info", &self.info).finish_non_exhaustive()
    }
}

impl Engine {
    /// Loads a model onto a backend, with as many threads as there are cores, at most eight.
    pub async fn new(model: Model, backend: Backend) -> Result<Self> {
        Self::with(model, Options { backend, ..Options::default() }).await
    }

    /// Loads a model: weights are packed (and uploaded) here, once.
    pub async fn with(model: Model, options: Options) -> Result<Self> {
        Self::with_gpu(model, options, None).await
    }

    /// Like [`Engine::with`], on a GPU that was opened before.
    pub async fn with_gpu(mut model: Model, options: Options, prepared: Option<PreparedGpu>) -> Result<Self> {
        let (runner, plan, reason) = Self::choose(&model, options, prepared).await?;
        model.weights = Weights::default();
        let (backend, adapter, threads, f16) = match &runner {
            Runner::Cpu(cpu) => ("cpu", cpu.adapter(), cpu.threads(), false),
            Runner::Gpu(gpu) => ("gpu", gpu.adapter(), 1, gpu.is_half()),
        };
        let gains = vec![1.0; model.network.nodes().len()];
        let info = Info { backend, adapter, reason, threads, f16 };
        Ok(Engine {
            model,
            runner,
            info,
            applied: gains.clone(),
            gains,
            join: options.join,
            timed: false,
            plan,
            filled: false,
            outdated: false,
        })
    }

    async fn choose(
        model: &Model,
        options: Options,
        prepared: Option<PreparedGpu>,
    ) -> Result<(Runner, Option<Plan>, String)> {
        let team = || Team::of(options.threads);
        let cpu = |why: String| Ok((Runner::Cpu(Box::new(Cpu::new(model, team())?)), None, why));
        if options.backend == Backend::Cpu {
            return cpu("the CPU was asked for".into());
        }
        let auto = options.backend == Backend::Auto;
        let gpu = async {
            let prepared = match prepared {
                Some(prepared) => prepared,
                None => PreparedGpu::with(options.half, options.kernels).await?,
            };
            let gpu = if auto { Gpu::hardware(prepared, model).await } else { Gpu::load(prepared, model).await };
            Self::ready(gpu?, model, options).await
        };
        match gpu.await {
            Ok((gpu, plan)) => {
                let why = if auto { "there is a GPU" } else { "the GPU was asked for" };
                Ok((Runner::Gpu(Box::new(gpu)), Some(plan), why.into()))
            }
            // A build without a CPU engine leaves it to its caller to go on with one.
            Err(e) if auto && cfg!(feature = "cpu") => cpu(e.to_string()),
            Err(e) => Err(e),
        }
    }

    /// Has a GPU take on the plan for one picture, so that the first finds everything ready, and checks it.
    async fn ready(mut gpu: Gpu, model: &Model, options: Options) -> Result<(Gpu, Plan)> {
        let plan = Plan::new(&model.network, 1, options.join)?;
        gpu.prepare(&plan)?;
        // What is to be expected is computed while the driver compiles.
        #[cfg(feature = "gpu")]
        let check = if options.check.unwrap_or(gpu.is_hardware()) { SelfCheck::new(model)? } else { None };
        gpu.ready().await?;
        #[cfg(feature = "gpu")]
        if let Some(check) = check {
            check.run(&mut gpu, &plan).await?;
        }
        Ok((gpu, plan))
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The model, without its weights.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Shares the steps among this many threads from the next run on, where the CPU runs them. A browser's
    /// helper workers that have arrived since the engine was made are taken here.
    pub fn set_threads(&mut self, threads: NonZeroUsize) {
        if let Runner::Cpu(cpu) = &mut self.runner {
            cpu.set_team(Team::new(threads.get()));
            self.info.threads = cpu.threads();
            (self.plan, self.filled) = (None, false);
        }
    }

    /// How a node is computed; only the CPU path says so.
    pub fn algorithm(&self, node: NodeId) -> Option<Algorithm> {
        match &self.runner {
            Runner::Cpu(cpu) => Some(cpu.algorithm(node)),
            Runner::Gpu(_) => None,
        }
    }

    /// Measures which kernels are fastest on this GPU for as many pictures as were run last, and goes on with those. What
    /// the last run left can still be read. Gives what [`Engine::set_tuning`] takes the next time; `None` on the CPU.
    pub async fn tune(&mut self) -> Result<Option<String>> {
        let (Runner::Gpu(gpu), Some(plan)) = (&mut self.runner, &self.plan) else { return Ok(None) };
        gpu.tune(plan).await?;
        self.outdated = true;
        Ok(Some(gpu.tuning()))
    }

    /// Takes on what [`Engine::tune`] gave on the same GPU, from the next run on; [`Error::Argument`] where it was
    /// another, or the kernels were. Nothing on the CPU.
    pub async fn set_tuning(&mut self, kept: &str) -> Result<()> {
        let Runner::Gpu(gpu) = &mut self.runner else { return Ok(()) };
        gpu.set_tuning(kept)?;
        self.outdated = true;
        self.prepare(1)?;
        match &mut self.runner {
            Runner::Gpu(gpu) => gpu.ready().await,
            Runner::Cpu(_) => Ok(()),
        }
    }

    /// Has each convolution computed by its candidate number `i` of those that [`Engine::tune`] measures, for as many
    /// pictures as were run last: for tests. Gives the most candidates that one has; `None` on the CPU.
    #[doc(hidden)]
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_candidate(&mut self, i: usize) -> Result<Option<usize>> {
        let (Runner::Gpu(gpu), Some(plan)) = (&mut self.runner, &self.plan) else { return Ok(None) };
        self.outdated = true;
        gpu.set_candidate(plan, i).map(Some)
    }

    /// Whether measuring pays: there is a GPU, and not a CPU that plays one.
    pub fn can_tune(&self) -> bool {
        matches!(&self.runner, Runner::Gpu(gpu) if gpu.is_hardware())
    }

    /// What the GPU can do at best, measured; `None` on the CPU.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn gpu_peak(&self) -> Result<Option<crate::gpu::Peak>> {
        match &self.runner {
            Runner::Cpu(_) => Ok(None),
            Runner::Gpu(gpu) => gpu.peak().await.map(Some),
        }
    }

    /// What has been asked of the GPU so far; `None` on the CPU.
    pub fn gpu_counts(&self) -> Option<Counts> {
        match &self.runner {
            Runner::Cpu(_) => None,
            Runner::Gpu(gpu) => Some(gpu.counts()),
        }
    }

    /// Whether runs measure each step. Off at first: measuring costs.
    pub fn set_timed(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// Runs the network once on the CPU before there is a picture, on zeros: memory and code are then ready for the
    /// first one. Does nothing after a run, since what it left can be read, and nothing on a GPU, which loading has
    /// readied.
    pub async fn warm_up(&mut self) -> Result<()> {
        if self.filled || matches!(self.runner, Runner::Gpu(_)) {
            return Ok(());
        }
        let network = &self.model.network;
        let inputs: Vec<Tensor> = network.inputs().map(|id| Tensor::zeros(network.node(id).shape)).collect();
        let done = self.run_input(Input::Tensors(&inputs.iter().collect::<Vec<_>>())).await;
        self.filled = false;
        done.map(drop)
    }

    /// Classifies one picture: its centre square.
    pub async fn run(&mut self, image: &Image) -> Result<Output> {
        self.run_input(Input::Images(&[image], Crop::Center)).await
    }

    /// Runs pictures or tensors, as many as come together.
    pub async fn run_input(&mut self, input: Input<'_>) -> Result<Output> {
        self.ready_for(&input)?;
        self.execute(Work::All(input)).await
    }

    /// As [`Engine::run_input`], up to where a GPU has all that it needs: another input may be started before this one
    /// has finished, and a third is [`Error::Argument`]. What is read meanwhile is the last one's.
    pub async fn start_input(&mut self, input: Input<'_>) -> Result<PendingRun> {
        self.ready_for(&input)?;
        self.start(Work::All(input)).await
    }

    /// Has the plan for an input in force.
    fn ready_for(&mut self, input: &Input<'_>) -> Result<()> {
        self.check(input)?;
        if self.gains.iter().any(|&gain| gain != 1.0) {
            self.join = Join::Gains;
        }
        self.prepare(input.batch())
    }

    /// Runs the last input again with the gains as they are now. Only what they change is computed: the joins of the
    /// branches that are weighed otherwise than in the last run, and what lies downstream of these. The first time that
    /// a gain differs from 1, branches take places of their own, and everything is; unless they had them from the
    /// beginning, as by [`Options::join`].
    pub async fn rerun(&mut self) -> Result<Output> {
        let Some(plan) = self.plan.as_ref().filter(|_| self.filled) else {
            return Err(Error::Argument("there is nothing to run again: run a picture first".into()));
        };
        let stale = stale(&self.model.network, &self.applied, &self.gains);
        if plan.join == Join::Gains || !stale.contains(&true) {
            return self.execute(Work::Stale(&stale)).await;
        }
        let mut inputs = Vec::new();
        for id in self.model.network.inputs() {
            inputs.push(self.read(&self.model.network.node(id).name).await?);
        }
        self.run_input(Input::Tensors(&inputs.iter().collect::<Vec<_>>())).await
    }

    /// Has the plan in force run.
    async fn execute(&mut self, work: Work<'_>) -> Result<Output> {
        let output = self.start(work).await?.finish().await;
        self.filled = output.is_ok();
        output
    }

    async fn start(&mut self, work: Work<'_>) -> Result<PendingRun> {
        self.filled = false;
        let way = match &mut self.runner {
            Runner::Cpu(cpu) => Way::Done(cpu.run(work, &self.gains, self.timed)?),
            Runner::Gpu(gpu) => Way::Gpu(Box::new(gpu.start(work, &self.gains, self.timed).await?)),
        };
        self.filled = true;
        self.applied.copy_from_slice(&self.gains);
        Ok(PendingRun { heads: self.model.network.heads().iter().map(|head| head.name.clone()).collect(), way })
    }

    /// Takes on the plan for this batch, unless it is in force.
    fn prepare(&mut self, batch: usize) -> Result<()> {
        let join = self.join;
        if !self.outdated && self.plan.as_ref().is_some_and(|p| (p.batch, p.join) == (batch, join)) {
            return Ok(());
        }
        (self.plan, self.filled, self.outdated) = (None, false, false);
        let plan = Plan::new(&self.model.network, batch, join)?;
        match &mut self.runner {
            Runner::Cpu(cpu) => cpu.prepare(&plan)?,
            Runner::Gpu(gpu) => gpu.prepare(&plan)?,
        }
        self.plan = Some(plan);
        Ok(())
    }

    fn check(&self, input: &Input<'_>) -> Result<()> {
        let batch = input.batch();
        if batch == 0 {
            return Err(Error::Argument("there is no picture to run".into()));
        }
        let network = &self.model.network;
        let wanted: Vec<_> = network.inputs().map(|i| network.node(i).shape.with_batch(batch)).collect();
        match input {
            Input::Images(..) => {
                let size = self.model.preprocess.size;
                if wanted.iter().any(|s| (s.h, s.w, s.c) != (size, size, 3)) || wanted.len() != 1 {
                    return Err(Error::Argument("this network does not read pictures; hand it tensors".into()));
                }
            }
            Input::Tensors(tensors) => {
                if tensors.len() != wanted.len() {
                    return Err(Error::Argument(format!(
                        "the network reads {} tensors, not {}",
                        wanted.len(),
                        tensors.len()
                    )));
                }
                if let Some((t, w)) = tensors.iter().zip(&wanted).find(|(t, w)| t.shape != **w) {
                    return Err(Error::Argument(format!("the input tensor is {}, but the network reads {w}", t.shape)));
                }
            }
        }
        Ok(())
    }

    /// What a node gave in the last run.
    pub async fn read(&self, node: &str) -> Result<Tensor> {
        let place = self.place(node)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.read(place),
            Runner::Gpu(gpu) => gpu.read(place).await,
        }
    }

    /// Draws channels of what a node gave in the last run.
    pub async fn draw(&self, node: &str, sheet: &Sheet) -> Result<Image> {
        let [width, height] = self.sheet_size(node, sheet)?;
        match self.draw_or_leave(node, sheet, false).await? {
            Drawn::Rgba(rgba) => Image::new(width, height, rgba),
            #[cfg(all(target_arch = "wasm32", feature = "gpu"))]
            Drawn::Resident(_) => unreachable!("it was not to stay"),
        }
    }

    /// The same as RGBA; or where it may `stay`, and in a browser's GPU can, as what a canvas takes from there.
    pub async fn draw_or_leave(&self, node: &str, sheet: &Sheet, stay: bool) -> Result<Drawn> {
        let place = self.place(node)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.draw(place, sheet).map(Drawn::Rgba),
            Runner::Gpu(gpu) => gpu.draw(place, sheet, stay).await,
        }
    }

    /// Numbers of what a node gave in the last run, for a picture of its batch.
    pub async fn stats(&self, node: &str, image: usize, stats: Stats) -> Result<Vec<f32>> {
        let place = self.place(node)?;
        stats.len(place.shape, image)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.stats(place, image, stats),
            Runner::Gpu(gpu) => gpu.stats(place, image, stats).await,
        }
    }

    /// Width and height of a sheet of a node, in pixels.
    pub fn sheet_size(&self, node: &str, sheet: &Sheet) -> Result<[usize; 2]> {
        sheet.size(self.place(node)?.shape)
    }

    fn place(&self, node: &str) -> Result<crate::plan::Place> {
        let id = self.model.network.find(node)?;
        match &self.plan {
            Some(plan) if self.filled => Ok(plan.places[id]),
            _ => Err(Error::Argument(format!("\"{node}\" holds nothing yet: run a picture first"))),
        }
    }

    /// Multiplies what a branch of a module hands to the module's output: 0 switches it off, 1 leaves it.
    /// `branch` is the branch's last layer (`inception_3a/1x1`, `/3x3`, `/5x5`, `/pool_proj`). Takes
    /// effect with the next run, be it [`Engine::rerun`]; the branch itself stays as it is.
    pub fn set_gain(&mut self, branch: &str, gain: f32) -> Result<()> {
        let network = &self.model.network;
        let id = network.find(branch)?;
        if !network.readers(id).any(|reader| network.node(reader).op == Op::Concat) {
            return Err(Error::Argument(format!("\"{branch}\" is not the last layer of a branch")));
        }
        if !gain.is_finite() {
            return Err(Error::Argument(format!("the gain of \"{branch}\" must be a finite number")));
        }
        self.gains[id] = gain;
        Ok(())
    }

    /// Gives the branches named their gains and all others 1. Where one cannot be set, none is.
    pub fn set_gains(&mut self, gains: &[(String, f32)]) -> Result<()> {
        let fresh = vec![1.0; self.gains.len()];
        let before = std::mem::replace(&mut self.gains, fresh);
        let result = gains.iter().try_for_each(|(branch, gain)| self.set_gain(branch, *gain));
        if result.is_err() {
            self.gains = before;
        }
        result
    }
}
