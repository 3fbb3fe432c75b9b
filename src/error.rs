//! One error type for the whole crate. Every variant has a stable [`Error::code`] that JavaScript sees.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, each with the layer, tensor or byte where it happened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Format(String),
    /// A tensor the network needs is not in the file.
    #[error("the model file lacks the tensor \"{name}\" (expected shape {expected})")]
    MissingTensor { name: String, expected: Dims },
    /// The file has a tensor that no layer of the network reads.
    #[error("the model file has a tensor \"{name}\" {found} that no layer of the {variant} network reads")]
    ExtraTensor { name: String, found: Dims, variant: String },
    /// A tensor's shape is not what its layer needs.
    #[error("the tensor \"{name}\" has shape {found}, but its layer needs {expected}")]
    TensorShape { name: String, expected: Dims, found: Dims },
    /// A tensor's element type is none of f32, f16 and int8.
    #[error("the tensor \"{name}\" is {found}; expected F32, F16 or I8")]
    TensorType { name: String, found: String },
    /// A weight is NaN or infinite.
    #[error("the tensor \"{name}\" holds {value} at element {index}; every weight must be finite")]
    NotFinite { name: String, index: usize, value: &'static str },
    /// A metadata entry of the model file cannot be used.
    #[error("the model file's metadata entry \"{key}\": {reason}")]
    Metadata { key: String, reason: String },
    /// An operation cannot take an input of this shape.
    #[error("layer \"{layer}\": {reason}")]
    Shape { layer: String, reason: String },
    /// No node of the network has this name.
    #[error("the network has no node \"{0}\"")]
    UnknownNode(String),
    /// The value handed in cannot be used; the sentence says which one and why.
    #[error("{0}")]
    Argument(String),
    /// The picture cannot be decoded or has no pixels.
    #[error("cannot read the picture: {0}")]
    Image(String),
    /// A file of another framework cannot be converted.
    #[error("cannot import this file: {0}")]
    Import(String),
    /// A file of another framework, and nobody, says how its network's pictures were prepared.
    #[error(
        "cannot import this file: it does not say how its pictures were prepared; give the mean of its training set \
         (--mean R,G,B or `imported.mean`; 0,0,0 where none was subtracted)"
    )]
    Unprepared,
    /// There is not as much memory as this takes.
    #[error("there is no room for the {} MB of memory that this takes; fewer pictures at a time take less", bytes / 1_000_000)]
    Memory { bytes: u64 },
    /// There is no usable GPU, or it lacks what the engine needs.
    #[error("WebGPU cannot be used here: {0}")]
    NoGpu(String),
    /// The GPU failed while running.
    #[error("the GPU failed: {0}")]
    Gpu(String),
    /// A file could not be read or written.
    #[error("{0}")]
    Io(String),
}

impl Error {
    /// A stable name for programs; the sentence is for people and may change.
    pub fn code(&self) -> &'static str {
        match self {
            Error::Format(_) => "format",
            Error::MissingTensor { .. } => "missing-tensor",
            Error::ExtraTensor { .. } => "extra-tensor",
            Error::TensorShape { .. } => "tensor-shape",
            Error::TensorType { .. } => "tensor-type",
            Error::NotFinite { .. } => "not-finite",
            Error::Metadata { .. } => "metadata",
            Error::Shape { .. } => "shape",
            Error::UnknownNode(_) => "unknown-node",
            Error::Argument(_) => "argument",
            Error::Image(_) => "image",
            Error::Import(_) | Error::Unprepared => "import",
            Error::Memory { .. } => "memory",
            Error::NoGpu(_) => "no-gpu",
            Error::Gpu(_) => "gpu",
            Error::Io(_) => "io",
        }
    }

    /// The layer, tensor, node or metadata key the error is about, where there is one.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Error::MissingTensor { name, .. }
            | Error::ExtraTensor { name, .. }
            | Error::TensorShape { name, .. }
            | Error::TensorType { name, .. }
            | Error::NotFinite { name, .. } => Some(name),
            Error::Metadata { key, .. } => Some(key),
            Error::Shape { layer, .. } => Some(layer),
            Error::UnknownNode(name) => Some(name),
            Error::Unprepared => Some("preprocessing"),
            _ => None,
        }
    }
}

/// A tensor's dimensions as a person writes them: `64x3x7x7`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dims(pub Vec<usize>);

impl From<&[usize]> for Dims {
    fn from(dims: &[usize]) -> Self {
        Dims(dims.to_vec())
    }
}

impl fmt::Display for Dims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("scalar");
        }
        for (i, d) in self.0.iter().enumerate() {
            write!(f, "{}{d}", if i == 0 { "" } else { "x" })?;
        }
        Ok(())
    }
}
