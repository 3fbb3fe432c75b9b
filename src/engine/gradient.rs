//! Gradients: of a class's score, of a layer's values or of the training loss, with respect to the input, to a layer's
//! output, or to the weights.

use super::{Engine, Runner};
use crate::error::{Error, Result};
use crate::graph::network::{Head, NodeId};
use crate::graph::tensor::Tensor;
use crate::model::tensor_names;
use crate::plan::Input;
use crate::plan::backward::{BackwardPlan, Differentiation, Wanted, to_file};
pub use crate::plan::backward::{Term, TermKind};

/// What is differentiated: a function of the network's outputs, summed over the pictures of the batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective<'a> {
    /// The score of a class in a head (`loss1`, `loss2` or `loss3`), which is its logit, before the softmax.
    Score { head: &'a str, class: usize },
    /// The probability of a class in a head.
    Probability { head: &'a str, class: usize },
    /// The mean of a layer's values in each picture, or of one channel's.
    Mean { layer: &'a str, channel: Option<usize> },
    /// Half the sum of the squares of a layer's values.
    HalfSquares { layer: &'a str },
    /// The training loss: for each of these heads, its weight times the cross-entropy with one class for each picture,
    /// averaged over the pictures. `smoothing` is label smoothing, see [`TermKind::CrossEntropy`].
    Loss { classes: &'a [usize], heads: &'a [(&'a str, f32)], smoothing: f32 },
    /// Any sum of terms.
    Terms(&'a [Term]),
}

/// With respect to what the objective is differentiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrt<'a> {
    /// The network's input, in its own channel order and scale.
    Input,
    /// A layer's output.
    Layer(&'a str),
    /// All weights and biases.
    Weights,
    /// The weights and biases of a layer, and of all layers after it in the order of the network. A module's name means
    /// its first layer.
    WeightsFrom(&'a str),
}

/// The result of [`Engine::gradient`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Gradients {
    /// The objective's value.
    pub value: f64,
    /// The value of each term, with its weight. For [`Objective::Loss`], the cross-entropy of each head, averaged over the pictures and
    /// without the head's weight.
    pub terms: Vec<f64>,
    /// The gradient with respect to the input or the layer, (n, h, w, c); `None` where weights were asked for.
    pub layer: Option<Tensor>,
    /// The gradients with respect to the weights and biases on which the objective depends, in the order of the network.
    pub weights: Vec<NamedGradient>,
}

/// The gradient of one tensor of a model file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedGradient {
    /// The tensor's name, e.g. `inception_3a/1x1.weight`.
    pub name: String,
    /// The dimensions in a model file: OIHW for convolutions, (out, in) for dense layers.
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

impl Engine {
    /// Runs the network and differentiates an objective. The engine must have been loaded with
    /// [`Options::gradients`](super::Options::gradients). Gains of branches count as they are set. Fails with
    /// [`Error::Argument`] where the objective names a class or channel that does not exist or does not depend on what it
    /// is differentiated by, and with [`Error::UnknownNode`] where a layer or head does not exist.
    ///
    /// ```
    /// use googlenet::engine::{Backend, Engine, Options, gradient::{Objective, Wrt}};
    /// use googlenet::model::{Model, preprocess::{Crop, Image}};
    /// use googlenet::plan::Input;
    /// use pollster::block_on;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let model = Model::from_bytes(std::fs::read("www/models/cifar10.safetensors")?)?;
    /// let image = Image::decode(&std::fs::read("www/public/samples/cat.jpg")?)?;
    /// let options = Options { backend: Backend::Cpu, gradients: true, ..Options::default() };
    /// let mut engine = block_on(Engine::with(model, options))?;
    /// let cat = Objective::Score { head: "loss3", class: 3 };
    /// let input = Input::Images(&[&image], Crop::Center);
    /// let gradients = block_on(engine.gradient(input, &cat, Wrt::Input))?;
    /// assert_eq!(gradients.layer.expect("the input's gradient").shape.c, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn gradient(&mut self, input: Input<'_>, objective: &Objective<'_>, wrt: Wrt<'_>) -> Result<Gradients> {
        let batch = input.batch();
        let terms = self.terms(objective, batch)?;
        let wanted = self.wanted(wrt)?;
        self.ready_for(&input)?;
        self.prepare_backward(&terms, &wanted)?;
        self.execute(crate::plan::Work::All(input)).await?;
        let values = self.backward(&terms, true).await?;
        let weighted: Vec<f64> =
            terms.iter().zip(&values).map(|(term, value)| f64::from(term.kind.weight()) * value).collect();
        let mut gradients = Gradients { value: weighted.iter().sum(), terms: weighted, ..Gradients::default() };
        if let Objective::Loss { .. } = objective {
            gradients.terms = values.iter().map(|value| value / batch as f64).collect();
        }
        if let (Some(backward), [_]) = (&self.backward, &wanted.nodes[..]) {
            gradients.layer = match &self.runner {
                Runner::Cpu(cpu) => Some(cpu.read_gradient(backward.plan.wanted[0])?),
                Runner::Gpu(gpu) => Some(gpu.read_gradient(backward.plan.wanted[0]).await?),
            };
        }
        for id in (0..self.model.network.nodes().len()).filter(|&id| wanted.weights.get(id) == Some(&true)) {
            gradients.weights.extend(self.weight_gradient(id).await?);
        }
        Ok(gradients)
    }

    /// The gradients for a node's weight and bias; none where they were not computed.
    async fn weight_gradient(&self, id: NodeId) -> Result<Vec<NamedGradient>> {
        let network = &self.model.network;
        let (node, input) = (network.node(id), network.input_shape(id));
        let gradients = match &self.runner {
            Runner::Cpu(cpu) => cpu.weight_gradient(id),
            // Where the objective does not depend on a layer, the plan has no step for it.
            Runner::Gpu(gpu) if self.backward.as_ref().is_some_and(|made| made.plan.computes(id)) => {
                let [weights, bias] = gpu.weight_gradient(id).await?;
                Some([to_file(&node.op, input, &weights), bias])
            }
            Runner::Gpu(_) => None,
        };
        let Some(gradients) = gradients else { return Ok(Vec::new()) };
        let all = tensor_names(&node.name).into_iter().zip(node.op.tensors(input)).zip(gradients);
        Ok(all.map(|((name, tensor), data)| NamedGradient { name, dims: tensor.dims, data }).collect())
    }

    /// Makes and prepares the backward plan for these terms, unless it is in force.
    pub(super) fn prepare_backward(&mut self, terms: &[Term], wanted: &Wanted) -> Result<()> {
        let seeds: Vec<NodeId> = terms.iter().map(|term| term.node).collect();
        if self.backward.as_ref().is_some_and(|made| made.seeds == seeds && made.wanted == *wanted) {
            return Ok(());
        }
        self.backward = None;
        if !self.gradients {
            return Err(Error::Argument("this engine was not loaded for gradients: set Options::gradients".into()));
        }
        let Some(plan) = &self.plan else { return Err(Error::Argument("no plan has been prepared".into())) };
        let backward = BackwardPlan::new(&self.model.network, plan, &seeds, wanted)?;
        match &mut self.runner {
            Runner::Cpu(cpu) => cpu.prepare_backward(&backward)?,
            Runner::Gpu(gpu) => gpu.prepare_backward(plan, &backward, &self.model)?,
        }
        self.backward = Some(Differentiation { seeds, wanted: wanted.clone(), plan: backward });
        Ok(())
    }

    /// Computes the gradients of the last run, whose plan is in force. Returns the value of each term.
    pub(super) async fn backward(&mut self, terms: &[Term], fresh: bool) -> Result<Vec<f64>> {
        match &mut self.runner {
            Runner::Cpu(cpu) => cpu.backward(terms, &self.gains, fresh),
            Runner::Gpu(gpu) => gpu.backward(terms, &self.gains, !fresh).await,
        }
    }

    /// The terms of an objective for a batch of this size.
    pub(super) fn terms(&self, objective: &Objective<'_>, batch: usize) -> Result<Vec<Term>> {
        let network = &self.model.network;
        let mean = |layer: &str, channel: Option<usize>| {
            let node = network.find(layer)?;
            let shape = network.node(node).shape;
            let kind = match channel {
                Some(channel) => TermKind::Channel { channel, weight: 1.0 / (shape.h * shape.w) as f32 },
                None => TermKind::Sum { weight: 1.0 / shape.len() as f32 },
            };
            Ok::<_, Error>(Term { node, kind })
        };
        let class = |node, channel| vec![Term { node, kind: TermKind::Channel { channel, weight: 1.0 } }];
        let terms = match *objective {
            Objective::Score { head, class: index } => class(self.head(head)?.logits, index),
            Objective::Probability { head, class: index } => class(self.head(head)?.prob, index),
            Objective::Mean { layer, channel } => vec![mean(layer, channel)?],
            Objective::HalfSquares { layer } => {
                vec![Term { node: network.find(layer)?, kind: TermKind::HalfSquares { weight: 1.0 } }]
            }
            Objective::Loss { classes, heads, smoothing } => {
                let term = |&(head, weight): &(&str, f32)| {
                    let kind = TermKind::CrossEntropy {
                        classes: classes.to_vec(),
                        weight: weight / batch.max(1) as f32,
                        smoothing,
                    };
                    Ok(Term { node: self.head(head)?.logits, kind })
                };
                heads.iter().map(term).collect::<Result<_>>()?
            }
            Objective::Terms(terms) => terms.to_vec(),
        };
        terms.iter().try_for_each(|term| term.check(network, batch))?;
        Ok(terms)
    }

    fn head(&self, name: &str) -> Result<&Head> {
        let heads = self.model.network.heads();
        heads.iter().find(|head| head.name == name).ok_or_else(|| Error::UnknownNode(name.into()))
    }

    pub(super) fn wanted(&self, wrt: Wrt<'_>) -> Result<Wanted> {
        let network = &self.model.network;
        Ok(match wrt {
            Wrt::Input => match network.inputs().next() {
                Some(input) => Wanted::node(input),
                None => return Err(Error::Argument("the network has no input".into())),
            },
            Wrt::Layer(layer) => Wanted::node(network.find(layer)?),
            Wrt::Weights => Wanted::weights(network, |_| true),
            Wrt::WeightsFrom(layer) => {
                let module = network.nodes().iter().position(|node| node.module.as_deref() == Some(layer));
                let first = module.map_or_else(|| network.find(layer), Ok)?;
                Wanted::weights(network, |id| id >= first)
            }
        })
    }
}
