//! `googlenet train` at depths beyond `head`, and `googlenet gradient`.
#![cfg(all(feature = "train", not(target_arch = "wasm32")))]

use googlenet::plan::random::hash;
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");

/// A folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    /// A folder with `pets`, which has `count` noisy pictures of each of three classes, named after their mean colour.
    fn new(name: &str, count: u32) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("deep-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for (class, name) in ["blue", "green", "red"].iter().enumerate() {
            let folder = path.join("pets").join(name);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let noise = |x: u32, y: u32| hash([100 * class as u32 + i, x / 8, y / 8]).map(|v| (v >> 26) as u8);
                let picture = image::RgbImage::from_fn(40, 32, |x, y| {
                    let mut colour = noise(x, y).map(|v| 70 + v);
                    colour[2 - class] += 60;
                    image::Rgb(colour)
                });
                picture.save(folder.join(format!("{i:02}.png"))).unwrap();
            }
        }
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_googlenet"));
    command.env_remove("GOOGLENET_MODEL").args(args);
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Arguments of a small training from random weights, whose network has all three heads.
fn scratch_training<'a>(folder: &'a str, output: &'a str) -> Vec<&'a str> {
    let mut args = vec!["train", folder, "-o", output, "--backend", "cpu", "--scratch", "--size", "80", "--batch", "8"];
    args.extend(["--micro-batch", "4", "--epochs", "4", "--lr", "0.01", "--dropout", "0.2,0.2"]);
    args
}

#[test]
fn fine_tuning_learns_and_repeats() {
    let scratch = Scratch::new("tuning", 8);
    let [pets, model, again, report, plot] =
        ["pets", "model.safetensors", "again.safetensors", "report.json", "plot.svg"].map(|name| scratch.path(name));
    let args = |output| {
        let mut args = vec!["train", &pets, "-o", output, "--model", BASE, "--backend", "cpu", "--depth", "5b"];
        args.extend(["--epochs", "3", "--batch", "6", "--seed", "5"]);
        args
    };
    let text = succeed(&[&args(&model)[..], &["--json", &report, "--plot", &plot]].concat());
    assert!(text.contains("epoch   3 of 3: loss"), "{text}");
    assert!(text.contains("Held-out accuracy") && text.contains("googlenet classify --model"), "{text}");
    let report = json(&report);
    assert_eq!(report["held_out"]["classes"], serde_json::json!(["blue", "green", "red"]));
    assert!(report["held_out"]["accuracy"].as_f64().unwrap() >= 0.8, "{}", report["held_out"]);
    let losses: Vec<f64> = (0..3).map(|i| report["epochs"][i]["loss"].as_f64().unwrap()).collect();
    assert!(losses[2] <= losses[0], "{losses:?}");
    assert!(fs::read_to_string(&plot).unwrap().starts_with("<svg"));
    // On one thread and on two, with and without the plot, the file is the same.
    succeed(&[&args(&again)[..], &["--threads", "1"]].concat());
    assert!(fs::read(&model).unwrap() == fs::read(&again).unwrap(), "the same training gives the same file");
    succeed(&[&args(&again)[..], &["--augment", "flip"]].concat());
    assert!(fs::read(&model).unwrap() != fs::read(&again).unwrap(), "another training gives another file");
    let picture = scratch.path("pets/red/03.png");
    let answer = succeed(&["classify", "--model", &model, "--backend", "cpu", "--json", &picture]);
    assert_eq!(serde_json::from_str::<Value>(&answer).unwrap()["top"][0]["label"], "red");
}

#[test]
fn a_training_that_was_stopped_goes_on_to_the_same_bits() {
    let scratch = Scratch::new("stopped", 6);
    let [pets, whole, parts, checkpoint, report] =
        ["pets", "whole.safetensors", "parts.safetensors", "half.checkpoint", "r.json"].map(|name| scratch.path(name));
    succeed(&[&scratch_training(&pets, &whole)[..], &["--json", &report]].concat());
    let report = json(&report);
    assert_eq!(report["epochs"].as_array().unwrap().len(), 4);
    let heads: Vec<&String> = report["epochs"][0]["heads"].as_object().unwrap().keys().collect();
    assert_eq!(heads, ["loss1", "loss2", "loss3"]);

    // Stopped after the first epoch.
    let args = [&scratch_training(&pets, &parts)[..], &["--checkpoint", &checkpoint]].concat();
    let mut child = command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("epoch") {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "the training ended early");
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("Stopped after step") && rest.contains("--resume"), "{rest}");
    assert!(!Path::new(&parts).exists());

    let wrong = run(&[&scratch_training(&pets, &parts)[..], &["--resume", &checkpoint, "--clip", "1"]].concat());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--clip"), "another option is named");
    succeed(&[&scratch_training(&pets, &parts)[..], &["--resume", &checkpoint]].concat());
    assert!(fs::read(&whole).unwrap() == fs::read(&parts).unwrap(), "in one go and in two the file is the same");
}

#[test]
fn what_cannot_be_trained_is_one_line() {
    let scratch = Scratch::new("errors", 2);
    let [pets, model] = ["pets", "model.safetensors"].map(|name| scratch.path(name));
    let base = ["train", &pets, "-o", &model, "--model", BASE, "--backend", "cpu"];
    for (more, says) in [
        (vec!["--depth", "5b", "--validate", "kfold:3"], "kfold"),
        (vec!["--depth", "5b", "--resume", &pets], "checkpoint"),
        (vec!["--depth", "5b", "--resume", BASE], "not a checkpoint"),
        (vec!["--depth", "5b", "--lr", "1e30", "--epochs", "2"], "not finite"),
    ] {
        let output = run(&[&base[..], &more].concat());
        let error = String::from_utf8(output.stderr).unwrap();
        let line = error.lines().find(|line| line.starts_with("googlenet: ")).unwrap_or_default();
        assert!(!output.status.success() && line.contains(says), "{more:?}: {error}");
        assert!(!Path::new(&model).exists());
    }
}

#[test]
fn a_gradient_is_a_numpy_array() {
    let scratch = Scratch::new("gradient", 1);
    let [picture, score, probability] =
        ["pets/red/00.png", "score.npy", "probability.npy"].map(|name| scratch.path(name));
    let base = ["gradient", &picture, "--model", BASE, "--backend", "cpu", "--class"];
    succeed(&[&base[..], &["cat", "-o", &score]].concat());
    let text = succeed(&[&base[..], &["3", "--of", "probability", "-o", &probability]].concat());
    assert!(text.contains("probability of class 3 (cat)") && text.contains("224x224x3"), "{text}");
    let read = |path: &str| {
        let bytes = fs::read(path).unwrap();
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!(length % 64, 0);
        let header = std::str::from_utf8(&bytes[10..length]).unwrap();
        assert!(header.contains("'<f4'") && header.contains("(224, 224, 3,)"), "{header}");
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[length..]);
        assert_eq!(values.len(), 224 * 224 * 3);
        values
    };
    let (score, probability) = (read(&score), read(&probability));
    assert!(score.iter().any(|v| *v != 0.0) && score != probability);
    let error = run(&[&base[..], &["12", "-o", "x.npy"]].concat());
    assert!(String::from_utf8_lossy(&error.stderr).contains("no class \"12\""));
}
