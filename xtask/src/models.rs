//! The models that are served beside the page.

use crate::repo;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What to say where there is none.
pub const HOW_TO_GET_ONE: &str = "There is no model to serve. Put a GoogLeNet as .safetensors into www/models/, or \
     set GOOGLENET_REFERENCE to a folder that has imagenet/bvlc_googlenet.safetensors, or drop such a file on the page.";

/// A model file and how the page calls it.
pub struct Model {
    pub id: String,
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
}

impl Model {
    fn new(id: &str, path: PathBuf, name: Option<&str>) -> Option<Self> {
        let bytes = path.metadata().ok()?.len();
        let name = metadata_name(&path).or(name.map(str::to_owned)).unwrap_or_else(|| id.to_owned());
        Some(Model { id: id.to_owned(), name, path, bytes })
    }
}

/// The models bundled with the page, then the reference's.
pub fn find() -> Vec<Model> {
    let entries = fs::read_dir(repo::www().join("models")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort();
    let bundled = paths.into_iter().filter_map(|path| {
        let id = path.file_stem()?.to_str()?.to_owned();
        Model::new(&id, path, None)
    });
    let mut models: Vec<Model> = bundled.collect();
    if let Some(reference) = repo::reference()
        && models.iter().all(|m| m.id != "imagenet")
    {
        let path = reference.join("imagenet/bvlc_googlenet.safetensors");
        models.extend(Model::new("imagenet", path, Some("BVLC GoogLeNet, ImageNet")));
    }
    models
}

/// The list that the page reads, addresses relative to it.
pub fn index(models: &[Model]) -> Value {
    let entry = |m: &Model| {
        let url = format!("models/{}.safetensors", m.id);
        json!({ "id": m.id, "name": m.name, "url": url, "bytes": m.bytes })
    };
    json!({ "models": models.iter().map(entry).collect::<Vec<_>>() })
}

/// The name in a safetensors file's metadata.
fn metadata_name(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    // The format's own limit for a header is 100 MB.
    file.take(u64::from_le_bytes(length).min(100_000_000)).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["__metadata__"]["name"].as_str().map(str::to_owned)
}
