//! Helper workers, which share the work of the CPU engine in builds with threads.

use super::report_panics;
use crate::cpu::threads;
use wasm_bindgen::prelude::*;

/// A helper worker: it waits for runs of an engine in another worker, and computes a part of their steps.
#[wasm_bindgen]
pub struct Helper(threads::Helper);

#[wasm_bindgen]
impl Helper {
    /// Makes this worker available to the next engine whose number of threads is set. `work` must be called next.
    pub fn arrive() -> Helper {
        report_panics();
        Helper(threads::Helper::arrive())
    }

    /// Works for the engine, and blocks until the engine is freed or its number of threads is set again. If it throws,
    /// `fail` must be called next.
    pub fn work(&self) {
        self.0.work();
    }

    /// Tells the engine, which may be waiting, that this worker has failed.
    pub fn fail(&self) {
        self.0.fail();
    }
}
