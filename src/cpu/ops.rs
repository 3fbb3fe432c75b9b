//! The kernels, one file an operation, and the table that says which operation has which kernel.

#[cfg(feature = "train")]
mod activation;
mod concat;
mod conv;
mod dense;
mod dropout;
mod lrn;
mod pool;
mod softmax;

use super::kernel::{Kernel, Layer};
use crate::error::Result;
use crate::graph::op::Op;
#[cfg(feature = "train")]
use {super::gradient::Gradient, super::simd::Isa, crate::graph::tensor::Shape};

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
        Op::Concat => Box::new(concat::Concat),
        Op::Dense { activation, .. } => Box::new(dense::Dense::new(layer, activation)?),
        Op::Softmax => Box::new(softmax::Softmax { isa: layer.isa }),
        Op::Dropout { ratio } => Box::new(dropout::Dropout { ratio }),
    }))
}

/// The gradients of a layer whose first input and output have these shapes, with the batch; `None` for inputs. Weights are
/// zero until they are set. `input` says whether the gradient for the input is needed.
#[cfg(feature = "train")]
pub fn gradient(op: &Op, isa: Isa, [x, y]: [Shape; 2], input: bool) -> Option<Box<dyn Gradient>> {
    Some(match *op {
        Op::Input(_) => return None,
        Op::Conv { window, activation, .. } => {
            Box::new(conv::gradient::ConvGradient::new(isa, window, activation, [x, y], input))
        }
        Op::MaxPool(window) => Box::new(pool::MaxPool { isa, window }),
        Op::AvgPool { window, count_padding } => Box::new(pool::AvgPool { isa, window, count_padding }),
        Op::AdaptiveAvgPool { .. } => Box::new(pool::AdaptiveAvgPool { isa }),
        Op::Lrn { size, alpha, beta, k } => Box::new(lrn::Lrn { isa, size, alpha, beta, k }),
        Op::Concat => Box::new(concat::Concat),
        Op::Dense { activation, .. } => Box::new(dense::gradient::DenseGradient::new(isa, activation, y)),
        Op::Softmax => Box::new(softmax::Softmax { isa }),
        Op::Dropout { ratio } => Box::new(dropout::Dropout { ratio }),
    })
}
