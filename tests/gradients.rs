//! Gradients of every operation and of whole networks. The f64 reference is compared with finite differences, and the
//! engines are compared with the reference and with gradients that TensorFlow computed in f64. Every comparison has a
//! negative control: a number is changed, and the comparison must fail.

#![cfg(all(not(target_arch = "wasm32"), feature = "train"))]

mod common;

use common::backward::{Function, Gradients as Exact, Point, STEP, Term, difference, masks};
use common::gradients::{
    LAYERS, check, close, compute, differentiate, exact_objective, load, norm, relative_error, settled, terms,
};
use common::keras::{Golden, HEADS, Sgd, keras, tensors, with_weights};
use common::reference::{ExactWeights, Masks, Values, exact};
use common::strategies::{shapes, windows};
use common::{CPU, Case, HARDWARE, Named, Rng, SOFTWARE, cases, name};
use googlenet::engine::gradient::{Objective, Wrt};
use googlenet::engine::{Backend, Engine, Options};
use googlenet::graph::googlenet::Variant;
use googlenet::graph::network::Network;
use googlenet::graph::op::{Op, Padding, Window};
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::model::Model;
use googlenet::plan::backward::{self, TermKind};
use googlenet::plan::random::DropoutKey;
use googlenet::plan::{ConcatMode, Input};
use pollster::block_on;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::cell::Cell;
use std::num::NonZeroUsize;

/// Runs each of the functions as a test of the CPU and as one of both sets of the GPU's kernels.
macro_rules! on_both_engines {
    ($($name:ident)*) => {
        mod cpu {
            $(#[test]
            fn $name() {
                super::$name(&[super::CPU]);
            })*
        }

        mod gpu {
            $(#[test]
            fn $name() {
                super::$name(&[super::HARDWARE, super::SOFTWARE]);
            })*
        }
    };
}

on_both_engines! {
    convolutions random_convolutions pools random_pools normalisations random_normalisations dense_layers
    random_dense_layers softmax random_softmax dropout_is_the_identity concatenations fused_layers
    a_small_googlenet ties_go_to_the_first_maximum every_layer every_objective only_the_last_layers gains
    results_repeat_bit_for_bit pictures_are_preprocessed activations_stay what_is_not_there_is_an_error
    the_keras_network the_keras_network_learns
}

/// The number of random cases of each operation on an engine.
fn random_cases(options: Options) -> u32 {
    if options.backend == Backend::Cpu { 96 } else { 8 }
}

fn check_all(engines: &[Options], cases: Vec<Case>) {
    let cases: Vec<Case> = cases.into_iter().map(settled).collect();
    for &options in engines {
        let worst = cases.iter().map(|case| block_on(check(options, case)).unwrap_or_else(|e| panic!("{e}")));
        let worst = worst.fold(0.0, f64::max);
        println!("on {}: {} cases, the largest relative error is {worst:.1e}", name(options), cases.len());
    }
}

/// Tests `f` with random values, which are the same in every run. `None` rejects a value.
fn for_random<T: std::fmt::Debug>(
    cases: u32,
    values: &impl Strategy<Value = T>,
    f: impl Fn(T) -> Option<Result<(), String>>,
) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let test = |value| match f(value) {
        Some(result) => result.map_err(TestCaseError::fail),
        None => Err(TestCaseError::reject("the window does not fit")),
    };
    runner.run(values, test).unwrap_or_else(|e| panic!("{e}"));
}

/// Checks random operations on random shapes.
fn check_random(engines: &[Options], ops: impl Strategy<Value = Op>, channels: impl Strategy<Value = usize>) {
    let one = (ops, shapes(13, channels), any::<u16>());
    for &options in engines {
        let worst = Cell::new(0f64);
        for_random(random_cases(options), &one, |(op, shape, seed)| {
            let case = settled(cases::one_op(op, shape, u64::from(seed))?);
            Some(block_on(check(options, &case)).map(|error| worst.set(worst.get().max(error))))
        });
        println!("on {}: the largest relative error is {:.1e}", name(options), worst.get());
    }
}

/// Odd numbers of channels, and multiples of vectors.
fn channels() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![1, 3, 4, 5, 16, 17, 33])
}

fn conv_ops(out: impl Strategy<Value = usize>) -> impl Strategy<Value = Op> {
    let conv = |(window, out, relu): (_, _, bool)| Op::Conv { window, out, activation: relu.into() };
    (windows(), out, any::<bool>()).prop_map(conv)
}

fn pool_ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => windows().prop_map(Op::MaxPool),
        2 => (windows(), any::<bool>()).prop_map(|(window, count_padding)| Op::AvgPool { window, count_padding }),
        1 => [1..=5usize, 1..=5usize].prop_map(|out| Op::AdaptiveAvgPool { out }),
    ]
}

fn lrn_ops() -> impl Strategy<Value = Op> {
    let beta = prop_oneof![Just(0.75f32), 0.25..1.5f32];
    let lrn = |(size, alpha, beta, k)| Op::Lrn { size, alpha, beta, k };
    (1..=9usize, 1e-4..3f32, beta, 0.5..2f32).prop_map(lrn)
}

fn dense_ops() -> impl Strategy<Value = Op> {
    (1..=40usize, any::<bool>()).prop_map(|(out, relu)| Op::Dense { out, activation: relu.into() })
}

// The reference against finite differences.

/// Finite differences of an objective at a point, for some elements of every tensor.
struct Differences {
    tensors: Vec<(String, Vec<(usize, f64)>)>,
}

impl Differences {
    /// Measures all elements of a tensor, or `most` random ones of a larger tensor.
    fn measure(point: &Point, objective: &[Term], most: usize, rng: &mut Rng) -> Self {
        let mut measure = |tensor: String| {
            let len = point.clone().tensor_mut(&tensor).len();
            let elements: Vec<usize> =
                if len <= most { (0..len).collect() } else { (0..most).map(|_| rng.below(len)).collect() };
            let measured = elements.iter().map(|&i| (i, difference(point, objective, &tensor, i))).collect();
            (tensor, measured)
        };
        Differences { tensors: point.tensors().into_iter().map(&mut measure).collect() }
    }

    /// Compares with gradients, each tensor of which is multiplied by a factor. The error of the differences is about
    /// 1e-16 / STEP = 3e-11 times an objective of up to some hundreds, and their third derivatives times STEP^2 = 1e-11.
    /// Returns the largest relative error of a tensor.
    fn compare(&self, point: &Point, gradients: &Exact, factor: impl Fn(&str) -> f64) -> Result<f64, String> {
        let mut worst = 0f64;
        for (tensor, measured) in &self.tensors {
            let of = |i: usize| factor(tensor) * gradients.of(point.network, tensor)[i];
            let want: Vec<f64> = measured.iter().map(|&(i, _)| of(i)).collect();
            let off: Vec<f64> = measured.iter().map(|&(i, difference)| difference - of(i)).collect();
            let (off, size) = (norm(&off), norm(&want));
            // The comparison must also fail for NaN.
            let close = off <= 1e-7 * size + 1e-8;
            if !close {
                return Err(format!("\"{tensor}\": the gradient of norm {size:.3e} is off by {off:.1e}"));
            }
            worst = worst.max(if size > 0.01 { off / size } else { 0.0 });
        }
        Ok(worst)
    }

    /// Compares with the reference's gradients, and checks for every tensor that the comparison fails where its gradient
    /// is wrong by a thousandth.
    fn check(&self, point: &Point, gradients: &Exact) -> Result<f64, String> {
        let worst = self.compare(point, gradients, |_| 1.0)?;
        for (tensor, measured) in &self.tensors {
            let of = gradients.of(point.network, tensor);
            let size = norm(&measured.iter().map(|&(i, _)| of[i]).collect::<Vec<_>>());
            let scaled = |other: &str| if other == tensor { 1.001 } else { 1.0 };
            if size > 1e-4 && self.compare(point, gradients, scaled).is_ok() {
                return Err(format!("\"{tensor}\": the comparison held for a wrong gradient"));
            }
        }
        Ok(worst)
    }
}

/// An objective whose gradient with respect to the last node's output is random.
fn random_objective(network: &Network, batch: usize, rng: &mut Rng) -> Vec<Term> {
    let node = network.nodes().len() - 1;
    let len = batch * network.node(node).shape.len();
    let factors = (0..len).map(|_| f64::from(rng.signed())).collect();
    vec![
        Term { node, weight: 0.7, function: Function::Products(factors) },
        Term { node, weight: 0.3, function: Function::HalfSquares },
    ]
}

/// The distance from points that cannot be differentiated, for finite differences to be exact: a step changes no value
/// by more than a few times itself.
const FAR: f64 = 16.0 * STEP;

#[test]
fn references_agree_with_finite_differences() {
    const CASES: u32 = 96;
    let few = || 1..=5usize;
    let check_ops = |what: &str, ops: BoxedStrategy<Op>, channels: BoxedStrategy<usize>| {
        let worst = Cell::new(0f64);
        for_random(CASES, &(ops, shapes(7, channels), any::<u16>()), |(op, shape, seed)| {
            // The inputs are drawn again until the point is far enough from others.
            let drawn = (0..64).map(|draw| cases::one_op(op.clone(), shape, u64::from(seed) + (draw << 16)));
            let case = drawn.take_while(Option::is_some).flatten().find(|case| Point::of(case).margin() >= FAR)?;
            let mut point = Point::of(&case);
            point.masks = masks(&case.network, shape.n, DropoutKey { seed: u32::from(seed), first: 0 });
            let mut rng = Rng::new(u64::from(seed));
            let objective = random_objective(&case.network, shape.n, &mut rng);
            let differences = Differences::measure(&point, &objective, 40, &mut rng);
            let result = differences.check(&point, &point.gradients(&objective));
            Some(result.map(|error| worst.set(worst.get().max(error))).map_err(|e| format!("{}: {e}", case.name)))
        });
        println!("{what}: the largest relative error is {:.1e}", worst.get());
    };
    check_ops("convolutions", conv_ops(few()).boxed(), few().boxed());
    check_ops("pools", pool_ops().boxed(), few().boxed());
    check_ops("normalisations", lrn_ops().boxed(), (1..=12usize).boxed());
    check_ops("dense layers", dense_ops().boxed(), few().boxed());
    check_ops("softmax", Just(Op::Softmax).boxed(), (2..=12usize).boxed());
    check_ops("dropout", (0.1..0.9f32).prop_map(|ratio| Op::Dropout { ratio }).boxed(), few().boxed());
}

/// A whole network with several heads, gains and dropout, and every function of an objective.
#[test]
fn the_reference_of_a_network_agrees_with_finite_differences() {
    let batch = 2;
    let gains = [("inception_3a/3x3", 0.5), ("inception_3a/pool_proj", 0.0), ("inception_4a/1x1", -1.25)];
    let key = DropoutKey { seed: 5, first: 3 };
    let case = (0..64).map(|seed| cases::miniature(batch, seed).with_gains(&gains)).find(|case| {
        let mut point = Point::of(case);
        point.masks = masks(&case.network, batch, key);
        point.margin() >= FAR
    });
    let case = case.expect("a point that can be differentiated");
    let mut point = Point::of(&case);
    point.masks = masks(&case.network, batch, key);
    assert_eq!(point.masks.len(), 3);
    let find = |name: &str| case.network.find(name).unwrap();
    let cross_entropy = |smoothing| Function::CrossEntropy { classes: vec![4, 1], smoothing };
    let objective = [
        ("loss1/classifier", 0.3, cross_entropy(0.0)),
        ("loss2/classifier", 0.2, cross_entropy(0.1)),
        ("loss3/classifier", 0.5, cross_entropy(0.3)),
        ("inception_3a/output", 0.01, Function::HalfSquares),
        ("inception_3a/5x5", 0.02, Function::Channel(1)),
        ("inception_4a/output", 0.01, Function::Sum),
        ("prob", -2.0, Function::Channel(3)),
    ];
    let objective = objective.map(|(node, weight, function)| Term { node: find(node), weight, function });
    let mut rng = Rng::new(1);
    let differences = Differences::measure(&point, &objective, 24, &mut rng);
    let gradients = point.gradients(&objective);
    let worst = differences.check(&point, &gradients).unwrap();
    println!("{} tensors, the largest relative error is {worst:.1e}", differences.tensors.len());
    // A wrong rule is found: here dropout that keeps everything, and gains of 1.
    let mut wrong = point.clone();
    wrong.masks.clear();
    differences.compare(&point, &wrong.gradients(&objective), |_| 1.0).unwrap_err();
    let mut wrong = point.clone();
    wrong.gains.fill(1.0);
    differences.compare(&point, &wrong.gradients(&objective), |_| 1.0).unwrap_err();
}

// The engines against the reference, one operation at a time.

fn convolutions(engines: &[Options]) {
    check_all(engines, cases::conv());
}

fn random_convolutions(engines: &[Options]) {
    let out = prop::sample::select(vec![1, 2, 3, 5, 8, 13, 16, 17, 33]);
    check_random(engines, conv_ops(out), channels());
}

fn pools(engines: &[Options]) {
    check_all(engines, cases::pool());
}

fn random_pools(engines: &[Options]) {
    check_random(engines, pool_ops(), channels());
}

fn normalisations(engines: &[Options]) {
    check_all(engines, cases::lrn());
}

fn random_normalisations(engines: &[Options]) {
    check_random(engines, lrn_ops(), channels());
}

fn dense_layers(engines: &[Options]) {
    check_all(engines, cases::dense());
}

fn random_dense_layers(engines: &[Options]) {
    check_random(engines, dense_ops(), channels());
}

fn softmax(engines: &[Options]) {
    check_all(engines, cases::softmax());
}

fn random_softmax(engines: &[Options]) {
    // With a single channel, the probability would be 1 for any input.
    check_random(engines, Just(Op::Softmax), 2..40usize);
}

/// Outside of training, dropout changes nothing.
fn dropout_is_the_identity(engines: &[Options]) {
    let shapes = [Shape::new(1, 1, 1, 64), Shape::new(3, 1, 1, 17), Shape::new(2, 3, 5, 33)];
    let case = |shape| cases::one_op(Op::Dropout { ratio: 0.4 }, shape, 3).expect("it fits every input");
    check_all(engines, shapes.map(case).into());
}

fn concatenations(engines: &[Options]) {
    check_all(engines, cases::concat());
}

fn fused_layers(engines: &[Options]) {
    check_all(engines, cases::fused());
}

fn a_small_googlenet(engines: &[Options]) {
    check_all(engines, [1, 2, 3].map(|batch| cases::miniature(batch, batch as u64)).into());
}

/// A max pool of equal values. The windows of 3 columns and rows with stride 2 and padding 1 overlap, so that a pixel is
/// the first of up to four windows.
fn ties_go_to_the_first_maximum(engines: &[Options]) {
    let input = Shape::new(1, 4, 5, 1);
    let window = Window::square(3, 2, Padding::symmetric(1));
    let mut case = cases::one_op(Op::MaxPool(window), input, 1).expect("the window fits");
    case.inputs[0].data.fill(2.0);
    // Rows 0 and 1, and columns 0, 1 and 3, are where the windows begin inside the input.
    let mut want = Tensor::zeros(input);
    for y in [0, 1] {
        for x in [0, 1, 3] {
            want.data[y * input.w + x] = 1.0;
        }
    }
    let sum = [backward::Term { node: 1, kind: TermKind::Sum { weight: 1.0 } }];
    let exact = Point::of(&case).gradients(&terms(&case.network, &Objective::Terms(&sum), 1));
    assert_eq!(exact.nodes[0].data, want.data.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    for &options in engines {
        let mut engine = block_on(load(options, &case)).unwrap();
        let got = block_on(differentiate(&mut engine, &case, &Objective::Terms(&sum), Wrt::Input)).unwrap();
        assert_eq!(got.layer.unwrap(), want, "{}", name(options));
        // A greater value at the end of a window takes its gradient.
        let mut greater = case.clone();
        greater.inputs[0].data[2 * input.w + 2] = 3.0;
        let got = block_on(differentiate(&mut engine, &greater, &Objective::Terms(&sum), Wrt::Input)).unwrap();
        assert_ne!(got.layer.unwrap(), want);
    }
}

// The interface.

/// The gradient with respect to the output of each layer, with branches that are concatenated in place and without.
fn every_layer(engines: &[Options]) {
    let module = cases::module(Variant::Caffe, true, false, Shape::new(2, 6, 5, 7), 21);
    for (case, concat) in [
        (module.clone(), ConcatMode::InPlace),
        (module, ConcatMode::WithGains),
        (cases::miniature(2, 22), ConcatMode::InPlace),
    ] {
        let case = settled(case);
        let network = &case.network;
        let objective = common::gradients::objective(network);
        let want = Point::of(&case).gradients(&exact_objective(&case));
        for &options in engines {
            let mut engine = block_on(load(Options { concat, ..options }, &case)).unwrap();
            let mut worst = 0f64;
            // The objective is a function of the outputs that no layer reads.
            for (id, node) in network.nodes().iter().enumerate() {
                let layer = Wrt::Layer(&node.name);
                let got = block_on(differentiate(&mut engine, &case, &Objective::Terms(&objective), layer)).unwrap();
                let got = got.layer.expect("a gradient for the layer");
                assert_eq!(got.shape, node.shape.with_batch(2), "{}", node.name);
                let error = relative_error(&got.data, &want.nodes[id].data);
                assert!(error <= LAYERS, "on {}, {}: {error:.1e}", name(options), node.name);
                worst = worst.max(error);
                // The two pictures are told apart.
                let (first, second) = got.data.split_at(got.data.len() / 2);
                let swapped = [second, first].concat();
                assert!(relative_error(&swapped, &want.nodes[id].data) > LAYERS, "{}", node.name);
            }
            println!("on {}: {} layers, the worst at {worst:.1e}", name(options), network.nodes().len());
        }
    }
}

fn every_objective(engines: &[Options]) {
    let case = settled(cases::miniature(3, 31));
    let network = &case.network;
    let classes = [4, 0, 2];
    let heads = [("loss1", 0.3), ("loss2", 0.3), ("loss3", 1.0)];
    let prob = network.find("prob").unwrap();
    let sum = [
        backward::Term { node: prob, kind: TermKind::Channel { channel: 1, weight: 2.0 } },
        backward::Term {
            node: network.find("inception_3a/output").unwrap(),
            kind: TermKind::HalfSquares { weight: 0.25 },
        },
        backward::Term { node: prob, kind: TermKind::HalfSquares { weight: -1.0 } },
    ];
    // The channel that has the greatest values; some are zero.
    let outputs = Point::of(&case).forward();
    let channels = &outputs[network.find("inception_4a/3x3").unwrap()];
    let total = |channel: usize| channels.data.iter().skip(channel).step_by(channels.shape.c).sum::<f64>();
    let channel = (0..channels.shape.c).max_by(|&a, &b| total(a).total_cmp(&total(b)));
    let objectives = [
        Objective::Score { head: "loss3", class: 2 },
        Objective::Score { head: "loss1", class: 0 },
        Objective::Probability { head: "loss2", class: 4 },
        Objective::Probability { head: "loss3", class: 1 },
        Objective::Mean { layer: "inception_3a/output", channel: None },
        Objective::Mean { layer: "inception_4a/3x3", channel },
        Objective::Mean { layer: "pool1", channel: Some(0) },
        Objective::HalfSquares { layer: "inception_4a/output" },
        Objective::HalfSquares { layer: "norm1" },
        Objective::Loss { classes: &classes, heads: &heads, smoothing: 0.0 },
        Objective::Loss { classes: &classes, heads: &heads, smoothing: 0.1 },
        Objective::Loss { classes: &classes, heads: &heads[2..], smoothing: 0.0 },
        Objective::Terms(&sum),
    ];
    let exact: Vec<Exact> = objectives.iter().map(|o| Point::of(&case).gradients(&terms(network, o, 3))).collect();
    for &options in engines {
        let mut engine = block_on(load(options, &case)).unwrap();
        for (i, (objective, want)) in objectives.iter().zip(&exact).enumerate() {
            let say = |e: String| format!("on {}, {objective:?}: {e}", name(options));
            let got = block_on(differentiate(&mut engine, &case, objective, Wrt::Input)).unwrap();
            close(got.value, &want.terms).unwrap_or_else(|e| panic!("{}", say(e)));
            assert_eq!(got.terms.len(), want.terms.len(), "{objective:?}");
            for (t, (value, want)) in got.terms.iter().zip(&want.terms).enumerate() {
                // The terms of a loss are the means of the cross-entropies, without the heads' weights.
                let weight = match objective {
                    Objective::Loss { heads, .. } => f64::from(heads[t].1),
                    _ => 1.0,
                };
                close(*value, &[want / weight]).unwrap_or_else(|e| panic!("{}", say(e)));
            }
            let of_input = got.layer.expect("a gradient for the input").data;
            let error = relative_error(&of_input, &want.nodes[0].data);
            println!("on {}, {objective:?}: {error:.1e}", name(options));
            assert!(error <= LAYERS && norm(&of_input) > 0.0, "{}", say(format!("{error:.1e}")));
            // Every other objective has another gradient.
            for other in (0..exact.len()).filter(|&other| other != i) {
                assert!(relative_error(&of_input, &exact[other].nodes[0].data) > LAYERS, "{other}, {}", say("".into()));
            }
        }
    }
}

/// The gradients for the weights of the last layers are those that are computed with all others. A layer on which the
/// objective does not depend has none.
fn only_the_last_layers(engines: &[Options]) {
    let case = cases::fused().pop().expect("a chain of layers");
    for &options in engines {
        let mut engine = block_on(load(options, &case)).unwrap();
        let terms = common::gradients::objective(&case.network);
        let mut gradients =
            |wrt| block_on(differentiate(&mut engine, &case, &Objective::Terms(&terms), wrt)).unwrap().weights;
        let all = gradients(Wrt::Weights);
        for (from, layers) in [("layer1", 3), ("layer2", 2), ("layer4", 2), ("layer5", 1)] {
            let some = gradients(Wrt::WeightsFrom(from));
            assert_eq!(some.len(), 2 * layers, "from {from} on");
            for gradient in &some {
                assert!(all.contains(gradient), "{} from {from} on", gradient.name);
            }
        }
    }
}

/// Branches that are switched off or scaled. The gains are set on an engine that has already run without them.
fn gains(engines: &[Options]) {
    const OFF: [&str; 3] =
        ["inception_3a/3x3.weight", "inception_3a/3x3_reduce.weight", "inception_3a/3x3_reduce.bias"];
    let gains = [("inception_3a/3x3", 0.0), ("inception_3a/1x1", 0.5), ("inception_4a/pool_proj", 0.5)];
    let plain = settled(cases::miniature(2, 41));
    let case = settled(plain.clone().with_gains(&gains));
    let plain = Case { inputs: case.inputs.clone(), ..plain };
    check_all(engines, vec![case.clone()]);
    let zero = |gradient: &[f32]| gradient.iter().all(|&v| v == 0.0);
    for &options in engines {
        for concat in [ConcatMode::InPlace, ConcatMode::WithGains] {
            let mut engine = block_on(load(Options { concat, ..options }, &plain)).unwrap();
            let before = block_on(compute(&mut engine, &plain)).unwrap();
            for (branch, gain) in gains {
                engine.set_gain(branch, gain).unwrap();
            }
            let with_gains = block_on(compute(&mut engine, &case)).unwrap();
            let want = Point::of(&case).gradients(&exact_objective(&case));
            common::gradients::compare(&case.network, &with_gains, &want, LAYERS).unwrap();
            common::gradients::compare(&case.network, &before, &want, LAYERS).unwrap_err();
            for (tensor, gradient) in &with_gains.tensors {
                let (_, without) = before.tensors.iter().find(|(name, _)| name == tensor).expect("the same tensors");
                let off = OFF.contains(&tensor.as_str());
                assert!(!off || zero(gradient) && !zero(without), "{tensor}: nothing comes through the branch");
            }
            engine.set_gains(&[]).unwrap();
            let after = block_on(compute(&mut engine, &plain)).unwrap();
            let want = Point::of(&plain).gradients(&exact_objective(&plain));
            common::gradients::compare(&plain.network, &after, &want, LAYERS).unwrap();
        }
    }
}

/// The same bits in every run, and on one, two and three threads.
fn results_repeat_bit_for_bit(engines: &[Options]) {
    let mut all = cases::conv();
    all.extend(cases::concat());
    all.extend(cases::dense());
    all.push(cases::fused().pop().expect("a chain of layers"));
    all.extend([1, 2, 3].map(|batch| cases::miniature(batch, 50 + batch as u64)));
    for &options in engines {
        for case in &all {
            let threads = if options.backend == Backend::Cpu { &[1, 2, 3][..] } else { &[1] };
            let mut first: Option<Vec<u32>> = None;
            for &threads in threads {
                let options = Options { threads: NonZeroUsize::new(threads), ..options };
                let mut engine = block_on(load(options, case)).unwrap();
                for run in 0..2 {
                    let bits = block_on(compute(&mut engine, case)).unwrap().bits();
                    let first = first.get_or_insert_with(|| bits.clone());
                    let what = format!("{} on {}, {threads} threads, run {run}", case.name, name(options));
                    assert!(*first == bits, "{what}: other bits than in the first run");
                }
            }
            // The comparison sees a change of the smallest kind.
            let mut changed = case.clone();
            changed.inputs[0].data.iter_mut().for_each(|v| *v = v.next_up());
            let bits = block_on(compute(&mut block_on(load(options, case)).unwrap(), &changed)).unwrap().bits();
            assert!(first != Some(bits), "{} on {}: the change shows", case.name, name(options));
        }
    }
}

/// The gradient for pictures is that for the tensor which they become.
fn pictures_are_preprocessed(engines: &[Options]) {
    use googlenet::model::preprocess::{Crop, Image};
    let conv = Op::Conv { window: Window::square(3, 2, Padding::Same), out: 5, activation: true.into() };
    let case = cases::one_op(conv, Shape::new(1, 12, 12, 3), 61).expect("the window fits");
    let pictures = [7, 11].map(|step| {
        let rgba = (0..20 * 16 * 4).map(|i| (i * step % 251) as u8).collect();
        Image::new(20, 16, rgba).unwrap()
    });
    let terms = common::gradients::objective(&case.network);
    for &options in engines {
        let mut engine = block_on(load(options, &case)).unwrap();
        let mut of = |pictures: &[&Image]| {
            let input = Input::Images(pictures, Crop::Center);
            block_on(engine.gradient(input, &Objective::Terms(&terms), Wrt::Input)).unwrap().layer.unwrap()
        };
        let got = of(&[&pictures[0], &pictures[1]]);
        let swapped = of(&[&pictures[1], &pictures[0]]);
        block_on(engine.run_input(Input::Images(&[&pictures[0], &pictures[1]], Crop::Center))).unwrap();
        let tensor = block_on(engine.read("data")).unwrap();
        let input = Input::Tensors(&[&tensor]);
        let want = block_on(engine.gradient(input, &Objective::Terms(&terms), Wrt::Input)).unwrap().layer.unwrap();
        assert_eq!(got, want, "{}", name(options));
        assert_ne!(swapped, want);
    }
}

/// After a gradient, the activations are those of a run.
fn activations_stay(engines: &[Options]) {
    let case = settled(cases::miniature(2, 71));
    for &options in engines {
        let run = block_on(case.run(options)).unwrap();
        let mut engine = block_on(load(options, &case)).unwrap();
        block_on(compute(&mut engine, &case)).unwrap();
        block_on(case.compare(&engine)).unwrap();
        for node in case.network.nodes() {
            let [plain, with] = [&run, &engine].map(|engine| block_on(engine.read(&node.name)).unwrap());
            assert_eq!(plain, with, "{} on {}", node.name, name(options));
        }
    }
}

/// An error says what is wrong, and the engine goes on.
fn what_is_not_there_is_an_error(engines: &[Options]) {
    let case = cases::miniature(2, 81);
    let inputs: Vec<&Tensor> = case.inputs.iter().collect();
    let heads = [("loss3", 1.0)];
    let loss = |classes| Objective::Loss { classes, heads: &heads, smoothing: 0.0 };
    let score = Objective::Score { head: "loss3", class: 0 };
    for &options in engines {
        let mut engine = block_on(load(options, &case)).unwrap();
        let mut refuse = |objective: &Objective, wrt, says: &str| {
            let error = block_on(engine.gradient(Input::Tensors(&inputs), objective, wrt)).unwrap_err().to_string();
            assert!(error.contains(says), "\"{error}\" does not name {says}");
        };
        refuse(&Objective::Score { head: "loss4", class: 0 }, Wrt::Input, "loss4");
        refuse(&Objective::Score { head: "loss3", class: 5 }, Wrt::Input, "5");
        refuse(&Objective::Probability { head: "prob", class: 0 }, Wrt::Input, "prob");
        refuse(&Objective::Mean { layer: "inception_9z/output", channel: None }, Wrt::Input, "inception_9z/output");
        refuse(&Objective::Mean { layer: "pool1", channel: Some(9) }, Wrt::Input, "9");
        refuse(&loss(&[0]), Wrt::Input, "2");
        refuse(&loss(&[0, 5]), Wrt::Input, "5");
        refuse(&score, Wrt::Layer("nothing"), "nothing");
        refuse(&score, Wrt::WeightsFrom("nothing"), "nothing");
        refuse(&score, Wrt::Layer("loss1/conv"), "loss1/conv");
        let got = block_on(differentiate(&mut engine, &case, &score, Wrt::Input)).unwrap();
        assert!(got.layer.is_some());

        let mut without = block_on(case.load(options)).unwrap();
        let error = block_on(without.gradient(Input::Tensors(&inputs), &score, Wrt::Input)).unwrap_err();
        assert_eq!(error.code(), "argument", "{error}");
    }
}

// The whole Keras network.

fn keras_engine(model: Model, options: Options) -> Engine {
    block_on(Engine::with(model, Options { gradients: true, ..options })).unwrap()
}

/// The gradient for the input and all 126 tensors.
fn the_keras_network(engines: &[Options]) {
    let Some((model, golden)) = keras() else { return };
    assert_eq!(golden.tensors.len(), 126);
    let loss = Objective::Loss { classes: &golden.classes, heads: &HEADS, smoothing: 0.0 };
    let mut wrong = tensors(&model);
    wrong.iter_mut().find(|(name, ..)| name == "inception_4c/5x5_reduce.weight").unwrap().2[519] += 0.25;
    let wrong = with_weights(&model, wrong);
    for &options in engines {
        let compare = |model: &Model| {
            let mut engine = keras_engine(model.clone(), options);
            let mut gradient = |wrt| block_on(engine.gradient(Input::Tensors(&[&golden.input]), &loss, wrt)).unwrap();
            let of_input = gradient(Wrt::Input).layer.unwrap();
            let of_weights = gradient(Wrt::Weights);
            let exact = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
            let weights: ExactWeights = of_weights.weights.into_iter().map(|g| (g.name, exact(g.data))).collect();
            assert_eq!(weights.len(), 126);
            let losses = [of_weights.value, of_weights.terms[0], of_weights.terms[1], of_weights.terms[2]];
            golden.compare_curve("plain", &[losses])?;
            golden.compare(&exact(of_input.data), &weights)
        };
        println!("on {}", name(options));
        compare(&model).unwrap();
        let error = compare(&wrong).unwrap_err();
        println!("with a wrong weight: {error}");
    }
}

/// The losses of twelve steps of SGD, with the engine's gradients and plain loops for the rest. The engine is made anew
/// for the weights of each step.
fn the_keras_network_learns(engines: &[Options]) {
    let Some((model, golden)) = keras() else { return };
    // A software adapter takes seconds for each step, and changes of the weights are the same on both engines.
    let on_gpu = engines.iter().any(|options| options.backend == Backend::Gpu);
    let (curves, steps) = if on_gpu { (&["plain"][..], 4) } else { (&["plain", "decay"][..], 12) };
    for &options in &engines[..1] {
        for &curve in curves {
            let mut sgd = Sgd::default();
            let step = |weights: &mut Vec<Named>, rate, decay| {
                let loss = Objective::Loss { classes: &golden.classes, heads: &HEADS, smoothing: 0.0 };
                let mut engine = keras_engine(with_weights(&model, weights.clone()), options);
                let input = Input::Tensors(&[&golden.input]);
                let got = block_on(engine.gradient(input, &loss, Wrt::Weights)).unwrap();
                let gradients = got.weights.into_iter().map(|g| (g.name, g.data)).collect();
                sgd.step(weights, &gradients, rate, decay);
                [got.value, got.terms[0], got.terms[1], got.terms[2]]
            };
            let worst = golden.follow(curve, &model, steps, step).unwrap_or_else(|e| panic!("{}: {e}", name(options)));
            println!("on {}: the largest relative error of a loss is {worst:.1e}", name(options));
        }
    }
}

/// The reference's loss of the four pictures, and its gradients for the input and all weights. The pictures are computed
/// one after the other, on two threads.
fn exact_keras(model: &Model, weights: &[Named], golden: &Golden) -> ([f64; 4], Vec<f64>, ExactWeights) {
    let pictures = golden.classes.len();
    let compute = |picture: usize| {
        let loss = Objective::Loss { classes: &golden.classes[picture..=picture], heads: &HEADS, smoothing: 0.0 };
        let input = Tensor::new(golden.input.shape.with_batch(1), golden.input.image(picture).to_vec()).unwrap();
        let network = &model.network;
        let point = Point {
            network,
            weights: exact(weights),
            inputs: vec![Values::from(&input)],
            gains: vec![1.0; network.nodes().len()],
            masks: Masks::new(),
        };
        // The batch of four gives each picture a quarter of the weight.
        point.gradients(&terms(network, &loss, pictures))
    };
    let mut done: Vec<(usize, Exact)> = std::thread::scope(|scope| {
        let threads = [0, 1].map(|first| {
            let pictures = (first..pictures).step_by(2);
            scope.spawn(move || pictures.map(|picture| (picture, compute(picture))).collect::<Vec<_>>())
        });
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    done.sort_by_key(|(picture, _)| *picture);
    let (mut losses, mut of_input, mut of_weights) = ([0.0; 4], Vec::new(), ExactWeights::new());
    for (_, gradients) in done {
        for (i, (loss, (_, weight))) in gradients.terms.iter().zip(HEADS).enumerate() {
            losses[0] += loss;
            losses[i + 1] += loss / f64::from(weight);
        }
        of_input.extend(&gradients.nodes[0].data);
        for (name, gradient) in gradients.weights {
            let sum = of_weights.entry(name).or_insert_with(|| vec![0.0; gradient.len()]);
            sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
        }
    }
    (losses, of_input, of_weights)
}

/// The f64 reference itself, on the whole network with all four pictures, and three steps of each curve.
#[test]
#[ignore = "the reference takes minutes for the whole network; run it after a change of the reference"]
fn the_reference_agrees_with_tensorflow() {
    let Some((model, golden)) = keras() else { return };
    for curve in ["plain", "decay"] {
        let (mut sgd, mut first) = (Sgd::default(), true);
        let step = |weights: &mut Vec<Named>, rate, decay| {
            let (losses, of_input, of_weights) = exact_keras(&model, weights, &golden);
            if std::mem::take(&mut first) && curve == "plain" {
                golden.compare(&of_input, &of_weights).unwrap();
                // The comparison fails for the gradients of a branch in another's place.
                let mut wrong = of_weights.clone();
                let other = wrong["inception_4e/5x5_reduce.bias"].clone();
                wrong.insert("inception_5a/5x5_reduce.bias".into(), other);
                golden.compare(&of_input, &wrong).unwrap_err();
            }
            let single = |(name, gradient): (String, Vec<f64>)| (name, gradient.iter().map(|&v| v as f32).collect());
            sgd.step(weights, &of_weights.into_iter().map(single).collect(), rate, decay);
            losses
        };
        let worst = golden.follow(curve, &model, 3, step).unwrap();
        println!("the largest relative error of a loss is {worst:.1e}");
    }
}
