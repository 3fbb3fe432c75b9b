//! Shortens the names of a module's imports. The names that wasm-bindgen generates end in sixteen hexadecimal digits,
//! which do not compress, and which are downloaded twice: with the module and with its script.

use anyhow::{Context, Result};
use std::collections::HashMap;
use std::ops::Range;
use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{ImportSection, Module, RawSection};
use wasmparser::{Parser, Payload};

/// Shortens the names of the functions that a module imports from its script, in both of them.
pub fn shorten(module: &[u8], script: &str) -> Result<(Vec<u8>, String)> {
    let mut names = HashMap::new();
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if let Payload::ImportSection(imports) = payload {
            let mut shorter = ImportSection::new();
            for import in imports.into_imports() {
                let import = import?;
                let ty = RoundtripReencoder.entity_type(import.ty).context("an import of no known type")?;
                let next = short(names.len());
                // Only the names of functions that wasm-bindgen generates may change. Other code may rely on other
                // names.
                let is_generated = import.name.starts_with("__wb");
                let name = if is_generated { names.entry(import.name).or_insert(next).as_str() } else { import.name };
                shorter.import(import.module, name, ty);
            }
            out.section(&shorter);
        } else if let Some((id, range)) = payload.as_section() {
            out.section(&RawSection { id, data: bytes(module, range) });
        }
    }
    Ok((out.finish(), renamed(script, &names)))
}

fn bytes(module: &[u8], range: Range<u64>) -> &[u8] {
    &module[range.start as usize..range.end as usize]
}

/// Renames properties in the script. Each of them begins a line of the object that the module imports.
fn renamed(script: &str, names: &HashMap<&str, String>) -> String {
    let line = |line: &str| {
        let property = line.trim_start().split_once(": ");
        match property.and_then(|(name, value)| Some(format!("{}: {value}", names.get(name)?))) {
            Some(line) => line + "\n",
            None => line.to_owned() + "\n",
        }
    };
    script.lines().map(line).collect()
}

/// Returns `a` to `z`, `ba`, `bb` and so on.
fn short(mut n: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
        if n == 0 {
            return letters.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use wasm_encoder::{CodeSection, EntityType, Function, FunctionSection, MemoryType, TypeSection};

    #[test]
    fn a_module_and_its_script_agree() {
        let mut types = TypeSection::new();
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        let memory = MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None };
        imports.import("./a_bg.js", "memory", EntityType::Memory(memory));
        imports.import("./a_bg.js", "__wbg_call_0123456789abcdef", EntityType::Function(0));
        imports.import("./a_bg.js", "__wbindgen_cast_01", EntityType::Function(0));
        let mut functions = FunctionSection::new();
        functions.function(0);
        let mut code = CodeSection::new();
        let mut body = Function::new([]);
        body.instructions().call(1).end();
        code.function(&body);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&code);
        let module = module.finish();
        let script = "    memory: memory,\n    __wbg_call_0123456789abcdef: function() {},\n    \
                      __wbindgen_cast_01: function() { return other; },\nother: here\n";

        let (short, renamed) = shorten(&module, script).unwrap();
        assert_eq!(renamed, "    memory: memory,\na: function() {},\nb: function() { return other; },\nother: here\n");
        let read = |module: &[u8]| -> (Vec<String>, Vec<Vec<u8>>) {
            let (mut names, mut others) = (Vec::new(), Vec::new());
            for payload in Parser::new(0).parse_all(module).map(Result::unwrap) {
                match payload {
                    Payload::ImportSection(all) => names.extend(all.into_imports().map(|i| i.unwrap().name.to_owned())),
                    other => others.extend(other.as_section().map(|(_, range)| bytes(module, range).to_vec())),
                }
            }
            (names, others)
        };
        let ((names, others), (_, before)) = (read(&short), read(&module));
        assert_eq!(names, ["memory", "a", "b"]);
        assert_eq!(others, before, "nothing else changes");
    }

    #[test]
    fn short_names_are_different() {
        let all: HashSet<String> = (0..2000).map(short).collect();
        assert_eq!(all.len(), 2000);
    }
}
