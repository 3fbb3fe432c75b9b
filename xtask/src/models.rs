//! The models that are served together with the page.

use crate::fetch::sha256;
use crate::repo;
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The message if there is no model.
pub const HOW_TO_GET_ONE: &str = "There is no model to serve. `cargo xtask model imagenet` gets one; or put a GoogLeNet as \
     .safetensors into www/models/, or drop such a file on the page.";

/// The end of the name of a copy without auxiliary heads, as in `cifar10-noheads.safetensors`.
const NO_HEADS: &str = "-noheads";

/// A model file, with its identifier and name on the page.
pub struct Model {
    pub id: String,
    pub name: String,
    pub path: PathBuf,
    pub bytes: u64,
    pub sha256: String,
}

impl Model {
    fn new(id: &str, path: PathBuf, name: Option<&str>) -> Option<Self> {
        let bytes = path.metadata().ok()?.len();
        let name = metadata_name(&path).or(name.map(str::to_owned)).unwrap_or_else(|| id.to_owned());
        let sha256 = sha256(&path).ok()?;
        Some(Model { id: id.to_owned(), name, path, bytes, sha256 })
    }

    /// A description of the model in one line.
    pub fn line(&self) -> String {
        let megabytes = self.bytes as f64 / 1e6;
        format!("Model {}: {} ({megabytes:.1} MB, {})", self.id, self.name, self.path.display())
    }
}

/// The models bundled with the page, with CIFAR-10 first. If the ImageNet model is missing, that of the reference data
/// follows.
pub fn find() -> Vec<Model> {
    let entries = fs::read_dir(repo::www().join("models")).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
    paths.sort_by_key(|path| path.file_stem().map(OsStr::to_owned));
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

/// The list of models for the page, with relative addresses. A copy without heads has no entry of its own, but belongs
/// to the entry of its model. `expected` announces that another model may follow.
pub fn index(models: &[Model], expected: bool) -> Value {
    let url = |m: &Model| format!("models/{}.safetensors", m.id);
    let entry = |m: &Model| {
        let mut entry = json!({ "id": m.id, "name": m.name, "url": url(m), "bytes": m.bytes, "sha256": m.sha256 });
        if let Some(lean) = models.iter().find(|other| other.id.strip_suffix(NO_HEADS) == Some(&m.id)) {
            entry["noHeads"] = json!({ "url": url(lean), "bytes": lean.bytes, "sha256": lean.sha256 });
        }
        entry
    };
    let whole = models.iter().filter(|m| !m.id.ends_with(NO_HEADS));
    let mut index = json!({ "models": whole.map(entry).collect::<Vec<_>>() });
    if expected {
        index["expected"] = true.into();
    }
    index
}

/// The name in the metadata of a safetensors file.
fn metadata_name(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    // The format limits the header to 100 MB.
    file.take(u64::from_le_bytes(length).min(100_000_000)).read_to_end(&mut header).ok()?;
    let header: Value = serde_json::from_slice(&header).ok()?;
    header["__metadata__"]["name"].as_str().map(str::to_owned)
}
