//! Matrix product with bias and ReLU: the arithmetic of every convolution and dense layer.
//!
//! `C = relu(A * B + bias)`. A's rows are pixels and lie where they are; B's columns are outputs and
//! are packed once, in panels as wide as the register tile. Three layers: [`Packed`] blocks the rows
//! for the cache, a strip takes a block past one panel, a tile keeps its part of C in registers.
//! The only unsafe code of the engine is here.

#![deny(unsafe_op_in_unsafe_fn)]

use std::fmt;

/// The instruction set that the tiles are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Four lanes in plain Rust: what the compiler makes of them for the machine at hand.
    #[cfg(not(target_feature = "simd128"))]
    Portable,
    #[cfg(target_feature = "simd128")]
    Simd128,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best there is on this machine.
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

    /// Floats in a vector.
    fn lanes(self) -> usize {
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
}

/// What the portable lanes become.
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

/// Rows to read: row r is `data[r * stride ..]`, as long as the matrix is deep.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

/// Rows to write, laid out as in [`Rows`].
pub struct RowsMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

/// A weight matrix (depth, columns) with its bias, packed for one instruction set.
pub struct Packed {
    isa: Isa,
    depth: usize,
    columns: usize,
    /// Panels of two vectors' columns, the last of one vector where that is enough. Within a panel
    /// row by row; columns beyond the last are zero.
    panels: Vec<f32>,
    /// As many as the panels have columns.
    bias: Vec<f32>,
}

impl Packed {
    /// `weights` is (columns, depth): one row an output.
    pub fn new(isa: Isa, weights: &[f32], depth: usize, bias: &[f32]) -> Self {
        assert_eq!(weights.len(), depth * bias.len(), "one row of weights a bias");
        let (columns, lanes) = (bias.len(), isa.lanes());
        let padded = columns.next_multiple_of(lanes);
        let mut packed = Packed { isa, depth, columns, panels: vec![0.0; padded * depth], bias: vec![0.0; padded] };
        packed.bias[..columns].copy_from_slice(bias);
        for first in (0..padded).step_by(2 * lanes) {
            let width = (2 * lanes).min(padded - first);
            let panel = &mut packed.panels[first * depth..][..width * depth];
            for (i, row) in weights.chunks_exact(depth).skip(first).take(width).enumerate() {
                panel[i..].iter_mut().step_by(width).zip(row).for_each(|(to, v)| *to = *v);
            }
        }
        packed
    }

    /// Length of a row of A.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Rows that stay in the second-level cache while the panels go by.
    pub fn block_rows(&self) -> usize {
        const FLOATS: usize = 64 * 1024;
        // A multiple of every tile's height (4, 6 and 8).
        (FLOATS / self.depth).max(24) / 24 * 24
    }

    /// Multiplies `a` by the weights into the first columns of `c`'s rows.
    pub fn run(&self, a: Rows<'_>, c: RowsMut<'_>, relu: bool) {
        let Some(last) = a.count.checked_sub(1) else { return };
        assert!(a.data.len() >= last * a.stride + self.depth, "A is too short");
        assert!(c.stride >= self.columns && c.data.len() >= last * c.stride + self.columns, "C is too short");
        let (block, panel) = (self.block_rows(), 2 * self.isa.lanes());
        for first in (0..a.count).step_by(block) {
            for column in (0..self.columns).step_by(panel) {
                let strip = Strip {
                    rows: block.min(a.count - first),
                    depth: self.depth,
                    columns: panel.min(self.columns - column),
                    a: a.data[first * a.stride..].as_ptr(),
                    a_stride: a.stride,
                    b: self.panels[column * self.depth..].as_ptr(),
                    bias: self.bias[column..].as_ptr(),
                    c: c.data[first * c.stride + column..].as_mut_ptr(),
                    c_stride: c.stride,
                    relu,
                };
                // SAFETY: the assertions above give `rows` rows of `depth` in A and of `columns` in C from
                // these pointers on; `new` made the panel and its bias whole vectors wide; `isa` was detected.
                unsafe { strip.run(self.isa) };
            }
        }
    }
}

/// Products summed in one chain. A long chain of f32 additions loses digits: BVLC's first layer, 147
/// products up to 10^3, then misses 1e-4. Short chains that are added up afterwards do not.
const RUN: usize = 32;

/// A block of A's rows against one panel.
struct Strip {
    rows: usize,
    depth: usize,
    /// Columns of C that there are, at most two vectors'.
    columns: usize,
    a: *const f32,
    a_stride: usize,
    b: *const f32,
    bias: *const f32,
    c: *mut f32,
    c_stride: usize,
    relu: bool,
}

impl Strip {
    /// # Safety
    /// The machine has `isa`. `a` and `c` point to `rows` rows of `depth` and `columns` floats, `b` to a
    /// panel of `depth` rows and `bias` to one row, as wide as the panel; nothing else has `c`.
    unsafe fn run(&self, isa: Isa) {
        // Tile heights: as many rows as accumulators fit beside two vectors of B and one of A.
        // SAFETY: handed on from the caller.
        unsafe {
            match isa {
                #[cfg(not(target_feature = "simd128"))]
                Isa::Portable => self.tiles::<Portable, 4>(),
                #[cfg(target_feature = "simd128")]
                Isa::Simd128 => self.tiles::<wasm::F32x4, 4>(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => self.avx2(),
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512 => self.avx512(),
            }
        }
    }

    /// # Safety
    /// As [`Strip::run`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self) {
        // SAFETY: handed on from the caller.
        unsafe { self.tiles::<x86::F32x8, 6>() }
    }

    /// # Safety
    /// As [`Strip::run`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512(&self) {
        // SAFETY: handed on from the caller.
        unsafe { self.tiles::<x86::F32x16, 8>() }
    }

    /// # Safety
    /// As [`Strip::run`], the machine having V.
    #[inline(always)]
    unsafe fn tiles<V: Vector, const ROWS: usize>(&self) {
        // SAFETY: handed on from the caller.
        unsafe {
            if self.columns > V::LANES {
                self.down::<V, ROWS, 2>();
            } else {
                self.down::<V, ROWS, 1>();
            }
        }
    }

    /// Walks down the strip: full tiles, then what is left in halves.
    ///
    /// # Safety
    /// As [`Strip::tiles`], the panel being WIDTH vectors wide.
    #[inline(always)]
    unsafe fn down<V: Vector, const ROWS: usize, const WIDTH: usize>(&self) {
        let mut row = 0;
        // SAFETY: a tile is taken only where its rows are left; the rest is handed on from the caller.
        unsafe {
            while row + ROWS <= self.rows {
                self.tile::<V, ROWS, WIDTH>(row);
                row += ROWS;
            }
            if ROWS > 4 && row + 4 <= self.rows {
                self.tile::<V, 4, WIDTH>(row);
                row += 4;
            }
            if row + 2 <= self.rows {
                self.tile::<V, 2, WIDTH>(row);
                row += 2;
            }
            if row < self.rows {
                self.tile::<V, 1, WIDTH>(row);
            }
        }
    }

    /// ROWS rows of C, WIDTH vectors wide, in registers from the bias to the ReLU.
    ///
    /// # Safety
    /// As [`Strip::down`], `row + ROWS` being at most `rows`.
    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize, const WIDTH: usize>(&self, row: usize) {
        // SAFETY: A is read at `ROWS` rows of `depth` and B at `depth` rows of `WIDTH` vectors, all of
        // which the caller vouches for; C is written as far as `columns`, through a buffer at the edge.
        unsafe {
            let mut total = [[V::splat(0.0); WIDTH]; ROWS];
            for row in &mut total {
                for (i, total) in row.iter_mut().enumerate() {
                    *total = V::load(self.bias.wrapping_add(i * V::LANES));
                }
            }
            let a: [*const f32; ROWS] = std::array::from_fn(|r| self.a.wrapping_add((row + r) * self.a_stride));
            let mut panel = self.b;
            for first in (0..self.depth).step_by(RUN) {
                let mut sum = [[V::splat(0.0); WIDTH]; ROWS];
                for k in first..self.depth.min(first + RUN) {
                    let mut b = [V::splat(0.0); WIDTH];
                    for b in &mut b {
                        *b = V::load(panel);
                        panel = panel.wrapping_add(V::LANES);
                    }
                    for (sum, a) in sum.iter_mut().zip(a) {
                        let a = V::splat(*a.wrapping_add(k));
                        for (sum, b) in sum.iter_mut().zip(b) {
                            *sum = a.mul_add(b, *sum);
                        }
                    }
                }
                for (total, sum) in total.iter_mut().flatten().zip(sum.iter().flatten()) {
                    *total = total.add(*sum);
                }
            }
            for (r, sum) in total.iter().enumerate() {
                let c = self.c.wrapping_add((row + r) * self.c_stride);
                for (i, &sum) in sum.iter().enumerate() {
                    let sum = if self.relu { sum.relu() } else { sum };
                    let (c, left) = (c.wrapping_add(i * V::LANES), self.columns - i * V::LANES);
                    if left >= V::LANES {
                        sum.store(c);
                    } else {
                        let mut edge = [0.0; 16];
                        sum.store(edge.as_mut_ptr());
                        c.copy_from_nonoverlapping(edge.as_ptr(), left);
                    }
                }
            }
        }
    }
}

/// A register of floats. The methods are inlined into code compiled for the instruction set.
trait Vector: Copy {
    const LANES: usize;

    fn splat(v: f32) -> Self;

    /// # Safety
    /// `from` points to `LANES` floats.
    unsafe fn load(from: *const f32) -> Self;

    /// # Safety
    /// `to` points to `LANES` floats.
    unsafe fn store(self, to: *mut f32);

    /// `self * b + c`, rounded once or twice.
    fn mul_add(self, b: Self, c: Self) -> Self;

    fn add(self, b: Self) -> Self;

    /// The greater of each lane and zero.
    fn relu(self) -> Self;
}

#[cfg(not(target_feature = "simd128"))]
#[derive(Clone, Copy)]
struct Portable([f32; 4]);

#[cfg(not(target_feature = "simd128"))]
impl Vector for Portable {
    const LANES: usize = 4;

    #[inline(always)]
    fn splat(v: f32) -> Self {
        Portable([v; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's; an array of floats is aligned as a float.
        Portable(unsafe { *from.cast() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's; an array of floats is aligned as a float.
        unsafe { *to.cast() = self.0 }
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // Without the instruction a fused multiply-add is a library call.
        let fused = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        Portable([0, 1, 2, 3].map(
            |i| {
                if fused { self.0[i].mul_add(b.0[i], c.0[i]) } else { self.0[i] * b.0[i] + c.0[i] }
            },
        ))
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Portable([0, 1, 2, 3].map(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    fn relu(self) -> Self {
        Portable(self.0.map(|v| if v > 0.0 { v } else { 0.0 }))
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

        #[inline(always)]
        fn splat(v: f32) -> Self {
            F32x4(f32x4_splat(v))
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller's.
            F32x4(unsafe { v128_load(from.cast()) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller's.
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
        fn relu(self) -> Self {
            F32x4(f32x4_pmax(f32x4_splat(0.0), self.0))
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use core::arch::x86_64::*;

    /// A vector type of one x86 instruction set.
    macro_rules! vector {
        ($name:ident, $register:ty, $lanes:literal, $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $max:ident) => {
            #[derive(Clone, Copy)]
            pub struct $name($register);

            // SAFETY of every block below: only `Strip::avx2` and `Strip::avx512` use these types, and they
            // run only where the instructions were detected; pointers are the caller's.
            impl Vector for $name {
                const LANES: usize = $lanes;

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
                fn relu(self) -> Self {
                    $name(unsafe { $max(self.0, $splat(0.0)) })
                }
            }
        };
    }

    vector!(
        F32x8,
        __m256,
        8,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps
    );
    vector!(
        F32x16,
        __m512,
        16,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every instruction set of this machine, not only the best.
    fn available() -> impl Iterator<Item = Isa> {
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

    /// Numbers between -1 and 1 that repeat late.
    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_product() {
        // Rows around every tile's height, columns around every panel's width, one run of sums and more;
        // the last has several blocks of rows.
        let shapes = [(1, 1, 1), (7, 33, 17), (13, 32, 16), (24, 65, 31), (3, 100, 40), (9, 5, 64), (70, 2000, 9)];
        for isa in available() {
            for ((rows, depth, columns), relu) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
                // Rows that are longer than what is read and written of them.
                let (a_stride, c_stride) = (depth + 3, columns + 2);
                let (a, weights, bias) = (values(rows * a_stride), values(columns * depth), values(columns));
                let packed = Packed::new(isa, &weights, depth, &bias);
                let mut c = vec![9.0; rows * c_stride];
                let a_rows = Rows { data: &a, stride: a_stride, count: rows };
                packed.run(a_rows, RowsMut { data: &mut c, stride: c_stride }, relu);
                for (i, &got) in c.iter().enumerate() {
                    let (row, column) = (i / c_stride, i % c_stride);
                    if column >= columns {
                        assert_eq!(got, 9.0, "{isa}: beyond the last column of row {row}");
                        continue;
                    }
                    let products =
                        (0..depth).map(|k| a[row * a_stride + k] as f64 * weights[column * depth + k] as f64);
                    let sum = bias[column] as f64 + products.sum::<f64>();
                    let expected = if relu { sum.max(0.0) } else { sum };
                    assert!(
                        (got as f64 - expected).abs() <= 2e-5 + 1e-5 * expected.abs(),
                        "{isa}, {rows}x{depth}x{columns}, row {row}, column {column}: {got}, expected {expected}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "C is too short")]
    fn what_does_not_fit_is_not_written() {
        let packed = Packed::new(Isa::detect(), &[1.0; 6], 2, &[0.0; 3]);
        let a = Rows { data: &[1.0; 4], stride: 2, count: 2 };
        packed.run(a, RowsMut { data: &mut [0.0; 5], stride: 3 }, false);
    }
}
