//! Protobuf's wire format, which Caffe and ONNX use: a sequence of fields, each with a number and a value.
//!
//! Nothing is copied, and values are decoded only when they are read, so that a damaged file cannot cause large
//! allocations.

use crate::error::{Error, Result};

/// The largest number of integers in one list, e.g. of dimensions or indices.
const MAX_INTS: usize = 1000;

/// A field's encoded value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    /// A string, a message, or packed numbers.
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// An iterator over the fields of one message, in the order of the file. It ends after the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// The error for bytes that are cut off or are not a message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Broken {
    /// The field whose value is cut off, if it is known.
    pub field: Option<u64>,
}

impl From<Broken> for Error {
    fn from(broken: Broken) -> Self {
        Error::Import(match broken.field {
            Some(field) => format!("the file is cut off or damaged (in field {field} of a message)"),
            None => "the file is cut off or damaged (where a field should begin)".into(),
        })
    }
}

pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Some(value);
            }
        }
        None
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*array)
    }

    fn value(&mut self, kind: u64) -> Option<Value<'a>> {
        Some(match kind {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(self.array()?),
            _ => return None,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = match self.varint() {
            Some(tag) if tag >> 3 > 0 => match self.value(tag & 7) {
                Some(value) => return Some(Ok((tag >> 3, value))),
                // Groups and unknown wire types do not occur in these formats.
                None => matches!(tag & 7, 0 | 1 | 2 | 5).then_some(tag >> 3),
            },
            _ => None,
        };
        self.rest = &[];
        Some(Err(Broken { field }))
    }
}

impl<'a> Value<'a> {
    /// A message or packed numbers; empty for other values.
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// A string; empty for other values and for invalid UTF-8.
    pub fn text(self) -> &'a str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    /// An integer; 0 for other values.
    pub fn int(self) -> i64 {
        match self {
            Value::Varint(value) => value.cast_signed(),
            _ => 0,
        }
    }

    /// An f32; 0 for other values.
    pub fn float(self) -> f32 {
        match self {
            Value::Fixed32(bytes) => f32::from_le_bytes(bytes),
            _ => 0.0,
        }
    }

    /// Appends one integer, or all integers of a packed list. Fails where there are more than [`MAX_INTS`]: such a list
    /// of dimensions or attributes occurs only in damaged files, and would take eight times its size in memory.
    pub fn ints(self, to: &mut Vec<i64>) -> Result<(), Broken> {
        let mut packed = fields(self.bytes());
        if !matches!(self, Value::Bytes(_)) {
            to.push(self.int());
        }
        while !packed.rest.is_empty() && to.len() <= MAX_INTS {
            to.push(packed.varint().ok_or(Broken { field: None })?.cast_signed());
        }
        if to.len() > MAX_INTS { Err(Broken { field: None }) } else { Ok(()) }
    }

    /// Appends one f32, or all numbers of a packed list.
    pub fn floats(self, to: &mut Vec<f32>) {
        match self {
            Value::Bytes(bytes) => to.extend(bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b))),
            _ => to.push(self.float()),
        }
    }

    /// Appends one f64 as f32, or all numbers of a packed list.
    pub fn doubles(self, to: &mut Vec<f32>) {
        match self {
            Value::Bytes(bytes) => to.extend(bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b) as f32)),
            Value::Fixed64(bytes) => to.push(f64::from_le_bytes(bytes) as f32),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_up_to_the_first_error() {
        let message = b"\x08\x96\x01\x12\x02hi\x1d\x00\x00\x80\x3f\x21\0\0\0\0\0\0\0\x40";
        let all: Vec<_> = fields(message).collect::<Result<_, _>>().unwrap();
        assert_eq!(all[..2], [(1, Value::Varint(150)), (2, Value::Bytes(b"hi"))]);
        assert_eq!(all[2].1.float(), 1.0);
        let mut doubles = Vec::new();
        all[3].1.doubles(&mut doubles);
        assert_eq!(doubles, [2.0]);

        for cut in 1..message.len() {
            let found: Vec<_> = fields(&message[..cut]).collect();
            assert!(found.len() <= 4 && found[..found.len() - 1].iter().all(Result::is_ok), "cut at {cut}");
        }
        let long = fields(b"\x12\xff\xff\xff\xff\x0f..").next();
        assert_eq!(long, Some(Err(Broken { field: Some(2) })));
        assert_eq!(fields(b"text").next(), Some(Err(Broken { field: None })));
        assert_eq!(fields(&[0xff; 16]).next(), Some(Err(Broken { field: None })));
    }
}
