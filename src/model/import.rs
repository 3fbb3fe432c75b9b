//! Importers, which convert files of other frameworks into model files.
//!
//! Each format has a file of its own under `import/`, which recognises files of the format by their bytes and reads
//! them into a `Source`. The common part is here: the metadata and the final check.

mod archive;
mod caffe;
mod hdf5;
mod keras;
mod layers;
mod onnx;
mod protobuf;
mod source;
mod torchvision;

use crate::error::{Error, Result};
use crate::graph::googlenet::Variant;
use crate::model::preprocess::{Order, Preprocess};
use crate::model::weights::Weights;
use crate::model::{Model, key};
use source::Source;
use std::collections::BTreeMap;

/// Options for an import. They override what the file says, and add what it does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The model's name.
    pub name: Option<String>,
    /// Where the weights come from.
    pub source: Option<String>,
    /// The class names in output order.
    pub labels: Option<Vec<String>>,
    /// The mean of each input channel, in the order of [`Options::order`]. Default: that of the format. Keras networks
    /// have no usual mean, so that it is required for them.
    pub mean: Option<[f32; 3]>,
    /// The standard deviation of each input channel. Default: that of the format, or 1.
    pub std: Option<[f32; 3]>,
    /// The factor for pixel values 0..255, applied before the mean is subtracted. Default: that of the format, or 1.
    pub scale: Option<f32>,
    /// The order of the input channels. Default: that of the format, or RGB.
    pub order: Option<Order>,
    /// The variant. Default: inferred from the file. Another variant must have layers of the same shapes.
    pub variant: Option<Variant>,
    /// Whether to store the weights as f16, which halves the file's size.
    pub half: bool,
}

/// A converted file.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The file's format, in words for people.
    pub format: &'static str,
    /// The model file: safetensors with this crate's metadata.
    pub bytes: Vec<u8>,
    /// The model, parsed from [`Imported::bytes`]. Its notes say what was assumed.
    pub model: Model,
}

/// Whether the bytes seem to be a file of another framework that can be imported, judging by their structure. False for
/// model files of this crate.
pub fn recognises(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some()
}

/// Converts a file of another framework. The format is detected from the file's bytes. The result is loaded as a model
/// to check that it is complete. Fails with [`Error::Import`], with [`Error::Unprepared`] where the preprocessing is
/// not known, or with an error that names the tensor or layer.
pub fn import(bytes: &[u8], options: &Options) -> Result<Imported> {
    let source = read(bytes)?;
    let variant = options.variant.unwrap_or(source.variant);
    if source.certain && variant != source.variant {
        return Err(Error::Import(format!("the file's network is of the {} variant, not {variant}", source.variant)));
    }
    let mut notes = source.notes;
    notes.extend(source.assumed.filter(|_| options.mean.is_none()).map(str::to_owned));
    let mut preprocess = preprocess(source.preprocess, source.size, options)?;
    if let Some(affine) = source.affine {
        preprocess = then(preprocess, affine);
        preprocess.check()?;
        notes.push("the network scales its input itself; this has become part of the preprocessing".into());
    }
    let json = |value: serde_json::Result<String>| value.map_err(|e| Error::Import(e.to_string()));
    let mut metadata = BTreeMap::from([
        (key::VARIANT.to_owned(), variant.name().to_owned()),
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
    let mut model = Model::from_bytes(bytes.clone()).map_err(|error| match error.code() {
        "tensor-shape" | "missing-tensor" | "extra-tensor" if variant != source.variant => {
            Error::Import(format!("its tensors are of the {} variant, not {variant}: {error}", source.variant))
        }
        "not-finite" if options.half => {
            Error::Import(format!("{error} (in f16, whose largest number is 65504; import it without --half)"))
        }
        _ => error,
    })?;
    if options.variant.is_none() && !source.certain {
        notes.insert(0, format!("the shapes of the tensors are those of the {variant} variant"));
    }
    model.notes.splice(..0, notes);
    Ok(Imported { format: source.format, bytes, model })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Hdf5,
    Zip,
    Torchvision,
    /// A pickle written by a PyTorch before 1.6, which is not a zip archive.
    Pickle,
    Onnx,
    Caffe,
}

impl Format {
    fn of(bytes: &[u8]) -> Option<Self> {
        if hdf5::recognises(bytes) {
            Some(Format::Hdf5)
        } else if archive::recognises(bytes) {
            Some(Format::Zip)
        } else if bytes.starts_with(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9") {
            Some(Format::Pickle)
        } else if torchvision::recognises(bytes) {
            Some(Format::Torchvision)
        // Protobuf has no magic bytes, so its formats come last.
        } else if onnx::recognises(bytes) {
            Some(Format::Onnx)
        } else {
            caffe::recognises(bytes).then_some(Format::Caffe)
        }
    }
}

fn read(bytes: &[u8]) -> Result<Source> {
    match Format::of(bytes) {
        Some(Format::Hdf5) => keras::read(bytes),
        Some(Format::Zip) => keras::read(&archive::weights(bytes)?),
        Some(Format::Pickle) => Err(archive::pickle()),
        Some(Format::Torchvision) => torchvision::read(bytes),
        Some(Format::Onnx) => onnx::read(bytes),
        Some(Format::Caffe) => caffe::read(bytes),
        None => Err(Error::Import(
            "its format is not supported; supported are Keras 3 weights (.weights.h5, .keras), TensorFlow 2's weights \
             (.h5), Caffe's .caffemodel, .onnx, and torchvision state dicts as .safetensors"
                .into(),
        )),
    }
}

/// The preprocessing that does `first` and then `factor * x + offset` for each channel.
fn then(first: Preprocess, affine: [(f32, f32); 3]) -> Preprocess {
    let mut both = first;
    for (c, (factor, offset)) in affine.into_iter().enumerate() {
        both.std[c] = first.std[c] / factor;
        both.mean[c] = first.mean[c] - offset * first.std[c] / factor;
    }
    both
}

/// The preprocessing that is usual for the format, overridden by the options. Fails with [`Error::Unprepared`] where
/// neither is known. It is not guessed, as with a wrong mean the network's answers are wrong but look plausible.
fn preprocess(known: Option<Preprocess>, size: usize, options: &Options) -> Result<Preprocess> {
    let Some(base) = known.or(options.mean.map(|_| Preprocess { size, ..Preprocess::default() })) else {
        return Err(Error::Unprepared);
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
    fn errors_for_unknown_files_list_the_supported_formats() {
        for bytes in [&b""[..], b"\x89HDF", b"a text", b"\x08\x07\x12\x07pytorch", b"\x0a\x03net"] {
            assert!(!recognises(bytes));
            let error = import(bytes, &Options::default()).unwrap_err();
            assert_eq!(error.code(), "import");
            assert!(error.to_string().contains("supported are Keras 3 weights"));
        }
        let fails = |bytes: &[u8]| {
            assert!(recognises(bytes));
            import(bytes, &Options::default()).unwrap_err().to_string()
        };
        assert!(fails(b"PK\x03\x04rest").contains("zip archive is damaged"));
        assert!(fails(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.").contains("weights_only=True"));
        // A field of a graph or a layer that claims more bytes than there are.
        assert!(fails(b"\x08\x07\x3a\xff\xff\x03").contains("cut off or damaged (in field 7"));
        assert!(fails(b"\x0a\x03net\xa2\x06\xff\xff\x03").contains("cut off or damaged (in field 100"));
    }

    #[test]
    fn scaling_by_the_network_becomes_part_of_the_preprocessing() {
        let imagenet = Preprocess { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Preprocess::default() };
        let affine = [0, 1, 2].map(|c| (imagenet.std[c] / 0.5, (imagenet.mean[c] - 0.5) / 0.5));
        let both = then(imagenet, affine);
        let far = both.mean.iter().chain(&both.std).any(|v| (v - 0.5).abs() > 1e-6);
        assert!(!far, "{both:?}");
    }

    #[test]
    fn preprocessing_is_never_guessed() {
        assert!(preprocess(None, 224, &Options::default()).unwrap_err().to_string().contains("--mean R,G,B"));
        let mean = Options { mean: Some([1.0, 2.0, 3.0]), order: Some(Order::Bgr), ..Options::default() };
        let given = preprocess(None, 224, &mean).unwrap();
        assert_eq!((given.mean, given.std, given.scale, given.order), ([1.0, 2.0, 3.0], [1.0; 3], 1.0, Order::Bgr));
        let known = Some(Preprocess::BVLC);
        assert_eq!(preprocess(known, 224, &Options::default()).unwrap(), Preprocess::BVLC);
        assert_eq!(preprocess(known, 224, &mean).unwrap().mean, [1.0, 2.0, 3.0]);
        let zero = Options { std: Some([0.0; 3]), ..mean };
        assert_eq!(preprocess(None, 224, &zero).unwrap_err().code(), "metadata");
    }
}
