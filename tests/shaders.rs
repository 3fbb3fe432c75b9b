//! Every shader is valid WGSL as stored.

#![cfg(not(target_arch = "wasm32"))]

use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Parses and validates with no more than plain WebGPU offers.
fn check(source: &str) -> Result<naga::Module, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    Validator::new(ValidationFlags::all(), Capabilities::default())
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok(module)
}

fn stored() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut all: Vec<_> = fs::read_dir(folder)
        .expect("the folder of shaders")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read_to_string(path).expect("WGSL is text"))
        })
        .collect();
    all.sort();
    all
}

#[test]
fn every_shader_is_valid_as_stored() {
    let all = stored();
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "concat.wgsl",
            "conv.wgsl",
            "dense.wgsl",
            "lrn.wgsl",
            "peak.wgsl",
            "pool.wgsl",
            "preprocess.wgsl",
            "softmax.wgsl",
            "statistics.wgsl",
            "contact_sheet.wgsl",
            "winograd.wgsl"
        ]
    );
    for (name, source) in &all {
        let module = check(source).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!module.entry_points.is_empty(), "{name} has no entry point");
    }
}

/// As they are where activations and weights are in f16.
#[test]
fn shaders_are_valid_with_activations_and_weights_in_f16() {
    let half = |source: &str| {
        let aliases = [("real = f32", "real = f16"), ("4 = vec4f;", "4 = vec4h;"), ("4 = mat4x4f;", "4 = mat4x4h;")];
        let source = aliases.iter().fold(source.to_owned(), |source, (single, half)| source.replace(single, half));
        format!("enable f16;\n{source}")
    };
    for (name, source) in stored().iter().filter(|(name, _)| name != "peak.wgsl") {
        let module = naga::front::wgsl::parse_str(&half(source)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let valid = |with| Validator::new(ValidationFlags::all(), with).validate(&module).is_ok();
        assert!(valid(Capabilities::SHADER_FLOAT16), "{name}");
        assert!(!valid(Capabilities::default()), "{name} is no other than before");
    }
}

/// WebGPU's defaults: what every device gives without being asked.
#[test]
fn every_shader_keeps_to_the_default_limits() {
    for (name, source) in stored() {
        let module = check(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        for entry in &module.entry_points {
            let threads: u32 = entry.workgroup_size.iter().product();
            assert!(threads <= 256, "{name}: {} has {threads} threads", entry.name);
        }
        let bytes = |space| {
            let of = |v: &naga::GlobalVariable| module.types[v.ty].inner.size(module.to_ctx());
            module.global_variables.iter().filter(|(_, v)| v.space == space).map(|(_, v)| of(v)).sum::<u32>()
        };
        assert!(bytes(naga::AddressSpace::WorkGroup) <= 16 * 1024, "{name}: too much workgroup memory");
        // A step's numbers take one slot of the uniform buffer.
        assert!(bytes(naga::AddressSpace::Uniform) <= 256, "{name}: too many parameters");
        let bindings = |of: fn(&naga::Module, &naga::GlobalVariable) -> bool| {
            let those = module.global_variables.iter().filter(|(_, v)| of(&module, v));
            those.filter_map(|(_, v)| v.binding.map(|b| b.binding)).collect::<BTreeSet<_>>().len()
        };
        let buffers = bindings(|_, v| matches!(v.space, naga::AddressSpace::Storage { .. }));
        assert!(buffers <= 8, "{name}: {buffers} buffers");
        let textures = bindings(|module, v| match &module.types[v.ty].inner {
            naga::TypeInner::Image { class, .. } => matches!(class, naga::ImageClass::Storage { .. }),
            _ => false,
        });
        assert!(textures <= 4, "{name}: {textures} textures that are written");
    }
}

/// What is wrong is refused: the tests above can fail.
#[test]
fn broken_shaders_are_refused() {
    let (_, good) = stored().into_iter().find(|(name, _)| name == "pool.wgsl").expect("pool.wgsl");
    assert!(check(&good).is_ok());
    for (from, to) in [
        ("var sum = 0.0;", "var sum = 0u;"),
        ("@workgroup_size(THREADS)", "@workgroup_size(0)"),
        ("@binding(2)", "@binding(1)"),
        ("rows.x;", "rows.q;"),
    ] {
        assert!(good.contains(from), "{from} is not in the shader");
        assert!(check(&good.replace(from, to)).is_err(), "{to} was accepted");
    }
}
