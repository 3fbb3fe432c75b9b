//! L-BFGS for a convex function: the direction of the next step, and how far to go in it (Nocedal and Wright, "Numerical
//! Optimization", 2006, section 7.2).

use std::collections::VecDeque;

/// The number of steps from which the curvature is known.
const MEMORY: usize = 10;

/// The last steps, which say how the gradient changes.
#[derive(Default)]
pub(super) struct History(VecDeque<Step>);

/// How far the parameters moved, how the gradient changed, and the product of both.
struct Step {
    moved: Vec<f64>,
    change: Vec<f64>,
    curvature: f64,
}

impl History {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a step. One that shows no curvature, which only rounding can do to a convex function, is left out.
    pub fn push(&mut self, moved: Vec<f64>, change: Vec<f64>) {
        let curvature = dot(&moved, &change);
        if curvature > 0.0 {
            if self.0.len() == MEMORY {
                self.0.pop_front();
            }
            self.0.push_back(Step { moved, change, curvature });
        }
    }

    /// The direction in which to search: the gradient times an approximate inverse of the Hessian, negated (algorithm
    /// 7.4).
    pub fn direction(&self, gradient: &[f64]) -> Vec<f64> {
        let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut factors = Vec::with_capacity(self.0.len());
        for step in self.0.iter().rev() {
            let factor = dot(&step.moved, &q) / step.curvature;
            add_scaled(&mut q, -factor, &step.change);
            factors.push(factor);
        }
        if let Some(last) = self.0.back() {
            let scale = last.curvature / dot(&last.change, &last.change);
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for (step, factor) in self.0.iter().zip(factors.iter().rev()) {
            let back = dot(&step.change, &q) / step.curvature;
            add_scaled(&mut q, factor - back, &step.moved);
        }
        q
    }
}

/// The objective at a point of the search direction, and its derivatives by the step.
pub(super) struct Point {
    pub value: f64,
    pub slope: f64,
    pub curvature: f64,
}

/// Finds a step at which the slope is at most a tenth of that at step 0, and the objective is lower, by Newton's method
/// within an interval that contains the minimum. `value` and `slope` are those at step 0. Returns the step, and what `at`
/// returned for it in its last call. `None` where rounding hides any progress.
pub(super) fn search<T>(value: f64, slope: f64, start: f64, mut at: impl FnMut(f64) -> (T, Point)) -> Option<(f64, T)> {
    const MAX_STEPS: usize = 40;
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut step = start;
    for _ in 0..MAX_STEPS {
        let (result, point) = at(step);
        // Near the minimum, the decrease is smaller than the rounding of the value.
        let lower = point.value <= value + 1e-4 * step * slope + 1e-14 * value.abs();
        if lower && point.slope.abs() <= 0.1 * slope.abs() {
            return Some((step, result));
        }
        // The objective is convex: the minimum is where the slope changes its sign.
        if point.slope > 0.0 || !lower {
            high = step;
        } else {
            low = step;
        }
        let newton = step - point.slope / point.curvature.max(f64::MIN_POSITIVE);
        step = if newton > low && newton < high {
            // Where the curvature vanishes, Newton's step is too long.
            newton.min(10.0 * step)
        } else if high.is_finite() {
            0.5 * (low + high)
        } else {
            10.0 * step
        };
    }
    None
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    // Eight sums, which the compiler keeps in vectors.
    let mut sums = [0f64; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

fn add_scaled(to: &mut [f64], factor: f64, values: &[f64]) {
    to.iter_mut().zip(values).for_each(|(to, v)| *to += factor * v);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a convex function of one number, its slope and its curvature, at `from + step`.
    fn function(from: f64) -> impl Fn(f64) -> ((), Point) {
        // The smooth maximum of -x and 0.01 x, with its minimum at ln(100) / 1.01.
        move |step| {
            let x = from + step;
            let (a, b) = ((-x).exp(), (0.01 * x).exp());
            let p = b / (a + b);
            let point = Point { value: (a + b).ln(), slope: 1.01 * p - 1.0, curvature: 1.01 * 1.01 * p * (1.0 - p) };
            ((), point)
        }
    }

    #[test]
    fn a_search_ends_where_the_slope_is_small_whatever_the_first_step() {
        for from in [-30.0, 0.0, 4.0] {
            let at = function(from);
            let (_, start) = at(0.0);
            for first in [1e-6, 1.0, 1e3, 1e9] {
                let (step, ()) = search(start.value, start.slope, first, &at).unwrap();
                let (_, end) = at(step);
                assert!(end.slope.abs() <= 0.1 * start.slope.abs() && end.value < start.value, "{from}, {first}");
            }
        }
        // At the minimum there is no step that leads down.
        let at = function(0.0);
        assert!(search(at(0.0).1.value - 1.0, -1e-9, 1.0, &at).is_none());
    }

    #[test]
    fn after_as_many_steps_as_dimensions_the_direction_leads_to_the_minimum_of_a_parabola() {
        let factors = [1.0, 4.0, 9.0, 100.0];
        let gradient = |x: &[f64]| -> Vec<f64> { x.iter().zip(factors).map(|(x, f)| f * x).collect() };
        let mut history = History::default();
        let mut x = vec![1.0, -2.0, 3.0, 0.5];
        for _ in 0..4 {
            let g = gradient(&x);
            let d = history.direction(&g);
            // The exact minimum along the direction.
            let step = -dot(&d, &g) / dot(&d, &gradient(&d));
            let moved: Vec<f64> = d.iter().map(|d| step * d).collect();
            history.push(moved.clone(), gradient(&moved));
            add_scaled(&mut x, 1.0, &moved);
        }
        assert!(x.iter().all(|x| x.abs() < 1e-12), "{x:?}");
        // A step without curvature is not remembered.
        let mut empty = History::default();
        empty.push(vec![1.0], vec![-1.0]);
        assert!(empty.is_empty() && empty.direction(&[2.0]) == [-2.0]);
    }

    #[test]
    fn dot_products_have_all_elements() {
        let a: Vec<f64> = (0..19).map(f64::from).collect();
        assert_eq!(dot(&a, &a), (0..19).map(|i| f64::from(i * i)).sum::<f64>());
    }
}
