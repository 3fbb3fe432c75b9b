//! The pictures of a training: decoded once, as far as memory allows, and varied anew in each epoch.

use googlenet::engine::Engine;
use googlenet::graph::tensor::{Shape, Tensor};
use googlenet::model::preprocess::{Crop, Image, Preprocess};
use googlenet::plan::Input;
use googlenet::train::augment::{Augment, Key};
use googlenet::train::dataset::{Decoded, File, Folder, decode};
use googlenet::train::trainer::Samples;
use googlenet::{Error, Result};
use std::fs;
use std::num::NonZeroUsize;

use super::features::{Skipped, check, report};
use super::progress::Progress;

/// The most memory for decoded pictures. Others are read from their files whenever they are needed.
const MAX_DECODED_BYTES: usize = 1 << 30;

/// The pictures of a folder that can be read.
pub struct Pictures {
    pub files: Vec<File>,
    /// A hash of each picture's pixels.
    pub contents: Vec<u64>,
    pub skipped: Vec<Skipped>,
    /// The decoded picture of each file; `None` where there was no room.
    decoded: Vec<Option<Image>>,
    preprocess: Preprocess,
}

impl Pictures {
    /// Decodes all pictures of a folder. Fails where a class has fewer than `least` pictures that can be read.
    pub fn read(
        folder: &Folder,
        preprocess: Preprocess,
        threads: NonZeroUsize,
        least: usize,
    ) -> crate::cli::common::Result<Self> {
        let mut pictures =
            Pictures { files: Vec::new(), contents: Vec::new(), skipped: Vec::new(), decoded: Vec::new(), preprocess };
        let mut progress = Progress::new("decoding", folder.files.len());
        let mut bytes = 0;
        decode(
            &folder.files,
            threads,
            |image| image,
            |number, decoded| {
                let file = &folder.files[number];
                match decoded {
                    Ok(Decoded { prepared, content }) => {
                        pictures.files.push(file.clone());
                        pictures.contents.push(content);
                        bytes += prepared.rgba().len();
                        pictures.decoded.push((bytes <= MAX_DECODED_BYTES).then_some(prepared));
                    }
                    Err(e) => {
                        let image = file.path.display().to_string();
                        pictures.skipped.push(Skipped { image, reason: e.to_string() });
                    }
                }
                progress.add(1);
                Ok(())
            },
        )?;
        progress.finish();
        report(&pictures.skipped);
        check(folder, &pictures.files, least)?;
        Ok(pictures)
    }

    /// The class of each picture.
    pub fn labels(&self) -> Vec<usize> {
        self.files.iter().map(|file| file.class).collect()
    }

    /// Calls `f` with a picture.
    fn with<T>(&self, picture: usize, f: impl FnOnce(&Image) -> T) -> Result<T> {
        if let Some(image) = &self.decoded[picture] {
            return Ok(f(image));
        }
        let path = &self.files[picture].path;
        let bytes = fs::read(path).map_err(|e| Error::Io(format!("{}: {e}", path.display())))?;
        Ok(f(&Image::decode(&bytes)?))
    }

    /// Some of the pictures, varied.
    pub fn select(&self, numbers: Vec<usize>, augment: Augment, seed: u32) -> Selection<'_> {
        Selection { pictures: self, numbers, augment, seed }
    }

    /// What the network gives at its last node for each picture, without variation: (pictures, values of a picture).
    pub fn activations(
        &self,
        engine: &mut Engine,
        node: &str,
        what: &'static str,
    ) -> crate::cli::common::Result<Vec<f32>> {
        const BATCH: usize = 8;
        let size = self.preprocess.size;
        let mut progress = Progress::new(what, self.files.len());
        let mut input = Tensor::zeros(Shape::new(BATCH.min(self.files.len()), size, size, 3));
        let (batch, per) = (input.shape.n, input.shape.per_image());
        let mut all = Vec::new();
        let numbers: Vec<usize> = (0..self.files.len()).collect();
        for numbers in numbers.chunks(batch) {
            let mut slots: Vec<_> = numbers.iter().copied().zip(input.data.chunks_exact_mut(per)).collect();
            let share = slots.len().div_ceil(std::thread::available_parallelism().map_or(1, usize::from));
            std::thread::scope(|scope| {
                let work: Vec<_> = slots
                    .chunks_mut(share)
                    .map(|part| scope.spawn(|| part.iter_mut().try_for_each(|(number, out)| self.plain(*number, out))))
                    .collect();
                work.into_iter()
                    .try_for_each(|work| work.join().unwrap_or_else(|_| Err(Error::Image("decoding failed".into()))))
            })?;
            pollster::block_on(engine.run_input(Input::Tensors(&[&input])))?;
            let values = pollster::block_on(engine.read(node))?;
            all.extend_from_slice(&values.data[..numbers.len() * values.shape.per_image()]);
            progress.add(numbers.len());
        }
        progress.finish();
        Ok(all)
    }

    /// The network's input for a picture, without variation.
    fn plain(&self, picture: usize, out: &mut [f32]) -> Result<()> {
        self.with(picture, |image| self.preprocess.run(image, Crop::Center, out))
    }
}

/// Some of the pictures of a folder, varied in each epoch.
pub struct Selection<'a> {
    pictures: &'a Pictures,
    numbers: Vec<usize>,
    augment: Augment,
    seed: u32,
}

impl Samples for Selection<'_> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn class(&self, picture: usize) -> usize {
        self.pictures.files[self.numbers[picture]].class
    }

    fn load(&self, picture: usize, epoch: u64, out: &mut [f32]) -> Result<()> {
        let number = self.numbers[picture];
        let key = Key { seed: self.seed, epoch: epoch as u32, picture: number as u32 };
        self.pictures.with(number, |image| self.augment.run(&self.pictures.preprocess, image, Crop::Center, key, out))
    }
}

/// Some pictures as activations of the layer behind which the trained part begins.
pub struct Cached<'a> {
    /// (all pictures, values).
    pub values: &'a [f32],
    pub width: usize,
    pub files: &'a [File],
    pub numbers: Vec<usize>,
}

impl Samples for Cached<'_> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    fn class(&self, picture: usize) -> usize {
        self.files[self.numbers[picture]].class
    }

    fn load(&self, picture: usize, _: u64, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self.values[self.numbers[picture] * self.width..][..self.width]);
        Ok(())
    }
}
