//! The fuzz targets. Each program in `fuzz_targets/` runs one of them.

#![forbid(unsafe_code)]

pub mod targets;
