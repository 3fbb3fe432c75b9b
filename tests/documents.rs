//! The documents agree with the repository: relative links point to existing files, and the diagram of modules in
//! `ARCHITECTURE.md` is the one that `layers.rs` tests.
#![cfg(not(target_arch = "wasm32"))]

use std::fs;
use std::path::{Path, PathBuf};

/// The folders with documents of the repository, in addition to the root.
const FOLDERS: [&str; 6] = ["docs", "bench/results", "tools", "www", "www/public/samples", ".github"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn documents() -> Vec<PathBuf> {
    let folders = FOLDERS.iter().map(|folder| root().join(folder)).chain([root().to_owned()]);
    let entries = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder of documents"));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.sort();
    files
}

/// The targets of a document's links and pictures, except in code blocks and inline code.
fn links(text: &str) -> Vec<String> {
    let prose = text.split("```").step_by(2).collect::<String>();
    let prose = prose.split('`').step_by(2).collect::<String>();
    let ends = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    ends.map(|(target, _)| target.to_owned()).collect()
}

/// The anchor that GitHub generates for a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept: String = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c)).collect();
    kept.replace(' ', "-")
}

#[test]
fn relative_links_point_to_files() {
    let mut wrong = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("text");
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, place) = link.split_once('#').unwrap_or((&link, ""));
            let folder = document.parent().expect("a folder");
            let target = if path.is_empty() { document.clone() } else { folder.join(path) };
            let found = if place.is_empty() {
                target.exists()
            } else {
                let text = fs::read_to_string(&target).unwrap_or_default();
                text.lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == place)
            };
            if !found {
                wrong.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "links that lead nowhere:\n{}", wrong.join("\n"));
}

#[test]
fn the_drawing_of_rooms_is_the_one_that_is_tested() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let drawing = page.split("```rooms\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of rooms");
    let floor = |line: &str| -> Vec<String> {
        let names = line.split("  ").next().unwrap_or_default();
        names.split(',').map(|name| name.trim().to_owned()).collect()
    };
    let drawn: Vec<Vec<String>> = drawing.lines().filter(|line| !line.trim().starts_with('^')).map(floor).collect();

    let test = fs::read_to_string(root().join("tests/layers.rs")).expect("tests/layers.rs");
    let list = test.split("const ROOMS").nth(1).and_then(|rest| rest.split("];\n").next()).expect("the list of rooms");
    let floors = list.lines().filter(|line| line.trim().starts_with("&["));
    let tested: Vec<Vec<String>> =
        floors.map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect()).collect();

    assert!(tested.len() > 1, "no rooms were found in tests/layers.rs");
    assert_eq!(drawn, tested);
}

#[test]
fn links_and_anchors_are_found() {
    assert_eq!(links("a [b](c.md#d) `[no](e)` ![f](g.png)\n```\n[no](h)\n```\n"), ["c.md#d", "g.png"]);
    assert_eq!(anchor(" What it weighs"), "what-it-weighs");
}
