//! The paths of the repository.

use std::env;
use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

pub fn www() -> PathBuf {
    root().join("www")
}

/// The folder of cargo's build output.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of reference data, with which tests compare, and whose model is served if the ImageNet model is missing:
/// `GOOGLENET_REFERENCE`, or `../shared` if it exists.
pub fn reference() -> Option<PathBuf> {
    let folder = match env::var_os("GOOGLENET_REFERENCE") {
        Some(path) => PathBuf::from(path),
        None => root().join("../shared"),
    };
    folder.canonicalize().ok().filter(|p| p.is_dir())
}
