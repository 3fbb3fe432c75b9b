//! A parsed safetensors file: named tensors in f32, f16 or int8, and metadata.
//!
//! An int8 tensor is stored with a second tensor, `<name>_scale`: f32, with one value for each of the first dimension's
//! rows, which are a layer's output channels. The tensor's values are `int8 * scale`. Outside this file, the scales are
//! not visible as tensors.

use crate::error::{Dims, Error, Result};
use half::f16;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

pub(crate) mod header;
mod named;

pub(crate) use named::Named;

/// The tensors and metadata of one model file. Values are decoded on each access, so that only the file's bytes are
/// kept in memory.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    bytes: Vec<u8>,
    tensors: Named<Entry>,
    metadata: BTreeMap<String, String>,
}

/// A tensor's shape, and its place in the file.
#[derive(Debug, Clone)]
struct Entry {
    dims: Vec<usize>,
    storage: Storage,
    bytes: Range<usize>,
}

/// How a tensor's values are stored.
#[derive(Debug, Clone, PartialEq)]
enum Storage {
    F32,
    F16,
    /// int8, with the scale of each row of the first dimension.
    Int8(Vec<f32>),
}

/// The suffix of the name of an int8 tensor's scales.
const SCALE: &str = "_scale";

/// The name of the scales of an int8 tensor.
fn scale_name(name: &str) -> String {
    format!("{name}{SCALE}")
}

/// Converts little-endian f16 to f32.
#[inline(never)]
pub fn f16_to_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
}

impl Weights {
    /// Parses a safetensors file. The header, all offsets and all element types are checked here; values are checked by
    /// [`Weights::check`]. Fails with [`Error::Format`], or with an error that names the tensor.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let (stored, metadata) = header::read(&bytes)?;
        if stored.is_empty() {
            return Err(Error::Format("it holds no tensors".into()));
        }
        let mut tensors = Named::default();
        for (name, header::Stored { dtype, dims, bytes }) in stored {
            let storage = match dtype.as_str() {
                "F32" => Storage::F32,
                "F16" => Storage::F16,
                // The scales, which may be anywhere in the file, are added later.
                "I8" => Storage::Int8(Vec::new()),
                _ => return Err(Error::TensorType { name, found: dtype }),
            };
            tensors.insert(name, Entry { dims, storage, bytes });
        }
        let mut weights = Weights { bytes, tensors, metadata };
        weights.take_scales()?;
        Ok(weights)
    }

    /// The number of bytes at the file's beginning that must have been received before tensors can be read one after
    /// the other: the header, and the scales of int8 tensors. `bytes` has the length of the whole file, with zeros for
    /// bytes that have not been received.
    pub fn preface(bytes: &[u8]) -> Result<usize> {
        let (stored, _) = header::read(bytes)?;
        let first = stored.values().map(|tensor| tensor.bytes.start).min();
        let scales = stored.iter().filter(|(name, _)| name.ends_with(SCALE)).map(|(_, tensor)| tensor.bytes.end);
        Ok(first.into_iter().chain(scales).max().unwrap_or(bytes.len()))
    }

    /// Writes bytes of the file that were received after it was parsed, from the byte `at` on.
    pub fn fill(&mut self, at: usize, chunk: &[u8]) {
        self.bytes[at..at + chunk.len()].copy_from_slice(chunk);
    }

    /// The offset in the file at which a tensor ends. `None` where there is no such tensor.
    pub fn end(&self, name: &str) -> Option<usize> {
        Some(self.tensors.get(name)?.bytes.end)
    }

    /// The bytes of the file.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Moves the scales of each int8 tensor from a tensor of their own into its entry.
    fn take_scales(&mut self) -> Result<()> {
        let is_int8 = |(name, entry): (&String, &Entry)| match (&entry.storage, entry.dims.first()) {
            (Storage::Int8(_), Some(&rows)) => Some((name.clone(), rows)),
            (Storage::Int8(_), None) => Some((name.clone(), 1)),
            _ => None,
        };
        let int8: Vec<(String, usize)> = self.tensors.iter().filter_map(is_int8).collect();
        for (name, rows) in int8 {
            let scale = scale_name(&name);
            if let Some(Entry { storage: Storage::Int8(_), .. }) = self.tensors.get(&scale) {
                return Err(Error::TensorType { name: scale, found: "I8".into() });
            }
            self.check(&scale, &[rows])?;
            let (_, scales) = self.get(&scale)?;
            self.tensors.remove(&scale);
            if let Some(entry) = self.tensors.get_mut(&name) {
                entry.storage = Storage::Int8(scales);
            }
        }
        Ok(())
    }

    /// Weights from (name, dimensions, values), for importers and tests. Fails with [`Error::Argument`] where the
    /// number of values does not fit the dimensions.
    pub fn from_tensors(tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>) -> Result<Self> {
        let mut weights = Weights::default();
        for (name, dims, values) in tensors {
            weights.set(&name, dims, &values)?;
        }
        Ok(weights)
    }

    /// Converts tensors of two and more dimensions to int8. The largest magnitude of each row becomes 127, so that the
    /// rounding error of a value is at most 1/254 of its row's largest magnitude.
    pub fn quantized(&self) -> Result<Self> {
        let mut weights = Weights { metadata: self.metadata.clone(), ..Weights::default() };
        for name in self.names() {
            let (dims, values) = self.get(name)?;
            let at = weights.bytes.len();
            let storage = if dims.len() < 2 || values.is_empty() {
                weights.bytes.extend_from_slice(bytemuck::cast_slice(&values));
                Storage::F32
            } else {
                let mut scales = Vec::with_capacity(dims[0]);
                for row in values.chunks_exact(values.len() / dims[0]) {
                    let largest = row.iter().fold(0f32, |most, v| most.max(v.abs()));
                    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
                    weights.bytes.extend(row.iter().map(|v| (v / scale).round() as i8 as u8));
                    scales.push(scale);
                }
                Storage::Int8(scales)
            };
            let entry = Entry { dims: dims.to_vec(), storage, bytes: at..weights.bytes.len() };
            weights.tensors.insert(name.to_owned(), entry);
        }
        Ok(weights)
    }

    /// Keeps only the tensors for whose names `wanted` returns true.
    pub fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        self.tensors.retain(wanted);
    }

    /// Replaces a tensor, or adds one; it is stored in f32. Fails with [`Error::Argument`] where the number of values does
    /// not fit the dimensions.
    pub fn set(&mut self, name: &str, dims: Vec<usize>, values: &[f32]) -> Result<()> {
        if dims.iter().product::<usize>() != values.len() {
            let (dims, count) = (Dims(dims), values.len());
            return Err(Error::Argument(format!("the tensor \"{name}\" of shape {dims} cannot hold {count} values")));
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(bytemuck::cast_slice(values));
        self.tensors.insert(name.to_owned(), Entry { dims, storage: Storage::F32, bytes: at..self.bytes.len() });
        Ok(())
    }

    /// Returns the tensors as a safetensors file, with values in f16 if `half` is set, otherwise in f32. int8 tensors
    /// stay int8. The same tensors and metadata always give the same bytes.
    pub fn to_bytes(&self, metadata: &BTreeMap<String, String>, half: bool) -> Result<Vec<u8>> {
        self.write(metadata, |_| half)
    }

    /// Like [`Weights::to_bytes`], with each tensor in the element type in which it is stored here.
    pub fn to_bytes_as_stored(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
        self.write(metadata, |entry| entry.storage == Storage::F16)
    }

    fn write(&self, metadata: &BTreeMap<String, String>, half: impl Fn(&Entry) -> bool) -> Result<Vec<u8>> {
        if self.tensors.is_empty() {
            return Err(Error::Format("there are no tensors to write".into()));
        }
        let mut parts = Vec::new();
        for (name, entry) in self.tensors.iter() {
            let stored = &self.bytes[entry.bytes.clone()];
            let (dtype, data) = match &entry.storage {
                Storage::Int8(scales) => {
                    let scale = scales.iter().flat_map(|v| v.to_le_bytes()).collect();
                    parts.push((scale_name(name), "F32", vec![scales.len()], Cow::Owned(scale)));
                    ("I8", Cow::Borrowed(stored))
                }
                Storage::F32 if !half(entry) => ("F32", Cow::Borrowed(stored)),
                Storage::F16 if half(entry) => ("F16", Cow::Borrowed(stored)),
                _ if half(entry) => {
                    ("F16", self.values(entry).iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect())
                }
                _ => ("F32", self.values(entry).iter().flat_map(|v| v.to_le_bytes()).collect()),
            };
            parts.push((name.clone(), dtype, entry.dims.clone(), data));
        }
        // Larger elements come first, so that all values are aligned.
        parts.sort_by(|a, b| header::size(b.1).cmp(&header::size(a.1)).then_with(|| a.0.cmp(&b.0)));
        let tensors: Vec<_> = parts.iter().map(|(name, dtype, dims, _)| (name.as_str(), *dtype, &dims[..])).collect();
        let mut file = header::write(&tensors, metadata)?;
        file.reserve_exact(parts.iter().map(|part| part.3.len()).sum());
        parts.iter().for_each(|part| file.extend_from_slice(&part.3));
        Ok(file)
    }

    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.names()
    }

    /// A tensor's dimensions. `None` where there is no such tensor.
    pub fn dims(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|e| e.dims.as_slice())
    }

    /// A tensor's dimensions and values. Fails with [`Error::MissingTensor`] where there is no such tensor.
    pub fn get(&self, name: &str) -> Result<(&[usize], Vec<f32>)> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::MissingTensor { name: name.to_owned(), expected: Dims(Vec::new()) })?;
        Ok((&entry.dims, self.values(entry)))
    }

    fn values(&self, entry: &Entry) -> Vec<f32> {
        let bytes = &self.bytes[entry.bytes.clone()];
        match &entry.storage {
            Storage::F32 => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Storage::F16 => f16_to_f32(bytes),
            Storage::Int8(scales) => {
                let row = (bytes.len() / scales.len().max(1)).max(1);
                let rows = bytes.chunks_exact(row).zip(scales);
                rows.flat_map(|(row, &scale)| row.iter().map(move |&v| f32::from(v as i8) * scale)).collect()
            }
        }
    }

    /// Checks that a tensor exists, has the shape that its layer needs, and that all its values are finite. Fails with
    /// [`Error::MissingTensor`], [`Error::TensorShape`] or [`Error::NotFinite`].
    pub fn check(&self, name: &str, expected: &[usize]) -> Result<()> {
        let Some(dims) = self.dims(name) else {
            return Err(Error::MissingTensor { name: name.to_owned(), expected: expected.into() });
        };
        if dims != expected {
            return Err(Error::TensorShape { name: name.to_owned(), expected: expected.into(), found: dims.into() });
        }
        match self.tensors.get(name).and_then(|entry| self.not_finite(entry)) {
            Some((index, found)) => {
                // Not formatted with `{}`, as the code that formats an f32 would add 5 KB to every download.
                let value = if found.is_nan() { "NaN" } else { "an infinity" };
                Err(Error::NotFinite { name: name.to_owned(), index, value })
            }
            None => Ok(()),
        }
    }

    /// The index and value of the first element that is not finite. The tensor is not decoded into memory for this,
    /// except where an int8 scale is very large.
    fn not_finite(&self, entry: &Entry) -> Option<(usize, f32)> {
        fn first(values: impl Iterator<Item = f32>) -> Option<(usize, f32)> {
            values.enumerate().find(|(_, v)| !v.is_finite())
        }
        let bytes = &self.bytes[entry.bytes.clone()];
        match &entry.storage {
            Storage::F32 => first(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            Storage::F16 => first(bytes.as_chunks().0.iter().map(|&b| f16::from_le_bytes(b).to_f32())),
            // The magnitude of an int8 is at most 128, so it is nearly always enough to check the scales.
            Storage::Int8(scales) if scales.iter().all(|scale| (scale * 128.0).is_finite()) => None,
            Storage::Int8(_) => first(self.values(entry).into_iter()),
        }
    }

    /// The size of the file in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
    use std::collections::HashMap;

    fn two() -> Weights {
        Weights::from_tensors([
            ("a".into(), vec![2, 2], vec![1.0, -2.5, 0.0, 65504.0]),
            ("b".into(), vec![3], vec![0.5, 0.25, 1e-3]),
        ])
        .unwrap()
    }

    #[test]
    fn a_written_file_is_read_back_unchanged() {
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
    fn a_file_is_what_the_safetensors_crate_writes_and_is_always_the_same() {
        let metadata: BTreeMap<String, String> = (0..9).map(|i| (format!("key {i}"), format!("\"{i}\"\n"))).collect();
        for weights in [two(), layer().quantized().unwrap()] {
            let file = weights.to_bytes(&metadata, false).unwrap();
            assert_eq!(weights.to_bytes(&metadata, false).unwrap(), file);
            let read = SafeTensors::deserialize(&file).unwrap();
            // With one entry of metadata the crate has only one order in which to write it.
            let (one, parts) = (BTreeMap::from([("a".to_owned(), "b".to_owned())]), read.tensors());
            let written = serialize(parts, Some(HashMap::from_iter(one.clone()))).unwrap();
            assert_eq!(weights.to_bytes(&one, false).unwrap(), written);
            assert_ne!(weights.to_bytes(&one, true).unwrap(), written);
        }
        let twice = header::write(&[("a", "F32", &[1]), ("a", "F32", &[1])], &metadata);
        assert!(twice.unwrap_err().to_string().contains("two entries named \"a\""));
        assert_eq!(header::write(&[("a", "F7", &[1])], &metadata).unwrap_err().code(), "tensor-type");
    }

    #[test]
    fn a_replaced_tensor_leaves_the_others_as_they_are_stored() {
        let half = Weights::parse(two().to_bytes(&BTreeMap::new(), true).unwrap()).unwrap();
        let mut changed = half.clone();
        changed.set("b", vec![2, 1], &[1e-3, 7.0]).unwrap();
        assert!(changed.set("b", vec![3], &[1.0]).is_err());
        let back = Weights::parse(changed.to_bytes_as_stored(&BTreeMap::new()).unwrap()).unwrap();
        assert_eq!(back.get("b").unwrap(), (&[2, 1][..], vec![1e-3, 7.0]));
        assert_eq!(back.get("a").unwrap(), half.get("a").unwrap());
        let types: Vec<_> = back.tensors.iter().map(|(_, entry)| entry.storage.clone()).collect();
        assert_eq!(types, [Storage::F16, Storage::F32]);
    }

    #[test]
    fn errors_say_what_is_damaged() {
        let good = two().to_bytes(&BTreeMap::new(), false).unwrap();
        for cut in [0, 4, 7, 8, 20, good.len() - 1] {
            assert_eq!(Weights::parse(good[..cut].to_vec()).unwrap_err().code(), "format", "cut at {cut}");
        }
        let empty = Weights::parse(b"\x02\0\0\0\0\0\0\0{}".to_vec()).unwrap_err();
        assert!(empty.to_string().ends_with("it holds no tensors"), "{empty}");
        assert!(Weights::default().to_bytes(&BTreeMap::new(), false).is_err());
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

    /// A layer with a bias, and with rows of different magnitudes, one of them all zero.
    fn layer() -> Weights {
        let weight = vec![1.0, -0.5, 0.25, 100.0, -127.0, 3.0, 0.0, 0.0, 0.0];
        let tensors = [("w.weight".into(), vec![3, 3], weight), ("w.bias".into(), vec![3], vec![0.1, 0.2, 0.3])];
        Weights::from_tensors(tensors).unwrap()
    }

    #[test]
    fn int8_errors_are_at_most_a_254th_of_the_rows_largest_value() {
        let file = layer().quantized().unwrap().to_bytes(&BTreeMap::new(), false).unwrap();
        let back = Weights::parse(file).unwrap();
        assert_eq!(back.names().collect::<Vec<_>>(), ["w.bias", "w.weight"]);
        assert_eq!(back.get("w.bias").unwrap(), layer().get("w.bias").unwrap());
        let (_, exact) = layer().get("w.weight").map(|(d, v)| (d.to_vec(), v)).unwrap();
        let (dims, values) = back.get("w.weight").unwrap();
        assert_eq!(dims, [3, 3]);
        for (row, (got, want)) in values.chunks(3).zip(exact.chunks(3)).enumerate() {
            let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
            for (a, b) in got.iter().zip(want) {
                assert!((a - b).abs() <= largest / 254.0 + 1e-6, "row {row}: {a} for {b}");
            }
        }
        // Writing the tensors again does not quantize them again.
        let again = Weights::parse(back.to_bytes(&BTreeMap::new(), true).unwrap()).unwrap();
        assert_eq!(again.get("w.weight").unwrap(), back.get("w.weight").unwrap());
    }

    #[test]
    fn int8_tensors_with_missing_or_invalid_scales_are_errors() {
        let write = |scales: &[(&str, Vec<usize>, Vec<f32>)]| {
            let data: Vec<Vec<u8>> =
                scales.iter().map(|s| s.2.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
            let mut views = vec![("w", TensorView::new(Dtype::I8, vec![2, 2], &[1, 2, 3, 4]).unwrap())];
            for ((name, dims, _), data) in scales.iter().zip(&data) {
                views.push((name, TensorView::new(Dtype::F32, dims.clone(), data).unwrap()));
            }
            Weights::parse(serialize(views, None).unwrap())
        };
        let good = write(&[("w_scale", vec![2], vec![0.5, -2.0])]).unwrap();
        assert_eq!(good.get("w").unwrap().1, [0.5, 1.0, -6.0, -8.0]);
        let fails = |scales: &[_]| write(scales).unwrap_err();
        assert_eq!(fails(&[]).detail(), Some("w_scale"));
        assert_eq!(fails(&[("w_scale", vec![1], vec![0.5])]).code(), "tensor-shape");
        assert_eq!(fails(&[("w_scale", vec![2], vec![0.5, f32::INFINITY])]).code(), "not-finite");

        // A scale that is so large that a value becomes infinite is an error at that value.
        assert_eq!(good.check("w", &[2, 2]), Ok(()));
        let large = write(&[("w_scale", vec![2], vec![f32::MAX / 2.0, f32::MAX / 3.5])]).unwrap();
        let infinite = Error::NotFinite { name: "w".into(), index: 3, value: "an infinity" };
        assert_eq!(large.check("w", &[2, 2]), Err(infinite));
        let largest = write(&[("w_scale", vec![2], vec![f32::MAX / 2.0, f32::MAX / 4.0])]).unwrap();
        assert_eq!(largest.check("w", &[2, 2]), Ok(()));

        let int8 = |name, data| (name, TensorView::new(Dtype::I8, vec![2], data).unwrap());
        let nested = serialize([int8("w", &[1, 2]), int8("w_scale", &[3, 4])], None).unwrap();
        assert_eq!(Weights::parse(nested).unwrap_err().code(), "tensor-type");
    }
}
