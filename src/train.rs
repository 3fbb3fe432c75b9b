//! Pieces of training that need no engine, and training itself.

pub mod augment;
pub mod checkpoint;
pub mod history;
mod numbers;
pub mod optimiser;
pub mod plot;
pub mod progress;
pub mod schedule;
