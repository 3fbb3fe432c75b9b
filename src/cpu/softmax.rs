//! Softmax over channels.

use super::view::{View, ViewMut};

/// `exp(x - max) / sum`: subtracting the greatest value keeps every power finite.
pub fn run(x: View<'_>, mut out: ViewMut<'_>) {
    for p in 0..x.shape.pixels() {
        let (x, out) = (x.pixel(p), out.pixel(p));
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (to, v) in out.iter_mut().zip(x) {
            *to = (v - max).exp();
            sum += *to;
        }
        out.iter_mut().for_each(|v| *v /= sum);
    }
}
