//! Draws activations as a contact sheet.

use super::view::View;
use crate::error::Result;
use crate::inspect::contact_sheet::{Colormap, Range, Sheet, level, symmetric};

/// Draws a contact sheet as RGBA rows of [`Sheet::size`]. The gaps between tiles are transparent.
pub fn draw(x: View<'_>, sheet: &Sheet) -> Result<Vec<u8>> {
    let [width, height] = sheet.size(x.shape)?;
    let mut rgba = vec![0; width * height * 4];
    let table = sheet.colormap.table();
    let columns = sheet.columns.min(sheet.channels.len());
    let (h, w, scale) = (x.shape.h, x.shape.w, sheet.scale);
    let first = sheet.image * h * w;
    let value = |y: usize, column: usize, channel: u32| x.pixel(first + y * w + column)[channel as usize];
    // The smallest and largest value of a channel.
    let extent = |channel: u32| {
        let all = (0..h * w).map(|p| x.pixel(first + p)[channel as usize]);
        all.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
    };
    let whole = match sheet.range {
        Range::Channel => None,
        Range::Fixed(low, high) => Some((low, high)),
        Range::Sheet => {
            let extents = sheet.channels.iter().map(|&c| extent(c));
            extents.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        }
    };
    for (i, &channel) in sheet.channels.iter().enumerate() {
        let (mut low, mut high) = whole.unwrap_or_else(|| extent(channel));
        if sheet.colormap == Colormap::Diverging {
            (low, high) = symmetric(low, high);
        }
        let top = i / columns * (h * scale + sheet.gap);
        let left = i % columns * (w * scale + sheet.gap);
        for y in 0..h * scale {
            let row = &mut rgba[((top + y) * width + left) * 4..][..w * scale * 4];
            for (column, cell) in row.chunks_exact_mut(scale * 4).enumerate() {
                let colour = table[level(value(y / scale, column, channel), low, high)].to_le_bytes();
                cell.chunks_exact_mut(4).for_each(|pixel| pixel.copy_from_slice(&colour));
            }
        }
    }
    Ok(rgba)
}
