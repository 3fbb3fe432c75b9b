//! Gradients on the GPU, by the kernels of either kind of adapter: every operation against the f64 reference, and what
//! a pass submits.

#![cfg(all(not(target_arch = "wasm32"), feature = "train"))]

mod common;

use common::gpu_gradients::{Runner, check, objective, settled};
use common::strategies::{shapes, windows};
use common::{Case, HARDWARE, SOFTWARE, cases, name};
use googlenet::graph::op::Op;
use googlenet::graph::tensor::Shape;
use googlenet::plan::ConcatMode::{InPlace, WithGains};
use googlenet::plan::backward::{Term, TermKind, Wanted};
use googlenet::plan::random::DropoutKey;
use pollster::block_on;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;

fn check_all(cases: Vec<Case>) {
    let cases: Vec<Case> = cases.into_iter().map(settled).collect();
    for options in [HARDWARE, SOFTWARE] {
        let mut worst = 0f64;
        for case in &cases {
            let concat = if case.gains.is_empty() { InPlace } else { WithGains };
            worst = worst.max(block_on(check(options, case, concat, None)).unwrap_or_else(|e| panic!("{e}")));
        }
        println!("on {}: {} cases, the largest relative error is {worst:.1e}", name(options), cases.len());
    }
}

/// Checks random operations on random shapes, which are the same in every run. Combinations that do not fit are skipped.
fn check_random(ops: impl Strategy<Value = Op>) {
    let channels = prop::sample::select(vec![1, 3, 4, 5, 16, 17, 24, 33]);
    let one = (ops, shapes(13, channels), any::<u16>());
    for options in [HARDWARE, SOFTWARE] {
        let config = Config { cases: 8, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let worst = Cell::new(0f64);
        let test = |(op, shape, seed): (Op, Shape, u16)| {
            let Some(case) = cases::one_op(op, shape, u64::from(seed)) else {
                return Err(TestCaseError::reject("the window does not fit"));
            };
            let error = block_on(check(options, &settled(case), InPlace, None)).map_err(TestCaseError::fail)?;
            worst.set(worst.get().max(error));
            Ok(())
        };
        runner.run(&one, test).unwrap_or_else(|e| panic!("{e}"));
        println!("on {}: the largest relative error is {:.1e}", name(options), worst.get());
    }
}

#[test]
fn convolutions() {
    check_all(cases::conv());
    let out = prop::sample::select(vec![1, 2, 3, 5, 8, 13, 16, 17, 33, 48]);
    check_random((windows(), out, any::<bool>()).prop_map(|(window, out, relu)| Op::Conv {
        window,
        out,
        activation: relu.into(),
    }));
}

#[test]
fn pools() {
    check_all(cases::pool());
    check_random(prop_oneof![
        windows().prop_map(Op::MaxPool),
        (windows(), any::<bool>()).prop_map(|(window, count_padding)| Op::AvgPool { window, count_padding }),
        [1..=5usize, 1..=5usize].prop_map(|out| Op::AdaptiveAvgPool { out }),
    ]);
}

#[test]
fn normalisations() {
    check_all(cases::lrn());
    let beta = prop_oneof![Just(0.75f32), 0.25..1.5f32];
    check_random((1..=9usize, 1e-4..3f32, beta, 0.5..2f32).prop_map(|(size, alpha, beta, k)| Op::Lrn {
        size,
        alpha,
        beta,
        k,
    }));
}

#[test]
fn dense_layers() {
    check_all(cases::dense());
    check_random((1..=40usize, any::<bool>()).prop_map(|(out, relu)| Op::Dense { out, activation: relu.into() }));
}

#[test]
fn softmax() {
    check_all(cases::softmax());
}

#[test]
fn concatenations() {
    check_all(cases::concat());
}

#[test]
fn layers_that_forward_runs_fuse() {
    check_all(cases::fused());
}

/// A small GoogLeNet with heads, by both ways to concatenate, and with dropout.
#[test]
fn networks() {
    let case = settled(cases::miniature(2, 1));
    let key = DropoutKey { seed: 9, first: 5 };
    for options in [HARDWARE, SOFTWARE] {
        for concat in [InPlace, WithGains] {
            for key in [None, Some(key)] {
                let worst = block_on(check(options, &case, concat, key)).unwrap_or_else(|e| panic!("{e}"));
                println!("on {}, {concat:?}, {key:?}: the largest relative error is {worst:.1e}", name(options));
            }
        }
        // Another key drops others.
        let computed = [5, 6].map(|first| {
            let mut runner = block_on(Runner::new(options, &case, InPlace)).unwrap();
            runner.gpu.set_dropout(Some(DropoutKey { first, ..key })).unwrap();
            block_on(runner.compute(&objective(&case.network))).unwrap()
        });
        assert_ne!(computed[0], computed[1]);
    }
}

#[test]
fn cross_entropy_is_the_loss_of_each_head() {
    use common::backward::{Point, Term as Exact};
    let case = settled(cases::miniature(3, 2));
    let terms: Vec<Term> = case
        .network
        .heads()
        .iter()
        .zip([(0.3, 0.0), (0.2, 0.1), (1.0, 0.5)])
        .map(|(head, (weight, smoothing))| Term {
            node: head.logits,
            kind: TermKind::CrossEntropy { classes: vec![4, 0, 2], weight, smoothing },
        })
        .collect();
    let want = Point::of(&case).gradients(&terms.iter().map(Exact::from).collect::<Vec<_>>());
    for options in [HARDWARE, SOFTWARE] {
        let mut runner = block_on(Runner::new(options, &case, InPlace)).unwrap();
        let got = block_on(runner.compute(&terms)).unwrap();
        let worst = common::gpu_gradients::compare(&case.network, &got, &want, 1e-4).unwrap();
        println!("on {}: the largest relative error is {worst:.1e}", name(options));
        let mut wrong = terms.clone();
        let TermKind::CrossEntropy { classes, .. } = &mut wrong[1].kind else { panic!() };
        classes.swap(0, 1);
        let got = block_on(runner.compute(&wrong)).unwrap();
        common::gpu_gradients::compare(&case.network, &got, &want, 1e-4).unwrap_err();
    }
}

/// Gradients repeat bit for bit, in one submit and in two, and those of several passes are added up.
#[test]
fn passes_repeat_and_add_up() {
    let case = settled(cases::miniature(2, 3));
    let terms = objective(&case.network);
    for options in [HARDWARE, SOFTWARE] {
        let mut runner = block_on(Runner::new(options, &case, InPlace)).unwrap();
        runner.prepare(&terms, &Wanted::weights(&case.network, |_| true)).unwrap();
        let mut weights = |add: bool, at_once: bool| {
            let values = if at_once {
                block_on(runner.pass_at_once(&terms, add)).unwrap()
            } else {
                block_on(runner.pass(&terms, add)).unwrap()
            };
            (values, block_on(runner.weights()).unwrap())
        };
        let first = weights(false, false);
        assert_eq!(weights(false, false), first, "a second pass");
        assert_eq!(weights(false, true), first, "in one submit");
        let (values, twice) = weights(true, true);
        assert_eq!(values, first.0);
        assert_ne!(twice, first.1);
        for ((name, once), (_, twice)) in first.1.iter().zip(&twice) {
            assert!(once.iter().zip(twice).all(|(a, b)| 2.0 * a == *b), "{name}");
        }
    }
}

/// A pass allocates nothing, and a run with its gradients is one submit.
#[test]
fn a_pass_allocates_nothing_and_takes_one_submit() {
    let case = cases::miniature(1, 4);
    let terms = objective(&case.network);
    let mut runner = block_on(Runner::new(HARDWARE, &case, InPlace)).unwrap();
    runner.prepare(&terms, &Wanted::weights(&case.network, |_| true)).unwrap();
    block_on(runner.pass_at_once(&terms, false)).unwrap();
    let before = runner.gpu.counts();
    block_on(runner.pass_at_once(&terms, true)).unwrap();
    let after = runner.gpu.counts();
    assert_eq!((after.buffers, after.pipelines), (before.buffers, before.pipelines));
    assert_eq!((after.submits, after.maps), (before.submits + 1, before.maps + 2));
    // Negative control: another backward plan has other buffers.
    runner.prepare(&terms, &Wanted::node(0)).unwrap();
    assert!(runner.gpu.counts().buffers > after.buffers);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let case = cases::miniature(2, 5);
    let terms = objective(&case.network);
    let mut runner = block_on(Runner::new(HARDWARE, &case, InPlace)).unwrap();
    let code = |result: googlenet::Result<Vec<f64>>| result.unwrap_err().code();
    assert_eq!(code(block_on(runner.pass(&terms, false))), "argument", "nothing is prepared");
    runner.prepare(&terms, &Wanted::node(0)).unwrap();
    assert_eq!(code(block_on(runner.pass(&terms[1..], false))), "argument", "a term is missing");
    let entropy =
        |classes| Term { node: terms[0].node, kind: TermKind::CrossEntropy { classes, weight: 1.0, smoothing: 0.0 } };
    let mut others = terms.clone();
    others[0] = entropy(vec![1]);
    assert_eq!(code(block_on(runner.pass(&others, false))), "argument", "there are two pictures");
    others[0] = Term { node: 3, ..terms[0].clone() };
    assert_eq!(code(block_on(runner.pass(&others, false))), "argument", "a term of another node");
    assert!(block_on(runner.gpu.weight_gradient(1)).is_err(), "only the input's gradient was asked for");
    block_on(runner.pass(&terms, false)).unwrap();
}
