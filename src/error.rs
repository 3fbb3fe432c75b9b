//! The error type of the whole crate. Every variant has a stable [`Error::code`], which is also the `code` of the error
//! that JavaScript receives.

use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can fail. A variant holds the layer, tensor or byte where the failure happened, if there is one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Format(String),
    /// The file lacks a tensor that the network needs.
    #[error("the model file lacks the tensor \"{name}\" (expected shape {expected})")]
    MissingTensor { name: String, expected: Dims },
    /// The file contains a tensor that no layer of the network reads.
    #[error("the model file has a tensor \"{name}\" {found} that no layer of the {variant} network reads")]
    ExtraTensor { name: String, found: Dims, variant: String },
    /// A tensor does not have the shape that its layer needs.
    #[error("the tensor \"{name}\" has shape {found}, but its layer needs {expected}")]
    TensorShape { name: String, expected: Dims, found: Dims },
    /// The element type of a tensor is not f32, f16 or int8.
    #[error("the tensor \"{name}\" is {found}; expected F32, F16 or I8")]
    TensorType { name: String, found: String },
    /// A weight is NaN or infinite.
    #[error("the tensor \"{name}\" holds {value} at element {index}; every weight must be finite")]
    NotFinite { name: String, index: usize, value: &'static str },
    /// A metadata entry of the model file cannot be used.
    #[error("the model file's metadata entry \"{key}\": {reason}")]
    Metadata { key: String, reason: String },
    /// A layer cannot process an input of this shape.
    #[error("layer \"{layer}\": {reason}")]
    Shape { layer: String, reason: String },
    /// No node of the network has this name.
    #[error("the network has no node \"{0}\"")]
    UnknownNode(String),
    /// An argument is invalid, or the call is not possible now. The message says which argument, and why.
    #[error("{0}")]
    Argument(String),
    /// The picture cannot be decoded or has no pixels.
    #[error("cannot read the picture: {0}")]
    Image(String),
    /// A file of another framework cannot be converted.
    #[error("cannot import this file: {0}")]
    Import(String),
    /// A file of another framework does not say how pictures are preprocessed for its network, and the import options
    /// do not say it either.
    #[error(
        "cannot import this file: it does not say how its pictures were prepared; give the mean of its training set \
         (--mean R,G,B or `imported.mean`; 0,0,0 where none was subtracted)"
    )]
    Unprepared,
    /// There is not enough memory.
    #[error("this needs {} MB of memory, more than there is; fewer pictures at a time need less", bytes / 1_000_000)]
    Memory { bytes: u64 },
    /// There is no usable GPU, or it lacks a feature or limit that the engine needs.
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
    /// A stable name of the kind of error, for programs. The message is for people and may change.
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

    /// The layer, tensor, node or metadata key that the error is about; `None` if there is none.
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

/// A tensor's dimensions, displayed like `64x3x7x7`.
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
