//! Dependencies point one way: between the top-level modules of `src`, in the order of the diagram in
//! `ARCHITECTURE.md`, and between files, which do not import each other in a cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The top-level modules, lowest first. A module may import only from lower ones; modules on the same line do not
/// import from each other.
const ROOMS: [&[&str]; 8] = [
    &["error"],
    &["graph"],
    &["inspect", "model"],
    &["plan"],
    &["cpu", "gpu"],
    &["engine"],
    &["explain", "train"],
    &["bindings", "cli"],
];

/// The imports between the files of `src`, without unit tests. Files are named by module path, such as `gpu::device`.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    let module = |path: &Path| {
        let path = path.strip_prefix(&root).expect("a file of src").with_extension("");
        path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("::")
    };
    let modules: BTreeSet<String> = files.iter().map(|path| module(path)).collect();
    let mut imports = BTreeMap::new();
    for path in &files {
        let own = module(path);
        // The replacement of an engine that is not built belongs to the place of that engine.
        if ["lib", "main"].contains(&own.as_str()) || own.ends_with("absent") {
            continue;
        }
        let text = fs::read_to_string(path).expect("a readable file");
        let code = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.split("\n#[cfg(all(test").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        // In a module within the file, `super` is the file itself.
        let lines = lines.filter(|line| !line.starts_with("    use super::"));
        let paths = lines.flat_map(paths);
        let resolved = paths.filter_map(|path| resolve(&own, &path, &modules)).filter(|other| *other != own);
        let mut others: BTreeSet<String> = resolved.collect();
        // A module names its own submodules without a prefix.
        let children = modules.iter().filter(|name| name.rsplit_once("::").is_some_and(|(parent, _)| parent == own));
        others.extend(children.filter(|child| names(code, child.rsplit("::").next().unwrap_or(child))).cloned());
        imports.insert(own.clone(), others);
    }
    imports
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The paths in a line that begin with `crate::`, `super::` or, in the files of the command line, `googlenet::`. A list
/// in braces is expanded.
fn paths(line: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for root in ["crate::", "super::", "googlenet::"] {
        for (at, _) in line.match_indices(root) {
            let before = line[..at].chars().next_back();
            // `pub(in path)` imports nothing.
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') || line[..at].ends_with("(in ") {
                continue;
            }
            let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let rest = &line[at..];
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let base = rest[..end].trim_end_matches(':');
            let split = |path: &str| path.split("::").map(|part| part.trim().to_owned()).collect::<Vec<_>>();
            match rest[end..].strip_prefix('{').and_then(|list| list.split_once('}')) {
                Some((list, _)) => found.extend(list.split(',').map(|item| split(&format!("{base}::{item}")))),
                None => found.push(split(base)),
            }
        }
    }
    found
}

/// Whether code names something of a module, as in `device::open`.
fn names(code: &str, module: &str) -> bool {
    let path = format!("{module}::");
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut before = lines.flat_map(|line| line.match_indices(&path).map(|(at, _)| line[..at].chars().next_back()));
    before.any(|c| !c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':'))
}

/// The file that contains the item of a path: the deepest module of the path that has a file of its own.
fn resolve(own: &str, path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for (at, part) in path.iter().enumerate() {
        match part.as_str() {
            "crate" | "googlenet" if at == 0 => {}
            "super" => {
                if at == 0 {
                    parts = own.split("::").collect();
                }
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (1..=parts.len()).rev().map(|length| parts[..length].join("::")).find(|name| modules.contains(name))
}

fn room(module: &str) -> usize {
    let name = module.split("::").next().unwrap_or_default();
    ROOMS
        .iter()
        .position(|rooms| rooms.contains(&name))
        .unwrap_or_else(|| panic!("{name} is in no room: add it to ROOMS"))
}

#[test]
fn rooms_import_only_from_those_below() {
    let mut wrong = Vec::new();
    for (module, others) in imports() {
        for other in others {
            let same = module.split("::").next() == other.split("::").next();
            if !same && room(&other) >= room(&module) {
                wrong.push(format!("{module} imports from {other}"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that go up:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut left = imports();
    // Files that import from no remaining file are removed repeatedly. Cycles remain.
    loop {
        let names: BTreeSet<String> = left.keys().cloned().collect();
        let before = left.len();
        left.retain(|_, others| others.iter().any(|other| names.contains(other)));
        if left.len() == before {
            break;
        }
    }
    // Then files from which no remaining file imports are removed, so that only cycles remain.
    loop {
        let imported: BTreeSet<String> = left.values().flatten().cloned().collect();
        let before = left.len();
        left.retain(|name, _| imported.contains(name));
        if left.len() == before {
            break;
        }
    }
    let names: BTreeSet<&String> = left.keys().collect();
    let lines = left.iter().map(|(name, others)| {
        let others: Vec<_> = others.iter().filter(|other| names.contains(other)).map(String::as_str).collect();
        format!("{name} imports from {}", others.join(", "))
    });
    let lines: Vec<String> = lines.collect();
    assert!(lines.is_empty(), "files that import each other in a circle:\n{}", lines.join("\n"));
}

#[test]
fn paths_are_found_and_resolved() {
    let modules: BTreeSet<String> = ["gpu", "gpu::device", "gpu::conv", "error"].map(String::from).into();
    let of = |own: &str, line: &str| -> Vec<String> {
        paths(line).iter().filter_map(|path| resolve(own, path, &modules)).collect()
    };
    assert_eq!(of("gpu::conv", "use super::device::Device;"), ["gpu::device"]);
    assert_eq!(of("gpu::conv", "use super::{Gpu, device};"), ["gpu", "gpu::device"]);
    assert_eq!(of("gpu::conv", "    let x: crate::error::Error = y;"), ["error"]);
    assert_eq!(of("gpu::conv", "use std::fmt;"), [""; 0]);
}
