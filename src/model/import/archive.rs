//! Zip archives: `.keras`, which contains an HDF5 file with the weights, and `.pth`, which cannot be imported.

use crate::error::{Error, Result};
use std::io::{Cursor, Read};
use zip::ZipArchive;
use zip::result::ZipError;

/// The name of the file with the weights in a `.keras` archive.
const WEIGHTS: &str = "model.weights.h5";
/// The weights may be at most this long, a little more than GoogLeNet with 1000 classes, plus [`MAX_RATIO`] times the
/// archive's own size. This limits what a damaged archive is unpacked to.
const MAX_BYTES: u64 = 1 << 26;
/// The largest compression ratio. Trained weights do not compress to a sixteenth.
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
            let reason = format!("it is a zip archive without {WEIGHTS}, so it is not a .keras file");
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

/// The error for PyTorch pickles, which are programs: reading a pickle means running it.
pub(super) fn pickle() -> Error {
    Error::Import(
        "it is a PyTorch pickle, which can run any code when it is read; convert it to safetensors in Python: \
         import torch, safetensors.torch as st; \
         st.save_file(torch.load(\"model.pth\", map_location=\"cpu\", weights_only=True), \"model.safetensors\")"
            .into(),
    )
}

fn damaged(error: ZipError) -> Error {
    Error::Import(format!("the zip archive is damaged: {error}"))
}
