//! The kernels, with one file for each operation.

pub mod concat;
pub mod conv;
pub mod dense;
pub mod lrn;
pub mod pool;
pub mod softmax;
