//! The parts of Winograd convolution that both engines need: Lavin and Gray, "Fast algorithms for convolutional neural
//! networks" (CVPR 2016), `Y = A' ((G g G') . (B' d B)) A`.
//!
//! An output tile of m x m needs n x n products for each channel, where n = m + r - 1, instead of m² r². n is 6 with
//! the points 0, ±√2/2, ±√2 and infinity, or 4 with the points 0, ±1 and infinity. With the usual points ±1 and ±2, the
//! rounding error is three times as large; with these, the largest error of F(4x4,3x3) is near that of a plain f32 sum.

use crate::graph::tensor::Shape;
use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

/// The algorithm F(m x m, r x r), which computes m² outputs from a tile of (m + r - 1)² inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// The side of the output tile: m.
    pub outputs: usize,
    /// The side of the filter: r.
    pub kernel: usize,
}

/// The number of phases of an input that is read with stride 2: even and odd rows, each with even and odd columns.
pub const PHASES: usize = 4;

/// Converts filters (O, I, kernel, kernel) of stride 2 into filters (O, 4 * filled, half, half) of stride 1 over the
/// phases of the input, with zeros beyond the kernel. The I channels of each phase are padded with zeros to `filled`.
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

/// The largest side of an input tile.
pub const MOST: usize = 6;

impl Tiling {
    /// The side of the input tile: m + r - 1.
    pub const fn side(self) -> usize {
        self.outputs + self.kernel - 1
    }

    /// The number of tiles along the height and the width of an output.
    pub fn grid(self, out: Shape) -> [usize; 2] {
        [out.h.div_ceil(self.outputs), out.w.div_ceil(self.outputs)]
    }

    /// The number of multiply-adds in the matrix products.
    #[cfg(feature = "cpu")]
    pub fn macs(self, channels: usize, out: Shape) -> u64 {
        let [down, across] = self.grid(out);
        (out.n * down * across * self.side() * self.side() * channels * out.c) as u64
    }

    /// The finite interpolation points.
    fn points(self) -> &'static [f64] {
        const { assert!(MOST == 6) };
        match self.side() {
            4 => &[0.0, 1.0, -1.0],
            _ => &[0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2, SQRT_2, -SQRT_2],
        }
    }

    /// The matrix G. Row i has the powers of point i, divided by the product of its differences from the other points.
    /// The last row is that of the point at infinity.
    fn filter_matrix(self) -> Vec<Vec<f64>> {
        let points = self.points();
        let finite = points.iter().map(|p| {
            let distances: f64 = points.iter().filter(|q| *q != p).map(|q| p - q).product();
            (0..self.kernel as i32).map(|k| p.powi(k) / distances).collect()
        });
        let infinity = (0..self.kernel).map(|k| if k + 1 == self.kernel { 1.0 } else { 0.0 }).collect();
        finite.chain([infinity]).collect()
    }

    /// The matrix G, rounded. SIDE and KERNEL are those of the tiling.
    #[cfg(all(feature = "cpu", feature = "train"))]
    pub fn filter_matrix_f32<const SIDE: usize, const KERNEL: usize>(self) -> [[f32; KERNEL]; SIDE] {
        let matrix = self.filter_matrix();
        std::array::from_fn(|i| std::array::from_fn(|k| matrix[i][k] as f32))
    }

    /// G g G' for each filter g, in rows of the tile. Computed in f64, as it is done only once.
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
