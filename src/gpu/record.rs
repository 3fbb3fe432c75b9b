//! A plan on the GPU: its buffers, and every dispatch with what it binds. Built once, run often.

use super::conv::Packed;
use super::device::Device;
use super::few::Few;
use super::jobs::{Bind, Job, Jobs, Span};
use super::kernels::{Kernel, Kernels};
use super::timing::{self, Timer};
use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::tensor::{Shape, Tensor};
use crate::model::weights::singles;
use crate::plan::{Place, StepTime, Work};
use half::f16;
use std::borrow::Cow;
use std::ops::Range;
use std::rc::Rc;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

/// Runs that may be under way at once: while the results of one come back, the GPU works on the next.
const FLIGHTS: usize = 2;

/// Everything of one plan that lives on the GPU.
pub struct Recording {
    /// The batch the plan is for.
    pub batch: usize,
    pub buffers: Vec<Buffer>,
    /// Where each input node's values go, in the network's order.
    pub inputs: Vec<Place>,
    /// The probabilities, in f32 whatever activations are.
    given: Buffer,
    /// What one readback brings is copied to one of these: to one that nobody else holds.
    staging: [Rc<Buffer>; FLIGHTS],
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
        packed: &Few<NodeId, Packed>,
        network: &Network,
        jobs: Jobs,
    ) -> Result<Self> {
        let Jobs { plan, jobs, spans, texels, given: (firsts, values), .. } = jobs;
        let most = device.max_binding();
        let largest = plan.buffers.iter().map(|shape| shape.len()).chain(texels).max().unwrap_or(0);
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
        let given = device.buffer("given", values as u64 * 4, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let texels = texels.map(|values| {
            let texture = device.texture("texels", values / 4, wgpu::TextureUsages::STORAGE_BINDING);
            texture.create_view(&wgpu::TextureViewDescriptor::default())
        });
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
                Bind::Texels(which) => return Ok(wgpu::BindingResource::TextureView(&texels[which as usize])),
                Bind::Given => &given,
                Bind::Gains => &gains,
                Bind::Spare(at) => &kernels.convs.spare[at],
            };
            Ok(buffer.as_entire_binding())
        };
        let dispatch = |(at, job): (usize, &Job)| {
            let kernel = kernels.get(device, job.kernel);
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
        let bytes = (times_at as u64).max(given.size()) + timer.as_ref().map_or(0, Timer::byte_len);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = [(); FLIGHTS].map(|()| Rc::new(device.buffer("results", bytes, usage)));
        let results = Results { heads, times_at, period: timer.as_ref().map_or(0.0, Timer::period) };
        Ok(Recording {
            batch: plan.batch,
            inputs: network.inputs().map(|id| plan.places[id]).collect(),
            buffers,
            given,
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
        let values = scatter(place, values);
        let at = device.bytes(first * place.shape.per_image() / place.shape.c * place.stride);
        let halved = if device.is_half() { halves(&values) } else { Vec::new() };
        let bytes: &[u8] = if device.is_half() { bytemuck::cast_slice(&halved) } else { bytemuck::cast_slice(&values) };
        device.queue.write_buffer(self.buffer(place), at, bytes);
    }

    /// What stands in a place, of what its buffer holds.
    pub fn tensor(&self, device: &Device, place: Place, mut values: Vec<f32>) -> Tensor {
        if device.is_half() {
            // There may be one more than is held.
            let held = place.shape.pixels() * place.stride * size_of::<f16>();
            values = singles(&bytemuck::cast_slice(&values)[..held]);
        }
        gather(place, values)
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
        let busy = || Error::Argument(format!("{FLIGHTS} runs are under way: wait for one of them"));
        Ok((free.ok_or_else(busy)?.clone(), self.results.clone()))
    }

    /// Encodes the copies that bring the heads' probabilities and these spans' times to a staging buffer.
    pub fn collect(&self, encoder: &mut CommandEncoder, spans: Range<usize>, staging: &Buffer) {
        encoder.copy_buffer_to_buffer(&self.given, 0, staging, 0, self.given.size());
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

/// A node's values out of those of the buffer they stand in.
fn gather(place: Place, values: Vec<f32>) -> Tensor {
    let channels = place.offset..place.offset + place.shape.c;
    let data = if place.is_whole() {
        values
    } else {
        values.chunks_exact(place.stride).flat_map(|pixel| &pixel[channels.clone()]).copied().collect()
    };
    Tensor { shape: place.shape, data }
}

/// The same in f16.
pub fn halves(values: &[f32]) -> Vec<u16> {
    values.iter().map(|value| f16::from_f32(*value).to_bits()).collect()
}

/// A tensor's values as the buffer of its place holds them.
fn scatter<'a>(place: Place, values: &'a [f32]) -> Cow<'a, [f32]> {
    if place.is_whole() {
        return Cow::Borrowed(values);
    }
    let mut spread = vec![0.0; values.len() / place.shape.c * place.stride];
    for (to, from) in spread.chunks_exact_mut(place.stride).zip(values.chunks_exact(place.shape.c)) {
        to[..from.len()].copy_from_slice(from);
    }
    Cow::Owned(spread)
}
