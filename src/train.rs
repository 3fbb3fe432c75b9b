//! Pieces of training that need no engine, and training itself.

mod numbers;
pub mod optimiser;
pub mod schedule;
