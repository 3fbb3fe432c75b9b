//! Files of other frameworks, made into model files.
//!
//! Each format is a file of its own under `import/`: it recognises its files by their first bytes and
//! gives a [`Source`]. What is the same for all of them, metadata and the last check, is here.

mod keras;

use crate::error::{Error, Result};
use crate::googlenet::Variant;
use crate::image::{Order, Preprocess};
use crate::model::{Model, key};
use crate::weights::Weights;
use std::collections::BTreeMap;

/// What the file itself does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The model's name.
    pub name: Option<String>,
    /// Where the weights are from.
    pub source: Option<String>,
    /// One class name an output.
    pub labels: Option<Vec<String>>,
    /// Mean of each input channel, in the order of [`Options::order`].
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each input channel.
    pub std: Option<[f32; 3]>,
    /// Factor of a pixel's 0..255, before the mean is taken away.
    pub scale: Option<f32>,
    pub order: Option<Order>,
    /// Writes f16, which halves the file.
    pub half: bool,
}

/// A converted file.
#[derive(Debug, Clone)]
pub struct Imported {
    /// What the file was, for a person.
    pub format: &'static str,
    /// The model file: safetensors with this crate's metadata.
    pub bytes: Vec<u8>,
    /// The model as it was read back from [`Imported::bytes`].
    pub model: Model,
}

/// What the reader of a format finds.
struct Source {
    format: &'static str,
    variant: Variant,
    /// Name, dimensions and values of each tensor, named and laid out as a model file has them.
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    /// How pictures are prepared, where the file or its format says so.
    preprocess: Option<Preprocess>,
}

/// Converts a file of another framework, whose kind is told by its first bytes. The result has been
/// loaded as a model, so it is known to be complete.
pub fn import(bytes: &[u8], options: &Options) -> Result<Imported> {
    let source = read(bytes)?;
    let preprocess = preprocess(source.preprocess, options)?;
    let json = |value: serde_json::Result<String>| value.map_err(|e| Error::Import(e.to_string()));
    let mut metadata = BTreeMap::from([
        (key::VARIANT.to_owned(), source.variant.name().to_owned()),
        (key::PREPROCESSING.to_owned(), json(serde_json::to_string(&preprocess))?),
    ]);
    if let Some(labels) = &options.labels {
        metadata.insert(key::LABELS.to_owned(), json(serde_json::to_string(labels))?);
    }
    for (key, value) in [(key::NAME, &options.name), (key::SOURCE, &options.source)] {
        if let Some(value) = value {
            metadata.insert(key.to_owned(), value.clone());
        }
    }
    let bytes = Weights::from_tensors(source.tensors)?.to_bytes(&metadata, options.half)?;
    let model = Model::from_bytes(bytes.clone())?;
    Ok(Imported { format: source.format, bytes, model })
}

fn read(bytes: &[u8]) -> Result<Source> {
    const SUPPORTED: &str = "supported are Keras 3 weights (.weights.h5)";
    if keras::recognises(bytes) {
        keras::read(bytes)
    } else if bytes.starts_with(b"PK\x03\x04") {
        let hint = "if it is a .keras file, unzip it and import the model.weights.h5 inside";
        Err(Error::Import(format!("it is a zip archive; {SUPPORTED}; {hint}")))
    } else {
        Err(Error::Import(format!("its first bytes are those of no supported format; {SUPPORTED}")))
    }
}

/// What the format says, overridden by what the caller says. Without either there is no guess: a wrong
/// mean gives wrong answers that look right.
fn preprocess(known: Option<Preprocess>, options: &Options) -> Result<Preprocess> {
    let Some(base) = known.or(options.mean.map(|_| Preprocess::default())) else {
        let reason = "it does not say how its pictures were prepared; \
                      give the mean of its training set (--mean R,G,B; 0,0,0 where none was subtracted)";
        return Err(Error::Import(reason.into()));
    };
    let preprocess = Preprocess {
        order: options.order.unwrap_or(base.order),
        scale: options.scale.unwrap_or(base.scale),
        mean: options.mean.unwrap_or(base.mean),
        std: options.std.unwrap_or(base.std),
        ..base
    };
    preprocess.check()?;
    Ok(preprocess)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_imported_says_what_can() {
        for bytes in [&b""[..], b"\x89HDF", b"a text", b"\x08\x07\x12\x07pytorch"] {
            let error = import(bytes, &Options::default()).unwrap_err();
            assert_eq!(error.code(), "import");
            assert!(error.to_string().ends_with("supported are Keras 3 weights (.weights.h5)"));
        }
        let zip = import(b"PK\x03\x04rest", &Options::default()).unwrap_err();
        assert!(zip.to_string().contains("model.weights.h5 inside"));
    }

    #[test]
    fn preprocessing_is_never_guessed() {
        assert!(preprocess(None, &Options::default()).unwrap_err().to_string().contains("--mean R,G,B"));
        let mean = Options { mean: Some([1.0, 2.0, 3.0]), order: Some(Order::Bgr), ..Options::default() };
        let given = preprocess(None, &mean).unwrap();
        assert_eq!((given.mean, given.std, given.scale, given.order), ([1.0, 2.0, 3.0], [1.0; 3], 1.0, Order::Bgr));
        let known = Some(Preprocess::BVLC);
        assert_eq!(preprocess(known, &Options::default()).unwrap(), Preprocess::BVLC);
        assert_eq!(preprocess(known, &mean).unwrap().mean, [1.0, 2.0, 3.0]);
        let zero = Options { std: Some([0.0; 3]), ..mean };
        assert_eq!(preprocess(None, &zero).unwrap_err().code(), "metadata");
    }
}
