//! `googlenet train` on small folders of generated pictures: what it writes and says, and its errors.
#![cfg(all(feature = "train", not(target_arch = "wasm32")))]

use googlenet::model::Model;
use googlenet::plan::random::hash;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");

/// A folder for one test, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("train-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Writes a noisy picture whose mean colour is that of its class.
    fn picture(&self, name: &str, class: usize, number: u32) {
        let noise = |x: u32, y: u32| hash([number, x / 8, y / 8]).map(|v| (v >> 26) as u8);
        let picture = image::RgbImage::from_fn(40, 32, |x, y| {
            let mut colour = noise(x, y).map(|v| 70 + v);
            colour[class] += 40;
            image::Rgb(colour)
        });
        self.write(name, b"");
        picture.save(self.0.join(name)).unwrap();
    }

    /// Writes `count` pictures of each of three classes into a folder. `first` is the number of the first picture.
    fn pictures(&self, folder: &str, count: u32, first: u32) {
        for (class, name) in ["blue", "green", "red"].iter().enumerate() {
            for i in 0..count {
                self.picture(&format!("{folder}/{name}/{i:02}.png"), 2 - class, first + 100 * class as u32 + i);
            }
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_googlenet"));
    command.env_remove("GOOGLENET_MODEL").args(args).output().unwrap()
}

/// Trains on the CPU, and returns what is printed on stdout and on stderr.
fn train(folder: &str, output: &str, more: &[&str]) -> (String, String) {
    let options = ["train", folder, "-o", output, "--model", BASE, "--backend", "cpu"];
    let output = run(&[&options[..], more].concat());
    let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{error}");
    (out, error)
}

/// Checks that a training fails with a single line that contains all of these texts.
fn fails(args: &[&str], code: i32, says: &[&str]) {
    let output = run(&[&["train"], args].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
    let lines: Vec<&str> = error.lines().filter(|line| !line.starts_with("note: ")).collect();
    assert_eq!(lines.len(), 1, "{args:?}: {error}");
    assert!(lines[0].starts_with("googlenet: "), "{error}");
    says.iter().for_each(|part| assert!(lines[0].contains(part), "{args:?}: {error}"));
}

fn json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What `googlenet classify` says about pictures: the class and its probability.
fn classify(model: &str, pictures: &[String]) -> Vec<(String, f64)> {
    let mut args = vec!["classify", "--model", model, "--backend", "cpu", "--json", "--top", "1"];
    args.extend(pictures.iter().map(String::as_str));
    let output = run(&args);
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    let top = |line| serde_json::from_str::<Value>(line).unwrap()["top"][0].clone();
    lines
        .map(top)
        .map(|top| (top["label"].as_str().unwrap().to_owned(), top["probability"].as_f64().unwrap()))
        .collect()
}

#[test]
fn the_model_file_answers_as_the_report_says() {
    let scratch = Scratch::new("answers");
    scratch.pictures("pets", 8, 0);
    scratch.pictures("test", 4, 1000);
    // Pictures that look like another class, so that there are wrong answers. The first is also in `pets`.
    scratch.picture("test/red/odd.png", 2, 7);
    scratch.picture("test/green/odd.png", 0, 8);
    let [pets, test, model, report] = ["pets", "test", "model.safetensors", "report.json"].map(|n| scratch.path(n));
    let (text, notes) = train(&pets, &model, &["--validate", &test, "--json", &report]);
    let report = json(&report);
    let held_out = &report["held_out"];
    assert_eq!(held_out["classes"], serde_json::json!(["blue", "green", "red"]));

    let mut right = 0;
    let mut confusion = [[0; 3]; 3];
    let classes = ["blue", "green", "red"];
    for (class, name) in classes.iter().enumerate() {
        let mut names: Vec<_> = (0..4).map(|i| format!("{i:02}.png")).collect();
        if class > 0 {
            names.push("odd.png".into());
        }
        let paths: Vec<String> = names.iter().map(|file| scratch.path(&format!("test/{name}/{file}"))).collect();
        for (path, (label, probability)) in paths.iter().zip(classify(&model, &paths)) {
            let predicted = classes.iter().position(|class| *class == label).unwrap();
            confusion[class][predicted] += 1;
            right += usize::from(predicted == class);
            let wrong = held_out["wrong"].as_array().unwrap().iter().find(|wrong| wrong["image"] == path.as_str());
            assert_eq!(wrong.is_some(), predicted != class, "{path}");
            if let Some(wrong) = wrong {
                assert_eq!((&wrong["class"], &wrong["predicted"]), (&(*name).into(), &label.into()));
                assert!((wrong["probability"].as_f64().unwrap() - probability).abs() < 1e-5, "{path}");
            }
        }
    }
    assert_eq!(held_out["confusion"], serde_json::json!(confusion));
    assert!((9..14).contains(&right), "{right} of 14");
    assert!((held_out["accuracy"].as_f64().unwrap() - right as f64 / 14.0).abs() < 1e-12);
    assert_eq!(held_out["per_class"][2]["examples"], 5);
    assert!(report["seconds"]["features"].as_f64().unwrap() > 0.0 && report["seconds"]["fit"].as_f64().unwrap() > 0.0);
    assert_eq!(report["epochs"], serde_json::json!([]));
    for part in
        [&format!("({right} of 14)"), "test/red/odd.png: blue (", "Confusion matrix", "24 pictures of 3 classes"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(notes, "note: 1 of 14 pictures to judge with are also trained on; the accuracy is too high\n");

    // An ordinary model, with everything that is known of the base and of the training.
    let [base, model] = [BASE, &model].map(|path| Model::from_bytes(fs::read(path).unwrap()).unwrap());
    assert_eq!((model.name.as_str(), &model.labels[..]), ("GoogLeNet for pets", &classes.map(String::from)[..]));
    assert_eq!((model.preprocess, &model.license), (base.preprocess, &base.license));
    assert!(model.source.unwrap().contains("24 pictures of 3 classes") && model.network.heads().len() == 1);
    let training: Value = serde_json::from_str(&model.training.unwrap()).unwrap();
    assert_eq!((&training["base"], &training["depth"]), (&"GoogLeNet on CIFAR-10".into(), &"head".into()));
    assert_eq!((&training["examples"], &training["seed"]), (&24.into(), &0.into()));
    assert_eq!(training["penalty"], report["penalty"]);
    assert_eq!(model.weights.get("conv2/3x3.weight").unwrap(), base.weights.get("conv2/3x3.weight").unwrap());
}

#[test]
fn the_same_command_writes_the_same_file() {
    let scratch = Scratch::new("repeat");
    scratch.pictures("pets", 6, 0);
    let [pets, a, b, c] = ["pets", "a", "b", "c"].map(|name| scratch.path(name));
    let reports = ["a.json", "b.json", "c.json"].map(|name| scratch.path(name));
    train(&pets, &a, &["--threads", "1", "--json", &reports[0]]);
    train(&pets, &b, &["--threads", "2", "--json", &reports[1]]);
    train(&pets, &c, &["--seed", "5", "--json", &reports[2], "--size", "96"]);
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap());
    assert_ne!(fs::read(&a).unwrap(), fs::read(&c).unwrap());
    let [a, b, c] = reports.map(|path| json(&path));
    assert_eq!((&a["held_out"], &a["candidates"]), (&b["held_out"], &b["candidates"]));
    assert_ne!(a["held_out"]["cross_entropy"], c["held_out"]["cross_entropy"]);
    // By default every picture is predicted while it is held out.
    assert_eq!((&a["held_out"]["validation"], &a["held_out"]["pictures"]), (&"kfold:5".into(), &18.into()));
    assert!(a["held_out"]["accuracy"].as_f64().unwrap() > 0.6, "{}", a["held_out"]["accuracy"]);
    assert_eq!(Model::from_bytes(fs::read(scratch.path("c")).unwrap()).unwrap().preprocess.size, 96);
    let mut names: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a", "a.json", "b", "b.json", "c", "c.json", "pets"]);
}

#[test]
fn files_that_are_no_pictures_and_copies_are_named() {
    let scratch = Scratch::new("skipped");
    scratch.pictures("pets", 5, 0);
    scratch.write("pets/red/broken.jpg", b"no picture\n");
    scratch.write("pets/red/empty.png", b"");
    scratch.write("pets/red/.hidden.png", b"");
    scratch.write("pets/blue/deeper/notes.txt", b"");
    let copy = fs::read(scratch.0.join("pets/red/00.png")).unwrap();
    scratch.write("pets/blue/copy.png", &copy);
    scratch.write("pets/red/copy of 01.png", &fs::read(scratch.0.join("pets/red/01.png")).unwrap());
    let [pets, model, report] = ["pets", "model.safetensors", "report.json"].map(|name| scratch.path(name));
    let (text, notes) = train(&pets, &model, &["--json", &report, "--validate", "kfold:4"]);
    let lines: Vec<&str> = notes.lines().collect();
    assert_eq!(lines.len(), 5, "{notes}");
    assert!(lines[0].starts_with("note: one file is left out") && lines[0].ends_with("notes.txt"), "{notes}");
    assert!(lines[1].contains("red/broken.jpg is skipped: cannot read the picture: it is no JPEG"), "{notes}");
    assert!(lines[2].contains("red/empty.png is skipped: cannot read the picture: the file is empty"), "{notes}");
    assert!(lines[3].contains("the same picture is in the classes \"blue\" and \"red\": "), "{notes}");
    assert!(lines[3].contains("blue/copy.png") && lines[3].contains("red/00.png"), "{notes}");
    assert!(lines[4].contains("one picture is a copy of others in the same class"), "{notes}");
    assert!(text.contains("(4 folds)"), "{text}");
    let report = json(&report);
    assert_eq!((report["skipped"].as_array().unwrap().len(), &report["pictures"]), (2, &17.into()));
    assert_eq!(report["copies"].as_array().unwrap().len(), 2);
    assert!(report["skipped"][0]["reason"].as_str().unwrap().contains("no JPEG"));
}

#[test]
fn a_share_of_each_class_can_be_held_out() {
    let scratch = Scratch::new("share");
    scratch.pictures("pets", 6, 0);
    let [pets, model, report] = ["pets", "model.safetensors", "report.json"].map(|name| scratch.path(name));
    train(&pets, &model, &["--json", &report, "--validate", "0.34", "--seed", "3"]);
    let report = json(&report);
    assert_eq!((&report["pictures"], &report["held_out"]["pictures"]), (&12.into(), &6.into()));
    let rows = report["held_out"]["confusion"].as_array().unwrap();
    let sums = rows.iter().map(|row| row.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>());
    assert!(sums.into_iter().all(|sum| sum == 2), "{rows:?}");
}

#[test]
fn what_goes_wrong_is_one_line() {
    let scratch = Scratch::new("errors");
    scratch.pictures("pets", 2, 0);
    let [pets, out] = ["pets", "out.safetensors"].map(|name| scratch.path(name));
    let with = |folder: &str, more: &[&str], code: i32, says: &[&str]| {
        fails(&[&[folder, "-o", &out, "--model", BASE, "--backend", "cpu"], more].concat(), code, says);
    };
    with(
        &scratch.path("none"),
        &[],
        1,
        &["none: there is no such folder", "one sub-folder of pictures for each class"],
    );
    with(&scratch.path("pets/red"), &[], 1, &["there are 2 pictures, but there are no sub-folders"]);
    scratch.write("one/only/a.png", b"");
    with(&scratch.path("one"), &[], 1, &["there is only one class, \"only\""]);
    scratch.write("gap/a/a.png", b"");
    scratch.write("gap/b/notes.txt", b"");
    with(&scratch.path("gap"), &[], 1, &["the class \"b\" has no pictures"]);
    scratch.pictures("few", 2, 0);
    fs::remove_file(scratch.0.join("few/red/00.png")).unwrap();
    with(&scratch.path("few"), &[], 1, &["the class \"red\" has only 1 picture that can be read", "at least 2"]);
    scratch.write("few/red/01.png", b"broken");
    with(&scratch.path("few"), &[], 1, &["no picture of the class \"red\" can be read"]);
    scratch.pictures("other", 1, 0);
    fs::rename(scratch.0.join("other/red"), scratch.0.join("other/pink")).unwrap();
    let other = scratch.path("other");
    with(&pets, &["--validate", &other], 1, &["lacks \"red\" and also has \"pink\""]);
    with(&pets, &["--validate", "no/such/folder"], 1, &["no/such/folder: there is no such folder"]);
    with(&pets, &["--json", "no/such/folder/a.json"], 1, &["no/such/folder/a.json: "]);
    with(&pets, &["--size", "4097"], 1, &["--size 4097: ", "1 to 4096"]);
    fails(&[&pets, "-o", &out, "--model", "no/such/model"], 1, &["no/such/model: "]);
    fails(&[&pets, "-o", "no/such/folder/out", "--model", BASE], 1, &["no/such/folder/out: "]);
    fails(&[&pets, "-o", &pets, "--model", BASE], 1, &["pets: this is a folder; name a file to write"]);
    // Wrong arguments have the exit code 2.
    with(&pets, &["--epochs", "3", "--lr", "0.1"], 2, &["--epochs, --lr have no meaning at depth head"]);
    with(&pets, &["--depth", "6a"], 2, &["there are head, 5b, 5a"]);
    with(&pets, &["--validate", "2"], 2, &["a share must be between 0 and 1"]);
    with(&pets, &["--depth", "5b", "--micro-batch", "8", "--batch", "2"], 2, &["--micro-batch 8 is more than"]);
    fails(&[&pets], 2, &["--output <PATH>"]);
    fails(&["-o", &out], 2, &["<DIR>"]);
    assert!(!Path::new(&out).exists(), "a file was left");
    // A file that is there stays as it is.
    scratch.write("out.safetensors", b"precious");
    with(&scratch.path("gap"), &[], 1, &["the class \"b\""]);
    assert_eq!(fs::read(&out).unwrap(), b"precious");
}

#[test]
fn two_pictures_a_class_are_enough() {
    let scratch = Scratch::new("two");
    scratch.pictures("pets", 2, 0);
    let [pets, model] = ["pets", "model.safetensors"].map(|name| scratch.path(name));
    let (text, _) = train(&pets, &model, &["--validate", "kfold:100"]);
    assert!(text.contains("(6 folds)"), "{text}");
    let [red] = &classify(&model, &[scratch.path("pets/red/00.png")])[..] else { panic!("one answer") };
    assert_eq!(red.0, "red");
}
