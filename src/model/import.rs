//! Files of other frameworks, made into model files.
//!
//! Each format is a file of its own under `import/`: it recognises its files by their bytes and gives a
//! `Source`. What is the same for all of them, metadata and the last check, is here.

mod archive;
mod caffe;
mod hdf5;
mod keras;
mod layers;
mod onnx;
mod protobuf;
mod torchvision;

use crate::error::{Error, Result};
use crate::graph::googlenet::Variant;
use crate::model::preprocess::{Order, Preprocess};
use crate::model::weights::Weights;
use crate::model::{Model, key};
use layers::Tensors;
use std::collections::BTreeMap;

/// What the files of all formats may hold at most of groups, nodes or layers; GoogLeNet has some 300.
const MAX_ITEMS: usize = 10_000;

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
    /// The variant, where it is another one than the file seems to be. Its layers have to have the same shapes.
    pub variant: Option<Variant>,
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
    /// The model as it was read back from [`Imported::bytes`]; its notes say what was assumed.
    pub model: Model,
}

/// What the reader of a format finds.
struct Source {
    format: &'static str,
    variant: Variant,
    /// The file holds the network itself, not only its tensors, so the variant is beyond doubt.
    certain: bool,
    tensors: Tensors,
    /// Input height and width.
    size: usize,
    /// How pictures are prepared, where the format's networks all do the same.
    preprocess: Option<Preprocess>,
    /// What was assumed about that, for a person; untrue once a mean is given.
    assumed: Option<&'static str>,
    /// Factor and offset of each input channel, where the file's network does this to its input first.
    affine: Option<[(f32, f32); 3]>,
    /// What was assumed, in sentences for a person.
    notes: Vec<String>,
}

impl Source {
    fn new(format: &'static str, variant: Variant, tensors: Tensors) -> Self {
        Source {
            format,
            variant,
            certain: false,
            tensors,
            size: 224,
            preprocess: None,
            assumed: None,
            affine: None,
            notes: Vec::new(),
        }
    }
}

/// Whether these bytes are a file of a supported framework, as far as their structure tells: for a model file
/// of this crate the answer is no.
pub fn recognises(bytes: &[u8]) -> bool {
    Format::of(bytes).is_some()
}

/// Converts a file of another framework, whose kind is told by its bytes. The result has been loaded as a model,
/// so it is known to be complete.
pub fn import(bytes: &[u8], options: &Options) -> Result<Imported> {
    let source = read(bytes)?;
    let variant = options.variant.unwrap_or(source.variant);
    if source.certain && variant != source.variant {
        return Err(Error::Import(format!("the network in it is of the {} variant, not {variant}", source.variant)));
    }
    let mut notes = source.notes;
    notes.extend(source.assumed.filter(|_| options.mean.is_none()).map(str::to_owned));
    let mut preprocess = preprocess(source.preprocess, source.size, options)?;
    if let Some(affine) = source.affine {
        preprocess = then(preprocess, affine);
        preprocess.check()?;
        notes.push("the network scales its input itself; that is now part of the preprocessing".into());
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
            Error::Import(format!("{error} (as f16, which ends at 65504; import it without --half)"))
        }
        _ => error,
    })?;
    if options.variant.is_none() && !source.certain {
        notes.insert(0, format!("by its tensors' shapes it is the {variant} variant"));
    }
    model.notes.splice(..0, notes);
    Ok(Imported { format: source.format, bytes, model })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Hdf5,
    Zip,
    Torchvision,
    /// A pickle of before PyTorch 1.6, when it was no zip archive.
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
            "it is no file of a supported format; supported are Keras 3 weights (.weights.h5, .keras), TensorFlow 2's \
             (.h5), Caffe's .caffemodel, .onnx, and a torchvision state dict as .safetensors"
                .into(),
        )),
    }
}

/// The preprocessing that does this and then `factor * x + offset` on each channel.
fn then(first: Preprocess, affine: [(f32, f32); 3]) -> Preprocess {
    let mut both = first;
    for (c, (factor, offset)) in affine.into_iter().enumerate() {
        both.std[c] = first.std[c] / factor;
        both.mean[c] = first.mean[c] - offset * first.std[c] / factor;
    }
    both
}

/// What the format says, overridden by what the caller says. Without either there is no guess: a wrong
/// mean gives wrong answers that look right.
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
    fn what_cannot_be_imported_says_what_can() {
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
    fn what_the_network_does_to_its_input_is_preprocessing() {
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
