//! The GPU engine: WGSL shaders through WebGPU, natively and in browsers.
//!
//! A run is one submit and one readback: the pixels are uploaded, every layer runs in one compute pass, and the
//! probabilities are read back. Activations stay on the GPU; [`Gpu::read`] and [`Gpu::draw`] bring what is asked for.
//!
//! The way of a plan: [`fusion`] decides which steps share a dispatch, [`lower`](lower::lower) turns them into dispatches
//! by [`ops`] (or by [`software`] on adapters that compute on the CPU), [`recording`] makes the buffers and bind groups,
//! and each run encodes them again.

#[cfg(feature = "train")]
mod backward;
mod contact_sheet;
mod device;
mod fusion;
mod job;
mod kernel;
mod launch;
mod layout;
mod lower;
mod ops;
#[cfg(not(target_arch = "wasm32"))]
mod peak;
mod picture;
mod recording;
mod shaders;
mod software;
mod statistics;
mod timing;
mod tune;
mod vec_map;
mod weights;

#[cfg(feature = "train")]
use self::backward::Backward;
use crate::error::{Error, Result};
use crate::graph::googlenet::Spec;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::TensorSpec;
use crate::graph::tensor::Tensor;
use crate::inspect::contact_sheet::Sheet;
use crate::inspect::statistics::Stats;
use crate::model::preprocess::{Crop, Image, Preprocess};
use crate::model::{Model, tensor_name};
#[cfg(feature = "train")]
use crate::plan::backward::{BackwardPlan, Term};
#[cfg(feature = "train")]
use crate::plan::random::DropoutKey;
use crate::plan::{ConcatMode, Input, Output, PendingRun, Place, Plan, StepTime, Work};
pub use contact_sheet::Drawn;
pub use device::{Counts, KernelSet};
use device::{Device, ErrorScope};
use kernel::Kernels;
#[cfg(not(target_arch = "wasm32"))]
pub use kernel::dispatched;
use lower::{default_config, lower};
#[cfg(not(target_arch = "wasm32"))]
pub use peak::Peak;
use picture::Picture;
use recording::{Recording, Results};
#[cfg(not(target_arch = "wasm32"))]
pub use shaders::shader_sources;
use std::rc::Rc;
use tune::Tuning;
use vec_map::VecMap;
use web_time::Instant;
use weights::Packed;
use wgpu::{Buffer, CommandEncoder};

/// One dispatch, described for people.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outline {
    /// The shader's entry point.
    pub op: &'static str,
    /// Layers whose outputs it reads.
    pub reads: Vec<String>,
    /// Layers that it computes.
    pub writes: Vec<String>,
    /// Multiply-adds, as direct convolutions count them.
    pub macs: u64,
    pub workgroups: u32,
}

/// The dispatches of a plan on a GPU whose kernels have not been measured, without those that preprocess pictures.
pub fn outline(network: &Network, plan: &Plan) -> Result<Vec<Outline>> {
    let set = KernelSet::Hardware;
    let lowered = lower(network, plan, set, &|key| default_config(set, key))?;
    let name = |&node: &NodeId| network.node(node).name.clone();
    let of_span = |span: &job::Span| {
        let nodes: Vec<NodeId> = span.nodes.iter().map(|(node, _)| *node).collect();
        let inner = |input: &&NodeId| !nodes.contains(input);
        let inputs = nodes.iter().flat_map(|&node| &network.node(node).inputs);
        let mut reads: Vec<String> = inputs.filter(inner).map(name).collect();
        reads.dedup();
        let macs = nodes.iter().map(|&node| network.macs(node) * plan.batch as u64).sum();
        let writes: Vec<String> = nodes.iter().map(name).collect();
        let each = lowered.jobs[span.jobs.clone()].iter().map(move |job| Outline {
            op: job.kernel.entry.name,
            reads: reads.clone(),
            writes: writes.clone(),
            macs,
            workgroups: job.grid.iter().product(),
        });
        each.collect::<Vec<_>>()
    };
    Ok(lowered.spans.iter().flat_map(of_span).collect())
}

/// A run and its gradients in progress: the run's output, and the value of each term.
#[cfg(feature = "train")]
pub type PendingPass = std::pin::Pin<Box<dyn Future<Output = Result<(Output, Vec<f64>)>>>>;

/// A model on a GPU.
pub struct Gpu {
    device: Rc<Device>,
    kernels: Kernels,
    /// The weights of each dispatch, under its first layer that has weights.
    packed: VecMap<NodeId, Packed>,
    network: Network,
    preprocess: Preprocess,
    /// The measured choices of kernels.
    tuning: Tuning,
    /// One for each place of the batch that was used so far.
    pictures: Vec<Picture>,
    recording: Option<Recording>,
    /// The backward plan of the current plan, if one was prepared.
    #[cfg(feature = "train")]
    backward: Option<Backward>,
    /// The errors of the last [`Gpu::prepare`], unless they were asked for.
    prepared: Option<ErrorScope>,
}

/// A run whose commands the device has, and whose results are not read yet.
struct Submitted {
    device: Rc<Device>,
    staging: Rc<Buffer>,
    results: Results,
    /// The errors of its commands.
    errors: ErrorScope,
    /// The number of spans with timestamps: `timed` spans of steps, and perhaps that of preprocessing.
    noted: usize,
    timed: usize,
    /// The steps of the timed spans, and each step's part of its span's time.
    parts: Vec<(usize, StepTime)>,
    start: Instant,
    uploaded_ms: f64,
}

impl Submitted {
    /// Waits for the GPU, and reads what the run gave.
    async fn finish(self) -> Result<Output> {
        let read = self.device.read(&self.staging, |bytes| self.results.read(bytes, self.noted)).await;
        // An error of the commands says more than the failure to read their results.
        self.errors.result().await?;
        let (heads, times) = read?;

        let (span_times, resize_times) = times.split_at(self.timed);
        let preprocess_ms = self.uploaded_ms + resize_times.iter().sum::<f64>();
        let run_ms = (milliseconds(self.start) - preprocess_ms).max(0.0);
        let step = |(at, part): (usize, StepTime)| StepTime { node: part.node, ms: part.ms * span_times[at] };
        let steps = self.parts.into_iter().map(step).collect();
        Ok(Output { heads, steps, preprocess_ms, run_ms })
    }
}

/// A device with its shaders compiled, made while a model is still being downloaded.
pub struct PreparedGpu {
    device: Device,
    kernels: Kernels,
    /// The weights of the model that have arrived so far, as in [`Gpu::packed`].
    packed: VecMap<NodeId, Packed>,
}

impl PreparedGpu {
    /// Opens the device. On a GPU every pipeline of GoogLeNet is made here; on a software adapter, which is seldom used
    /// in the end, only those for pictures and for looking at activations. With `half`, activations and weights are stored and multiplied in f16 where the GPU can.
    /// Fails with [`Error::NoGpu`] where there is no adapter.
    pub async fn new(half: bool) -> Result<Self> {
        Self::with(half, None).await
    }

    /// Like [`PreparedGpu::new`], with other kernels than the adapter's own, for tests.
    #[doc(hidden)]
    pub async fn with(half: bool, set: Option<KernelSet>) -> Result<Self> {
        let device = Device::open(half, set).await?;
        let set = device.set;
        let (kernels, errors) = device.scoped(|| {
            let kernels = Kernels::new(&device);
            if device.is_hardware() {
                let network = Spec::default().build()?;
                let plan = Plan::new(&network, 1, ConcatMode::InPlace)?;
                let lowered = lower(&network, &plan, set, &|key| default_config(set, key))?;
                lowered.jobs.into_iter().for_each(|job| drop(kernels.get(&device, job.kernel)));
            }
            let others = [&picture::KERNELS[..], &contact_sheet::KERNELS, &statistics::KERNELS];
            others.into_iter().flatten().for_each(|&entry| drop(kernels.get(&device, entry)));
            Ok::<_, Error>(kernels)
        });
        errors.result().await?;
        Ok(PreparedGpu { kernels: kernels?, device, packed: VecMap::default() })
    }

    /// Packs and uploads the weights of the layers that have arrived in full, when `arrived` bytes of the model's file
    /// are there. Layers that were taken before are left as they are.
    pub async fn take(&mut self, model: &Model, arrived: usize) -> Result<()> {
        let PreparedGpu { device, packed, .. } = self;
        let here = |id: NodeId| {
            let node = model.network.node(id);
            let tensors = node.op.tensors(model.network.input_shape(id));
            let end = |tensor: &TensorSpec| model.weights.end(&tensor_name(&node.name, tensor.name));
            tensors.iter().all(|tensor| end(tensor).is_some_and(|end| end <= arrived))
        };
        let (added, errors) = device.scoped(|| Packed::add_to(packed, device, model, here));
        errors.result().await?;
        added
    }

    /// Drops the weights that have arrived, because another model will be loaded.
    pub fn forget(&mut self) {
        self.packed.clear();
    }

    /// Whether the adapter is a GPU, and not a driver that computes on the CPU.
    pub fn is_hardware(&self) -> bool {
        self.device.is_hardware()
    }
}

impl Gpu {
    /// Loads a model onto the adapter there is, also a software one: compiles the shaders, and packs and uploads the
    /// weights. Fails with [`Error::NoGpu`] where there is no adapter.
    pub async fn new(model: &Model) -> Result<Self> {
        Self::load(PreparedGpu::new(false).await?, model).await
    }

    /// Like [`Gpu::load`], but fails with [`Error::NoGpu`] where the adapter computes on the CPU, because there the CPU
    /// engine is many times faster.
    pub async fn hardware(prepared: PreparedGpu, model: &Model) -> Result<Self> {
        if !prepared.is_hardware() {
            let name = &prepared.device.name;
            return Err(Error::NoGpu(format!("the only adapter is \"{name}\", which computes on the CPU")));
        }
        Self::load(prepared, model).await
    }

    /// Loads a model onto a device: packs and uploads the weights that it has not taken yet.
    pub async fn load(mut prepared: PreparedGpu, model: &Model) -> Result<Self> {
        prepared.take(model, usize::MAX).await?;
        let PreparedGpu { device, kernels, packed } = prepared;
        Ok(Gpu {
            device: Rc::new(device),
            kernels,
            packed,
            network: model.network.clone(),
            preprocess: model.preprocess,
            tuning: Tuning::default(),
            pictures: Vec::new(),
            recording: None,
            #[cfg(feature = "train")]
            backward: None,
            prepared: None,
        })
    }

    /// The adapter's name and the API it is driven by.
    pub fn adapter(&self) -> String {
        self.device.name.clone()
    }

    /// Measures which launch configuration of each convolution of the current plan is fastest on this adapter. The next
    /// [`Gpu::prepare`] uses it. The activations stay as they are. Takes about a second; what was measured before is not
    /// measured again.
    pub async fn tune(&mut self, plan: &Plan) -> Result<()> {
        self.ready().await?;
        let Gpu { device, kernels, network, tuning, recording, .. } = self;
        let recording = recording.as_ref().ok_or_else(unprepared)?;
        let set = device.set;
        let jobs = lower(network, plan, set, &|key| tuning.config(key, set))?.jobs;
        tuning.measure((device, kernels, recording), &jobs).await?;
        // Dispatches that read textures were timed with what other layers had left there, so their outputs are restored.
        let mut encoder = device.encoder();
        let due = recording.due(Work::Stale(&vec![true; network.nodes().len()]));
        recording.encode(&mut encoder, &due, false);
        device.submit(encoder);
        device.finished().await?;
        device.check()
    }

    /// The result of [`Gpu::tune`] as text, to be stored for [`Gpu::set_tuning`].
    pub fn tuning(&self) -> String {
        self.tuning.to_text(&self.key())
    }

    /// Uses the result of an earlier [`Gpu::tune`] from the next [`Gpu::prepare`] on. Fails with [`Error::Argument`] where
    /// it was measured on another adapter or with other shaders.
    pub fn set_tuning(&mut self, kept: &str) -> Result<()> {
        self.tuning = Tuning::parse(kept, &self.key())?;
        Ok(())
    }

    /// For tests: computes each convolution by number `i` of the candidates that [`Gpu::tune`] measures (modulo their
    /// number) from the next [`Gpu::prepare`] on. Returns the largest number of candidates of one convolution.
    #[doc(hidden)]
    #[cfg(not(target_arch = "wasm32"))]
    pub fn set_candidate(&mut self, plan: &Plan, i: usize) -> Result<usize> {
        let set = self.device.set;
        let jobs = lower(&self.network, plan, set, &|key| default_config(set, key))?.jobs;
        self.tuning = Tuning::of(&jobs, i);
        Ok(jobs.iter().filter_map(|job| job.conv).map(|key| key.candidates().len()).max().unwrap_or(0))
    }

    fn key(&self) -> String {
        tune::key(&self.device.name, self.is_half())
    }

    /// The peak performance of the adapter, measured in about a second.
    #[cfg(not(target_arch = "wasm32"))]
    pub async fn peak(&self) -> Result<Peak> {
        peak::measure(&self.device, &self.kernels).await
    }

    /// Whether the adapter is a GPU, and not a driver that computes on the CPU.
    pub fn is_hardware(&self) -> bool {
        self.device.is_hardware()
    }

    /// Whether activations and weights are stored and multiplied in f16.
    pub fn is_half(&self) -> bool {
        self.device.is_half()
    }

    /// What has been asked of the device since it was opened.
    pub fn counts(&self) -> Counts {
        self.device.counts()
    }

    /// Makes the buffers and bind groups of a plan of the model's network, which runs from now on, and has the driver
    /// compile its shaders. Fails with [`Error::Argument`] where a buffer is larger than the device allows.
    pub fn prepare(&mut self, plan: &Plan) -> Result<()> {
        (self.recording, self.prepared) = (None, None);
        #[cfg(feature = "train")]
        {
            self.backward = None;
        }
        self.pictures.truncate(plan.batch);
        self.pictures.iter_mut().for_each(Picture::unbind);
        let Gpu { device, kernels, packed, network, tuning, .. } = self;
        let (recording, errors) = device.scoped(|| {
            let lowered = lower(network, plan, device.set, &|key| tuning.config(key, device.set))?;
            let recording = Recording::new(device, kernels, packed, network, lowered)?;
            let mut encoder = device.encoder();
            recording.encode_warm_up(&mut encoder);
            device.submit(encoder);
            Ok::<_, Error>(recording)
        });
        (self.recording, self.prepared) = (Some(recording?), Some(errors));
        Ok(())
    }

    /// Waits until the current plan is ready to run.
    pub async fn ready(&mut self) -> Result<()> {
        let Some(errors) = self.prepared.take() else { return Ok(()) };
        let result = errors.result().await;
        if result.is_err() {
            self.recording = None;
        }
        result
    }

    /// Runs the current plan, or the part of it that `work` names. `gains` has one factor for each node, which concat
    /// applies to its inputs. With `timed`, steps are timed where the device has timestamps. Uploading counts as
    /// preprocessing; without timestamps, resizing counts in `run_ms`.
    pub async fn run(&mut self, work: Work<'_>, gains: &[f32], timed: bool) -> Result<Output> {
        self.start(work, gains, timed).await?.await
    }

    /// Starts what [`Gpu::run`] does, and returns when the GPU has all that it needs. A second run may be started before
    /// the first has finished; a third fails with [`Error::Argument`]. [`Gpu::read`] reads the last run's activations.
    pub async fn start(&mut self, work: Work<'_>, gains: &[f32], timed: bool) -> Result<PendingRun> {
        self.ready().await?;
        let run = self.submit(
            work,
            gains,
            timed,
            #[cfg(feature = "train")]
            &mut |_, _| Ok(()),
        )?;
        Ok(Box::pin(run.finish()))
    }

    /// Submits a run in one command buffer with what `then` encodes after it.
    fn submit(
        &mut self,
        work: Work<'_>,
        gains: &[f32],
        timed: bool,
        #[cfg(feature = "train")] then: &mut dyn FnMut(&Device, &mut CommandEncoder) -> Result<()>,
    ) -> Result<Submitted> {
        let start = Instant::now();
        let recording = self.recording.as_mut().ok_or_else(unprepared)?;
        let device = &self.device;
        device.check()?;
        if gains.len() != self.network.nodes().len() {
            let nodes = self.network.nodes().len();
            return Err(Error::Argument(format!("{nodes} nodes need as many gains, not {}", gains.len())));
        }
        let input = work.input();
        if let Some(input) = &input {
            input.check_for(&self.network, self.preprocess.size, recording.batch)?;
        }

        let (staging, results) = recording.staging()?;
        let timed = timed && recording.timer.is_some();
        let due = recording.due(work);
        let mut uploaded_ms = 0.0;
        let (noted, errors) = device.scoped(|| {
            recording.set_gains(device, gains);
            let mut encoder = device.encoder();
            let mut resize_timed = false;
            match input {
                Some(Input::Tensors(tensors)) => {
                    for (tensor, &place) in tensors.iter().zip(&recording.inputs) {
                        recording.write(device, place, 0, &tensor.data);
                    }
                }
                Some(Input::Images(images, crop)) => {
                    let tools = (&**device, &self.kernels, &self.preprocess);
                    resize_timed = encode_pictures(tools, &mut self.pictures, recording, images, crop, &mut encoder);
                    uploaded_ms = milliseconds(start);
                }
                None => {}
            }
            let dispatches = recording.encode(&mut encoder, &due, timed);
            device.count(|counts| counts.dispatches += dispatches);
            let times = if timed { 0 } else { due.len() }..due.len() + usize::from(resize_timed);
            recording.collect(&mut encoder, times.clone(), &staging);
            #[cfg(feature = "train")]
            then(device, &mut encoder)?;
            device.submit(encoder);
            Ok::<_, Error>(times.len())
        });
        let noted = noted?;
        let parts = if timed { recording.parts(&due) } else { Vec::new() };
        let timed = if timed { due.len() } else { 0 };
        let device = device.clone();
        Ok(Submitted { device, staging, results, errors, noted, timed, parts, start, uploaded_ms })
    }

    /// The activations in a place of the current plan.
    pub async fn read(&self, place: Place) -> Result<Tensor> {
        let recording = self.recording.as_ref().ok_or_else(unprepared)?;
        self.device.check()?;
        let place = recording.place(place);
        let values = self.device.values(recording.buffer(place)).await?;
        Ok(recording.tensor(&self.device, place, values))
    }

    /// Makes the buffers and bind groups of a backward plan of the current plan, whose gradients are computed from now on.
    /// The weights are those of `model`. Fails with [`Error::Argument`] where a buffer is larger than the device allows,
    /// or where the engine computes in f16.
    #[cfg(feature = "train")]
    pub fn prepare_backward(&mut self, plan: &Plan, backward: &BackwardPlan, model: &Model) -> Result<()> {
        self.backward = None;
        let Gpu { device, kernels, tuning, recording, .. } = self;
        let recording = recording.as_ref().ok_or_else(unprepared)?;
        let config = |key| tuning.config(key, device.set);
        self.backward = Some(Backward::new((device, kernels, recording), plan, backward, model, &config)?);
        Ok(())
    }

    /// Computes the gradients of the current backward plan, from the activations of the last run, which must have been a
    /// run of all steps with the same gains. With `add`, the gradients for weights are added to those of the passes
    /// before. Returns the value of each term. Fails with [`Error::Argument`] where no backward plan has been prepared,
    /// or where it is not for these terms.
    #[cfg(feature = "train")]
    pub async fn backward(&mut self, terms: &[Term], gains: &[f32], add: bool) -> Result<Vec<f64>> {
        self.ready_backward(terms).await?;
        let Gpu { device, recording, backward, .. } = self;
        let recording = recording.as_mut().ok_or_else(unprepared)?;
        let backward = backward.as_ref().ok_or_else(unprepared)?;
        device.check()?;
        let (values, errors) = device.scoped(|| {
            recording.set_gains(device, gains);
            let mut encoder = device.encoder();
            let (dispatches, values) = backward.encode(device, &mut encoder, terms, add)?;
            device.count(|counts| counts.dispatches += dispatches);
            device.submit(encoder);
            Ok::<_, Error>(values)
        });
        let values = values?.finish(device).await;
        errors.result().await?;
        values
    }

    /// Does a run of all steps and [`Gpu::backward`] in one submit. Returns when the GPU has all that it needs, with a
    /// future of the run's output and the value of each term. A second pass may be started before the first has
    /// finished; a third fails with [`Error::Argument`].
    #[cfg(feature = "train")]
    pub async fn start_pass(
        &mut self,
        input: Input<'_>,
        terms: &[Term],
        gains: &[f32],
        add: bool,
    ) -> Result<PendingPass> {
        self.ready().await?;
        self.ready_backward(terms).await?;
        let backward = self.backward.take().ok_or_else(unprepared)?;
        let mut values = None;
        let run = self.submit(Work::All(input), gains, false, &mut |device, encoder| {
            let (dispatches, pending) = backward.encode(device, encoder, terms, add)?;
            device.count(|counts| counts.dispatches += dispatches);
            values = Some(pending);
            Ok(())
        });
        self.backward = Some(backward);
        let (run, values, device) = (run?, values.ok_or_else(unprepared)?, self.device.clone());
        Ok(Box::pin(async move {
            let output = run.finish().await?;
            Ok((output, values.finish(&device).await?))
        }))
    }

    #[cfg(feature = "train")]
    async fn ready_backward(&mut self, terms: &[Term]) -> Result<()> {
        let Some(backward) = &mut self.backward else {
            return Err(Error::Argument("no backward plan has been prepared".into()));
        };
        let result = backward.ready().await;
        if result.is_err() {
            self.backward = None;
            return result;
        }
        backward.check(&self.network, terms)
    }

    /// Makes the runs from now on training runs, whose dropout has this key; or with `None`, other runs, in which dropout
    /// is the identity, as it is at first. Fails with [`Error::Argument`] where no plan has been prepared.
    #[cfg(feature = "train")]
    pub fn set_dropout(&mut self, key: Option<DropoutKey>) -> Result<()> {
        let recording = self.recording.as_ref().ok_or_else(unprepared)?;
        recording.set_dropout(&self.device, key);
        Ok(())
    }

    /// The gradient at a place of the current backward plan, after a pass.
    #[cfg(feature = "train")]
    pub async fn read_gradient(&self, place: Place) -> Result<Tensor> {
        let backward = self.backward.as_ref().ok_or_else(unprepared)?;
        self.device.check()?;
        backward.gradient(&self.device, place).await
    }

    /// The gradients for the weights of a layer, in the order (kh, kw, in, out), or (in, out) of a dense layer, and those
    /// for its biases. Fails with [`Error::Argument`] where the current backward plan does not compute them.
    #[cfg(feature = "train")]
    pub async fn weight_gradient(&self, node: NodeId) -> Result<[Vec<f32>; 2]> {
        let backward = self.backward.as_ref().ok_or_else(unprepared)?;
        self.device.check()?;
        backward.weight_gradient(&self.device, node).await
    }

    /// A contact sheet of the activations in a place; its size is [`Sheet::size`]. With `stay`, a browser's sheet stays on
    /// the GPU where that is possible.
    pub async fn draw(&self, place: Place, sheet: &Sheet, stay: bool) -> Result<Drawn> {
        let recording = self.recording.as_ref().ok_or_else(unprepared)?;
        self.device.check()?;
        let place = recording.place(place);
        contact_sheet::draw(&self.device, &self.kernels, recording.buffer(place), place, sheet, stay).await
    }

    /// Statistics of the activations in a place, for one picture of the batch.
    pub async fn stats(&self, place: Place, image: usize, stats: Stats) -> Result<Vec<f32>> {
        let recording = self.recording.as_ref().ok_or_else(unprepared)?;
        self.device.check()?;
        let place = recording.place(place);
        statistics::stats(&self.device, &self.kernels, recording.buffer(place), place, image, stats).await
    }
}

/// Encodes the preprocessing of every picture into its place of the batch; returns whether it is timed.
fn encode_pictures(
    tools: (&Device, &Kernels, &Preprocess),
    pictures: &mut Vec<Picture>,
    recording: &Recording,
    images: &[&Image],
    crop: Crop,
    encoder: &mut CommandEncoder,
) -> bool {
    pictures.resize_with(pictures.len().max(images.len()), Picture::default);
    let mut timed = recording.timer.is_some();
    for (at, (image, picture)) in images.iter().zip(pictures).enumerate() {
        let times = recording
            .timer
            .as_ref()
            .and_then(|timer| timer.writes(recording.preprocess_time(), at == 0, at + 1 == images.len()));
        timed &= picture.encode(tools, recording, (image, crop, at), encoder, times);
    }
    timed
}

fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn unprepared() -> Error {
    Error::Argument("no plan has been prepared".into())
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::graph::op::{Activation, Op, Padding, Window};
    use crate::graph::tensor::Shape;
    use crate::model::weights::Weights;
    use pollster::block_on;

    /// A model on whatever adapter there is, by these kernels.
    fn with(half: bool, set: KernelSet, model: &Model) -> Gpu {
        block_on(Gpu::load(block_on(PreparedGpu::with(half, Some(set))).unwrap(), model)).unwrap()
    }

    /// The fields of every uniform struct stand where the shader expects them.
    #[test]
    fn parameters_are_laid_out_as_in_the_shaders() {
        type Fields = &'static [(&'static str, usize)];
        let mut all: Vec<(&shaders::Shader, Fields, usize)> = vec![
            (&shaders::CONCAT, ops::concat::Params::FIELDS, size_of::<ops::concat::Params>()),
            (&shaders::CONTACT_SHEET, contact_sheet::Params::FIELDS, size_of::<contact_sheet::Params>()),
            (&shaders::CONV, ops::conv::Params::FIELDS, size_of::<ops::conv::Params>()),
            (&shaders::DENSE, ops::dense::Params::FIELDS, size_of::<ops::dense::Params>()),
            (&shaders::LRN, ops::lrn::Params::FIELDS, size_of::<ops::lrn::Params>()),
            (&shaders::PEAK, peak::Params::FIELDS, size_of::<peak::Params>()),
            (&shaders::POOL, ops::pool::Params::FIELDS, size_of::<ops::pool::Params>()),
            (&shaders::PREPROCESS, picture::Params::FIELDS, size_of::<picture::Params>()),
            (&shaders::SOFTMAX, ops::softmax::Params::FIELDS, size_of::<ops::softmax::Params>()),
            (&shaders::SOFTWARE_CONV, ops::conv::Params::FIELDS, size_of::<ops::conv::Params>()),
            (&shaders::SOFTWARE_LRN, ops::lrn::Params::FIELDS, size_of::<ops::lrn::Params>()),
            (&shaders::SOFTWARE_POOL, ops::pool::Params::FIELDS, size_of::<ops::pool::Params>()),
            (&shaders::SOFTWARE_WINOGRAD, software::WinogradParams::FIELDS, size_of::<software::WinogradParams>()),
            (&shaders::STATISTICS, statistics::Params::FIELDS, size_of::<statistics::Params>()),
        ];
        #[cfg(feature = "train")]
        {
            use ops::{concat, conv, dropout, lrn, pool, relu, softmax, term};
            all.splice(
                ..0,
                [
                    (
                        &shaders::BACKWARD_CONCAT,
                        concat::gradient::GradientParams::FIELDS,
                        size_of::<concat::gradient::GradientParams>(),
                    ),
                    (
                        &shaders::BACKWARD_CONV_INPUT,
                        conv::gradient::InputParams::FIELDS,
                        size_of::<conv::gradient::InputParams>(),
                    ),
                    (
                        &shaders::BACKWARD_CONV_WEIGHTS,
                        conv::gradient::WeightsParams::FIELDS,
                        size_of::<conv::gradient::WeightsParams>(),
                    ),
                    (&shaders::BACKWARD_DROPOUT, dropout::Params::FIELDS, size_of::<dropout::Params>()),
                    (
                        &shaders::BACKWARD_LRN,
                        lrn::gradient::GradientParams::FIELDS,
                        size_of::<lrn::gradient::GradientParams>(),
                    ),
                    (
                        &shaders::BACKWARD_POOL,
                        pool::gradient::GradientParams::FIELDS,
                        size_of::<pool::gradient::GradientParams>(),
                    ),
                    (&shaders::BACKWARD_RELU, relu::Params::FIELDS, size_of::<relu::Params>()),
                    (
                        &shaders::BACKWARD_SOFTMAX,
                        softmax::gradient::GradientParams::FIELDS,
                        size_of::<softmax::gradient::GradientParams>(),
                    ),
                    (
                        &shaders::BACKWARD_SUM_PARTS,
                        conv::gradient::SumParams::FIELDS,
                        size_of::<conv::gradient::SumParams>(),
                    ),
                    (&shaders::BACKWARD_TERM, term::Params::FIELDS, size_of::<term::Params>()),
                ],
            );
        }
        let names =
            |all: &[(&shaders::Shader, Fields, usize)]| all.iter().map(|(shader, ..)| shader.name).collect::<Vec<_>>();
        assert_eq!(
            names(&all),
            shaders::ALL.iter().map(|shader| shader.name).collect::<Vec<_>>(),
            "no shader is left out"
        );
        for (shader, fields, size) in all {
            let module = naga::front::wgsl::parse_str(&shader.source(false)).unwrap();
            let (_, params) = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params")).unwrap();
            let naga::TypeInner::Struct { members, span } = &params.inner else { panic!("Params is no struct") };
            let place =
                |name: &str| members.iter().find(|m| m.name.as_deref() == Some(name)).map(|m| m.offset as usize);
            for &(field, offset) in fields {
                // Arrays of Rust are fields with a suffix in WGSL, and a normalisation begins with `before`.
                let names = [field.to_owned(), format!("{field}_y"), format!("{field}_0")];
                let first = if field == "norm" { place("before") } else { None };
                let found = first.or_else(|| names.iter().find_map(|name| place(name)));
                assert_eq!(found, Some(offset), "{}: {field}", shader.name);
            }
            assert!(size <= *span as usize && *span as usize - size < 16, "{}: {size} and {span} bytes", shader.name);
        }
    }

    /// Every cut of every convolution, those that nobody would choose on this adapter too, gives the same answer.
    #[test]
    fn every_choice_of_kernels_computes_the_same() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
        let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
        let plan = Plan::new(&model.network, 1, ConcatMode::InPlace).unwrap();
        let image =
            |step: usize| Image::new(64, 48, (0..64 * 48 * 4).map(|i| (i * step % 251) as u8).collect()).unwrap();
        let (image, other) = (image(7), image(11));
        let layers =
            ["conv2/3x3", "inception_3a/output", "inception_4e/output", "inception_5b/pool", "inception_5b/output"];
        let gains = vec![1.0; model.network.nodes().len()];
        let values = |gpu: &mut Gpu, image: &Image| {
            gpu.prepare(&plan).unwrap();
            block_on(gpu.run(Work::All(Input::Images(&[image], Crop::Center)), &gains, false)).unwrap();
            layers.map(|layer| block_on(gpu.read(plan.places[model.network.find(layer).unwrap()])).unwrap().data)
        };
        let mut usual = block_on(Gpu::new(&model)).unwrap();
        let expected = values(&mut usual, &image);
        let agrees = |got: &[f32], want: &[f32]| {
            let greatest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
            got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-5 * greatest)
        };
        let stranger = values(&mut usual, &other);
        assert!(!stranger.iter().zip(&expected).any(|(got, want)| agrees(got, want)), "another picture is told apart");

        let set = KernelSet::Hardware;
        let mut gpu = with(false, set, &model);
        let jobs = lower(&model.network, &plan, set, &|key| default_config(set, key)).unwrap().jobs;
        let most = jobs.iter().filter_map(|job| job.conv).map(|key| key.candidates().len()).max().unwrap();
        assert!(most >= 12, "there are {most} choices");
        for i in 0..=most {
            // The last is what is taken where nothing was measured.
            gpu.tuning = if i < most { Tuning::of(&jobs, i) } else { Tuning::default() };
            for ((got, want), layer) in values(&mut gpu, &image).iter().zip(&expected).zip(layers) {
                assert!(agrees(got, want), "choice {i}, {layer}");
            }
        }
    }

    /// A convolution that is normalised by the same dispatch gives what two give, by every cut, at the first and last
    /// channels too.
    #[test]
    fn a_normalisation_in_the_epilogue_is_the_same() {
        let padding = Padding::symmetric(1);
        let normalised = |out: usize, size: usize| {
            let mut network = Network::new();
            let input = network.input("data", Shape::new(1, 9, 10, 8)).unwrap();
            let window = Window::square(3, 1, padding);
            let conv = network.add("conv", Op::Conv { window, out, activation: Activation::Relu }, &[input]).unwrap();
            let lrn = Op::Lrn { size, alpha: 0.5, beta: 0.75, k: 1.0 };
            network.add("norm", lrn, &[conv]).unwrap();
            network
        };
        // Numbers between -1 and 1 that no two channels share.
        let noise = |count: usize| (0..count).map(|i| ((i * 7919 + 13) % 997) as f32 / 498.0 - 1.0).collect::<Vec<_>>();
        let pixels = Tensor::new(Shape::new(1, 9, 10, 8), noise(9 * 10 * 8)).unwrap();
        for (out, size) in [(24, 5), (16, 4), (192, 5), (24, 9), (16, 1)] {
            let weights = [
                ("conv.weight".to_owned(), vec![out, 8, 3, 3], noise(out * 8 * 9)),
                ("conv.bias".to_owned(), vec![out], noise(out)),
            ];
            let model = Model::from_network(normalised(out, size), Weights::from_tensors(weights).unwrap()).unwrap();
            let plan = Plan::new(&model.network, 1, ConcatMode::InPlace).unwrap();
            let values = |gpu: &mut Gpu, input: &Tensor| {
                gpu.prepare(&plan).unwrap();
                block_on(gpu.run(Work::All(Input::Tensors(&[input])), &[1.0; 3], false)).unwrap();
                [1, 2].map(|node| block_on(gpu.read(plan.places[node])).unwrap().data)
            };
            let agrees = |got: &[Vec<f32>; 2], want: &[Vec<f32>; 2]| {
                let mut pairs = got.iter().flatten().zip(want.iter().flatten());
                pairs.all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()))
            };
            let mut apart = block_on(Gpu::new(&model)).unwrap();
            let expected = values(&mut apart, &pixels);
            let mut moved = pixels.clone();
            moved.data[100] += 0.1;
            assert!(!agrees(&values(&mut apart, &moved), &expected), "another input is told apart");

            let set = KernelSet::Hardware;
            let mut gpu = with(false, set, &model);
            let jobs = lower(&model.network, &plan, set, &|key| default_config(set, key)).unwrap().jobs;
            assert_eq!(jobs.iter().map(|job| job.kernel.entry.name).collect::<Vec<_>>(), ["conv_norm"]);
            for i in 0..=jobs[0].conv.unwrap().candidates().len() {
                gpu.tuning = if i > 0 { Tuning::of(&jobs, i - 1) } else { Tuning::default() };
                assert!(
                    agrees(&values(&mut gpu, &pixels), &expected),
                    "{out} channels, a window of {size}, choice {i}"
                );
            }
        }
    }

    /// By the kernels of either kind of adapter, every layer in f16 is near what it is in f32.
    #[test]
    fn half_precision_is_near() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
        let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
        let plan = Plan::new(&model.network, 1, ConcatMode::WithGains).unwrap();
        let input = |step: usize| {
            let image = Image::new(64, 48, (0..64 * 48 * 4).map(|i| (i * step % 251) as u8).collect()).unwrap();
            model.preprocess.tensor(&[&image], Crop::Center)
        };
        let gains = vec![1.0; model.network.nodes().len()];
        let values = |gpu: &mut Gpu, input: &Tensor| {
            gpu.prepare(&plan).unwrap();
            let run = block_on(gpu.run(Work::All(Input::Tensors(&[input])), &gains, false)).unwrap();
            let layers = plan.places.iter().map(|&place| block_on(gpu.read(place)).unwrap());
            layers.chain(run.heads.into_iter().map(|head| head.probabilities)).collect::<Vec<_>>()
        };
        let far = |got: &[Tensor], want: &[Tensor]| {
            let far = |(got, want): (&Tensor, &Tensor)| {
                assert_eq!((got.shape, got.data.len()), (want.shape, want.data.len()));
                let greatest = want.data.iter().fold(0f32, |most, v| most.max(v.abs()));
                !got.data.iter().zip(&want.data).all(|(a, b)| (a - b).abs() <= 2e-2 * greatest)
            };
            got.iter().zip(want).map(far).filter(|&far| far).count()
        };
        let expected = values(&mut block_on(Gpu::new(&model)).unwrap(), &input(7));
        for set in [KernelSet::Software, KernelSet::Hardware] {
            let mut gpu = with(true, set, &model);
            if !gpu.is_half() {
                println!("skipped: {} has no f16", gpu.adapter());
                return;
            }
            assert!(
                far(&values(&mut gpu, &input(11)), &expected) > plan.places.len() / 2,
                "another picture is told apart"
            );
            let got = values(&mut gpu, &input(7));
            assert_eq!(far(&got, &expected), 0, "{set:?}");
            assert_ne!(got, expected, "{set:?} is in f16");
            let node = model.network.find("inception_3a/3x3").unwrap();
            let map = block_on(gpu.stats(plan.places[node], 0, Stats::Map(5))).unwrap();
            let channel: Vec<f32> = got[node].data.chunks_exact(got[node].shape.c).map(|pixel| pixel[5]).collect();
            assert_eq!(map, channel, "{set:?}");
        }
    }

    /// A file that comes in pieces is on the GPU, but for its end, before it is loaded, and answers as ever.
    #[test]
    fn weights_are_taken_as_they_come() {
        for name in ["cifar10-noheads", "cifar10-int8"] {
            let path = format!("{}/www/models/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
            let file = std::fs::read(path).unwrap();
            let model = Model::from_bytes(file.clone()).unwrap();
            let plan = Plan::new(&model.network, 1, ConcatMode::InPlace).unwrap();
            let image = Image::new(64, 48, (0..64 * 48 * 4).map(|i| (i * 7 % 251) as u8).collect()).unwrap();
            let gains = vec![1.0; model.network.nodes().len()];
            let answer = |mut gpu: Gpu| {
                gpu.prepare(&plan).unwrap();
                block_on(gpu.run(Work::All(Input::Images(&[&image], Crop::Center)), &gains, false)).unwrap().heads
            };
            let expected = answer(block_on(Gpu::new(&model)).unwrap());

            let mut prepared = block_on(PreparedGpu::new(false)).unwrap();
            let mut bytes = vec![0; file.len()];
            let first = file.len() / 3;
            bytes[..first].copy_from_slice(&file[..first]);
            assert!(Weights::preface(&bytes).unwrap() <= first);
            let mut coming = Model::from_bytes(bytes).unwrap();
            let mut seen = Vec::new();
            for (at, piece) in file[first..].chunks(first).enumerate() {
                block_on(prepared.take(&coming, first * (at + 1))).unwrap();
                seen.push(prepared.packed.iter().count());
                coming.weights.fill(first * (at + 1), piece);
            }
            assert!(seen[0] > 0 && seen[1] > seen[0], "{seen:?}");
            let before = prepared.device.counts().buffers;
            let gpu = block_on(Gpu::load(prepared, &model)).unwrap();
            assert!(gpu.packed.iter().count() > *seen.last().unwrap());
            assert_eq!(gpu.counts().buffers - before, 2 * (gpu.packed.iter().count() - seen.last().unwrap()));
            assert_eq!(answer(gpu), expected, "{name}");
        }
    }

    #[test]
    fn what_stands_in_its_places_stays_while_kernels_are_measured() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
        let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
        let plan = Plan::new(&model.network, 1, ConcatMode::InPlace).unwrap();
        let image = Image::new(64, 48, (0..64 * 48 * 4).map(|i| (i * 7 % 251) as u8).collect()).unwrap();
        let gains = vec![1.0; model.network.nodes().len()];
        let mut gpu = block_on(Gpu::new(&model)).unwrap();
        gpu.prepare(&plan).unwrap();
        block_on(gpu.run(Work::All(Input::Images(&[&image], Crop::Center)), &gains, false)).unwrap();
        let all = |gpu: &Gpu| plan.places.iter().map(|&place| block_on(gpu.read(place)).unwrap()).collect::<Vec<_>>();
        let before = all(&gpu);
        block_on(gpu.tune(&plan)).unwrap();
        assert_ne!(gpu.tuning, Tuning::default(), "something was measured");
        assert_eq!(all(&gpu), before);
    }

    #[test]
    fn what_was_measured_is_kept_for_this_adapter() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
        let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
        let mut gpu = block_on(Gpu::new(&model)).unwrap();
        gpu.tuning = Tuning::of(&[], 0);
        let kept = gpu.tuning();
        gpu.set_tuning(&kept).unwrap();
        let other = format!("another {kept}");
        assert_eq!(gpu.set_tuning(&other).unwrap_err().code(), "argument");
    }
}
