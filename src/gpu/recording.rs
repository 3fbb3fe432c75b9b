//! A plan on the GPU: its buffers, and every dispatch with what it binds. Built once, run often.

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
use crate::plan::{Place, StepTime, Work};
use half::f16;
use std::ops::Range;
use std::rc::Rc;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

/// Runs that may be pending at once: while the results of one come back, the GPU works on the next.
const MAX_PENDING: usize = 2;

/// Everything of one plan that lives on the GPU.
pub struct Recording {
    /// The batch the plan is for.
    pub batch: usize,
    pub buffers: Vec<Buffer>,
    /// Where each input node's values go, in the network's order.
    pub inputs: Vec<Place>,
    /// The probabilities, in f32 whatever activations are.
    head_outputs: Buffer,
    /// What one readback brings is copied to one of these: to one that nobody else holds.
    staging: [Rc<Buffer>; MAX_PENDING],
    results: Results,
    /// The spans of the steps, then the preprocessing's.
    pub timer: Option<Timer>,
    /// One a node.
    gains: Buffer,
    gains_written: Vec<f32>,
    dispatches: Vec<Dispatch>,
    spans: Vec<Span>,
}

/// What a staging buffer holds after a run: all probabilities, then the times.
#[derive(Clone)]
pub struct Results {
    /// The shape of each head's, and which of the values they are.
    heads: Vec<(Shape, Range<usize>)>,
    times_at: usize,
    /// Nanoseconds of a tick.
    period: f64,
}

/// One dispatch, ready to be encoded.
struct Dispatch {
    kernel: Kernel,
    bound: BindGroup,
    grid: [u32; 3],
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

        let params: Vec<u8> = jobs.iter().flat_map(|job| job.params).collect();
        let uniforms = device.filled("parameters", &params, BufferUsages::UNIFORM);
        let weights = |node: NodeId| {
            let layer = network.node(node).name.clone();
            packed.get(&node).ok_or(Error::Shape { layer, reason: "it has no weights".into() })
        };
        let resource = |bind: &Bind| {
            let buffer = match *bind {
                Bind::Activations(at) => &buffers[at],
                Bind::Weight(node) => return Ok(weights(node)?.weight.binding()),
                Bind::Bias(node) => &weights(node)?.bias,
                Bind::Texture(at) => return Ok(wgpu::BindingResource::TextureView(&textures[at])),
                Bind::HeadOutputs => &head_outputs,
                Bind::Gains => &gains,
                Bind::Unused(at) => &kernels.unused[at],
            };
            Ok(buffer.as_entire_binding())
        };
        let dispatch = |(at, job): (usize, &Job)| {
            let kernel = kernels.get(device, job.kernel.clone());
            let bound: Vec<_> = job.binds.iter().map(resource).collect::<Result<_>>()?;
            Ok(Dispatch { bound: kernel.bind_all(device, &uniforms, at, bound.into_iter()), kernel, grid: job.grid })
        };
        let dispatches = jobs.iter().enumerate().map(dispatch).collect::<Result<_>>()?;

        let heads = network
            .heads()
            .iter()
            .map(|head| {
                let shape = plan.places[head.prob].shape;
                let first = firsts.get(&head.prob).copied().unwrap_or_default();
                (shape, first..first + shape.len())
            })
            .collect();
        // What a copy to it wants.
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
            dispatches,
            spans,
        })
    }

    pub fn buffer(&self, place: Place) -> &Buffer {
        &self.buffers[place.buffer]
    }

    /// Writes an input's values, from that picture of the batch on.
    pub fn write(&self, device: &Device, place: Place, first: usize, values: &[f32]) {
        let values = to_buffer(place, values);
        let at = device.bytes(first * place.shape.per_image() / place.shape.c * place.stride);
        let halved = if device.is_half() { f32_to_f16(&values) } else { Vec::new() };
        let bytes: &[u8] = if device.is_half() { bytemuck::cast_slice(&halved) } else { bytemuck::cast_slice(&values) };
        device.queue.write_buffer(self.buffer(place), at, bytes);
    }

    /// What stands in a place, of what its buffer holds.
    pub fn tensor(&self, device: &Device, place: Place, mut values: Vec<f32>) -> Tensor {
        if device.is_half() {
            // There may be one more than is held.
            let held = place.shape.pixels() * place.stride * size_of::<f16>();
            values = f16_to_f32(&bytemuck::cast_slice(&values)[..held]);
        }
        from_buffer(place, values)
    }

    /// Where a place of the engine's plan is on the GPU.
    pub fn place(&self, place: Place) -> Place {
        self.inputs.iter().copied().find(|input| input.buffer == place.buffer).unwrap_or(place)
    }

    /// The spans that this takes: what one computes together is stale together, as it reads the same.
    pub fn due(&self, work: Work<'_>) -> Vec<usize> {
        let due = |&span: &usize| self.spans[span].nodes.iter().any(|&(node, _)| work.includes(node));
        (0..self.spans.len()).filter(due).collect()
    }

    /// The steps of these spans: which of the spans' times each is of, and its part of that, as milliseconds.
    pub fn parts(&self, due: &[usize]) -> Vec<(usize, StepTime)> {
        let each = due.iter().enumerate().map(|(at, &span)| (at, &self.spans[span].nodes));
        each.flat_map(|(at, nodes)| nodes.iter().map(move |&(node, ms)| (at, StepTime { node, ms }))).collect()
    }

    /// Where the preprocessing's time is noted: after those of all spans.
    pub fn preprocess_time(&self) -> usize {
        self.spans.len()
    }

    /// Uploads the gains where they have changed.
    pub fn set_gains(&mut self, device: &Device, gains: &[f32]) {
        if gains != self.gains_written {
            device.queue.write_buffer(&self.gains, 0, bytemuck::cast_slice(gains));
            self.gains_written.copy_from_slice(gains);
        }
    }

    /// Encodes these spans: in one pass, or in a pass each where they are timed. Gives the number of dispatches.
    pub fn encode(&self, encoder: &mut CommandEncoder, due: &[usize], timed: bool) -> usize {
        let timer = self.timer.as_ref().filter(|_| timed);
        // A pass has so many of them.
        let size = if timer.is_some() { 1 } else { due.len().max(1) };
        let mut dispatches = 0;
        for (i, spans) in due.chunks(size).enumerate() {
            let timestamp_writes = timer.and_then(|timer| timer.writes(i, true, true));
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
            for dispatch in spans.iter().flat_map(|&span| &self.dispatches[self.spans[span].jobs.clone()]) {
                dispatch.kernel.dispatch(&mut pass, &dispatch.bound, dispatch.grid);
                dispatches += 1;
            }
        }
        dispatches
    }

    /// Encodes one workgroup of each dispatch: drivers finish compiling a shader when it first runs.
    pub fn encode_warm_up(&self, encoder: &mut CommandEncoder) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            dispatch.kernel.dispatch_unread(&mut pass, &dispatch.bound, [1, 1, 1]);
        }
    }

    /// Encodes one dispatch so many times, by a kernel that takes the same bindings.
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

    /// A staging buffer for as long as it is held, and how to read it.
    pub fn staging(&self) -> Result<(Rc<Buffer>, Results)> {
        let free = self.staging.iter().find(|buffer| Rc::strong_count(buffer) == 1);
        let busy = || Error::Argument(format!("{MAX_PENDING} runs are pending: wait for one of them"));
        Ok((free.ok_or_else(busy)?.clone(), self.results.clone()))
    }

    /// Encodes the copies that bring the heads' probabilities and these spans' times to a staging buffer.
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
    /// The heads' probabilities and so many spans' times, from the staging buffer's bytes.
    pub fn read(&self, bytes: &[u8], spans: usize) -> (Vec<Tensor>, Vec<f64>) {
        let floats = |at: &Range<usize>| bytemuck::pod_collect_to_vec(&bytes[at.start * 4..at.end * 4]);
        let heads = self.heads.iter().map(|(shape, at)| Tensor { shape: *shape, data: floats(at) });
        let ticks = bytemuck::pod_collect_to_vec::<u8, u64>(&bytes[self.times_at..][..spans * 16]);
        (heads.collect(), timing::milliseconds(&ticks, self.period))
    }
}
