//! `cargo xtask screenshots`: takes screenshots of every view of the page.

use crate::{browsers, page, repo, shell};
use anyhow::Result;
use std::env;
use std::process::Command;

/// Builds the page, and writes the screenshots to `target/screenshots`.
pub fn run() -> Result<()> {
    page::build()?;
    let browsers = browsers::ensure()?;
    let folder = repo::target().join("screenshots");
    let mut command = Command::new("node");
    command.arg("tests/screenshots.mjs").arg(&folder).current_dir(repo::www());
    command.env("CHROMIUM", browsers.chromium).env("XTASK", env::current_exe()?);
    shell::run(&mut command)?;
    println!("{}", folder.display());
    Ok(())
}
