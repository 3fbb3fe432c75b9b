//! Running other programs.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program, its output passed through, and fails unless it succeeds.
pub fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// What a program prints, or `None` where it is missing or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// cargo, in the repository's root, of the toolchain this was built with.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::repo::root());
    command
}

/// The command line, built if need be.
pub fn googlenet(args: &[&str]) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package=googlenet-web", "--bin=googlenet", "--"]);
    command.args(args);
    command
}

/// A script that npm installed, run by Node: `vite/bin/vite.js`.
pub fn node_script(script: &str) -> Command {
    let www = crate::repo::www();
    let mut command = Command::new("node");
    command.arg(www.join("node_modules").join(script)).current_dir(www);
    command
}

/// Where a program is, by the folders of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(&name)).find(|path| path.is_file())
}

/// Puts a folder in front of `PATH`.
pub fn with_path(command: &mut Command, folder: &Path) -> Result<()> {
    let rest = env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder.to_owned()).chain(env::split_paths(&rest));
    command.env("PATH", env::join_paths(all)?);
    Ok(())
}

/// A command as it would be typed.
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
