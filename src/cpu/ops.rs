//! The kernels, one file an operation, and the table that says which operation has which kernel.

mod concat;
mod conv;
mod dense;
mod lrn;
mod pool;
mod softmax;

use super::kernel::{Kernel, Layer};
use crate::error::Result;
use crate::graph::op::Op;

/// The kernel of a layer, with its packed weights; `None` for inputs, which compute nothing.
pub fn kernel(op: &Op, layer: &Layer<'_>) -> Result<Option<Box<dyn Kernel>>> {
    Ok(Some(match *op {
        Op::Input(_) => return Ok(None),
        Op::Conv { window, activation, .. } => Box::new(conv::Conv::new(layer, window, activation)?),
        Op::MaxPool(window) => Box::new(pool::MaxPool { isa: layer.isa, window }),
        Op::AvgPool { window, count_padding } => Box::new(pool::AvgPool { isa: layer.isa, window, count_padding }),
        Op::AdaptiveAvgPool { .. } => Box::new(pool::AdaptiveAvgPool { isa: layer.isa }),
        Op::Lrn { size, alpha, beta, k } => Box::new(lrn::Lrn { isa: layer.isa, size, alpha, beta, k }),
        // Outside of training, dropout copies its input, as a concatenation of one input does.
        Op::Concat | Op::Dropout { .. } => Box::new(concat::Concat),
        Op::Dense { activation, .. } => Box::new(dense::Dense::new(layer, activation)?),
        Op::Softmax => Box::new(softmax::Softmax { isa: layer.isa }),
    }))
}
