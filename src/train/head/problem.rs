//! The objective of one fit, and its minimum.

use super::lbfgs::{History, Point, dot, search};
use super::products::{Features, multiply, multiply_transposed};

const MAX_ITERATIONS: usize = 2000;

/// Examples with their classes.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub features: Features<'a>,
    pub labels: &'a [usize],
    pub classes: usize,
}

/// The examples of one fit, and how their features are standardised.
pub(super) struct Problem<'a> {
    pub data: Data<'a>,
    /// The numbers of the examples.
    rows: Vec<usize>,
    mean: Vec<f64>,
    /// The standard deviation of each feature, or 1 for a feature that does not vary.
    scale: Vec<f64>,
}

#[derive(Clone)]
pub(super) struct Solution {
    /// The weights for standardised features, (classes, features), followed by the biases, (classes).
    pub parameters: Vec<f64>,
    /// The scores of the examples, before softmax, (examples, classes).
    scores: Vec<f64>,
}

impl Solution {
    pub fn zeros(problem: &Problem<'_>) -> Self {
        let Data { features, classes, .. } = problem.data;
        Solution {
            parameters: vec![0.0; classes * (features.width + 1)],
            scores: vec![0.0; problem.rows.len() * classes],
        }
    }
}

/// The loss of all examples along a direction, and its derivatives.
struct Along {
    loss: f64,
    slope: f64,
    curvature: f64,
}

impl<'a> Problem<'a> {
    pub fn new(data: Data<'a>, rows: Vec<usize>) -> Self {
        let width = data.features.width;
        let count = rows.len().max(1) as f64;
        let mut mean = vec![0.0; width];
        for &row in &rows {
            mean.iter_mut().zip(data.features.row(row)).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        mean.iter_mut().for_each(|sum| *sum /= count);
        let mut scale = vec![0.0; width];
        for &row in &rows {
            let values = data.features.row(row).iter().zip(&mean);
            scale.iter_mut().zip(values).for_each(|(sum, (&x, mean))| *sum += (f64::from(x) - mean).powi(2));
        }
        for (scale, mean) in scale.iter_mut().zip(&mean) {
            let deviation = (*scale / count).sqrt();
            // What rounding leaves of a feature that does not vary is not to be enlarged.
            *scale = if deviation > 1e-9 * mean.abs() && deviation > 1e-30 { deviation } else { 1.0 };
        }
        Problem { data, rows, mean, scale }
    }

    /// The product of standardised examples and weights, plus the biases, (examples, classes).
    pub fn scores(&self, parameters: &[f64], rows: &[usize], out: &mut [f64]) {
        let Data { features, classes, .. } = self.data;
        let (raw, bias) = self.unstandardised(parameters);
        multiply(features, rows, &raw, classes, out);
        for scores in out.chunks_exact_mut(classes) {
            scores.iter_mut().zip(&bias).for_each(|(score, bias)| *score += bias);
        }
    }

    /// Weights and biases for features that are not standardised.
    fn unstandardised(&self, parameters: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let width = self.data.features.width;
        let (weights, bias) = parameters.split_at(self.data.classes * width);
        let mut raw = weights.to_vec();
        let mut bias = bias.to_vec();
        for (raw, bias) in raw.chunks_exact_mut(width).zip(&mut bias) {
            raw.iter_mut().zip(&self.scale).for_each(|(w, scale)| *w /= scale);
            *bias -= dot(raw, &self.mean);
        }
        (raw, bias)
    }

    pub fn folded(&self, solution: &Solution) -> (Vec<f32>, Vec<f32>) {
        let (weights, bias) = self.unstandardised(&solution.parameters);
        let narrow = |values: Vec<f64>| values.into_iter().map(|v| v as f32).collect();
        (narrow(weights), narrow(bias))
    }

    /// The loss at `scores + step * direction` with its derivatives by the step. `residuals` gets the loss's gradient with
    /// respect to the scores: the probabilities, minus 1 for the right class.
    fn along(&self, scores: &[f64], direction: &[f64], step: f64, residuals: &mut [f64]) -> Along {
        let Data { labels, classes, .. } = self.data;
        let mut along = Along { loss: 0.0, slope: 0.0, curvature: 0.0 };
        let examples = scores.chunks_exact(classes).zip(direction.chunks_exact(classes));
        for ((&row, (s, d)), p) in self.rows.iter().zip(examples).zip(residuals.chunks_exact_mut(classes)) {
            let label = labels[row];
            for ((p, s), d) in p.iter_mut().zip(s).zip(d) {
                *p = s + step * d;
            }
            let largest = p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let of_label = p[label] - largest;
            let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
            for (p, d) in p.iter_mut().zip(d) {
                *p = (*p - largest).exp();
                sum += *p;
                first += *p * d;
                second += *p * d * d;
            }
            p.iter_mut().for_each(|p| *p /= sum);
            p[label] -= 1.0;
            let (first, second) = (first / sum, second / sum);
            along.loss += sum.ln() - of_label;
            along.slope += first - d[label];
            along.curvature += second - first * first;
        }
        along
    }

    /// The objective's gradient with respect to the parameters.
    fn gradient(&self, residuals: &[f64], parameters: &[f64], penalty: f64, gradient: &mut [f64]) {
        let Data { features, classes, .. } = self.data;
        let width = features.width;
        let (weights, bias) = gradient.split_at_mut(classes * width);
        multiply_transposed(features, &self.rows, residuals, classes, weights);
        bias.fill(0.0);
        for residuals in residuals.chunks_exact(classes) {
            bias.iter_mut().zip(residuals).for_each(|(sum, r)| *sum += r);
        }
        for ((g, w), bias) in weights.chunks_exact_mut(width).zip(parameters.chunks_exact(width)).zip(bias) {
            for (((g, w), mean), scale) in g.iter_mut().zip(w).zip(&self.mean).zip(&self.scale) {
                *g = (*g - *bias * mean) / scale + penalty * w;
            }
        }
    }

    /// Minimises the objective by L-BFGS, beginning at `solution`.
    ///
    /// Scores are linear in the parameters, so one product gives the scores along the whole search direction, and the line
    /// search needs no further products.
    ///
    /// Returns the number of iterations.
    pub fn minimise(&self, solution: &mut Solution, penalty: f64, tolerance: f64) -> usize {
        let weights = self.data.classes * self.data.features.width;
        let Solution { parameters, scores } = solution;
        let mut residuals = vec![0.0; scores.len()];
        let mut direction_scores = vec![0.0; scores.len()];
        let mut gradient = vec![0.0; parameters.len()];
        let mut before = gradient.clone();
        let mut history = History::default();
        let mut loss = self.along(scores, &direction_scores, 0.0, &mut residuals).loss;
        self.gradient(&residuals, parameters, penalty, &mut gradient);
        let small = tolerance * self.rows.len().max(1) as f64;

        for iteration in 0..MAX_ITERATIONS {
            if gradient.iter().all(|g| g.abs() <= small) {
                return iteration;
            }
            let mut direction = history.direction(&gradient);
            let mut slope = dot(&direction, &gradient);
            // Rounding can spoil what is known of the curvature. The gradient itself always leads down.
            if slope >= 0.0 {
                history.clear();
                direction = gradient.iter().map(|g| -g).collect();
                slope = dot(&direction, &gradient);
            }
            self.scores(&direction, &self.rows, &mut direction_scores);
            // The penalty along the direction is a parabola.
            let (w, d) = (&parameters[..weights], &direction[..weights]);
            let [ww, wd, dd] = [dot(w, w), dot(w, d), dot(d, d)].map(|product| penalty * product);
            let mut at = |step: f64| {
                let Along { loss, slope, curvature } = self.along(scores, &direction_scores, step, &mut residuals);
                let value = loss + 0.5 * (ww + step * (2.0 * wd + step * dd));
                (loss, Point { value, slope: slope + wd + step * dd, curvature: curvature + dd })
            };
            // After a first step, the length of the direction is known to be about right.
            let start = if history.is_empty() { None } else { Some(1.0) };
            let start = start.unwrap_or_else(|| -slope / at(0.0).1.curvature.max(f64::MIN_POSITIVE));
            let value = loss + 0.5 * ww;
            let Some((step, reached)) = search(value, slope, start, at) else { return iteration };

            loss = reached;
            for (w, d) in parameters.iter_mut().zip(&direction) {
                *w += step * d;
            }
            for (s, d) in scores.iter_mut().zip(&direction_scores) {
                *s += step * d;
            }
            std::mem::swap(&mut before, &mut gradient);
            self.gradient(&residuals, parameters, penalty, &mut gradient);
            let change: Vec<f64> = gradient.iter().zip(&before).map(|(g, b)| g - b).collect();
            direction.iter_mut().for_each(|d| *d *= step);
            history.push(direction, change);
        }
        MAX_ITERATIONS
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::plan::random::hash;

    const WIDTH: usize = 5;
    const CLASSES: usize = 3;

    fn value(seed: u32, i: usize) -> f32 {
        (f64::from(hash([seed, i as u32, 0])[0]) / 2f64.powi(31) - 1.0) as f32
    }

    /// Features of different sizes whose classes overlap.
    fn examples(count: usize) -> (Vec<f32>, Vec<usize>) {
        let label = |i: usize| hash([9, i as u32, 1])[0] as usize % CLASSES;
        let x = |i: usize| {
            let shift = if i % WIDTH == label(i / WIDTH) { 0.7 } else { 0.0 };
            (value(4, i) + shift) * 10f32.powi((i % WIDTH) as i32 - 2) + 3.0
        };
        ((0..count * WIDTH).map(x).collect(), (0..count).map(label).collect())
    }

    /// The gradient and the Hessian of the objective by plain loops over standardised features. The parameters are ordered
    /// as in [`Solution`].
    fn derivatives(x: &[f32], labels: &[usize], parameters: &[f64], penalty: f64) -> (Vec<f64>, Vec<Vec<f64>>) {
        let count = labels.len();
        let column = |f: usize| (0..count).map(move |i| f64::from(x[i * WIDTH + f]));
        let mean: Vec<f64> = (0..WIDTH).map(|f| column(f).sum::<f64>() / count as f64).collect();
        let variance = |f: usize| column(f).map(|x| (x - mean[f]).powi(2)).sum::<f64>() / count as f64;
        let deviation: Vec<f64> = (0..WIDTH).map(|f| variance(f).sqrt()).collect();
        let size = CLASSES * (WIDTH + 1);
        let mut gradient = vec![0.0; size];
        let mut hessian = vec![vec![0.0; size]; size];
        for i in 0..CLASSES * WIDTH {
            gradient[i] = penalty * parameters[i];
            hessian[i][i] = penalty;
        }
        for (i, &label) in labels.iter().enumerate() {
            let mut z: Vec<f64> = (0..WIDTH).map(|f| (f64::from(x[i * WIDTH + f]) - mean[f]) / deviation[f]).collect();
            z.push(1.0);
            let at = |c: usize, f: usize| if f == WIDTH { CLASSES * WIDTH + c } else { c * WIDTH + f };
            let scores = (0..CLASSES).map(|c| (0..=WIDTH).map(|f| parameters[at(c, f)] * z[f]).sum::<f64>().exp());
            let scores: Vec<f64> = scores.collect();
            let p: Vec<f64> = scores.iter().map(|s| s / scores.iter().sum::<f64>()).collect();
            for (c, f) in (0..CLASSES).flat_map(|c| (0..=WIDTH).map(move |f| (c, f))) {
                gradient[at(c, f)] += (p[c] - if c == label { 1.0 } else { 0.0 }) * z[f];
                for (d, g) in (0..CLASSES).flat_map(|d| (0..=WIDTH).map(move |g| (d, g))) {
                    let same = if c == d { p[c] } else { 0.0 };
                    hessian[at(c, f)][at(d, g)] += (same - p[c] * p[d]) * z[f] * z[g];
                }
            }
        }
        (gradient, hessian)
    }

    /// Solves a system of linear equations by Gauss's elimination.
    fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
        let size = right.len();
        for i in 0..size {
            let pivot = (i..size).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs())).unwrap();
            matrix.swap(i, pivot);
            right.swap(i, pivot);
            for row in i + 1..size {
                let factor = matrix[row][i] / matrix[i][i];
                let (above, below) = matrix.split_at_mut(row);
                below[0][i..].iter_mut().zip(&above[i][i..]).for_each(|(to, v)| *to -= factor * v);
                right[row] -= factor * right[i];
            }
        }
        for i in (0..size).rev() {
            let known: f64 = (i + 1..size).map(|j| matrix[i][j] * right[j]).sum();
            right[i] = (right[i] - known) / matrix[i][i];
        }
        right
    }

    /// Newton's method in small steps at first, until nothing changes.
    fn newton(x: &[f32], labels: &[usize], penalty: f64) -> Vec<f64> {
        let mut parameters = vec![0.0; CLASSES * (WIDTH + 1)];
        for round in 0..80 {
            let (gradient, mut hessian) = derivatives(x, labels, &parameters, penalty);
            // The same number can be added to all biases. Those with the sum zero are meant.
            for i in 0..CLASSES {
                for j in 0..CLASSES {
                    hessian[CLASSES * WIDTH + i][CLASSES * WIDTH + j] += 1.0;
                }
            }
            let step = if round < 20 { 0.3 } else { 1.0 };
            let change = solve(hessian, gradient);
            parameters.iter_mut().zip(change).for_each(|(p, change)| *p -= step * change);
        }
        parameters
    }

    fn largest(values: impl IntoIterator<Item = f64>) -> f64 {
        values.into_iter().fold(0.0, |most, v| v.abs().max(most))
    }

    fn difference(a: &[f64], b: &[f64]) -> f64 {
        largest(a.iter().zip(b).map(|(a, b)| a - b))
    }

    #[test]
    fn the_minimum_is_that_of_newtons_method() {
        let (x, labels) = examples(40);
        let data = Data { features: Features::new(&x, WIDTH).unwrap(), labels: &labels, classes: CLASSES };
        for penalty in [1000.0, 1.0, 1e-3] {
            let problem = Problem::new(data, (0..40).collect());
            let mut solution = Solution::zeros(&problem);
            problem.minimise(&mut solution, penalty, 1e-11);
            let expected = newton(&x, &labels, penalty);
            // The Hessian's smallest eigenvalue divides the tolerance of the gradient.
            assert!(difference(&solution.parameters, &expected) < 1e-6, "penalty {penalty}");
            let (gradient, _) = derivatives(&x, &labels, &solution.parameters, penalty);
            assert!(largest(gradient) < 1e-8, "penalty {penalty}");
            let other = newton(&x, &labels, penalty * 1.01);
            assert!(difference(&solution.parameters, &other) > 1e-6, "another penalty has the same minimum");
            // The scores that were carried along are those of the solution.
            let mut scores = vec![0.0; 40 * CLASSES];
            problem.scores(&solution.parameters, &problem.rows, &mut scores);
            assert!(difference(&scores, &solution.scores) < 1e-9);
        }
    }

    #[test]
    fn separable_classes_and_classes_without_examples_have_a_finite_solution() {
        // The class is the place of the only 1.
        let x: Vec<f32> = (0..20 * WIDTH).map(|i| if i % WIDTH == i / WIDTH % 2 { 1.0 } else { 0.0 }).collect();
        let labels: Vec<usize> = (0..20).map(|i| i % 2).collect();
        let data = Data { features: Features::new(&x, WIDTH).unwrap(), labels: &labels, classes: CLASSES };
        let problem = Problem::new(data, (0..20).collect());
        let mut solution = Solution::zeros(&problem);
        problem.minimise(&mut solution, 1e-4, 1e-9);
        let (weights, bias) = problem.folded(&solution);
        assert!(weights.iter().chain(&bias).all(|v| v.is_finite()));
        let mut residuals = vec![0.0; 20 * CLASSES];
        let flat = vec![0.0; 20 * CLASSES];
        assert!(problem.along(&solution.scores, &flat, 0.0, &mut residuals).loss < 0.01);
        // The features that do not vary have no influence.
        assert!(weights.chunks(WIDTH).all(|w| w[2..].iter().all(|&w| w == 0.0)));
        assert!(weights[0] > 0.1 && weights[1] < -0.1);
    }

    #[test]
    fn one_example_is_enough_to_run() {
        let (x, labels) = examples(1);
        let data = Data { features: Features::new(&x, WIDTH).unwrap(), labels: &labels, classes: CLASSES };
        let problem = Problem::new(data, vec![0]);
        let mut solution = Solution::zeros(&problem);
        problem.minimise(&mut solution, 1.0, 1e-7);
        assert!(solution.parameters.iter().all(|v| v.is_finite()));
    }
}
