//! GoogLeNet (Inception v1) on WebGPU, WebAssembly SIMD and the command line.
//!
//! ```
//! use googlenet::engine::{Backend, Engine};
//! use googlenet::model::{Model, preprocess::Image};
//! use pollster::block_on;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::from_bytes(std::fs::read("www/models/cifar10.safetensors")?)?;
//! let image = Image::decode(&std::fs::read("www/public/samples/cat.jpg")?)?;
//! let mut engine = block_on(Engine::new(model, Backend::Cpu))?;
//! let output = block_on(engine.run(&image))?;
//! let (class, probability) = output.answer().expect("a network has a classifier").top(0, 1)[0];
//! assert_eq!(engine.model().labels[class], "cat");
//! assert!(probability > 0.5);
//! # Ok(())
//! # }
//! ```
//!
//! The modules, each of which imports only from those above it (`tests/layers.rs` checks this):
//!
//! - [`error`]: what can go wrong, with a code for programs and a sentence for people
//! - [`graph`]: what a network is: tensor shapes, operations, the graph, GoogLeNet as the table of the paper
//! - [`inspect`]: contact sheets and statistics of activations; [`model`]: weights, labels and preprocessing of one file,
//!   and the importers of other frameworks' files
//! - [`plan`]: what runs in which order, and where each layer's output is written
//! - [`cpu`] and [`gpu`]: two ways to run a plan, which do not know each other
//! - [`engine`]: runs a plan on either, reads any layer, measures each step
//! - [`explain`]: class activation maps, contributions and ablation; [`train`]: training a classifier on pictures
//! - `bindings`, the only module that knows JavaScript, and the command line in `src/cli`
//!
//! The features `cpu` and `gpu` choose the engines that are built in. A native program has both. A WebAssembly module has
//! one, because each visitor of a page runs, and so should download, only one.

// The files of the CPU engine that need unsafe code allow it, each with the reason.
#![deny(unsafe_code, clippy::undocumented_unsafe_blocks)]

#[cfg(target_arch = "wasm32")]
pub mod bindings;
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
#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(not(feature = "gpu"))]
#[path = "gpu/absent.rs"]
pub mod gpu;
pub mod graph;
pub mod inspect;
pub mod model;
pub mod plan;
#[cfg(all(feature = "train", any(feature = "cpu", feature = "gpu")))]
pub mod train;

pub use error::{Error, Result};
