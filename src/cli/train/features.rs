//! The features of pictures: what the network gives before its classifier.

use super::progress::Progress;
use crate::cli::common;
use googlenet::engine::Engine;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::model::preprocess::{Crop, Image};
use googlenet::plan::Input;
use googlenet::train::dataset::{Decoded, File, Folder, decode};
use googlenet::{Error, Result};
use serde::Serialize;
use std::num::NonZeroUsize;

/// The layer whose output a classifier reads, and the number of its values.
const POOLED: &str = "pool5/7x7_s1";
pub const WIDTH: usize = 1024;
/// The number of pictures in each run.
const BATCH: usize = 8;

/// The features of all pictures of a folder that could be read.
pub struct Extracted {
    /// The pictures that could be read.
    pub files: Vec<File>,
    /// (pictures, [`WIDTH`]).
    pub features: Vec<f32>,
    /// A hash of each picture's pixels.
    pub contents: Vec<u64>,
    pub skipped: Vec<Skipped>,
    pub seconds: f64,
}

/// A picture that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Skipped {
    pub image: String,
    pub reason: String,
}

impl Extracted {
    /// The class of each picture.
    pub fn labels(&self) -> Vec<usize> {
        self.files.iter().map(|file| file.class).collect()
    }
}

/// Computes the features of all pictures. The centre square of a picture is used, as `googlenet classify` does. Fails
/// where a class has fewer than `least` pictures that can be read.
pub fn extract(engine: &mut Engine, folder: &Folder, threads: NonZeroUsize, least: usize) -> common::Result<Extracted> {
    let preprocess = engine.model().preprocess;
    let size = preprocess.size;
    let prepare = |image: Image| {
        let mut values = vec![0.0; size * size * 3];
        preprocess.run(&image, Crop::Center, &mut values);
        values
    };
    let mut progress = Progress::new("features", folder.files.len());
    let mut all =
        Extracted { files: Vec::new(), features: Vec::new(), contents: Vec::new(), skipped: Vec::new(), seconds: 0.0 };
    let mut batch =
        Batch { tensor: Tensor::zeros(Shape::new(BATCH.min(folder.files.len()), size, size, 3)), filled: 0 };
    decode(&folder.files, threads, prepare, |number, decoded| {
        let file = &folder.files[number];
        match decoded {
            Ok(Decoded { prepared, content }) => {
                all.files.push(file.clone());
                all.contents.push(content);
                if batch.push(&prepared) {
                    batch.run(engine, &mut all.features)?;
                }
            }
            Err(e) => all.skipped.push(Skipped { image: file.path.display().to_string(), reason: e.to_string() }),
        }
        progress.add(1);
        Ok(())
    })?;
    batch.run(engine, &mut all.features)?;
    all.seconds = progress.finish();
    report(&all.skipped);
    check(folder, &all.files, least)?;
    Ok(all)
}

/// The input of one run.
struct Batch {
    tensor: Tensor,
    filled: usize,
}

impl Batch {
    /// Adds a picture. Returns whether the batch is full.
    fn push(&mut self, values: &[f32]) -> bool {
        self.tensor.data[self.filled * values.len()..][..values.len()].copy_from_slice(values);
        self.filled += 1;
        self.filled == self.tensor.shape.n
    }

    /// Runs the pictures, and adds their features. A batch that is not full is run with earlier pictures in the other
    /// places, so that every run has the same plan.
    fn run(&mut self, engine: &mut Engine, features: &mut Vec<f32>) -> Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        pollster::block_on(engine.run_input(Input::Tensors(&[&self.tensor])))?;
        let pooled = pollster::block_on(engine.read(POOLED))?;
        if pooled.shape.per_image() != WIDTH {
            return Err(Error::Argument(format!("\"{POOLED}\" has {} values, not {WIDTH}", pooled.shape.per_image())));
        }
        features.extend_from_slice(&pooled.data[..self.filled * WIDTH]);
        self.filled = 0;
        Ok(())
    }
}

/// Names the pictures that were skipped.
pub fn report(skipped: &[Skipped]) {
    const MOST: usize = 20;
    for Skipped { image, reason } in skipped.iter().take(MOST) {
        eprintln!("note: {image} is skipped: {reason}");
    }
    if skipped.len() > MOST {
        eprintln!("note: {} more pictures are skipped; --json lists them all", skipped.len() - MOST);
    }
}

/// Checks that enough pictures of each class could be read.
pub fn check(folder: &Folder, files: &[File], least: usize) -> Result<()> {
    let mut counts = vec![0; folder.classes.len()];
    files.iter().for_each(|file| counts[file.class] += 1);
    let few = folder.classes.iter().zip(counts).find(|(_, count)| *count < least);
    let Some((name, count)) = few else { return Ok(()) };
    let root = folder.root.display();
    let reason = if count == 0 {
        format!("no picture of the class \"{name}\" can be read")
    } else {
        format!(
            "the class \"{name}\" has only {count} picture that can be read; at least {least} are needed, because \
             pictures are held out to choose the penalty"
        )
    };
    Err(Error::Argument(format!("{root}: {reason}")))
}
