//! Optimisers: how one step of training changes the weights of a tensor.
//!
//! A step works on each element by itself. Threads may therefore call it for parts of a tensor, with the same parts of
//! the gradient and of the state, and get the same bits as one call for the whole tensor.

use crate::error::{Error, Result};
use crate::plan::numbers;
use std::fmt;
use std::str::FromStr;

/// The method that turns gradients into steps. `g` is the gradient, `w` a weight, and all other values start at 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimiser {
    /// Stochastic gradient descent with momentum, as `torch.optim.SGD` computes it: `g += decay * w`,
    /// `v = momentum * v + g`, `w -= rate * v`; with Nesterov's momentum `w -= rate * (g + momentum * v)`.
    ///
    /// Caffe and Keras multiply by the rate before the momentum (`v = momentum * v + rate * g`, `w -= v`). Both are the
    /// same while the rate stays the same.
    Sgd { momentum: f32, nesterov: bool },
    /// Adam (Kingma and Ba, ICLR 2015) with decoupled weight decay (AdamW, Loshchilov and Hutter, ICLR 2019), as
    /// `torch.optim.AdamW` computes it: `w *= 1 - rate * decay`, `m = beta1 * m + (1 - beta1) * g`,
    /// `v = beta2 * v + (1 - beta2) * g * g`, and in step `t`, counted from 1,
    /// `w -= rate * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)`.
    Adam { beta1: f32, beta2: f32, epsilon: f32 },
}

impl Optimiser {
    /// Adam with the constants of its paper.
    pub const ADAM: Optimiser = Optimiser::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

    /// The number of values that are kept for each weight between steps: 1 for SGD, 2 for Adam.
    pub fn states(self) -> usize {
        match self {
            Optimiser::Sgd { .. } => 1,
            Optimiser::Adam { .. } => 2,
        }
    }
}

/// SGD with a momentum of 0.9, as Caffe's GoogLeNet was trained.
impl Default for Optimiser {
    fn default() -> Self {
        Optimiser::Sgd { momentum: 0.9, nesterov: false }
    }
}

/// Reads `sgd[:momentum]`, `nesterov[:momentum]` or `adam[:beta1[:beta2[:epsilon]]]`.
impl FromStr for Optimiser {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.split(':').next().unwrap_or_default();
        match name {
            "sgd" | "nesterov" => {
                let mut momentum = [0.9];
                numbers::parse(text, &mut momentum)?;
                Ok(Optimiser::Sgd { momentum: momentum[0] as f32, nesterov: name == "nesterov" })
            }
            "adam" => {
                let mut constants = [0.9, 0.999, 1e-8];
                numbers::parse(text, &mut constants)?;
                let [beta1, beta2, epsilon] = constants.map(|v| v as f32);
                Ok(Optimiser::Adam { beta1, beta2, epsilon })
            }
            _ => Err(Error::Argument(format!("\"{name}\" is not an optimiser; there are sgd, nesterov and adam"))),
        }
    }
}

impl fmt::Display for Optimiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Optimiser::Sgd { momentum, nesterov: false } => write!(f, "sgd:{momentum}"),
            Optimiser::Sgd { momentum, nesterov: true } => write!(f, "nesterov:{momentum}"),
            Optimiser::Adam { beta1, beta2, epsilon } => write!(f, "adam:{beta1}:{beta2}:{epsilon}"),
        }
    }
}

/// How the biases of layers learn. Their weights are never decayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Biases {
    /// At twice the rate, as in Caffe's `train_val.prototxt` of GoogLeNet.
    #[default]
    Caffe,
    /// At the same rate as weights.
    Plain,
}

impl FromStr for Biases {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "caffe" => Ok(Biases::Caffe),
            "plain" => Ok(Biases::Plain),
            _ => Err(Error::Argument(format!("\"{text}\" is not a way to train biases; there are caffe and plain"))),
        }
    }
}

impl fmt::Display for Biases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Biases::Caffe => "caffe",
            Biases::Plain => "plain",
        })
    }
}

/// A tensor that is kept for each weight and bias while they are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Values,
    /// The optimiser's first state.
    First,
    /// The optimiser's second state.
    Second,
    /// The moving average of the values.
    Average,
}

impl Kept {
    pub const ALL: [Kept; 4] = [Kept::Values, Kept::First, Kept::Second, Kept::Average];
}

/// What a tensor of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Weight,
    Bias,
}

/// How the tensors of a network are trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    pub optimiser: Optimiser,
    /// The factor of L2 regularisation (SGD) or of decoupled weight decay (Adam), for weights but not for biases.
    pub weight_decay: f32,
    pub biases: Biases,
}

/// SGD with the constants of Caffe's GoogLeNet: momentum 0.9, weight decay 2e-4 and biases at twice the rate.
impl Default for Rule {
    fn default() -> Self {
        Rule { optimiser: Optimiser::default(), weight_decay: 2e-4, biases: Biases::Caffe }
    }
}

impl Rule {
    /// Checks that all numbers are in their ranges. Fails with [`Error::Argument`] otherwise.
    pub fn check(&self) -> Result<()> {
        let below_1 = |v: f32| (0.0..1.0).contains(&v);
        let reason = match self.optimiser {
            Optimiser::Sgd { momentum, .. } if !below_1(momentum) => "the momentum must be from 0 to less than 1",
            Optimiser::Adam { beta1, beta2, .. } if !below_1(beta1) || !below_1(beta2) => {
                "the two betas of Adam must be from 0 to less than 1"
            }
            Optimiser::Adam { epsilon, .. } if !(epsilon > 0.0 && epsilon.is_finite()) => {
                "the epsilon of Adam must be greater than 0"
            }
            _ if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) => {
                "the weight decay must not be negative"
            }
            _ => return Ok(()),
        };
        Err(Error::Argument(reason.into()))
    }

    /// The constants of a step of one tensor. `rate` is the learning rate, `step` the number of the step, counted from
    /// 0, and `scale` a factor for the gradient: the reciprocal of the number of micro-batches whose gradients were
    /// added, times the factor of [`clip`].
    pub fn step(&self, role: Role, rate: f64, step: u64, scale: f64) -> Step {
        let (rate, decay) = match (role, self.biases) {
            (Role::Weight, _) => (rate, f64::from(self.weight_decay)),
            (Role::Bias, Biases::Caffe) => (2.0 * rate, 0.0),
            (Role::Bias, Biases::Plain) => (rate, 0.0),
        };
        let kind = match self.optimiser {
            Optimiser::Sgd { momentum, nesterov } => {
                Kind::Sgd { rate: rate as f32, decay: decay as f32, momentum, nesterov }
            }
            Optimiser::Adam { beta1, beta2, epsilon } => {
                let t = step as f64 + 1.0;
                let rest = |beta: f32| (1.0 - f64::from(beta)) as f32;
                let sum = |beta: f32| 1.0 - f64::from(beta).powf(t);
                Kind::Adam {
                    keep: (1.0 - rate * decay) as f32,
                    rate: (rate / sum(beta1)) as f32,
                    root: sum(beta2).sqrt().recip() as f32,
                    betas: [beta1, beta2],
                    rests: [rest(beta1), rest(beta2)],
                    epsilon,
                }
            }
        };
        Step { scale: scale as f32, kind }
    }
}

/// The constants of a step of one tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    scale: f32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Sgd {
        rate: f32,
        decay: f32,
        momentum: f32,
        nesterov: bool,
    },
    /// `rests` is 1 minus each of the betas. `rate` and `root` contain the corrections of the bias towards 0.
    Adam {
        keep: f32,
        rate: f32,
        root: f32,
        betas: [f32; 2],
        rests: [f32; 2],
        epsilon: f32,
    },
}

impl Step {
    /// The number of states that the step needs.
    pub fn states(&self) -> usize {
        match self.kind {
            Kind::Sgd { .. } => 1,
            Kind::Adam { .. } => 2,
        }
    }

    /// Changes the weights of a tensor, or of a part of it, and the state, which is 0 before the first step. `second` is
    /// empty for an optimiser with one state. Panics if the slices do not have the same length.
    pub fn apply(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let n = weights.len();
        assert!(gradient.len() == n && first.len() == n, "the slices must have the same length");
        let scale = self.scale;
        // The loops have neither calls nor branches, so that the compiler makes vector instructions of them.
        match self.kind {
            Kind::Sgd { rate, decay, momentum, nesterov: false } => {
                for ((w, g), v) in weights.iter_mut().zip(gradient).zip(first) {
                    *v = momentum * *v + (scale * g + decay * *w);
                    *w -= rate * *v;
                }
            }
            Kind::Sgd { rate, decay, momentum, nesterov: true } => {
                for ((w, g), v) in weights.iter_mut().zip(gradient).zip(first) {
                    let g = scale * g + decay * *w;
                    *v = momentum * *v + g;
                    *w -= rate * (g + momentum * *v);
                }
            }
            Kind::Adam { keep, rate, root, betas, rests, epsilon } => {
                assert!(second.len() == n, "Adam needs a second state");
                for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
                    let g = scale * g;
                    *m = betas[0] * *m + rests[0] * g;
                    *v = betas[1] * *v + rests[1] * (g * g);
                    *w = keep * *w - rate * *m / (v.sqrt() * root + epsilon);
                }
            }
        }
    }
}

/// The number of values whose squares are summed together, see [`squares`].
pub const BLOCK: usize = 4096;

/// Writes the sum of the squares of each [`BLOCK`] values; the last block may be shorter. Threads may share the blocks of
/// a tensor, since a block's sum does not depend on other blocks. Panics if `sums` does not have one element for each
/// block.
pub fn squares(values: &[f32], sums: &mut [f64]) {
    assert_eq!(sums.len(), values.len().div_ceil(BLOCK), "there must be a sum for each block");
    for (sum, block) in sums.iter_mut().zip(values.chunks(BLOCK)) {
        *sum = block_squares(block);
    }
}

/// The sum of the squares of a tensor: the sums that [`squares`] writes, added in their order.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    values.chunks(BLOCK).map(block_squares).sum()
}

fn block_squares(block: &[f32]) -> f64 {
    // Several sums at a time, because each addition of a single sum would have to wait for the one before it.
    let mut sums = [0f64; 8];
    let (chunks, rest) = block.as_chunks::<8>();
    for chunk in chunks {
        for (sum, &v) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(v) * f64::from(v);
        }
    }
    for (sum, &v) in sums.iter_mut().zip(rest) {
        *sum += f64::from(v) * f64::from(v);
    }
    sums.iter().sum()
}

/// The factor by which gradients are multiplied so that their global norm is at most `limit`: 1, or less where the norm
/// is greater. `squares` is the sum of the squares of all gradients after they were multiplied by the scale of the step.
/// Without a limit the factor is 1.
///
/// Fails with [`Error::Argument`] where the norm is not finite: a step with these gradients would destroy the weights.
pub fn clip(squares: f64, limit: Option<f64>) -> Result<f64> {
    let norm = squares.sqrt();
    if !norm.is_finite() {
        return Err(Error::Argument(
            "the gradients are not finite, so the training has diverged; try a lower learning rate, or limit the \
             norm of the gradients"
                .into(),
        ));
    }
    Ok(match limit {
        Some(limit) if norm > limit => limit / norm,
        _ => 1.0,
    })
}

/// The decay of an exponential moving average after `step` steps, counted from 0: `min(decay, (1 + step) / (10 + step))`,
/// so that the average forgets the first weights quickly (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
pub fn average_decay(decay: f64, step: u64) -> f64 {
    let step = step as f64;
    decay.min((1.0 + step) / (10.0 + step))
}

/// Moves an exponential moving average towards the weights: `average = decay * average + (1 - decay) * weights`. Panics
/// if the slices do not have the same length.
pub fn average(average: &mut [f32], weights: &[f32], decay: f64) {
    assert_eq!(average.len(), weights.len(), "the slices must have the same length");
    let rest = (1.0 - decay) as f32;
    for (a, w) in average.iter_mut().zip(weights) {
        *a += rest * (w - *a);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: usize = 37;

    /// Values between -1 and 1 that differ from each other.
    fn values(seed: u64, n: usize) -> Vec<f32> {
        (0..n as u64).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    /// Trains for some steps with gradients that depend on the step, and returns the weights.
    fn train(rule: Rule, role: Role, rates: &[f64], scale: f64) -> Vec<f32> {
        let (mut weights, mut m, mut v) = (values(0, N), vec![0.0; N], vec![0.0; N]);
        for (step, &rate) in rates.iter().enumerate() {
            let gradient = values(step as u64 + 1, N);
            let second = if rule.optimiser.states() == 2 { &mut v[..] } else { &mut [] };
            rule.step(role, rate, step as u64, scale).apply(&mut weights, &gradient, &mut m, second);
        }
        weights
    }

    /// The same in f64, by PyTorch's documented formulas, for (w, g, state, step, rate) -> w.
    fn reference(rates: &[f64], scale: f64, update: impl Fn(f64, f64, &mut [f64; 2], i32, f64) -> f64) -> Vec<f64> {
        let mut all: Vec<(f64, [f64; 2])> = values(0, N).into_iter().map(|w| (w.into(), [0.0; 2])).collect();
        for (step, &rate) in rates.iter().enumerate() {
            for ((w, state), g) in all.iter_mut().zip(values(step as u64 + 1, N)) {
                *w = update(*w, f64::from(g) * scale, state, step as i32 + 1, rate);
            }
        }
        all.into_iter().map(|(w, _)| w).collect()
    }

    /// The largest difference.
    fn distance(got: &[f32], want: &[f64]) -> f64 {
        got.iter().zip(want).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
    }

    /// Rounding to f32 in every step, of values around 1.
    const ROUNDING: f64 = 1e-6;
    const RATES: [f64; 6] = [0.1, 0.1, 0.05, 0.05, 0.2, 0.01];

    fn sgd_in_f64(decay: f64, momentum: f64, nesterov: bool, factor: f64, scale: f64) -> Vec<f64> {
        reference(&RATES, scale, |w, g, [v, _], step, rate| {
            let g = g + decay * w;
            *v = if step == 1 { g } else { momentum * *v + g };
            let g = if nesterov { g + momentum * *v } else { *v };
            w - factor * rate * g
        })
    }

    #[test]
    fn sgd_is_pytorchs() {
        for nesterov in [false, true] {
            for momentum in [0.0f32, 0.9] {
                let optimiser = Optimiser::Sgd { momentum, nesterov };
                let rule = Rule { optimiser, weight_decay: 0.03, biases: Biases::Caffe };
                let exact = f64::from(momentum);
                let decay = f64::from(rule.weight_decay);
                let weights = train(rule, Role::Weight, &RATES, 0.25);
                assert!(distance(&weights, &sgd_in_f64(decay, exact, nesterov, 1.0, 0.25)) < ROUNDING);
                let biases = train(rule, Role::Bias, &RATES, 0.25);
                assert!(distance(&biases, &sgd_in_f64(0.0, exact, nesterov, 2.0, 0.25)) < ROUNDING);
                let plain = train(Rule { biases: Biases::Plain, ..rule }, Role::Bias, &RATES, 0.25);
                assert!(distance(&plain, &sgd_in_f64(0.0, exact, nesterov, 1.0, 0.25)) < ROUNDING);
                // Each of the constants makes a difference.
                for other in [
                    sgd_in_f64(0.0, exact, nesterov, 1.0, 0.25),
                    sgd_in_f64(decay, exact + 0.01, nesterov, 1.0, 0.25),
                    sgd_in_f64(decay, exact, nesterov, 2.0, 0.25),
                    sgd_in_f64(decay, exact, nesterov, 1.0, 0.2),
                ] {
                    assert!(distance(&weights, &other) > 100.0 * ROUNDING);
                }
                if momentum > 0.0 {
                    assert!(distance(&weights, &sgd_in_f64(decay, exact, !nesterov, 1.0, 0.25)) > 1e-3);
                }
            }
        }
    }

    /// Two steps that were computed by hand.
    #[test]
    fn two_steps_by_hand() {
        let rule = Rule { weight_decay: 0.5, ..Rule::default() };
        let (mut w, mut v) = ([2.0], [0.0]);
        // g = 1 + 0.5 * 2 = 2; v = 2; w = 2 - 0.1 * 2
        rule.step(Role::Weight, 0.1, 0, 1.0).apply(&mut w, &[1.0], &mut v, &mut []);
        assert!((v[0] - 2.0).abs() < 1e-6 && (w[0] - 1.8).abs() < 1e-6);
        // g = -1 + 0.5 * 1.8 = -0.1; v = 0.9 * 2 - 0.1 = 1.7; w = 1.8 - 0.2 * 1.7
        rule.step(Role::Weight, 0.2, 1, 1.0).apply(&mut w, &[-1.0], &mut v, &mut []);
        assert!((v[0] - 1.7).abs() < 1e-6 && (w[0] - 1.46).abs() < 1e-6);

        // The first step of Adam is the rate, whatever the size of the gradient.
        let rule = Rule { optimiser: Optimiser::ADAM, weight_decay: 0.0, ..rule };
        for g in [1e-3, 70.0] {
            let (mut w, mut m, mut v) = ([2.0], [0.0], [0.0]);
            rule.step(Role::Weight, 0.1, 0, 1.0).apply(&mut w, &[g], &mut m, &mut v);
            assert!((w[0] - 1.9).abs() < 1e-5, "{}", w[0]);
        }
    }

    fn adam_in_f64(decay: f64, [beta1, beta2, epsilon]: [f64; 3], factor: f64) -> Vec<f64> {
        reference(&RATES, 0.25, |w, g, [m, v], step, rate| {
            let w = w - factor * rate * decay * w;
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let (m, v) = (*m / (1.0 - beta1.powi(step)), *v / (1.0 - beta2.powi(step)));
            w - factor * rate * m / (v.sqrt() + epsilon)
        })
    }

    #[test]
    fn adam_is_pytorchs() {
        let optimiser = Optimiser::Adam { beta1: 0.8, beta2: 0.95, epsilon: 1e-3 };
        let rule = Rule { optimiser, weight_decay: 0.03, biases: Biases::Caffe };
        let (decay, constants) = (f64::from(rule.weight_decay), [0.8, 0.95, 1e-3]);
        let weights = train(rule, Role::Weight, &RATES, 0.25);
        assert!(distance(&weights, &adam_in_f64(decay, constants, 1.0)) < 2.0 * ROUNDING);
        let biases = train(rule, Role::Bias, &RATES, 0.25);
        assert!(distance(&biases, &adam_in_f64(0.0, constants, 2.0)) < 2.0 * ROUNDING);
        for (decay, constants) in
            [(0.0, constants), (decay, [0.81, 0.95, 1e-3]), (decay, [0.8, 0.96, 1e-3]), (decay, [0.8, 0.95, 2e-2])]
        {
            assert!(distance(&weights, &adam_in_f64(decay, constants, 1.0)) > 1e-4);
        }
    }

    #[test]
    fn parts_of_a_tensor_give_the_same_bits() {
        for optimiser in [Optimiser::default(), Optimiser::Sgd { momentum: 0.9, nesterov: true }, Optimiser::ADAM] {
            let step = Rule { optimiser, ..Rule::default() }.step(Role::Weight, 0.1, 3, 0.3);
            let state = || (values(0, 1000), values(2, 1000), values(3, 1000).into_iter().map(f32::abs).collect());
            let gradient = values(1, 1000);
            let (mut w, mut m, mut v): (Vec<f32>, Vec<f32>, Vec<f32>) = state();
            let whole = if optimiser.states() == 2 { &mut v[..] } else { &mut [] };
            step.apply(&mut w, &gradient, &mut m, whole);
            let (mut w2, mut m2, mut v2): (Vec<f32>, Vec<f32>, Vec<f32>) = state();
            for part in [0..3, 3..517, 517..1000] {
                let second = if optimiser.states() == 2 { &mut v2[part.clone()] } else { &mut [] };
                step.apply(&mut w2[part.clone()], &gradient[part.clone()], &mut m2[part], second);
            }
            assert!(w == w2 && m == m2 && v == v2, "{optimiser}");
            assert!(w != state().0);
        }
    }

    #[test]
    fn the_norm_has_a_fixed_order() {
        let values = values(5, 3 * BLOCK + 100);
        let exact: f64 = values.iter().map(|&v| f64::from(v).powi(2)).sum();
        let sum = sum_of_squares(&values);
        // The order of 12,388 additions in f64 changes the last bits.
        assert!((sum / exact - 1.0).abs() < 1e-12);
        // Two threads that share the blocks.
        let mut sums = [0.0; 4];
        let (left, right) = sums.split_at_mut(1);
        squares(&values[BLOCK..], right);
        squares(&values[..BLOCK], left);
        assert_eq!(sums.iter().sum::<f64>().to_bits(), sum.to_bits());
        assert_ne!(sum_of_squares(&values[1..]), sum);
        // The squares of the largest f32 do not overflow.
        assert_eq!(sum_of_squares(&[f32::MAX]), f64::from(f32::MAX).powi(2));
    }

    #[test]
    fn clipping_limits_the_norm() {
        assert_eq!(clip(25.0, None).unwrap(), 1.0);
        assert_eq!(clip(25.0, Some(5.0)).unwrap(), 1.0);
        assert_eq!(clip(25.0, Some(2.0)).unwrap(), 0.4);
        for bad in [f32::NAN, f32::INFINITY] {
            let error = clip(sum_of_squares(&[1.0, bad]), Some(1.0)).unwrap_err();
            assert!(error.to_string().starts_with("the gradients are not finite"), "{error}");
            assert!(clip(sum_of_squares(&[bad]), None).is_err());
        }
    }

    #[test]
    fn the_average_follows_the_weights() {
        assert_eq!([0, 90].map(|step| average_decay(0.999, step)), [0.1, 0.91]);
        assert_eq!(average_decay(0.999, 1_000_000), 0.999);
        let mut a = [1.0, 2.0];
        average(&mut a, &[2.0, 0.0], 0.75);
        assert_eq!(a, [1.25, 1.5]);
        // Weights that stay the same become the average.
        for step in 0..500 {
            average(&mut a, &[3.0, -1.0], average_decay(0.9, step));
        }
        assert!((a[0] - 3.0).abs() < 1e-6 && (a[1] + 1.0).abs() < 1e-6);
    }

    #[test]
    fn options_are_read_and_written() {
        for text in ["sgd:0.9", "sgd:0", "nesterov:0.95", "adam:0.9:0.999:0.00000001", "adam:0.5:0.9:0.001"] {
            assert_eq!(text.parse::<Optimiser>().unwrap().to_string(), text);
        }
        assert_eq!("sgd".parse(), Ok(Optimiser::default()));
        assert_eq!("nesterov".parse(), Ok(Optimiser::Sgd { momentum: 0.9, nesterov: true }));
        assert_eq!("adam".parse(), Ok(Optimiser::ADAM));
        let wrong = "lbfgs".parse::<Optimiser>().unwrap_err().to_string();
        assert_eq!(wrong, "\"lbfgs\" is not an optimiser; there are sgd, nesterov and adam");
        assert!("sgd:0.9:1".parse::<Optimiser>().is_err());
        for biases in [Biases::Caffe, Biases::Plain] {
            assert_eq!(biases.to_string().parse(), Ok(biases));
        }
        assert!("none".parse::<Biases>().is_err());

        assert_eq!(Rule::default().check(), Ok(()));
        for (optimiser, weight_decay, word) in [
            (Optimiser::Sgd { momentum: 1.0, nesterov: false }, 0.0, "momentum"),
            (Optimiser::Sgd { momentum: f32::NAN, nesterov: false }, 0.0, "momentum"),
            (Optimiser::Adam { beta1: 0.9, beta2: -0.1, epsilon: 1e-8 }, 0.0, "betas"),
            (Optimiser::Adam { beta1: 0.9, beta2: 0.9, epsilon: 0.0 }, 0.0, "epsilon"),
            (Optimiser::default(), -1.0, "weight decay"),
            (Optimiser::ADAM, f32::INFINITY, "weight decay"),
        ] {
            let error = Rule { optimiser, weight_decay, ..Rule::default() }.check().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
