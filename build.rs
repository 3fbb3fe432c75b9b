//! Prepares the shaders for the build: writes `$OUT_DIR/shaders.rs`, with a `Shader` for each file in `shaders`,
//! `shaders/software` and, with the feature `train`, `shaders/backward`. Comments and unnecessary spaces are removed, because every page downloads the text of the
//! shaders.
//!
//! A line `//#include shared/texture.wgsl` includes a piece that several shaders share. A piece is stored once, and put
//! in front of a shader's own text when the shader module is created.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{env, fs, io};

const INCLUDE: &str = "//#include ";

/// Shaders that only native programs have.
const NATIVE: [&str; 1] = ["peak.wgsl"];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=shaders");
    let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
    let mut shaders = BTreeMap::new();
    let mut folders = vec!["shaders", "shaders/software", "shaders/shared"];
    if env::var_os("CARGO_FEATURE_TRAIN").is_some() {
        folders.push("shaders/backward");
    }
    for folder in folders {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                let name = path.strip_prefix("shaders").map_err(io::Error::other)?.to_string_lossy().replace('\\', "/");
                shaders.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    // Without the feature `train`, some pieces are not included by any shader.
    let included: BTreeSet<&str> =
        shaders.values().flat_map(|text| text.lines()).filter_map(|line| line.strip_prefix(INCLUDE)).collect();
    let is_precision = |name: &str| name.starts_with("shared/precision");
    let is_used = |name: &str| !name.starts_with("shared/") || is_precision(name) || included.contains(name);
    let mut rust = String::new();
    for (name, text) in shaders.iter().filter(|(name, _)| is_used(name)) {
        // WGSL has no string literals, so `//` always begins a comment.
        let code = |line: &str| line.split("//").next().unwrap_or_default().to_owned();
        let code: String = text.lines().map(code).collect::<Vec<_>>().join(" ");
        rust += attribute(name);
        rust += &format!("const {}_TEXT: &str = {:?};\n", constant(name), squeezed(&code));
    }
    let mut all = Vec::new();
    for (name, text) in shaders.iter().filter(|(name, _)| !name.starts_with("shared/")) {
        let mut pieces = Vec::new();
        let mut seen = BTreeSet::new();
        for piece in text.lines().filter_map(|line| line.strip_prefix(INCLUDE)) {
            if !shaders.contains_key(piece) || !seen.insert(piece) {
                return Err(io::Error::other(format!("shaders/{name} includes {piece}, which is not there, or twice")));
            }
            pieces.push(format!("{}_TEXT", constant(piece)));
        }
        let shader = constant(name);
        pieces.push(format!("{shader}_TEXT"));
        let (label, pieces) = (name.trim_end_matches(".wgsl"), pieces.join(", "));
        rust += attribute(name);
        rust += &format!("pub static {shader}: Shader = Shader {{ name: {label:?}, pieces: &[{pieces}] }};\n");
        all.push(format!("&{shader}"));
    }
    rust += "/// Every shader.\n#[cfg(not(target_arch = \"wasm32\"))]\n";
    rust += &format!("pub static ALL: [&Shader; {}] = [{}];\n", all.len(), all.join(", "));
    fs::write(Path::new(&out).join("shaders.rs"), rust)
}

/// The attribute in front of a shader's constants.
fn attribute(name: &str) -> &'static str {
    if NATIVE.contains(&name) { "#[cfg(not(target_arch = \"wasm32\"))]\n" } else { "" }
}

/// The name of a file's constant, such as `SOFTWARE_POOL` for `software/pool.wgsl`.
fn constant(name: &str) -> String {
    name.trim_end_matches(".wgsl").replace('/', "_").to_uppercase()
}

/// Reduces white space to single spaces, and only where they are needed: between two words, and between two minus
/// signs, which would otherwise become a decrement operator.
fn squeezed(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::new();
    for word in text.split_whitespace() {
        if let (Some(last), Some(next)) = (out.chars().last(), word.chars().next())
            && (is_word(last) && is_word(next) || last == '-' && next == '-')
        {
            out.push(' ');
        }
        out.push_str(word);
    }
    out
}
