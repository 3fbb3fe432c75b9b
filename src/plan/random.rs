//! Random numbers that depend only on their place, not on what was drawn before: for dropout, whose mask must be the
//! same on both engines, on any number of threads, and when a run is repeated.

/// Three pseudo-random numbers for three numbers: PCG3D of Jarzynski and Olano, "Hash functions for GPU rendering"
/// (Journal of Computer Graphics Techniques 9(3), 2020). It needs 32-bit arithmetic only, so that WGSL can compute it;
/// `shaders/shared/random.wgsl` is its twin.
pub fn hash(seed: [u32; 3]) -> [u32; 3] {
    let [mut x, mut y, mut z] = seed.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for shift in [true, false] {
        x = x.wrapping_add(y.wrapping_mul(z));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        if shift {
            [x, y, z] = [x, y, z].map(|v| v ^ v >> 16);
        }
    }
    [x, y, z]
}

/// Which values dropout keeps, in the training runs of one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropoutKey {
    /// Differs from step to step, and from training to training.
    pub seed: u32,
    /// The number of the run's first picture in the batch of the step, which may be divided into several runs.
    pub first: u32,
}

impl DropoutKey {
    /// Whether the dropout node `node` keeps this element (counted in the order HWC) of picture `image` of the run.
    /// `threshold` is the result of [`threshold`].
    pub fn keeps(self, node: usize, image: usize, element: usize, threshold: u32) -> bool {
        let image = self.first.wrapping_add(image as u32);
        hash([self.seed ^ node_seed(node), image, element as u32])[0] >= threshold
    }
}

/// The number by which the seeds of the dropout nodes of a network differ.
pub fn node_seed(node: usize) -> u32 {
    (node as u32).wrapping_mul(0x9E37_79B9)
}

/// The number below which a random 32-bit number lies with the probability `ratio`, which is from 0 up to, but not
/// including, 1.
pub fn threshold(ratio: f32) -> u32 {
    (f64::from(ratio) * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_drops_the_ratio_and_repeats() {
        let key = DropoutKey { seed: 7, first: 0 };
        let kept = |key: DropoutKey, node: usize| -> Vec<bool> {
            (0..64_000).map(|i| key.keeps(node, i / 1000, i % 1000, threshold(0.4))).collect()
        };
        let first = kept(key, 3);
        let share = first.iter().filter(|&&keep| keep).count() as f64 / first.len() as f64;
        // The standard deviation is 0.002.
        assert!((share - 0.6).abs() < 0.01, "{share}");
        assert_eq!(first, kept(key, 3));
        // Another seed, another node and another picture each give another mask: about half of the values differ.
        for other in [kept(DropoutKey { seed: 8, ..key }, 3), kept(key, 4), kept(DropoutKey { first: 1, ..key }, 3)] {
            let same = first.iter().zip(&other).filter(|(a, b)| a == b).count() as f64 / first.len() as f64;
            assert!((same - 0.52).abs() < 0.02, "{same}");
        }
        // Pictures of a second run continue those of the first.
        let second = DropoutKey { first: 5, ..key };
        assert_eq!(second.keeps(3, 2, 17, threshold(0.4)), key.keeps(3, 7, 17, threshold(0.4)));
        assert!((0..1000).all(|i| key.keeps(0, 0, i, threshold(0.0))));
    }
}
