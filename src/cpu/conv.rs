//! Convolution: a matrix product of the pixels' neighbourhoods with the weights.

use super::gemm::{Isa, Packed, Rows, RowsMut};
use super::view::{View, ViewMut};
use crate::op::{Geometry, Window};
use crate::tensor::Shape;
use std::ops::Range;

/// A convolution with its weights packed.
pub struct Conv {
    pub window: Window,
    relu: bool,
    /// (kernel height * kernel width * in, out).
    weights: Packed,
}

/// The ways to compute a convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// A 1x1 kernel that visits every pixel: the input is the matrix as it lies.
    Pointwise,
    /// Neighbourhoods are laid out as rows, so many at a time that they stay in the cache.
    Im2col,
}

impl Conv {
    /// `weight` is OIHW with `channels` inputs, as in a file.
    pub fn new(isa: Isa, window: Window, relu: bool, channels: usize, weight: &[f32], bias: &[f32]) -> Self {
        let area = window.kernel[0] * window.kernel[1];
        // OIHW to OHWI: the order in which a neighbourhood is read from NHWC.
        let mut rows = vec![0.0; weight.len()];
        for (row, filter) in rows.chunks_exact_mut(area * channels).zip(weight.chunks_exact(area * channels)) {
            for (c, plane) in filter.chunks_exact(area).enumerate() {
                row[c..].iter_mut().step_by(channels).zip(plane).for_each(|(to, v)| *to = *v);
            }
        }
        Conv { window, relu, weights: Packed::new(isa, &rows, area * channels, bias) }
    }

    fn algorithm(&self, input: Shape, output: Shape) -> Algorithm {
        let every_pixel = self.window.stride == [1, 1] && (input.h, input.w) == (output.h, output.w);
        if self.window.kernel == [1, 1] && every_pixel { Algorithm::Pointwise } else { Algorithm::Im2col }
    }

    /// Floats needed beside input and output.
    pub fn scratch(&self, input: Shape, output: Shape) -> usize {
        match self.algorithm(input, output) {
            Algorithm::Pointwise => 0,
            Algorithm::Im2col => self.weights.block_rows().min(output.pixels()) * self.weights.depth(),
        }
    }

    /// `g` is the window laid on `x`; `scratch` holds at least [`Conv::scratch`] floats.
    pub fn run(&self, g: &Geometry, x: View<'_>, out: ViewMut<'_>, scratch: &mut [f32]) {
        match self.algorithm(x.shape, out.shape) {
            Algorithm::Pointwise => {
                let rows = Rows { data: x.data, stride: x.stride, count: x.shape.pixels() };
                self.weights.run(rows, RowsMut { data: out.data, stride: out.stride }, self.relu);
            }
            Algorithm::Im2col => self.im2col(g, x, out, scratch),
        }
    }

    fn im2col(&self, g: &Geometry, x: View<'_>, out: ViewMut<'_>, scratch: &mut [f32]) {
        let (depth, pixels) = (self.weights.depth(), out.shape.pixels());
        let block = self.weights.block_rows();
        for first in (0..pixels).step_by(block) {
            let count = block.min(pixels - first);
            let rows = &mut scratch[..count * depth];
            neighbourhoods(g, x, first..first + count, rows);
            let rows = Rows { data: rows, stride: depth, count };
            let out = RowsMut { data: &mut out.data[first * out.stride..], stride: out.stride };
            self.weights.run(rows, out, self.relu);
        }
    }
}

/// Lays out what each of these output pixels sees as a row: kernel rows, columns, channels. Zero
/// outside the input.
fn neighbourhoods(g: &Geometry, x: View<'_>, pixels: Range<usize>, rows: &mut [f32]) {
    let Shape { h, w, c, .. } = x.shape;
    let [kh, kw] = g.kernel;
    let [out_h, out_w] = g.out;
    for (p, row) in pixels.zip(rows.chunks_exact_mut(kh * kw * c)) {
        let (n, oy, ox) = (p / (out_h * out_w), p / out_w % out_h, p % out_w);
        // Of the kernel's columns, those that lie inside the input.
        let left = ox * g.stride[1];
        let end = (w + g.pad[1]).saturating_sub(left).min(kw);
        let start = g.pad[1].saturating_sub(left).min(end);
        for (ky, line) in row.chunks_exact_mut(kw * c).enumerate() {
            let y = (oy * g.stride[0] + ky).wrapping_sub(g.pad[0]);
            if y >= h || start == end {
                line.fill(0.0);
                continue;
            }
            line[..start * c].fill(0.0);
            line[end * c..].fill(0.0);
            let line = &mut line[start * c..end * c];
            let first = (n * h + y) * w + left + start - g.pad[1];
            if x.stride == c {
                line.copy_from_slice(&x.data[first * c..][..line.len()]);
            } else {
                line.chunks_exact_mut(c).enumerate().for_each(|(i, to)| to.copy_from_slice(x.pixel(first + i)));
            }
        }
    }
}
