//! Softmax over channels. The work is divided by pixels.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own pixels of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "train")]
mod gradient;

use crate::cpu::kernel::{Call, Kernel};
use crate::cpu::schedule::Extent;
use crate::cpu::simd::{Isa, Vector, Work};
use crate::graph::tensor::Shape;

/// Computes `exp(x - max) / sum`. Subtracting the maximum keeps all powers finite.
pub struct Softmax {
    pub isa: Isa,
}

impl Kernel for Softmax {
    fn extent(&self, output: Shape, _: &[&dyn Kernel]) -> Extent {
        Extent::pixels(output)
    }

    unsafe fn run(&self, call: Call<'_>) {
        // SAFETY: guaranteed by the caller.
        let x = unsafe { call.inputs.view(0) };
        for p in call.pieces {
            // SAFETY: guaranteed by the caller.
            let out = unsafe { call.out.pixel(p) };
            self.isa.run(Pixel { x: &x.pixel(p)[..out.len()], out });
        }
    }
}

/// The softmax of one pixel.
struct Pixel<'a> {
    x: &'a [f32],
    /// As long as `x`.
    out: &'a mut [f32],
}

impl Work for Pixel<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Pixel { x, out } = self;
        assert_eq!(x.len(), out.len());
        let full = x.len() / V::LANES * V::LANES;
        let rest = x.len() - full;
        let (from, to) = (x.as_ptr(), out.as_mut_ptr());
        // SAFETY: both slices have `full + rest` floats.
        unsafe {
            let mut most = V::splat(f32::NEG_INFINITY);
            for i in (0..full).step_by(V::LANES) {
                most = V::load(from.add(i)).max(most);
            }
            let most = most.fold(f32::NEG_INFINITY, f32::max);
            let most = V::splat(x[full..].iter().copied().fold(most, f32::max));
            let mut sum = V::splat(0.0);
            for i in (0..full).step_by(V::LANES) {
                let power = exp(V::load(from.add(i)).sub(most));
                power.store(to.add(i));
                sum = sum.add(power);
            }
            exp(V::load_first(from.add(full), rest).sub(most)).store_first(to.add(full), rest);
            let sum = out[full..].iter().fold(sum.fold(0.0, |a, b| a + b), |a, b| a + b);
            out.iter_mut().for_each(|v| *v /= sum);
        }
    }
}

/// e to the power of each lane, for lanes that are not above zero. Lanes below -87 count as -87, where the result is
/// about 10^-38. The error is at most two units in the last place.
#[inline(always)]
fn exp<V: Vector>(x: V) -> V {
    /// A float so large that its last place is 1, so adding it rounds to integers.
    const WHOLE: f32 = 12_582_912.0;
    /// ln 2 in two parts. The first part times an integer is exact.
    const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];
    const BIAS: f32 = 127.0;
    const FIRST_BIT_OF_EXPONENT: f32 = 8_388_608.0;
    // In this order of operands, NaN stays NaN.
    let x = V::splat(-87.0).max(x);
    let whole = x.mul_add(V::splat(std::f32::consts::LOG2_E), V::splat(WHOLE)).sub(V::splat(WHOLE));
    let part = whole.mul_add(V::splat(-LN_2[1]), whole.mul_add(V::splat(-LN_2[0]), x));
    // The Taylor series of e^part. The first omitted term is at most 10^-8 of the sum, where |part| is ln 2 / 2.
    let mut power = V::splat(1.0 / 5040.0);
    for factorial in [720.0, 120.0, 24.0, 6.0, 2.0, 1.0, 1.0] {
        power = power.mul_add(part, V::splat(1.0 / factorial));
    }
    power.mul(whole.add(V::splat(BIAS)).mul(V::splat(FIRST_BIT_OF_EXPONENT)).with_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Powers<'a>(&'a mut [f32]);

    impl Work for Powers<'_> {
        type Out = ();

        #[inline(always)]
        fn run<V: Vector>(self) {
            for lanes in self.0.chunks_exact_mut(V::LANES) {
                // SAFETY: a chunk has as many floats as a vector.
                unsafe { exp(V::load(lanes.as_ptr())).store(lanes.as_mut_ptr()) }
            }
        }
    }

    #[test]
    fn powers_are_right_to_the_last_places() {
        let x: Vec<f32> = (0..1 << 16).map(|i| -(i as f32) * (87.0 / 65536.0)).collect();
        for isa in Isa::available() {
            let mut powers = x.clone();
            isa.run(Powers(&mut powers));
            assert_eq!(powers[0], 1.0);
            for (x, power) in x.iter().zip(&powers) {
                let exact = f64::from(*x).exp();
                let off = (f64::from(*power) - exact).abs() / exact;
                assert!(off < 2.0 * f64::from(f32::EPSILON), "{isa}: e^{x} is off by {off:e}");
            }
            let mut edges = [f32::NEG_INFINITY, f32::NAN, -1000.0, -87.0].repeat(4);
            isa.run(Powers(&mut edges));
            assert!(edges[0] < 1e-37 && edges[1].is_nan() && edges[0] == edges[2] && edges[2] == edges[3], "{isa}");
        }
    }
}
