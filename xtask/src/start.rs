//! `cargo xtask start`

use crate::jobs::Jobs;
use crate::server::{Server, Site};
use crate::wasm::{self, Build};
use crate::{imagenet, models, page};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

#[derive(clap::Args)]
pub struct Options {
    /// Port to serve on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Build everything as it is shipped: every module, optimised for size
    #[arg(long)]
    release: bool,
    /// Do not get the ImageNet model
    #[arg(long)]
    offline: bool,
    /// Serve what was built before
    #[arg(long, conflicts_with = "release")]
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
        build(options.release)?;
    } else if !root.join("index.html").is_file() {
        bail!("nothing is built yet: run `cargo xtask start` without --no-build");
    }
    let models = models::find();
    if models.is_empty() {
        println!("{}", models::HOW_TO_GET_ONE);
    }
    for model in &models {
        println!("{}", model.line());
    }
    // Tests serve what was built, and get nothing more.
    let gets = !options.offline && !options.no_build && models.iter().all(|model| model.id != imagenet::ID);
    let site = Site { root, mounts: options.mount.clone(), models: Mutex::new(models), expected: gets.into() };
    let server = Server::bind(options.port, site)?;
    println!("Open http://localhost:{}", server.port()?);
    if gets {
        let site = server.site();
        thread::spawn(move || {
            match imagenet::in_background() {
                Ok(()) => {
                    let models = models::find();
                    if let Some(model) = models.iter().find(|model| model.id == imagenet::ID) {
                        println!("{}: the page offers it now.", model.line());
                    }
                    site.offer(models);
                }
                Err(error) => println!("The ImageNet model was not fetched, and the bundled model serves ({error:#})."),
            }
            site.expect_no_more();
        });
    } else if options.offline {
        println!("The ImageNet model is not fetched (--offline); the bundled model serves.");
    }
    server.serve();
    Ok(())
}

/// Builds the page, and says what it is made of.
fn build(release: bool) -> Result<()> {
    let start = Instant::now();
    let build = if release { Build::Release } else { Build::Fast };
    match build {
        Build::Fast => println!(
            "Building the page quickly: the GPU engine, one CPU engine for every browser, and the importers, without the \
             optimisations that a release has (--release builds all six modules as they are shipped)."
        ),
        Build::Release => println!("Building the page as it is shipped: six modules, optimised for size."),
    }
    wasm::build(build)?;
    let mut jobs = Jobs::default();
    jobs.add("the page", page::build);
    jobs.run()?;
    println!("Built in {} s.", start.elapsed().as_secs());
    Ok(())
}
