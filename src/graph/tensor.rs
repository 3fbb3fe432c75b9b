//! Shapes and tensors. All tensors here are NHWC and f32.

use crate::error::{Error, Result};
use std::fmt;

/// The shape of a tensor: batch, height, width, channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    pub n: usize,
    pub h: usize,
    pub w: usize,
    pub c: usize,
}

impl Shape {
    pub const fn new(n: usize, h: usize, w: usize, c: usize) -> Self {
        Shape { n, h, w, c }
    }

    /// The number of elements.
    pub const fn len(&self) -> usize {
        self.n * self.h * self.w * self.c
    }

    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of pixels of the whole batch, each with `c` channels.
    pub const fn pixels(&self) -> usize {
        self.n * self.h * self.w
    }

    /// The number of elements of one picture of the batch.
    pub const fn per_image(&self) -> usize {
        self.h * self.w * self.c
    }

    pub const fn with_batch(self, n: usize) -> Self {
        Shape { n, ..self }
    }
}

/// Writes `28x28x256`, or `2x28x28x256` for a batch of two.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.n != 1 {
            write!(f, "{}x", self.n)?;
        }
        write!(f, "{}x{}x{}", self.h, self.w, self.c)
    }
}

/// A dense NHWC tensor: element (n, y, x, c) has the index `((n*H + y)*W + x)*C + c`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub shape: Shape,
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of these values. Fails with [`Error::Argument`] where their number does not fit the shape.
    pub fn new(shape: Shape, data: Vec<f32>) -> Result<Self> {
        if data.len() != shape.len() {
            return Err(Error::Argument(format!(
                "a tensor of shape {shape} needs {} values, not {}",
                shape.len(),
                data.len()
            )));
        }
        Ok(Tensor { shape, data })
    }

    pub fn zeros(shape: Shape) -> Self {
        Tensor { shape, data: vec![0.0; shape.len()] }
    }

    /// The values of picture `n` of the batch, in the order HWC.
    pub fn image(&self, n: usize) -> &[f32] {
        let len = self.shape.per_image();
        &self.data[n * len..(n + 1) * len]
    }
}

/// Reorders NCHW (Caffe, PyTorch, ONNX) into NHWC. `shape` has the size of each dimension by its name.
pub fn nchw_to_nhwc(shape: Shape, data: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; shape.len()];
    for_each_pair(shape, |nhwc, nchw| out[nhwc] = data[nchw]);
    out
}

/// Reorders NHWC into NCHW.
pub fn nhwc_to_nchw(shape: Shape, data: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; shape.len()];
    for_each_pair(shape, |nhwc, nchw| out[nchw] = data[nhwc]);
    out
}

/// Calls `f(index in NHWC, index in NCHW)` for every element.
fn for_each_pair(s: Shape, mut f: impl FnMut(usize, usize)) {
    let plane = s.h * s.w;
    for n in 0..s.n {
        for p in 0..plane {
            for c in 0..s.c {
                f((n * plane + p) * s.c + c, (n * s.c + c) * plane + p);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reordering_there_and_back_restores_the_values() {
        let s = Shape::new(2, 3, 4, 5);
        let x: Vec<f32> = (0..s.len()).map(|i| i as f32).collect();
        let nhwc = nchw_to_nhwc(s, &x);
        assert_eq!(nhwc[1], x[s.h * s.w]);
        assert_eq!(nhwc_to_nchw(s, &nhwc), x);
    }

    #[test]
    fn a_tensor_of_the_wrong_length_is_refused() {
        assert!(Tensor::new(Shape::new(1, 2, 2, 1), vec![0.0; 3]).is_err());
    }
}
