//! A run on the CPU allocates only what it returns.
#![cfg(not(target_arch = "wasm32"))]

use googlenet::engine::{Backend, Engine, Options};
use googlenet::graph::tensor::Tensor;
use googlenet::model::Model;
use googlenet::plan::Input;
use pollster::block_on;
use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all calls are forwarded to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: guaranteed by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn engine(threads: usize) -> Engine {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");
    let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap();
    block_on(Engine::with(
        model,
        Options { backend: Backend::Cpu, threads: NonZeroUsize::new(threads), ..Options::default() },
    ))
    .unwrap()
}

// This file has only one test, because the counters are for the whole process.
#[test]
fn a_run_allocates_what_it_hands_out() {
    for threads in [1, 2] {
        let mut engine = engine(threads);
        let network = &engine.model().network;
        let input = Tensor::zeros(network.node(network.inputs().next().unwrap()).shape);
        let mut run = || {
            let before = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
            let output = block_on(engine.run_input(Input::Tensors(&[&input]))).unwrap();
            let after = (COUNT.load(Ordering::Relaxed), BYTES.load(Ordering::Relaxed));
            assert_eq!(output.heads.len(), 3);
            (after.0 - before.0, after.1 - before.1)
        };
        // The first run makes the plan with its buffers and tasks.
        let first = run();
        assert!(first.1 > 10 << 20, "the counting works: {first:?}");
        let (count, bytes) = run();
        println!("{threads} threads: {count} allocations of {bytes} bytes a run");
        // Three heads, each with its name and ten probabilities, and the vectors that hold them.
        assert!(count <= 20 && bytes <= 2048, "{threads} threads: {count} allocations of {bytes} bytes");
        assert_eq!(run(), (count, bytes));
    }
}
