//! The operations, one file for each: shader parameters, bindings, entry points, and how a step is lowered to
//! dispatches. These kernels run on every device; [`super::software`] has kernels that only software adapters prefer.

pub mod concat;
pub mod conv;
pub mod dense;
#[cfg(feature = "train")]
pub mod dropout;
pub mod lrn;
pub mod pool;
#[cfg(feature = "train")]
pub mod relu;
pub mod softmax;
#[cfg(feature = "train")]
pub mod term;

use super::job::{Layer, Lowered};
use crate::error::Result;
use crate::graph::op::Op;

/// Appends the dispatches of a layer to `lowered`. Fails with [`Error::Shape`](crate::error::Error::Shape) for inputs,
/// which are not computed.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let lower = match layer.node().op {
        Op::Conv { .. } => conv::lower,
        Op::MaxPool(_) | Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } => pool::lower,
        Op::Lrn { .. } => lrn::lower,
        Op::Concat => concat::lower,
        Op::Dense { .. } => dense::lower,
        Op::Softmax => softmax::lower,
        #[cfg(feature = "train")]
        Op::Dropout { .. } => dropout::lower,
        #[cfg(not(feature = "train"))]
        Op::Dropout { .. } => return Err(layer.fail("this build has no training, and so no dropout".into())),
        Op::Input(_) => return Err(layer.fail("an input is no step".into())),
    };
    lower(layer, lowered)
}
