//! Where things are.

use std::env;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

pub fn www() -> PathBuf {
    root().join("www")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder of reference data that tests compare with, and that has a model to serve until one is
/// bundled: `GOOGLENET_REFERENCE`, or `../shared` where there is one.
pub fn reference() -> Option<PathBuf> {
    let folder = match env::var_os("GOOGLENET_REFERENCE") {
        Some(path) => PathBuf::from(path),
        None => root().join("../shared"),
    };
    folder.canonicalize().ok().filter(|p| p.is_dir())
}
