//! Strategies for random operations and shapes.

use googlenet::graph::op::{Padding, Window};
use googlenet::graph::tensor::Shape;
use proptest::prelude::*;

/// Shapes of at most three pictures of at most `size` pixels each way.
pub fn shapes(size: usize, channels: impl Strategy<Value = usize>) -> impl Strategy<Value = Shape> {
    (1..=3usize, 1..=size, 1..=size, channels).prop_map(|(n, h, w, c)| Shape::new(n, h, w, c))
}

/// Numbers of channels around the widths of vectors.
pub fn channels() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 3, 4, 5, 16, 17, 24])
}

/// Windows with every stride up to 3 and every kind of padding.
pub fn windows() -> impl Strategy<Value = Window> {
    let size = || prop::sample::select(vec![1usize, 3, 5, 7]);
    let kernels = prop_oneof![3 => size().prop_map(|k| [k, k]), 1 => [1..=7usize, 1..=7usize]];
    let windows = (kernels, [1..=3usize, 1..=3usize]);
    windows.prop_flat_map(|(kernel, stride)| {
        let explicit = ([0..kernel[0], 0..kernel[1], 0..kernel[0], 0..kernel[1]], any::<bool>());
        let paddings = prop_oneof![
            Just(Padding::Valid),
            Just(Padding::Same),
            Just(Padding::Explicit {
                top: kernel[0] / 2,
                left: kernel[1] / 2,
                bottom: kernel[0] / 2,
                right: kernel[1] / 2,
                ceil: true
            }),
            explicit.prop_map(|([top, left, bottom, right], ceil)| Padding::Explicit {
                top,
                left,
                bottom,
                right,
                ceil
            }),
        ];
        paddings.prop_map(move |padding| Window { kernel, stride, padding })
    })
}
