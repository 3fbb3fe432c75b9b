//! Every operation in a browser, against the f64 reference: on WebGPU and in wasm.
#![cfg(target_arch = "wasm32")]

mod common;

use common::{CPU, Case, ENGINES, HARDWARE, SOFTWARE, cases, check};
use googlenet::engine::Backend::{Auto, Gpu};
use googlenet::engine::{Engine, Options};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

// Where the page runs its engine too.
wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// As many cases of an operation as a software adapter runs in seconds, spread over the list. The whole
/// list runs natively.
const HANDFUL: usize = 3;

/// Checks every case in wasm, a handful on the GPU. A failure ends the test with what differs.
async fn check_all(options: Options, cases: Vec<Case>) {
    let step = if options.backend == Gpu { cases.len().div_ceil(HANDFUL) } else { 1 };
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
            async fn gpu_by_hardwares_kernels() {
                check_all(HARDWARE, cases::$name()).await;
            }

            #[wasm_bindgen_test]
            async fn gpu_by_softwares_kernels() {
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
