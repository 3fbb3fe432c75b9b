//! `cargo xtask start`

use crate::server::{Server, Site};
use crate::{models, page, wasm};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Options {
    /// Port to serve on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Serve what was built before
    #[arg(long)]
    no_build: bool,
    /// Serve a folder under a path besides: PATH=FOLDER (tests use it)
    #[arg(long, value_name = "PATH=FOLDER", value_parser = mount, hide = true)]
    mount: Vec<(String, PathBuf)>,
}

fn mount(text: &str) -> Result<(String, PathBuf)> {
    let (path, folder) = text.split_once('=').context("expected PATH=FOLDER")?;
    Ok((path.trim_matches('/').to_owned(), folder.into()))
}

pub fn run(options: &Options) -> Result<()> {
    let root = page::built();
    if !options.no_build {
        wasm::build()?;
        page::build()?;
    } else if !root.join("index.html").is_file() {
        bail!("nothing is built yet: run `cargo xtask start` without --no-build");
    }
    let models = models::find();
    if models.is_empty() {
        println!("{}", models::HOW_TO_GET_ONE);
    }
    for model in &models {
        let megabytes = model.bytes as f64 / 1e6;
        println!("Model {}: {} ({megabytes:.1} MB, {})", model.id, model.name, model.path.display());
    }
    let server = Server::bind(options.port, Site { root, mounts: options.mount.clone(), models })?;
    println!("Open http://localhost:{}", server.port()?);
    server.serve();
    Ok(())
}
