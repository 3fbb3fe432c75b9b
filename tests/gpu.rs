//! The work that a run submits to the GPU.

#![cfg(not(target_arch = "wasm32"))]

use googlenet::engine::{Backend, Engine};
use googlenet::gpu::Counts;
use googlenet::model::Model;
use googlenet::model::preprocess::{Crop, Image};
use googlenet::plan::Input;
use pollster::block_on;

fn bundled() -> Engine {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10-noheads.safetensors");
    let model = Model::from_bytes(std::fs::read(path).expect("the bundled model")).expect("a model");
    block_on(Engine::new(model, Backend::Gpu)).expect("an adapter")
}

fn run(engine: &mut Engine, pictures: usize) -> Counts {
    let image = picture(7);
    block_on(engine.run_input(Input::Images(&vec![&image; pictures], Crop::Center))).expect("an answer");
    engine.gpu_counts().expect("a GPU")
}

fn picture(step: usize) -> Image {
    Image::new(64, 48, (0..64 * 48 * 4).map(|i| (i * step % 251) as u8).collect()).expect("a picture")
}

#[test]
fn two_runs_may_be_in_progress() {
    let mut engine = bundled();
    let pictures = [picture(7), picture(11)];
    let alone = pictures.each_ref().map(|image| block_on(engine.run(image)).expect("an answer").heads);
    assert_ne!(alone[0], alone[1], "the pictures are told apart");
    let before = engine.gpu_counts().expect("a GPU");
    let mut start = |image: &Image| block_on(engine.start_input(Input::Images(&[image], Crop::Center)));
    let [first, second] = pictures.each_ref().map(|image| start(image).expect("a run"));
    let busy = start(&pictures[0]).err().expect("a third has no buffer to bring its results");
    assert_eq!(busy.code(), "argument");
    // The results may be read in any order.
    let second = block_on(second).expect("an answer").heads;
    let first = block_on(first).expect("an answer").heads;
    assert_eq!([first, second], alone);
    drop(start(&pictures[0]).expect("a run that nobody waits for"));
    assert_eq!(block_on(engine.run(&pictures[1])).expect("an answer").heads, alone[1]);
    let after = engine.gpu_counts().expect("a GPU");
    assert_eq!((after.buffers, after.pipelines), (before.buffers, before.pipelines));
}

#[test]
fn a_run_allocates_nothing_and_takes_one_submit_and_one_map() {
    let mut engine = bundled();
    let loaded = engine.gpu_counts().expect("a GPU");
    let first = run(&mut engine, 1);
    assert_eq!(first.pipelines, loaded.pipelines, "the first picture compiles nothing");
    let second = run(&mut engine, 1);
    assert_eq!(
        second,
        Counts { submits: first.submits + 1, maps: first.maps + 1, dispatches: 2 * first.dispatches, ..first }
    );
    // Negative control: another batch size needs new buffers.
    let batch = run(&mut engine, 2);
    assert!(batch.buffers > second.buffers);
}

/// TypeScript decides which module to fetch by the names of software adapters, before any engine exists.
#[test]
fn the_package_knows_the_engines_software_adapters() {
    let names = |file: &str| -> Vec<String> {
        let text = std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let (_, list) = text.split_once("const SOFTWARE").and_then(|(_, rest)| rest.split_once("= [")).unwrap();
        let (list, _) = list.split_once(']').unwrap();
        list.split(',').map(|name| name.trim().trim_matches(['"', '\'']).to_owned()).collect()
    };
    let engine = names("src/gpu/device.rs");
    assert!(engine.contains(&"llvmpipe".to_owned()), "{engine:?}");
    assert_eq!(names("www/package/loading/adapter.ts"), engine);
}
