//! Statistics of activations, which `shaders/statistics.wgsl` and `cpu/statistics.rs` compute.

use crate::error::{Error, Result};
use crate::graph::tensor::Shape;

/// The kind of statistics of a layer's activations for one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stats {
    /// Four numbers for each channel, over the pixels of its map: mean, maximum, minimum, and the share of pixels that
    /// are exactly zero, from 0 to 1.
    Channels,
    /// The values of one channel's map, in row-major order.
    Map(usize),
}

impl Stats {
    /// The number of values for activations of this shape. Fails with [`Error::Argument`] where there is no such
    /// picture or channel.
    pub fn len(self, activations: Shape, image: usize) -> Result<usize> {
        let Shape { n, h, w, c } = activations;
        match self {
            _ if image >= n => Err(Error::Argument(format!("there is no picture {image} in a batch of {n}"))),
            Stats::Map(channel) if channel >= c => {
                Err(Error::Argument(format!("there is no channel {channel}: the layer has {c}")))
            }
            Stats::Map(_) => Ok(h * w),
            Stats::Channels => Ok(4 * c),
        }
    }
}
