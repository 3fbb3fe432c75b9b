//! Every operation in a browser, on WebGPU and in WebAssembly, compared with the f64 reference.
#![cfg(target_arch = "wasm32")]

mod common;

use common::{CPU, Case, ENGINES, HARDWARE, SOFTWARE, cases, check};
use googlenet::engine::Backend::{Auto, Gpu};
use googlenet::engine::{Engine, Options};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

// The page runs its engine in a dedicated worker, too.
wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The number of cases of each operation on the GPU, spread over the list, because software adapters are slow. The
/// native tests run all cases.
const CASES_ON_GPU: usize = 3;

/// Checks every case on the CPU, or a few cases on the GPU. Panics with the difference if a check fails.
async fn check_all(options: Options, cases: Vec<Case>) {
    let step = if options.backend == Gpu { cases.len().div_ceil(CASES_ON_GPU) } else { 1 };
    for case in cases.iter().step_by(step) {
        if let Err(difference) = check(options, case).await {
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
                check_all(CPU, cases::$name()).await;
            }

            #[wasm_bindgen_test]
            async fn gpu_with_hardware_kernels() {
                check_all(HARDWARE, cases::$name()).await;
            }

            #[wasm_bindgen_test]
            async fn gpu_with_software_kernels() {
                check_all(SOFTWARE, cases::$name()).await;
            }
        }
    )*};
}

operations!(conv pool lrn concat dense softmax fused);

#[wasm_bindgen_test]
async fn stats() {
    for options in ENGINES {
        common::stats::check(options).await.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// `webdriver.json` requests Chromium's software adapter.
#[wasm_bindgen_test]
async fn the_adapter_is_reported() {
    let case = &cases::softmax()[0];
    let engine = |backend| async move { Engine::new(case.model().unwrap(), backend).await.unwrap().info().clone() };
    let gpu = engine(Gpu).await;
    assert_eq!(gpu.backend, "gpu");
    assert!(gpu.adapter.to_lowercase().contains("swiftshader"), "{}", gpu.adapter);
    let auto = engine(Auto).await;
    assert_eq!(auto.backend, "cpu", "a software adapter is slower than the CPU path: {}", auto.reason);
    assert!(auto.adapter.contains("simd128"), "{}", auto.adapter);
}
