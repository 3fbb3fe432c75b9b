//! What is fuzzed; each program in `fuzz_targets/` runs one of these.

#![forbid(unsafe_code)]

pub mod targets;
