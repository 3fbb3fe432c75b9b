//! Activations in numbers: what `shaders/statistics.wgsl` and `cpu/statistics.rs` give.

use crate::error::{Error, Result};
use crate::graph::tensor::Shape;

/// Numbers of what a layer gave for a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stats {
    /// Four of each channel, over the pixels of its map: the mean, the greatest and the least value, and the share of
    /// pixels that are exactly zero, from 0 to 1.
    Channels,
    /// The values of one channel's map, row by row.
    Map(usize),
}

impl Stats {
    /// How many numbers these are, or why there are none.
    pub fn len(self, activations: Shape, image: usize) -> Result<usize> {
        let Shape { n, h, w, c } = activations;
        match self {
            _ if image >= n => Err(Error::Argument(format!("there is no picture {image} in a batch of {n}"))),
            Stats::Map(channel) if channel >= c => {
                Err(Error::Argument(format!("there is no channel {channel} among {c}")))
            }
            Stats::Map(_) => Ok(h * w),
            Stats::Channels => Ok(4 * c),
        }
    }
}
