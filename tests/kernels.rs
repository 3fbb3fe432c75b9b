//! Every entry point of every shader is run, and its results are compared with the reference.

#![cfg(not(target_arch = "wasm32"))]

mod common;

use common::{Case, HARDWARE, SOFTWARE, cases, check, check_candidates, gradients};
use googlenet::engine::gradient::{Objective, Wrt};
use googlenet::gpu::{dispatched, shader_sources};
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::Shape;
use pollster::block_on;
use std::collections::BTreeSet;

/// The names of the entry points of a shader.
fn entries(source: &str) -> Vec<String> {
    let module = naga::front::wgsl::parse_str(source).expect("a shader");
    module.entry_points.into_iter().map(|entry| entry.name).collect()
}

/// The names of the entry points of all shaders.
fn all_entries() -> BTreeSet<String> {
    let each: Vec<String> = shader_sources().iter().flat_map(|(_, [source, _])| entries(source)).collect();
    let all: BTreeSet<String> = each.iter().cloned().collect();
    assert_eq!(all.len(), each.len(), "two entry points have one name: {each:?}");
    all
}

/// The entry points that are not in `run`.
fn not_run<'a>(all: &'a BTreeSet<String>, run: &BTreeSet<&str>) -> Vec<&'a str> {
    all.iter().map(String::as_str).filter(|entry| !run.contains(entry)).collect()
}

/// Small cases of each operation, with multiples of four channels and with other numbers.
fn small() -> Vec<Case> {
    let window = |kernel, stride| Window { kernel, stride, padding: Padding::Same };
    let conv = |kernel, out| Op::Conv { window: window(kernel, [1, 1]), out, activation: Activation::Relu };
    let lrn = |size| Op::Lrn { size, alpha: 2.0, beta: 0.75, k: 1.0 };
    let ops = [
        // Enough input channels for eight threads to share a sum.
        (conv([3, 3], 24), Shape::new(2, 5, 7, 32)),
        (conv([5, 5], 8), Shape::new(1, 6, 5, 12)),
        (conv([3, 2], 7), Shape::new(1, 5, 4, 6)),
        (Op::Conv { window: window([7, 7], [2, 2]), out: 12, activation: Activation::None }, Shape::new(1, 13, 15, 3)),
        (Op::MaxPool(window([3, 3], [2, 2])), Shape::new(2, 5, 6, 3)),
        (Op::MaxPool(window([3, 3], [2, 2])), Shape::new(2, 5, 6, 8)),
        (lrn(5), Shape::new(1, 3, 2, 7)),
        (lrn(5), Shape::new(1, 3, 2, 12)),
        (Op::Dense { out: 9, activation: Activation::Relu }, Shape::new(2, 2, 3, 5)),
        (Op::Softmax, Shape::new(2, 1, 1, 11)),
    ];
    let case = |(seed, (op, shape))| cases::one_op(op, shape, seed).expect("the window fits the input");
    let gains = [("inception_3b/3x3", 0.5)];
    let module = cases::module(googlenet::graph::googlenet::Variant::Keras, false, false, Shape::new(1, 4, 5, 8), 1);
    (0..).zip(ops).map(case).chain([module.with_gains(&gains)]).collect()
}

#[test]
fn every_entry_point_runs_and_is_compared() {
    let all = all_entries();
    let cases = [small(), cases::fused()].concat();

    // The dispatches with which a new engine warms up the driver do not count.
    drop(block_on(cases[0].load(HARDWARE)).unwrap_or_else(|e| panic!("{e}")));
    assert_eq!(not_run(&all, &dispatched()).len(), all.len(), "nothing has run");

    let mut most = 0;
    for options in [HARDWARE, SOFTWARE] {
        for case in &cases {
            block_on(check(options, case)).unwrap_or_else(|e| panic!("{e}"));
            most = most.max(block_on(check_candidates(options, case)).unwrap_or_else(|e| panic!("{e}")));
        }
    }
    assert!(most >= 12, "there are {most} ways to cut a convolution");
    block_on(common::preprocess::check(HARDWARE)).unwrap_or_else(|e| panic!("{e}"));
    block_on(common::tiles::check(HARDWARE)).unwrap_or_else(|e| panic!("{e}"));
    block_on(common::stats::check(HARDWARE)).unwrap_or_else(|e| panic!("{e}"));
    let further = [
        cases::one_op(Op::Dropout { ratio: 0.4 }, Shape::new(2, 1, 1, 12), 5),
        cases::one_op(
            Op::AvgPool { window: Window::square(3, 2, Padding::Valid), count_padding: false },
            Shape::new(1, 5, 7, 8),
            6,
        ),
        cases::one_op(Op::AdaptiveAvgPool { out: [2, 2] }, Shape::new(1, 5, 4, 3), 7),
    ];
    for case in cases.iter().cloned().chain(further.into_iter().flatten()) {
        block_on(gradients::check(HARDWARE, &gradients::settled(case))).unwrap_or_else(|e| panic!("{e}"));
    }
    // So many pixels that the sums for the weights are divided among workgroups; software adapters take wider tiles.
    let large = Op::Conv { window: Window::square(3, 1, Padding::Same), out: 8, activation: Activation::None };
    let large =
        gradients::settled(cases::one_op(large, Shape::new(1, 64, 64, 32), 8).expect("the window fits the input"));
    for options in [HARDWARE, SOFTWARE] {
        block_on(gradients::check(options, &large)).unwrap_or_else(|e| panic!("{e}"));
    }
    // tests/gradients.rs compares the loss.
    let case = cases::miniature(2, 3);
    let mut engine = block_on(gradients::load(HARDWARE, &case)).unwrap_or_else(|e| panic!("{e}"));
    let loss = Objective::Loss { classes: &[0, 1], heads: &[("loss3", 1.0)], smoothing: 0.1 };
    block_on(gradients::differentiate(&mut engine, &case, &loss, Wrt::Input)).unwrap_or_else(|e| panic!("{e}"));
    // The measurement of the peak performance also checks its results.
    let engine = block_on(cases[0].load(HARDWARE)).unwrap_or_else(|e| panic!("{e}"));
    let peak = block_on(engine.gpu_peak()).expect("a measurement").expect("a GPU");
    assert!(peak.gflops > 0.0 && peak.copy_gb_s > 0.0, "{peak:?}");

    let run = dispatched();
    let missing = not_run(&all, &run);
    assert!(missing.is_empty(), "no test runs {missing:?}");
    let known: BTreeSet<&str> = all.iter().map(String::as_str).collect();
    assert!(run.is_subset(&known), "{run:?} are not all in the shaders");

    // Negative control: an entry point that is not run is detected, and so is a new one.
    for entry in &all {
        let others: BTreeSet<&str> = run.iter().copied().filter(|other| other != entry).collect();
        assert_eq!(not_run(&all, &others), [entry]);
    }
    let source = "@compute @workgroup_size(1) fn another() {}";
    let more: BTreeSet<String> = all.iter().cloned().chain(entries(source)).collect();
    assert_eq!(not_run(&more, &run), ["another"]);
}
