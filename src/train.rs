//! Training: data sets, a classifier on top of a finished network, the training of a network, and what models are judged by.

pub mod augment;
pub mod checkpoint;
#[cfg(not(target_arch = "wasm32"))]
pub mod dataset;
pub mod head;
pub mod history;
pub mod metrics;
pub mod plot;
pub mod progress;
pub mod schedule;
pub mod split;
pub mod trainer;
