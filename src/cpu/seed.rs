//! The values of an objective's terms, and their gradients, with which a backward run begins.

use super::view::{Out, View};
use crate::graph::tensor::Shape;
use crate::plan::backward::TermKind;

/// The gradient of a term with respect to its node.
pub struct Seed<'a> {
    pub kind: &'a TermKind,
    pub y: View<'a>,
    pub out: Out<'a>,
    pub add: bool,
}

#[allow(unsafe_code, reason = "the gradient's buffer is written")]
impl Seed<'_> {
    /// Writes the gradient, and returns the term's value without its weight. No other thread may access `out`.
    pub fn run(self) -> f64 {
        let Shape { h, w, .. } = self.y.shape;
        let mut value = 0.0;
        for p in 0..self.y.shape.pixels() {
            // SAFETY: no task is running.
            let (y, to) = (self.y.pixel(p), unsafe { self.out.pixel(p) });
            let mut set = |c: usize, v: f32| to[c] = if self.add { to[c] + v } else { v };
            match self.kind {
                TermKind::Channel { channel, weight } => {
                    (0..y.len()).for_each(|c| set(c, if c == *channel { *weight } else { 0.0 }));
                    value += f64::from(y[*channel]);
                }
                TermKind::Sum { weight } => {
                    (0..y.len()).for_each(|c| set(c, *weight));
                    value += y.iter().map(|&v| f64::from(v)).sum::<f64>();
                }
                TermKind::HalfSquares { weight } => {
                    y.iter().enumerate().for_each(|(c, v)| set(c, weight * v));
                    value += y.iter().map(|&v| f64::from(v) * f64::from(v) / 2.0).sum::<f64>();
                }
                TermKind::CrossEntropy { classes, weight, smoothing } => {
                    let class = classes.get(p / (h * w)).copied().unwrap_or(0);
                    let most = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let power = |v: f32| f64::from(v - most).exp();
                    let sum: f64 = y.iter().map(|&v| power(v)).sum();
                    let smoothing = f64::from(*smoothing);
                    for (c, &v) in y.iter().enumerate() {
                        let target = smoothing / y.len() as f64 + if c == class { 1.0 - smoothing } else { 0.0 };
                        set(c, (f64::from(*weight) * (power(v) / sum - target)) as f32);
                        if target > 0.0 {
                            value += target * (sum.ln() - f64::from(v - most));
                        }
                    }
                }
            }
        }
        value
    }
}
