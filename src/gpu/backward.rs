//! Gradients on the GPU: a backward plan as dispatches with their buffers, ready to be encoded after a forward run.

pub mod layer;
mod lower;

use super::device::{Device, ErrorScope};
use super::job::Bind;
use super::kernel::{Kernel, Kernels, PARAMS_BYTES, slot};
use super::launch::{ConvKey, LaunchConfig};
use super::layout::from_buffer;
use super::ops::term;
use super::recording::{Dispatch, Recording};
use super::vec_map::VecMap;
use super::weights::{LayerWeights, Packed};
use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::graph::tensor::{Shape, Tensor};
use crate::model::{Model, tensor_names};
use crate::plan::backward::{BackwardPlan, Target, Term, TermKind};
use crate::plan::{Place, Plan};
use layer::Transposed;
use lower::{Block, Part, lower};
use std::ops::Range;
use std::rc::Rc;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

/// The largest number of passes in progress, as in a [`Recording`].
const MAX_PENDING: usize = 2;

/// The GPU's resources for one backward plan.
pub struct Backward {
    /// The errors of making them, until somebody asks.
    errors: Option<ErrorScope>,
    batch: usize,
    gradients: Vec<Buffer>,
    blocks: Vec<Block>,
    /// The gradients for the weights and biases of all layers.
    weights: Buffer,
    seeds: Vec<Seed>,
    parts: Vec<Encoded>,
    /// The parts of the terms' values.
    values: Buffer,
    staging: [Rc<Buffer>; MAX_PENDING],
}

enum Encoded {
    /// A term, by its index in [`Backward::seeds`].
    Seed(usize),
    Dispatch(Dispatch),
}

/// A term of the objective, of any kind.
struct Seed {
    /// The number of the term.
    term: usize,
    node: NodeId,
    from: Place,
    target: Target,
    /// The index of the first part of the value.
    first: usize,
    params: Buffer,
    classes: Buffer,
    sum: (Kernel, BindGroup),
    cross_entropy: (Kernel, BindGroup),
}

/// The values of a pass that is in progress.
pub struct PendingValues {
    staging: Rc<Buffer>,
    /// The parts of each term's value.
    parts: Vec<Range<usize>>,
}

impl PendingValues {
    /// Waits for the GPU, and returns the value of each term.
    pub async fn finish(self, device: &Device) -> Result<Vec<f64>> {
        let values = device.read(&self.staging, bytemuck::pod_collect_to_vec::<u8, f32>).await?;
        let sum = |part: &Range<usize>| values[part.clone()].iter().map(|&value| f64::from(value)).sum();
        Ok(self.parts.iter().map(sum).collect())
    }
}

impl Backward {
    /// Makes the buffers and bind groups of a backward plan of `plan`, whose recording this is. The weights are those of
    /// `model`. Fails with [`Error::Argument`] where a buffer is larger than the device allows, or where the device
    /// computes in f16.
    pub fn new(
        (device, kernels, recording): (&Device, &Kernels, &Recording),
        plan: &Plan,
        backward: &BackwardPlan,
        model: &Model,
        config: &dyn Fn(ConvKey) -> LaunchConfig,
    ) -> Result<Self> {
        if device.is_half() {
            return Err(Error::Argument("gradients are computed in f32: load the model without f16".into()));
        }
        let (made, errors) = device.scoped(|| Self::made((device, kernels, recording), plan, backward, model, config));
        Ok(Backward { errors: Some(errors), ..made? })
    }

    fn made(
        (device, kernels, recording): (&Device, &Kernels, &Recording),
        plan: &Plan,
        backward: &BackwardPlan,
        model: &Model,
        config: &dyn Fn(ConvKey) -> LaunchConfig,
    ) -> Result<Self> {
        let network = &model.network;
        let lowered = lower(network, plan, backward, device.set, config)?;
        let weight_values = lowered.weight_values();
        let sizes = [weight_values, lowered.gradients.parts];
        let largest = backward.buffers.iter().chain(&sizes).chain(&lowered.gradients.textures).max();
        let largest = 4 * largest.copied().unwrap_or(0) as u64;
        if largest > device.max_binding() {
            return Err(Error::Argument(format!(
                "gradients for a batch of {} need a buffer of {} MB, and \"{}\" takes at most {} MB: run fewer pictures at \
                 once",
                plan.batch,
                largest >> 20,
                device.name,
                device.max_binding() >> 20
            )));
        }
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = |name: &str, values: usize| device.buffer(name, 4 * values as u64, usage);
        // Gradients are read and written in vectors of four.
        let gradients: Vec<Buffer> =
            backward.buffers.iter().map(|&values| buffer("gradients", values.next_multiple_of(4))).collect();
        let weights = buffer("weight gradients", weight_values);
        let sums = buffer("sums of parts", lowered.gradients.parts);
        let textures: Vec<_> = lowered
            .gradients
            .textures
            .iter()
            .map(|values| {
                let texture = device.texture("gradients", values / 4, wgpu::TextureUsages::STORAGE_BINDING);
                texture.create_view(&wgpu::TextureViewDescriptor::default())
            })
            .collect();
        let mut transposed = VecMap::default();
        for weights in &lowered.gradients.transposed {
            let [name, _] = tensor_names(&network.node(weights.node).name);
            let packed = Packed::of(device, &name, vec![transpose(model, weights)?], weights.layout)?;
            transposed.insert(weights.node, packed);
        }
        let [gains, dropout] = recording.run_state();
        let packed = |node: &NodeId| {
            let layer = network.node(*node).name.clone();
            transposed.get(node).ok_or(Error::Shape { layer, reason: "it has no weights".into() })
        };
        let resource = |bind: &Bind| {
            let buffer = match bind {
                Bind::Activations(at) => &recording.buffers[*at],
                Bind::Gradient(at) => &gradients[*at],
                Bind::Transposed(node) => return Ok(packed(node)?.weight.binding()),
                Bind::NoBias(node) => &packed(node)?.bias,
                Bind::Texture(at) => return Ok(wgpu::BindingResource::TextureView(&textures[*at])),
                Bind::WeightGradients => &weights,
                Bind::Parts => &sums,
                Bind::Gains => gains,
                Bind::DropoutKey => dropout,
                Bind::Unused(at) => &kernels.unused[*at],
                Bind::Weight(_) | Bind::Bias(_) | Bind::HeadOutputs => {
                    return Err(Error::Argument("a backward pass has no such binding".into()));
                }
            };
            Ok(buffer.as_entire_binding())
        };
        let dispatches = Dispatch::all(device, kernels, &lowered.gradients.jobs, resource)?;

        let mut first = 0;
        let mut firsts = Vec::new();
        for part in &lowered.parts {
            if let Part::Seed { from, .. } = part {
                firsts.push(first);
                first += most_parts(*from);
            }
        }
        let values = buffer("values", first);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = [(); MAX_PENDING].map(|()| Rc::new(device.buffer("values", values.size(), usage)));

        let (term, cross_entropy) = (kernels.get(device, &term::TERM), kernels.get(device, &term::CROSS_ENTROPY));
        let mut seeds = Vec::new();
        let mut parts = Vec::new();
        let mut dispatches = dispatches.into_iter();
        for part in &lowered.parts {
            match part {
                Part::Seed { seed, node, from, target } => {
                    let params =
                        device.buffer("term", PARAMS_BYTES as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST);
                    let classes = buffer("classes", plan.batch);
                    let places = [&recording.buffers[from.buffer], &gradients[target.place.buffer], &values];
                    let sum = term.bind(device, &params, 0, &places);
                    let [y, to, parts_of_values] = places;
                    let entropy = cross_entropy.bind(device, &params, 0, &[y, to, parts_of_values, &classes]);
                    parts.push(Encoded::Seed(seeds.len()));
                    seeds.push(Seed {
                        term: *seed,
                        node: *node,
                        from: *from,
                        target: *target,
                        first: firsts[seeds.len()],
                        params,
                        classes,
                        sum: (term.clone(), sum),
                        cross_entropy: (cross_entropy.clone(), entropy),
                    });
                }
                Part::Job => parts.extend(dispatches.next().map(Encoded::Dispatch)),
            }
        }
        Ok(Backward {
            errors: None,
            batch: plan.batch,
            gradients,
            blocks: lowered.blocks,
            weights,
            seeds,
            parts,
            values,
            staging,
        })
    }

    /// Waits until the device has made everything.
    pub async fn ready(&mut self) -> Result<()> {
        match self.errors.take() {
            Some(errors) => errors.result().await,
            None => Ok(()),
        }
    }

    /// Fails with [`Error::Argument`] where these are not terms of this plan's nodes.
    pub fn check(&self, network: &Network, terms: &[Term]) -> Result<()> {
        let nodes = self.seeds.iter().map(|seed| seed.term + 1).max().unwrap_or(0);
        if terms.len() < nodes {
            return Err(Error::Argument(format!("the backward plan is for {nodes} terms, not {}", terms.len())));
        }
        for seed in &self.seeds {
            let term = &terms[seed.term];
            if term.node != seed.node {
                let [node, planned] = [term.node, seed.node].map(|node| &network.node(node).name);
                return Err(Error::Argument(format!(
                    "the backward plan has a term of \"{planned}\", not of \"{node}\""
                )));
            }
            term.check(network, self.batch)?;
        }
        Ok(())
    }

    /// Encodes the pass for these terms, which have been checked. With `add`, the gradients for weights are added to
    /// those of earlier passes. Returns the number of dispatches, and how to read the values of the terms. Fails with
    /// [`Error::Argument`] if too many passes are in progress.
    pub fn encode(
        &self,
        device: &Device,
        encoder: &mut CommandEncoder,
        terms: &[Term],
        add: bool,
    ) -> Result<(usize, PendingValues)> {
        let free = self.staging.iter().find(|buffer| Rc::strong_count(buffer) == 1);
        let busy = || Error::Argument(format!("{MAX_PENDING} passes are pending: wait for one of them"));
        let staging = free.ok_or_else(busy)?.clone();
        for seed in &self.seeds {
            let kind = &terms[seed.term].kind;
            let params = slot(&term::Params::new(kind, seed.from, seed.target, seed.first));
            device.queue.write_buffer(&seed.params, 0, &params);
            if let TermKind::CrossEntropy { classes, .. } = kind {
                let classes: Vec<u32> = classes.iter().map(|&class| class as u32).collect();
                device.queue.write_buffer(&seed.classes, 0, bytemuck::cast_slice(&classes));
            }
        }
        if !add && !self.blocks.is_empty() {
            encoder.clear_buffer(&self.weights, 0, None);
        }
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for part in &self.parts {
                match part {
                    Encoded::Dispatch(dispatch) => dispatch.encode(&mut pass),
                    Encoded::Seed(seed) => {
                        let seed = &self.seeds[*seed];
                        let kind = &terms[seed.term].kind;
                        let is_entropy = matches!(kind, TermKind::CrossEntropy { .. });
                        let (kernel, bound) = if is_entropy { &seed.cross_entropy } else { &seed.sum };
                        let count = if is_entropy { seed.from.shape.pixels() } else { seed.from.shape.len() };
                        kernel.dispatch(&mut pass, bound, kernel.grid(count));
                    }
                }
            }
        }
        encoder.copy_buffer_to_buffer(&self.values, 0, &staging, 0, self.values.size());
        let part = |number: usize| {
            let seed = self.seeds.iter().find(|seed| seed.term == number);
            seed.map_or(0..0, |seed| seed.first..seed.first + term::parts(&terms[number].kind, seed.from))
        };
        Ok((self.parts.len(), PendingValues { staging, parts: (0..terms.len()).map(part).collect() }))
    }

    /// The gradient at a place of the backward plan.
    pub async fn gradient(&self, device: &Device, place: Place) -> Result<Tensor> {
        let buffer = self.gradients.get(place.buffer);
        let buffer = buffer.ok_or_else(|| Error::Argument("the place is not of this backward plan".into()))?;
        let mut values = device.values(buffer).await?;
        // The buffer may be longer, because gradients of several nodes use it in turn.
        values.truncate(place.shape.pixels() * place.stride);
        Ok(from_buffer(place, values))
    }

    /// The gradients for the weights and the biases of a layer. Fails with [`Error::Argument`] where they are not
    /// computed.
    pub async fn weight_gradient(&self, device: &Device, node: NodeId) -> Result<[Vec<f32>; 2]> {
        let block = self.blocks.iter().find(|block| block.node == node);
        let Some(block) = block else {
            return Err(Error::Argument("the gradients for these weights are not computed".into()));
        };
        let (first, count) = (4 * block.first as u64, block.weights + block.biases);
        let mut weights = device.values_at(&self.weights, first..first + 4 * count as u64).await?;
        let biases = weights.split_off(block.weights);
        Ok([weights, biases])
    }
}

/// The largest number of parts of the value of a term of an output.
fn most_parts(from: Place) -> usize {
    let entropy = TermKind::CrossEntropy { classes: Vec::new(), weight: 0.0, smoothing: 0.0 };
    [entropy, TermKind::Sum { weight: 0.0 }].iter().map(|kind| term::parts(kind, from)).max().unwrap_or(0)
}

/// A layer's weights as the gradient for its input needs them. Their number of biases is that of its channels, and they
/// are zero.
fn transpose(model: &Model, weights: &Transposed) -> Result<LayerWeights> {
    let network = &model.network;
    let [weight, _] = tensor_names(&network.node(weights.node).name);
    let (_, values) = model.weights.get(&weight)?;
    let [channels, outputs, kh, kw] = weights.dims;
    let Shape { c, .. } = network.input_shape(weights.node);
    let is_dense = matches!(network.node(weights.node).op, Op::Dense { .. });
    let taps = kh * kw;
    let mut transposed = vec![0.0; values.len()];
    for (o, filter) in values.chunks_exact(channels * taps).enumerate() {
        for (i, &value) in filter.iter().enumerate() {
            // A dense layer's weights are in the order HWC, and those of a convolution in the order CHW.
            let (channel, tap) = match is_dense {
                true if taps == 1 => (i, 0),
                true => (i % c, i / c),
                false => (i / taps, i % taps),
            };
            let tap = if weights.flipped { taps - 1 - tap } else { tap };
            transposed[(channel * outputs + o) * taps + tap] = value;
        }
    }
    Ok(LayerWeights { dims: weights.dims.to_vec(), weight: transposed, bias: vec![0.0; channels] })
}
