//! The importers as a WebAssembly module of their own: HDF5 and its like weigh nearly as much as the
//! engine, and only a page on which somebody drops another framework's file needs them.
#![cfg(target_arch = "wasm32")]
#![deny(unsafe_code)]

use googlenet::bindings::{report_panics, thrown};
use googlenet::error::Error;
use googlenet::model::import::{Options, import};
use googlenet::model::preprocess::Order;
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// What the file does not say, as JSON has it.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Further {
    labels: Option<Vec<String>>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    scale: Option<f32>,
    order: Option<Order>,
}

/// Another framework's file as a model file of ours. `name` is the file's, `further` what it does not say: JSON of
/// `labels`, `mean`, `std`, `scale` and `order`, each as in [`Options`].
#[wasm_bindgen]
pub fn convert(file: &[u8], name: &str, further: &str) -> Result<Vec<u8>, JsValue> {
    report_panics();
    let wrong = |e: serde_json::Error| thrown(Error::Argument(format!("`imported` cannot be used: {e}")));
    let Further { labels, mean, std, scale, order } = serde_json::from_str(further).map_err(wrong)?;
    let source = Some(format!("imported from {name}"));
    let name = Some(name.to_owned());
    let options = Options { name, source, labels, mean, std, scale, order, variant: None, half: true };
    Ok(import(file, &options).map_err(thrown)?.bytes)
}
