//! Vectors of floats, and code that is compiled once for each instruction set.
//!
//! A kernel is a [`Work`] that is generic over the vector type. It is inlined into a function for which the instruction
//! set is enabled. [`Isa::run`] calls the function for this machine's instruction set.

#![allow(unsafe_code, reason = "vectors are loaded and stored through pointers, with instructions that were detected")]
#![deny(unsafe_op_in_unsafe_fn)]

use std::fmt;

/// The instruction set of the kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Four lanes in plain Rust, which the compiler vectorises for the target.
    #[cfg(not(target_feature = "simd128"))]
    Portable,
    /// WebAssembly SIMD, with relaxed multiply-add if the module is built for it.
    #[cfg(target_feature = "simd128")]
    Simd128,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

/// A computation that is generic over the vector type. `run` and all functions that it calls must be
/// `#[inline(always)]`: a separate function would be compiled without the instruction set. That holds for closures, too,
/// which cannot be marked: vectors must not be handled in closures that are passed to `from_fn`, `map` or `fold`, because
/// the compiler does not always inline these, and each instruction then becomes a call.
pub trait Work {
    type Out;

    fn run<V: Vector>(self) -> Self::Out;
}

impl Isa {
    /// The best instruction set of this machine.
    pub fn detect() -> Self {
        #[cfg(target_feature = "simd128")]
        return Isa::Simd128;
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx512f") {
            return Isa::Avx512;
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return Isa::Avx2;
        }
        #[cfg(not(target_feature = "simd128"))]
        Isa::Portable
    }

    /// All instruction sets that this machine supports.
    #[cfg(test)]
    pub fn available() -> impl Iterator<Item = Isa> {
        #[cfg(not(target_feature = "simd128"))]
        let portable = Some(Isa::Portable);
        #[cfg(target_feature = "simd128")]
        let portable = None;
        #[cfg(target_arch = "x86_64")]
        let avx2 = (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Isa::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = None;
        [portable, avx2, Some(Isa::detect())].into_iter().flatten()
    }

    /// The number of floats in a vector.
    pub fn lanes(self) -> usize {
        match self {
            #[cfg(not(target_feature = "simd128"))]
            Isa::Portable => 4,
            #[cfg(target_feature = "simd128")]
            Isa::Simd128 => 4,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => 8,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => 16,
        }
    }

    pub fn run<W: Work>(self, work: W) -> W::Out {
        match self {
            #[cfg(not(target_feature = "simd128"))]
            Isa::Portable => work.run::<Portable>(),
            #[cfg(target_feature = "simd128")]
            Isa::Simd128 => work.run::<wasm::F32x4>(),
            // SAFETY: `detect` and `available` return only instruction sets that this machine supports.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { x86::avx2(work) },
            // SAFETY: see `Isa::Avx2`.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { x86::avx512(work) },
        }
    }
}

/// The instructions to which the portable lanes are compiled.
#[cfg(not(target_feature = "simd128"))]
const PORTABLE: &str = if cfg!(target_arch = "x86_64") {
    "x86-64, SSE2"
} else if cfg!(target_arch = "aarch64") {
    "AArch64, NEON"
} else if cfg!(target_arch = "wasm32") {
    "WebAssembly, no SIMD"
} else {
    "portable"
};

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(not(target_feature = "simd128"))]
            Isa::Portable => PORTABLE,
            #[cfg(target_feature = "simd128")]
            Isa::Simd128 if cfg!(target_feature = "relaxed-simd") => "WebAssembly SIMD (relaxed)",
            #[cfg(target_feature = "simd128")]
            Isa::Simd128 => "WebAssembly SIMD (simd128)",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "x86-64, AVX2+FMA",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "x86-64, AVX-512",
        })
    }
}

/// A vector register of floats.
pub trait Vector: Copy {
    const LANES: usize;
    /// The number of rows of a register tile that is two vectors wide. The sums must fit into registers together with
    /// two vectors of B and one of A. V8 reserves one of 16 registers for itself.
    const ROWS: usize;

    fn splat(v: f32) -> Self;

    /// # Safety
    /// `from` must point to `LANES` floats.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `to` must point to `LANES` floats.
    unsafe fn store(self, to: *mut f32);

    /// Computes `self * b + c`, rounded once or twice.
    fn mul_add(self, b: Self, c: Self) -> Self;

    fn add(self, b: Self) -> Self;

    fn sub(self, b: Self) -> Self;

    fn mul(self, b: Self) -> Self;

    fn div(self, b: Self) -> Self;

    fn sqrt(self) -> Self;

    /// The larger value of each lane; `b` if either of them is NaN.
    fn max(self, b: Self) -> Self;

    /// The lanes of `yes` where `self` and `b` are equal, and those of `no` elsewhere.
    #[cfg(feature = "train")]
    fn select_equal(self, b: Self, yes: Self, no: Self) -> Self;

    /// Converts each lane to an integer, and reinterprets its bits as a float.
    fn with_bits(self) -> Self;

    /// The lanes from `by` on, followed by the first `by` lanes of `next`. `by` is 1, 2 or `LANES - 2`.
    fn slide(self, next: Self, by: usize) -> Self;

    /// Folds all lanes, in order.
    #[inline(always)]
    fn fold(self, first: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
        let mut lanes = [0.0; 16];
        // SAFETY: no vector has more than 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        lanes[..Self::LANES].iter().copied().fold(first, join)
    }

    /// The larger of each lane and zero.
    #[inline(always)]
    fn relu(self) -> Self {
        self.max(Self::splat(0.0))
    }

    /// Loads `count` floats, and fills the remaining lanes with zeros.
    ///
    /// # Safety
    /// `from` must point to `count` floats.
    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: guaranteed by the caller; the array is as long as the longest vector.
        unsafe {
            if count >= Self::LANES {
                return Self::load(from);
            }
            let mut edge = [0.0; 16];
            edge.as_mut_ptr().copy_from_nonoverlapping(from, count);
            Self::load(edge.as_ptr())
        }
    }

    /// Stores the first `count` lanes.
    ///
    /// # Safety
    /// `to` must point to `count` floats.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: guaranteed by the caller; the array is as long as the longest vector.
        unsafe {
            if count >= Self::LANES {
                return self.store(to);
            }
            let mut edge = [0.0; 16];
            self.store(edge.as_mut_ptr());
            to.copy_from_nonoverlapping(edge.as_ptr(), count);
        }
    }
}

#[cfg(not(target_feature = "simd128"))]
#[derive(Clone, Copy)]
pub struct Portable([f32; 4]);

#[cfg(not(target_feature = "simd128"))]
impl Portable {
    #[inline(always)]
    fn zip(self, b: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Portable([0, 1, 2, 3].map(|i| f(self.0[i], b.0[i])))
    }
}

#[cfg(not(target_feature = "simd128"))]
impl Vector for Portable {
    const LANES: usize = 4;
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 8 } else { 4 };

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Portable([v; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: guaranteed by the caller; an array of floats has the alignment of a float.
        Portable(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: guaranteed by the caller; an array of floats has the alignment of a float.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // Without a fused multiply-add instruction, `mul_add` would call a library function.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        let one = |i: usize| if fused { self.0[i].mul_add(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] };
        Portable([0, 1, 2, 3].map(one))
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        self.zip(b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        self.zip(b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        self.zip(b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        self.zip(b, |a, b| a / b)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Portable(self.0.map(f32::sqrt))
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        self.zip(b, |a, b| if a > b { a } else { b })
    }

    #[cfg(feature = "train")]
    #[inline(always)]
    fn select_equal(self, b: Self, yes: Self, no: Self) -> Self {
        Portable([0, 1, 2, 3].map(|i| if self.0[i] == b.0[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    fn with_bits(self) -> Self {
        Portable(self.0.map(|v| f32::from_bits(v as u32)))
    }

    #[inline(always)]
    fn slide(self, next: Self, by: usize) -> Self {
        let lane = |i: usize| if i < 4 { self.0[i] } else { next.0[i - 4] };
        Portable([0, 1, 2, 3].map(|i| lane(i + by)))
    }
}

#[cfg(target_feature = "simd128")]
mod wasm {
    use super::Vector;
    use core::arch::wasm32::*;

    #[derive(Clone, Copy)]
    pub struct F32x4(v128);

    impl Vector for F32x4 {
        const LANES: usize = 4;
        // Without a fused multiply-add, the product needs a register of its own.
        const ROWS: usize = if cfg!(target_feature = "relaxed-simd") { 6 } else { 4 };

        #[inline(always)]
        fn splat(v: f32) -> Self {
            F32x4(f32x4_splat(v))
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: guaranteed by the caller.
            F32x4(unsafe { v128_load(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: guaranteed by the caller.
            unsafe { v128_store(to.cast(), self.0) }
        }

        #[inline(always)]
        fn mul_add(self, b: Self, c: Self) -> Self {
            #[cfg(target_feature = "relaxed-simd")]
            return F32x4(f32x4_relaxed_madd(self.0, b.0, c.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            F32x4(f32x4_add(f32x4_mul(self.0, b.0), c.0))
        }

        #[inline(always)]
        fn add(self, b: Self) -> Self {
            F32x4(f32x4_add(self.0, b.0))
        }

        #[inline(always)]
        fn sub(self, b: Self) -> Self {
            F32x4(f32x4_sub(self.0, b.0))
        }

        #[inline(always)]
        fn mul(self, b: Self) -> Self {
            F32x4(f32x4_mul(self.0, b.0))
        }

        #[inline(always)]
        fn div(self, b: Self) -> Self {
            F32x4(f32x4_div(self.0, b.0))
        }

        #[inline(always)]
        fn sqrt(self) -> Self {
            F32x4(f32x4_sqrt(self.0))
        }

        #[inline(always)]
        fn max(self, b: Self) -> Self {
            // This is one instruction. f32x4_max takes several, for the IEEE rules about NaN and signed zeros.
            F32x4(f32x4_pmax(b.0, self.0))
        }

        #[cfg(feature = "train")]
        #[inline(always)]
        fn select_equal(self, b: Self, yes: Self, no: Self) -> Self {
            F32x4(v128_bitselect(yes.0, no.0, f32x4_eq(self.0, b.0)))
        }

        #[inline(always)]
        fn with_bits(self) -> Self {
            F32x4(i32x4_trunc_sat_f32x4(self.0))
        }

        #[inline(always)]
        fn slide(self, next: Self, by: usize) -> Self {
            F32x4(match by {
                1 => i32x4_shuffle::<1, 2, 3, 4>(self.0, next.0),
                _ => i32x4_shuffle::<2, 3, 4, 5>(self.0, next.0),
            })
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Vector, Work};
    use core::arch::x86_64::*;

    /// # Safety
    /// The machine must support AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<W: Work>(work: W) -> W::Out {
        work.run::<F32x8>()
    }

    /// # Safety
    /// The machine must support AVX-512F.
    #[target_feature(enable = "avx512f,avx2,fma")]
    pub unsafe fn avx512<W: Work>(work: W) -> W::Out {
        work.run::<F32x16>()
    }

    /// # Safety
    /// The machine must support AVX2.
    #[inline(always)]
    unsafe fn slide8(a: __m256, next: __m256, by: usize) -> __m256 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (a, next) = (_mm256_castps_si256(a), _mm256_castps_si256(next));
            // `alignr` shifts within 128-bit halves, so each half needs the half that follows it.
            let middle = _mm256_permute2x128_si256::<0x21>(a, next);
            _mm256_castsi256_ps(match by {
                1 => _mm256_alignr_epi8::<4>(middle, a),
                2 => _mm256_alignr_epi8::<8>(middle, a),
                _ => _mm256_alignr_epi8::<8>(next, middle),
            })
        }
    }

    /// # Safety
    /// The machine must support AVX-512F.
    #[inline(always)]
    unsafe fn slide16(a: __m512, next: __m512, by: usize) -> __m512 {
        // SAFETY: guaranteed by the caller.
        unsafe {
            let (a, next) = (_mm512_castps_si512(a), _mm512_castps_si512(next));
            _mm512_castsi512_ps(match by {
                1 => _mm512_alignr_epi32::<1>(next, a),
                2 => _mm512_alignr_epi32::<2>(next, a),
                _ => _mm512_alignr_epi32::<14>(next, a),
            })
        }
    }

    /// # Safety
    /// The machine must support AVX2.
    #[cfg(feature = "train")]
    #[inline(always)]
    unsafe fn select8(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)) }
    }

    /// # Safety
    /// The machine must support AVX-512F.
    #[cfg(feature = "train")]
    #[inline(always)]
    unsafe fn select16(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
        // SAFETY: guaranteed by the caller.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b), no, yes) }
    }

    /// Declares the vector type of an x86 instruction set, from its number of lanes, the rows of a register tile, and
    /// its instructions.
    macro_rules! vector {
        ($name:ident, $register:ty, $lanes:literal, $rows:literal,
         $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $sub:ident, $mul:ident, $div:ident,
         $sqrt:ident, $max:ident, $whole:ident, $bits:ident, $slide:ident, $select:ident) => {
            #[derive(Clone, Copy)]
            pub struct $name($register);

            // SAFETY of all blocks below: only `avx2` and `avx512` use these types, and these run only on machines that
            // support the instructions. Pointers are guaranteed by the caller.
            #[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all")]
            impl Vector for $name {
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;

                #[inline(always)]
                fn splat(v: f32) -> Self {
                    $name(unsafe { $splat(v) })
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    $name(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut f32) {
                    unsafe { $store(to, self.0) }
                }

                #[inline(always)]
                fn mul_add(self, b: Self, c: Self) -> Self {
                    $name(unsafe { $fma(self.0, b.0, c.0) })
                }

                #[inline(always)]
                fn add(self, b: Self) -> Self {
                    $name(unsafe { $add(self.0, b.0) })
                }

                #[inline(always)]
                fn sub(self, b: Self) -> Self {
                    $name(unsafe { $sub(self.0, b.0) })
                }

                #[inline(always)]
                fn mul(self, b: Self) -> Self {
                    $name(unsafe { $mul(self.0, b.0) })
                }

                #[inline(always)]
                fn div(self, b: Self) -> Self {
                    $name(unsafe { $div(self.0, b.0) })
                }

                #[inline(always)]
                fn sqrt(self) -> Self {
                    $name(unsafe { $sqrt(self.0) })
                }

                #[inline(always)]
                fn max(self, b: Self) -> Self {
                    $name(unsafe { $max(self.0, b.0) })
                }

                #[cfg(feature = "train")]
                #[inline(always)]
                fn select_equal(self, b: Self, yes: Self, no: Self) -> Self {
                    $name(unsafe { $select(self.0, b.0, yes.0, no.0) })
                }

                #[inline(always)]
                fn with_bits(self) -> Self {
                    $name(unsafe { $bits($whole(self.0)) })
                }

                #[inline(always)]
                fn slide(self, next: Self, by: usize) -> Self {
                    $name(unsafe { $slide(self.0, next.0, by) })
                }
            }
        };
    }

    vector!(
        F32x8,
        __m256,
        8,
        6,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        _mm256_mul_ps,
        _mm256_div_ps,
        _mm256_sqrt_ps,
        _mm256_max_ps,
        _mm256_cvtps_epi32,
        _mm256_castsi256_ps,
        slide8,
        select8
    );
    vector!(
        F32x16,
        __m512,
        16,
        8,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        _mm512_mul_ps,
        _mm512_div_ps,
        _mm512_sqrt_ps,
        _mm512_max_ps,
        _mm512_cvtps_epi32,
        _mm512_castsi512_ps,
        slide16,
        select16
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slide;

    impl Work for Slide {
        type Out = ();

        #[inline(always)]
        fn run<V: Vector>(self) {
            let numbers: Vec<f32> = (0..2 * V::LANES).map(|i| i as f32).collect();
            for by in [1, 2, V::LANES - 2] {
                let mut lanes = [0.0; 16];
                // SAFETY: `numbers` has two vectors, and no vector has more than 16 lanes.
                unsafe {
                    let [first, next] = [V::load(numbers.as_ptr()), V::load(numbers.as_ptr().add(V::LANES))];
                    first.slide(next, by).store(lanes.as_mut_ptr());
                }
                assert_eq!(lanes[..V::LANES], numbers[by..by + V::LANES], "by {by}");
            }
        }
    }

    #[test]
    fn lanes_slide_in_every_instruction_set() {
        Isa::available().for_each(|isa| isa.run(Slide));
    }
}
