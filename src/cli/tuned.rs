//! The fastest kernels for this machine's GPU, which are measured once and saved in a file.

use googlenet::engine::Engine;
use std::env;
use std::fs;
use std::path::PathBuf;

/// Uses the saved measurement for this adapter. Returns false, and keeps the default kernels, where there is none or
/// where it does not fit the current kernels.
pub async fn recall(engine: &mut Engine) -> bool {
    let Some(saved) = file(engine).and_then(|path| fs::read_to_string(path).ok()) else { return false };
    engine.set_tuning(&saved).await.is_ok()
}

/// Measures the fastest kernels, uses them, and saves the result.
pub async fn tune(engine: &mut Engine) -> super::common::Result<()> {
    let Some(found) = engine.tune().await? else { return Ok(()) };
    let Some(path) = file(engine) else { return Ok(()) };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| super::common::in_file(folder, e))?;
    }
    fs::write(&path, found).map_err(|e| super::common::in_file(&path, e))
}

/// The file with an adapter's measurement, in the folder `googlenet-web` of the user's cache folder. `None` where there
/// is no cache folder.
fn file(engine: &Engine) -> Option<PathBuf> {
    let info = engine.info();
    let folder = |name: &str| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let home =
        || folder("HOME").map(|home| home.join(if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" }));
    let caches = folder("XDG_CACHE_HOME").or_else(|| folder("LOCALAPPDATA")).or_else(home)?;
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = info.adapter.chars().map(plain).collect();
    let half = if info.f16 { "-f16" } else { "" };
    Some(caches.join("googlenet-web").join(format!("{name}{half}.tuning")))
}
