//! Which kernels are fastest on this machine's GPU: measured once, and kept in a file for the next time.

use googlenet::engine::Engine;
use std::env;
use std::fs;
use std::path::PathBuf;

/// Takes on what was kept for this adapter and these kernels. Where there is nothing, or nothing that holds any more,
/// the usual kernels stay.
pub async fn recall(engine: &mut Engine) -> bool {
    let Some(kept) = file(engine).and_then(|path| fs::read_to_string(path).ok()) else { return false };
    engine.set_tuning(&kept).await.is_ok()
}

/// Measures, and keeps what was found.
pub async fn tune(engine: &mut Engine) -> super::Result<()> {
    let Some(found) = engine.tune().await? else { return Ok(()) };
    let Some(path) = file(engine) else { return Ok(()) };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|e| super::in_file(folder, e))?;
    }
    fs::write(&path, found).map_err(|e| super::in_file(&path, e))
}

/// Where an adapter's choices are kept: `googlenet-web/` in the user's folder for what can be made anew.
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
