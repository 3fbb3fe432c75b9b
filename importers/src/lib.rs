//! The importers as a separate WebAssembly module. The code for HDF5 and the other formats is nearly as large as the
//! engine, and it is needed only when a file of another framework is opened.
#![cfg(target_arch = "wasm32")]
#![deny(unsafe_code)]

use googlenet::bindings::{report_panics, thrown};
use googlenet::error::Error;
use googlenet::model::import::{Options, import};
use googlenet::model::preprocess::Order;
use serde::Deserialize;
use wasm_bindgen::prelude::*;

/// The import options, parsed from JSON.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Further {
    labels: Option<Vec<String>>,
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    scale: Option<f32>,
    order: Option<Order>,
}

/// Converts a file of another framework into a model file. `name` is the file's name. `further` is a JSON object with
/// the optional fields `labels`, `mean`, `std`, `scale` and `order`, see [`Options`]. Throws an error where the file
/// cannot be converted, or where `further` is not valid.
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
