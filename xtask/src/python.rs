//! Python, and the frameworks whose files the importers read, installed under `target/python`.

use crate::jobs::Job;
use crate::{repo, shell};
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Installs the packages of `tests/requirements.txt` once, and returns the path of the interpreter. Concurrent callers
/// wait for the first one.
pub fn ensure() -> Result<PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = repo::target().join("python");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let requirements = repo::root().join("tests/requirements.txt");
    // A copy of the list is written after all packages are installed.
    let (wanted, done) = (fs::read_to_string(&requirements)?, folder.join("installed.txt"));
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    let system = ["python3", "python"].into_iter().find_map(shell::find);
    let system = system.context("the importers' tests and the benchmark need Python 3.10 to 3.13 on PATH")?;
    Job::run(Command::new(system).args(["-m", "venv"]).arg(&folder))?;
    // uv installs several gigabytes in a third of the time of pip, and shares them with environments in other folders.
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"];
    Job::run(Command::new(&python).args(pip))?;
    let uv = ["-m", "uv", "pip", "install", "--quiet", "--python"];
    Job::run(Command::new(&python).args(uv).arg(&python).arg("--requirement").arg(&requirements))?;
    fs::write(done, wanted)?;
    Ok(python)
}

/// Runs the frameworks to write their model files, unless they are up to date. Returns the folder.
pub fn models() -> Result<PathBuf> {
    let python = ensure()?;
    let (script, folder) = (repo::root().join("tests/make_models.py"), repo::target().join("models"));
    let (wanted, done) = (fs::read_to_string(&script)?, folder.join("made_by.py"));
    if !fs::read_to_string(&done).is_ok_and(|made_by| made_by == wanted) {
        Job::run(
            Command::new(python)
                .arg(&script)
                .arg(&folder)
                // TensorFlow logs only errors.
                .env("TF_CPP_MIN_LOG_LEVEL", "2")
                .env("PYTHONWARNINGS", "ignore"),
        )?;
        fs::write(done, wanted)?;
    }
    Ok(folder)
}
