//! Maximum and average pooling, vectorised over channels.

use super::view::{View, ViewMut};
use crate::op::{Geometry, adaptive_range};
use std::ops::Range;

/// Channels kept in registers while a window is walked.
const LANES: usize = 16;

/// Rows and columns of the input.
type Area = [Range<usize>; 2];

/// The greatest value of each window.
pub fn max(g: &Geometry, x: View<'_>, out: ViewMut<'_>) {
    let size = [x.shape.h, x.shape.w];
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    reduce(x, out, |cell| (inside(g, cell, size), 1.0), f32::NEG_INFINITY, greater);
}

/// The mean of each window, over its part inside the input or, with `count_padding`, over its part
/// inside input and padding.
pub fn average(g: &Geometry, count_padding: bool, x: View<'_>, out: ViewMut<'_>) {
    let size = [x.shape.h, x.shape.w];
    let mean = |cell| {
        let area = inside(g, cell, size);
        let counted = if count_padding { padded(g, cell, size) } else { area.clone() };
        (area, reciprocal(&counted))
    };
    reduce(x, out, mean, 0.0, |a, b| a + b);
}

/// The mean of each of a grid's regions, which may overlap.
pub fn adaptive_average(x: View<'_>, out: ViewMut<'_>) {
    let (size, grid) = ([x.shape.h, x.shape.w], [out.shape.h, out.shape.w]);
    let region = |cell: [usize; 2]| {
        let area = [0, 1].map(|a| {
            let (start, end) = adaptive_range(cell[a], size[a], grid[a]);
            start..end
        });
        let scale = reciprocal(&area);
        (area, scale)
    };
    reduce(x, out, region, 0.0, |a, b| a + b);
}

/// What a window covers of the input.
fn inside(g: &Geometry, cell: [usize; 2], size: [usize; 2]) -> Area {
    [0, 1].map(|a| {
        let start = cell[a] * g.stride[a];
        let end = (start + g.kernel[a]).saturating_sub(g.pad[a]).min(size[a]);
        start.saturating_sub(g.pad[a]).min(end)..end
    })
}

/// What a window covers of input and padding, counted from the padding's first row and column.
fn padded(g: &Geometry, cell: [usize; 2], size: [usize; 2]) -> Area {
    [0, 1].map(|a| {
        let start = cell[a] * g.stride[a];
        start..(start + g.kernel[a]).min(g.pad[a] + size[a] + g.pad_end[a])
    })
}

fn reciprocal(area: &Area) -> f32 {
    1.0 / (area[0].len() * area[1].len()).max(1) as f32
}

/// Folds the area of each output cell, then scales the result. `area` gives a cell's area and scale.
fn reduce(
    x: View<'_>,
    mut out: ViewMut<'_>,
    area: impl Fn([usize; 2]) -> (Area, f32),
    start: f32,
    fold: impl Fn(f32, f32) -> f32,
) {
    let (from, to) = (x.shape, out.shape);
    for oy in 0..to.h {
        for ox in 0..to.w {
            let ([ys, xs], scale) = area([oy, ox]);
            for n in 0..to.n {
                let cell = out.pixel((n * to.h + oy) * to.w + ox);
                for (i, cell) in cell.chunks_mut(LANES).enumerate() {
                    let mut all = [start; LANES];
                    let some = &mut all[..cell.len()];
                    for y in ys.clone() {
                        let row = (n * from.h + y) * from.w;
                        for p in row + xs.start..row + xs.end {
                            let values = &x.data[p * x.stride + i * LANES..][..some.len()];
                            // The full width by itself: a length the compiler knows stays in registers.
                            match <&mut [f32; LANES]>::try_from(&mut *some) {
                                Ok(full) => full.iter_mut().zip(values).for_each(|(a, &b)| *a = fold(*a, b)),
                                Err(_) => some.iter_mut().zip(values).for_each(|(a, &b)| *a = fold(*a, b)),
                            }
                        }
                    }
                    cell.iter_mut().zip(some).for_each(|(to, v)| *to = *v * scale);
                }
            }
        }
    }
}
