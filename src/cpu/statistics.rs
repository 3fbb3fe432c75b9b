//! Statistics of activations.

use super::view::View;
use crate::inspect::statistics::Stats;

/// Computes statistics of one picture of the batch.
pub fn stats(x: View<'_>, image: usize, stats: Stats) -> Vec<f32> {
    let count = x.shape.h * x.shape.w;
    let pixels = (image * count..(image + 1) * count).map(|p| x.pixel(p));
    match stats {
        Stats::Map(channel) => pixels.map(|pixel| pixel[channel]).collect(),
        Stats::Channels => {
            let mut all = vec![(0f64, f32::NEG_INFINITY, f32::INFINITY, 0f32); x.shape.c];
            for pixel in pixels {
                for (of, &value) in all.iter_mut().zip(pixel) {
                    let zero = if value == 0.0 { 1.0 } else { 0.0 };
                    *of = (of.0 + f64::from(value), of.1.max(value), of.2.min(value), of.3 + zero);
                }
            }
            let count = count as f32;
            all.iter().flat_map(|&(sum, max, min, zeros)| [sum as f32 / count, max, min, zeros / count]).collect()
        }
    }
}
