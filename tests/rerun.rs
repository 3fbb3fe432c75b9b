//! Running again with different gains gives the same results as a whole run, without computing the layers upstream.

#![cfg(not(target_arch = "wasm32"))]

mod common;

use common::{Rng, Tolerance, cases, compare};
use googlenet::engine::{Backend, Engine, Options, Output};
use googlenet::graph::googlenet::{Row, Spec, TABLE, Variant};
use googlenet::graph::tensor::Tensor;
use googlenet::model::Model;
use googlenet::model::weights::Weights;
use googlenet::plan::{ConcatMode, Input};
use pollster::block_on;
use std::collections::BTreeSet;

const BACKENDS: [Backend; 2] = [Backend::Cpu, Backend::Gpu];
const BRANCHES: [&str; 4] = ["1x1", "3x3", "5x5", "pool_proj"];

/// A GoogLeNet with all three heads and a small input, and a batch of pictures for it.
fn subject(batch: usize) -> (Model, Tensor) {
    let spec = Spec { variant: Variant::Keras, classes: 10, heads: true, size: 96 };
    let network = spec.build().unwrap();
    let mut rng = Rng::new(3);
    let weights = Weights::from_tensors(cases::weights(&network, &mut rng)).unwrap();
    let input = rng.tensor(network.node(0).shape.with_batch(batch));
    (Model::from_network(network, weights).unwrap(), input)
}

fn load(model: &Model, backend: Backend) -> Engine {
    load_with(model, Options { backend, ..Options::default() })
}

fn load_with(model: &Model, options: Options) -> Engine {
    let mut engine = block_on(Engine::with(model.clone(), options)).unwrap();
    engine.set_timed(true);
    engine
}

fn run(engine: &mut Engine, input: &Tensor) -> Output {
    block_on(engine.run_input(Input::Tensors(&[input]))).unwrap()
}

fn set(engine: &mut Engine, gains: &[(String, f32)]) {
    engine.set_gains(gains).unwrap();
}

fn rerun(engine: &mut Engine, gains: &[(String, f32)]) -> Output {
    set(engine, gains);
    block_on(engine.rerun()).unwrap()
}

/// The activations of every node.
fn values(engine: &Engine) -> Vec<Tensor> {
    engine.model().network.nodes().iter().map(|node| block_on(engine.read(&node.name)).unwrap()).collect()
}

/// Whether two tensors are the same: bit for bit on the CPU, and within the tolerance of one operation on the GPU.
fn same(backend: Backend, got: &Tensor, want: &Tensor) -> bool {
    let bits = |t: &Tensor| -> Vec<u32> { t.data.iter().map(|v| v.to_bits()).collect() };
    match backend {
        Backend::Cpu => bits(got) == bits(want),
        _ => compare(got, &want.into(), Tolerance::OP).is_ok(),
    }
}

/// The layers that depend on the gains of this module: its output, all later layers of the main path, and the auxiliary
/// heads that do not come before it.
fn downstream(engine: &Engine, row: usize) -> BTreeSet<String> {
    let hangs_on = |head: &str| TABLE.iter().position(|row| row.name == if head == "loss1" { "4a" } else { "4d" });
    let after = |name: &str, module: Option<&str>| match module {
        Some(head) if head.starts_with("loss1") || head.starts_with("loss2") => row <= hangs_on(head).unwrap(),
        Some(module) if module.starts_with("inception") => {
            let at = TABLE.iter().position(|row| row.module() == module).unwrap();
            at > row || at == row && name.ends_with("/output")
        }
        _ => match name {
            "pool3/3x3_s2" => row <= 1,
            "pool4/3x3_s2" => row <= 6,
            _ => name.starts_with("pool5/") || name.starts_with("loss3/") || name == "prob",
        },
    };
    let nodes = engine.model().network.nodes().iter();
    nodes.filter(|node| after(&node.name, node.module.as_deref())).map(|node| node.name.clone()).collect()
}

/// The layers for which a run measured times.
fn steps(engine: &Engine, output: &Output) -> BTreeSet<String> {
    let name = |node| engine.model().network.node(node).name.clone();
    output.steps.iter().map(|step| name(step.node)).collect()
}

#[test]
fn matches_a_whole_run_module_by_module() {
    let (model, input) = subject(1);
    for backend in BACKENDS {
        let (mut engine, mut whole) = (load(&model, backend), load(&model, backend));
        run(&mut engine, &input);
        let untouched = values(&engine);
        for (at, row) in TABLE.iter().enumerate() {
            // A software GPU is slow, so only one branch of each module is tested there.
            for branch in if backend == Backend::Cpu { &BRANCHES[..] } else { &BRANCHES[at % 4..][..1] } {
                let what = format!("{backend:?}, {}/{branch}", row.module());
                let gains = [(format!("{}/{branch}", row.module()), 0.0)];
                let output = rerun(&mut engine, &gains);
                set(&mut whole, &gains);
                let expected = run(&mut whole, &input);
                for (head, want) in output.heads.iter().zip(&expected.heads) {
                    assert!(same(backend, &head.probabilities, &want.probabilities), "{what}, {}", head.name);
                }
                let got = values(&engine);
                for ((node, got), want) in model.network.nodes().iter().zip(&got).zip(&values(&whole)) {
                    assert!(same(backend, got, want), "{what}, {}", node.name);
                }
                // Negative control: layers downstream have changed, and the others have not.
                let reached = downstream(&engine, at);
                for ((node, got), before) in model.network.nodes().iter().zip(&got).zip(&untouched) {
                    let changed = !same(backend, got, before);
                    assert!(!changed || reached.contains(&node.name), "{what} changes {}", node.name);
                    let shows = node.name == format!("{}/output", row.module()) || node.name == "loss3/classifier";
                    assert!(changed || !shows, "{what} changes nothing of {}", node.name);
                }
            }
        }
        rerun(&mut engine, &[]);
        for ((node, got), want) in model.network.nodes().iter().zip(&values(&engine)).zip(&untouched) {
            assert!(same(backend, got, want), "{backend:?}, restored, {}", node.name);
        }
    }
}

#[test]
fn runs_the_steps_downstream_and_no_others() {
    let (model, input) = subject(1);
    for backend in BACKENDS {
        let mut engine = load(&model, backend);
        let timed = !run(&mut engine, &input).steps.is_empty();
        assert!(timed || backend == Backend::Gpu);
        let dispatches = |engine: &Engine| engine.gpu_counts().map_or(0, |counts| counts.dispatches);
        // Without a change there is nothing to do, and the results stay the same.
        let before = dispatches(&engine);
        assert_eq!(rerun(&mut engine, &[]).steps, []);
        assert_eq!(dispatches(&engine), before);
        // The branches do not have buffers of their own yet.
        let gain = |row: usize| (format!("{}/3x3", TABLE[row].module()), 0.5);
        let whole = rerun(&mut engine, &[gain(0)]);
        let all = dispatches(&engine) - before;
        assert!(!timed || whole.steps.len() == model.network.nodes().len() - 1);
        rerun(&mut engine, &[]);
        let mut least = all;
        for (row, Row { name, .. }) in TABLE.iter().enumerate() {
            let before = dispatches(&engine);
            let output = rerun(&mut engine, &[gain(row)]);
            if timed {
                assert_eq!(steps(&engine, &output), downstream(&engine, row), "{backend:?}, {name}");
            }
            if backend == Backend::Gpu {
                let fewer = dispatches(&engine) - before;
                assert!(fewer < least, "{name} takes {fewer} dispatches of {all}");
                least = fewer;
            }
            let twice = rerun(&mut engine, &[gain(row)]);
            assert_eq!((twice.heads, twice.steps), (output.heads, vec![]));
            rerun(&mut engine, &[]);
        }
        // The concatenation of the last module takes one dispatch for each branch. Then follow its average pool, the
        // classifier and softmax. On a software adapter, the input of the average pool is copied to a texture, too.
        let copied = usize::from(!engine.can_tune());
        assert_eq!(least, if backend == Backend::Gpu { 4 + copied + 3 } else { 0 });
        // Changing the gains of two branches runs both concatenations, and therefore everything from the earlier one
        // on.
        rerun(&mut engine, &[gain(6)]);
        let moved = rerun(&mut engine, &[gain(4)]);
        assert!(!timed || steps(&engine, &moved) == downstream(&engine, 4));
    }
}

#[test]
fn where_branches_have_places_of_their_own_so_does_the_first_gain() {
    let (model, input) = subject(1);
    for backend in BACKENDS {
        let mut direct = load(&model, backend);
        let mut engine = load_with(&model, Options { backend, concat: ConcatMode::WithGains, ..Options::default() });
        let untouched = run(&mut engine, &input);
        assert_eq!(untouched.heads, run(&mut direct, &input).heads, "{backend:?}");
        let gain = (format!("{}/3x3", TABLE[6].module()), 0.5);
        let [first, whole] = [&mut engine, &mut direct].map(|engine| rerun(engine, std::slice::from_ref(&gain)));
        assert_eq!(first.heads, whole.heads, "{backend:?}");
        assert_ne!(first.heads, untouched.heads, "{backend:?}");
        if !untouched.steps.is_empty() {
            assert_eq!(steps(&engine, &first), downstream(&engine, 6), "{backend:?}");
            assert!(whole.steps.len() > first.steps.len(), "{backend:?}");
        }
    }
}

#[test]
fn holds_for_a_batch_and_for_another_picture() {
    let (model, input) = subject(2);
    let gains = [("inception_4a/1x1".to_owned(), 0.0), ("inception_5a/pool_proj".to_owned(), 1.5)];
    let (mut engine, mut whole) = (load(&model, Backend::Cpu), load(&model, Backend::Cpu));
    run(&mut engine, &input);
    let first = rerun(&mut engine, &gains).heads;
    set(&mut whole, &gains);
    assert_eq!(first, run(&mut whole, &input).heads);
    // The gains are kept, and a run with another input uses them from the beginning.
    let other = Tensor { data: input.data.iter().rev().copied().collect(), ..input };
    let second = run(&mut engine, &other).heads;
    assert_ne!(second, first);
    assert_eq!(second, run(&mut whole, &other).heads);
    let untouched = rerun(&mut engine, &[]).heads;
    set(&mut whole, &[]);
    assert_eq!(untouched, run(&mut whole, &other).heads);
}

#[test]
fn needs_a_run_before_it() {
    let (model, input) = subject(1);
    let mut engine = load(&model, Backend::Cpu);
    assert_eq!(block_on(engine.rerun()).unwrap_err().code(), "argument");
    run(&mut engine, &input);
    block_on(engine.rerun()).unwrap();
    // A new number of threads takes new buffers.
    engine.set_threads(std::num::NonZeroUsize::MIN);
    assert_eq!(block_on(engine.rerun()).unwrap_err().code(), "argument");
}

/// `cargo test --test rerun -- --ignored --nocapture` prints how much time is saved, for the bundled model at its full
/// size.
#[test]
#[ignore = "it measures"]
fn how_long_every_branch_off_in_turn_takes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");
    let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
    let input = Rng::new(4).tensor(model.network.node(0).shape);
    for backend in BACKENDS {
        let mut engine = block_on(Engine::new(model.clone(), backend)).unwrap();
        run(&mut engine, &input);
        rerun(&mut engine, &[("inception_5b/1x1".to_owned(), 0.0)]);
        let all = || TABLE.iter().flat_map(|row| BRANCHES.map(|branch| format!("{}/{branch}", row.module())));
        let again: f64 = all().map(|branch| rerun(&mut engine, &[(branch, 0.0)]).run_ms).sum();
        let whole = |branch| {
            set(&mut engine, &[(branch, 0.0)]);
            run(&mut engine, &input).run_ms
        };
        let whole: f64 = all().map(whole).sum();
        println!("{backend:?}: {again:.0} ms, and {whole:.0} ms as whole runs; {:?}", engine.info());
    }
}
