//! Dense layers: one matrix product for the whole batch.

use super::gemm::{Isa, Packed, Rows, RowsMut};
use super::view::{View, ViewMut};

pub struct Dense {
    /// (in, out).
    weights: Packed,
    relu: bool,
}

impl Dense {
    /// `weight` is (out, in) with the inputs flattened HWC, as in a file.
    pub fn new(isa: Isa, relu: bool, inputs: usize, weight: &[f32], bias: &[f32]) -> Self {
        Dense { weights: Packed::new(isa, weight, inputs, bias), relu }
    }

    /// One row a picture. `x` must be whole, or one pixel a picture.
    pub fn run(&self, x: View<'_>, out: ViewMut<'_>) {
        let stride = x.stride * x.shape.h * x.shape.w;
        let x = Rows { data: x.data, stride, count: x.shape.n };
        self.weights.run(x, RowsMut { data: out.data, stride: out.stride }, self.relu);
    }
}
