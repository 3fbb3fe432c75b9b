//! Training: what a training reads, how it goes on, and what it leaves.

pub mod augment;
pub mod checkpoint;
pub mod history;
pub mod plot;
pub mod progress;
pub mod schedule;
pub mod trainer;
