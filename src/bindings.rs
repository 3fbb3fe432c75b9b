//! What JavaScript sees. The only files that know JavaScript.
//!
//! Every failure is an `Error` with a `code` (see [`Error::code`]), a `detail` where there is one (the
//! layer, tensor or key it is about) and a sentence a person can act on. A panic, which is a fault of
//! ours, is thrown as an `Error` of code `internal`; after it the module must be loaded anew.

#[cfg(any(feature = "cpu", feature = "gpu"))]
mod engine;
#[cfg(feature = "gpu")]
mod prepared;

use crate::error::Error;
use js_sys::Reflect;
use std::sync::Once;
use wasm_bindgen::prelude::*;

/// An error as JavaScript sees it.
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

/// Makes a panic a thrown `Error` of code `internal` that says what, instead of a bare `unreachable`.
pub fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let what = panic.payload_as_str().unwrap_or("of an unknown kind");
            wasm_bindgen::throw_val(js_error("internal", None, &format!("a fault in the engine: {what}")));
        }));
    });
}
