//! Caffe's `.caffemodel`: a NetParameter with the layers' blobs. The layers are messages of the type LayerParameter, or
//! of V1LayerParameter in files from before 2014. Field numbers are those of caffe.proto.

use super::layers::{Flatten, Values, collect, product};
use super::protobuf::{Value, fields};
use super::source::{MAX_ITEMS, Source};
use crate::error::{Dims, Error, Result};
use crate::graph::googlenet::{Spec, Variant};
use crate::model::preprocess::Preprocess;
use std::collections::BTreeMap;

/// The fields of NetParameter that hold layers.
const V1_LAYER: u64 = 2;
const LAYER: u64 = 100;
/// `V1LayerParameter.LayerType.LRN`.
const V1_LRN: i64 = 15;

pub(super) fn recognises(bytes: &[u8]) -> bool {
    let mut layers = false;
    for field in fields(bytes) {
        match field {
            Ok((V1_LAYER | LAYER, Value::Bytes(_))) => layers = true,
            // The other fields: name, input, input_dim, force_backward, state, debug_info, input_shape.
            Ok((1, Value::Bytes(_)) | (3..=8, _)) => {}
            Ok(_) => return false,
            Err(broken) => return layers || matches!(broken.field, Some(V1_LAYER | LAYER)),
        }
    }
    layers
}

#[derive(Default)]
struct Layer<'a> {
    name: &'a str,
    is_lrn: bool,
    /// The blobs as BlobProto messages.
    blobs: Vec<&'a [u8]>,
}

/// Reads BVLC's network. Layers are found by their names; those of classifiers may have a suffix, as they usually do
/// after fine-tuning (`loss3/classifier_flowers`).
pub(super) fn read(bytes: &[u8]) -> Result<Source> {
    let mut layers = BTreeMap::new();
    let (mut others, mut norms) = (0, 0);
    for field in fields(bytes) {
        let (field, value) = field?;
        if !matches!(field, V1_LAYER | LAYER) {
            continue;
        }
        let layer = layer(field == V1_LAYER, value.bytes())?;
        norms += usize::from(layer.is_lrn);
        others += usize::from(layer.blobs.is_empty());
        if !layer.blobs.is_empty() {
            layers.insert(canonical(layer.name), layer);
        }
        if others + layers.len() > MAX_ITEMS {
            return Err(Error::Import("it has far more layers than GoogLeNet".into()));
        }
    }
    // Some files contain only the layers with weights. A file that contains others contains all of them.
    if others > 0 && norms != 2 {
        return Err(Error::Import(format!(
            "BVLC's GoogLeNet has local response normalisation (LRN) in 2 layers, this file in {norms}"
        )));
    }

    let classes = match layers.get("loss3/classifier").and_then(|layer| layer.blobs.first()) {
        Some(blob) => blob_dims(blob)?.iter().rev().nth(1).copied().unwrap_or(1000),
        None => 1000,
    };
    let heads = layers.keys().any(|name| name.starts_with("loss1/") || name.starts_with("loss2/"));
    let spec = Spec { variant: Variant::Caffe, classes, heads, ..Spec::default() };
    let tensors = collect(&spec.build()?, Flatten::Chw, |name, dims| {
        let missing = || Error::MissingTensor { name: name.to_owned(), expected: dims.into() };
        let layer = layers.remove(name).ok_or_else(missing)?;
        let [weight, bias] = layer.blobs[..] else {
            let reason = format!("it has {} blobs in the file, not weights and a bias", layer.blobs.len());
            return Err(Error::Shape { layer: layer.name.to_owned(), reason });
        };
        Ok(Values { weight: blob(layer.name, weight, dims)?, bias: blob(layer.name, bias, &dims[..1])? })
    })?;
    if let Some((_, extra)) = layers.first_key_value() {
        let found = extra.blobs.first().map(|blob| blob_dims(blob)).transpose()?.unwrap_or_default();
        return Err(Error::ExtraTensor {
            name: extra.name.to_owned(),
            found: Dims(found),
            variant: Variant::Caffe.to_string(),
        });
    }
    Ok(Source {
        preprocess: Some(Preprocess::BVLC),
        assumed: Some(
            "a .caffemodel does not describe its preprocessing; BVLC's is assumed: BGR 0..255 minus (104, 117, 123)",
        ),
        ..Source::new("Caffe weights", Variant::Caffe, tensors)
    })
}

/// The layer's name in this crate's network.
fn canonical(name: &str) -> String {
    let classifiers = ["loss1/classifier", "loss2/classifier", "loss3/classifier"];
    classifiers.into_iter().find(|known| name.starts_with(known)).unwrap_or(name).to_owned()
}

fn layer(v1: bool, message: &[u8]) -> Result<Layer<'_>> {
    let mut layer = Layer::default();
    let [name, kind, blob] = if v1 { [4, 5, 6] } else { [1, 2, 7] };
    for field in fields(message) {
        let (field, value) = field?;
        if field == name {
            layer.name = value.text();
        } else if field == kind {
            layer.is_lrn = value == Value::Varint(V1_LRN.cast_unsigned()) || value.text() == "LRN";
        } else if field == blob {
            layer.blobs.push(value.bytes());
            if layer.blobs.len() > 8 {
                return Err(Error::Import(format!("its layer \"{}\" has too many blobs", layer.name)));
            }
        }
    }
    Ok(layer)
}

/// A blob's dimensions: the field `shape`, or in older files the four fields num, channels, height and width.
fn blob_dims(message: &[u8]) -> Result<Vec<usize>> {
    let mut old = [None; 4];
    let mut shape = None;
    for field in fields(message) {
        match field? {
            (n @ 1..=4, value) => old[n as usize - 1] = Some(value.int()),
            (7, value) => {
                let dims = shape.get_or_insert_with(Vec::new);
                for field in fields(value.bytes()) {
                    if let (1, value) = field? {
                        value.ints(dims)?;
                    }
                }
            }
            _ => {}
        }
    }
    let dims = shape.unwrap_or_else(|| old.into_iter().flatten().collect());
    Ok(dims.into_iter().map(|d| usize::try_from(d).unwrap_or(usize::MAX)).collect())
}

/// The values of a blob, which must have this shape. Leading dimensions of 1, which older files have, are ignored.
fn blob(layer: &str, message: &[u8], expected: &[usize]) -> Result<Vec<f32>> {
    let dims = blob_dims(message)?;
    let surplus = dims.len().saturating_sub(expected.len());
    if dims[surplus..] != *expected || dims[..surplus].iter().any(|&d| d != 1) {
        return Err(Error::TensorShape { name: layer.to_owned(), expected: expected.into(), found: Dims(dims) });
    }
    let mut values = Vec::new();
    for field in fields(message) {
        match field? {
            (5, value) => value.floats(&mut values),
            (8, value) => value.doubles(&mut values),
            _ => {}
        }
    }
    // The expected shape contains the number of classes from the file, so its product may overflow.
    if Some(values.len()) != product(expected) {
        let reason = format!("it has {} values in the file, but its shape is {}", values.len(), Dims(dims));
        return Err(Error::Shape { layer: layer.to_owned(), reason });
    }
    Ok(values)
}
