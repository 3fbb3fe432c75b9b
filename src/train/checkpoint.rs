//! Checkpoints: files from which a training continues as if it had not been interrupted.
//!
//! A checkpoint is a safetensors file. Its tensors are f32 and are stored bit for bit. Everything else is text in its
//! metadata, where also numbers are exact that f32 cannot hold.

use crate::error::{Dims, Error, Result};
use crate::model::weights::{Weights, header};
use crate::train::history::Epoch;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// The metadata keys of a checkpoint.
mod key {
    /// The version of the format. Model files do not have this entry.
    pub const CHECKPOINT: &str = "checkpoint";
    pub const STEP: &str = "step";
    pub const EPOCH: &str = "epoch";
    /// The options as JSON, name to value.
    pub const OPTIONS: &str = "options";
    /// The epochs as a JSON array.
    pub const HISTORY: &str = "history";
    /// Everything else as JSON, name to value.
    pub const NOTES: &str = "notes";
}

/// The version of the format that is written and read.
const VERSION: &str = "1";

/// How far a training is, apart from its tensors.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct State {
    /// The number of steps that were done.
    pub step: u64,
    /// The number of epochs that were finished.
    pub epoch: u64,
    /// The options on which the result depends, by their names. A training with other options cannot continue from this
    /// checkpoint.
    pub options: BTreeMap<String, String>,
    /// The epochs that were finished.
    pub history: Vec<Epoch>,
    /// Anything else that the training needs, by its name, e.g. numbers that f32 cannot hold. Rust's `{}` writes f64 so
    /// that parsing gives the same bits.
    pub notes: BTreeMap<String, String>,
}

/// A tensor of a checkpoint that is written: its name, dimensions and values.
pub type Part<'a> = (&'a str, &'a [usize], &'a [f32]);

/// A checkpoint that was read.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub state: State,
    weights: Weights,
}

/// Writes a checkpoint, in the order of a safetensors file. The tensors are not copied. Fails with [`Error::Argument`]
/// where a tensor does not have as many values as its dimensions say, with [`Error::Format`] where two have one name, or
/// with [`Error::Io`].
pub fn write_to(to: &mut impl Write, state: &State, tensors: &[Part]) -> Result<()> {
    for (name, dims, values) in tensors {
        if dims.iter().product::<usize>() != values.len() {
            let (dims, len) = (Dims(dims.to_vec()), values.len());
            return Err(Error::Argument(format!("the tensor \"{name}\" of shape {dims} cannot hold {len} values")));
        }
    }
    let entries: Vec<_> = tensors.iter().map(|&(name, dims, _)| (name, "F32", dims)).collect();
    let metadata = BTreeMap::from([
        (key::CHECKPOINT.to_owned(), VERSION.to_owned()),
        (key::STEP.to_owned(), state.step.to_string()),
        (key::EPOCH.to_owned(), state.epoch.to_string()),
        (key::OPTIONS.to_owned(), json(&state.options)?),
        (key::HISTORY.to_owned(), json(&state.history)?),
        (key::NOTES.to_owned(), json(&state.notes)?),
    ]);
    let failed = |e: io::Error| Error::Io(format!("cannot write the checkpoint: {e}"));
    to.write_all(&header::write(&entries, &metadata)?).map_err(failed)?;
    for (_, _, values) in tensors {
        // A safetensors file is little-endian, as are all machines on which this runs.
        to.write_all(bytemuck::cast_slice(values)).map_err(failed)?;
    }
    Ok(())
}

/// Writes a checkpoint file, which takes the place of an earlier one only when it is complete: an interruption leaves the
/// earlier file as it was. Fails like [`write_to`].
pub fn write(path: &Path, state: &State, tensors: &[Part]) -> Result<()> {
    let failed = |e: io::Error| Error::Io(format!("cannot write the checkpoint {}: {e}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial: PathBuf = path.with_file_name(name);
    let written = File::create(&partial).map_err(failed).and_then(|file| {
        let mut file = BufWriter::new(file);
        write_to(&mut file, state, tensors)?;
        // Without this a crash of the machine could leave a file that is renamed but empty.
        file.into_inner().map_err(|e| failed(e.into_error()))?.sync_all().map_err(failed)
    });
    written.and_then(|()| fs::rename(&partial, path).map_err(failed)).inspect_err(|_| {
        // The first failure is reported, not one of this.
        let _ = fs::remove_file(&partial);
    })
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::Argument(format!("cannot write the checkpoint: {e}")))
}

impl Checkpoint {
    /// Reads a checkpoint file. Fails with [`Error::Io`], or like [`Checkpoint::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |e: io::Error| Error::Io(format!("cannot read the checkpoint {}: {e}", path.display()));
        Checkpoint::parse(fs::read(path).map_err(failed)?)
    }

    /// Reads a checkpoint from its bytes. Fails with [`Error::Format`] where they are no safetensors file,
    /// [`Error::Argument`] where they are no checkpoint, or [`Error::Metadata`] where an entry of a checkpoint is missing
    /// or invalid.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let weights = Weights::parse(bytes)?;
        let metadata = weights.metadata();
        match metadata.get(key::CHECKPOINT).map(String::as_str) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(Error::Argument(format!(
                    "this checkpoint has the version \"{other}\", but this program reads version {VERSION}"
                )));
            }
            None => {
                return Err(Error::Argument(
                    "this file is not a checkpoint of a training; a model file is a base to train from, not to resume"
                        .into(),
                ));
            }
        }
        let fail = |key: &str, reason: String| Error::Metadata { key: key.to_owned(), reason };
        let entry = |key: &str| metadata.get(key).ok_or_else(|| fail(key, "is missing".into()));
        let count = |key: &str| -> Result<u64> {
            let text = entry(key)?;
            text.parse().map_err(|_| fail(key, format!("\"{text}\" is not a count")))
        };
        fn parsed<T: DeserializeOwned>(text: &str) -> std::result::Result<T, String> {
            serde_json::from_str(text).map_err(|e| e.to_string())
        }
        let state = State {
            step: count(key::STEP)?,
            epoch: count(key::EPOCH)?,
            options: parsed(entry(key::OPTIONS)?).map_err(|e| fail(key::OPTIONS, e))?,
            history: parsed(entry(key::HISTORY)?).map_err(|e| fail(key::HISTORY, e))?,
            notes: parsed(entry(key::NOTES)?).map_err(|e| fail(key::NOTES, e))?,
        };
        Ok(Checkpoint { state, weights })
    }

    /// Checks that the training was started with these options. Fails with [`Error::Argument`], whose message names each
    /// option that differs and both of its values.
    pub fn check_options(&self, options: &BTreeMap<String, String>) -> Result<()> {
        let mut names: Vec<&String> = self.state.options.keys().chain(options.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let value = |options: &BTreeMap<String, String>, name: &String| {
            options.get(name).map_or_else(|| "not set".to_owned(), |value| format!("\"{value}\""))
        };
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, value(&self.state.options, name), value(options, name)))
            .filter(|(_, then, now)| then != now)
            .map(|(name, then, now)| format!("{name} was {then} and is now {now}"))
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        let differences = differences.join("; ");
        Err(Error::Argument(format!("the checkpoint was made with other options: {differences}")))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.weights.names()
    }

    /// A tensor's dimensions. `None` where there is no such tensor.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.weights.dims(name)
    }

    /// Copies the values of a tensor to `to`, bit for bit. Fails with [`Error::Argument`] where the checkpoint has no
    /// such tensor or one of another shape.
    pub fn load(&self, name: &str, dims: &[usize], to: &mut [f32]) -> Result<()> {
        let Some(found) = self.weights.dims(name) else {
            return Err(Error::Argument(format!("the checkpoint lacks the tensor \"{name}\"")));
        };
        let (_, values) = self.weights.get(name)?;
        if found != dims || values.len() != to.len() {
            let (found, dims) = (Dims(found.to_vec()), Dims(dims.to_vec()));
            return Err(Error::Argument(format!(
                "the checkpoint's tensor \"{name}\" has shape {found}, but this training needs {dims}"
            )));
        }
        to.copy_from_slice(&values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::random::hash;

    fn state() -> State {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let heads = [("loss1".to_owned(), 2.3f32), ("loss3".to_owned(), 0.1 + 0.2)].into();
        State {
            step: u64::MAX - 1,
            epoch: 3,
            options: texts(&[("batch", "32"), ("schedule", "step:0.96:8"), ("seed", "7")]),
            history: vec![Epoch { loss: 1.1, heads, accuracy: Some(0.7), rate: 0.01 }, Epoch::default()],
            notes: texts(&[("best", &(0.1f64 + 0.2).to_string()), ("quoted", "\"a\"\n{}")]),
        }
    }

    /// Values with every kind of bit pattern: subnormals, both zeros, infinities, and NaN with a payload.
    fn values() -> Vec<f32> {
        let special = [0.0, -0.0, f32::MIN_POSITIVE / 8.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX];
        let bits = (0..500).flat_map(|i| hash([i, 1, 2])).map(f32::from_bits);
        special.into_iter().chain([f32::from_bits(0x7FC1_2345)]).chain(bits).collect()
    }

    fn file(state: &State, tensors: &[Part]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_to(&mut bytes, state, tensors).unwrap();
        bytes
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn a_checkpoint_is_read_back_bit_for_bit() {
        let values = values();
        let (n, short) = (values.len(), [1.5, -2.5]);
        let tensors = [("z.weight", &[1, n][..], &values[..]), ("a.bias/momentum", &[2], &short), ("none", &[0], &[])];
        let bytes = file(&state(), &tensors);
        let read = Checkpoint::parse(bytes.clone()).unwrap();
        assert_eq!(read.state, state());
        assert_eq!(read.state.notes["best"].parse::<f64>().unwrap().to_bits(), (0.1f64 + 0.2).to_bits());
        assert_eq!(read.names().collect::<Vec<_>>(), ["a.bias/momentum", "none", "z.weight"]);
        let mut back = vec![1.0; n];
        read.load("z.weight", &[1, n], &mut back).unwrap();
        assert_eq!(bits(&back), bits(&values));
        back[3] = 7.0;
        assert_ne!(bits(&back), bits(&values));
        // The same state gives the same file, and a changed bit another.
        assert_eq!(file(&state(), &tensors), bytes);
        assert_ne!(file(&State { step: 5, ..state() }, &tensors), bytes);
    }

    #[test]
    fn a_file_is_replaced_only_when_it_is_complete() {
        let folder = std::env::temp_dir().join(format!("googlenet-checkpoint-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("training.checkpoint");
        let load = || {
            let mut value = [0.0];
            Checkpoint::read(&path).unwrap().load("w", &[1], &mut value).map(|()| value[0])
        };
        write(&path, &state(), &[("w", &[1], &[1.0])]).unwrap();
        write(&path, &state(), &[("w", &[1], &[2.0])]).unwrap();
        assert_eq!(load(), Ok(2.0));
        // A failure leaves the earlier file, and no other.
        let error = write(&path, &state(), &[("w", &[1], &[3.0]), ("w", &[1], &[3.0])]).unwrap_err();
        assert_eq!(error.code(), "format");
        assert_eq!(load(), Ok(2.0));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        let missing = folder.join("no folder/x");
        let error = write(&missing, &state(), &[("w", &[1], &[1.0])]).unwrap_err();
        assert!(error.code() == "io" && error.to_string().contains("no folder"), "{error}");
        assert_eq!(Checkpoint::read(&missing).unwrap_err().code(), "io");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn other_options_are_named() {
        let checkpoint = Checkpoint::parse(file(&state(), &[("w", &[1], &[1.0])])).unwrap();
        let mut options = state().options;
        assert_eq!(checkpoint.check_options(&options), Ok(()));
        options.insert("batch".into(), "16".into());
        options.insert("aux".into(), "0.3".into());
        options.remove("seed");
        assert_eq!(
            checkpoint.check_options(&options).unwrap_err().to_string(),
            "the checkpoint was made with other options: aux was not set and is now \"0.3\"; batch was \"32\" and is \
             now \"16\"; seed was \"7\" and is now not set"
        );
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let tensors: [Part; 1] = [("w", &[2], &[1.0, 2.0])];
        let good = file(&state(), &tensors);
        for cut in [0, 7, 8, 50, good.len() - 1] {
            assert_eq!(Checkpoint::parse(good[..cut].to_vec()).unwrap_err().code(), "format", "cut at {cut}");
        }
        let model = Weights::from_tensors([("w".into(), vec![1], vec![1.0])]).unwrap();
        let with = |change: &dyn Fn(&mut BTreeMap<String, String>)| {
            let mut metadata = Weights::parse(good.clone()).unwrap().metadata().clone();
            change(&mut metadata);
            Checkpoint::parse(model.to_bytes(&metadata, false).unwrap()).map(|read| read.state)
        };
        assert_eq!(with(&|_| {}), Ok(state()));
        let fails = |change: &dyn Fn(&mut BTreeMap<String, String>)| with(change).unwrap_err();
        assert!(fails(&|m| m.clear()).to_string().starts_with("this file is not a checkpoint of a training"));
        let newer = fails(&|m| drop(m.insert(key::CHECKPOINT.into(), "2".into())));
        assert!(newer.to_string().contains("version \"2\""), "{newer}");
        for name in [key::STEP, key::EPOCH, key::OPTIONS, key::HISTORY, key::NOTES] {
            assert_eq!(fails(&|m| drop(m.remove(name))).detail(), Some(name));
            assert_eq!(fails(&|m| drop(m.insert(name.into(), "-1".into()))).detail(), Some(name));
        }
        let checkpoint = Checkpoint::parse(good.clone()).unwrap();
        let load = |name: &str, dims: &[usize], n: usize| {
            checkpoint.load(name, dims, &mut vec![0.0; n]).map_err(|e| e.to_string())
        };
        assert_eq!(load("w", &[2], 2), Ok(()));
        assert_eq!(load("v", &[2], 2), Err("the checkpoint lacks the tensor \"v\"".into()));
        let shape = "the checkpoint's tensor \"w\" has shape 2, but this training needs 1x2";
        assert_eq!(load("w", &[1, 2], 2), Err(shape.into()));
        assert!(load("w", &[2], 3).is_err());
        let wrong = write_to(&mut Vec::new(), &state(), &[("w", &[3], &[1.0])]).unwrap_err();
        assert_eq!(wrong.to_string(), "the tensor \"w\" of shape 3 cannot hold 1 values");
    }
}
