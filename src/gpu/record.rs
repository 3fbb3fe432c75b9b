//! A plan on the GPU: its buffers, and every dispatch with what it binds. Built once, run often.

use super::device::Device;
use super::kernels::{self, Kernel, Kernels, Packed, PoolMode, slot};
use super::timing::Timer;
use crate::error::{Error, Result};
use crate::network::{Network, NodeId};
use crate::op::{Geometry, Op};
use crate::plan::{Place, Plan, Step};
use crate::tensor::Tensor;
use std::ops::Range;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder, ComputePass};

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
    /// One span a step, then the preprocessing's.
    pub timer: Option<Timer>,
    /// One a node.
    gains: Buffer,
    gains_written: Vec<f32>,
    dispatches: Vec<Dispatch>,
    /// Each step's node and dispatches.
    steps: Vec<(NodeId, Range<usize>)>,
}

/// One dispatch, ready to be encoded.
struct Dispatch {
    kernel: Which,
    bound: BindGroup,
    grid: [u32; 3],
}

/// A kernel that a step runs.
type Which = fn(&Kernels) -> &Kernel;

/// A dispatch before there is a uniform buffer to bind.
struct Draft<'a> {
    kernel: Which,
    params: [u8; kernels::SLOT as usize],
    buffers: Vec<&'a Buffer>,
    grid: [u32; 3],
}

impl Recording {
    pub fn new(
        device: &Device,
        kernels: &Kernels,
        packed: &[Option<Packed>],
        network: &Network,
        plan: &Plan,
    ) -> Result<Self> {
        let most = device.max_binding();
        if let Some(shape) = plan.buffers.iter().find(|shape| shape.len() as u64 * 4 > most) {
            return Err(Error::Argument(format!(
                "a batch of {} needs a buffer of {} MB for {shape} values, and \"{}\" takes at most {} MB: \
                 run fewer pictures at once",
                plan.batch,
                (shape.len() * 4) >> 20,
                device.name,
                most >> 20
            )));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffers: Vec<Buffer> =
            plan.buffers.iter().map(|shape| device.buffer("activations", shape.len() as u64 * 4, usage)).collect();
        let gains_written = vec![1.0; network.nodes().len()];
        let gains = device.filled("gains", &gains_written, BufferUsages::STORAGE);

        let mut drafts = Vec::new();
        let mut steps = Vec::new();
        for step in &plan.steps {
            let from = drafts.len();
            let layer = Layer { kernels, network, step, packed: packed[step.node].as_ref(), gains: &gains };
            layer.draft(&buffers, &mut drafts)?;
            steps.push((step.node, from..drafts.len()));
        }
        let params: Vec<u8> = drafts.iter().flat_map(|draft| draft.params).collect();
        let uniforms = device.filled("parameters", &params, BufferUsages::UNIFORM);
        let dispatches = drafts
            .into_iter()
            .enumerate()
            .map(|(at, draft)| Dispatch {
                kernel: draft.kernel,
                bound: (draft.kernel)(kernels).bind(device, &uniforms, at, &draft.buffers),
                grid: draft.grid,
            })
            .collect();

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
        let timer = Timer::new(device, 1 + steps.len());
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
            steps,
        })
    }

    pub fn buffer(&self, place: Place) -> &Buffer {
        &self.buffers[place.buffer]
    }

    /// The nodes whose steps run, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.steps.iter().map(|step| step.0)
    }

    /// The spans that a run notes: those of the steps, that of the preprocessing, both or none.
    pub fn spans(&self, steps: bool, preprocess: bool) -> Range<usize> {
        let count = self.steps.len();
        (if steps { 0 } else { count })..count + usize::from(preprocess)
    }

    /// Uploads the gains where they have changed.
    pub fn set_gains(&mut self, device: &Device, gains: &[f32]) {
        if gains != self.gains_written {
            device.queue.write_buffer(&self.gains, 0, bytemuck::cast_slice(gains));
            self.gains_written.copy_from_slice(gains);
        }
    }

    /// Encodes every step: in one pass, or in one pass a step where they are timed.
    pub fn encode(&self, kernels: &Kernels, encoder: &mut CommandEncoder, timed: bool) {
        let run = |pass: &mut ComputePass<'_>, range: Range<usize>| {
            for dispatch in &self.dispatches[range] {
                (dispatch.kernel)(kernels).dispatch(pass, &dispatch.bound, dispatch.grid);
            }
        };
        match &self.timer {
            Some(timer) if timed => {
                for (i, (_, range)) in self.steps.iter().enumerate() {
                    let timestamp_writes = timer.writes(i, true, true);
                    let mut pass =
                        encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
                    run(&mut pass, range.clone());
                }
            }
            _ => {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                run(&mut pass, 0..self.dispatches.len());
            }
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
            gather(place, &bytes[from..from + self.buffer(place).size() as usize])
        });
        let times = self.timer.as_ref().map_or(Vec::new(), |timer| {
            let from = self.times_at as usize;
            timer.milliseconds(&bytemuck::pod_collect_to_vec::<u8, u64>(&bytes[from..from + spans * 16]))
        });
        (heads.collect(), times)
    }
}

/// A node's values out of the bytes of the buffer they stand in.
pub fn gather(place: Place, bytes: &[u8]) -> Tensor {
    let values: Vec<f32> = bytemuck::pod_collect_to_vec(bytes);
    let channels = place.offset..place.offset + place.shape.c;
    let data = if place.is_whole() {
        values
    } else {
        values.chunks_exact(place.stride).flat_map(|pixel| &pixel[channels.clone()]).copied().collect()
    };
    Tensor { shape: place.shape, data }
}

/// A step and what its dispatches are made from.
struct Layer<'a> {
    kernels: &'a Kernels,
    network: &'a Network,
    step: &'a Step,
    packed: Option<&'a Packed>,
    gains: &'a Buffer,
}

impl<'a> Layer<'a> {
    fn draft<'b>(&self, buffers: &'b [Buffer], drafts: &mut Vec<Draft<'b>>) -> Result<()>
    where
        'a: 'b,
    {
        let node = self.network.node(self.step.node);
        let fail = |reason: String| Error::Shape { layer: node.name.clone(), reason };
        let to = self.step.writes;
        let y = &buffers[to.buffer];
        let Some(&from) = self.step.reads.first() else { return Err(fail("it reads nothing".into())) };
        let x = &buffers[from.buffer];
        let weights = || self.packed.ok_or_else(|| fail("it has no weights".into()));
        let size = [from.shape.h, from.shape.w];
        let draft = match &node.op {
            Op::Conv { window, relu, .. } => {
                let geometry = window.on(size).map_err(fail)?;
                let weights = weights()?;
                let by_four = [from.shape.c, from.offset, from.stride].iter().all(|n| n.is_multiple_of(4));
                let kernel: Which = if by_four { |k| &k.conv4 } else { |k| &k.conv };
                let [x_groups, z_groups, _] = kernel(self.kernels).grid(to.shape.pixels());
                // A workgroup makes as many channels as pixels.
                let y_groups = to.shape.c.div_ceil(kernel(self.kernels).per_group) as u32;
                Draft {
                    kernel,
                    params: slot(&conv(from, to, &geometry, *relu)),
                    buffers: vec![x, &weights.weight, &weights.bias, y],
                    grid: [x_groups, y_groups, z_groups],
                }
            }
            Op::MaxPool(window) => {
                let geometry = window.on(size).map_err(fail)?;
                self.map(|k| &k.pool, slot(&pool(from, to, Some(&geometry), PoolMode::MAX)), [x, y], to.shape.len())
            }
            Op::AvgPool { window, count_padding } => {
                let geometry = window.on(size).map_err(fail)?;
                let mode = if *count_padding { PoolMode::MEAN_PADDED } else { PoolMode::MEAN };
                self.map(|k| &k.pool, slot(&pool(from, to, Some(&geometry), mode)), [x, y], to.shape.len())
            }
            Op::AdaptiveAvgPool { .. } => {
                self.map(|k| &k.pool, slot(&pool(from, to, None, PoolMode::ADAPTIVE)), [x, y], to.shape.len())
            }
            Op::Lrn { size, alpha, beta, k } => {
                let params = kernels::Lrn {
                    count: to.shape.len() as u32,
                    channels: to.shape.c as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                    before: (size.saturating_sub(1) / 2) as u32,
                    after: (size / 2) as u32,
                    scale: alpha / *size as f32,
                    beta: *beta,
                    k: *k,
                };
                self.map(|k| &k.lrn, slot(&params), [x, y], to.shape.len())
            }
            Op::Concat => {
                let mut offset = to.offset;
                for (&branch, from) in node.inputs.iter().zip(&self.step.reads) {
                    let params = kernels::Concat {
                        count: from.shape.len() as u32,
                        channels: from.shape.c as u32,
                        x_offset: from.offset as u32,
                        x_stride: from.stride as u32,
                        y_offset: offset as u32,
                        y_stride: to.stride as u32,
                        branch: branch as u32,
                    };
                    drafts.push(Draft {
                        kernel: |k| &k.concat,
                        params: slot(&params),
                        buffers: vec![&buffers[from.buffer], self.gains, y],
                        grid: self.kernels.concat.grid(from.shape.len()),
                    });
                    offset += from.shape.c;
                }
                return Ok(());
            }
            Op::Dense { out, relu } => {
                let weights = weights()?;
                let params = kernels::Dense {
                    inputs: from.shape.per_image() as u32,
                    channels: from.shape.c as u32,
                    pixels: (from.shape.h * from.shape.w) as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    outputs: *out as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                    relu: u32::from(*relu),
                };
                Draft {
                    kernel: |k| &k.dense,
                    params: slot(&params),
                    buffers: vec![x, &weights.weight, &weights.bias, y],
                    grid: [out.div_ceil(self.kernels.dense.per_group) as u32, to.shape.n as u32, 1],
                }
            }
            Op::Softmax => {
                let params = kernels::Softmax {
                    pixels: to.shape.pixels() as u32,
                    channels: to.shape.c as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                };
                self.map(|k| &k.softmax, slot(&params), [x, y], to.shape.pixels())
            }
            Op::Input(_) => return Err(fail("an input is no step".into())),
        };
        drafts.push(draft);
        Ok(())
    }

    /// A dispatch that reads one buffer and writes another.
    fn map<'b>(
        &self,
        kernel: Which,
        params: [u8; kernels::SLOT as usize],
        buffers: [&'b Buffer; 2],
        count: usize,
    ) -> Draft<'b> {
        Draft { kernel, params, buffers: buffers.to_vec(), grid: kernel(self.kernels).grid(count) }
    }
}

fn conv(from: Place, to: Place, geometry: &Geometry, relu: bool) -> kernels::Conv {
    kernels::Conv {
        pixels: to.shape.pixels() as u32,
        depth: (geometry.kernel[0] * geometry.kernel[1] * from.shape.c) as u32,
        height: from.shape.h as u32,
        width: from.shape.w as u32,
        channels: from.shape.c as u32,
        x_offset: from.offset as u32,
        x_stride: from.stride as u32,
        out_height: to.shape.h as u32,
        out_width: to.shape.w as u32,
        out_channels: to.shape.c as u32,
        y_offset: to.offset as u32,
        y_stride: to.stride as u32,
        kernel_width: geometry.kernel[1] as u32,
        step: geometry.stride.map(|n| n as u32),
        pad: geometry.pad.map(|n| n as u32),
        relu: u32::from(relu),
    }
}

/// Adaptive pooling has no window: the shapes say all.
fn pool(from: Place, to: Place, geometry: Option<&Geometry>, mode: PoolMode) -> kernels::Pool {
    let axes = |field: fn(&Geometry) -> [usize; 2]| geometry.map_or([0; 2], |g| field(g).map(|n| n as u32));
    kernels::Pool {
        count: to.shape.len() as u32,
        height: from.shape.h as u32,
        width: from.shape.w as u32,
        channels: from.shape.c as u32,
        x_offset: from.offset as u32,
        x_stride: from.stride as u32,
        out_height: to.shape.h as u32,
        out_width: to.shape.w as u32,
        y_offset: to.offset as u32,
        y_stride: to.stride as u32,
        kernel: axes(|g| g.kernel),
        step: axes(|g| g.stride),
        pad: axes(|g| g.pad),
        end: axes(|g| g.pad_end),
        mode,
    }
}
