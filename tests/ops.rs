//! Every operation on every engine, compared with an f64 reference: listed cases, random shapes, and the node tests of
//! ONNX. Every comparison has a negative control: one value is changed, and the comparison must fail.

#![cfg(not(target_arch = "wasm32"))]

mod common;

use common::strategies::{channels, shapes, windows};
use common::{CPU, Case, ENGINES, HARDWARE, SOFTWARE, Tolerance, cases, check, name};
use googlenet::engine::{Engine, Options};
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::Shape;
use pollster::block_on;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// The number of random cases for each engine.
const RANDOM: [(Options, u32); 3] = [(CPU, 96), (HARDWARE, 8), (SOFTWARE, 8)];

fn check_all(cases: &[Case]) {
    for options in ENGINES {
        for case in cases {
            block_on(check(options, case)).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// Checks random operations on random shapes, which are the same in every run. Combinations that do not fit are
/// skipped.
fn check_random(ops: impl Strategy<Value = Op>, channels: impl Strategy<Value = usize>) {
    let one = (ops, shapes(13, channels), any::<u16>());
    for (options, cases) in RANDOM {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let test = |(op, shape, seed): (Op, Shape, u16)| {
            let Some(case) = cases::one_op(op, shape, seed as u64) else {
                return Err(TestCaseError::reject("the window does not fit"));
            };
            block_on(check(options, &case)).map_err(TestCaseError::fail)
        };
        runner.run(&one, test).unwrap_or_else(|e| panic!("{e}"));
    }
}

mod conv {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::conv());
    }

    #[test]
    fn holds_for_random_shapes() {
        let out = prop::sample::select(vec![1, 2, 3, 7, 8, 13, 16, 17, 31, 33, 48]);
        let ops = (windows(), out, any::<bool>()).prop_map(|(window, out, relu)| Op::Conv {
            window,
            out,
            activation: relu.into(),
        });
        check_random(ops, channels());
    }
}

mod pool {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::pool());
    }

    #[test]
    fn holds_for_random_shapes() {
        let ops = prop_oneof![
            windows().prop_map(Op::MaxPool),
            (windows(), any::<bool>()).prop_map(|(window, count_padding)| Op::AvgPool { window, count_padding }),
            [1..=5usize, 1..=5usize].prop_map(|out| Op::AdaptiveAvgPool { out }),
        ];
        check_random(ops, channels());
    }
}

mod lrn {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::lrn());
    }

    #[test]
    fn holds_for_random_shapes() {
        let beta = prop_oneof![Just(0.75f32), 0.25..1.5f32];
        let ops = (1..=9usize, 1e-4..3f32, beta, 0.5..2f32);
        check_random(ops.prop_map(|(size, alpha, beta, k)| Op::Lrn { size, alpha, beta, k }), channels());
    }
}

mod fused {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::fused());
    }
}

mod dense {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::dense());
    }

    #[test]
    fn holds_for_random_shapes() {
        check_random(
            (1..=40usize, any::<bool>()).prop_map(|(out, relu)| Op::Dense { out, activation: relu.into() }),
            channels(),
        );
    }
}

mod softmax {
    use super::*;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::softmax());
    }

    #[test]
    fn holds_for_random_shapes() {
        // With a single channel, the probability would be 1 for any input.
        check_random(Just(Op::Softmax), 2..40usize);
    }
}

mod concat {
    use super::*;
    use googlenet::graph::googlenet::Variant;

    #[test]
    fn matches_the_reference() {
        check_all(&cases::concat());
    }

    #[test]
    fn both_concat_modes_agree_bit_for_bit() {
        let bits = |case: &Case, engine: &Engine| -> Vec<Vec<u32>> {
            let read = |(node, _): &(String, _)| block_on(engine.read(node)).unwrap().data;
            case.expected.iter().map(|e| read(e).iter().map(|v| v.to_bits()).collect()).collect()
        };
        for options in ENGINES {
            for odd in [false, true] {
                let case = cases::module(Variant::Caffe, odd, false, Shape::new(2, 7, 5, 11), 9);
                let mut engine = block_on(case.run(options)).unwrap();
                let direct = bits(&case, &engine);
                let branch = if odd { "inception_3a/5x5" } else { "inception_3b/5x5" };
                // After a gain has been set, the branches keep their own buffers, whatever the gains are.
                engine.set_gain(branch, 0.5).unwrap();
                block_on(case.run_on(&mut engine)).unwrap();
                assert_ne!(bits(&case, &engine), direct, "a gain of 0.5 must show");
                engine.set_gain(branch, 1.0).unwrap();
                block_on(case.run_on(&mut engine)).unwrap();
                assert_eq!(bits(&case, &engine), direct, "{}", name(options));
            }
        }
    }

    #[test]
    fn a_branch_that_is_off_stays_visible() {
        for options in ENGINES {
            let case = cases::module(Variant::Keras, true, false, Shape::new(2, 6, 5, 8), 10);
            let mut engine = block_on(case.run(options)).unwrap();
            let branch = block_on(engine.read("inception_3a/3x3")).unwrap();
            assert!(branch.data.iter().any(|&v| v > 0.0));
            engine.set_gain("inception_3a/3x3", 0.0).unwrap();
            block_on(case.run_on(&mut engine)).unwrap();
            assert_eq!(block_on(engine.read("inception_3a/3x3")).unwrap(), branch);
            let joined = block_on(engine.read("inception_3a/output")).unwrap();
            // The seven channels of the 3x3 branch follow the five channels of the 1x1 branch.
            for pixel in joined.data.chunks_exact(5 + 7 + 3 + 9) {
                assert!(pixel[5..12].iter().all(|&v| v == 0.0));
            }
            assert!(joined.data.chunks_exact(24).any(|pixel| pixel[..5].iter().any(|&v| v != 0.0)));
        }
    }
}

mod field {
    use super::*;
    use common::Rng;
    use common::reference::evaluate;
    use googlenet::graph::network::Network;
    use googlenet::graph::op::Field;
    use googlenet::graph::tensor::Tensor;

    /// A chain of every operation, with two branches.
    fn network(padding: Padding, input: Shape) -> Network {
        let conv = |kernel, stride| Op::Conv {
            window: Window { kernel, stride, padding },
            out: 1,
            activation: Activation::Relu,
        };
        let pool = Window { kernel: [3, 3], stride: [1, 2], padding };
        let mut net = Network::new();
        let x = net.input("data", input).unwrap();
        let x = net.add("conv", conv([5, 3], [2, 1]), &[x]).unwrap();
        let x = net.add("max", Op::MaxPool(pool), &[x]).unwrap();
        let same = |kernel| Window::square(kernel, 1, Padding::Same);
        let narrow =
            net.add("narrow", Op::Conv { window: same(2), out: 1, activation: Activation::Relu }, &[x]).unwrap();
        let wide = net.add("wide", Op::Conv { window: same(5), out: 1, activation: Activation::Relu }, &[x]).unwrap();
        let x = net.add("joined", Op::Concat, &[narrow, wide]).unwrap();
        let x = net.add("average", Op::AvgPool { window: pool, count_padding: false }, &[x]).unwrap();
        let x = net.add("adaptive", Op::AdaptiveAvgPool { out: [2, 3] }, &[x]).unwrap();
        net.add("dense", Op::Dense { out: 1, activation: Activation::None }, &[x]).unwrap();
        net
    }

    /// All weights and activations are non-negative, so a cell is positive if and only if it depends on the row or
    /// column of ones in an otherwise black picture.
    #[test]
    fn receptive_fields_are_exact() {
        let input = Shape::new(1, 31, 29, 1);
        for padding in cases::PADDINGS {
            let network = network(padding, input);
            let mut weights = cases::weights(&network, &mut Rng::new(5));
            for (name, _, values) in &mut weights {
                let bias = name.ends_with("bias");
                values.iter_mut().for_each(|v| *v = if bias { 0.0 } else { v.abs() + 0.1 });
            }
            for (axis, pixels) in [input.h, input.w].into_iter().enumerate() {
                let answers: Vec<_> = (0..pixels)
                    .map(|lit| {
                        let value = |p: usize| [p / input.w, p % input.w][axis] == lit;
                        let data = (0..input.len()).map(|p| f32::from(u8::from(value(p)))).collect();
                        evaluate(&network, &weights, &[Tensor { shape: input, data }], &[])
                    })
                    .collect();
                for node in network.nodes().iter().skip(1) {
                    let s = node.shape;
                    let depends_on = |cell: usize, lit: usize| {
                        let (_, values) = answers[lit].iter().find(|(name, _)| *name == node.name).unwrap();
                        let of = |i: usize| [i / (s.w * s.c), i / s.c % s.w][axis] == cell;
                        values.data.iter().enumerate().any(|(i, &v)| of(i) && v > 0.0)
                    };
                    // The number of cells that depend on pixels outside their receptive field, or do not depend on the
                    // ends of a field that is inside the picture.
                    let wrong = |field: Field| {
                        let cell = |cell: &usize| {
                            let from = field.start[axis] + (cell * field.jump[axis]) as isize;
                            let to = from + field.size[axis] as isize;
                            let beyond =
                                (0..pixels).any(|lit| !(from..to).contains(&(lit as isize)) && depends_on(*cell, lit));
                            // The regions of adaptive pooling have several sizes, and the receptive field is that of
                            // the largest.
                            let inside = from >= 0 && to <= pixels as isize && node.name != "adaptive";
                            beyond || inside && [from, to - 1].iter().any(|&end| !depends_on(*cell, end as usize))
                        };
                        (0..[s.h, s.w][axis]).filter(cell).count()
                    };
                    let what = format!("{}, {padding:?}, axis {axis}", node.name);
                    assert_eq!(wrong(node.field), 0, "{what}");
                    let moved = Field { start: node.field.start.map(|at| at + 1), ..node.field };
                    let told = wrong(moved) > 0 || node.field.size[axis] > pixels || node.name == "adaptive";
                    assert!(told, "moved by one, {what}");
                }
            }
        }
    }
}

mod preprocess {
    use super::*;
    use common::compare;
    use common::preprocess::{check, engine};
    use common::reference::Values;
    use googlenet::model::preprocess::{Image, Preprocess};

    #[test]
    fn matches_pillows_bilinear() {
        for options in ENGINES {
            block_on(check(options)).unwrap_or_else(|e| panic!("{e}"));
        }
    }

    /// Pillow rounds to integers between and after its two passes; we do not.
    #[test]
    fn matches_pillow_within_a_level() {
        let Some(reference) = reference_folder() else { return };
        let file = std::fs::read(reference.join("imagenet/golden_chelsea.safetensors")).unwrap();
        let golden = safetensors::SafeTensors::deserialize(&file).unwrap();
        let golden = golden.tensor("rgb224").unwrap();
        let golden =
            Values { shape: Shape::new(1, 224, 224, 3), data: golden.data().iter().map(|&v| v as f64).collect() };
        let picture = image::open(reference.join("imagenet/chelsea.png")).unwrap().to_rgba8();
        let (w, h) = (picture.width() as usize, picture.height() as usize);
        let chelsea = Image::new(w, h, picture.clone().into_raw()).unwrap();
        let level = Tolerance { atol: 1.0, rtol: 0.0 };
        for options in ENGINES {
            let mut engine = block_on(engine(Preprocess::default(), options)).unwrap();
            let mut prepared = |image: &Image| {
                block_on(engine.run(image)).unwrap();
                block_on(engine.read("data")).unwrap()
            };
            compare(&prepared(&chelsea), &golden, level).unwrap();
            // The centre of 451 columns is not an integer. Cropping one column further right gives a different picture.
            let right = image::imageops::crop_imm(&picture, 76, 0, 300, 300).to_image();
            compare(&prepared(&Image::new(300, 300, right.into_raw()).unwrap()), &golden, level).unwrap_err();
        }
    }
}

mod tiles {
    use super::*;

    #[test]
    fn are_drawn_as_the_sheet_says() {
        for options in ENGINES {
            block_on(common::tiles::check(options)).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

mod stats {
    use super::*;

    #[test]
    fn match_the_values() {
        for options in ENGINES {
            block_on(common::stats::check(options)).unwrap_or_else(|e| panic!("{e}"));
        }
    }
}

/// The reference data; `None`, with a message, if the machine does not have it.
fn reference_folder() -> Option<std::path::PathBuf> {
    let folder = std::env::var_os("GOOGLENET_REFERENCE").map(std::path::PathBuf::from);
    if folder.is_none() {
        println!("skipped: GOOGLENET_REFERENCE is not set");
    }
    folder
}

/// The node tests of ONNX.
mod onnx {
    use super::*;

    #[test]
    fn node_tests_pass() {
        let Some(reference) = reference_folder() else { return };
        let read = |name: &str| std::fs::read(reference.join("onnx_nodes").join(name)).unwrap();
        let tests = common::onnx::cases(&read("cases.json"), read("cases.safetensors"));
        tests.iter().filter_map(|t| t.as_ref().err()).for_each(|reason| println!("left out: {reason}"));
        let cases: Vec<Case> = tests.iter().flatten().cloned().collect();
        // There are many similar cases, so each is run with one of the two sets of kernels, in turn.
        for (case, kernels) in cases.iter().zip([HARDWARE, SOFTWARE].into_iter().cycle()) {
            for options in [CPU, kernels] {
                block_on(check(options, case)).unwrap_or_else(|e| panic!("{e}"));
            }
        }
        println!("{} of {} ONNX node tests ran", cases.len(), tests.len());
        assert!(cases.len() >= 45);
    }
}
