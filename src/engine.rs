//! The engine: a model on one backend. It runs pictures or tensors, reads the activations of any layer, and scales or
//! switches off branches.

#[cfg(feature = "train")]
pub mod gradient;
#[cfg(feature = "gpu")]
mod selfcheck;
#[cfg(feature = "train")]
pub mod training;

use crate::cpu::Cpu;
use crate::cpu::threads::ThreadPool;
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
use crate::plan::{ConcatMode, Input, PendingRun, Plan, Work, stale};
pub use crate::plan::{HeadOutput, Output};
use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

/// The backend that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Backend {
    /// The GPU where there is a real one, and the CPU otherwise.
    #[default]
    Auto,
    Cpu,
    /// The GPU, also one that is emulated on the CPU.
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

/// Options for loading a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    pub backend: Backend,
    /// Threads that share the work on the CPU. Default: one a core, at most eight. A browser has only as many as there are
    /// helper workers, see [`Engine::set_threads`].
    pub threads: Option<NonZeroUsize>,
    /// Whether a GPU is checked before it is used: it computes part of a test picture, which is compared with plain loops.
    /// Default: yes for hardware, no for software adapters, which take long for it and have no faulty drivers.
    pub check: Option<bool>,
    /// Whether activations and weights are stored and multiplied in f16, on GPUs that can. Sums and probabilities stay in
    /// f32. Default: no.
    pub half: bool,
    /// How the branches of a module are concatenated. With [`ConcatMode::WithGains`], a changed gain never needs the layers before
    /// it to be computed again; the price is one copy of every branch in each run. Default: [`ConcatMode::InPlace`].
    pub concat: ConcatMode,
    /// Whether the engine keeps what gradients need, which is another copy of the weights. Default: no.
    #[cfg(feature = "train")]
    pub gradients: bool,
    /// For tests: the kernels that a GPU runs, in place of those for its kind of adapter.
    #[doc(hidden)]
    pub kernels: Option<gpu::KernelSet>,
}

/// The backend that an engine runs on, and why.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Info {
    /// `cpu` or `gpu`.
    pub backend: &'static str,
    /// The GPU's name, or the CPU path's instruction set.
    pub adapter: String,
    /// The reason for this backend, as a sentence.
    pub reason: String,
    /// Threads that share the work on the CPU; 1 on the GPU.
    pub threads: usize,
    /// Whether activations and weights are in f16, as [`Options::half`] asks.
    pub f16: bool,
}

/// A model on a backend.
pub struct Engine {
    /// The model without its weights, which the backend holds.
    model: Model,
    runner: Runner,
    info: Info,
    /// One factor for each node. Only those of branches may differ from 1.
    gains: Vec<f32>,
    /// The gains of the last run.
    applied: Vec<f32>,
    /// How the next plan concatenates. Once a gain has differed from 1, it stays [`ConcatMode::WithGains`].
    concat: ConcatMode,
    timed: bool,
    /// The current plan, and whether it holds the activations of a run.
    plan: Option<Plan>,
    filled: bool,
    /// Whether faster kernels than those of the current plan were found.
    outdated: bool,
    /// Whether gradients can be computed.
    #[cfg(feature = "train")]
    gradients: bool,
    /// The backward plan in force.
    #[cfg(feature = "train")]
    backward: Option<crate::plan::backward::Differentiation>,
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
    /// Loads a model onto a backend, with default options.
    pub async fn new(model: Model, backend: Backend) -> Result<Self> {
        Self::with(model, Options { backend, ..Options::default() }).await
    }

    /// Loads a model. The weights are packed, and uploaded to a GPU, here and only once.
    pub async fn with(model: Model, options: Options) -> Result<Self> {
        Self::with_gpu(model, options, None).await
    }

    /// Like [`Engine::with`], on a GPU that was opened before.
    pub async fn with_gpu(mut model: Model, options: Options, prepared: Option<PreparedGpu>) -> Result<Self> {
        let (runner, plan, reason) = Self::choose(&model, options, prepared).await?;
        #[cfg(feature = "train")]
        let runner = match runner {
            Runner::Cpu(mut cpu) if options.gradients => {
                cpu.keep_parameters(&model)?;
                Runner::Cpu(cpu)
            }
            other => other,
        };
        // Gradients on a GPU need the weights as they are in the file.
        #[cfg(feature = "train")]
        let kept = options.gradients && matches!(runner, Runner::Gpu(_));
        #[cfg(not(feature = "train"))]
        let kept = false;
        if !kept {
            model.weights = Weights::default();
        }
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
            concat: options.concat,
            timed: false,
            plan,
            filled: false,
            outdated: false,
            #[cfg(feature = "train")]
            gradients: options.gradients,
            #[cfg(feature = "train")]
            backward: None,
        })
    }

    async fn choose(
        model: &Model,
        options: Options,
        prepared: Option<PreparedGpu>,
    ) -> Result<(Runner, Option<Plan>, String)> {
        let pool = || ThreadPool::of(options.threads);
        let cpu = |why: String| Ok((Runner::Cpu(Box::new(Cpu::new(model, pool())?)), None, why));
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

    /// Prepares a GPU for one picture, so that the first run finds everything compiled, and checks it.
    async fn ready(mut gpu: Gpu, model: &Model, options: Options) -> Result<(Gpu, Plan)> {
        let plan = Plan::new(&model.network, 1, options.concat)?;
        gpu.prepare(&plan)?;
        // The expected values are computed while the driver compiles.
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

    /// Shares the work among this many threads from the next run on, if the engine runs on the CPU. In a browser, helper
    /// workers that have started since the engine was made are included from now on.
    pub fn set_threads(&mut self, threads: NonZeroUsize) {
        if let Runner::Cpu(cpu) = &mut self.runner {
            cpu.set_pool(ThreadPool::new(threads.get()));
            self.info.threads = cpu.threads();
            (self.plan, self.filled) = (None, false);
            self.forget_backward();
        }
    }

    /// How a node is computed; `None` on the GPU.
    pub fn algorithm(&self, node: NodeId) -> Option<Algorithm> {
        match &self.runner {
            Runner::Cpu(cpu) => Some(cpu.algorithm(node)),
            Runner::Gpu(_) => None,
        }
    }

    /// Measures which kernels are fastest on this GPU, for the batch size of the last run, and uses them from the next run
    /// on. The activations of the last run can still be read. Returns the result as text for [`Engine::set_tuning`];
    /// `None` on the CPU.
    pub async fn tune(&mut self) -> Result<Option<String>> {
        let (Runner::Gpu(gpu), Some(plan)) = (&mut self.runner, &self.plan) else { return Ok(None) };
        gpu.tune(plan).await?;
        self.outdated = true;
        Ok(Some(gpu.tuning()))
    }

    /// Uses an earlier result of [`Engine::tune`] from the next run on. Fails with [`Error::Argument`] where it was measured
    /// on another GPU or with other kernels. Does nothing on the CPU.
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

    /// For tests: computes each convolution by number `i` of the candidates that [`Engine::tune`] measures, for the batch
    /// size of the last run. Returns the largest number of candidates of one convolution; `None` on the CPU.
    #[doc(hidden)]
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_candidate(&mut self, i: usize) -> Result<Option<usize>> {
        let (Runner::Gpu(gpu), Some(plan)) = (&mut self.runner, &self.plan) else { return Ok(None) };
        self.outdated = true;
        gpu.set_candidate(plan, i).map(Some)
    }

    /// Whether [`Engine::tune`] is worth its time: the engine runs on a real GPU.
    pub fn can_tune(&self) -> bool {
        matches!(&self.runner, Runner::Gpu(gpu) if gpu.is_hardware())
    }

    /// The measured peak performance of the GPU; `None` on the CPU.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn gpu_peak(&self) -> Result<Option<crate::gpu::Peak>> {
        match &self.runner {
            Runner::Cpu(_) => Ok(None),
            Runner::Gpu(gpu) => gpu.peak().await.map(Some),
        }
    }

    /// Counts of what was asked of the GPU so far; `None` on the CPU.
    pub fn gpu_counts(&self) -> Option<Counts> {
        match &self.runner {
            Runner::Cpu(_) => None,
            Runner::Gpu(gpu) => Some(gpu.counts()),
        }
    }

    /// Sets whether runs measure the time of each step, which makes them slower. Default: no.
    pub fn set_timed(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// Runs the network once on zeros, on the CPU, so that memory and code are ready for the first picture. Does nothing
    /// after a run, whose activations would be lost, and nothing on a GPU, which is ready after loading.
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

    /// Classifies the centre square of one picture.
    pub async fn run(&mut self, image: &Image) -> Result<Output> {
        self.run_input(Input::Images(&[image], Crop::Center)).await
    }

    /// Runs a batch of pictures or tensors.
    pub async fn run_input(&mut self, input: Input<'_>) -> Result<Output> {
        self.ready_for(&input)?;
        self.execute(Work::All(input)).await
    }

    /// Starts a run, and returns when a GPU has all that it needs. A second run may be started before the first has
    /// finished; a third fails with [`Error::Argument`]. [`Engine::read`] reads the last run's activations.
    pub async fn start_input(&mut self, input: Input<'_>) -> Result<PendingRun> {
        self.ready_for(&input)?;
        self.start(Work::All(input)).await
    }

    /// Prepares the plan for an input.
    fn ready_for(&mut self, input: &Input<'_>) -> Result<()> {
        input.check(&self.model.network, self.model.preprocess.size)?;
        if self.gains.iter().any(|&gain| gain != 1.0) {
            self.concat = ConcatMode::WithGains;
        }
        self.prepare(input.batch())
    }

    /// Runs the last input again with the current gains. Only what they change is computed: the concatenations of branches
    /// whose gain differs from the last run, and all layers after them. The first time that a gain differs from 1, the
    /// branches get buffers of their own and everything is computed, unless [`Options::concat`] gave them buffers from the
    /// beginning.
    pub async fn rerun(&mut self) -> Result<Output> {
        let Some(plan) = self.plan.as_ref().filter(|_| self.filled) else {
            return Err(Error::Argument("there is nothing to run again: run a picture first".into()));
        };
        let stale = stale(&self.model.network, &self.applied, &self.gains);
        if plan.concat == ConcatMode::WithGains || !stale.contains(&true) {
            return self.execute(Work::Stale(&stale)).await;
        }
        let mut inputs = Vec::new();
        for id in self.model.network.inputs() {
            inputs.push(self.read(&self.model.network.node(id).name).await?);
        }
        self.run_input(Input::Tensors(&inputs.iter().collect::<Vec<_>>())).await
    }

    /// Runs the current plan.
    async fn execute(&mut self, work: Work<'_>) -> Result<Output> {
        let output = self.start(work).await?.await;
        self.filled = output.is_ok();
        output
    }

    async fn start(&mut self, work: Work<'_>) -> Result<PendingRun> {
        self.filled = false;
        let pending = match &mut self.runner {
            Runner::Cpu(cpu) => {
                let output = cpu.run(work, &self.gains, self.timed)?;
                Box::pin(std::future::ready(Ok(output))) as PendingRun
            }
            Runner::Gpu(gpu) => gpu.start(work, &self.gains, self.timed).await?,
        };
        self.filled = true;
        self.applied.copy_from_slice(&self.gains);
        Ok(pending)
    }

    /// Prepares the plan for this batch size, unless it is the current one.
    fn prepare(&mut self, batch: usize) -> Result<()> {
        let concat = self.concat;
        if !self.outdated && self.plan.as_ref().is_some_and(|p| (p.batch, p.concat) == (batch, concat)) {
            return Ok(());
        }
        (self.plan, self.filled, self.outdated) = (None, false, false);
        self.forget_backward();
        let plan = Plan::new(&self.model.network, batch, concat)?;
        match &mut self.runner {
            Runner::Cpu(cpu) => cpu.prepare(&plan)?,
            Runner::Gpu(gpu) => gpu.prepare(&plan)?,
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Gradients follow from the forward plan, and must be prepared again after it.
    fn forget_backward(&mut self) {
        #[cfg(feature = "train")]
        {
            self.backward = None;
        }
    }

    /// The activations of a node in the last run, (n, h, w, c). Fails with [`Error::Argument`] where nothing has run.
    pub async fn read(&self, node: &str) -> Result<Tensor> {
        let place = self.place(node)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.read(place),
            Runner::Gpu(gpu) => gpu.read(place).await,
        }
    }

    /// Draws channels of a node's activations in the last run as a contact sheet.
    pub async fn draw(&self, node: &str, sheet: &Sheet) -> Result<Image> {
        let [width, height] = self.sheet_size(node, sheet)?;
        match self.draw_on_gpu(node, sheet, false).await? {
            Drawn::Rgba(rgba) => Image::new(width, height, rgba),
            #[cfg(all(target_arch = "wasm32", feature = "gpu"))]
            Drawn::Resident(_) => unreachable!("a sheet stays on the GPU only where it is asked to"),
        }
    }

    /// Like [`Engine::draw`]. With `stay`, a WebGPU build returns a handle of the GPU's buffer where it can, and RGBA bytes
    /// otherwise.
    pub async fn draw_on_gpu(&self, node: &str, sheet: &Sheet, stay: bool) -> Result<Drawn> {
        let place = self.place(node)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.draw(place, sheet).map(Drawn::Rgba),
            Runner::Gpu(gpu) => gpu.draw(place, sheet, stay).await,
        }
    }

    /// Statistics of a node's activations in the last run, for one picture of the batch.
    pub async fn stats(&self, node: &str, image: usize, stats: Stats) -> Result<Vec<f32>> {
        let place = self.place(node)?;
        stats.len(place.shape, image)?;
        match &self.runner {
            Runner::Cpu(cpu) => cpu.stats(place, image, stats),
            Runner::Gpu(gpu) => gpu.stats(place, image, stats).await,
        }
    }

    /// Width and height of a node's contact sheet in pixels.
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

    /// Sets the factor of a branch in the concatenation of its module: 0 switches the branch off, 1 leaves it. `branch` is
    /// the branch's last layer (`inception_3a/1x1`, `/3x3`, `/5x5`, `/pool_proj`). Takes effect with the next run or
    /// [`Engine::rerun`]; the branch's own activations stay as they are.
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

    /// Sets the gains of the named branches, and 1 for all others. Where one is invalid, none is changed.
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
