//! Views of activations that both engines implement: contact sheets of channels, and statistics.

pub mod contact_sheet;
pub mod statistics;
