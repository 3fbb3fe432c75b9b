//! Gradients on the CPU: runs a backward plan after a forward run.

#![allow(unsafe_code, reason = "tasks write their own part of buffers that the plan keeps apart")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::gradient::{Extents, GradientCall, Job, Part, WeightGradient};
use super::kernel::Inputs;
use super::learning::{Chunk, Layer, Learning, Parameters, PreparedBackward, Trained};
use super::memory::{Buffer, Floats, Scratch};
use super::seed::Seed;
use super::view::View;
use super::{Cpu, Prepared, ops, unprepared};
use crate::error::{Error, Result};
use crate::graph::network::NodeId;
use crate::graph::tensor::Tensor;
use crate::model::{Model, tensor_names};
use crate::plan::Place;
use crate::plan::backward::{BackwardPlan, BackwardStep, Term, file_index, to_file};
use crate::plan::optimiser::{self, Kept, Role};
use crate::plan::random::DropoutKey;
use std::ops::Range;

/// The number of values of a tensor that one task of [`Cpu::update`] changes.
const CHUNK: usize = 64 * 1024;

/// A pointer to the first of several values, each of which is accessed by one task.
struct Shared<T>(*mut T);

// SAFETY: the callers of `at` avoid data races.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn at(&self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// A part of a tensor, for writing; empty where the tensor is empty.
///
/// # Safety
/// No other thread may access this part while the slice is in use.
#[expect(clippy::mut_from_ref, reason = "tasks write parts of one tensor")]
unsafe fn part_mut<'a>(tensor: &'a Buffer, range: &Range<usize>) -> &'a mut [f32] {
    if tensor.len() == 0 {
        return &mut [];
    }
    assert!(range.end <= tensor.len(), "a part beyond the tensor");
    // SAFETY: guaranteed by the caller and the assertion.
    unsafe { std::slice::from_raw_parts_mut(tensor.pointer().add(range.start), range.len()) }
}

impl Cpu {
    /// Keeps the weights of a model, which gradients need beside the packed ones. Fails where a tensor is missing, and with
    /// [`Error::Memory`] where there is not enough memory.
    pub fn keep_parameters(&mut self, model: &Model) -> Result<()> {
        let network = &self.network;
        let mut parameters = Vec::new();
        for (id, node) in network.nodes().iter().enumerate() {
            if network.params(id) == 0 {
                parameters.push(None);
                continue;
            }
            let [weight, bias] = tensor_names(&node.name);
            let (weight, bias) = (model.weights.get(&weight)?.1, model.weights.get(&bias)?.1);
            let (input, outputs) = (network.input_shape(id), node.shape.c);
            let (mut weights, mut biases) = (Floats::zeros(weight.len()), Floats::zeros(bias.len()));
            for (i, to) in weights.iter_mut().enumerate() {
                *to = weight[file_index(&node.op, input, outputs, i)];
            }
            biases.copy_from_slice(&bias);
            parameters.push(Some(Parameters { weights: Trained::new(weights), bias: Trained::new(biases) }));
        }
        self.learning = Some(Learning { parameters, dropout: None, prepared: None });
        Ok(())
    }

    /// Sets which values dropout keeps in the next runs; with `None`, it keeps all.
    pub fn set_dropout(&mut self, key: Option<DropoutKey>) {
        if let Some(learning) = &mut self.learning {
            learning.dropout = key;
        }
    }

    /// Prepares gradients for the plan that [`Cpu::prepare`] has prepared. Fails with [`Error::Memory`] where there is not
    /// enough memory, and with [`Error::Argument`] where no plan is prepared or the parameters were not kept.
    pub fn prepare_backward(&mut self, backward: &BackwardPlan) -> Result<()> {
        let threads = self.pool.size();
        let (Some(prepared), Some(learning)) = (&self.prepared, &mut self.learning) else { return Err(unprepared()) };
        learning.prepared = None;
        let plan = &prepared.plan;
        let room = || Error::Memory { bytes: plan.bytes() + backward.bytes() };
        let nodes = self.network.nodes();
        let mut weights: Vec<Option<WeightGradient>> = (0..nodes.len()).map(|_| None).collect();
        let mut steps = Vec::new();
        let mut floats = 0;
        for step in &backward.steps {
            let BackwardStep::Node { node, gradient, inputs, weights: wanted } = step else {
                steps.push(None);
                continue;
            };
            let at = plan.steps.iter().position(|step| step.node == *node);
            let Some(at) = at else { return Err(self.layers[*node].fail("it has no forward step".into())) };
            let (forward, geometry) = (&plan.steps[at], prepared.geometry[at]);
            let (x, y) = (forward.reads[0].shape, forward.writes.shape);
            let input = inputs.iter().any(Option::is_some);
            let Some(mut kernel) = ops::gradient(&nodes[*node].op, self.isa, [x, y], input) else {
                return Err(self.layers[*node].fail("it cannot be differentiated".into()));
            };
            if let Some(parameters) = &learning.parameters[*node] {
                // SAFETY: no task is running.
                kernel.update(unsafe { parameters.weights.values.read() });
                if *wanted {
                    let sizes = [parameters.weights.values.len(), parameters.bias.values.len()];
                    let mut buffers = Buffer::zeros(sizes.into_iter()).ok_or_else(room)?.into_iter();
                    weights[*node] =
                        buffers.next().zip(buffers.next()).map(|(weights, bias)| WeightGradient { weights, bias });
                }
            }
            let extents = Extents { x, y, geometry: geometry.as_ref(), input, weights: *wanted, threads };
            let parts = kernel.parts(&extents);
            floats = parts.iter().map(|part| kernel.scratch(&extents, part)).fold(floats, usize::max);
            let rounds = parts.into_iter().partition(|part| part.job == Job::Activation);
            steps.push(Some(Layer {
                node: *node,
                kernel,
                step: forward.clone(),
                geometry,
                gradient: *gradient,
                targets: inputs.clone(),
                rounds: rounds.into(),
            }));
        }
        let buffers = Buffer::zeros(backward.buffers.iter().copied()).ok_or_else(room)?;
        let scratch = Scratch::new(threads, floats).ok_or_else(room)?;
        let trained: Vec<NodeId> = (0..nodes.len()).filter(|&node| weights[node].is_some()).collect();
        let chunks = trained.iter().flat_map(|&node| {
            let tensors =
                learning.parameters[node].iter().flat_map(|p| [(Role::Weight, &p.weights), (Role::Bias, &p.bias)]);
            tensors.flat_map(move |(role, tensor)| {
                let len = tensor.values.len();
                (0..len).step_by(CHUNK).map(move |first| Chunk { node, role, range: first..(first + CHUNK).min(len) })
            })
        });
        let chunks: Vec<Chunk> = chunks.collect();
        let mut order = vec![None; nodes.len()];
        for (i, layer) in steps.iter().enumerate() {
            if let Some(Layer { node, .. }) = layer {
                order[*node] = Some(i);
            }
        }
        let (plan, sums) = (backward.clone(), vec![0.0; chunks.len()]);
        let made = PreparedBackward { plan, buffers, steps, weights, scratch, chunks, sums, trained, order };
        learning.prepared = Some(made);
        Ok(())
    }

    /// The sum of the squares of all gradients for weights and biases, in an order that does not depend on threads.
    pub fn gradient_squares(&mut self) -> Result<f64> {
        let learning = self.learning.as_mut().ok_or_else(unprepared)?;
        let PreparedBackward { chunks, weights, sums, .. } = learning.prepared.as_mut().ok_or_else(unprepared)?;
        let (chunks, weights, to) = (&*chunks, &*weights, Shared(sums.as_mut_ptr()));
        self.pool.run(chunks.len(), &|i| {
            let Chunk { node, role, range } = &chunks[i];
            let Some(gradient) = &weights[*node] else { return };
            // SAFETY: each chunk has a sum of its own, and nothing writes gradients.
            unsafe {
                let tensor = if *role == Role::Weight { &gradient.weights } else { &gradient.bias };
                *to.at(i) = optimiser::sum_of_squares(&tensor.read()[range.clone()]);
            }
        });
        Ok(sums.iter().sum())
    }

    /// Changes all weights and biases whose gradients [`Cpu::backward`] has computed, by one step of an optimiser, and
    /// packs the weights anew. With `average`, moving averages of all of them are kept with this decay.
    pub fn update(&mut self, weights: &optimiser::Step, biases: &optimiser::Step, average: Option<f64>) -> Result<()> {
        let Some(learning) = &mut self.learning else { return Err(unprepared()) };
        let Some(backward) = &mut learning.prepared else { return Err(unprepared()) };
        for &node in &backward.trained {
            let Some(parameters) = &mut learning.parameters[node] else { continue };
            for tensor in [&mut parameters.weights, &mut parameters.bias] {
                let len = tensor.values.len();
                for state in tensor.states.iter_mut().take(weights.states()).filter(|state| state.len() == 0) {
                    *state = Buffer::new(Floats::zeros(len));
                }
                if average.is_some() && tensor.average.len() == 0 {
                    let mut copy = Floats::zeros(len);
                    copy.copy_from_slice(tensor.values.get_mut());
                    tensor.average = Buffer::new(copy);
                }
            }
        }
        let parameters = Shared(learning.parameters.as_mut_ptr());
        let (chunks, gradients) = (&backward.chunks, &backward.weights);
        self.pool.run(chunks.len(), &|i| {
            let Chunk { node, role, range } = &chunks[i];
            let Some(gradient) = &gradients[*node] else { return };
            // SAFETY: each chunk is a part of a tensor of its own, and only its task accesses it.
            unsafe {
                let Some(parameters) = &*parameters.at(*node) else { return };
                let (tensor, gradient, step) = match role {
                    Role::Weight => (&parameters.weights, gradient.weights.read(), weights),
                    Role::Bias => (&parameters.bias, gradient.bias.read(), biases),
                };
                let [first, second] = &tensor.states;
                let values = part_mut(&tensor.values, range);
                step.apply(values, &gradient[range.clone()], part_mut(first, range), part_mut(second, range));
                if let Some(decay) = average {
                    optimiser::average(part_mut(&tensor.average, range), values, decay);
                }
            }
        });
        // Each trained node's kernels are packed by one task.
        let (layers, steps) = (Shared(self.layers.as_mut_ptr()), Shared(backward.steps.as_mut_ptr()));
        let (trained, order, parameters) = (&backward.trained, &backward.order, &learning.parameters);
        self.pool.run(trained.len(), &|i| {
            let node = trained[i];
            let Some(Parameters { weights, bias }) = &parameters[node] else { return };
            // SAFETY: each node has one task, and its layer and its step are accessed by that task only.
            unsafe {
                let (weights, bias) = (weights.values.read(), bias.values.read());
                if let Some(kernel) = &mut (*layers.at(node)).kernel {
                    kernel.update(weights, bias);
                }
                if let Some(step) = order[node]
                    && let Some(layer) = &mut *steps.at(step)
                {
                    layer.kernel.update(weights);
                }
            }
        });
        Ok(())
    }

    /// A tensor that is kept for a node's weights and biases, in the layout of a model file; `None` for nodes without
    /// weights. Tensors that the optimiser does not keep are empty.
    pub fn kept(&self, node: NodeId, kind: Kept) -> Option<[Vec<f32>; 2]> {
        let parameters = self.learning.as_ref()?.parameters.get(node)?.as_ref()?;
        // SAFETY: no task is running.
        let (weights, bias) = unsafe { (parameters.weights.tensor(kind).read(), parameters.bias.tensor(kind).read()) };
        let weights = if weights.is_empty() { Vec::new() } else { self.to_file(node, weights) };
        Some([weights, bias.to_vec()])
    }

    /// Replaces a tensor that is kept for a node's weights and biases, given in the layout of a model file. Weights that
    /// are replaced must be packed with [`Cpu::repack`].
    pub fn set_kept(&mut self, node: NodeId, kind: Kept, [weights, bias]: [&[f32]; 2]) {
        let (op, input) = (&self.network.node(node).op, self.network.input_shape(node));
        let outputs = self.network.node(node).shape.c;
        let Some(Some(parameters)) = self.learning.as_mut().map(|learning| &mut learning.parameters[node]) else {
            return;
        };
        let mut reordered = Floats::zeros(weights.len());
        for (i, to) in reordered.iter_mut().enumerate() {
            *to = weights[file_index(op, input, outputs, i)];
        }
        *parameters.weights.tensor_mut(kind) = Buffer::new(reordered);
        let mut copied = Floats::zeros(bias.len());
        copied.copy_from_slice(bias);
        *parameters.bias.tensor_mut(kind) = Buffer::new(copied);
    }

    /// Exchanges the weights and their moving averages, and packs the weights. Does nothing where no averages are kept.
    pub fn swap_averages(&mut self) {
        let Some(learning) = &mut self.learning else { return };
        let mut swapped = false;
        for Parameters { weights, bias } in learning.parameters.iter_mut().flatten() {
            for tensor in [weights, bias] {
                if tensor.average.len() > 0 {
                    std::mem::swap(&mut tensor.values, &mut tensor.average);
                    swapped = true;
                }
            }
        }
        if swapped {
            self.repack();
        }
    }

    /// Packs the weights of all nodes anew.
    pub fn repack(&mut self) {
        let Some(learning) = &mut self.learning else { return };
        for (layer, parameters) in self.layers.iter_mut().zip(&learning.parameters) {
            if let (Some(kernel), Some(Parameters { weights, bias })) = (&mut layer.kernel, parameters) {
                // SAFETY: no task is running.
                unsafe { kernel.update(weights.values.read(), bias.values.read()) };
            }
        }
        for layer in learning.prepared.iter_mut().flat_map(|prepared| &mut prepared.steps).flatten() {
            if let Some(parameters) = &learning.parameters[layer.node] {
                layer.// SAFETY: no task is running.
                kernel.update(unsafe { parameters.weights.values.read() });
            }
        }
    }

    /// Computes the gradients of a sum of terms, after a forward run of the whole plan with these gains. With `fresh`, the
    /// gradients for weights replace those of the last call, otherwise they are added to them. Returns the value of each
    /// term, without its weight.
    pub fn backward(&mut self, terms: &[Term], gains: &[f32], fresh: bool) -> Result<Vec<f64>> {
        let (Some(prepared), Some(learning)) = (&self.prepared, &self.learning) else { return Err(unprepared()) };
        let Some(backward) = &learning.prepared else { return Err(unprepared()) };
        let mut values = vec![0.0; terms.len()];
        for (step, layer) in backward.plan.steps.iter().zip(&backward.steps) {
            match (step, layer) {
                (BackwardStep::Seed { seed, node, target }, _) => {
                    let Some(term) = terms.get(*seed) else { return Err(unprepared()) };
                    let place = prepared.plan.places[*node];
                    // SAFETY: no task is running.
                    let y = View::new(unsafe { prepared.buffers[place.buffer].read() }, place);
                    let out = backward.buffers[target.place.buffer].out(target.place);
                    values[*seed] = Seed { kind: &term.kind, y, out, add: target.add }.run();
                }
                (BackwardStep::Node { .. }, Some(layer)) => {
                    for parts in &layer.rounds {
                        self.pool.run(parts.len(), &|i| {
                            backward.scratch.with(|scratch| {
                                // SAFETY: the parts of a round write disjoint values, and no part reads what another
                                // part of its round writes.
                                unsafe {
                                    self.part(prepared, learning, backward, layer, &parts[i], (gains, fresh), scratch)
                                }
                            });
                        });
                    }
                }
                (BackwardStep::Node { .. }, None) => {}
            }
        }
        Ok(values)
    }

    /// Runs one part of a step.
    ///
    /// # Safety
    /// No other thread may write what the part reads, or access what it writes.
    #[expect(clippy::too_many_arguments, reason = "everything that a part needs, taken apart")]
    unsafe fn part(
        &self,
        prepared: &Prepared,
        learning: &Learning,
        backward: &PreparedBackward,
        layer: &Layer,
        part: &Part,
        (gains, fresh): (&[f32], bool),
        scratch: &mut [f32],
    ) {
        let nodes = &self.layers[layer.node].inputs;
        let (buffers, step) = (&prepared.buffers, &layer.step);
        let inputs = Inputs { buffers, step, nodes, gains, dropout: learning.dropout };
        // SAFETY: guaranteed by the caller.
        unsafe {
            let y = View::new(buffers[step.writes.buffer].read(), step.writes);
            layer.kernel.run(GradientCall {
                inputs,
                y,
                gradient: layer.gradient,
                targets: &layer.targets,
                buffers: &backward.buffers,
                parameters: learning.parameters[layer.node].as_ref().map(|p| p.weights.values.read()),
                weights: backward.weights[layer.node].as_ref(),
                fresh,
                geometry: layer.geometry.as_ref(),
                part,
                scratch,
            });
        }
    }

    /// The gradient at a place of the backward plan, after [`Cpu::backward`].
    pub fn read_gradient(&self, place: Place) -> Result<Tensor> {
        let backward = self.learning.as_ref().and_then(|learning| learning.prepared.as_ref()).ok_or_else(unprepared)?;
        let buffer = backward.buffers.get(place.buffer).ok_or_else(unprepared)?;
        // SAFETY: only `backward` writes to buffers, and it borrows the engine exclusively.
        Ok(View::new(unsafe { buffer.read() }, place).tensor())
    }

    /// The gradients for a node's weights and biases, in the layout of a model file; `None` where they were not computed.
    pub fn weight_gradient(&self, node: NodeId) -> Option<[Vec<f32>; 2]> {
        let gradient = self.learning.as_ref()?.prepared.as_ref()?.weights.get(node)?.as_ref()?;
        // SAFETY: only `backward` writes to buffers, and it borrows the engine exclusively.
        let (weights, bias) = unsafe { (gradient.weights.read(), gradient.bias.read()) };
        Some([self.to_file(node, weights), bias.to_vec()])
    }

    /// Reorders weights into the layout of a model file.
    fn to_file(&self, node: NodeId, weights: &[f32]) -> Vec<f32> {
        to_file(&self.network.node(node).op, self.network.input_shape(node), weights)
    }
}
