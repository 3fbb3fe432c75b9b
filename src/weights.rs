//! A safetensors file, parsed once: named tensors in f32 or f16, and the metadata beside them.

use crate::error::{Dims, Error, Result};
use half::f16;
use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The tensors and metadata of one model file. Values are decoded when they are asked for,
/// so the file's own bytes are all the memory this takes.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    bytes: Vec<u8>,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

/// Where a tensor stands in the file.
#[derive(Debug, Clone)]
struct Entry {
    dims: Vec<usize>,
    dtype: Dtype,
    bytes: Range<usize>,
}

impl Weights {
    /// Parses a safetensors file. The header, every offset and every element type are checked here;
    /// values are checked when they are read.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let format = |e: safetensors::SafeTensorError| Error::Format(e.to_string());
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = SafeTensors::deserialize(&bytes).map_err(format)?;
        let start = bytes.as_ptr() as usize;
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            if !matches!(view.dtype(), Dtype::F32 | Dtype::F16) {
                return Err(Error::TensorType { name: name.to_owned(), found: format!("{:?}", view.dtype()) });
            }
            let at = view.data().as_ptr() as usize - start;
            tensors.insert(
                name.to_owned(),
                Entry { dims: view.shape().to_vec(), dtype: view.dtype(), bytes: at..at + view.data().len() },
            );
        }
        Ok(Weights { bytes, tensors, metadata })
    }

    /// Tensors made in memory: an importer's result, or a test's.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>) -> Result<Self> {
        let mut weights = Weights::default();
        for (name, dims, values) in tensors {
            if dims.iter().product::<usize>() != values.len() {
                return Err(Error::Argument(format!(
                    "the tensor \"{name}\" of shape {} cannot hold {} values",
                    Dims(dims),
                    values.len()
                )));
            }
            let at = weights.bytes.len();
            weights.bytes.extend_from_slice(bytemuck::cast_slice(&values));
            weights.tensors.insert(name, Entry { dims, dtype: Dtype::F32, bytes: at..weights.bytes.len() });
        }
        Ok(weights)
    }

    /// Writes a safetensors file, its values as f16 where `half` is set.
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>, half: bool) -> Result<Vec<u8>> {
        let mut encoded = Vec::new();
        for name in self.names() {
            let (dims, values) = self.get(name)?;
            let data: Vec<u8> = if half {
                values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect()
            } else {
                values.iter().flat_map(|v| v.to_le_bytes()).collect()
            };
            encoded.push((name, dims.to_vec(), data));
        }
        let dtype = if half { Dtype::F16 } else { Dtype::F32 };
        let views = encoded
            .iter()
            .map(|(name, dims, data)| TensorView::new(dtype, dims.clone(), data).map(|view| (*name, view)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::Format(e.to_string()))?;
        let metadata: HashMap<String, String> = metadata.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        serialize(views, Some(metadata)).map_err(|e| Error::Format(e.to_string()))
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor's dimensions, where the file has it.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|e| e.dims.as_slice())
    }

    /// A tensor's dimensions and values.
    pub fn get(&self, name: &str) -> Result<(&[usize], Vec<f32>)> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { name: name.to_owned(), expected: Dims(Vec::new()) })?;
        let bytes = &self.bytes[entry.bytes.clone()];
        let values = match entry.dtype {
            Dtype::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        };
        Ok((&entry.dims, values))
    }

    /// Checks a tensor against the shape its layer needs, and every value for being a number.
    pub fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let Some(dims) = self.dims(name) else {
            return Err(Error::MissingTensor { name: name.to_owned(), expected: expected.into() });
        };
        if dims != expected {
            return Err(Error::TensorShape { name: name.to_owned(), expected: expected.into(), found: dims.into() });
        }
        let (_, values) = self.get(name)?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(Error::NotFinite { name: name.to_owned(), index, value: values[index] }),
            None => Ok(()),
        }
    }

    /// Size of the file's values in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Weights {
        Weights::from_tensors([
            ("a".into(), vec![2, 2], vec![1.0, -2.5, 0.0, 65504.0]),
            ("b".into(), vec![3], vec![0.5, 0.25, 1e-3]),
        ])
        .unwrap()
    }

    #[test]
    fn a_file_comes_back_as_it_was_written() {
        let metadata = BTreeMap::from([("variant".to_owned(), "keras".to_owned())]);
        for half in [false, true] {
            let back = Weights::parse(two().to_bytes(&metadata, half).unwrap()).unwrap();
            assert_eq!(back.metadata(), &metadata);
            assert_eq!(back.get("a").unwrap(), two().get("a").unwrap());
            let (_, b) = back.get("b").unwrap();
            assert!((b[2] - 1e-3).abs() < if half { 1e-6 } else { 1e-12 });
        }
    }

    #[test]
    fn every_damage_is_named() {
        let good = two().to_bytes(&BTreeMap::new(), false).unwrap();
        for cut in [0, 4, 7, 8, 20, good.len() - 1] {
            assert_eq!(Weights::parse(good[..cut].to_vec()).unwrap_err().code(), "format", "cut at {cut}");
        }
        let w = two();
        assert_eq!(w.check("a", &[2, 2]), Ok(()));
        assert_eq!(
            w.check("c", &[1]).unwrap_err().to_string(),
            "the model file lacks the tensor \"c\" (expected shape 1)"
        );
        let shape = w.check("a", &[4, 1]).unwrap_err();
        assert_eq!(shape.to_string(), "the tensor \"a\" has shape 2x2, but its layer needs 4x1");
        let bad = Weights::from_tensors([("a".into(), vec![2], vec![0.0, f32::NAN])]).unwrap();
        let nan = bad.check("a", &[2]).unwrap_err();
        assert_eq!((nan.code(), nan.detail()), ("not-finite", Some("a")));
        assert!(nan.to_string().contains("element 1"));
    }
}
