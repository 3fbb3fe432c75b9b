//! Winograd's minimal filtering: Lavin and Gray, "Fast algorithms for convolutional neural networks" (CVPR 2016),
//! `Y = A' ((G g G') . (B' d B)) A`. What both engines need of it.
//!
//! An output tile of m x m needs n x n products a channel, n = m + r - 1, instead of m² r². n is 6, for the points 0,
//! ±√2/2, ±√2 and infinity, or 4, for 0, ±1 and infinity. The usual ±1, ±2 lose three times as many digits; with
//! these the greatest error of F(4x4,3x3) is near that of a plain f32 sum.

use crate::graph::tensor::Shape;
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// F(m x m, r x r): m² outputs from a tile of (m + r - 1)² inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    pub outputs: usize,
    pub kernel: usize,
}

/// Phases of a stride of 2: by row, then by column.
pub const PHASES: usize = 4;

/// Filters (O, I, kernel, kernel) of stride 2 as (O, 4 I, half, half) of stride 1 over the phases of what they read,
/// zeros where the kernel ends. Each phase has I channels, and zeros up to `filled`.
pub fn phases(weight: &[f32], channels: usize, filled: usize, kernel: [usize; 2], half: usize) -> Vec<f32> {
    let area = kernel[0] * kernel[1];
    let count = weight.len() / (area * channels);
    let mut out = vec![0.0; count * PHASES * filled * half * half];
    for (i, filter) in weight.chunks_exact(area).enumerate() {
        let (o, c) = (i / channels, i % channels);
        for (i, v) in filter.iter().enumerate() {
            let (y, x) = (i / kernel[1], i % kernel[1]);
            let plane = (o * PHASES + y % 2 * 2 + x % 2) * filled + c;
            out[(plane * half + y / 2) * half + x / 2] = *v;
        }
    }
    out
}

/// Points are squares of the tile, and the tile's side at most this.
pub const MOST: usize = 6;

impl Tiling {
    /// Side of the input tile.
    pub const fn side(self) -> usize {
        self.outputs + self.kernel - 1
    }

    /// Tiles that an output map takes, along height and width.
    pub fn grid(self, out: Shape) -> [usize; 2] {
        [out.h.div_ceil(self.outputs), out.w.div_ceil(self.outputs)]
    }

    /// Multiply-adds in the matrix products.
    #[cfg(feature = "cpu")]
    pub fn macs(self, channels: usize, out: Shape) -> u64 {
        let [down, across] = self.grid(out);
        (out.n * down * across * self.side() * self.side() * channels * out.c) as u64
    }

    /// The finite points.
    fn points(self) -> &'static [f64] {
        const { assert!(MOST == 6) };
        match self.side() {
            4 => &[0.0, 1.0, -1.0],
            _ => &[0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
        }
    }

    /// G: row i is the powers of point i, over the product of its distances to the others; the last row is
    /// infinity's.
    fn filter_matrix(self) -> Vec<Vec<f64>> {
        let points = self.points();
        let finite = points.iter().map(|p| {
            let distances: f64 = points.iter().filter(|q| *q != p).map(|q| p - q).product();
            (0..self.kernel as i32).map(|k| p.powi(k) / distances).collect()
        });
        let infinity = (0..self.kernel).map(|k| if k + 1 == self.kernel { 1.0 } else { 0.0 }).collect();
        finite.chain([infinity]).collect()
    }

    /// G g G' for each of some filters, by rows of the tile. In f64, since it is done once.
    pub fn filters<'a>(self, filters: &'a [f32]) -> impl Iterator<Item = [[f64; MOST]; MOST]> + 'a {
        let (g, r) = (self.filter_matrix(), self.kernel);
        filters.chunks_exact(r * r).map(move |filter| {
            let mut half = [[0.0; MOST]; MOST];
            for (row, to) in g.iter().zip(&mut half) {
                for (k, to) in to[..r].iter_mut().enumerate() {
                    *to = (0..r).map(|j| row[j] * filter[j * r + k] as f64).sum();
                }
            }
            let mut whole = [[0.0; MOST]; MOST];
            for (half, to) in half.iter().zip(&mut whole) {
                for (row, to) in g.iter().zip(to) {
                    *to = (0..r).map(|k| half[k] * row[k]).sum();
                }
            }
            whole
        })
    }
}
