//! GoogLeNet (Inception v1) on WebGPU, WebAssembly SIMD and the command line.
//!
//! The floors of the house, each importing only from those above it:
//!
//! - [`error`], [`tensor`], [`op`], [`image`], [`tiles`], [`stats`]: values, what an operation does to shapes, pictures
//!   in and out, activations as pictures and in numbers
//! - [`network`], [`googlenet`], [`summary`], [`weights`]: the paper's table as data, and a model file's tensors
//! - [`model`]: network, weights, labels and preprocessing from one file
//! - [`plan`], [`import`]: what runs in which order and where it writes; files of other frameworks
//! - [`cpu`], [`gpu`]: the two ways to run a plan, one file an operation on either side
//! - `selfcheck`: whether a GPU computes what a plain computation of a few layers does
//! - [`engine`]: run a plan, read any node, time each step
//! - [`explain`]: class activation maps, contributions, ablation: arithmetic over activations
//! - `wasm`: the only file that knows JavaScript
//!
//! The features `cpu` and `gpu` choose the engines that are built in. A program has both; a module for browsers has one,
//! since each visitor runs, and so should download, only one.

// The files that need it say so, and why; all of them are the CPU's.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "cpu")]
pub mod cpu;
#[cfg(not(feature = "cpu"))]
#[path = "cpu/absent.rs"]
pub mod cpu;
#[cfg(any(feature = "cpu", feature = "gpu"))]
pub mod engine;
pub mod error;
#[cfg(any(feature = "cpu", feature = "gpu"))]
pub mod explain;
pub mod googlenet;
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu/absent.rs"]
pub mod gpu;
pub mod image;
#[cfg(feature = "import")]
pub mod import;
pub mod model;
pub mod network;
pub mod op;
pub mod plan;
#[cfg(feature = "gpu")]
mod selfcheck;
pub mod stats;
pub mod summary;
pub mod tensor;
pub mod tiles;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
pub mod weights;
#[cfg(any(feature = "cpu", feature = "gpu"))]
mod winograd;

pub use error::{Error, Result};
