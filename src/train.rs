//! Pieces of training that need no engine, and training itself.

pub mod augment;
mod numbers;
pub mod optimiser;
pub mod schedule;
