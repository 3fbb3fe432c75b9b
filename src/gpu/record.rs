//! A plan on the GPU: its buffers, and every dispatch with what it binds. Built once, run often.

use super::conv::Packed;
use super::device::Device;
use super::jobs::{Bind, Job, Jobs, Span};
use super::kernels::{Kernel, Kernels};
use super::timing::Timer;
use crate::error::{Error, Result};
use crate::network::{Network, NodeId};
use crate::plan::{Place, StepTime, Work};
use crate::tensor::Tensor;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

/// Everything of one plan that lives on the GPU.
pub struct Recording {
    /// The batch the plan is for.
    pub batch: usize,
    pub buffers: Vec<Buffer>,
    /// Where each input node's values go, in the network's order.
    pub inputs: Vec<Place>,
    /// Where each head's probabilities are, and where they begin in the staging buffer.
    pub heads: Vec<(Place, u64)>,
    /// What one readback brings: every head's buffer, then the times.
    pub staging: Buffer,
    /// Where the times begin in it.
    pub times_at: u64,
    /// The spans of the steps, then the preprocessing's.
    pub timer: Option<Timer>,
    /// One a node.
    gains: Buffer,
    gains_written: Vec<f32>,
    dispatches: Vec<Dispatch>,
    spans: Vec<Span>,
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
        packed: &HashMap<NodeId, Packed>,
        network: &Network,
        jobs: Jobs,
    ) -> Result<Self> {
        let Jobs { plan, jobs, spans, scratch, .. } = jobs;
        let most = device.max_binding();
        let largest = plan.buffers.iter().map(|shape| shape.len()).chain(scratch).max().unwrap_or(0);
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
            plan.buffers.iter().map(|shape| device.buffer("activations", shape.len() as u64 * 4, usage)).collect();
        let scratch = scratch.map(|values| device.buffer("scratch", values as u64 * 4, BufferUsages::STORAGE));
        let gains_written = vec![1.0; network.nodes().len()];
        let gains = device.filled("gains", &gains_written, BufferUsages::STORAGE);

        let params: Vec<u8> = jobs.iter().flat_map(|job| job.params).collect();
        let uniforms = device.filled("parameters", &params, BufferUsages::UNIFORM);
        let weights = |node: NodeId| {
            let layer = network.node(node).name.clone();
            packed.get(&node).ok_or(Error::Shape { layer, reason: "it has no weights".into() })
        };
        let buffer = |bind: &Bind| {
            Ok(match *bind {
                Bind::Activations(at) => &buffers[at],
                Bind::Weight(node) => &weights(node)?.weight,
                Bind::Bias(node) => &weights(node)?.bias,
                Bind::Scratch(at) => &scratch[at],
                Bind::Gains => &gains,
                Bind::Spare(at) => &kernels.convs.spare[at],
            })
        };
        let dispatch = |(at, job): (usize, &Job)| {
            let kernel = kernels.get(device, job.kernel);
            let bound: Vec<&Buffer> = job.binds.iter().map(buffer).collect::<Result<_>>()?;
            Ok(Dispatch { bound: kernel.bind(device, &uniforms, at, &bound), kernel, grid: job.grid })
        };
        let dispatches = jobs.iter().enumerate().map(dispatch).collect::<Result<_>>()?;

        let mut times_at = 0;
        let heads = network
            .heads()
            .iter()
            .map(|head| {
                let place = plan.places[head.prob];
                let at = times_at;
                times_at += buffers[place.buffer].size().next_multiple_of(8);
                (place, at)
            })
            .collect();
        let timer = Timer::new(device, 1 + spans.len());
        let bytes = times_at + timer.as_ref().map_or(0, Timer::byte_len);
        let staging = device.buffer("results", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
        Ok(Recording {
            batch: plan.batch,
            inputs: network.inputs().map(|id| plan.places[id]).collect(),
            buffers,
            heads,
            staging,
            times_at,
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

    /// Where a place of the engine's plan is on the GPU.
    pub fn place(&self, place: Place) -> Place {
        self.inputs.iter().copied().find(|input| input.buffer == place.buffer).unwrap_or(place)
    }

    /// The spans that this takes: what one computes together is stale together, as it reads the same.
    pub fn due(&self, work: Work<'_>) -> Vec<usize> {
        let due = |&span: &usize| self.spans[span].nodes.iter().any(|&(node, _)| work.includes(node));
        (0..self.spans.len()).filter(due).collect()
    }

    /// Each step's time of what these spans took, in their order.
    pub fn step_times(&self, due: &[usize], times: &[f64]) -> Vec<StepTime> {
        let each = due.iter().map(|&span| &self.spans[span]).zip(times);
        each.flat_map(|(span, ms)| span.nodes.iter().map(move |&(node, part)| StepTime { node, ms: ms * part }))
            .collect()
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
            dispatch.kernel.dispatch(&mut pass, &dispatch.bound, [1, 1, 1]);
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
            kernel.dispatch(&mut pass, &self.dispatches[dispatch].bound, grid);
        }
    }

    /// Encodes the copies that bring the heads' probabilities and these spans' times to the staging buffer.
    pub fn collect(&self, encoder: &mut CommandEncoder, spans: Range<usize>) {
        for &(place, at) in &self.heads {
            let buffer = self.buffer(place);
            encoder.copy_buffer_to_buffer(buffer, 0, &self.staging, at, buffer.size());
        }
        if let Some(timer) = &self.timer
            && !spans.is_empty()
        {
            timer.resolve(encoder, spans, &self.staging, self.times_at);
        }
    }

    /// The heads' probabilities and so many spans' times, from the staging buffer's bytes.
    pub fn results(&self, bytes: &[u8], spans: usize) -> (Vec<Tensor>, Vec<f64>) {
        let heads = self.heads.iter().map(|&(place, at)| {
            let from = at as usize;
            gather(place, bytemuck::pod_collect_to_vec(&bytes[from..from + self.buffer(place).size() as usize]))
        });
        let times = self.timer.as_ref().map_or(Vec::new(), |timer| {
            let from = self.times_at as usize;
            timer.milliseconds(&bytemuck::pod_collect_to_vec::<u8, u64>(&bytes[from..from + spans * 16]))
        });
        (heads.collect(), times)
    }
}

/// A node's values out of those of the buffer they stand in.
pub fn gather(place: Place, values: Vec<f32>) -> Tensor {
    let channels = place.offset..place.offset + place.shape.c;
    let data = if place.is_whole() {
        values
    } else {
        values.chunks_exact(place.stride).flat_map(|pixel| &pixel[channels.clone()]).copied().collect()
    };
    Tensor { shape: place.shape, data }
}

/// A tensor's values as the buffer of its place holds them.
pub fn scatter<'a>(place: Place, values: &'a [f32]) -> Cow<'a, [f32]> {
    if place.is_whole() {
        return Cow::Borrowed(values);
    }
    let mut spread = vec![0.0; values.len() / place.shape.c * place.stride];
    for (to, from) in spread.chunks_exact_mut(place.stride).zip(values.chunks_exact(place.shape.c)) {
        to[..from.len()].copy_from_slice(from);
    }
    Cow::Owned(spread)
}
