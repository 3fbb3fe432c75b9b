//! Values for JavaScript.

use super::js_error;
use js_sys::{Float32Array, JSON, Object, Reflect};
use serde::Serialize;
use wasm_bindgen::prelude::*;

/// The value as a plain JavaScript object.
pub fn object(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let json = serde_json::to_string(value).map_err(|e| js_error("internal", None, &e.to_string()))?;
    JSON::parse(&json)
}

pub fn set(object: &Object, key: &str, value: &JsValue) -> Result<(), JsValue> {
    Reflect::set(object, &key.into(), value).map(drop)
}

pub fn floats(values: &[f32]) -> Float32Array {
    Float32Array::from(values)
}
