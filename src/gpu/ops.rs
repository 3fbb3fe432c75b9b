//! The operations, one file each: parameters, bindings, entry points, and how a step becomes dispatches. These kernels run
//! on every device; `software` has those that only adapters on the CPU prefer.

pub mod concat;
pub mod conv;
pub mod dense;
pub mod lrn;
pub mod pool;
pub mod softmax;

use super::job::{Layer, Lowered};
use crate::error::Result;
use crate::graph::op::Op;

/// Adds the dispatches of a layer.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let lower = match layer.node().op {
        Op::Conv { .. } => conv::lower,
        Op::MaxPool(_) | Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } => pool::lower,
        Op::Lrn { .. } => lrn::lower,
        Op::Concat => concat::lower,
        Op::Dense { .. } => dense::lower,
        Op::Softmax => softmax::lower,
        Op::Input(_) => return Err(layer.fail("an input is no step".into())),
    };
    lower(layer, lowered)
}
