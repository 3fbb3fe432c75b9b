//! `cargo xtask soak`: uses the page at random for a long time.

use crate::{browsers, page, repo, shell};
use anyhow::Result;
use clap::Args;
use std::env;
use std::process::Command;

#[derive(Args)]
pub struct Options {
    /// Number of minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Seed of the random numbers
    #[arg(long, default_value_t = 1)]
    seed: u32,
}

/// Builds the page, and uses it at random in Chromium.
pub fn run(options: &Options) -> Result<()> {
    page::build()?;
    let browsers = browsers::ensure()?;
    let mut command = Command::new("node");
    command.arg("tests/soak.mjs").args([options.minutes.to_string(), options.seed.to_string()]);
    command.current_dir(repo::www()).env("CHROMIUM", browsers.chromium).env("XTASK", env::current_exe()?);
    shell::run(&mut command)
}
