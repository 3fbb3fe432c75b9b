//! Zip archives: `.keras`, which has the weights in it, and `.pth`, which is not read.

use crate::error::{Error, Result};
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::result::ZipError;

/// Where `.keras` keeps its weights.
const WEIGHTS: &str = "model.weights.h5";
/// GoogLeNet's size with 1000 classes and some more; what an archive claims beyond it, and beyond
/// [`MAX_RATIO`] times its own size, is not unpacked.
const MAX_BYTES: u64 = 1 << 26;
/// Random numbers do not deflate to a sixteenth.
const MAX_RATIO: u64 = 16;

pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04")
}

/// The weights of a `.keras` file.
pub(super) fn weights(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    if archive.file_names_raw().any(|name| name.ends_with(b"data.pkl")) {
        return Err(pickle());
    }
    let file = match archive.by_name(WEIGHTS) {
        Ok(file) => file,
        Err(ZipError::FileNotFound) => {
            let reason = format!("it is a zip archive without {WEIGHTS}, so no .keras file");
            return Err(Error::Import(reason));
        }
        Err(error) => return Err(damaged(error)),
    };
    let most = (bytes.len() as u64).saturating_mul(MAX_RATIO).saturating_add(MAX_BYTES);
    let mut weights = Vec::new();
    file.take(most + 1).read_to_end(&mut weights).map_err(|e| Error::Import(format!("{WEIGHTS} in it: {e}")))?;
    if weights.len() as u64 > most {
        return Err(Error::Import(format!("{WEIGHTS} in it is far larger than GoogLeNet")));
    }
    Ok(weights)
}

/// A pickle is a program, and reading one is running it.
pub(super) fn pickle() -> Error {
    Error::Import(
        "it is a PyTorch pickle, which can run any code when it is read; make it a safetensors file in Python: \
         import torch, safetensors.torch as st; \
         st.save_file(torch.load(\"model.pth\", map_location=\"cpu\", weights_only=True), \"model.safetensors\")"
            .into(),
    )
}

fn damaged(error: ZipError) -> Error {
    Error::Import(format!("the zip archive is damaged: {error}"))
}
