//! The header of a safetensors file: its length in eight bytes, then JSON with the type, shape and byte range of each
//! tensor. The ranges are counted from the header's end.
//!
//! It is parsed here and not by the `safetensors` crate, whose errors do not say which tensor is invalid.

use super::named::Named;
use crate::error::{Dims, Error, Result};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// The largest header that is parsed. GoogLeNet's has about 10 KB, and as much again for the names of 1000 classes.
const MAX_HEADER: usize = 4 << 20;

/// A tensor's type, shape and place in a file.
pub(crate) struct Stored {
    /// The element type as the file names it, e.g. `F32` or `BF16`.
    pub dtype: String,
    pub dims: Vec<usize>,
    /// The range in the file, counted from its beginning.
    pub bytes: Range<usize>,
}

/// Returns a file's header without checking its tensors, and the bytes after it.
fn parse(bytes: &[u8]) -> Result<(Header, &[u8])> {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return Err(Error::Format(format!("it has {} bytes, fewer than the length of a header", bytes.len())));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER as u64 {
        return Err(Error::Format(format!("its first eight bytes say that its header has {len} bytes")));
    }
    let Some((header, values)) = rest.split_at_checked(len as usize) else {
        return Err(Error::Format(format!("its header should have {len} bytes, but {} follow", rest.len())));
    };
    let header = serde_json::from_slice(header).map_err(|e| Error::Format(format!("its header: {e}")))?;
    Ok((header, values))
}

/// Whether the file begins with a header that has a tensor of this name. The tensor is not checked.
#[cfg(feature = "import")]
pub(crate) fn names(bytes: &[u8], tensor: &str) -> bool {
    parse(bytes).is_ok_and(|(header, _)| header.tensors.iter().any(|(name, _)| name == tensor))
}

/// Returns the tensors and the metadata. Checks that the tensors fill the file without gap or overlap, and that each
/// size fits its shape.
pub(crate) fn read(bytes: &[u8]) -> Result<(Named<Stored>, BTreeMap<String, String>)> {
    let (Header { mut tensors, metadata }, values) = parse(bytes)?;
    // Sorted by their place in the file. If two begin at the same byte, the empty one is first.
    tensors.sort_unstable_by_key(|(_, info)| info.data_offsets);
    let start = bytes.len() - values.len();
    let mut end = 0;
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, Info { dtype, shape, data_offsets: [from, to] }) in tensors {
        let Some(size) = size(&dtype) else { return Err(Error::TensorType { name, found: dtype }) };
        let wrong = |what: String| Err(Error::Format(format!("the tensor \"{name}\" {what}")));
        if from != end || to < from || to > values.len() {
            let len = values.len();
            return wrong(format!("has the bytes {from} to {to}, but should begin at {end} and end at {len} at most"));
        }
        let needs = shape.iter().try_fold(size, |product, &d| product.checked_mul(d));
        if needs != Some(to - from) {
            return wrong(format!("of shape {} in {dtype} does not fill {} bytes", Dims(shape), to - from));
        }
        end = to;
        stored.push((name, Stored { dtype, dims: shape, bytes: start + from..start + to }));
    }
    if end != values.len() {
        return Err(Error::Format(format!("its tensors end at byte {end}, but the file ends at {}", values.len())));
    }
    let twice = |name| Error::Format(format!("its header has two tensors named \"{name}\""));
    Ok((Named::new(stored).map_err(twice)?, metadata))
}

/// A tensor that is to be written.
pub(crate) struct Part {
    pub name: String,
    /// The element type as in [`Stored::dtype`].
    pub dtype: &'static str,
    pub dims: Vec<usize>,
    /// The values, little-endian.
    pub bytes: Vec<u8>,
}

/// Returns a file of these tensors. Those with larger elements come first, so that every tensor is aligned; the header is
/// sorted by name. The same tensors and metadata always give the same bytes, which the `safetensors` crate, where the order
/// of metadata is random, does not promise.
pub(crate) fn write(mut parts: Vec<Part>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Entry<'a> {
        Metadata(&'a BTreeMap<String, String>),
        Tensor { dtype: &'a str, shape: &'a [usize], data_offsets: [usize; 2] },
    }
    parts.sort_by(|a, b| size(b.dtype).cmp(&size(a.dtype)).then_with(|| a.name.cmp(&b.name)));
    let mut entries = BTreeMap::from([("__metadata__", Entry::Metadata(metadata))]);
    let mut end = 0;
    for Part { name, dtype, dims, bytes } in &parts {
        let from = end;
        end += bytes.len();
        entries.insert(name, Entry::Tensor { dtype, shape: dims, data_offsets: [from, end] });
    }
    let mut header = serde_json::to_vec(&entries).map_err(|e| Error::Format(e.to_string()))?;
    // The values begin at a multiple of eight bytes.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.append(&mut header);
    for mut part in parts {
        file.append(&mut part.bytes);
    }
    Ok(file)
}

/// The number of bytes of one element. `None` for unknown types.
fn size(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" => 1,
        _ => return None,
    })
}

struct Header {
    tensors: Vec<(String, Info)>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: BTreeMap::new() };
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                    } else {
                        header.tensors.push((name, map.next_value()?));
                    }
                }
                Ok(header)
            }
        }

        from.deserialize_map(Entries)
    }
}
