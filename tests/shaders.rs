//! Every shader is valid WGSL, together with the pieces that it includes.

#![cfg(not(target_arch = "wasm32"))]

use googlenet::gpu::shader_sources;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Parses and validates a shader with no more capabilities than WebGPU requires.
fn check(source: &str) -> Result<naga::Module, String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|e| e.emit_to_string(source))?;
    Validator::new(ValidationFlags::all(), Capabilities::default())
        .validate(&module)
        .map_err(|e| e.emit_to_string(source))?;
    Ok(module)
}

/// The name and the complete text of every shader in f32.
fn stored() -> Vec<(String, String)> {
    shader_sources().into_iter().map(|(name, [single, _])| (name.to_owned(), single)).collect()
}

/// The names of the files in `shaders`, without extension, that are not pieces of other shaders.
fn files() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let mut all = BTreeSet::new();
    for folder in
        ["", "software", "backward"].into_iter().filter(|&folder| folder != "backward" || cfg!(feature = "train"))
    {
        for entry in fs::read_dir(root.join(folder)).expect("a folder of shaders") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "wgsl") {
                let name = path.strip_prefix(&root).expect("a file in it").with_extension("");
                all.insert(name.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    all
}

#[test]
fn every_shader_is_valid_with_its_pieces() {
    let all = stored();
    let names: BTreeSet<String> = all.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, files());
    for (name, source) in &all {
        let module = check(source).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(!module.entry_points.is_empty(), "{name} has no entry point");
    }
}

#[test]
fn shaders_are_valid_with_activations_and_weights_in_f16() {
    for (name, [single, half]) in shader_sources() {
        let module = naga::front::wgsl::parse_str(&half).unwrap_or_else(|e| panic!("{name}: {e}"));
        let valid = |with| Validator::new(ValidationFlags::all(), with).validate(&module).is_ok();
        assert!(valid(Capabilities::SHADER_FLOAT16), "{name}");
        assert_ne!(single, half, "{name}");
        assert!(!valid(Capabilities::default()), "{name} uses f16");
    }
}

/// The default limits of WebGPU, which every device supports.
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
        // The parameters of a dispatch must fit into one slot of the uniform buffer.
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

/// Negative control: shaders with errors are rejected.
#[test]
fn broken_shaders_are_refused() {
    let (_, good) = stored().into_iter().find(|(name, _)| name == "pool").expect("pool.wgsl");
    assert!(check(&good).is_ok());
    for (from, to) in [
        ("var sum=0.0;", "var sum=0u;"),
        ("@workgroup_size(THREADS)", "@workgroup_size(0)"),
        ("@binding(2)", "@binding(1)"),
        ("rows.x;", "rows.q;"),
    ] {
        assert!(good.contains(from), "{from} is not in the shader");
        assert!(check(&good.replace(from, to)).is_err(), "{to} was accepted");
    }
}
