//! How the learning rate changes during training, and a search for a good learning rate.

use crate::error::{Error, Result};
use crate::plan::numbers;
use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

/// How the learning rate depends on the step. All schedules but one-cycle and the warm-up of cosine begin with the base
/// rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The base rate in every step.
    Constant,
    /// `base * gamma^floor(epoch / every)`. The defaults, 0.96 and 8 epochs, are those of the GoogLeNet paper (section 6)
    /// and of Caffe's `solver.prototxt`.
    Step { gamma: f64, every: f64 },
    /// `base * (1 - step / total)^power`. The default, 0.5, is that of Caffe's `quick_solver.prototxt`.
    Polynomial { power: f64 },
    /// Smith and Topin, "Super-convergence" (2017), in the form of fastai: half a cosine from `base / start` up to the
    /// base rate during the share `warm_up` of all steps, then half a cosine down to `base / end`. The defaults are 0.3,
    /// 25 and 1e4. (PyTorch's `OneCycleLR` divides by `start * end` instead.)
    OneCycle { warm_up: f64, start: f64, end: f64 },
    /// A rate that rises in a straight line to the base rate during the share `warm_up` of all steps, 0.05 by default,
    /// and then falls to 0 along half a cosine (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts).
    Cosine { warm_up: f64 },
}

impl Schedule {
    /// The schedules with their default numbers.
    pub const ALL: [Schedule; 5] = [
        Schedule::Constant,
        Schedule::Step { gamma: 0.96, every: 8.0 },
        Schedule::Polynomial { power: 0.5 },
        Schedule::OneCycle { warm_up: 0.3, start: 25.0, end: 1e4 },
        Schedule::Cosine { warm_up: 0.05 },
    ];

    /// The name that the command line uses.
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Constant => "constant",
            Schedule::Step { .. } => "step",
            Schedule::Polynomial { .. } => "polynomial",
            Schedule::OneCycle { .. } => "one-cycle",
            Schedule::Cosine { .. } => "cosine",
        }
    }

    /// The numbers that follow the name, and how many there are.
    fn numbers(self) -> ([f64; 3], usize) {
        match self {
            Schedule::Constant => ([0.0; 3], 0),
            Schedule::Step { gamma, every } => ([gamma, every, 0.0], 2),
            Schedule::Polynomial { power } => ([power, 0.0, 0.0], 1),
            Schedule::OneCycle { warm_up, start, end } => ([warm_up, start, end], 3),
            Schedule::Cosine { warm_up } => ([warm_up, 0.0, 0.0], 1),
        }
    }

    /// Checks that all numbers are in their ranges. Fails with [`Error::Argument`] otherwise.
    pub fn check(self) -> Result<()> {
        let share = |v: f64| (0.0..1.0).contains(&v);
        let positive = |v: f64| v > 0.0 && v.is_finite();
        let reason = match self {
            Schedule::Step { gamma, every } if !positive(gamma) || gamma > 1.0 || !positive(every) => {
                "its factor must be greater than 0 and at most 1, and its number of epochs greater than 0"
            }
            Schedule::Polynomial { power } if !positive(power) => "its power must be greater than 0",
            Schedule::OneCycle { warm_up, .. } | Schedule::Cosine { warm_up } if !share(warm_up) => {
                "its warm-up is a share of all steps, from 0 to less than 1"
            }
            Schedule::OneCycle { start, end, .. } if !positive(start) || !positive(end) => {
                "its two divisors must be greater than 0"
            }
            _ => return Ok(()),
        };
        Err(Error::Argument(format!("the schedule \"{self}\" is not possible: {reason}")))
    }

    /// The learning rate of a step, counted from 0, of `total` steps. An epoch has `per_epoch` steps.
    pub fn rate(self, base: f64, step: u64, total: u64, per_epoch: u64) -> f64 {
        let (total, per_epoch) = (total.max(1) as f64, per_epoch.max(1) as f64);
        let step = (step as f64).min(total);
        // From 1 to 0 along half a cosine while `t` goes from 0 to 1.
        let fall = |t: f64| 0.5 + 0.5 * (PI * t).cos();
        match self {
            Schedule::Constant => base,
            Schedule::Step { gamma, every } => base * gamma.powf((step / (per_epoch * every)).floor()),
            Schedule::Polynomial { power } => base * (1.0 - step / total).powf(power),
            Schedule::OneCycle { warm_up, start, end } => {
                let peak = warm_up * total;
                if step < peak {
                    base + (base / start - base) * fall(step / peak)
                } else {
                    base / end + (base - base / end) * fall((step - peak) / (total - peak))
                }
            }
            Schedule::Cosine { warm_up } => {
                let peak = warm_up * total;
                if step < peak {
                    // The first step's rate is not 0, because that step would be wasted.
                    base * (step + 1.0) / (peak + 1.0)
                } else {
                    base * fall((step - peak) / (total - peak))
                }
            }
        }
    }
}

/// The schedule with which Caffe's GoogLeNet converges fastest, [`Schedule::Polynomial`].
impl Default for Schedule {
    fn default() -> Self {
        Schedule::Polynomial { power: 0.5 }
    }
}

/// Reads `constant`, `step[:gamma[:epochs]]`, `polynomial[:power]`, `one-cycle[:warm-up[:start[:end]]]` or
/// `cosine[:warm-up]`, where numbers that are left out have their defaults, and checks the numbers.
impl FromStr for Schedule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.split(':').next().unwrap_or_default();
        let Some(known) = Schedule::ALL.into_iter().find(|schedule| schedule.name() == name) else {
            let names = "constant, step, polynomial, one-cycle and cosine";
            return Err(Error::Argument(format!("\"{name}\" is not a schedule; there are {names}")));
        };
        let (mut numbers, count) = known.numbers();
        numbers::parse(text, &mut numbers[..count])?;
        let [a, b, c] = numbers;
        let schedule = match known {
            Schedule::Constant => Schedule::Constant,
            Schedule::Step { .. } => Schedule::Step { gamma: a, every: b },
            Schedule::Polynomial { .. } => Schedule::Polynomial { power: a },
            Schedule::OneCycle { .. } => Schedule::OneCycle { warm_up: a, start: b, end: c },
            Schedule::Cosine { .. } => Schedule::Cosine { warm_up: a },
        };
        schedule.check()?;
        Ok(schedule)
    }
}

/// Writes the name and all numbers, as [`Schedule::from_str`] reads them.
impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (numbers, count) = self.numbers();
        f.write_str(self.name())?;
        numbers[..count].iter().try_for_each(|number| write!(f, ":{number}"))
    }
}

/// The learning-rate range test of Smith, "Cyclical learning rates for training neural networks" (2015, section 3.3):
/// training with a rate that grows exponentially from step to step, until the loss explodes.
///
/// ```
/// use googlenet::train::schedule::Finder;
///
/// let mut finder = Finder::default();
/// let mut weight = 1.0;
/// while let Some(rate) = finder.next_rate() {
///     finder.record(weight * weight);
///     weight -= rate * 2.0 * weight;
/// }
/// let found = finder.choose()?;
/// // A rate of 0.5 would be ideal, and 1 and more diverge.
/// assert!(found.rate > 0.01 && found.rate < 0.5);
/// # Ok::<(), googlenet::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Finder {
    first: f64,
    last: f64,
    steps: usize,
    losses: Vec<f64>,
    /// An exponential moving average of the losses, before the division by `weight`.
    average: f64,
    weight: f64,
    /// The least value of the average.
    least: f64,
    exploded: bool,
}

/// What [`Finder::choose`] found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The rate at which the loss fell fastest.
    pub steepest: f64,
    /// The rate at which the loss was least. Training with it is about to diverge.
    pub least: f64,
    /// The rate to train with: `steepest`, or a tenth of `least` where that is smaller.
    pub rate: f64,
}

/// How much of the average remains after a step.
const FINDER_DECAY: f64 = 0.8;
/// The test ends when the average is this many times the least average.
const EXPLODED: f64 = 4.0;

impl Finder {
    /// A test of this number of rates, from `first` to `last`. Fails with [`Error::Argument`] where they do not grow, or
    /// where there are fewer than 10 rates.
    pub fn new(first: f64, last: f64, steps: usize) -> Result<Self> {
        if !(first > 0.0 && last > first && last.is_finite()) || steps < 10 {
            return Err(Error::Argument(format!(
                "cannot search for a learning rate from {first} to {last} in {steps} steps; the rates must be positive \
                 and grow, and there must be at least 10"
            )));
        }
        let losses = Vec::with_capacity(steps);
        Ok(Finder { first, last, steps, losses, average: 0.0, weight: 0.0, least: f64::INFINITY, exploded: false })
    }

    /// The rate of the next step, or `None` when the test is over: when all rates were tried, or the loss has exploded
    /// or is not a number.
    pub fn next_rate(&self) -> Option<f64> {
        (!self.exploded && self.losses.len() < self.steps).then(|| self.rate(self.losses.len()))
    }

    fn rate(&self, step: usize) -> f64 {
        self.first * (self.last / self.first).powf(step as f64 / (self.steps - 1) as f64)
    }

    /// Adds the loss of the step with the rate of [`Finder::next_rate`], as it was before the weights changed. A loss
    /// after the test's end is ignored.
    pub fn record(&mut self, loss: f64) {
        if self.next_rate().is_none() {
            return;
        }
        if !loss.is_finite() {
            self.exploded = true;
            return;
        }
        self.losses.push(loss);
        self.average = FINDER_DECAY * self.average + (1.0 - FINDER_DECAY) * loss;
        self.weight = FINDER_DECAY * self.weight + (1.0 - FINDER_DECAY);
        let average = self.average / self.weight;
        self.least = self.least.min(average);
        self.exploded = average > EXPLODED * self.least;
    }

    /// The rates that were tried, each with its loss.
    pub fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.losses.iter().enumerate().map(|(step, &loss)| (self.rate(step), loss))
    }

    /// The losses, smoothed by a weighted mean of neighbours on both sides, so that nothing is moved to greater rates as
    /// it would be by an average of earlier losses.
    pub fn smoothed(&self) -> Vec<f64> {
        let reach = (self.steps / 20).max(1);
        let n = self.losses.len();
        let mean = |at: usize| {
            let weight = |i: usize| (reach + 1 - i.abs_diff(at)) as f64;
            let window = at.saturating_sub(reach)..(at + reach + 1).min(n);
            let sum: f64 = window.clone().map(|i| weight(i) * self.losses[i]).sum();
            sum / window.map(weight).sum::<f64>()
        };
        (0..n).map(mean).collect()
    }

    /// The rate to train with. Fails with [`Error::Argument`] where the loss did not fall clearly at any rate.
    pub fn choose(&self) -> Result<Found> {
        let smoothed = self.smoothed();
        let least = (0..smoothed.len()).min_by(|&a, &b| smoothed[a].total_cmp(&smoothed[b])).unwrap_or(0);
        let start = smoothed.first().copied().unwrap_or(0.0);
        let fall = smoothed.get(least).map_or(0.0, |loss| start - loss);
        // The noise of single losses, up to the least one or in the first quarter. Without any rate that reduces the
        // loss, smoothed noise falls by more than three times its size in one test of a thousand.
        let known = self.losses.len().min((least + 1).max(self.steps / 4)).max(1);
        let squares = self.losses.iter().zip(&smoothed).take(known).map(|(a, b)| (a - b).powi(2));
        let noise = (squares.sum::<f64>() / known as f64).sqrt();
        if fall <= 3.0 * noise || fall <= 1e-3 * start.abs() {
            return Err(Error::Argument(format!(
                "no learning rate from {:e} to {:e} reduces the loss clearly; give a rate, or search with larger batches",
                self.first, self.last
            )));
        }
        // Noise may fall steeply at rates that are too small to change anything, so the search begins where a tenth of
        // the fall is behind for good.
        let begin = (0..least).rfind(|&i| smoothed[i] > start - 0.1 * fall).unwrap_or(0);
        let slope = |i: usize| smoothed[(i + 1).min(least)] - smoothed[i.saturating_sub(1)];
        let steepest = (begin..least + 1).min_by(|&a, &b| slope(a).total_cmp(&slope(b))).unwrap_or(least);
        let (steepest, least) = (self.rate(steepest), self.rate(least));
        Ok(Found { steepest, least, rate: steepest.min(least / 10.0) })
    }
}

/// 100 rates from 1e-6 to 10.
impl Default for Finder {
    fn default() -> Self {
        Finder {
            first: 1e-6,
            last: 10.0,
            steps: 100,
            losses: Vec::new(),
            average: 0.0,
            weight: 0.0,
            least: f64::INFINITY,
            exploded: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::random::hash;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-12 * b.abs().max(1e-3)
    }

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap()
    }

    #[test]
    fn rates_are_those_of_the_papers() {
        let rate = |text: &str, step: u64| schedule(text).rate(0.1, step, 1000, 10);
        assert_eq!(rate("constant", 999), 0.1);
        // 79 steps are less than 8 epochs of 10 steps.
        assert_eq!([0, 79].map(|step| rate("step", step)), [0.1; 2]);
        assert!(close(rate("step", 80), 0.096) && close(rate("step", 240), 0.1 * 0.96f64.powi(3)));
        assert!(close(rate("step:0.1:50", 500), 0.01) && close(rate("step:0.1:50", 499), 0.1));
        assert!(close(rate("polynomial", 0), 0.1) && close(rate("polynomial", 750), 0.05));
        assert!(close(rate("polynomial:1", 900), 0.01));

        assert!(close(rate("one-cycle", 0), 0.1 / 25.0));
        // Half way up, and half way down.
        assert!(close(rate("one-cycle", 150), (0.1 / 25.0 + 0.1) / 2.0));
        assert!(close(rate("one-cycle", 300), 0.1));
        assert!(close(rate("one-cycle", 650), (0.1 + 0.1 / 1e4) / 2.0));
        assert!(close(rate("one-cycle", 1000), 0.1 / 1e4));
        assert!(close(rate("one-cycle:0.5:10:100", 500), 0.1) && close(rate("one-cycle:0.5:10:100", 0), 0.01));

        assert!(close(rate("cosine:0", 0), 0.1) && close(rate("cosine:0", 500), 0.05));
        assert!(close(rate("cosine:0.1", 0), 0.1 / 101.0) && close(rate("cosine:0.1", 100), 0.1));
        assert!(close(rate("cosine:0.1", 550), 0.05) && rate("cosine:0.1", 1000) < 1e-12);
        // Other numbers give other rates.
        assert!(!close(rate("cosine:0.2", 550), 0.05) && !close(rate("polynomial:0.6", 750), 0.05));
    }

    #[test]
    fn every_rate_is_finite_and_not_above_the_base() {
        for schedule in Schedule::ALL {
            for total in [0, 1, 2, 7, 100] {
                for step in 0..total + 3 {
                    let rate = schedule.rate(0.5, step, total, 3);
                    assert!((0.0..=0.5).contains(&rate), "{schedule}: {rate} in step {step} of {total}");
                    // No step is wasted.
                    assert!(step >= total || rate > 0.0, "{schedule}: {rate} in step {step} of {total}");
                }
            }
        }
    }

    #[test]
    fn schedules_are_read_and_written() {
        for schedule in Schedule::ALL {
            assert_eq!(schedule.name().parse(), Ok(schedule));
            assert_eq!(schedule.to_string().parse(), Ok(schedule));
            assert_eq!(schedule.check(), Ok(()));
        }
        assert_eq!(schedule("step:0.5").to_string(), "step:0.5:8");
        assert_eq!(schedule("one-cycle:0.25").to_string(), "one-cycle:0.25:25:10000");
        let error = "linear".parse::<Schedule>().unwrap_err().to_string();
        assert_eq!(error, "\"linear\" is not a schedule; there are constant, step, polynomial, one-cycle and cosine");
        for text in ["constant:1", "step:0", "step:1.1", "step:0.9:0", "polynomial:0", "one-cycle:1", "one-cycle:-0.1"]
        {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
        for text in ["one-cycle:0.3:0", "one-cycle:0.3:25:-1", "cosine:1", "cosine:0:1", "cosine:x", ""] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    /// A test with losses that are a function of the rate's logarithm (base 10) and of the step.
    fn find(loss: impl Fn(f64, usize) -> f64) -> Finder {
        let mut finder = Finder::default();
        let mut step = 0;
        while let Some(rate) = finder.next_rate() {
            finder.record(loss(rate.log10(), step));
            step += 1;
        }
        finder
    }

    /// Flat up to 1e-4, then down by 1.5 along a cosine to 1e-1, then up quickly.
    fn typical(at: f64) -> f64 {
        match at {
            ..-4.0 => 2.3,
            -4.0..-1.0 => 0.8 + 0.75 * (1.0 + (PI * (at + 4.0) / 3.0).cos()),
            _ => 0.8 + 20.0 * (at + 1.0).powi(2),
        }
    }

    /// Noise between -0.5 and 0.5.
    fn noise(seed: u32, step: usize) -> f64 {
        f64::from(hash([seed, step as u32, 0])[0]) / f64::from(u32::MAX) - 0.5
    }

    #[test]
    fn the_finder_tries_growing_rates_until_the_loss_explodes() {
        let finder = find(|at, _| typical(at));
        let points: Vec<(f64, f64)> = finder.points().collect();
        assert!(close(points[0].0, 1e-6));
        assert!(points.windows(2).all(|pair| close(pair[1].0 / pair[0].0, 1e7f64.powf(1.0 / 99.0))));
        // 4 times the least loss, 3.2, is at 10^-0.65; the average follows some steps later.
        let last = points[points.len() - 1].0.log10();
        assert!((-0.65..-0.1).contains(&last), "{last}");
        // Without an explosion all rates are tried.
        assert_eq!(find(|at, _| typical(at).min(2.0)).points().count(), 100);
    }

    #[test]
    fn the_finder_chooses_the_steepest_point_or_a_tenth_of_the_minimums_rate() {
        let found = find(|at, _| typical(at)).choose().unwrap();
        assert!((found.steepest.log10() + 2.5).abs() < 0.3, "{found:?}");
        // Smoothing moves a minimum away from the side where the loss rises quickly.
        assert!((-1.4..-0.9).contains(&found.least.log10()), "{found:?}");
        assert_eq!(found.rate, found.steepest);
        // A loss that falls fastest just before its minimum.
        let late = find(|at, _| if at < -1.0 { 2.3 - 1.5 * ((at + 6.0) / 5.0).powi(8) } else { typical(at) });
        let found = late.choose().unwrap();
        assert!(found.steepest > found.least / 10.0 && found.rate == found.least / 10.0, "{found:?}");
    }

    #[test]
    fn the_finder_copes_with_noise() {
        for seed in 0..50 {
            let found = find(|at, step| typical(at) + 0.4 * noise(seed, step)).choose().unwrap();
            let [steepest, least] = [found.steepest, found.least].map(f64::log10);
            assert!((-3.6..-1.4).contains(&steepest), "{seed}: {steepest}");
            assert!((-1.6..-0.7).contains(&least), "{seed}: {least}");
            // Noise alone gives no rate, and neither does a loss that only rises.
            assert!(find(|_, step| 2.3 + 0.4 * noise(seed, step)).choose().is_err(), "{seed}");
            assert!(find(|at, step| 2.3 + (at + 6.0) + 0.4 * noise(seed, step)).choose().is_err(), "{seed}");
        }
    }

    #[test]
    fn the_finder_copes_with_values_that_are_not_finite() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let finder = find(|at, _| if at < -0.9 { typical(at) } else { bad });
            assert_eq!((finder.next_rate(), finder.points().count()), (None, 73));
            assert!((finder.choose().unwrap().steepest.log10() + 2.5).abs() < 0.3);
            // From the first step on.
            let mut finder = find(|_, _| bad);
            assert!(finder.choose().unwrap_err().to_string().starts_with("no learning rate from 1e-6 to 1e1"));
            finder.record(1.0);
            assert_eq!(finder.points().count(), 0);
        }
        assert!(find(|_, _| 0.0).choose().is_err());
    }

    #[test]
    fn the_finder_needs_rates_that_grow() {
        assert_eq!(Finder::new(1e-6, 10.0, 100).unwrap(), Finder::default());
        for (first, last, steps) in
            [(0.0, 1.0, 50), (1.0, 1.0, 50), (1e-3, f64::INFINITY, 50), (f64::NAN, 1.0, 50), (1e-3, 1.0, 9)]
        {
            assert!(Finder::new(first, last, steps).is_err());
        }
    }
}
