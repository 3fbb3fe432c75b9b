//! Every operation in a browser, against the f64 reference: on WebGPU and in wasm.
#![cfg(target_arch = "wasm32")]

mod common;

use common::{Case, cases, check};
use googlenet::engine::Backend::{self, Auto, Cpu, Gpu};
use googlenet::engine::Engine;
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

// Where the page runs its engine too.
wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// As many cases of an operation as a software adapter runs in seconds, spread over the list. The whole
/// list runs natively.
const HANDFUL: usize = 3;

/// Checks every case in wasm, a handful on the GPU. A failure ends the test with what differs.
async fn check_all(backend: Backend, cases: Vec<Case>) {
    let step = if backend == Gpu { cases.len().div_ceil(HANDFUL) } else { 1 };
    for case in cases.iter().step_by(step) {
        if let Err(difference) = check(backend, case).await {
            panic!("{difference}");
        }
    }
}

macro_rules! operations {
    ($($name:ident)*) => {$(
        mod $name {
            use super::*;

            #[wasm_bindgen_test]
            async fn cpu() {
                check_all(Cpu, cases::$name()).await;
            }

            #[wasm_bindgen_test]
            async fn gpu() {
                check_all(Gpu, cases::$name()).await;
            }
        }
    )*};
}

operations!(conv pool lrn concat dense softmax);

#[wasm_bindgen_test]
async fn stats() {
    for backend in [Cpu, Gpu] {
        common::stats::check(backend).await.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// webdriver.json asks for Chromium's software adapter.
#[wasm_bindgen_test]
async fn the_adapter_is_what_it_says() {
    let case = &cases::softmax()[0];
    let engine = |backend| async move { Engine::new(case.model().unwrap(), backend).await.unwrap().info().clone() };
    let gpu = engine(Gpu).await;
    assert_eq!(gpu.backend, "gpu");
    assert!(gpu.adapter.to_lowercase().contains("swiftshader"), "{}", gpu.adapter);
    let auto = engine(Auto).await;
    assert_eq!(auto.backend, "cpu", "a software adapter is slower than the CPU path: {}", auto.reason);
    assert!(auto.adapter.contains("simd128"), "{}", auto.adapter);
}
