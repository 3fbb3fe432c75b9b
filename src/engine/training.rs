//! One step of training: gradients of micro-batches that are added up, and a change of the weights.

use super::{Engine, Runner};
use crate::engine::gradient::{Objective, Wrt};
use crate::error::{Error, Result};
use crate::model::tensor_names;
use crate::plan::optimiser::{Kept, Role, Rule, clip};
use crate::plan::random::DropoutKey;
use crate::plan::{Input, Work};

/// How [`Engine::update`] changes the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Update {
    pub rule: Rule,
    /// The learning rate.
    pub rate: f64,
    /// The number of the step, counted from 0.
    pub step: u64,
    /// A factor for the gradients, e.g. the reciprocal of the number of micro-batches whose gradients were added.
    pub scale: f64,
    /// The largest norm of all gradients together; longer gradients are shortened to it.
    pub clip: Option<f64>,
    /// The decay of the moving averages of the weights, if they are kept.
    pub average: Option<f64>,
}

/// A tensor that training keeps for a weight or a bias.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptTensor {
    /// The name of the weight or bias in a model file.
    pub name: String,
    /// The dimensions in a model file.
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

impl Engine {
    /// Runs a micro-batch, and computes the gradients of an objective for the weights that `wrt` names. With `fresh` they
    /// replace earlier gradients, otherwise they are added to them. `dropout` says which values dropout keeps. Returns the
    /// value of each term as [`Engine::gradient`] does. Fails as [`Engine::gradient`] does.
    pub async fn accumulate(
        &mut self,
        input: Input<'_>,
        objective: &Objective<'_>,
        wrt: Wrt<'_>,
        dropout: DropoutKey,
        fresh: bool,
    ) -> Result<Vec<f64>> {
        let batch = input.batch();
        let terms = self.terms(objective, batch)?;
        let wanted = self.wanted(wrt)?;
        self.ready_for(&input)?;
        self.prepare_backward(&terms, &wanted)?;
        self.set_dropout(Some(dropout))?;
        let values = match self.execute(Work::All(input)).await {
            Ok(_) => self.backward(&terms, fresh).await,
            Err(e) => Err(e),
        };
        self.set_dropout(None)?;
        let mut values = values?;
        if let Objective::Loss { .. } = objective {
            values.iter_mut().for_each(|value| *value /= batch as f64);
        }
        Ok(values)
    }

    /// Changes the weights by the gradients of [`Engine::accumulate`]. Fails with [`Error::Argument`] where the gradients
    /// are not finite; the weights are as before then.
    pub async fn update(&mut self, update: &Update) -> Result<()> {
        self.filled = false;
        let Runner::Cpu(cpu) = &mut self.runner else { return Err(cpu_only()) };
        let squares = cpu.gradient_squares()? * update.scale * update.scale;
        let scale = update.scale * clip(squares, update.clip)?;
        let step = |role| update.rule.step(role, update.rate, update.step, scale);
        cpu.update(&step(Role::Weight), &step(Role::Bias), update.average)
    }

    /// A tensor that training keeps, for each weight and bias of the network. Tensors that are not kept are left out.
    pub async fn kept(&self, kind: Kept) -> Result<Vec<KeptTensor>> {
        let Runner::Cpu(cpu) = &self.runner else { return Err(cpu_only()) };
        let network = &self.model.network;
        let mut tensors = Vec::new();
        for (id, node) in network.nodes().iter().enumerate() {
            let Some(both) = cpu.kept(id, kind) else { continue };
            let specs = node.op.tensors(network.input_shape(id));
            for ((name, spec), data) in tensor_names(&node.name).into_iter().zip(specs).zip(both) {
                if !data.is_empty() {
                    tensors.push(KeptTensor { name, dims: spec.dims, data });
                }
            }
        }
        Ok(tensors)
    }

    /// Replaces tensors that training keeps, e.g. by those of a checkpoint. `find` returns the values of a tensor by its
    /// name, if it has them. Fails with [`Error::TensorShape`] where their number is wrong.
    pub async fn set_kept(&mut self, kind: Kept, find: impl Fn(&str) -> Option<Vec<f32>>) -> Result<()> {
        let Runner::Cpu(cpu) = &mut self.runner else { return Err(cpu_only()) };
        let network = &self.model.network;
        for (id, node) in network.nodes().iter().enumerate() {
            let specs = node.op.tensors(network.input_shape(id));
            let names = tensor_names(&node.name);
            let [Some(weight), Some(bias)] = [0, 1].map(|i| find(&names[i])) else { continue };
            for ((name, spec), data) in names.into_iter().zip(specs).zip([&weight, &bias]) {
                if spec.dims.iter().product::<usize>() != data.len() {
                    let found = [data.len()];
                    let (expected, found) = (spec.dims.as_slice().into(), found.as_slice().into());
                    return Err(Error::TensorShape { name, expected, found });
                }
            }
            cpu.set_kept(id, kind, [&weight, &bias]);
        }
        if kind == Kept::Values {
            cpu.repack();
        }
        Ok(())
    }

    /// Exchanges the weights and their moving averages. Does nothing where no averages are kept.
    pub async fn swap_averages(&mut self) -> Result<()> {
        self.filled = false;
        let Runner::Cpu(cpu) = &mut self.runner else { return Err(cpu_only()) };
        cpu.swap_averages();
        Ok(())
    }

    fn set_dropout(&mut self, key: Option<DropoutKey>) -> Result<()> {
        match &mut self.runner {
            Runner::Cpu(cpu) => {
                cpu.set_dropout(key);
                Ok(())
            }
            Runner::Gpu(gpu) => gpu.set_dropout(key),
        }
    }
}

fn cpu_only() -> Error {
    Error::Argument("weights are trained on the CPU only, for now: choose the backend cpu".into())
}
