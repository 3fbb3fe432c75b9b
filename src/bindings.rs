//! The interface to JavaScript. Only these files know JavaScript.
//!
//! Every failure is thrown as an `Error` with a message for people, a `code` (see [`Error::code`]) and, where there is
//! one, a `detail`: the layer, tensor or key that the error is about. A panic, which is a bug in this crate, is thrown
//! as an `Error` with the code `internal`; after it the WebAssembly module must be loaded again.

// A module for learning has the learner in place of the engine, so that it is smaller.
#[cfg(all(any(feature = "cpu", feature = "gpu"), not(feature = "train")))]
mod engine;
#[cfg(all(feature = "cpu", target_feature = "atomics"))]
mod helper;
#[cfg(all(any(feature = "cpu", feature = "gpu"), feature = "train"))]
mod learner;
#[cfg(all(feature = "gpu", not(feature = "train")))]
mod prepared;
#[cfg(any(feature = "cpu", feature = "gpu"))]
mod values;

use crate::error::Error;
use js_sys::Reflect;
use std::sync::Once;
use wasm_bindgen::prelude::*;

/// The error as a JavaScript value, to be thrown.
pub fn thrown(error: Error) -> JsValue {
    js_error(error.code(), error.detail(), &error.to_string())
}

fn js_error(code: &str, detail: Option<&str>, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    if let Some(detail) = detail {
        let _ = Reflect::set(&error, &"detail".into(), &detail.into());
    }
    error.into()
}

/// Installs a panic hook that throws an `Error` with the code `internal` and the panic's message, in place of a bare
/// `unreachable`.
pub fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let what = panic.payload_as_str().unwrap_or("of an unknown kind");
            wasm_bindgen::throw_val(js_error("internal", None, &format!("a bug in the engine: {what}")));
        }));
    });
}
