//! The buffers and bind groups of a plan on the GPU. They are made once and used by every run.

use super::device::Device;
use super::job::{Bind, Job, Lowered, Span};
use super::kernel::{Kernel, Kernels};
use super::layout::{f32_to_f16, from_buffer, to_buffer};
use super::timing::{self, Timer};
use super::vec_map::VecMap;
use super::weights::Packed;
use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::tensor::{Shape, Tensor};
use crate::model::weights::f16_to_f32;
#[cfg(feature = "train")]
use crate::plan::random::DropoutKey;
use crate::plan::{HeadOutput, Place, StepTime, Work};
use half::f16;
use std::ops::Range;
use std::rc::Rc;
use wgpu::{BindGroup, BindingResource, Buffer, BufferUsages, CommandEncoder, ComputePass};

/// The largest number of runs in progress: while the results of one are read back, the GPU computes the next.
const MAX_PENDING: usize = 2;

/// The GPU's resources for one plan.
pub struct Recording {
    /// The batch size of the plan.
    pub batch: usize,
    pub buffers: Vec<Buffer>,
    /// The places of the input nodes, in the network's order.
    pub inputs: Vec<Place>,
    /// The probabilities of all heads, always in f32.
    head_outputs: Buffer,
    /// The staging buffers. A run copies its results to one that no other run holds.
    staging: [Rc<Buffer>; MAX_PENDING],
    results: Results,
    /// Times the spans of the steps, and after them preprocessing.
    pub timer: Option<Timer>,
    /// One gain for each node.
    gains: Buffer,
    gains_written: Vec<f32>,
    /// Whether this is a training run, the seed, and the number of the first picture.
    #[cfg(feature = "train")]
    dropout: Buffer,
    dispatches: Vec<Dispatch>,
    spans: Vec<Span>,
}

/// What a staging buffer holds after a run: the probabilities of all heads, then the timestamps.
#[derive(Clone)]
pub struct Results {
    /// The shape of each head's probabilities, and the range of their values.
    heads: Vec<(String, Shape, Range<usize>)>,
    times_at: usize,
    /// The number of nanoseconds per tick.
    period: f64,
}

/// A dispatch that is ready to be encoded.
pub struct Dispatch {
    kernel: Kernel,
    bound: BindGroup,
    grid: [u32; 3],
}

impl Dispatch {
    /// Makes the dispatches of these jobs. `resource` returns what a binding stands for.
    pub fn all<'a>(
        device: &Device,
        kernels: &Kernels,
        jobs: &[Job],
        resource: impl Fn(&Bind) -> Result<BindingResource<'a>>,
    ) -> Result<Vec<Self>> {
        let params: Vec<u8> = jobs.iter().flat_map(|job| job.params).collect();
        let uniforms = device.filled("parameters", &params, BufferUsages::UNIFORM);
        let dispatch = |(at, job): (usize, &Job)| {
            let kernel = kernels.get(device, job.kernel.clone());
            let bound: Vec<_> = job.binds.iter().map(&resource).collect::<Result<_>>()?;
            Ok(Dispatch { bound: kernel.bind_all(device, &uniforms, at, bound.into_iter()), kernel, grid: job.grid })
        };
        jobs.iter().enumerate().map(dispatch).collect()
    }

    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.kernel.dispatch(pass, &self.bound, self.grid);
    }
}

impl Recording {
    pub fn new(
        device: &Device,
        kernels: &Kernels,
        packed: &VecMap<NodeId, Packed>,
        network: &Network,
        lowered: Lowered,
    ) -> Result<Self> {
        let Lowered { plan, jobs, spans, textures, head_outputs: (firsts, values) } = lowered;
        let most = device.max_binding();
        let largest = plan.buffers.iter().map(|shape| shape.len()).chain(textures.iter().copied()).max().unwrap_or(0);
        if largest as u64 * 4 > most {
            return Err(Error::Argument(format!(
                "a batch of {} needs a buffer of {} MB, and \"{}\" takes at most {} MB: run fewer pictures at once",
                plan.batch,
                (largest * 4) >> 20,
                device.name,
                most >> 20
            )));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffers: Vec<Buffer> =
            plan.buffers.iter().map(|shape| device.buffer("activations", device.bytes(shape.len()), usage)).collect();
        let head_outputs =
            device.buffer("head outputs", values as u64 * 4, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let texture = |values: usize| {
            let texture = device.texture("activations", values / 4, wgpu::TextureUsages::STORAGE_BINDING);
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        };
        let textures: Vec<_> = textures.into_iter().map(texture).collect();
        let gains_written = vec![1.0; network.nodes().len()];
        let gains = device.filled("gains", &gains_written, BufferUsages::STORAGE);

        #[cfg(feature = "train")]
        let dropout = device.filled("dropout key", &[0u32; 3], BufferUsages::STORAGE);

        let weights = |node: NodeId| {
            let layer = network.node(node).name.clone();
            packed.get(&node).ok_or(Error::Shape { layer, reason: "it has no weights".into() })
        };
        let resource = |bind: &Bind| {
            let buffer = match *bind {
                Bind::Activations(at) => &buffers[at],
                Bind::Weight(node) => return Ok(weights(node)?.weight.binding()),
                Bind::Bias(node) => &weights(node)?.bias,
                Bind::Texture(at) => return Ok(BindingResource::TextureView(&textures[at])),
                Bind::HeadOutputs => &head_outputs,
                Bind::Gains => &gains,
                Bind::Unused(at) => &kernels.unused[at],
                #[cfg(feature = "train")]
                Bind::DropoutKey => &dropout,
                #[cfg(feature = "train")]
                _ => return Err(Error::Argument("a forward run has no gradients".into())),
            };
            Ok(buffer.as_entire_binding())
        };
        let dispatches = Dispatch::all(device, kernels, &jobs, resource)?;

        let heads = network
            .heads()
            .iter()
            .map(|head| {
                let shape = plan.places[head.prob].shape;
                let first = firsts.get(&head.prob).copied().unwrap_or_default();
                (head.name.clone(), shape, first..first + shape.len())
            })
            .collect();
        // The alignment that copies of timestamps require.
        let times_at = (values * 4).next_multiple_of(8);
        let timer = Timer::new(device, 1 + spans.len());
        let bytes = (times_at as u64).max(head_outputs.size()) + timer.as_ref().map_or(0, Timer::byte_len);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = [(); MAX_PENDING].map(|()| Rc::new(device.buffer("results", bytes, usage)));
        let results = Results { heads, times_at, period: timer.as_ref().map_or(0.0, Timer::period) };
        Ok(Recording {
            batch: plan.batch,
            inputs: network.inputs().map(|id| plan.places[id]).collect(),
            buffers,
            head_outputs,
            staging,
            results,
            timer,
            gains,
            gains_written,
            #[cfg(feature = "train")]
            dropout,
            dispatches,
            spans,
        })
    }

    pub fn buffer(&self, place: Place) -> &Buffer {
        &self.buffers[place.buffer]
    }

    /// Writes the values of an input, beginning with picture `first` of the batch.
    pub fn write(&self, device: &Device, place: Place, first: usize, values: &[f32]) {
        let values = to_buffer(place, values);
        let at = device.bytes(first * place.shape.per_image() / place.shape.c * place.stride);
        let halved = if device.is_half() { f32_to_f16(&values) } else { Vec::new() };
        let bytes: &[u8] = if device.is_half() { bytemuck::cast_slice(&halved) } else { bytemuck::cast_slice(&values) };
        device.queue.write_buffer(self.buffer(place), at, bytes);
    }

    /// The tensor at a place, from the bytes of its buffer, which were read as f32.
    pub fn tensor(&self, device: &Device, place: Place, mut values: Vec<f32>) -> Tensor {
        if device.is_half() {
            // The buffer may be longer, because its size is rounded up to whole f32.
            let held = place.shape.pixels() * place.stride * size_of::<f16>();
            values = f16_to_f32(&bytemuck::cast_slice(&values)[..held]);
        }
        from_buffer(place, values)
    }

    /// The place on the GPU of a place of the engine's plan. They differ for inputs, whose channels are padded.
    pub fn place(&self, place: Place) -> Place {
        self.inputs.iter().copied().find(|input| input.buffer == place.buffer).unwrap_or(place)
    }

    /// The spans to run for this work. All steps of a span are stale together, because they read the same input.
    pub fn due(&self, work: Work<'_>) -> Vec<usize> {
        let due = |&span: &usize| self.spans[span].nodes.iter().any(|&(node, _)| work.includes(node));
        (0..self.spans.len()).filter(due).collect()
    }

    /// For each step of these spans: the index of its span among `due`, and the step's share of the span's time.
    pub fn parts(&self, due: &[usize]) -> Vec<(usize, StepTime)> {
        let each = due.iter().enumerate().map(|(at, &span)| (at, &self.spans[span].nodes));
        each.flat_map(|(at, nodes)| nodes.iter().map(move |&(node, ms)| (at, StepTime { node, ms }))).collect()
    }

    /// The index of the timer's span for preprocessing, which comes after those of the steps.
    pub fn preprocess_time(&self) -> usize {
        self.spans.len()
    }

    /// The buffers that gradients need, too: the gains, and the key of dropout.
    #[cfg(feature = "train")]
    pub fn run_state(&self) -> [&Buffer; 2] {
        [&self.gains, &self.dropout]
    }

    /// Makes the runs from now on training runs, whose dropout has this key; or with `None`, other runs.
    #[cfg(feature = "train")]
    pub fn set_dropout(&self, device: &Device, key: Option<DropoutKey>) {
        let values = key.map_or([0; 3], |key| [1, key.seed, key.first]);
        device.queue.write_buffer(&self.dropout, 0, bytemuck::cast_slice(&values));
    }

    /// Uploads the gains if they have changed.
    pub fn set_gains(&mut self, device: &Device, gains: &[f32]) {
        if gains != self.gains_written {
            device.queue.write_buffer(&self.gains, 0, bytemuck::cast_slice(gains));
            self.gains_written.copy_from_slice(gains);
        }
    }

    /// Encodes these spans in one pass, or in one pass for each span if they are timed. Returns the number of
    /// dispatches.
    pub fn encode(&self, encoder: &mut CommandEncoder, due: &[usize], timed: bool) -> usize {
        let timer = self.timer.as_ref().filter(|_| timed);
        // The number of spans in one pass.
        let size = if timer.is_some() { 1 } else { due.len().max(1) };
        let mut dispatches = 0;
        for (i, spans) in due.chunks(size).enumerate() {
            let timestamp_writes = timer.and_then(|timer| timer.writes(i, true, true));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            for dispatch in spans.iter().flat_map(|&span| &self.dispatches[self.spans[span].jobs.clone()]) {
                dispatch.encode(&mut pass);
                dispatches += 1;
            }
        }
        dispatches
    }

    /// Encodes one workgroup of each dispatch, because some drivers compile a shader when it first runs.
    pub fn encode_warm_up(&self, encoder: &mut CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            dispatch.kernel.dispatch_unread(&mut pass, &dispatch.bound, [1, 1, 1]);
        }
    }

    /// Encodes a dispatch `count` times, with another kernel that has the same bindings.
    pub fn encode_repeated(
        &self,
        encoder: &mut CommandEncoder,
        dispatch: usize,
        (kernel, grid): (&Kernel, [u32; 3]),
        count: u32,
    ) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for _ in 0..count {
            kernel.dispatch_unread(&mut pass, &self.dispatches[dispatch].bound, grid);
        }
    }

    /// A staging buffer that no run holds, and how to read it. It is in use until the returned reference is dropped.
    /// Fails with [`Error::Argument`] if all are in use.
    pub fn staging(&self) -> Result<(Rc<Buffer>, Results)> {
        let free = self.staging.iter().find(|buffer| Rc::strong_count(buffer) == 1);
        let busy = || Error::Argument(format!("{MAX_PENDING} runs are pending: wait for one of them"));
        Ok((free.ok_or_else(busy)?.clone(), self.results.clone()))
    }

    /// Encodes the copies of the heads' probabilities and of the timestamps of these spans to a staging buffer.
    pub fn collect(&self, encoder: &mut CommandEncoder, spans: Range<usize>, staging: &Buffer) {
        encoder.copy_buffer_to_buffer(&self.head_outputs, 0, staging, 0, self.head_outputs.size());
        if let Some(timer) = &self.timer
            && !spans.is_empty()
        {
            timer.resolve(encoder, spans, staging, self.results.times_at as u64);
        }
    }
}

impl Results {
    /// The heads' probabilities and the milliseconds of this many spans, from the bytes of the staging buffer.
    pub fn read(&self, bytes: &[u8], spans: usize) -> (Vec<HeadOutput>, Vec<f64>) {
        let floats = |at: &Range<usize>| bytemuck::pod_collect_to_vec(&bytes[at.start * 4..at.end * 4]);
        let head = |(name, shape, at): &(String, Shape, Range<usize>)| HeadOutput {
            name: name.clone(),
            probabilities: Tensor { shape: *shape, data: floats(at) },
        };
        let heads = self.heads.iter().map(head);
        let ticks = bytemuck::pod_collect_to_vec::<u8, u64>(&bytes[self.times_at..][..spans * 16]);
        (heads.collect(), timing::milliseconds(&ticks, self.period))
    }
}
