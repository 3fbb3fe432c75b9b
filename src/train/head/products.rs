//! Products of the features of examples with weights and with residuals: f32 values, f64 sums in a fixed order.

#[cfg(feature = "cpu")]
use crate::cpu::simd::{Isa, Vector, Work};
use crate::error::{Error, Result};

/// The features of examples, (examples, width).
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    values: &'a [f32],
    pub(super) width: usize,
}

impl<'a> Features<'a> {
    /// Fails with [`Error::Argument`] where the values are not a whole number of rows, or where one is not finite.
    pub fn new(values: &'a [f32], width: usize) -> Result<Self> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(Error::Argument(format!("{} values are no rows of {width} features", values.len())));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::Argument(format!("feature {} of example {} is not finite", at % width, at / width)));
        }
        Ok(Features { values, width })
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn row(&self, example: usize) -> &'a [f32] {
        &self.values[example * self.width..][..self.width]
    }
}

/// The number of features that are processed together, so that they stay in the first cache for all classes.
const BLOCK: usize = 256;
/// The number of examples that are processed together.
const TILE: usize = 4;

/// A block of the features of a few examples in f64.
type Tile = [[f64; BLOCK]; TILE];

/// Writes the features from `from` on of up to [`TILE`] examples to `tile`. The rest of the tile is zero.
#[inline(always)]
fn load(features: Features<'_>, rows: &[usize], from: usize, tile: &mut Tile) {
    let count = BLOCK.min(features.width - from);
    for (i, line) in tile.iter_mut().enumerate() {
        let values = rows.get(i).map_or(&[][..], |&row| &features.row(row)[from..from + count]);
        line.iter_mut().zip(values).for_each(|(to, &x)| *to = f64::from(x));
        line[values.len()..].fill(0.0);
    }
}

/// Computes `out[i][c] = sum over f of features[rows[i]][f] * weights[c][f]`.
pub(super) fn multiply(features: Features<'_>, rows: &[usize], weights: &[f64], classes: usize, out: &mut [f64]) {
    run(Products { features, rows, classes, kind: Kind::Scores { weights, out } });
}

/// Computes `out[c][f] = sum over i of residuals[i][c] * features[rows[i]][f]`.
pub(super) fn multiply_transposed(
    features: Features<'_>,
    rows: &[usize],
    residuals: &[f64],
    classes: usize,
    out: &mut [f64],
) {
    run(Products { features, rows, classes, kind: Kind::Gradient { residuals, out } });
}

struct Products<'a> {
    features: Features<'a>,
    rows: &'a [usize],
    classes: usize,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Scores { weights: &'a [f64], out: &'a mut [f64] },
    Gradient { residuals: &'a [f64], out: &'a mut [f64] },
}

/// Runs the products with this machine's best instruction set.
fn run(products: Products<'_>) {
    #[cfg(feature = "cpu")]
    Isa::detect().run(products);
    #[cfg(not(feature = "cpu"))]
    products.compute::<false>();
}

#[cfg(feature = "cpu")]
impl Work for Products<'_> {
    type Out = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        // AVX2 and AVX-512 come with a fused multiply-add. Elsewhere it could be the call of a function.
        if V::LANES >= 8 { self.compute::<true>() } else { self.compute::<false>() }
    }
}

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f64, b: f64, c: f64) -> f64 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

impl Products<'_> {
    #[inline(always)]
    fn compute<const FUSED: bool>(self) {
        let Products { features, rows, classes, kind } = self;
        let width = features.width;
        let mut tile: Box<Tile> = Box::new([[0.0; BLOCK]; TILE]);
        // The block's part of the weights or of the gradient.
        let mut block = vec![[0f64; BLOCK]; classes];
        match kind {
            Kind::Scores { weights, out } => {
                out.fill(0.0);
                for from in (0..width).step_by(BLOCK) {
                    let count = BLOCK.min(width - from);
                    for (line, weights) in block.iter_mut().zip(weights.chunks_exact(width)) {
                        line[..count].copy_from_slice(&weights[from..from + count]);
                        line[count..].fill(0.0);
                    }
                    for (rows, out) in rows.chunks(TILE).zip(out.chunks_mut(TILE * classes)) {
                        load(features, rows, from, &mut tile);
                        for (c, weights) in block.iter().enumerate() {
                            let sums = sum_tile::<FUSED>(&tile, weights);
                            out.chunks_exact_mut(classes).zip(sums).for_each(|(out, sum)| out[c] += sum);
                        }
                    }
                }
            }
            Kind::Gradient { residuals, out } => {
                for from in (0..width).step_by(BLOCK) {
                    let count = BLOCK.min(width - from);
                    block.iter_mut().for_each(|line| line.fill(0.0));
                    for (rows, residuals) in rows.chunks(TILE).zip(residuals.chunks(TILE * classes)) {
                        load(features, rows, from, &mut tile);
                        for (c, sums) in block.iter_mut().enumerate() {
                            let mut factors = [0f64; TILE];
                            for (factor, residuals) in factors.iter_mut().zip(residuals.chunks_exact(classes)) {
                                *factor = residuals[c];
                            }
                            add_tile::<FUSED>(&tile, factors, sums);
                        }
                    }
                    for (out, sums) in out.chunks_exact_mut(width).zip(&block) {
                        out[from..from + count].copy_from_slice(&sums[..count]);
                    }
                }
            }
        }
    }
}

/// The sum over a block of features of each example's features times weights. The compiler vectorises a loop over many
/// sums, which a single sum of a fixed order does not allow.
#[inline(always)]
fn sum_tile<const FUSED: bool>(tile: &Tile, weights: &[f64; BLOCK]) -> [f64; TILE] {
    const SUMS: usize = 32;
    let mut sums = [[0f64; SUMS]; TILE];
    for (k, weights) in weights.as_chunks::<SUMS>().0.iter().enumerate() {
        for (sums, line) in sums.iter_mut().zip(tile) {
            let values = &line.as_chunks::<SUMS>().0[k];
            for i in 0..SUMS {
                sums[i] = multiply_add::<FUSED>(values[i], weights[i], sums[i]);
            }
        }
    }
    sums.map(|sums| sums.iter().sum())
}

/// Adds each example's features, multiplied by its factor.
#[inline(always)]
fn add_tile<const FUSED: bool>(tile: &Tile, factors: [f64; TILE], sums: &mut [f64; BLOCK]) {
    let [a, b, c, d] = tile;
    for i in 0..BLOCK {
        let ab = multiply_add::<FUSED>(factors[1], b[i], factors[0] * a[i]);
        let cd = multiply_add::<FUSED>(factors[3], d[i], factors[2] * c[i]);
        sums[i] += ab + cd;
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::plan::random::hash;

    /// A value from -1 to 1 that depends on its place only.
    fn value(seed: u32, i: usize) -> f64 {
        f64::from(hash([seed, i as u32, 0])[0]) / 2f64.powi(31) - 1.0
    }

    /// The products by plain loops, as those of [`multiply`] and [`multiply_transposed`].
    fn plain(x: Features<'_>, rows: &[usize], other: &[f64], classes: usize, transposed: bool) -> Vec<f64> {
        let width = x.width;
        let mut out = vec![0.0; if transposed { classes * width } else { rows.len() * classes }];
        for (i, &row) in rows.iter().enumerate() {
            for c in 0..classes {
                for f in 0..width {
                    let x = f64::from(x.row(row)[f]);
                    if transposed {
                        out[c * width + f] += other[i * classes + c] * x;
                    } else {
                        out[i * classes + c] += other[c * width + f] * x;
                    }
                }
            }
        }
        out
    }

    #[test]
    fn products_equal_plain_loops_for_odd_sizes() {
        let mut wrong = 0;
        for (examples, width, classes) in [(1, 1, 2), (7, 255, 3), (9, 256, 4), (6, 700, 5)] {
            let values: Vec<f32> = (0..examples * width).map(|i| value(1, i) as f32).collect();
            let x = Features::new(&values, width).unwrap();
            // Not in order, and one twice.
            let mut rows: Vec<usize> = (0..examples).rev().collect();
            rows.push(0);
            let random = |seed, len: usize| -> Vec<f64> { (0..len).map(|i| value(seed, i)).collect() };
            let (weights, residuals) = (random(2, classes * width), random(3, rows.len() * classes));
            let mut scores = vec![f64::NAN; rows.len() * classes];
            multiply(x, &rows, &weights, classes, &mut scores);
            let mut gradient = vec![f64::NAN; classes * width];
            multiply_transposed(x, &rows, &residuals, classes, &mut gradient);
            let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12);
            assert!(near(&scores, &plain(x, &rows, &weights, classes, false)));
            assert!(near(&gradient, &plain(x, &rows, &residuals, classes, true)));
            // A change of one value in 1e9 of its size is noticed.
            let mut changed = weights.clone();
            changed[width - 1] *= 1.0 + 1e-9;
            wrong += usize::from(!near(&scores, &plain(x, &rows, &changed, classes, false)));
        }
        assert_eq!(wrong, 4);
    }

    #[test]
    fn features_must_be_whole_rows_of_finite_numbers() {
        assert_eq!(Features::new(&[1.0; 6], 3).unwrap().len(), 2);
        assert!(Features::new(&[1.0; 7], 3).is_err() && Features::new(&[], 0).is_err());
        let error = Features::new(&[0.0, 1.0, 2.0, f32::NAN], 2).unwrap_err();
        assert_eq!(error.to_string(), "feature 1 of example 1 is not finite");
    }
}
