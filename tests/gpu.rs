//! What a run asks of the GPU.

#![cfg(not(target_arch = "wasm32"))]

use googlenet::engine::{Backend, Engine};
use googlenet::gpu::Counts;
use googlenet::image::{Crop, Image};
use googlenet::model::Model;
use googlenet::plan::Input;
use pollster::block_on;

fn bundled() -> Engine {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
    let model = Model::from_bytes(std::fs::read(path).expect("the bundled model")).expect("a model");
    block_on(Engine::new(model, Backend::Gpu)).expect("an adapter")
}

fn run(engine: &mut Engine, pictures: usize) -> Counts {
    let rgba = (0..64 * 48 * 4).map(|i| (i * 7 % 251) as u8).collect();
    let image = Image::new(64, 48, rgba).expect("a picture");
    block_on(engine.run_input(Input::Images(&vec![&image; pictures], Crop::Center))).expect("an answer");
    engine.gpu_counts().expect("a GPU")
}

#[test]
fn a_run_makes_nothing_and_is_one_submit_and_one_map() {
    let mut engine = bundled();
    let loaded = engine.gpu_counts().expect("a GPU");
    let first = run(&mut engine, 1);
    assert_eq!(first.pipelines, loaded.pipelines, "the first picture compiles nothing");
    let second = run(&mut engine, 1);
    assert_eq!(
        second,
        Counts { submits: first.submits + 1, maps: first.maps + 1, dispatches: 2 * first.dispatches, ..first }
    );
    // It can fail: another batch needs other buffers.
    let batch = run(&mut engine, 2);
    assert!(batch.buffers > second.buffers);
}
