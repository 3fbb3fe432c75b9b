//! Matrix product (GEMM) with bias and ReLU, on which all convolutions and dense layers are built.
//!
//! `C = relu(A * B + bias)`, or `C += A * B` for gradients to which several layers contribute. The rows of A are pixels or their windows, and are read in place. The columns of B are
//! output channels; they are packed once, in panels as wide as the register tile. [`Packed::run`] multiplies all rows
//! by one panel after the other, a strip by part of a panel a few rows at a time, and a register tile keeps its part of
//! C in registers.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own rows of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::memory::Floats;
use super::simd::{Isa, Vector, Work};
use super::view::RowsMut;
use std::ops::Range;

/// The rows of A. Each row consists of `segments` runs of `length` floats that begin `pitch` floats apart. A matrix has
/// one run in each row. A window has one run for each row of the kernel, so it is read in place (virtual im2col).
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    /// The number of rows.
    pub count: usize,
    /// The number of rows that begin `step` floats apart. The next line of rows begins `line` floats after the previous
    /// one.
    pub width: usize,
    pub step: usize,
    pub line: usize,
    pub segments: usize,
    pub length: usize,
    pub pitch: usize,
}

impl<'a> Rows<'a> {
    /// The rows of a matrix: row r is `data[r * stride ..][.. depth]`.
    pub fn matrix(data: &'a [f32], stride: usize, depth: usize, count: usize) -> Self {
        Rows { data, count, width: count, step: stride, line: 0, segments: 1, length: depth, pitch: 0 }
    }

    fn offset(&self, row: usize) -> usize {
        row / self.width * self.line + row % self.width * self.step
    }

    /// Whether all floats of all rows are within `data`.
    fn fits(&self) -> bool {
        let lines = self.count.div_ceil(self.width.max(1));
        let last = lines.saturating_sub(1) * self.line + (self.width.min(self.count).max(1) - 1) * self.step;
        self.count == 0 || last + (self.segments - 1) * self.pitch + self.length <= self.data.len()
    }
}

/// A weight matrix (depth, columns) with its bias, packed for one instruction set.
pub struct Packed {
    isa: Isa,
    depth: usize,
    columns: usize,
    /// Panels of as many columns as two vectors have lanes; the last panel has one vector if that is enough. Panels are
    /// row-major. Columns beyond the last are zero.
    panels: Floats,
    /// One for each column of the panels.
    bias: Floats,
}

/// What happens to a sum of products before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epilogue {
    /// Values below zero become zero.
    pub relu: bool,
    /// The sum is added to what the output holds, instead of to the bias.
    pub add: bool,
}

impl Epilogue {
    /// ReLU or nothing, for outputs that are replaced.
    pub fn relu(relu: bool) -> Self {
        Epilogue { relu, add: false }
    }
}

/// The number of products that are summed in one chain before the sum is added to C. It is small enough to limit
/// rounding errors, and to keep that part of a panel in the first-level cache together with A.
pub const CHAIN: usize = 256;

impl Packed {
    /// Packs `weights` (columns, depth), which has one row for each output channel.
    pub fn new(isa: Isa, weights: &[f32], depth: usize, bias: &[f32]) -> Self {
        assert_eq!(weights.len(), depth * bias.len(), "one row of weights a bias");
        let lanes = isa.lanes();
        let mut packed = Self::zeros(isa, depth, bias.len());
        packed.bias[..bias.len()].copy_from_slice(bias);
        for first in (0..packed.bias.len()).step_by(2 * lanes) {
            let width = (2 * lanes).min(packed.bias.len() - first);
            let panel = &mut packed.panels[first * depth..][..width * depth];
            for (i, row) in weights.chunks_exact(depth).skip(first).take(width).enumerate() {
                panel[i..].iter_mut().step_by(width).zip(row).for_each(|(to, v)| *to = *v);
            }
        }
        packed
    }

    /// A matrix of zeros, for [`Packed::update`].
    pub fn zeros(isa: Isa, depth: usize, columns: usize) -> Self {
        let padded = columns.next_multiple_of(isa.lanes());
        Packed { isa, depth, columns, panels: Floats::zeros(padded * depth), bias: Floats::zeros(padded) }
    }

    /// Replaces the weights, which are (depth, columns), and the bias. An empty bias leaves the bias as it is.
    #[cfg(feature = "train")]
    pub fn update(&mut self, weights: &[f32], bias: &[f32]) {
        let (depth, columns) = (self.depth, self.columns);
        assert_eq!(weights.len(), depth * columns, "one row of weights for each row of the matrix");
        let lanes = self.isa.lanes();
        self.bias[..bias.len()].copy_from_slice(bias);
        for first in (0..self.bias.len()).step_by(2 * lanes) {
            let width = (2 * lanes).min(self.bias.len() - first);
            let count = width.min(columns - first);
            let panel = &mut self.panels[first * depth..][..width * depth];
            for (to, row) in panel.chunks_exact_mut(width).zip(weights.chunks_exact(columns)) {
                to[..count].copy_from_slice(&row[first..first + count]);
            }
        }
    }

    /// The number of columns of the product.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The length of a row of A.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The number of panels.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(2 * self.isa.lanes())
    }

    /// Multiplies these rows of `a` by these panels, and writes the result to the same rows and the panels' columns of
    /// `c`. Partial sums have at most `chain` products.
    ///
    /// # Safety
    /// `c` must have `a.count` rows of all columns, and no other thread may access the rows and columns that are
    /// written.
    pub unsafe fn run(
        &self,
        a: &Rows<'_>,
        rows: Range<usize>,
        c: RowsMut,
        panels: Range<usize>,
        epilogue: Epilogue,
        chain: usize,
    ) {
        assert_eq!(a.segments * a.length, self.depth, "rows as long as the weights are deep");
        assert!(rows.end <= a.count && panels.end <= self.panels() && a.fits(), "A is too short");
        self.isa.run(Product { packed: self, a, rows, c, panels, epilogue, chain });
    }
}

/// One call of [`Packed::run`].
struct Product<'a> {
    packed: &'a Packed,
    a: &'a Rows<'a>,
    rows: Range<usize>,
    c: RowsMut,
    panels: Range<usize>,
    epilogue: Epilogue,
    chain: usize,
}

impl Work for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Product { packed, a, rows, c, panels, epilogue, chain } = self;
        for panel in panels {
            let column = panel * 2 * V::LANES;
            let columns = (2 * V::LANES).min(packed.columns - column);
            let width = if columns > V::LANES { 2 * V::LANES } else { V::LANES };
            let mut b = packed.panels[column * packed.depth..].as_ptr();
            // Short segments are taken whole, several at a time; long segments are divided.
            let (together, part) =
                ((chain / a.length).clamp(1, a.segments), a.length.div_ceil(a.length.div_ceil(chain)));
            for segment in (0..a.segments).step_by(together) {
                let segments = together.min(a.segments - segment);
                for at in (0..a.length).step_by(part) {
                    let length = part.min(a.length - at);
                    let strip = Strip {
                        a,
                        from: segment * a.pitch + at,
                        segments,
                        length,
                        b,
                        bias: packed.bias[column..].as_ptr(),
                        c: RowsMut { data: c.data.wrapping_add(column), stride: c.stride },
                        columns,
                        first: segment == 0 && at == 0 && !epilogue.add,
                        relu: epilogue.relu && segment + segments == a.segments && at + length == a.length,
                    };
                    // SAFETY: guaranteed by the caller of `Packed::run` and by its assertions.
                    unsafe {
                        if width > V::LANES {
                            strip.down::<V, 2>(rows.clone());
                        } else {
                            strip.down::<V, 1>(rows.clone());
                        }
                    }
                    b = b.wrapping_add(segments * length * width);
                }
            }
        }
    }
}

/// All rows of A and a part of one panel.
#[derive(Clone, Copy)]
struct Strip<'a> {
    a: &'a Rows<'a>,
    /// The offset in a row of A at which the part begins.
    from: usize,
    segments: usize,
    length: usize,
    b: *const f32,
    bias: *const f32,
    c: RowsMut,
    /// The number of columns of C in this panel: at most two vectors.
    columns: usize,
    /// Whether the bias is added instead of what C holds.
    first: bool,
    relu: bool,
}

impl Strip<'_> {
    /// Multiplies these rows.
    ///
    /// # Safety
    /// The machine must support V. A, B and C must be as long as [`Packed::run`] requires, with a panel of WIDTH
    /// vectors.
    #[inline(always)]
    unsafe fn down<V: Vector, const WIDTH: usize>(&self, rows: Range<usize>) {
        let at = RowOffsets::new(self.a, rows.start);
        // SAFETY: guaranteed by the caller.
        unsafe {
            // The most frequent case is compiled separately: an outer loop over segments would cost registers.
            if self.segments == 1 {
                down::<V, _>(rows, &mut StripTiles::<WIDTH, true> { strip: self, at });
            } else {
                down::<V, _>(rows, &mut StripTiles::<WIDTH, false> { strip: self, at });
            }
        }
    }
}

/// The register tiles of a strip. ONE: each row of A has one segment.
struct StripTiles<'a, const WIDTH: usize, const ONE: bool> {
    strip: &'a Strip<'a>,
    at: RowOffsets,
}

impl<const WIDTH: usize, const ONE: bool> Tiles for StripTiles<'_, WIDTH, ONE> {
    const TALL: bool = WIDTH == 2 && ONE;

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        let Strip { a, from, segments, length, b, bias, c, columns, first, relu } = *self.strip;
        // SAFETY: guaranteed by the caller; no more than `columns` columns of C are accessed.
        unsafe {
            let start = a.data.as_ptr().add(from);
            let mut pointers = [start; ROWS];
            for pointer in &mut pointers {
                *pointer = start.add(self.at.next(a));
            }
            let mut sum = [[V::splat(0.0); WIDTH]; ROWS];
            if ONE {
                sum = product(pointers, length, b, sum);
            } else {
                for i in 0..segments {
                    sum = product(pointers, length, b.wrapping_add(i * length * WIDTH * V::LANES), sum);
                    for pointer in &mut pointers {
                        *pointer = pointer.wrapping_add(a.pitch);
                    }
                }
            }
            for (r, sum) in sum.into_iter().enumerate() {
                let c = c.data.add((row + r) * c.stride);
                for (i, sum) in sum.into_iter().enumerate() {
                    let (at, count) = (i * V::LANES, columns - i * V::LANES);
                    let total = if first { V::load(bias.add(at)) } else { V::load_first(c.add(at), count) };
                    let sum = total.add(sum);
                    let sum = if relu { sum.relu() } else { sum };
                    sum.store_first(c.add(at), count);
                }
            }
        }
    }
}

/// Computes the offsets of consecutive rows of A without a division for each row.
struct RowOffsets {
    line: usize,
    x: usize,
}

impl RowOffsets {
    fn new(a: &Rows<'_>, row: usize) -> Self {
        let x = row % a.width.max(1);
        RowOffsets { line: a.offset(row) - x * a.step, x }
    }

    #[inline(always)]
    fn next(&mut self, a: &Rows<'_>) -> usize {
        let at = self.line + self.x * a.step;
        self.x += 1;
        if self.x == a.width {
            (self.x, self.line) = (0, self.line + a.line);
        }
        at
    }
}

/// Computes a few rows at a time.
pub trait Tiles {
    /// Whether tiles as tall as the registers allow are worth their code size. Most work has panels of two vectors and
    /// rows of one segment.
    const TALL: bool;

    /// Computes ROWS rows from `row` on.
    ///
    /// # Safety
    /// There must be ROWS rows from `row` on, and the machine must support V.
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize);
}

/// Computes all rows: full tiles first, then the remaining rows.
///
/// # Safety
/// The rows must exist, and the machine must support V.
#[inline(always)]
pub unsafe fn down<V: Vector, T: Tiles>(rows: Range<usize>, tiles: &mut T) {
    let mut row = rows.start;
    // SAFETY: each tile is within `rows`; the rest is guaranteed by the caller.
    unsafe {
        if T::TALL && V::ROWS == 8 {
            while row + 8 <= rows.end {
                tiles.tile::<V, 8>(row);
                row += 8;
            }
        }
        if T::TALL && V::ROWS == 6 {
            while row + 6 <= rows.end {
                tiles.tile::<V, 6>(row);
                row += 6;
            }
        }
        while row + 4 <= rows.end {
            tiles.tile::<V, 4>(row);
            row += 4;
        }
        match rows.end - row {
            3 if T::TALL => tiles.tile::<V, 3>(row),
            2 if T::TALL => tiles.tile::<V, 2>(row),
            _ => {
                for row in row..rows.end {
                    tiles.tile::<V, 1>(row);
                }
            }
        }
    }
}

/// The innermost loop: multiplies ROWS rows of A by a panel of WIDTH vectors, and adds the products to sums in
/// registers.
///
/// # Safety
/// Each pointer of `a` must point to `length` floats, and `b` to `length` rows of WIDTH vectors. The machine must
/// support V.
#[inline(always)]
pub unsafe fn product<V: Vector, const ROWS: usize, const WIDTH: usize>(
    mut a: [*const f32; ROWS],
    length: usize,
    mut b: *const f32,
    mut sum: [[V; WIDTH]; ROWS],
) -> [[V; WIDTH]; ROWS] {
    /// The number of steps that are unrolled, so that their addresses are constant offsets from one pointer for each
    /// row. Not in WebAssembly, where the compiler reorders the steps by sum and then runs out of registers.
    const UNROLL: usize = if cfg!(target_family = "wasm") { 1 } else { 4 };
    let mut left = length;
    // SAFETY: guaranteed by the caller. With `add`, unlike `wrapping_add`, offsets become part of load instructions.
    unsafe {
        while left >= UNROLL {
            for k in 0..UNROLL {
                step(&mut sum, a.map(|a| a.add(k)), b.add(k * WIDTH * V::LANES));
            }
            a = a.map(|a| a.add(UNROLL));
            b = b.add(UNROLL * WIDTH * V::LANES);
            left -= UNROLL;
        }
        while left > 0 {
            step(&mut sum, a, b);
            a = a.map(|a| a.add(1));
            b = b.add(WIDTH * V::LANES);
            left -= 1;
        }
    }
    sum
}

/// One step of [`product`].
///
/// # Safety
/// The same as for [`product`], with one float of each row.
#[inline(always)]
unsafe fn step<V: Vector, const ROWS: usize, const WIDTH: usize>(
    sum: &mut [[V; WIDTH]; ROWS],
    a: [*const f32; ROWS],
    b: *const f32,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let mut panel = [V::splat(0.0); WIDTH];
        for (i, v) in panel.iter_mut().enumerate() {
            *v = V::load(b.add(i * V::LANES));
        }
        for (sum, a) in sum.iter_mut().zip(a) {
            let a = V::splat(*a);
            for (sum, b) in sum.iter_mut().zip(panel) {
                *sum = a.mul_add(b, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 with a long period.
    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn the_product_is_right_in_every_instruction_set() {
        // Rows around the height of every tile, columns around the width of every panel, and more than one chain of
        // sums.
        let shapes = [(1, 1, 1), (7, 33, 17), (13, 32, 16), (24, 65, 31), (3, 100, 40), (9, 5, 64), (70, 2000, 9)];
        for isa in Isa::available() {
            for ((rows, depth, columns), relu) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
                // Strides that are larger than the rows.
                let (a_stride, c_stride) = (depth + 3, columns + 2);
                let (a, weights, bias) = (values(rows * a_stride), values(columns * depth), values(columns));
                let packed = Packed::new(isa, &weights, depth, &bias);
                let mut c = vec![9.0; rows * c_stride];
                let a_rows = Rows::matrix(&a, a_stride, depth, rows);
                // SAFETY: C has these rows.
                unsafe {
                    packed.run(
                        &a_rows,
                        0..rows,
                        RowsMut { data: c.as_mut_ptr(), stride: c_stride },
                        0..packed.panels(),
                        Epilogue::relu(relu),
                        CHAIN,
                    )
                };
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
    fn segments_are_rows_of_a_window() {
        // A 3x2 kernel with stride 2 across, on a map of width 7 with two channels: two lines of three windows.
        let (pitch, length) = (14, 4);
        let data = values(4 * pitch);
        let a = Rows { data: &data, count: 6, width: 3, step: 4, line: pitch, segments: 3, length, pitch };
        for isa in Isa::available() {
            for chain in [1, 3, 4, 9, 100] {
                let packed = Packed::new(isa, &values(5 * 12), 12, &values(5));
                let mut c = vec![0.0; 6 * 5];
                // SAFETY: C has six rows of five columns.
                unsafe {
                    packed.run(
                        &a,
                        1..6,
                        RowsMut { data: c.as_mut_ptr(), stride: 5 },
                        0..packed.panels(),
                        Epilogue::default(),
                        chain,
                    )
                };
                for (i, got) in c.into_iter().enumerate() {
                    let (row, column) = (i / 5, i % 5);
                    let element = |k: usize| data[row / 3 * pitch + row % 3 * 4 + k / length * pitch + k % length];
                    let sum: f32 = (0..12).map(|k| element(k) * values(60)[column * 12 + k]).sum();
                    let expected = if row == 0 { 0.0 } else { sum + values(5)[column] };
                    assert!((got - expected).abs() < 1e-5, "{isa}, {chain}: {row} {column}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "A is too short")]
    fn a_matrix_that_is_too_short_is_refused() {
        let packed = Packed::new(Isa::detect(), &[1.0; 6], 2, &[0.0; 3]);
        let mut c = [0.0; 6];
        // SAFETY: C has two rows.
        unsafe {
            packed.run(
                &Rows::matrix(&[1.0; 3], 2, 2, 2),
                0..2,
                RowsMut { data: c.as_mut_ptr(), stride: 3 },
                0..1,
                Epilogue::default(),
                CHAIN,
            )
        };
    }
}
