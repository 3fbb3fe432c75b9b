//! The CPU engine: SIMD128 in the browser, the widest vectors of the machine natively, and as many threads as the pool
//! has.
//!
//! Weights are packed once, when a model is loaded. Buffers, scratch memory and the division into tasks are made once
//! for each plan; a run allocates only the tensors that it returns.

#[cfg(feature = "train")]
mod backward;
mod contact_sheet;
mod gemm;
#[cfg(feature = "train")]
mod gradient;
mod kernel;
#[cfg(feature = "train")]
mod learning;
mod memory;
mod ops;
#[cfg(feature = "train")]
mod outer;
mod schedule;
#[cfg(feature = "train")]
mod seed;
pub(crate) mod simd;
mod statistics;
pub mod threads;
mod view;
mod winograd;

use crate::error::{Error, Result};
use crate::graph::network::{Head, Network, NodeId};
use crate::graph::op::{Geometry, Window};
use crate::graph::tensor::{Shape, Tensor};
use crate::inspect::contact_sheet::Sheet;
use crate::inspect::statistics::Stats;
use crate::model::Model;
use crate::model::preprocess::Preprocess;
use crate::plan::{Algorithm, HeadOutput, Input, Output, Place, Plan, Step, StepTime, Work};
use kernel::{Call, Inputs, Kernel};
use memory::{Buffer, Scratch};
use schedule::{Extent, Group, Task};
use simd::Isa;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use threads::ThreadPool;
use view::View;
use web_time::Instant;

/// A model whose weights are packed for this machine, and the current plan with its buffers.
pub struct Cpu {
    isa: Isa,
    pool: ThreadPool,
    preprocess: Preprocess,
    network: Network,
    /// One layer for each node.
    layers: Vec<Layer>,
    inputs: Vec<NodeId>,
    prepared: Option<Prepared>,
    /// What gradients need, if they were asked for.
    #[cfg(feature = "train")]
    learning: Option<learning::Learning>,
}

/// A plan with everything that a run needs.
struct Prepared {
    plan: Plan,
    /// One for each buffer of the plan.
    buffers: Vec<Buffer>,
    /// One for each step; `Some` for operations with a sliding window.
    geometry: Vec<Option<Geometry>>,
    groups: Vec<Group>,
    /// The tasks of each round. A round begins after all tasks of the previous round have ended.
    rounds: Vec<Vec<Task>>,
    scratch: Scratch,
    /// The nanoseconds of each step in the current timed run, summed over all threads.
    times: Vec<AtomicU64>,
}

/// A node: its name, its computation, and the nodes that it reads.
struct Layer {
    name: String,
    /// `None` for an input.
    kernel: Option<Box<dyn Kernel>>,
    inputs: Vec<NodeId>,
}

impl Layer {
    fn fail(&self, reason: String) -> Error {
        Error::Shape { layer: self.name.clone(), reason }
    }
}

#[allow(unsafe_code, reason = "tasks write their own part of buffers that the plan keeps apart")]
impl Cpu {
    /// Packs the model's weights for the best instruction set of this machine. The threads of the pool share the work.
    /// Fails where a weight is missing.
    pub fn new(model: &Model, pool: ThreadPool) -> Result<Self> {
        let network = &model.network;
        let isa = Isa::detect();
        let layer = |(id, node): (NodeId, &crate::graph::network::Node)| {
            let input = network.input_shape(id);
            let made = kernel::Layer { isa, name: &node.name, model, input, output: node.shape };
            let kernel = ops::kernel(&node.op, &made)?;
            Ok(Layer { name: node.name.clone(), kernel, inputs: node.inputs.clone() })
        };
        Ok(Cpu {
            isa,
            pool,
            preprocess: model.preprocess,
            layers: network.nodes().iter().enumerate().map(layer).collect::<Result<_>>()?,
            inputs: network.inputs().collect(),
            network: network.clone(),
            prepared: None,
            #[cfg(feature = "train")]
            learning: None,
        })
    }

    /// The name of the instruction set.
    pub fn adapter(&self) -> String {
        self.isa.to_string()
    }

    /// The number of threads that share the work.
    pub fn threads(&self) -> usize {
        self.pool.size()
    }

    /// Uses another pool. The plan must be prepared again.
    pub fn set_pool(&mut self, pool: ThreadPool) {
        self.prepared = None;
        self.pool = pool;
    }

    /// The algorithm that computes a node, and its number of multiply-adds.
    pub fn algorithm(&self, id: NodeId) -> Algorithm {
        let node = self.network.node(id);
        let kernel = self.layers[id].kernel.as_deref();
        let algorithm = kernel.and_then(|kernel| kernel.algorithm(self.network.input_shape(id), node.shape));
        let (algorithm, executed) = algorithm.unwrap_or_else(|| (node.op.kind().into(), 0));
        Algorithm { algorithm, executed }
    }

    /// Prepares a plan: allocates its buffers, divides its work into tasks, and allocates scratch memory. Fails with
    /// [`Error::Memory`] if there is not enough memory, and with [`Error::Shape`] if the engine cannot compute a step.
    pub fn prepare(&mut self, plan: &Plan) -> Result<()> {
        self.prepared = None;
        #[cfg(feature = "train")]
        if let Some(learning) = &mut self.learning {
            learning.forget();
        }
        let mut geometry = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            let layer = &self.layers[step.node];
            if step.reads.iter().any(|r| r.buffer == step.writes.buffer) {
                return Err(layer.fail("it would read the buffer it writes".into()));
            }
            let Some(x) = step.reads.first() else { return Err(layer.fail("the node has no input".into())) };
            let Some(kernel) = &layer.kernel else { return Err(layer.fail("an input is no step".into())) };
            kernel.check(x).map_err(|reason| layer.fail(reason))?;
            let on = |window: Window| window.on([x.shape.h, x.shape.w]).map_err(|reason| layer.fail(reason));
            geometry.push(kernel.window().map(on).transpose()?);
        }
        let groups = plan.fused(&self.network);
        let extents: Vec<Extent> = groups.iter().map(|group| self.extent(plan, group)).collect();
        let threads = self.pool.size();
        let rounds: Vec<Vec<Task>> = schedule::rounds(&self.network, plan, &groups)
            .into_iter()
            .map(|mut round| {
                // The longest tasks come first, so that short tasks fill the gaps at the end.
                round.sort_by_key(|&group| std::cmp::Reverse(extents[group].cost));
                round.into_iter().flat_map(|group| schedule::cut(group, &extents[group], threads)).collect()
            })
            .collect();
        let floats = rounds.iter().flatten().map(|task| {
            let one = |&step: &usize| self.scratch(&plan.steps[step], geometry[step].as_ref(), task.pieces.len());
            groups[task.group].iter().map(one).max().unwrap_or(0)
        });
        let room = || Error::Memory { bytes: plan.bytes() };
        let scratch = Scratch::new(threads, floats.max().unwrap_or(0)).ok_or_else(room)?;
        let buffers = Buffer::zeros(plan.buffers.iter().map(Shape::len)).ok_or_else(room)?;
        let times = plan.steps.iter().map(|_| AtomicU64::new(0)).collect();
        self.prepared = Some(Prepared { plan: plan.clone(), buffers, geometry, groups, rounds, scratch, times });
        Ok(())
    }

    /// How a group's work can be divided.
    fn extent(&self, plan: &Plan, group: &Group) -> Extent {
        let steps: Vec<&Step> = group.iter().map(|&i| &plan.steps[i]).collect();
        let cost = |step: &Step| {
            let batch = plan.batch as u64;
            // Reading or writing a value takes about as long as two multiply-adds.
            batch * self.algorithm(step.node).executed
                + 2 * (step.writes.shape.len() + step.reads[0].shape.len()) as u64
        };
        let cost = steps.iter().map(|s| cost(s)).sum();
        let kernels: Vec<&dyn Kernel> = steps.iter().filter_map(|step| self.kernel(step)).collect();
        let extent = kernels.split_first().map(|(first, others)| first.extent(steps[0].writes.shape, others));
        Extent { cost, ..extent.unwrap_or(Extent::WHOLE) }
    }

    fn kernel(&self, step: &Step) -> Option<&dyn Kernel> {
        self.layers[step.node].kernel.as_deref()
    }

    /// The number of scratch floats that a task of this many pieces needs.
    fn scratch(&self, step: &Step, geometry: Option<&Geometry>, pieces: usize) -> usize {
        let kernel = self.kernel(step);
        kernel.map_or(0, |kernel| kernel.scratch(geometry, step.reads[0].shape, step.writes.shape, pieces))
    }

    /// Runs the plan, or the stale part of it. `gains` has one factor for each node, by which concatenations multiply
    /// their inputs.
    pub fn run(&mut self, work: Work<'_>, gains: &[f32], timed: bool) -> Result<Output> {
        let prepared = self.prepared.as_ref().ok_or_else(unprepared)?;
        let plan = &prepared.plan;
        let start = Instant::now();
        if let Some(input) = work.input() {
            input.check_for(&self.network, self.preprocess.size, plan.batch)?;
            self.load(prepared, input);
        }
        let loaded = Instant::now();
        if timed {
            prepared.times.iter().for_each(|time| time.store(0, Ordering::Relaxed));
        }
        let due = |task: &Task| prepared.groups[task.group].iter().any(|&step| work.includes(plan.steps[step].node));
        for tasks in prepared.rounds.iter().filter(|tasks| tasks.iter().any(due)) {
            self.pool.run(tasks.len(), &|i| {
                if !due(&tasks[i]) {
                    return;
                }
                // SAFETY: the tasks of a round write disjoint parts, and no task reads what another task of the round
                // writes.
                prepared.scratch.with(|scratch| unsafe { self.task(prepared, &tasks[i], gains, timed, scratch) });
            });
        }
        let run_ms = ms(loaded.elapsed());
        let head =
            |head: &Head| Ok(HeadOutput { name: head.name.clone(), probabilities: self.read(plan.places[head.prob])? });
        let heads = self.network.heads().iter().map(head).collect::<Result<_>>()?;
        let time = |(step, time): (&Step, &AtomicU64)| StepTime {
            node: step.node,
            ms: time.load(Ordering::Relaxed) as f64 / 1e6,
        };
        let run = plan.steps.iter().zip(&prepared.times).filter(|(step, _)| work.includes(step.node));
        let steps = if timed { run.map(time).collect() } else { Vec::new() };
        Ok(Output { heads, steps, preprocess_ms: ms(loaded - start), run_ms })
    }

    /// Writes an input, which was checked, to the buffers of the input nodes.
    fn load(&self, prepared: &Prepared, input: Input<'_>) {
        for (i, &id) in self.inputs.iter().enumerate() {
            // SAFETY: no task is running.
            let buffer = unsafe { prepared.buffers[prepared.plan.places[id].buffer].write() };
            match input {
                Input::Images(images, crop) => {
                    let values = self.preprocess.size * self.preprocess.size * 3;
                    for (image, out) in images.iter().zip(buffer.chunks_exact_mut(values)) {
                        self.preprocess.run(image, crop, out);
                    }
                }
                Input::Tensors(tensors) => buffer.copy_from_slice(&tensors[i].data),
            }
        }
    }

    /// Runs one task.
    ///
    /// # Safety
    /// No other thread may write what the task reads, or access what it writes.
    unsafe fn task(&self, prepared: &Prepared, task: &Task, gains: &[f32], timed: bool, scratch: &mut [f32]) {
        let group = &prepared.groups[task.group];
        let Task { pieces, panels, .. } = task;
        let mut apply = |step: usize, pieces: Range<usize>, panels: Range<usize>| {
            let start = timed.then(Instant::now);
            // SAFETY: guaranteed by the caller for every step of the group.
            unsafe { self.apply(prepared, step, gains, pieces, panels, scratch) };
            if let Some(start) = start {
                prepared.times[step].fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
            }
        };
        let steps = &prepared.plan.steps;
        let panels_of = |step: usize| self.kernel(&steps[step]).map_or(1, |kernel| kernel.panels());
        if let [pool, conv] = group[..]
            && steps[conv].reads[0] == steps[pool].writes
        {
            apply(pool, pieces.clone(), 0..1);
            // A line of the pool's output is a row of pixels for the convolution.
            let width = steps[pool].writes.shape.w;
            return apply(conv, pieces.start * width..pieces.end * width, 0..panels_of(conv));
        }
        // The panels of siblings are numbered consecutively.
        let mut first = 0;
        for &step in group {
            let count = panels_of(step);
            let own = panels.start.max(first)..panels.end.min(first + count);
            if !own.is_empty() {
                apply(step, pieces.clone(), own.start - first..own.end - first);
            }
            first += count;
        }
    }

    /// Runs pieces and panels of one step.
    ///
    /// # Safety
    /// The same as for [`Cpu::task`].
    unsafe fn apply(
        &self,
        prepared: &Prepared,
        step: usize,
        gains: &[f32],
        pieces: Range<usize>,
        panels: Range<usize>,
        scratch: &mut [f32],
    ) {
        let Prepared { plan, buffers, geometry, .. } = prepared;
        let (step, geometry) = (&plan.steps[step], geometry[step].as_ref());
        // Inputs are no steps.
        let Some(kernel) = self.kernel(step) else { return };
        let inputs = Inputs {
            buffers,
            step,
            nodes: &self.layers[step.node].inputs,
            gains,
            #[cfg(feature = "train")]
            dropout: self.learning.as_ref().and_then(learning::Learning::dropout),
        };
        let out = buffers[step.writes.buffer].out(step.writes);
        // SAFETY: guaranteed by the caller.
        unsafe { kernel.run(Call { inputs, out, geometry, pieces, panels, scratch }) }
    }

    /// The activations of the last run at a place.
    pub fn read(&self, place: Place) -> Result<Tensor> {
        Ok(self.view(place)?.tensor())
    }

    /// Draws the activations of the last run at a place as a contact sheet, as RGBA rows of [`Sheet::size`].
    pub fn draw(&self, place: Place, sheet: &Sheet) -> Result<Vec<u8>> {
        contact_sheet::draw(self.view(place)?, sheet)
    }

    /// Statistics of the activations of the last run at a place, for one picture of the batch.
    pub fn stats(&self, place: Place, image: usize, stats: Stats) -> Result<Vec<f32>> {
        Ok(statistics::stats(self.view(place)?, image, stats))
    }

    fn view(&self, place: Place) -> Result<View<'_>> {
        let buffer = self.prepared.as_ref().and_then(|p| p.buffers.get(place.buffer)).ok_or_else(unprepared)?;
        // SAFETY: only `run` writes to buffers, and it borrows the engine exclusively.
        Ok(View::new(unsafe { buffer.read() }, place))
    }
}

fn unprepared() -> Error {
    Error::Argument("no plan has been prepared".into())
}

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
