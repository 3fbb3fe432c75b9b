//! GoogLeNet (Inception v1) on WebGPU, WebAssembly SIMD and the command line.
//!
//! The floors of the house, each importing only from those above it:
//!
//! - [`error`], [`tensor`], [`op`], [`image`], [`tiles`]: values, what an operation does to shapes, pictures in and out
//! - [`network`], [`googlenet`], [`summary`], [`weights`]: the paper's table as data, and a model file's tensors
//! - [`model`]: network, weights, labels and preprocessing from one file
//! - [`plan`]: what runs in which order and where it writes

pub mod error;
pub mod googlenet;
pub mod image;
pub mod model;
pub mod network;
pub mod op;
pub mod plan;
pub mod summary;
pub mod tensor;
pub mod tiles;
pub mod weights;

pub use error::{Error, Result};
