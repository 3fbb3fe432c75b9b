//! The effect of storage options on a model's results: f16, int8, and without auxiliary heads.
#![cfg(not(target_arch = "wasm32"))]

use googlenet::engine::{Backend, Engine, Output};
use googlenet::model::Model;
use googlenet::model::preprocess::{Crop, Image, Preprocess, Taps};
use googlenet::model::weights::Weights;
use googlenet::plan::Input;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn reference(path: &str) -> Option<PathBuf> {
    let Some(dir) = std::env::var_os("GOOGLENET_REFERENCE").map(PathBuf::from) else {
        println!("skipped: GOOGLENET_REFERENCE is not set");
        return None;
    };
    Some(dir.join(path))
}

fn picture(path: &Path) -> Image {
    let rgba = image::open(path).unwrap().into_rgba8();
    Image::new(rgba.width() as usize, rgba.height() as usize, rgba.into_raw()).unwrap()
}

/// The centre square at 224x224 as Pillow resizes it, with rounding to integers after each of the two passes. The
/// reference's photographs were prepared this way. Our resizing does not round, which changes the probability of
/// chelsea.png by 2e-3.
fn as_pillow(picture: &Image) -> Image {
    let [across, down] = Preprocess::BVLC.taps(picture.width(), picture.height(), Crop::Center);
    let pass = |taps: &Taps, lines: usize, read: &dyn Fn(usize, usize, usize) -> u8| -> Vec<u8> {
        let mut out = Vec::new();
        for (line, [first, count, at]) in
            (0..lines).flat_map(|l| taps.spans.iter().map(move |s| (l, s.map(|v| v as usize))))
        {
            for c in 0..4 {
                let weights = taps.weights[at..at + count].iter().enumerate();
                let sum: f32 = weights.map(|(i, w)| w * f32::from(read(line, first + i, c))).sum();
                out.push(sum.round() as u8);
            }
        }
        out
    };
    let (width, rgba) = (picture.width(), picture.rgba());
    let narrow = pass(&across, picture.height(), &|y, x, c| rgba[(y * width + x) * 4 + c]);
    // Column by column; the result is the transposed picture.
    let side = pass(&down, 224, &|x, y, c| narrow[(y * 224 + x) * 4 + c]);
    let upright = (0..224 * 224 * 4).map(|i| side[(i / 4 % 224 * 224 + i / 4 / 224) * 4 + i % 4]).collect();
    Image::new(224, 224, upright).unwrap()
}

fn answers(model: Model, pictures: &[Image]) -> Vec<Output> {
    let mut engine = pollster::block_on(Engine::new(model, Backend::Cpu)).unwrap();
    let run = |picture| pollster::block_on(engine.run_input(Input::Images(&[picture], Crop::Center))).unwrap();
    pictures.iter().map(run).collect()
}

/// Runs the command `convert` of the built program.
fn convert(from: &Path, to: &str, options: &[&str]) -> Model {
    let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join(to);
    let mut command = Command::new(env!("CARGO_BIN_EXE_googlenet"));
    let output = command.arg("convert").arg(from).arg("-o").arg(&to).args(options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Model::from_bytes(fs::read(to).unwrap()).unwrap()
}

/// The most probable class and its probability.
fn first(output: &Output) -> (usize, f64) {
    let (class, probability) = output.answer().unwrap().top(0, 1)[0];
    (class, f64::from(probability))
}

#[test]
fn imagenet_keeps_its_answers_in_f16_and_its_classes_in_int8() {
    let Some(model) = reference("imagenet/bvlc_googlenet.safetensors") else { return };
    let expected = fs::read(reference("imagenet/expected_top5.json").unwrap()).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let names = ["chelsea.png", "coffee.png", "camera.png"];
    let pictures = names.map(|name| as_pillow(&picture(&reference(&format!("imagenet/{name}")).unwrap())));

    let half = convert(&model, "half.safetensors", &["--name", "ImageNet", "--source", "S", "--license", "L"]);
    assert_eq!(
        (half.name.as_str(), half.source.as_deref(), half.license.as_deref()),
        ("ImageNet", Some("S"), Some("L"))
    );
    // The file contains everything that would otherwise be assumed.
    assert!(half.notes.is_empty(), "{:?}", half.notes);
    let int8 = convert(&model, "int8.safetensors", &["--dtype", "int8"]);
    assert!(int8.weights.byte_len() < half.weights.byte_len() * 11 / 20);

    // Negative control: a changed weight changes the results.
    let mut moved: Vec<_> = half
        .weights
        .names()
        .map(|n| (n.to_owned(), half.weights.get(n).map(|(d, v)| (d.to_vec(), v)).unwrap()))
        .collect();
    let bias = moved.iter_mut().find(|(name, _)| name == "loss3/classifier.bias").unwrap();
    bias.1.1[285] += 0.1;
    let moved = Weights::from_tensors(moved.into_iter().map(|(name, (dims, values))| (name, dims, values))).unwrap();
    let moved = Model { weights: moved, ..half.clone() };

    let want =
        names.map(|name| (expected[name][0][0].as_u64().unwrap() as usize, expected[name][0][2].as_f64().unwrap()));
    for ((got, (class, probability)), name) in answers(half, &pictures).iter().map(first).zip(want).zip(names) {
        assert_eq!(got.0, class, "{name}");
        println!("{name} in f16: {:.5} instead of {probability:.5}", got.1);
        assert!((got.1 - probability).abs() <= 1e-3, "{name}: {} instead of {probability}", got.1);
    }
    for ((got, (class, probability)), name) in answers(int8, &pictures).iter().map(first).zip(want).zip(names) {
        assert_eq!(got.0, class, "{name}");
        println!("{name} in int8: {:.4} instead of {probability:.4}", got.1);
    }
    let (class, probability) = first(&answers(moved, &pictures[..1])[0]);
    assert!(class == 285 && (probability - want[0].1).abs() > 1e-3, "a moved bias was not noticed");
}

#[test]
fn the_bundled_model_answers_the_same_without_its_heads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
    let path = folder.join("models/cifar10.safetensors");
    let pictures = [picture(&folder.join("public/samples/cat.jpg"))];
    let full = Model::from_bytes(fs::read(&path).unwrap()).unwrap();
    assert!(full.notes.is_empty() && full.spec.heads && full.source.is_some() && full.license.is_some());
    assert_eq!((full.labels.len(), full.preprocess.size), (10, 224));
    let lean = Model::from_bytes(fs::read(folder.join("models/cifar10-noheads.safetensors")).unwrap()).unwrap();
    let (lean_weights, lean_name) = (lean.weights.byte_len(), lean.name.clone());
    assert!(lean_weights < full.weights.byte_len() && lean_name == full.name && !lean.spec.heads);

    let dropped = full.clone().without_heads().unwrap();
    let [whole, file, dropped] = [full, lean, dropped].map(|model| answers(model, &pictures).remove(0));
    assert_eq!((whole.heads.len(), file.heads.len(), dropped.heads.len()), (3, 1, 1));
    let probabilities = |output: &Output| output.answer().unwrap().probabilities.data.clone();
    assert_eq!(probabilities(&whole), probabilities(&file));
    assert_eq!(probabilities(&whole), probabilities(&dropped));
}
