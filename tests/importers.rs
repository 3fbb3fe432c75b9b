//! Imports files that other frameworks have written, runs them, and compares the results with those of the frameworks.
//!
//! `tests/make_models.py` writes the files to the folder that the environment variable `GOOGLENET_MODELS` names;
//! `cargo xtask test importers` runs both. Without the variable, the tests print that they are skipped, and pass. The
//! versions of the frameworks are in `tests/requirements.txt`.
#![cfg(not(target_arch = "wasm32"))]

use googlenet::Error;
use googlenet::engine::{Backend, Engine};
use googlenet::graph::googlenet::Variant;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::model::Model;
use googlenet::model::import::{Options, import, recognises};
use googlenet::model::preprocess::Preprocess;
use googlenet::model::weights::Weights;
use googlenet::plan::Input;
use pollster::block_on;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// A file, the data that the framework computed, and its properties.
struct Case {
    file: &'static str,
    golden: &'static str,
    variant: Variant,
    format: &'static str,
    heads: bool,
}

const fn case(file: &'static str, golden: &'static str, variant: Variant, format: &'static str, heads: bool) -> Case {
    Case { file, golden, variant, format, heads }
}

const CASES: [Case; 17] = [
    case("keras.weights.h5", "keras", Variant::Keras, "Keras 3 weights", true),
    case("keras.keras", "keras", Variant::Keras, "Keras 3 weights", true),
    case("keras_v2.weights.h5", "keras_v2", Variant::KerasV2, "Keras 3 weights", false),
    case("keras_v2_deflated.keras", "keras_v2", Variant::KerasV2, "Keras 3 weights", false),
    case("tf_keras.h5", "tf_keras", Variant::Keras, "Keras weights (TensorFlow 2)", true),
    case("tf_keras_v2.h5", "tf_keras_v2", Variant::KerasV2, "Keras weights (TensorFlow 2)", false),
    case("caffe_v1.caffemodel", "caffe_v1", Variant::Caffe, "Caffe weights", true),
    case("caffe.caffemodel", "caffe", Variant::Caffe, "Caffe weights", true),
    case("caffe_double.caffemodel", "caffe_double", Variant::Caffe, "Caffe weights", false),
    case("onnx.onnx", "onnx", Variant::Caffe, "ONNX graph", true),
    case("zoo.onnx", "zoo", Variant::Caffe, "ONNX graph", false),
    case("onnx_keras.onnx", "onnx_keras", Variant::Keras, "ONNX graph", true),
    case("torchvision.safetensors", "torchvision", Variant::Torchvision, "torchvision state dict", true),
    case("torchvision.onnx", "torchvision", Variant::Torchvision, "ONNX graph", false),
    case("torchvision_batch_norm.onnx", "torchvision", Variant::Torchvision, "ONNX graph", false),
    case("torchvision_transform.onnx", "torchvision", Variant::Torchvision, "ONNX graph", false),
    case("torchvision_dynamo.onnx", "torchvision", Variant::Torchvision, "ONNX graph", false),
];

const CLASSES: usize = 7;

/// Absolute and relative tolerance of probabilities. The absolute tolerance is a few units in the last place of 1.
const PROBABILITY: (f32, f32) = (1e-6, 1e-3);
/// Absolute and relative tolerance of activations near 1, which are sums of up to 2400 products in a different order.
const LAYER: (f32, f32) = (1e-4, 1e-3);

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("GOOGLENET_MODELS").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: GOOGLENET_MODELS is not set; `cargo xtask test importers` makes them");
    }
    folder
}

fn read(file: &str) -> Option<Vec<u8>> {
    let path = folder()?.join(file);
    Some(fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Files of Keras do not contain the preprocessing. The input here is already preprocessed, so the value does not
/// matter.
fn options(case: &Case) -> Options {
    let mean = matches!(case.variant, Variant::Keras | Variant::KerasV2).then_some([0.0; 3]);
    Options { mean, ..Options::default() }
}

fn load(case: &Case) -> Option<Model> {
    let bytes = read(case.file)?;
    assert!(recognises(&bytes), "{}", case.file);
    let imported = import(&bytes, &options(case)).unwrap_or_else(|e| panic!("{}: {e}", case.file));
    assert_eq!(imported.format, case.format, "{}", case.file);
    assert!(!recognises(&imported.bytes), "a model file needs no importing");
    Some(imported.model)
}

type Golden = BTreeMap<String, Vec<f32>>;

fn golden(case: &Case) -> Option<Golden> {
    let bytes = read(&format!("{}.golden.safetensors", case.golden))?;
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let values = |view: TensorView| view.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    Some(file.iter().map(|(name, view)| (name.to_owned(), values(view))).collect())
}

/// The largest error as a multiple of the tolerance, and as a fraction of the value. Fails if an element is beyond the
/// tolerance.
fn compare(name: &str, got: &[f32], want: &[f32], (atol, rtol): (f32, f32)) -> Result<(f32, f32), String> {
    assert_eq!(got.len(), want.len(), "{name}");
    let mut worst = (0f32, 0f32);
    for (i, (&a, &b)) in got.iter().zip(want).enumerate() {
        let off = (a - b).abs();
        // NaN is an error, too.
        if off.is_nan() || off > atol + rtol * b.abs() {
            return Err(format!("{name}: element {i} is {a}, not {b}"));
        }
        worst = (worst.0.max(off / (atol + rtol * b.abs())), worst.1.max(off / b.abs().max(1e-6)));
    }
    Ok(worst)
}

/// The largest error of all layers (as a multiple of the tolerance), and of each head (as a fraction of the
/// probability).
fn run(model: &Model, golden: &Golden) -> (Result<f32, String>, BTreeMap<String, Result<f32, String>>) {
    let input = Tensor::new(Shape::new(1, 224, 224, 3), golden["input"].clone()).unwrap();
    let mut engine = block_on(Engine::new(model.clone(), Backend::Cpu)).unwrap();
    let output = block_on(engine.run_input(Input::Tensors(&[&input]))).unwrap();
    let mut layers = Ok(0f32);
    for (name, want) in golden.iter().filter(|(name, _)| name.starts_with("inception")) {
        let got = block_on(engine.read(name)).unwrap();
        let result = compare(name, &got.data, want, LAYER);
        layers = layers.and_then(|worst: f32| Ok(worst.max(result?.0)));
    }
    let heads = output.heads.iter().map(|head| {
        let result = compare(&head.name, &head.probabilities.data, &golden[&head.name], PROBABILITY);
        (head.name.clone(), result.map(|(_, relative)| relative))
    });
    (layers, heads.collect())
}

/// The model with `by` added to one value of a tensor.
fn perturb(model: &Model, tensor: &str, index: usize, by: f32) -> Model {
    let changed = model.weights.names().map(|name| {
        let (dims, mut values) = model.weights.get(name).unwrap();
        if name == tensor {
            values[index] += by;
        }
        (name.to_owned(), dims.to_vec(), values)
    });
    Model { weights: Weights::from_tensors(changed.collect::<Vec<_>>()).unwrap(), ..model.clone() }
}

/// Every format and every head. A wrong weight before a head is detected in that head.
#[test]
fn files_compute_what_their_frameworks_do() {
    if folder().is_none() {
        return;
    }
    for case in &CASES {
        let (Some(model), Some(golden)) = (load(case), golden(case)) else { return };
        assert_eq!((model.spec.variant, model.spec.classes), (case.variant, CLASSES), "{}", case.file);
        let names: &[&str] = if case.heads { &["loss1", "loss2", "loss3"] } else { &["loss3"] };
        let (layers, heads) = run(&model, &golden);
        assert_eq!(heads.keys().collect::<Vec<_>>(), names, "{}", case.file);
        assert!(golden.keys().filter(|name| name.starts_with("inception")).count() >= 15);
        let line: Vec<String> = heads.iter().map(|(name, r)| format!("{name} {:.1e}", r.as_ref().unwrap())).collect();
        println!("{:<28} {}, layers {:.3} of tolerance", case.file, line.join(", "), layers.unwrap());

        // The bias of an auxiliary convolution, changed by enough that ReLU does not hide it.
        let aux = [("loss1/conv.bias", "loss1"), ("loss2/conv.bias", "loss2")];
        for (tensor, head) in aux.into_iter().filter(|_| case.heads) {
            let (layers, heads) = run(&perturb(&model, tensor, 3, 8.0), &golden);
            assert!(heads[head].is_err(), "{}: {tensor} is wrong and {head} does not show it", case.file);
            assert!(layers.is_ok() && heads.values().filter(|r| r.is_err()).count() == 1);
        }
        let (layers, _) = run(&perturb(&model, "inception_3a/3x3_reduce.bias", 0, 8.0), &golden);
        assert!(layers.as_ref().is_err_and(|e| e.starts_with("inception_3a/3x3: ")), "{}: {layers:?}", case.file);
        let (_, heads) = run(&perturb(&model, "conv1/7x7_s2.weight", 0, 0.5), &golden);
        assert!(heads.values().all(Result::is_err), "{}: {heads:?}", case.file);
    }
}

#[test]
fn preprocessing_is_known_or_asked_for() {
    let imported = |file: &str, options: Options| Some(import(&read(file)?, &options));
    let Some(keras) = imported("keras_v2.weights.h5", Options::default()) else { return };
    assert!(keras.unwrap_err().to_string().contains("--mean R,G,B"));
    let model = |file: &str| imported(file, Options::default()).unwrap().unwrap().model;

    let caffe = model("caffe_double.caffemodel");
    assert_eq!(caffe.preprocess, Preprocess::BVLC);
    assert!(caffe.notes.iter().any(|note| note.contains("minus (104, 117, 123)")), "{:?}", caffe.notes);
    assert_eq!(model("zoo.onnx").preprocess, Preprocess::BVLC);

    let near = |p: Preprocess, mean: [f32; 3], std: [f32; 3]| {
        let off = p.mean.iter().chain(&p.std).zip(mean.iter().chain(&std)).any(|(a, b)| (a - b).abs() > 1e-6);
        assert!(!off && (p.scale * 255.0 - 1.0).abs() < 1e-6, "{p:?}");
    };
    let imagenet = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
    near(model("torchvision.safetensors").preprocess, [0.5; 3], [0.5; 3]);
    near(model("torchvision.onnx").preprocess, imagenet.0, imagenet.1);
    // The first nodes of the graph undo the normalisation with ImageNet's mean and standard deviation.
    near(model("torchvision_transform.onnx").preprocess, [0.5; 3], [0.5; 3]);
    near(model("torchvision_dynamo.onnx").preprocess, [0.5; 3], [0.5; 3]);

    let given = Options { mean: Some(imagenet.0), std: Some(imagenet.1), ..Options::default() };
    let given = imported("torchvision.safetensors", given).unwrap().unwrap().model;
    near(given.preprocess, imagenet.0, imagenet.1);
    assert!(!given.notes.iter().any(|note| note.contains("preprocessing")), "{:?}", given.notes);
}

#[test]
fn f16_halves_the_file_and_keeps_the_answer() {
    let case = &CASES[6];
    let (Some(bytes), Some(golden)) = (read(case.file), golden(case)) else { return };
    let whole = import(&bytes, &Options::default()).unwrap();
    let half = import(&bytes, &Options { half: true, ..Options::default() }).unwrap();
    assert!(half.bytes.len() * 2 < whole.bytes.len() + 50_000);
    let input = Tensor::new(Shape::new(1, 224, 224, 3), golden["input"].clone()).unwrap();
    let mut engine = block_on(Engine::new(half.model, Backend::Cpu)).unwrap();
    let output = block_on(engine.run_input(Input::Tensors(&[&input]))).unwrap();
    for head in &output.heads {
        compare(&head.name, &head.probabilities.data, &golden[&head.name], (2e-3, 2e-2)).unwrap();
    }
}

#[test]
fn a_variant_can_be_named_where_shapes_allow_it() {
    let with = |variant| Options { variant: Some(variant), mean: Some([0.0; 3]), ..Options::default() };
    let Some(v2) = read("tf_keras_v2.h5") else { return };
    // The same layers with different padding and normalisation.
    assert_eq!(import(&v2, &with(Variant::Caffe)).unwrap().model.spec.variant, Variant::Caffe);
    for (variant, tensor) in [(Variant::Keras, "conv2/3x3_reduce"), (Variant::Torchvision, "inception_3a/5x5")] {
        let error = import(&v2, &with(variant)).unwrap_err().to_string();
        let says = format!("its tensors are of the keras_v2 variant, not {variant}: ");
        assert!(error.contains(&says) && error.contains(tensor), "{error}");
    }
    let onnx = import(&read("zoo.onnx").unwrap(), &with(Variant::KerasV2)).unwrap_err().to_string();
    assert!(onnx.contains("is of the caffe variant, not keras_v2"), "{onnx}");
}

/// Checks an error's code, what it is about, and texts that it must contain.
fn fails(bytes: &[u8], code: &str, detail: Option<&str>, says: &[&str]) {
    let error = import(bytes, &Options { mean: Some([0.0; 3]), ..Options::default() }).unwrap_err();
    assert_eq!((error.code(), error.detail()), (code, detail), "{error}");
    for part in says {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn keras_errors_name_what_is_wrong() {
    let Some(missing) = read("bad/keras_missing.weights.h5") else { return };
    let bad = |name: &str| read(&format!("bad/{name}")).unwrap();
    fails(&missing, "missing-tensor", Some("inception_4c/5x5"), &["5x5x24x64"]);
    let at = Some("layers/inception_4/branch3/layers/conv2d_1/vars/0");
    fails(&bad("keras_shape.weights.h5"), "tensor-shape", at, &["5x5x24x63", "5x5x24x64"]);
    fails(&bad("keras_extra.weights.h5"), "extra-tensor", Some("layers/conv2d_9"), &["1x1x64x32"]);
    fails(&bad("keras_classes.weights.h5"), "tensor-shape", Some("aux1/fc2/vars/0"), &["1024x8", "1024x7"]);
    let error = import(&bad("tf_keras_shape.h5"), &Options { mean: Some([0.0; 3]), ..Options::default() }).unwrap_err();
    assert_eq!(error.code(), "tensor-shape", "{error}");
    assert!(error.detail().is_some_and(|d| d.starts_with("inception-4c/") && d.ends_with("/kernel:0")), "{error}");
    fails(&bad("other.h5"), "import", None, &["without Keras' variables"]);
    fails(&bad("other.zip"), "import", None, &["zip archive without model.weights.h5"]);
    fails(&read("torchvision.pth").unwrap(), "import", None, &["pickle", "weights_only=True", "save_file"]);
}

/// Rewrites the messages at a path of field numbers with `f`. Messages for which `f` returns `None` are removed.
fn edit(message: &[u8], path: &[u64], f: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    fn varint(bytes: &[u8], at: &mut usize) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    fn put(mut value: u64, to: &mut Vec<u8>) {
        while value >= 0x80 {
            to.push(value as u8 | 0x80);
            value >>= 7;
        }
        to.push(value as u8);
    }
    let (mut at, mut out) = (0, Vec::new());
    while at < message.len() {
        let start = at;
        let tag = varint(message, &mut at);
        let value = match tag & 7 {
            0 => {
                varint(message, &mut at);
                None
            }
            2 => {
                let len = varint(message, &mut at) as usize;
                at += len;
                Some(&message[at - len..at])
            }
            kind => {
                at += if kind == 1 { 8 } else { 4 };
                None
            }
        };
        let Some(value) = value.filter(|_| tag >> 3 == path[0]) else {
            out.extend(&message[start..at]);
            continue;
        };
        let new = if path.len() == 1 { f(value) } else { Some(edit(value, &path[1..], f)) };
        if let Some(new) = new {
            put(tag, &mut out);
            put(new.len() as u64, &mut out);
            out.extend(new);
        }
    }
    out
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).take(200).any(|w| w == text.as_bytes())
}

/// Replaces a text in a message by another of the same length.
fn rename(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut out = message.to_vec();
    if let Some(at) = message.windows(from.len()).take(200).position(|w| w == from.as_bytes()) {
        out[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    out
}

#[test]
fn caffe_errors_name_what_is_wrong() {
    let Some(good) = read("caffe.caffemodel") else { return };
    let layer = "inception_4c/5x5";
    let is = |m: &[u8]| contains(m, layer) && !contains(m, "5x5_reduce");
    let missing = edit(&good, &[100], &mut |m| (!is(m)).then(|| m.to_vec()));
    fails(&missing, "missing-tensor", Some(layer), &["64x24x5x5"]);
    let extra =
        edit(&good, &[100], &mut |m| Some(if is(m) { rename(m, layer, "inception_9c/5x5") } else { m.to_vec() }));
    fails(&extra, "missing-tensor", Some(layer), &[]);
    let mut both = good.clone();
    both.extend(edit(&good, &[100], &mut |m| is(m).then(|| rename(m, layer, "inception_9c/5x5"))));
    fails(&both, "extra-tensor", Some("inception_9c/5x5"), &["64x24x5x5"]);
    // 5x5 kernels with the dimensions 25x1.
    let shape = edit(&good, &[100], &mut |m| {
        let mut reshaped = |blob: &[u8]| {
            // The packed dimensions 64, 24, 5, 5.
            let at = blob.windows(4).position(|w| w == [64, 24, 5, 5]);
            let mut blob = blob.to_vec();
            if let Some(at) = at {
                blob[at + 2..at + 4].copy_from_slice(&[25, 1]);
            }
            Some(blob)
        };
        Some(if is(m) { edit(m, &[7], &mut reshaped) } else { m.to_vec() })
    });
    fails(&shape, "tensor-shape", Some(layer), &["64x24x25x1", "64x24x5x5"]);
    let short = edit(&good, &[100], &mut |m| {
        Some(if is(m) { edit(m, &[7, 5], &mut |data| Some(data[..data.len() - 4].to_vec())) } else { m.to_vec() })
    });
    fails(&short, "shape", Some(layer), &["values in the file"]);
    let norms = edit(&good, &[100], &mut |m| (!contains(m, "LRN")).then(|| m.to_vec()));
    import(&norms, &Options::default()).expect("a file of weights alone is complete");
    let one = edit(&good, &[100], &mut |m| (!contains(m, "norm2")).then(|| m.to_vec()));
    fails(&one, "import", None, &["(LRN) in 2 layers, this file in 1"]);
    let classes = edit(&good, &[100], &mut |m| {
        let head = contains(m, "loss1/classifier");
        // Changes the shape 7, 1024 (in base 128: 0x80 0x08) to 8, 1024.
        let eight = |blob: &[u8]| {
            let mut blob = blob.to_vec();
            let at = blob.windows(3).position(|w| w == [7, 0x80, 0x08]);
            at.into_iter().for_each(|at| blob[at] = 8);
            Some(blob)
        };
        Some(if head { edit(m, &[7], &mut { eight }) } else { m.to_vec() })
    });
    fails(&classes, "tensor-shape", Some("loss1/classifier"), &["8x1024", "7x1024"]);
    // A classifier that was renamed when it was trained for other classes.
    let tuned = edit(&good, &[100], &mut |m| Some(rename_longer(m, "loss3/classifier", "loss3/classifier_flowers")));
    assert_eq!(import(&tuned, &Options::default()).unwrap().model.spec.classes, CLASSES);
}

/// Renames a LayerParameter, whose name is field 1.
fn rename_longer(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    edit(message, &[1], &mut |name| Some(if name == from.as_bytes() { to.into() } else { name.to_vec() }))
}

#[test]
fn onnx_errors_name_what_is_wrong() {
    let Some(good) = read("zoo.onnx") else { return };
    let nodes = |f: &mut dyn FnMut(&[u8]) -> Option<Vec<u8>>| edit(&good, &[7, 1], f);
    let mut seen = 0;
    let no_relu = nodes(&mut |m| {
        seen += usize::from(contains(m, "Relu"));
        Some(if seen == 20 && contains(m, "Relu") { rename(m, "Relu", "Tanh") } else { m.to_vec() })
    });
    let error = import(&no_relu, &Options::default()).unwrap_err();
    assert!(error.code() == "shape" && error.to_string().contains("Tanh"), "{error}");
    assert!(error.detail().is_some_and(|layer| layer.starts_with("inception_4a/")), "{error}");

    let lrn = nodes(&mut |m| Some(if contains(m, "LRN") { rename(m, "alpha", "other") } else { m.to_vec() }));
    import(&lrn, &Options::default()).expect("the default alpha is BVLC's");
    let lrn = nodes(&mut |m| Some(if contains(m, "LRN") { rename(m, "size", "sice") } else { m.to_vec() }));
    fails(&lrn, "shape", Some("conv2/norm2"), &["LRN", "is not of size 5"]);
    let pads = nodes(&mut |m| Some(if contains(m, "MaxPool") { rename(m, "pads", "paps") } else { m.to_vec() }));
    fails(&pads, "shape", Some("inception_5b/pool"), &["MaxPool", "has the window"]);
    let missing = edit(&good, &[7, 5], &mut |_| None);
    assert!(import(&missing, &Options::default()).is_err());
    let outside = edit(&good, &[7, 5], &mut |m| {
        // Sets data_location and external_data, and removes the values.
        let mut m = edit(m, &[9], &mut |_| None);
        m.extend(b"\x6a\x02\x0a\x00\x70\x01");
        Some(m)
    });
    fails(&outside, "import", None, &["external_data=False"]);
    let mut initialisers = 0;
    let wrong = edit(&good, &[7, 5], &mut |m| {
        initialisers += 1;
        // The kernels of the first convolution, with one value less. The dimensions are at the beginning of the
        // message, packed or not.
        Some(if initialisers == 1 { edit(m, &[9], &mut |data| Some(data[4..].to_vec())) } else { m.to_vec() })
    });
    fails(&wrong, "import", None, &["does not have the number of values of its shape"]);
}

#[test]
fn torchvision_errors_name_what_is_wrong() {
    let Some(good) = read("torchvision.safetensors") else { return };
    let file = SafeTensors::deserialize(&good).unwrap();
    type Tensors<'a> = BTreeMap<String, TensorView<'a>>;
    let changed = |change: &dyn Fn(&mut Tensors)| {
        let mut views: Tensors = file.iter().map(|(name, view)| (name.to_owned(), view)).collect();
        change(&mut views);
        serialize(views.iter().map(|(name, view)| (name.as_str(), view)), None).unwrap()
    };
    let name = "inception4c.branch3.1.bn.running_var";
    let missing = changed(&|views| drop(views.remove(name)));
    fails(&missing, "missing-tensor", Some(name), &["64"]);
    let shape = changed(&|views| {
        let view = &views["inception4c.branch3.1.conv.weight"];
        let reshaped = TensorView::new(view.dtype(), vec![64, 24, 9, 1], view.data()).unwrap();
        views.insert("inception4c.branch3.1.conv.weight".into(), reshaped);
    });
    fails(&shape, "tensor-shape", Some("inception4c.branch3.1.conv.weight"), &["64x24x9x1", "64x24x3x3"]);
    let extra = changed(&|views| {
        let view = views["fc.bias"].clone();
        views.insert("fc9.bias".into(), view);
    });
    fails(&extra, "extra-tensor", Some("fc9.bias"), &[]);
    let classes = changed(&|views| {
        let narrow = TensorView::new(safetensors::Dtype::F32, vec![6, 1024], &views["fc.weight"].data()[..6 * 4096]);
        views.insert("aux2.fc2.weight".into(), narrow.unwrap());
    });
    fails(&classes, "tensor-shape", Some("aux2.fc2.weight"), &["6x1024", "7x1024"]);
}

/// Files that are cut off, and files with changed bytes in their headers, load or fail with an error. They never cause
/// a panic.
#[test]
fn damaged_files_are_errors() {
    let files = ["keras_v2.weights.h5", "tf_keras_v2.h5", "keras.keras", "caffe_v1.caffemodel", "zoo.onnx"];
    for file in files.into_iter().chain(["torchvision.safetensors"]) {
        let Some(good) = read(file) else { return };
        let options = Options { mean: Some([0.0; 3]), ..Options::default() };
        for cut in [good.len() - 1, good.len() / 2, 5000, 100] {
            let error: Error = import(&good[..cut], &options).unwrap_err();
            assert!(!error.to_string().is_empty());
        }
        // Pseudo-random numbers of a linear congruential generator.
        let mut state = 12345u32;
        for _ in 0..12 {
            let mut bytes = good.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state >> 8) as usize % 4096;
                let at = if state & 0x80 == 0 { at } else { bytes.len() - 1 - at };
                bytes[at] ^= (state >> 24) as u8 | 1;
            }
            let _ = import(&bytes, &options);
        }
    }
}
