//! Whole networks on all engines, compared with the results of other frameworks.
//!
//! The references were computed with TensorFlow 2.21 / Keras 3.15 (`keras/`) and onnxruntime 1.32 (`imagenet/`). They
//! are in the folder that the environment variable `GOOGLENET_REFERENCE` names. Without it, the tests print that they
//! are skipped, and pass.
#![cfg(not(target_arch = "wasm32"))]

mod common;

use common::{ENGINES, name};
use googlenet::engine::{self, Backend, Engine, HeadOutput, Output};
use googlenet::graph::network::Network;
use googlenet::graph::tensor::{Shape, Tensor, nchw_to_nhwc};
use googlenet::model::Model;
use googlenet::model::import::{Options, import};
use googlenet::model::preprocess::{Crop, Image, Preprocess};
use googlenet::model::weights::Weights;
use googlenet::plan::Input;
use pollster::block_on;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// The reference folder; `None`, with a message, if there is none.
fn reference() -> Option<PathBuf> {
    let dir = std::env::var_os("GOOGLENET_REFERENCE").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: GOOGLENET_REFERENCE is not set");
    }
    dir
}

fn engine(model: &Model, options: engine::Options) -> Engine {
    let engine = block_on(Engine::with(model.clone(), options)).unwrap();
    println!("{}: {}", name(options), engine.info().adapter);
    engine
}

fn run(engine: &mut Engine, input: &Tensor) -> Output {
    block_on(engine.run_input(Input::Tensors(&[input]))).unwrap()
}

fn read(engine: &Engine, node: &str) -> Tensor {
    block_on(engine.read(node)).unwrap()
}

fn answer(output: &Output) -> &Tensor {
    &output.answer().unwrap().probabilities
}

/// Sums of a few thousand products in different orders differ by about 1e-6 of their size. The tolerances leave room
/// for the Winograd algorithm and for fused multiply-adds on GPUs, and are far smaller than the effect of one wrong
/// weight. In the Winograd algorithm, the rounding errors of large outputs affect small ones of the same tile, so the
/// absolute tolerance is at least a millionth of the layer's largest value (up to 1800 in the BVLC network).
const ATOL: f32 = 1e-4;
const RTOL: f32 = 1e-3;
const RTOL_OF_MAX: f32 = 1e-6;

/// `|a - b|` of each element, as a multiple of the tolerance.
fn errors(got: &[f32], want: &[f32]) -> impl Iterator<Item = f32> {
    let greatest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
    let atol = ATOL.max(RTOL_OF_MAX * greatest);
    got.iter().zip(want).map(move |(a, b)| (a - b).abs() / (atol + RTOL * b.abs()))
}

/// The number of elements whose error is more than `times` the tolerance, or NaN.
fn beyond(got: &[f32], want: &[f32], times: f32) -> usize {
    got.len() - errors(got, want).filter(|&error| error <= times).count()
}

/// Adds 0.25 to one weight; the comparison must then fail.
fn perturb(model: &mut Model, tensor: &str, index: usize) {
    let changed = model.weights.names().map(|name| {
        let (dims, mut values) = model.weights.get(name).unwrap();
        if name == tensor {
            values[index] += 0.25;
        }
        (name.to_owned(), dims.to_vec(), values)
    });
    model.weights = Weights::from_tensors(changed.collect::<Vec<_>>()).unwrap();
}

/// The largest of the [`errors`]. Fails if an element is beyond the tolerance.
fn compare(layer: &str, got: &[f32], want: &[f32]) -> Result<f32, String> {
    if got.len() != want.len() {
        return Err(format!("{layer}: {} values, not {}", got.len(), want.len()));
    }
    let worst = errors(got, want).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    match worst {
        Some((_, worst)) if worst <= 1.0 => Ok(worst),
        Some((i, _)) => Err(format!("{layer}: element {i} is {}, not {}", got[i], want[i])),
        None => Err(format!("{layer}: nothing to compare")),
    }
}

/// A file with the expected outputs of the layers.
struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    fn load(path: PathBuf) -> Self {
        let bytes = fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let values = |view: &safetensors::tensor::TensorView| match view.dtype() {
            safetensors::Dtype::U8 => view.data().iter().map(|&v| v as f32).collect(),
            _ => view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        };
        let tensors = file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), values(&view))));
        Golden { tensors: tensors.collect() }
    }

    fn get(&self, name: &str) -> &[f32] {
        &self.tensors[name].1
    }

    /// A tensor (c, h, w) in the order HWC. Vectors are returned as they are.
    fn hwc(&self, name: &str) -> Vec<f32> {
        let (dims, values) = &self.tensors[name];
        match dims[..] {
            [c, h, w] => nchw_to_nhwc(Shape::new(1, h, w, c), values),
            _ => values.clone(),
        }
    }
}

/// The Keras network's model, imported from its file; the outputs of its layers; and its input.
fn keras() -> Option<(Model, Golden, Tensor)> {
    let dir = reference()?.join("keras");
    let bytes = fs::read(dir.join("googlenet_keras3.weights.h5")).unwrap();
    let options = Options { mean: Some([0.0; 3]), ..Options::default() };
    let model = import(&bytes, &options).unwrap().model;
    assert_eq!(model.network.total_params(), 13_374_120);
    let golden = Golden::load(dir.join("golden_googlenet.safetensors"));
    let input = Tensor::new(Shape::new(1, 224, 224, 3), golden.get("input").to_vec()).unwrap();
    Some((model, golden, input))
}

/// Pairs of the names in Keras and ours, in the order of the network. The layers `dropout` and `flatten` of Keras do
/// not change the 1024 averages, and `linear` has the scores before softmax.
fn keras_layers() -> Vec<(String, String)> {
    let pair = |theirs: &str, ours: &str| (theirs.to_owned(), ours.to_owned());
    let mut layers = vec![
        pair("convolution-1", "conv1/7x7_s2"),
        pair("max-pool-1", "pool1/3x3_s2"),
        pair("convolution-2", "conv2/3x3"),
        pair("max-pool-2", "pool2/3x3_s2"),
    ];
    for row in &googlenet::graph::googlenet::TABLE {
        match row.name {
            "4a" => layers.push(pair("max-pool-3", "pool3/3x3_s2")),
            "5a" => layers.push(pair("max-pool-4", "pool4/3x3_s2")),
            _ => {}
        }
        let theirs = format!("inception-{}", row.name);
        for (branch, last) in ["1x1", "3x3", "5x5", "pool_proj"].iter().enumerate() {
            layers.push((format!("{theirs}/branch{}", branch + 1), format!("{}/{last}", row.module())));
        }
        layers.push((theirs, format!("{}/output", row.module())));
        match row.name {
            "4a" => layers.push(pair("AuxiliaryClassifier-1", "loss1/prob")),
            "4d" => layers.push(pair("AuxiliaryClassifier-2", "loss2/prob")),
            _ => {}
        }
    }
    layers.extend(["avg-pool", "dropout", "flatten"].map(|theirs| pair(theirs, "pool5/7x7_s1")));
    layers.extend([pair("linear", "loss3/classifier"), pair("softmax", "prob")]);
    layers
}

/// Compares all layers in order. The error names the first layer that differs. Returns the largest error.
fn compare_keras(engine: &Engine, golden: &Golden) -> Result<f32, String> {
    let mut worst = 0f32;
    for (theirs, ours) in keras_layers() {
        worst = worst.max(compare(&theirs, &read(engine, &ours).data, golden.get(&theirs))?);
    }
    Ok(worst)
}

#[test]
fn keras_layers_branches_and_heads() {
    let Some((model, golden, input)) = keras() else { return };
    let mut left: BTreeSet<&str> = golden.tensors.keys().map(String::as_str).collect();
    let layers = keras_layers();
    for theirs in layers.iter().map(|(theirs, _)| theirs.as_str()).chain(["input"]) {
        assert!(left.remove(theirs), "{theirs} is not stored");
    }
    assert!(left.is_empty(), "not compared: {left:?}");

    for options in ENGINES {
        let mut engine = engine(&model, options);
        let output = run(&mut engine, &input);
        let worst = compare_keras(&engine, &golden).unwrap();
        println!("{} layers, the worst element at {worst:.4} of the tolerance", layers.len());
        let heads = ["AuxiliaryClassifier-1", "AuxiliaryClassifier-2", "softmax"];
        assert_eq!(output.heads.len(), heads.len());
        for (head, theirs) in output.heads.iter().zip(heads) {
            compare(theirs, &head.probabilities.data, golden.get(theirs)).unwrap();
        }
    }
}

/// The comparison detects one wrong weight, and reports the layer that has it.
#[test]
fn one_wrong_weight_is_found_in_its_layer() {
    let Some((mut model, golden, input)) = keras() else { return };
    perturb(&mut model, "inception_4c/5x5_reduce.weight", 512 + 7);
    for options in ENGINES {
        let mut engine = engine(&model, options);
        run(&mut engine, &input);
        let error = compare_keras(&engine, &golden).unwrap_err();
        assert!(error.starts_with("inception-4c/branch3: "), "{error}");
    }
}

/// The BVLC model, the outputs of its layers for one photograph, and its input.
fn bvlc() -> Option<(Model, Golden, Tensor)> {
    let dir = reference()?.join("imagenet");
    let model = Model::from_bytes(fs::read(dir.join("bvlc_googlenet.safetensors")).unwrap()).unwrap();
    let golden = Golden::load(dir.join("golden_chelsea.safetensors"));
    let input = Tensor::new(Shape::new(1, 224, 224, 3), golden.hwc("data")).unwrap();
    Some((model, golden, input))
}

/// Pairs of the stored names and ours, in the order of the network. Only `logits` has a different name; `rgb224` and
/// `data` are inputs.
fn bvlc_layers(model: &Model, golden: &Golden) -> Vec<(String, String)> {
    let mut layers: Vec<_> = golden
        .tensors
        .keys()
        .filter(|name| !["rgb224", "data"].contains(&name.as_str()))
        .map(|theirs| {
            let ours = if theirs == "logits" { "loss3/classifier" } else { theirs };
            (model.network.find(ours).unwrap(), theirs.clone(), ours.to_owned())
        })
        .collect();
    layers.sort();
    layers.into_iter().map(|(_, theirs, ours)| (theirs, ours)).collect()
}

/// Compares picture `n` of the batch with all stored layers.
///
/// The reference was computed in f32, too, with values of up to 1800 that cancel. [`bvlc_against_exact_arithmetic`]
/// shows that a few of its elements are beyond the tolerance. So a few elements of a layer may be beyond it here, but
/// none in that test and in [`each_layer_on_the_reference_inputs`].
fn compare_bvlc(engine: &Engine, golden: &Golden, n: usize) -> Result<f32, String> {
    let (mut worst, mut rounded) = (0f32, 0);
    for (theirs, ours) in bvlc_layers(engine.model(), golden) {
        let (got, want) = (read(engine, &ours), golden.hwc(&theirs));
        match compare(&theirs, got.image(n), &want) {
            Ok(error) => worst = worst.max(error),
            Err(_) if beyond(got.image(n), &want, 1.0) <= 8 && beyond(got.image(n), &want, 2.0) == 0 => rounded += 1,
            Err(e) => return Err(e),
        }
    }
    assert!(rounded <= 10, "{rounded} layers are beyond the tolerance in some elements");
    Ok(worst)
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn bvlc_layers_and_probabilities() {
    let Some((model, golden, input)) = bvlc() else { return };
    let mut wrong = model.clone();
    perturb(&mut wrong, "inception_4c/5x5_reduce.weight", 512 + 7);
    // Every node of the network except the input is stored.
    assert_eq!(bvlc_layers(&model, &golden).len(), model.network.nodes().len() - 1);
    let rgba: Vec<u8> =
        golden.get("rgb224").chunks(3).flat_map(|p| [p[0], p[1], p[2], 255.0].map(|v| v as u8)).collect();
    let image = Image::new(224, 224, rgba).unwrap();
    assert_eq!(Preprocess::BVLC.tensor(&[&image], Crop::Center), input);

    for options in ENGINES {
        let mut engine = engine(&model, options);
        let output = run(&mut engine, &input);
        let worst = compare_bvlc(&engine, &golden, 0).unwrap();
        let prob = largest_difference(&answer(&output).data, golden.get("prob"));
        println!("the worst element at {worst:.4} of the tolerance, probabilities within {prob:.1e}");
        assert!(prob <= 1e-4);
        assert_eq!(output.answer().unwrap().top(0, 1)[0].0, 285);

        let mut engine = self::engine(&wrong, options);
        run(&mut engine, &input);
        let error = compare_bvlc(&engine, &golden, 0).unwrap_err();
        assert!(error.starts_with("inception_4c/5x5_reduce: "), "{error}");
    }
}

/// Every layer is computed from the reference's inputs of that layer, so that errors do not accumulate.
#[test]
fn each_layer_on_the_reference_inputs() {
    let Some((model, golden, _)) = bvlc() else { return };
    let theirs = |node: &str| if node == "loss3/classifier" { "logits".to_owned() } else { node.to_owned() };
    // The network without its edges: every layer has inputs of its own.
    let (mut cut, mut inputs) = (Network::new(), Vec::new());
    for node in model.network.nodes().iter().filter(|node| !node.inputs.is_empty()) {
        let mut reads = Vec::new();
        for &from in &node.inputs {
            let from = model.network.node(from);
            reads.push(cut.input(&format!("{} for {}", from.name, node.name), from.shape).unwrap());
            inputs.push(Tensor::new(from.shape, golden.hwc(&theirs(&from.name))).unwrap());
        }
        cut.add(&node.name, node.op.clone(), &reads).unwrap();
    }
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let model = Model::from_network(cut, model.weights).unwrap();
    let mut wrong = model.clone();
    perturb(&mut wrong, "inception_4c/5x5_reduce.weight", 512 + 7);
    // The largest error of the layers within the tolerance, and the names of the other layers.
    let compare_all = |model: &Model, options| {
        let mut engine = engine(model, options);
        block_on(engine.run_input(Input::Tensors(&inputs))).unwrap();
        let (mut worst, mut off) = (0f32, Vec::new());
        for node in model.network.nodes().iter().filter(|node| !node.inputs.is_empty()) {
            match compare(&node.name, &read(&engine, &node.name).data, &golden.hwc(&theirs(&node.name))) {
                Ok(error) => worst = worst.max(error),
                Err(_) => off.push(node.name.clone()),
            }
        }
        (worst, off)
    };
    for options in ENGINES {
        let (worst, off) = compare_all(&model, options);
        println!("the worst element at {worst:.4} of the tolerance");
        assert!(off.is_empty(), "{off:?}");
        assert_eq!(compare_all(&wrong, options).1, ["inception_4c/5x5_reduce"]);
    }
}

/// The whole network, compared with our own computation in f64: all elements of all layers are within the tolerance.
#[test]
fn bvlc_against_exact_arithmetic() {
    let Some((model, golden, input)) = bvlc() else { return };
    let weights = model.weights.names().map(|name| {
        let (dims, values) = model.weights.get(name).unwrap();
        (name.to_owned(), dims.to_vec(), values)
    });
    let exact =
        common::reference::evaluate(&model.network, &weights.collect::<Vec<_>>(), std::slice::from_ref(&input), &[]);
    let shapes: Vec<Shape> = exact.iter().map(|(_, v)| v.shape).collect();
    let exact: Vec<(String, Vec<f32>)> =
        exact.into_iter().map(|(name, v)| (name, v.data.iter().map(|&v| v as f32).collect())).collect();
    // The tests in browsers compare with this file.
    if let Some(file) = std::env::var_os("GOOGLENET_EXACT") {
        let layers = exact.iter().zip(shapes);
        let layers = layers.map(|((name, v), shape)| (name.clone(), vec![shape.h, shape.w, shape.c], v.clone()));
        let layers = Weights::from_tensors(layers.collect::<Vec<_>>()).unwrap();
        fs::write(file, layers.to_bytes(&BTreeMap::new(), false).unwrap()).unwrap();
    }

    // The errors of the f32 reference itself. If more than a few elements were beyond the tolerance, the f64
    // computation would be wrong.
    let layers = bvlc_layers(&model, &golden);
    let (mut off, mut off_layers, mut worst) = (0, 0, 0f32);
    for (theirs, ours) in &layers {
        let (got, want) = (golden.hwc(theirs), &exact.iter().find(|(name, _)| name == ours).unwrap().1);
        let n = beyond(&got, want, 1.0);
        off += n;
        off_layers += usize::from(n > 0);
        worst = errors(&got, want).fold(worst, f32::max);
    }
    println!(
        "the reference: {off} elements of {off_layers} layers beyond the tolerance, the worst at {worst:.3} of it"
    );
    assert!(off <= 20 && worst <= 2.0);

    let mut wrong = model.clone();
    perturb(&mut wrong, "inception_4c/5x5_reduce.weight", 512 + 7);
    let compare_all = |engine: &Engine| {
        let each = exact.iter().map(|(name, want)| compare(name, &read(engine, name).data, want));
        each.collect::<Result<Vec<f32>, String>>()
    };
    for options in ENGINES {
        let mut right = engine(&model, options);
        run(&mut right, &input);
        let worst = compare_all(&right).unwrap().into_iter().fold(0.0, f32::max);
        println!("{} layers, the worst element at {worst:.4} of the tolerance", exact.len());
        for (name, want) in &exact {
            let how = right.algorithm(model.network.find(name).unwrap());
            if let Some(how) = how.filter(|how| how.algorithm.contains("Winograd")) {
                let greatest = want.iter().fold(0f32, |most, v| most.max(v.abs()));
                let off = largest_difference(&read(&right, name).data, want);
                let (of, how) = (off / greatest, how.algorithm);
                println!("{name:<20} {how:<24} off by {off:.1e} at most, {of:.1e} of the greatest, {greatest:.0}");
            }
        }
        let mut wrong = engine(&wrong, options);
        run(&mut wrong, &input);
        let error = compare_all(&wrong).unwrap_err();
        assert!(error.starts_with("inception_4c/5x5_reduce: "), "{error}");
    }
}

/// The photograph mirrored, as a second picture.
fn mirrored(input: &Tensor) -> Tensor {
    let row = input.shape.w * input.shape.c;
    let data = input.data.chunks(row).flat_map(|row| row.chunks(input.shape.c).rev().flatten().copied());
    Tensor::new(input.shape, data.collect()).unwrap()
}

#[test]
fn two_pictures_together_answer_as_they_do_alone() {
    let Some((model, golden, input)) = bvlc() else { return };
    let other = mirrored(&input);
    let both = Tensor::new(input.shape.with_batch(2), other.data.iter().chain(&input.data).copied().collect()).unwrap();
    for options in ENGINES {
        let mut engine = engine(&model, options);
        let alone = run(&mut engine, &other);
        let together = run(&mut engine, &both);
        compare_bvlc(&engine, &golden, 1).unwrap();
        let first = answer(&together).image(0);
        assert!(largest_difference(first, &answer(&alone).data) <= 1e-5);
        assert!(largest_difference(answer(&together).image(1), golden.get("prob")) <= 1e-4);
        // The comparison detects that the two pictures are different.
        assert!(compare_bvlc(&engine, &golden, 0).unwrap_err().starts_with("conv1/7x7_s2: "));
        assert!(largest_difference(first, golden.get("prob")) > 1e-3);
    }
}

/// With weights stored in f16, each photograph has the same class and nearly the same probabilities as in f32.
#[test]
fn half_precision_weights_keep_the_answer() {
    let Some((model, _, input)) = bvlc() else { return };
    let Some(dir) = reference().map(|dir| dir.join("imagenet")) else { return };
    let half = Model::from_bytes(model.weights.to_bytes(&BTreeMap::new(), true).unwrap()).unwrap();
    assert!(half.weights.byte_len() < model.weights.byte_len() * 51 / 100);
    let expected = fs::read(dir.join("expected_top5.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
    for options in ENGINES {
        let (mut full, mut half) = (engine(&model, options), engine(&half, options));
        let same = |full: &Output, half: &Output, picture: &str| {
            let [full, half] = [full, half].map(|output| output.answer().unwrap());
            let off = largest_difference(&full.probabilities.data, &half.probabilities.data);
            println!("{}, {picture}: f16 weights move a probability by {off:.1e}", name(options));
            assert!(off > 0.0 && off <= 1e-3, "{picture}: {off}");
            half.top(0, 1)[0].0
        };
        assert_eq!(same(&run(&mut full, &input), &run(&mut half, &input), "the golden input"), 285);
        for name in ["chelsea.png", "coffee.png", "camera.png"] {
            let image = image::open(dir.join(name)).unwrap().into_rgba8();
            let (width, height) = (image.width() as usize, image.height() as usize);
            let image = Image::new(width, height, image.into_raw()).unwrap();
            let [full, half] = [&mut full, &mut half].map(|engine| block_on(engine.run(&image)).unwrap());
            assert_eq!(same(&full, &half, name), expected[name][0][0], "{name}");
        }
    }
}

#[test]
fn a_branch_can_be_switched_off_and_on() {
    const BRANCH: &str = "inception_3a/1x1";
    let Some((model, golden, input)) = bvlc() else { return };
    for options in ENGINES {
        let mut engine = engine(&model, options);
        let before = run(&mut engine, &input);

        engine.set_gain(BRANCH, 0.0).unwrap();
        let without = run(&mut engine, &input);
        assert!(largest_difference(&answer(&before).data, &answer(&without).data) > 0.01);
        // The branch can still be read. Its part of the module's output is zero, and the other branches are unchanged.
        assert_eq!(beyond(&read(&engine, BRANCH).data, &golden.hwc(BRANCH), 2.0), 0);
        let joined = read(&engine, "inception_3a/output");
        let whole = golden.hwc("inception_3a/output");
        for (joined, whole) in joined.data.chunks(256).zip(whole.chunks(256)) {
            assert!(joined[..64].iter().all(|&v| v == 0.0));
            assert_eq!(beyond(&joined[64..], &whole[64..], 2.0), 0);
        }

        engine.set_gain(BRANCH, 1.0).unwrap();
        let after = run(&mut engine, &input);
        assert_eq!(answer(&before), answer(&after), "bit for bit");
    }
}

#[test]
fn photographs_are_recognised_from_their_files() {
    let Some((model, _, _)) = bvlc() else { return };
    let Some(dir) = reference().map(|dir| dir.join("imagenet")) else { return };
    let expected: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.join("expected_top5.json")).unwrap()).unwrap();
    for options in ENGINES {
        let mut engine = engine(&model, options);
        for name in ["chelsea.png", "coffee.png", "camera.png"] {
            let picture = image::open(dir.join(name)).unwrap().into_rgba8();
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            let image = Image::new(width, height, picture.into_raw()).unwrap();
            let output = block_on(engine.run(&image)).unwrap();
            let (class, probability) = output.answer().unwrap().top(0, 1)[0];
            let want = &expected[name][0];
            println!("{name}: class {class} at {probability:.4}, expected {} at {}", want[0], want[2]);
            assert_eq!(want[0], class);
            assert!((want[2].as_f64().unwrap() - f64::from(probability)).abs() <= 0.02);
        }
    }
}

/// With half precision, on GPUs that support it, the five most probable classes are the same, with nearly the same
/// probabilities.
#[test]
fn half_precision_gives_the_same_answers() {
    let Some((model, _, _)) = bvlc() else { return };
    let Some(dir) = reference().map(|dir| dir.join("imagenet")) else { return };
    let load = |half| {
        let options = engine::Options { backend: Backend::Gpu, half, ..engine::Options::default() };
        block_on(Engine::with(model.clone(), options)).unwrap()
    };
    let (mut full, mut half) = (load(false), load(true));
    if !half.info().f16 {
        println!("skipped: {} has no f16", half.info().adapter);
        return;
    }
    assert!(!full.info().f16);
    for name in ["chelsea.png", "coffee.png", "camera.png"] {
        let picture = image::open(dir.join(name)).unwrap().into_rgba8();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let image = Image::new(width, height, picture.into_raw()).unwrap();
        let [full, half] = [&mut full, &mut half].map(|engine| block_on(engine.run(&image)).unwrap());
        let [full, half] = [&full, &half].map(|output| output.answer().unwrap());
        let off = largest_difference(&full.probabilities.data, &half.probabilities.data);
        println!("{name}: f16 moves a probability by {off:.1e}");
        assert!(off > 0.0 && off <= 0.01, "{name}: {off}");
        let classes = |head: &HeadOutput| head.top(0, 5).iter().map(|&(class, _)| class).collect::<BTreeSet<_>>();
        assert_eq!(full.top(0, 1)[0].0, half.top(0, 1)[0].0, "{name}");
        assert_eq!(classes(full), classes(half), "{name}");
    }
}

/// Importing a damaged file fails with an error that says what is wrong.
#[test]
fn a_damaged_keras_file_is_refused() {
    let Some(dir) = reference() else { return };
    let good = fs::read(dir.join("keras/googlenet_keras3.weights.h5")).unwrap();
    let options = Options { mean: Some([0.0; 3]), ..Options::default() };
    let refuse = |bytes: &[u8]| import(bytes, &options).map(drop).unwrap_err();

    assert!(import(&good, &Options::default()).map(drop).unwrap_err().to_string().contains("--mean R,G,B"));
    for cut in [9, 100, 2048, good.len() / 2, good.len() - 1] {
        assert_eq!(refuse(&good[..cut]).code(), "import", "cut at {cut}");
    }
    // A layer without variables. Layers that never have variables also have "vars" groups, but these are not required.
    // The names above them are chosen by the author of the network.
    let rename = |name: &[u8], at: usize| {
        let mut renamed = good.clone();
        renamed[at] = name[0].to_ascii_uppercase();
        import(&renamed, &options).map(drop)
    };
    let places = |name: &'static [u8]| good.windows(name.len()).enumerate().filter(move |(_, w)| *w == name);
    let error = places(b"vars\0").find_map(|(at, name)| rename(name, at).err()).unwrap();
    assert_eq!(error.code(), "missing-tensor");
    assert!(error.detail().unwrap().contains('/'), "{error}");
    places(b"branch3\0").take(1).for_each(|(at, name)| rename(name, at).unwrap());
    // One weight that is not a number: in conv1, which is found by the first four values of its kernel.
    let model = import(&good, &options).unwrap().model;
    let (dims, kernel) = model.weights.get("conv1/7x7_s2.weight").unwrap();
    let output = dims[1..].iter().product::<usize>();
    let first: Vec<u8> = (0..4).flat_map(|o| kernel[o * output].to_le_bytes()).collect();
    let at = good.windows(16).position(|w| w == first).unwrap();
    let mut nan = good.clone();
    nan[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let error = refuse(&nan);
    assert_eq!((error.code(), error.detail()), ("not-finite", Some("conv1/7x7_s2.weight")));
}
