//! Contact sheets: pictures of activations with one tile for each channel. `shaders/contact_sheet.wgsl` and
//! `cpu/contact_sheet.rs` draw them.

use crate::error::{Error, Result};
use crate::graph::tensor::Shape;

/// A colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Colormap {
    /// matplotlib's viridis: perceptually uniform, from dark to bright.
    #[default]
    Viridis,
    Grey,
    /// Blue below zero, white at zero, red above zero. The range is made symmetric around zero.
    Diverging,
}

/// The values at the ends of the colour map.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Range {
    /// The minimum and maximum of each channel.
    #[default]
    Channel,
    /// The minimum and maximum of all channels that are drawn.
    Sheet,
    /// This minimum and maximum.
    Fixed(f32, f32),
}

/// The options of a contact sheet: the channels to draw for one picture, and their layout and colours.
#[derive(Debug, Clone, PartialEq)]
pub struct Sheet {
    /// The index of the picture in the batch.
    pub image: usize,
    /// The channels in the order in which they are drawn, row by row.
    pub channels: Vec<u32>,
    /// The number of tiles in a row.
    pub columns: usize,
    /// The side in pixels of the square that a cell of the map is drawn as.
    pub scale: usize,
    /// The number of transparent pixels between tiles.
    pub gap: usize,
    pub colormap: Colormap,
    pub range: Range,
}

impl Sheet {
    /// Width and height of the sheet in pixels for activations of this shape. Fails with [`Error::Argument`] where they
    /// cannot be drawn with these options.
    pub fn size(&self, activations: Shape) -> Result<[usize; 2]> {
        let fail = |reason: String| Err(Error::Argument(format!("cannot draw the contact sheet: {reason}")));
        if self.channels.is_empty() || self.columns == 0 || self.scale == 0 {
            return fail("it needs at least one channel, one column and a scale of 1".into());
        }
        if self.image >= activations.n {
            return fail(format!("there is no picture {} in a batch of {}", self.image, activations.n));
        }
        if let Some(c) = self.channels.iter().find(|&&c| c as usize >= activations.c) {
            return fail(format!("there is no channel {c}: the layer has {}", activations.c));
        }
        let columns = self.columns.min(self.channels.len());
        let rows = self.channels.len().div_ceil(columns);
        // The largest canvas in today's browsers has 16384 pixels on each side.
        let extent = |tiles: usize, cells: usize| {
            let tile = cells.checked_mul(self.scale)?.checked_add(self.gap)?;
            Some(tiles.checked_mul(tile)? - self.gap).filter(|&pixels| pixels <= 16384)
        };
        let size = match [extent(columns, activations.w), extent(rows, activations.h)] {
            [Some(width), Some(height)] => [width, height],
            _ => return fail("the sheet would be larger than a canvas can be, 16384 pixels on each side".into()),
        };
        Ok(size)
    }
}

impl Colormap {
    /// The map's 256 RGBA colours from the minimum to the maximum, each packed with red in the lowest byte.
    pub fn table(self) -> [u32; 256] {
        // Ten evenly spaced colours of matplotlib's map, with linear interpolation between them.
        const VIRIDIS: [u32; 10] =
            [0x440154, 0x482878, 0x3e4989, 0x31688e, 0x26828e, 0x1f9e89, 0x35b779, 0x6ece58, 0xb5de2b, 0xfde725];
        const GREY: [u32; 2] = [0x000000, 0xffffff];
        const DIVERGING: [u32; 3] = [0x2166ac, 0xf7f7f7, 0xb2182b];
        let stops: &[u32] = match self {
            Colormap::Viridis => &VIRIDIS,
            Colormap::Grey => &GREY,
            Colormap::Diverging => &DIVERGING,
        };
        std::array::from_fn(|i| {
            let at = i as f32 / 255.0 * (stops.len() - 1) as f32;
            let left = (at as usize).min(stops.len() - 2);
            let part = at - left as f32;
            let channel = |shift: u32| {
                let [a, b] = [stops[left], stops[left + 1]].map(|s| ((s >> shift) & 255) as f32);
                (a + (b - a) * part).round() as u32
            };
            channel(16) | channel(8) << 8 | channel(0) << 16 | 255 << 24
        })
    }
}

/// The index in a colour map's table of a value in the range from `low` to `high`. It is 0 where the range is empty.
pub fn level(value: f32, low: f32, high: f32) -> usize {
    let span = high - low;
    if span > 0.0 { ((value - low) / span * 255.0 + 0.5).clamp(0.0, 255.0) as usize } else { 0 }
}

/// The smallest range that contains this one and is symmetric around zero, for diverging maps.
pub fn symmetric(low: f32, high: f32) -> (f32, f32) {
    let reach = low.abs().max(high.abs());
    (-reach, reach)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet(channels: usize, columns: usize) -> Sheet {
        Sheet {
            image: 0,
            channels: (0..channels as u32).collect(),
            columns,
            scale: 2,
            gap: 1,
            colormap: Colormap::Viridis,
            range: Range::Channel,
        }
    }

    #[test]
    fn sheet_sizes_follow_from_rows_and_columns() {
        let shape = Shape::new(1, 7, 5, 64);
        assert_eq!(sheet(10, 4).size(shape).unwrap(), [4 * 11 - 1, 3 * 15 - 1]);
        assert_eq!(sheet(2, 8).size(shape).unwrap(), [2 * 11 - 1, 14]);
        assert!(sheet(65, 8).size(shape).is_err());
        assert!(sheet(0, 8).size(shape).is_err());
        assert!(Sheet { image: 1, ..sheet(1, 1) }.size(shape).is_err());
        assert!(Sheet { scale: usize::MAX / 2, ..sheet(3, 2) }.size(shape).is_err());
        assert!(sheet(1, 1).size(Shape::new(1, 1, 9000, 1)).is_err());
    }

    #[test]
    fn values_are_mapped_to_colours() {
        let table = Colormap::Viridis.table();
        assert_eq!((table[0], table[255]), (0xff54_0144, 0xff25_e7fd));
        assert_eq!(Colormap::Grey.table()[128] & 0xff, 128);
        assert_eq!(
            [level(0.0, 0.0, 1.0), level(0.5, 0.0, 1.0), level(9.0, 0.0, 1.0), level(1.0, 1.0, 1.0)],
            [0, 128, 255, 0]
        );
        assert_eq!(symmetric(-1.0, 3.0), (-3.0, 3.0));
    }
}
