//! The depth `head`: a multinomial logistic regression on the features of a finished network.
//!
//! The network's layers stay as they are, so each picture's features are computed once. What is left is a convex
//! problem with one solution, which L-BFGS finds from zeros (Nocedal and Wright, "Numerical Optimization", 2006, section
//! 7.2). With features x and labels y, the weights W and biases b minimise
//!
//! ```text
//! sum over examples of -ln softmax(W z(x) + b)[y]  +  penalty / 2 * (sum of the squares of W)
//! ```
//!
//! where z(x) is x with mean 0 and standard deviation 1 in each feature over the examples of the fit. A feature that does
//! not vary is only centred. The biases are not penalised. This is scikit-learn's `LogisticRegression` with
//! C = 1 / penalty after a `StandardScaler`; for two classes, where scikit-learn fits one row of weights in place of two,
//! it is C = 2 / penalty.
//!
//! The result is a dense layer for features that are not standardised.

mod lbfgs;
mod problem;
mod products;

use crate::error::{Error, Result};
use problem::{Data, Problem, Solution};
pub use products::Features;
use products::multiply;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// The fit ends when no element of the gradient of the objective, divided by the number of examples, is larger.
const TOLERANCE: f64 = 1e-7;
/// The same, for the fits that are only compared with each other to choose the penalty.
const COARSE: f64 = 1e-4;
/// When so many penalties in a row have been worse than the best, weaker ones are not tried.
const PATIENCE: usize = 2;

/// How a classifier is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The penalties to choose from. Default: 13 values from 10,000 to 0.01, two in each decade.
    pub penalties: Vec<f64>,
    /// Threads that fit folds at the same time. The result does not depend on it. Default: 1.
    pub threads: NonZeroUsize,
}

impl Default for Options {
    fn default() -> Self {
        let penalties = (-4..=8).rev().map(|half| 10f64.powf(f64::from(half) / 2.0)).collect();
        Options { penalties, threads: NonZeroUsize::MIN }
    }
}

/// A penalty, and how well the classifiers that were fitted with it predict examples that were held out.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Candidate {
    pub penalty: f64,
    /// The mean of -ln p over all examples, where p is the predicted probability of the example's class.
    pub cross_entropy: f64,
    /// The share of examples whose class has the highest probability.
    pub accuracy: f64,
}

/// A fitted classifier: a dense layer followed by softmax.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// (classes, features), for features that are not standardised.
    pub weights: Vec<f32>,
    /// (classes).
    pub bias: Vec<f32>,
    /// The chosen penalty, and its results on held-out examples.
    pub chosen: Candidate,
    /// All penalties that were tried, the strongest first.
    pub candidates: Vec<Candidate>,
    /// The probabilities of every example as they were predicted without it: by the classifier that was fitted, with the
    /// chosen penalty, on the examples of the other folds. (examples, classes).
    pub held_out: Vec<f32>,
    /// The number of iterations of all fits together. Each reads all features of the fit twice.
    pub iterations: usize,
}

/// Fits a classifier to all examples. `labels` has the class of each example, and `folds` the number of the fold (0, 1,
/// ...) in which it is held out.
///
/// The penalty is the one with the lowest cross-entropy on held-out examples. Penalties are tried from the strongest to
/// weaker ones, each fit starting from the one before, until two in a row were worse than the best. `watch` is called
/// after each. The same arguments give the same result, bit for bit, on the same machine.
///
/// Fails with [`Error::Argument`] where the arguments do not fit together, where there are fewer than two classes or two
/// folds, or where a penalty is not above zero.
pub fn fit(
    features: Features<'_>,
    labels: &[usize],
    classes: usize,
    folds: &[usize],
    options: &Options,
    mut watch: impl FnMut(&Candidate),
) -> Result<Head> {
    let count = check(features, labels, classes, folds, options)?;
    let data = Data { features, labels, classes };
    let mut folds: Vec<Fold<'_>> = (0..count).map(|fold| Fold::new(data, folds, fold)).collect();
    let mut penalties = options.penalties.clone();
    penalties.sort_by(|a, b| b.total_cmp(a));

    let mut candidates: Vec<Candidate> = Vec::new();
    let mut best: Option<Candidate> = None;
    let mut worse = 0;
    for penalty in penalties {
        for_each(options.threads, &mut folds, |fold| fold.fit(penalty, COARSE));
        let candidate = judge(&folds, penalty, labels.len());
        watch(&candidate);
        candidates.push(candidate);
        if best.is_none_or(|best| candidate.cross_entropy < best.cross_entropy) {
            (best, worse) = (Some(candidate), 0);
            folds.iter_mut().for_each(|fold| fold.best = fold.solution.clone());
        } else {
            worse += 1;
            if worse == PATIENCE {
                break;
            }
        }
    }
    let penalty = best.map_or(1.0, |best| best.penalty);
    for_each(options.threads, &mut folds, |fold| {
        fold.solution = fold.best.clone();
        fold.fit(penalty, TOLERANCE);
    });
    let mut held_out = vec![0.0; labels.len() * classes];
    for fold in &folds {
        for (&example, p) in fold.held_out.iter().zip(fold.probabilities.chunks_exact(classes)) {
            let to = &mut held_out[example * classes..][..classes];
            to.iter_mut().zip(p).for_each(|(to, &p)| *to = p as f32);
        }
    }
    let problem = Problem::new(data, (0..labels.len()).collect());
    let mut solution = Solution::zeros(&problem);
    let iterations = problem.minimise(&mut solution, penalty, TOLERANCE);
    let iterations = folds.iter().map(|fold| fold.iterations).sum::<usize>() + iterations;
    let (weights, bias) = problem.folded(&solution);
    Ok(Head { weights, bias, chosen: judge(&folds, penalty, labels.len()), candidates, held_out, iterations })
}

impl Head {
    /// The probabilities of each class, (examples, classes). Fails with [`Error::Argument`] where the features have
    /// another width than those of the fit.
    pub fn probabilities(&self, features: Features<'_>) -> Result<Vec<f32>> {
        let classes = self.bias.len();
        if features.width * classes != self.weights.len() {
            let reason =
                format!("the classifier reads {} features, not {}", self.weights.len() / classes, features.width);
            return Err(Error::Argument(reason));
        }
        let weights: Vec<f64> = self.weights.iter().map(|&w| f64::from(w)).collect();
        let rows: Vec<usize> = (0..features.len()).collect();
        let mut scores = vec![0.0; rows.len() * classes];
        multiply(features, &rows, &weights, classes, &mut scores);
        for scores in scores.chunks_exact_mut(classes) {
            scores.iter_mut().zip(&self.bias).for_each(|(score, &bias)| *score += f64::from(bias));
            softmax(scores);
        }
        Ok(scores.into_iter().map(|p| p as f32).collect())
    }
}

/// Checks the arguments of [`fit`], and returns the number of folds.
fn check(
    features: Features<'_>,
    labels: &[usize],
    classes: usize,
    folds: &[usize],
    options: &Options,
) -> Result<usize> {
    let fail = |reason: String| Err(Error::Argument(reason));
    let count = folds.iter().max().map_or(0, |&last| last + 1);
    if labels.len() != features.len() || folds.len() != labels.len() {
        return fail(format!("{} examples have {} labels and {} folds", features.len(), labels.len(), folds.len()));
    }
    if classes < 2 {
        return fail(format!("a classifier of {classes} classes has nothing to learn; at least two are needed"));
    }
    if let Some(label) = labels.iter().find(|&&label| label >= classes) {
        return fail(format!("there is a label {label}, but there are {classes} classes"));
    }
    if count < 2 || count > folds.len() || (0..count).any(|fold| !folds.contains(&fold)) {
        return fail("the examples must be divided into at least two folds, none of them empty".into());
    }
    if options.penalties.is_empty() || options.penalties.iter().any(|&p| !(p.is_finite() && p > 0.0)) {
        return fail("every penalty must be a finite number above zero".into());
    }
    Ok(count)
}

/// The results of all folds with the same penalty.
fn judge(folds: &[Fold<'_>], penalty: f64, examples: usize) -> Candidate {
    let (mut cross_entropy, mut right) = (0.0, 0);
    for fold in folds {
        let Data { labels, classes, .. } = fold.problem.data;
        for (&example, p) in fold.held_out.iter().zip(fold.probabilities.chunks_exact(classes)) {
            let label = labels[example];
            // A probability that was rounded to zero costs as much as the smallest number.
            cross_entropy -= p[label].max(f64::MIN_POSITIVE).ln();
            right += usize::from(most(p) == label);
        }
    }
    let examples = examples as f64;
    Candidate { penalty, cross_entropy: cross_entropy / examples, accuracy: right as f64 / examples }
}

/// The index of the largest value; the first of them where there are several.
fn most(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

/// Replaces scores by probabilities.
fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|s| *s = (*s - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// Calls `f` with each item once, on this many threads.
fn for_each<T: Send>(threads: NonZeroUsize, items: &mut [T], f: impl Fn(&mut T) + Sync) {
    let threads = threads.get().min(items.len());
    if threads == 1 {
        return items.iter_mut().for_each(f);
    }
    let items = Mutex::new(items.iter_mut());
    let worker = || {
        loop {
            // A statement of its own: in the condition of a `while let`, the lock would be held during the call.
            let next = items.lock().ok().and_then(|mut items| items.next());
            let Some(item) = next else { break };
            f(item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
}

/// One fold of the cross-validation: the problem of all other examples, and the predictions for the fold's own.
struct Fold<'a> {
    problem: Problem<'a>,
    solution: Solution,
    /// The solution for the best penalty so far.
    best: Solution,
    held_out: Vec<usize>,
    /// The predictions of `solution` for the examples that are held out, (held out, classes).
    probabilities: Vec<f64>,
    /// The number of iterations of all fits so far.
    iterations: usize,
}

impl<'a> Fold<'a> {
    fn new(data: Data<'a>, folds: &[usize], fold: usize) -> Self {
        let (held_out, rows): (Vec<usize>, Vec<usize>) = (0..folds.len()).partition(|&i| folds[i] == fold);
        let problem = Problem::new(data, rows);
        let solution = Solution::zeros(&problem);
        let probabilities = vec![0.0; held_out.len() * data.classes];
        Fold { problem, best: solution.clone(), solution, held_out, probabilities, iterations: 0 }
    }

    /// Fits the other examples, beginning at the present solution, and predicts those that are held out.
    fn fit(&mut self, penalty: f64, tolerance: f64) {
        self.iterations += self.problem.minimise(&mut self.solution, penalty, tolerance);
        self.problem.scores(&self.solution.parameters, &self.held_out, &mut self.probabilities);
        self.probabilities.chunks_exact_mut(self.problem.data.classes).for_each(softmax);
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::plan::random::hash;
    use crate::train::split;
    use std::time::Instant;

    const WIDTH: usize = 40;

    fn value(seed: u32, i: usize) -> f32 {
        (f64::from(hash([seed, i as u32, 0])[0]) / 2f64.powi(31) - 1.0) as f32
    }

    /// Examples of `classes` classes in turn. Each class has some features that are larger by `shift`.
    fn examples(count: usize, width: usize, classes: usize, shift: f32) -> (Vec<f32>, Vec<usize>) {
        let x = |i: usize| {
            let own = i % width % classes == i / width % classes && i % width < 4 * classes;
            value(1, i) + value(2, i) + if own { shift } else { 0.0 }
        };
        ((0..count * width).map(x).collect(), (0..count).map(|i| i % classes).collect())
    }

    fn fitted(x: &[f32], labels: &[usize], classes: usize, options: &Options) -> Head {
        let folds = split::folds(labels, &split::alone(labels.len()), 5, 0);
        fit(Features::new(x, x.len() / labels.len()).unwrap(), labels, classes, &folds, options, |_| {}).unwrap()
    }

    fn with(penalty: f64) -> Options {
        Options { penalties: vec![penalty], ..Options::default() }
    }

    #[test]
    fn the_gradient_at_the_solution_is_zero_as_plain_loops_compute_it() {
        let (x, labels) = examples(60, WIDTH, 3, 0.5);
        let mut head = fitted(&x, &labels, 3, &Options::default());
        let (x, examples, count) = (&x[..], labels.len(), labels.len() as f64);
        let column = |f: usize| (0..examples).map(move |i| f64::from(x[i * WIDTH + f]));
        let mean: Vec<f64> = (0..WIDTH).map(|f| column(f).sum::<f64>() / count).collect();
        let deviation = |f: usize| (column(f).map(|x| (x - mean[f]).powi(2)).sum::<f64>() / count).sqrt();
        let deviation: Vec<f64> = (0..WIDTH).map(deviation).collect();
        let gradient = |head: &Head| -> f64 {
            let p = head.probabilities(Features::new(x, WIDTH).unwrap()).unwrap();
            let mut most = 0f64;
            for c in 0..3 {
                let residual = |i: usize| f64::from(p[i * 3 + c]) - if labels[i] == c { 1.0 } else { 0.0 };
                most = most.max((0..labels.len()).map(residual).sum::<f64>().abs());
                for f in 0..WIDTH {
                    let z = column(f).map(|x| (x - mean[f]) / deviation[f]);
                    let loss: f64 = z.enumerate().map(|(i, z)| residual(i) * z).sum();
                    let weight = f64::from(head.weights[c * WIDTH + f]) * deviation[f];
                    most = most.max((loss + head.chosen.penalty * weight).abs());
                }
            }
            most / count
        };
        // Weights and probabilities are rounded to f32.
        assert!(gradient(&head) < 1e-6, "{}", gradient(&head));
        head.weights[7] += 0.001;
        assert!(gradient(&head) > 1e-6, "one weight changed, and the gradient is still zero");
    }

    #[test]
    fn held_out_predictions_do_not_know_their_own_examples() {
        // Labels without any relation to the features: with more features than examples, a weak penalty fits them all.
        let (x, _) = examples(30, WIDTH, 2, 0.0);
        let labels: Vec<usize> = (0..30).map(|i| (hash([3, i, 0])[0] >> 31) as usize).collect();
        let head = fitted(&x, &labels, 2, &with(1e-3));
        let right = |p: &[f32]| p.chunks(2).zip(&labels).filter(|(p, label)| p[**label] > 0.5).count();
        assert_eq!(right(&head.probabilities(Features::new(&x, WIDTH).unwrap()).unwrap()), 30);
        assert!(right(&head.held_out) < 22, "{} of 30 random labels were predicted", right(&head.held_out));
        assert_eq!(head.chosen.accuracy, right(&head.held_out) as f64 / 30.0);
        let sums = head.held_out.chunks(2).map(|p| p[0] + p[1]);
        assert!(sums.into_iter().all(|sum| (sum - 1.0).abs() < 1e-6));
    }

    #[test]
    fn noise_gets_a_strong_penalty_and_clear_classes_a_weak_one() {
        let (x, labels) = examples(90, WIDTH, 3, 2.5);
        let clear = fitted(&x, &labels, 3, &Options::default());
        assert!(clear.chosen.accuracy > 0.98 && clear.chosen.penalty < 10.0, "{:?}", clear.chosen);
        let mixed: Vec<usize> = (0..90).map(|i| hash([5, i, 0])[0] as usize % 3).collect();
        let noise = fitted(&x, &mixed, 3, &Options::default());
        assert!(noise.chosen.penalty > 300.0, "{:?}", noise.chosen);
        // It does not go on to penalties that can only be worse.
        assert!(noise.candidates.len() < 13, "{}", noise.candidates.len());
        assert!(noise.candidates.is_sorted_by(|a, b| a.penalty > b.penalty));
        let of_chosen = noise.candidates.iter().find(|c| c.penalty == noise.chosen.penalty).unwrap();
        assert!((of_chosen.cross_entropy - noise.chosen.cross_entropy).abs() < 1e-3);
    }

    #[test]
    fn the_result_repeats_on_any_number_of_threads_and_does_not_depend_on_units() {
        let (x, labels) = examples(50, WIDTH, 5, 0.8);
        let options = Options::default();
        let once = fitted(&x, &labels, 5, &options);
        assert_eq!(once, fitted(&x, &labels, 5, &options));
        let threads = NonZeroUsize::new(3).unwrap();
        assert_eq!(once, fitted(&x, &labels, 5, &Options { threads, ..options.clone() }));

        let scaled: Vec<f32> =
            x.iter().enumerate().map(|(i, x)| if i % WIDTH == 1 { x * 1024.0 } else { *x }).collect();
        let other = fitted(&scaled, &labels, 5, &options);
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(near(&once.held_out, &other.held_out));
        assert!((once.weights[1] - 1024.0 * other.weights[1]).abs() < 1e-4);
        let (less, _) = examples(50, WIDTH, 5, 0.79);
        assert!(!near(&once.held_out, &fitted(&less, &labels, 5, &options).held_out));
    }

    #[test]
    fn arguments_that_do_not_fit_are_errors() {
        let (x, labels) = examples(10, WIDTH, 2, 1.0);
        let features = Features::new(&x, WIDTH).unwrap();
        let folds: Vec<usize> = (0..10).map(|i| i / 5).collect();
        let fails = |labels: &[usize], classes, folds: &[usize], options: &Options, part: &str| {
            let error = fit(features, labels, classes, folds, options, |_| {}).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        let usual = Options::default();
        fails(&labels[1..], 2, &folds, &usual, "9 labels");
        fails(&labels, 1, &folds, &usual, "at least two are needed");
        fails(&[7; 10], 2, &folds, &usual, "a label 7");
        fails(&labels, 2, &[0; 10], &usual, "at least two folds");
        fails(&labels, 2, &[0, 2, 0, 2, 0, 2, 0, 2, 0, 2], &usual, "none of them empty");
        fails(&labels, 2, &[0, usize::MAX - 1, 0, 2, 0, 2, 0, 2, 0, 2], &usual, "none of them empty");
        fails(&labels, 2, &folds, &with(0.0), "above zero");
        fails(&labels, 2, &folds, &with(f64::NAN), "above zero");
        let head = fit(features, &labels, 2, &folds, &usual, |_| {}).unwrap();
        assert!(head.probabilities(Features::new(&x, 2 * WIDTH).unwrap()).is_err());
    }

    /// The size that the documents name: 1000 pictures with GoogLeNet's 1024 features. An iteration takes about 2 ms.
    #[test]
    fn a_thousand_pictures_take_few_iterations() {
        for classes in [4, 10] {
            let (x, labels) = examples(1000, 1024, classes, 0.3);
            let start = Instant::now();
            let head = fitted(&x, &labels, classes, &Options::default());
            println!("{classes} classes: {} iterations, {:.2} s", head.iterations, start.elapsed().as_secs_f64());
            assert!(head.iterations < 250, "{}", head.iterations);
        }
    }
}
