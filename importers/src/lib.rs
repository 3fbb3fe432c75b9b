//! The importers as a WebAssembly module of their own: HDF5 and its like weigh nearly as much as the
//! engine, and only a page on which somebody drops another framework's file needs them.
#![cfg(target_arch = "wasm32")]
#![deny(unsafe_code)]

use googlenet::import::{Options, import};
use googlenet::wasm::{report_panics, thrown};
use wasm_bindgen::prelude::*;

/// Another framework's file as a model file of ours. `name` is the file's.
#[wasm_bindgen]
pub fn convert(file: &[u8], name: &str) -> Result<Vec<u8>, JsValue> {
    report_panics();
    let source = Some(format!("imported from {name}"));
    let options = Options { name: Some(name.to_owned()), source, half: true, ..Options::default() };
    Ok(import(file, &options).map_err(thrown)?.bytes)
}
