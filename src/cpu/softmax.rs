//! Softmax over channels. The work is divided by pixels.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::view::{Out, View};
use std::ops::Range;

/// `exp(x - max) / sum`: subtracting the greatest value keeps every power finite.
///
/// # Safety
/// Nothing else uses these pixels of `out`.
pub unsafe fn run(x: View<'_>, out: Out<'_>, pixels: Range<usize>) {
    for p in pixels {
        // SAFETY: the caller's.
        let (x, out) = (x.pixel(p), unsafe { out.pixel(p) });
        let max = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        for (to, v) in out.iter_mut().zip(x) {
            *to = (v - max).exp();
            sum += *to;
        }
        out.iter_mut().for_each(|v| *v /= sum);
    }
}
