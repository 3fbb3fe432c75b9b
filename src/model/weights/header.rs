//! A safetensors file's header: its length in eight bytes, then JSON that says of each tensor its type, its shape
//! and where its bytes are, counted from the header's end.
//!
//! Read here rather than by the `safetensors` crate, whose errors say that a tensor is wrong but not which one.

use super::named::Named;
use crate::error::{Dims, Error, Result};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// GoogLeNet's header has some 10 KB, and as much again for the names of a thousand classes.
const MAX_HEADER: usize = 4 << 20;

/// Where a tensor stands in a file.
pub(crate) struct Stored {
    /// As the file has it: `F32`, `BF16`.
    pub dtype: String,
    pub dims: Vec<usize>,
    pub bytes: Range<usize>,
}

/// A file's header as it is written, and what follows it.
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

/// Whether this is a header's beginning that names such a tensor, right or wrong in what it says of it.
#[cfg(feature = "import")]
pub(crate) fn names(bytes: &[u8], tensor: &str) -> bool {
    parse(bytes).is_ok_and(|(header, _)| header.tensors.iter().any(|(name, _)| name == tensor))
}

/// The tensors, checked to fill the file without gap or overlap, and the metadata.
pub(crate) fn read(bytes: &[u8]) -> Result<(Named<Stored>, BTreeMap<String, String>)> {
    let (Header { mut tensors, metadata }, values) = parse(bytes)?;
    // In the order of the file; where two begin at one byte, the empty one is first.
    tensors.sort_unstable_by_key(|(_, info)| info.data_offsets);
    let start = bytes.len() - values.len();
    let mut end = 0;
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, Info { dtype, shape, data_offsets: [from, to] }) in tensors {
        let Some(size) = size(&dtype) else { return Err(Error::TensorType { name, found: dtype }) };
        let wrong = |what: String| Err(Error::Format(format!("the tensor \"{name}\" {what}")));
        if from != end || to < from || to > values.len() {
            let len = values.len();
            return wrong(format!("has the bytes {from} to {to}; what is free begins at {end} and ends at {len}"));
        }
        let needs = shape.iter().try_fold(size, |product, &d| product.checked_mul(d));
        if needs != Some(to - from) {
            return wrong(format!("of shape {} in {dtype} does not fill {} bytes", Dims(shape), to - from));
        }
        end = to;
        stored.push((name, Stored { dtype, dims: shape, bytes: start + from..start + to }));
    }
    if end != values.len() {
        return Err(Error::Format(format!("its tensors end at byte {end}, the file at {}", values.len())));
    }
    let twice = |name| Error::Format(format!("the tensor \"{name}\" is in its header twice"));
    Ok((Named::new(stored).map_err(twice)?, metadata))
}

/// Bytes of one value.
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
