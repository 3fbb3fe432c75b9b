//! The algorithm by which the CPU engine computes each layer of GoogLeNet, and the multiply-adds that it executes.
//! These change only when the choice of algorithms is changed on purpose.
#![cfg(not(target_arch = "wasm32"))]

use googlenet::engine::{Backend, Engine};
use googlenet::model::Model;
use pollster::block_on;

/// The algorithm of a convolution, by the end of its name and the height of its output.
fn expected(layer: &str, height: usize) -> &'static str {
    match layer.rsplit('/').next().unwrap() {
        "7x7_s2" => "phases, Winograd F(3,4)",
        // Tiles of 4x4 outputs would leave half of the tiles of a 7x7 map empty, and need more than twice as many
        // weights.
        "3x3" if height > 7 => "Winograd F(4,3)",
        "3x3" => "Winograd F(2,3)",
        "5x5" => "Winograd F(2,5)",
        _ => "GEMM",
    }
}

#[test]
fn each_layer_has_its_algorithm() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/www/models/cifar10.safetensors");
    let model = Model::from_bytes(std::fs::read(path).unwrap()).unwrap().without_heads().unwrap();
    let engine = block_on(Engine::new(model, Backend::Cpu)).unwrap();
    let network = &engine.model().network;
    let (mut direct, mut executed) = (0, 0);
    for (id, node) in network.nodes().iter().enumerate() {
        let how = engine.algorithm(id).unwrap();
        if network.params(id) == 0 {
            assert_eq!((how.algorithm.as_str(), how.executed), (node.op.kind(), 0), "{}", node.name);
            continue;
        }
        assert_eq!(how.algorithm, expected(&node.name, node.shape.h), "{}", node.name);
        match how.algorithm.as_str() {
            "GEMM" => assert_eq!(how.executed, network.macs(id), "{}", node.name),
            // The largest possible ratio of the direct algorithm's multiply-adds to those of each Winograd scheme: 36
            // products replace 16 * 9, 16 replace 4 * 9, 36 replace 4 * 25, and in the first layer 36 * 12 replace 9 *
            // 147.
            scheme => {
                let saved = network.macs(id) as f64 / how.executed as f64;
                let most = match scheme {
                    "Winograd F(4,3)" => 4.0,
                    "Winograd F(2,3)" => 2.25,
                    "Winograd F(2,5)" => 100.0 / 36.0,
                    _ => 9.0 * 147.0 / 432.0,
                };
                assert!(saved > 0.74 * most && saved <= most, "{}: {saved} of {most}", node.name);
            }
        }
        direct += network.macs(id);
        executed += how.executed;
    }
    // Millions of multiply-adds.
    assert_eq!((direct / 1_000_000, executed / 1_000_000), (1568, 726));
}
