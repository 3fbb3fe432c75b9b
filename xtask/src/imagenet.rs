//! `cargo xtask model imagenet`: makes the page's model from the BVLC GoogLeNet.

use crate::fetch::{Checksum, fetch};
use crate::{repo, shell};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Options {
    /// File or URL in place of the public sources: Caffe, ONNX or safetensors
    #[arg(long, value_name = "PATH|URL")]
    from: Option<String>,
}

/// A file that is known to be the BVLC GoogLeNet.
struct KnownFile {
    checksum: Checksum,
    /// The addresses from which it can be downloaded.
    urls: &'static [&'static str],
}

const KNOWN: [KnownFile; 3] = [
    // bvlc_googlenet.caffemodel
    KnownFile {
        checksum: Checksum::Sha1("405fc5acd08a3bb12de8ee5e23a96bec22f08204"),
        urls: &["http://dl.caffe.berkeleyvision.org/bvlc_googlenet.caffemodel"],
    },
    // googlenet-7.onnx of the ONNX model zoo
    KnownFile {
        checksum: Checksum::Sha256("5725ccfd90845735ce5897faf7843c3f9b13acda3c4f3bff82cb21c9337c9de8"),
        urls: &[
            "https://github.com/onnx/models/raw/main/validated/vision/classification/inception_and_googlenet/googlenet/model/googlenet-7.onnx",
            "https://media.githubusercontent.com/media/onnx/models/main/validated/vision/classification/inception_and_googlenet/googlenet/model/googlenet-7.onnx",
        ],
    },
    // The same tensors as safetensors, in the reference data of the tests
    KnownFile {
        checksum: Checksum::Sha256("e3a518e9838c264d6977c5f5ef9bf66344090c07470af5a8155bfd79aa9c582b"),
        urls: &[],
    },
];

const SOURCE: &str = "BVLC GoogLeNet, trained by Sergio Guadarrama on the ILSVRC 2012 training set (ImageNet); \
     https://github.com/BVLC/caffe/tree/master/models/bvlc_googlenet";
const LICENSE: &str = "Released by BVLC for unrestricted use.";

/// The sample photograph with which a new model is tested, and its expected label.
const SAMPLE: (&str, &str) = ("public/samples/cat.jpg", "Egyptian cat");

/// The model's identifier on the page.
pub const ID: &str = "imagenet";

/// How long a server may take to answer: if the model was requested, and if it is downloaded in the background.
const FOREGROUND_TIMEOUT: Duration = Duration::from_secs(15);
const BACKGROUND_TIMEOUT: Duration = Duration::from_secs(3);

pub fn run(options: &Options) -> Result<()> {
    let file = match &options.from {
        Some(from) => local_or_fetched(from)?,
        None => download(FOREGROUND_TIMEOUT).context(
            "the ImageNet model cannot be fetched; the bundled model serves, and --from takes a copy of yours",
        )?,
    };
    make(&file, &model_path())
}

/// Downloads the model while the page is already served.
pub fn in_background() -> Result<()> {
    println!("Getting the ImageNet model in the background (--offline leaves it out).");
    make(&download(BACKGROUND_TIMEOUT)?, &model_path())
}

fn model_path() -> PathBuf {
    repo::www().join(format!("models/{ID}.safetensors"))
}

/// Converts a file to a model, tests the model on a photograph, and then installs it as `to`.
pub fn make(file: &Path, to: &Path) -> Result<()> {
    let work = repo::target().join("imagenet");
    fs::create_dir_all(&work)?;
    let (imported, fresh) = (work.join("imported.safetensors"), work.join("imagenet.safetensors"));
    let tensors = if is_safetensors(file)? {
        file
    } else {
        let mut import = shell::googlenet(&["import", "--mean", "104,117,123", "--order", "BGR"]);
        shell::run(import.arg(file).arg("-o").arg(&imported))?;
        &imported
    };
    let mut convert = shell::googlenet(&["convert", "--dtype", "f16", "--no-heads", "--name", "GoogLeNet on ImageNet"]);
    if is_known(file)? {
        convert.args(["--source", SOURCE, "--license", LICENSE]);
    } else {
        println!("{} is not one of the known files; it is taken as it is.", file.display());
        convert.args(["--source", &format!("made from {}", file.display())]);
    }
    shell::run(convert.arg(tensors).arg("-o").arg(&fresh))?;

    let sample = repo::www().join(SAMPLE.0);
    let (label, probability) = classify(&fresh, &sample)?;
    if label != SAMPLE.1 {
        bail!("the model is no good: it takes {} for \"{label}\", not \"{}\"", sample.display(), SAMPLE.1);
    }
    println!("{}: {label}, {:.1} %", SAMPLE.0, 100.0 * probability);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(&fresh, to).with_context(|| format!("cannot write {}", to.display()))?;
    println!("{} is ready; `cargo xtask start` offers it.", to.display());
    Ok(())
}

/// Compares a model made from the reference data with the results of onnxruntime for the same photographs.
pub fn check(model: &Path, reference: &Path) -> Result<()> {
    // The pixels of the reference were rounded to integers, which changes probabilities by up to 2.4e-3. With the same
    // pixels, the difference is at most 1e-3: see `tests/models.rs`.
    const TOLERANCE: f64 = 5e-3;
    let folder = reference.join("imagenet");
    let expected = fs::read(folder.join("expected_top5.json")).context("cannot read expected_top5.json")?;
    let expected: Value = serde_json::from_slice(&expected)?;
    for name in ["chelsea.png", "coffee.png", "camera.png"] {
        let (label, probability) = classify(model, &folder.join(name))?;
        let [want, share] = [&expected[name][0][1], &expected[name][0][2]];
        let away = (probability - share.as_f64().context("no probability is expected")?).abs();
        println!("{name}: {label}, {probability:.5}, {away:.1e} away");
        if *want != label.as_str() || away > TOLERANCE {
            bail!("{name}: {label} with {probability}, expected {want} with {share}");
        }
    }
    Ok(())
}

/// The most probable class of a picture, and its probability.
fn classify(model: &Path, picture: &Path) -> Result<(String, f64)> {
    let mut command = shell::googlenet(&["classify", "--json", "--backend", "cpu", "--top", "1", "--model"]);
    let said = shell::output(command.arg(model).arg(picture)).context("`googlenet classify` failed")?;
    let answer: Value = serde_json::from_str(&said).context("`googlenet classify` gave no answer")?;
    let top = &answer["top"][0];
    let label = top["label"].as_str().context("there is no label")?.to_owned();
    Ok((label, top["probability"].as_f64().context("there is no probability")?))
}

/// Returns the path of a local file, or downloads a file from an address.
fn local_or_fetched(from: &str) -> Result<PathBuf> {
    if !from.contains("://") {
        return Path::new(from).canonicalize().with_context(|| format!("there is no {from}"));
    }
    let name = from.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).filter(|name| !name.is_empty());
    let to = folder().join(name.unwrap_or("model"));
    fetch(from, &to, None, FOREGROUND_TIMEOUT).with_context(|| format!("cannot fetch {from}"))?;
    Ok(to)
}

/// Downloads the model from the first address that works.
fn download(timeout: Duration) -> Result<PathBuf> {
    let mut refused = Vec::new();
    for known in &KNOWN {
        for url in known.urls {
            let name = url.rsplit('/').next().unwrap_or_default();
            let to = folder().join(name);
            match fetch(url, &to, Some(known.checksum), timeout) {
                Ok(()) => return Ok(to),
                Err(error) => {
                    let host = url.split('/').nth(2).unwrap_or_default();
                    refused.push(format!("{host}: {error:#}"));
                }
            }
        }
    }
    bail!("{}", refused.join("; "))
}

fn folder() -> PathBuf {
    repo::target().join("imagenet")
}

fn is_known(file: &Path) -> Result<bool> {
    for known in &KNOWN {
        if known.checksum.is_of(file)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a file is in the safetensors format: the length of the header in 8 bytes, followed by the header as JSON.
fn is_safetensors(file: &Path) -> Result<bool> {
    let unreadable = || format!("cannot read {}", file.display());
    let mut start = Vec::new();
    File::open(file).with_context(unreadable)?.take(9).read_to_end(&mut start).with_context(unreadable)?;
    Ok(start.get(8) == Some(&b'{'))
}
