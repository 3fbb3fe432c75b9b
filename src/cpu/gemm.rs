//! Matrix product with bias and ReLU: the arithmetic of every convolution and dense layer.
//!
//! `C = relu(A * B + bias)`. A's rows are pixels, or their neighbourhoods, and lie where they are; B's
//! columns are outputs and are packed once, in panels as wide as the register tile. A [`Packed`] takes
//! rows past one panel after the other, a strip takes them a few at a time, and a tile keeps its part
//! of C in registers.

#![allow(unsafe_code, reason = "kernels of vectors, and tasks that write their own rows of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::memory::Floats;
use super::simd::{Isa, Vector, Work};
use super::view::RowsMut;
use std::array::from_fn;
use std::ops::Range;

/// Rows to read, each of `segments` runs of floats that lie `pitch` apart. A matrix has one run a row; a
/// neighbourhood has one a row of the kernel, and so need not be copied out.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub data: &'a [f32],
    /// How many rows there are.
    pub count: usize,
    /// How many lie `step` apart before the next line of them begins, `line` after this one began.
    pub width: usize,
    pub step: usize,
    pub line: usize,
    pub segments: usize,
    pub length: usize,
    pub pitch: usize,
}

impl<'a> Rows<'a> {
    /// A matrix: row r is `data[r * stride ..][.. depth]`.
    pub fn matrix(data: &'a [f32], stride: usize, depth: usize, count: usize) -> Self {
        Rows { data, count, width: count, step: stride, line: 0, segments: 1, length: depth, pitch: 0 }
    }

    fn offset(&self, row: usize) -> usize {
        row / self.width * self.line + row % self.width * self.step
    }

    /// Whether every float of every row is there.
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
    /// Panels of two vectors' columns, the last of one vector where that is enough. Within a panel
    /// row by row; columns beyond the last are zero.
    panels: Floats,
    /// As many as the panels have columns.
    bias: Floats,
}

/// Products summed in one chain before they are added to what is there: short enough that few digits
/// are lost and that a panel's share stays in the first-level cache beside A's.
pub const CHAIN: usize = 256;

impl Packed {
    /// `weights` is (columns, depth): one row an output.
    pub fn new(isa: Isa, weights: &[f32], depth: usize, bias: &[f32]) -> Self {
        assert_eq!(weights.len(), depth * bias.len(), "one row of weights a bias");
        let (columns, lanes) = (bias.len(), isa.lanes());
        let padded = columns.next_multiple_of(lanes);
        let mut packed =
            Packed { isa, depth, columns, panels: Floats::zeros(padded * depth), bias: Floats::zeros(padded) };
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

    /// How many panels the columns make.
    pub fn panels(&self) -> usize {
        self.columns.div_ceil(2 * self.isa.lanes())
    }

    /// Multiplies rows of `a` by panels of the weights, into these rows and columns of `c`. No sum is
    /// longer than `chain` products.
    ///
    /// # Safety
    /// `c` has `a.count` rows of all columns, and nothing else uses those given here.
    pub unsafe fn run(
        &self,
        a: &Rows<'_>,
        rows: Range<usize>,
        c: RowsMut,
        panels: Range<usize>,
        relu: bool,
        chain: usize,
    ) {
        assert_eq!(a.segments * a.length, self.depth, "rows as long as the weights are deep");
        assert!(rows.end <= a.count && panels.end <= self.panels() && a.fits(), "A is too short");
        self.isa.run(Product { packed: self, a, rows, c, panels, relu, chain });
    }
}

/// One call of [`Packed::run`].
struct Product<'a> {
    packed: &'a Packed,
    a: &'a Rows<'a>,
    rows: Range<usize>,
    c: RowsMut,
    panels: Range<usize>,
    relu: bool,
    chain: usize,
}

impl Work for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Product { packed, a, rows, c, panels, relu, chain } = self;
        for panel in panels {
            let column = panel * 2 * V::LANES;
            let columns = (2 * V::LANES).min(packed.columns - column);
            let width = if columns > V::LANES { 2 * V::LANES } else { V::LANES };
            let mut b = packed.panels[column * packed.depth..].as_ptr();
            // Whole segments while they are short, parts of one where they are long.
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
                        first: segment == 0 && at == 0,
                        relu: relu && segment + segments == a.segments && at + length == a.length,
                    };
                    // SAFETY: `Packed::run`'s caller and its assertions.
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

/// Rows of A against a part of one panel.
#[derive(Clone, Copy)]
struct Strip<'a> {
    a: &'a Rows<'a>,
    /// Where in a row the part begins.
    from: usize,
    segments: usize,
    length: usize,
    b: *const f32,
    bias: *const f32,
    c: RowsMut,
    /// Columns of C that there are, at most two vectors'.
    columns: usize,
    /// Whether C holds nothing yet, so that the bias comes first.
    first: bool,
    relu: bool,
}

impl Strip<'_> {
    /// # Safety
    /// The machine has V; A, B and C are as long as [`Packed::run`] says, the panel being WIDTH vectors wide.
    #[inline(always)]
    unsafe fn down<V: Vector, const WIDTH: usize>(&self, rows: Range<usize>) {
        let at = Walk::new(self.a, rows.start);
        // SAFETY: the caller's.
        unsafe {
            // The rule by itself: with a loop around it the innermost one keeps more than fits into registers.
            if self.segments == 1 {
                down::<V, _>(rows, &mut StripTiles::<WIDTH, true> { strip: self, at });
            } else {
                down::<V, _>(rows, &mut StripTiles::<WIDTH, false> { strip: self, at });
            }
        }
    }
}

/// A strip being walked down; of ONE segment, or of any number.
struct StripTiles<'a, const WIDTH: usize, const ONE: bool> {
    strip: &'a Strip<'a>,
    at: Walk,
}

impl<const WIDTH: usize, const ONE: bool> Tiles for StripTiles<'_, WIDTH, ONE> {
    const TALL: bool = WIDTH == 2 && ONE;

    #[inline(always)]
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        let Strip { a, from, segments, length, b, bias, c, columns, first, relu } = *self.strip;
        // SAFETY: the caller's; C is touched as far as `columns`.
        unsafe {
            let start = a.data.as_ptr().add(from);
            let pointers: [*const f32; ROWS] = from_fn(|_| start.add(self.at.next(a)));
            let zero = [[V::splat(0.0); WIDTH]; ROWS];
            let sum = if ONE {
                product(pointers, length, b, zero)
            } else {
                (0..segments).fold(zero, |sum, i| {
                    let pointers = pointers.map(|p| p.wrapping_add(i * a.pitch));
                    product(pointers, length, b.wrapping_add(i * length * WIDTH * V::LANES), sum)
                })
            };
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

/// Where the next row of A begins, without a division a row.
struct Walk {
    line: usize,
    x: usize,
}

impl Walk {
    fn new(a: &Rows<'_>, row: usize) -> Self {
        let x = row % a.width.max(1);
        Walk { line: a.offset(row) - x * a.step, x }
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

/// What takes a few rows of A at a time.
pub trait Tiles {
    /// Whether it is worth the code of tiles as tall as registers allow. Most work is two vectors wide and reads
    /// each row in one piece.
    const TALL: bool;

    /// # Safety
    /// ROWS rows from `row` on are there, and the machine has V.
    unsafe fn tile<V: Vector, const ROWS: usize>(&mut self, row: usize);
}

/// Walks down the rows: full tiles, then what is left.
///
/// # Safety
/// The rows are there, and the machine has V.
#[inline(always)]
pub unsafe fn down<V: Vector, T: Tiles>(rows: Range<usize>, tiles: &mut T) {
    let mut row = rows.start;
    // SAFETY: a tile is taken only where its rows are left; the rest is handed on from the caller.
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
            _ => (row..rows.end).for_each(|row| tiles.tile::<V, 1>(row)),
        }
    }
}

/// The innermost loop: adds ROWS rows of A times a panel WIDTH vectors wide to sums in registers.
///
/// # Safety
/// Each of `a` points to `length` floats, `b` to as many rows of WIDTH vectors.
#[inline(always)]
pub unsafe fn product<V: Vector, const ROWS: usize, const WIDTH: usize>(
    mut a: [*const f32; ROWS],
    length: usize,
    mut b: *const f32,
    mut sum: [[V; WIDTH]; ROWS],
) -> [[V; WIDTH]; ROWS] {
    /// Steps written out, so that their addresses are constants beside one pointer a row. Not in WebAssembly: the
    /// compiler gathers the steps of each sum, and their operands need more registers than there are.
    const UNROLL: usize = if cfg!(target_family = "wasm") { 1 } else { 4 };
    let mut left = length;
    // SAFETY: the caller's. `add`, not `wrapping_add`: a sum that cannot wrap becomes part of the load.
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

/// # Safety
/// As [`product`], for one float of each row.
#[inline(always)]
unsafe fn step<V: Vector, const ROWS: usize, const WIDTH: usize>(
    sum: &mut [[V; WIDTH]; ROWS],
    a: [*const f32; ROWS],
    b: *const f32,
) {
    // SAFETY: the caller's.
    unsafe {
        let b: [V; WIDTH] = from_fn(|i| V::load(b.add(i * V::LANES)));
        for (sum, a) in sum.iter_mut().zip(a) {
            let a = V::splat(*a);
            for (sum, b) in sum.iter_mut().zip(b) {
                *sum = a.mul_add(b, *sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 that repeat late.
    fn values(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 7919 % 2003) as f32 / 1001.0 - 1.0).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_product() {
        // Rows around every tile's height, columns around every panel's width, one chain of sums and more.
        let shapes = [(1, 1, 1), (7, 33, 17), (13, 32, 16), (24, 65, 31), (3, 100, 40), (9, 5, 64), (70, 2000, 9)];
        for isa in Isa::available() {
            for ((rows, depth, columns), relu) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
                // Rows that are longer than what is read and written of them.
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
                        relu,
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
    fn segments_are_rows_of_a_neighbourhood() {
        // A 3x2 kernel on a map 7 wide, two channels, stride 2 across: 3 columns of neighbourhoods, 2 lines.
        let (pitch, length) = (14, 4);
        let data = values(4 * pitch);
        let a = Rows { data: &data, count: 6, width: 3, step: 4, line: pitch, segments: 3, length, pitch };
        for isa in Isa::available() {
            for chain in [1, 3, 4, 9, 100] {
                let packed = Packed::new(isa, &values(5 * 12), 12, &values(5));
                let mut c = vec![0.0; 6 * 5];
                // SAFETY: C has six rows of five columns.
                unsafe {
                    packed.run(&a, 1..6, RowsMut { data: c.as_mut_ptr(), stride: 5 }, 0..packed.panels(), false, chain)
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
    fn what_is_not_there_is_not_read() {
        let packed = Packed::new(Isa::detect(), &[1.0; 6], 2, &[0.0; 3]);
        let mut c = [0.0; 6];
        // SAFETY: C has two rows.
        unsafe {
            packed.run(
                &Rows::matrix(&[1.0; 3], 2, 2, 2),
                0..2,
                RowsMut { data: c.as_mut_ptr(), stride: 3 },
                0..1,
                false,
                CHAIN,
            )
        };
    }
}
