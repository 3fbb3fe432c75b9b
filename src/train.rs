//! Training: a classifier on top of a finished network, data sets, and what a training is judged by.

#[cfg(not(target_arch = "wasm32"))]
pub mod dataset;
pub mod head;
pub mod metrics;
pub mod split;
