//! The command line: its output, and that every error is reported in one clear line.
#![cfg(not(target_arch = "wasm32"))]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn googlenet() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_googlenet"));
    command.env_remove("GOOGLENET_MODEL");
    command
}

fn run(args: &[&str]) -> Output {
    googlenet().args(args).output().unwrap()
}

/// Writes a file for this test only, and returns its path.
fn scratch(name: &str, bytes: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn reference(path: &str) -> Option<String> {
    let Some(dir) = std::env::var_os("GOOGLENET_REFERENCE").map(PathBuf::from) else {
        println!("skipped: GOOGLENET_REFERENCE is not set");
        return None;
    };
    Some(dir.join(path).to_str().unwrap().to_owned())
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

/// The lines of the error output, without notes about assumptions.
fn complaints(output: &Output) -> Vec<&str> {
    let lines = std::str::from_utf8(&output.stderr).unwrap().lines();
    lines.filter(|line| !line.starts_with("note: ")).collect()
}

/// Checks that the command fails with a single line that contains all of these texts, and prints nothing else.
fn fails(args: &[&str], says: &[&str]) {
    let output = run(args);
    assert!(!output.status.success(), "{args:?} succeeded");
    let complaints = complaints(&output);
    assert_eq!(complaints.len(), 1, "{args:?}: {complaints:?}");
    for part in says {
        assert!(complaints[0].contains(part), "{args:?}: {}", complaints[0]);
    }
    assert!(complaints[0].starts_with("googlenet: ") && !complaints[0].contains("panicked"));
    assert_eq!(stdout(&output), "");
}

#[test]
fn plan_lists_at_most_46_dispatches() {
    let output = run(&["plan", "--variant", "keras", "--no-heads", "--backend", "gpu", "--json"]);
    assert!(output.status.success());
    let plan: Value = serde_json::from_str(stdout(&output)).unwrap();
    let steps = plan["steps"].as_array().unwrap();
    assert!((40..=46).contains(&steps.len()), "{} dispatches", steps.len());
    let macs: u64 = steps.iter().map(|step| step["macs"].as_u64().unwrap()).sum();
    let network = googlenet::graph::googlenet::Spec { heads: false, ..Default::default() }.build().unwrap();
    assert_eq!(macs, network.total_macs());
    let siblings = &steps[4];
    assert_eq!(siblings["reads"], serde_json::json!(["pool2/3x3_s2"]));
    assert_eq!(siblings["writes"].as_array().unwrap().len(), 3);
    assert!(steps.iter().all(|step| step["op"].is_string() && step["workgroups"].as_u64().unwrap() > 0));
    assert!(stdout(&run(&["plan"])).contains("loss1/fc"));
    fails(&["plan", "--backend", "cpu"], &["cpu"]);
}

#[test]
fn photographs_are_recognised_as_json() {
    let Some(model) = reference("imagenet/bvlc_googlenet.safetensors") else { return };
    let names = ["chelsea.png", "coffee.png", "camera.png"];
    let images = names.map(|name| reference(&format!("imagenet/{name}")).unwrap());
    let expected = fs::read(reference("imagenet/expected_top5.json").unwrap()).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    for backend in ["cpu", "gpu"] {
        let mut args = vec!["classify", "--model", &model, "--backend", backend, "--top", "3", "--json"];
        args.extend(images.iter().map(String::as_str));
        let output = run(&args);
        assert!(output.status.success(), "{:?}", complaints(&output));
        let lines: Vec<Value> = stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), names.len());
        for ((line, name), image) in lines.iter().zip(names).zip(&images) {
            let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
            assert_eq!(keys, ["adapter", "backend", "image", "model", "ms", "threads", "top"]);
            assert_eq!((&line["image"], &line["backend"]), (&Value::from(image.as_str()), &Value::from(backend)));
            assert!(!line["adapter"].as_str().unwrap().is_empty() && !line["model"].as_str().unwrap().is_empty());
            assert!(line["ms"]["preprocess"].as_f64().unwrap() >= 0.0 && line["ms"]["run"].as_f64().unwrap() > 0.0);
            let top = line["top"].as_array().unwrap();
            assert_eq!(top.len(), 3);
            let want = &expected[name][0];
            assert_eq!(top[0]["index"], want[0], "{name} on {backend}");
            let difference = top[0]["probability"].as_f64().unwrap() - want[2].as_f64().unwrap();
            assert!(difference.abs() <= 0.02, "{name} on {backend}: off by {difference}");
            assert!(!top[0]["label"].as_str().unwrap().is_empty());
        }
        // Assumptions that are not stated in the file are reported.
        let notes = String::from_utf8_lossy(&output.stderr);
        assert!(notes.contains("BGR 0..255 minus (104, 117, 123)") && notes.contains("ImageNet's labels are assumed"));
    }
}

#[test]
fn a_run_is_written_as_a_trace() {
    let file = std::env::temp_dir().join(format!("googlenet-trace-{}.json", std::process::id()));
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/www/public/samples/cat.jpg");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
    for backend in ["cpu", "gpu"] {
        let options = ["classify", picture, picture, "--backend", backend, "--model", model, "--trace"];
        let output = run(&[&options[..], &[file.to_str().unwrap()]].concat());
        assert!(output.status.success(), "{:?}", complaints(&output));
        let trace: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let of = |name: &str| events.iter().filter(|event| event["name"] == name).collect::<Vec<_>>();
        let number = |event: &Value, key: &str| event[key].as_f64().unwrap();
        let [first, second] = of(picture)[..] else { panic!("two pictures on the {backend}") };
        assert!((number(first, "dur") - number(second, "ts")).abs() < 1e-6, "one after the other");
        let steps = of("conv2/3x3");
        assert_eq!(steps.len(), 2, "on the {backend}");
        assert!(number(steps[0], "dur") > 0.0 && number(steps[1], "ts") > number(second, "ts"));
        assert_eq!(steps[0]["args"]["macs"], 346_816_512);
    }
    fs::remove_file(file).unwrap();
    let nowhere = ["classify", picture, "--backend", "cpu", "--model", model, "--trace", "no/such/folder/trace.json"];
    fails(&nowhere, &["no/such/folder/trace.json"]);
}

#[test]
fn a_benchmark_is_written_as_json_and_its_choices_are_kept() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
    let caches = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("caches-{}", std::process::id()));
    let file = scratch("bench.json", b"");
    let bench = |more: &[&str]| {
        let mut command = googlenet();
        command.env("XDG_CACHE_HOME", &caches).args([
            "bench",
            model,
            "--rounds",
            "2",
            "--warm-up",
            "0",
            "--json",
            &file,
        ]);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{:?}", complaints(&output));
        let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(report["browser"], "native");
        (stdout(&output).to_owned(), report["rows"][0].clone())
    };
    let (text, row) = bench(&["--backend", "cpu", "--batch", "2", "--layers"]);
    assert!(text.contains("inception_3a/3x3") && text.contains("GFLOP/s"), "{text}");
    assert_eq!((&row["variant"], &row["batch"], &row["peak"]), (&"keras".into(), &2.into(), &Value::Null));
    let step = row["steps"].as_array().unwrap().iter().find(|step| step["node"] == "conv2/3x3").unwrap();
    assert_eq!((step["macs"].as_u64(), step["ms"].as_f64() > Some(0.0)), (Some(2 * 346_816_512), true));
    // The step reads 56x56x64 values, 3x3x64x192 weights and 192 biases, and writes 56x56x192 values.
    assert_eq!(step["bytes"], 4 * (2 * 56 * 56 * 64 + 9 * 64 * 192 + 192 + 2 * 56 * 56 * 192));
    assert!(!caches.exists(), "nothing was tuned");

    let (_, row) = bench(&["--tune"]);
    let [gflops, copied] = ["gflops", "copy_gb_s"].map(|peak| row["peak"][peak].as_f64().unwrap());
    assert!(gflops > row["gflops"].as_f64().unwrap() && copied > 0.0, "{gflops} GFLOP/s, {copied} GB/s");
    let mut kept = fs::read_dir(caches.join("googlenet-web")).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.next().unwrap();
    let text = fs::read_to_string(&kept).unwrap();
    assert!(text.starts_with(row["adapter"].as_str().unwrap()) && text.lines().count() > 10, "{text}");
    // A result that is not valid any more is ignored.
    fs::write(&kept, "of another GPU\n1 2 3").unwrap();
    bench(&[]);
    fs::remove_dir_all(caches).unwrap();
    fails(&["bench", model, "--json", "no/such/folder/bench.json"], &["no/such/folder/bench.json"]);
}

#[test]
fn one_bad_picture_leaves_the_others_their_answers() {
    let Some(model) = reference("imagenet/bvlc_googlenet.safetensors") else { return };
    let (good, text) = (reference("imagenet/chelsea.png").unwrap(), scratch("text.jpg", b"not a picture\n"));
    let png = fs::read(&good).unwrap();
    let (cut, empty) = (scratch("cut.png", &png[..png.len() / 2]), scratch("empty.png", b""));
    let classify = |images: &[&str]| {
        let options = ["classify", "--backend", "cpu", "--model", &model];
        run(&[&options[..], images].concat())
    };

    let output = classify(&["missing.jpg", &text, &cut, &empty, &good]);
    assert_eq!(output.status.code(), Some(1));
    let complaints = complaints(&output);
    assert_eq!(complaints.len(), 4, "{complaints:?}");
    for (line, name) in complaints.iter().zip(["missing.jpg", &text, &cut, &empty]) {
        assert!(line.starts_with(&format!("googlenet: {name}: ")), "{line}");
    }
    assert!(complaints[1].contains("it is no JPEG, PNG, GIF, WebP or BMP"));
    assert!(stdout(&output).contains("chelsea.png") && stdout(&output).contains("Egyptian cat"));
    assert_eq!(stdout(&output).matches(" on CPU: ").count(), 1);
}

/// A JPEG of a camera held sideways is rotated according to its EXIF orientation before it is classified.
#[test]
fn exif_orientation_is_applied() {
    let Some(model) = reference("imagenet/bvlc_googlenet.safetensors") else { return };
    let upright = image::open(reference("imagenet/chelsea.png").unwrap()).unwrap().into_rgb8();
    let mut jpeg = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 98);
    image::imageops::rotate270(&upright).write_with_encoder(encoder).unwrap();
    // After the start of the image: an APP1 segment with one EXIF entry, orientation (0x0112) = 6, "rotate right".
    let exif = b"\xff\xe1\x00\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let turned = [&jpeg[..2], exif, &jpeg[2..]].concat();
    let probability = |path: &str| {
        let output = run(&["classify", "--backend", "cpu", "--model", &model, "--json", path]);
        let line: Value = serde_json::from_str(stdout(&output)).unwrap();
        (line["top"][0]["index"].as_u64(), line["top"][0]["probability"].as_f64().unwrap())
    };
    let (class, with) = probability(&scratch("exif.jpg", &turned));
    let (_, without) = probability(&scratch("plain.jpg", &jpeg));
    assert_eq!(class, Some(285));
    assert!((with - 0.485).abs() <= 0.05, "{with}");
    assert!((without - 0.485).abs() > 0.05, "a cat on its side looks the same: {without}");
}

#[test]
fn what_goes_wrong_is_one_line() {
    let text = scratch("model.safetensors", b"this is no model");
    fails(&["classify", "a.png", "--backend", "tpu"], &["\"tpu\" is no backend", "auto, cpu and gpu"]);
    fails(&["classify", "a.png", "--crop", "left"], &["\"left\" is not a way to crop"]);
    fails(&["classify", "a.png", "--top", "0"], &["--top"]);
    fails(&["classify"], &["<IMAGE>"]);
    fails(&["clasify", "a.png"], &["clasify"]);
    fails(&["classify", "a.png", "--model", "no/such/model"], &["no/such/model: "]);
    fails(&["classify", "a.png", "--model", &text], &[&text, "not a readable safetensors file"]);
    fails(&["summary", "--variant", "alexnet"], &["\"alexnet\" is not a variant"]);
    fails(&["summary", "--classes", "0"], &["loss"]);
    fails(&["summary", "--module", "6a"], &["\"6a\" is not an inception module", "3a, 3b"]);
    fails(&["import", &text, "-o", "out", "--mean", "0,0,0"], &[&text, "supported are Keras 3 weights"]);
    fails(&["import", &text, "-o", "out", "--mean", "1,2"], &["three numbers"]);
    fails(&["import", "missing.h5", "-o", "out"], &["missing.h5: "]);
}

#[test]
fn without_a_model_it_says_where_it_looked() {
    let nowhere = env!("CARGO_TARGET_TMPDIR");
    let output = googlenet()
        .args(["classify", "a.png"])
        .current_dir(nowhere)
        .env_remove("GOOGLENET_REFERENCE")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let complaint = &complaints(&output)[0];
    for part in ["there is no model: name one with --model, or set GOOGLENET_MODEL", "googlenet import"] {
        assert!(complaint.contains(part), "{complaint}");
    }
    let chosen = googlenet().args(["classify", "a.png"]).env("GOOGLENET_MODEL", "no/such/model").output().unwrap();
    assert!(complaints(&chosen)[0].contains("no/such/model: "));
}

#[test]
fn a_damaged_model_is_named() {
    let Some(path) = reference("imagenet/bvlc_googlenet.safetensors") else { return };
    let good = fs::read(path).unwrap();
    let cut = scratch("cut.safetensors", &good[..good.len() / 2]);
    fails(&["classify", "a.png", "--model", &cut], &[&cut, "not a readable safetensors file"]);
    let at = good.windows(17).position(|w| w == b"inception_4c/5x5.").unwrap();
    let mut renamed = good;
    renamed[at..at + 9].copy_from_slice(b"exception");
    let renamed = scratch("renamed.safetensors", &renamed);
    fails(&["classify", "a.png", "--model", &renamed], &[&renamed, "lacks the tensor \"inception_4c/5x5."]);
}

#[test]
fn summaries_have_the_papers_numbers() {
    let table = |args: &[&str]| stdout(&run(&[&["summary"], args].concat())).to_owned();
    assert!(table(&[]).contains("Total: 13,374,120 parameters"));
    assert!(table(&["--variant", "caffe", "--no-heads"]).contains("Total: 6,998,552 parameters"));
    let reduced = table(&["--module", "3a"]);
    assert!(reduced.contains("Total: 163,696 parameters") && reduced.contains("10,035,200"));
    let both = table(&["--module", "3a", "--naive"]);
    assert!(both.contains("120,422,400") && both.contains("10,035,200") && both.contains("28x28x416"));

    let modules = table(&["--variant", "keras", "--modules"]);
    let line = |name: &str| modules.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("inception_3a (inception module) ").contains(" 163,696 "));
    assert!(line("loss2 (auxiliary head) ").contains(" 3,190,888 "));
    assert!(line("Total: ").starts_with("Total: 13,374,120 parameters, "));
    let order: Vec<&str> = modules.lines().filter_map(|line| line.split_once(" (").map(|(name, _)| name)).collect();
    assert_eq!(order[1..4], ["data", "conv1/7x7_s2", "pool1/3x3_s2"]);
    assert_eq!(order[order.len() - 4..], ["inception_5b", "pool5/7x7_s1", "loss3/classifier", "prob"]);
    assert!(table(&["--variant", "caffe", "--no-heads", "--modules"]).contains("Total: 6,998,552 parameters"));
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");
    assert!(table(&["--model", bundled, "--modules"]).contains("inception_3a (inception module) "));
    fails(&["summary", "--modules", "--module", "3a"], &["--modules", "--module"]);
}

#[test]
fn keras_weights_become_a_model() {
    let Some(weights) = reference("keras/googlenet_keras3.weights.h5") else { return };
    let names: String = (0..1000).map(|i| format!("name {i}\n")).collect();
    let labels = scratch("labels.txt", names.as_bytes());
    let model = scratch("keras.safetensors", b"");
    let import = ["import", &weights, "-o", &model, "--half", "--name", "mine", "--labels", &labels];

    fails(&import, &[&weights, "give the mean of its training set (--mean R,G,B"]);
    let output = run(&[&import[..], &["--mean", "123.5,-117,104"]].concat());
    assert!(output.status.success(), "{:?}", complaints(&output));
    for part in ["keras", "1000", "13,374,120", "loss1, loss2, loss3", "mine"] {
        assert!(stdout(&output).contains(part), "{part}");
    }
    assert!(stdout(&run(&["summary", "--model", &model])).contains("Total: 13,374,120 parameters"));
    let model = googlenet::model::Model::from_bytes(fs::read(&model).unwrap()).unwrap();
    assert_eq!((model.labels[999].as_str(), model.preprocess.mean), ("name 999", [123.5, -117.0, 104.0]));
    assert_eq!(model.source.as_deref(), Some("imported from googlenet_keras3.weights.h5"));

    let few = scratch("few.txt", b"cat\ndog\n");
    fails(&["import", &weights, "-o", "out", "--mean", "0,0,0", "--labels", &few], &["labels", "names 2 classes"]);
}

#[test]
fn help_and_version_are_there() {
    let version = run(&["--version"]);
    assert!(version.status.success() && stdout(&version).starts_with("googlenet 0."));
    let help = run(&["--help"]);
    assert!(help.status.success());
    for command in ["classify", "summary", "import"] {
        assert!(stdout(&help).contains(command));
    }
    assert!(stdout(&run(&["classify", "--help"])).contains("--backend"));
}
