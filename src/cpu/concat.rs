//! Joins branches along channels, each with its gain.

use super::view::{View, ViewMut};

/// Writes the branches side by side. A gain of 1 copies, so that the values stay bit for bit.
pub fn run<'a>(branches: impl Iterator<Item = (View<'a>, f32)>, mut out: ViewMut<'_>) {
    let mut first = 0;
    for (branch, gain) in branches {
        let channels = first..first + branch.shape.c;
        for p in 0..branch.shape.pixels() {
            let to = &mut out.pixel(p)[channels.clone()];
            if gain == 1.0 {
                to.copy_from_slice(branch.pixel(p));
            } else {
                to.iter_mut().zip(branch.pixel(p)).for_each(|(to, v)| *to = v * gain);
            }
        }
        first = channels.end;
    }
}
