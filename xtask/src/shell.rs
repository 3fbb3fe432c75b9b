//! Runs other programs.

use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a program without capturing its output. Fails if the program fails.
pub fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    println!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// The standard output of a program; `None` if the program is missing or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// cargo with the toolchain that built this program, in the repository's root.
pub fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::repo::root());
    command
}

/// The command line `googlenet`, which is built if necessary.
pub fn googlenet(args: &[&str]) -> Command {
    let mut command = cargo(&["run", "--quiet", "--package=googlenet-web", "--bin=googlenet", "--"]);
    command.args(args);
    command
}

/// A script of an npm package, run by Node, for example `vite/bin/vite.js`.
pub fn node_script(script: &str) -> Command {
    let www = crate::repo::www();
    let mut command = Command::new("node");
    command.arg(www.join("node_modules").join(script)).current_dir(www);
    command
}

/// The path of a program in the folders of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(&name)).find(|path| path.is_file())
}

/// Adds a folder to the beginning of `PATH`.
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
