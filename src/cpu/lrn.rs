//! Local response normalisation across channels.

use super::view::{View, ViewMut};
use crate::tensor::Shape;

/// `x / (k + alpha/size * sum of x^2 over size channels)^beta`. The channel stands in the window's
/// middle; an even window reaches one further up than down.
pub struct Lrn {
    pub size: usize,
    pub alpha: f32,
    pub beta: f32,
    pub k: f32,
}

impl Lrn {
    /// Channels below and above the one that is normalised, no more than there are.
    fn reach(&self, channels: usize) -> [usize; 2] {
        [(self.size - 1) / 2, self.size / 2].map(|r| r.min(channels))
    }

    /// Floats needed beside input and output.
    pub fn scratch(&self, x: Shape) -> usize {
        let [below, above] = self.reach(x.c);
        x.c + below + above
    }

    /// The window is summed anew at every channel, not kept running: `size` vector additions are
    /// cheaper than one chain of scalar ones, and nothing cancels.
    pub fn run(&self, x: View<'_>, mut out: ViewMut<'_>, scratch: &mut [f32]) {
        let [below, above] = self.reach(x.shape.c);
        let squares = &mut scratch[..x.shape.c + below + above];
        squares.fill(0.0);
        let scale = self.alpha / self.size as f32;
        for p in 0..x.shape.pixels() {
            let (x, out) = (x.pixel(p), out.pixel(p));
            squares[below..].iter_mut().zip(x).for_each(|(s, v)| *s = v * v);
            out.copy_from_slice(&squares[..x.len()]);
            for shift in 1..=below + above {
                out.iter_mut().zip(&squares[shift..]).for_each(|(sum, s)| *sum += s);
            }
            let each = out.iter_mut().zip(x);
            if self.beta == 0.75 {
                // d^0.75 without a power: two square roots, which vectors have.
                each.for_each(|(sum, v)| {
                    let d = self.k + scale * *sum;
                    let root = d.sqrt();
                    *sum = v / (root * root.sqrt());
                });
            } else {
                each.for_each(|(sum, v)| *sum = v / (self.k + scale * *sum).powf(self.beta));
            }
        }
    }
}
