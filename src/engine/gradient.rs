//! Gradients of a scalar function of the network's outputs. This is only the interface, which computes nothing yet.

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::graph::tensor::Tensor;
use crate::plan::Input;
use crate::plan::backward::Term;

/// A scalar function of the network's outputs that is differentiated; summed over the pictures of the batch (Loss: the
/// mean).
#[derive(Debug, Clone, Copy)]
pub enum Objective<'a> {
    /// The score (logit, before the softmax) of a class of a head: "loss1", "loss2", "loss3".
    Score { head: &'a str, class: usize },
    /// The probability of a class of a head.
    Probability { head: &'a str, class: usize },
    /// The mean of a layer's values, or of one of its channels.
    Mean { layer: &'a str, channel: Option<usize> },
    /// Half the sum of the squares of a layer's values.
    HalfSquares { layer: &'a str },
    /// The sum over heads of weight times the mean over pictures of the cross-entropy.
    Loss { classes: &'a [usize], heads: &'a [(&'a str, f32)], smoothing: f32 },
    /// Any sum of terms.
    Terms(&'a [Term]),
}

/// What an objective is differentiated with respect to.
#[derive(Debug, Clone, Copy)]
pub enum Wrt<'a> {
    /// The network's input.
    Input,
    /// The output of a layer.
    Layer(&'a str),
    /// All weights and biases.
    Weights,
    /// The weights and biases of a layer and of those after it.
    WeightsFrom(&'a str),
}

/// An objective's value and gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// The objective's value.
    pub value: f64,
    /// The value of each term (for Loss: each head's mean cross-entropy without its weight).
    pub terms: Vec<f64>,
    /// The gradient with respect to the input or layer, (n, h, w, c); None where only weights were asked for.
    pub layer: Option<Tensor>,
    /// The gradients for weights and biases, in the layout of a model file (OIHW; (out, in) for dense layers).
    pub weights: Vec<NamedGradient>,
}

/// The gradient for one tensor of a model file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedGradient {
    pub name: String,
    pub dims: Vec<usize>,
    pub data: Vec<f32>,
}

impl Engine {
    /// The gradients of an objective.
    pub async fn gradient(&mut self, _: Input<'_>, _: &Objective<'_>, _: Wrt<'_>) -> Result<Gradients> {
        Err(Error::Argument("this build computes no gradients".into()))
    }
}
