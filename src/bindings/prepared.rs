//! A GPU that is prepared while a model is downloaded.

use super::{report_panics, thrown};
use crate::error::{Error, Result};
use crate::gpu;
use crate::model::Model;
use crate::model::weights::Weights;
use wasm_bindgen::prelude::*;

/// A GPU that is opened, and whose shaders are compiled, while a model is downloaded, with the part of the model's file
/// that has been received.
#[wasm_bindgen(js_name = Warm)]
pub struct PreparedGpu {
    gpu: gpu::PreparedGpu,
    /// The file, with zeros for bytes that have not been received. Empty once `model` holds the bytes.
    file: Vec<u8>,
    /// The model, which holds the file's bytes, once the file's header is complete.
    model: Option<Model>,
}

#[wasm_bindgen(js_class = Warm)]
impl PreparedGpu {
    /// Opens the GPU. With `half` it computes in f16 if it can. Throws an error with the code `no-gpu` where there is
    /// no usable GPU.
    pub async fn open(half: bool) -> Result<PreparedGpu, JsValue> {
        report_panics();
        let gpu = gpu::PreparedGpu::new(half).await.map_err(thrown)?;
        Ok(PreparedGpu { gpu, file: Vec::new(), model: None })
    }

    /// Takes the next chunk of a model's file: the bytes from `at` on, of `total`. A chunk at 0 begins a new file. The
    /// weights of a layer are uploaded to the GPU as soon as they are complete. With `auto`, a GPU that is emulated on
    /// the CPU takes nothing, as it will not be used. Returns whether the chunk was taken; if all were, `Engine.on_gpu`
    /// needs no bytes.
    pub async fn take(
        &mut self,
        chunk: Vec<u8>,
        at: usize,
        total: usize,
        heads: bool,
        auto: bool,
    ) -> Result<bool, JsValue> {
        if auto && !self.gpu.is_hardware() {
            return Ok(false);
        }
        let take = async {
            if at == 0 {
                self.gpu.forget();
                (self.file, self.model) = (Vec::new(), None);
                // The announced size may be wrong, so failing to reserve it is an error and not a panic.
                self.file.try_reserve_exact(total).map_err(|_| Error::Memory { bytes: total as u64 })?;
                self.file.resize(total, 0);
            }
            let arrived = at + chunk.len();
            if arrived > self.model.as_ref().map_or(self.file.len(), |model| model.weights.byte_len()) {
                return Err(Error::Argument("a chunk of the file lies beyond the file's end".into()));
            }
            match &mut self.model {
                Some(model) => model.weights.fill(at, &chunk),
                None => {
                    self.file[at..arrived].copy_from_slice(&chunk);
                    if !Weights::preface(&self.file).is_ok_and(|preface| preface <= arrived) {
                        return Ok(());
                    }
                    // The labels are not used yet, only their number is checked.
                    let model = Model::labelled(std::mem::take(&mut self.file), Some(&"\n".repeat(IMAGENET)))?;
                    self.model = Some(if heads { model } else { model.without_heads()? });
                }
            }
            match &self.model {
                Some(model) => self.gpu.take(model, arrived).await,
                None => Ok(()),
            }
        };
        take.await.map(|()| true).map_err(thrown)
    }
}

/// The number of ImageNet's classes, whose names may be missing in the file.
const IMAGENET: usize = 1000;

impl PreparedGpu {
    /// The GPU and the model's file. With an empty `file` it is the file that was received in chunks. It is parsed
    /// again, and all its weights are checked, like any other file.
    pub(super) fn with(self, file: Vec<u8>) -> (gpu::PreparedGpu, Vec<u8>) {
        let PreparedGpu { mut gpu, file: received, model } = self;
        if file.is_empty() {
            return (gpu, model.map_or(received, |model| model.weights.into_bytes()));
        }
        gpu.forget();
        (gpu, file)
    }
}
