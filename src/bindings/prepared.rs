//! A GPU that gets ready while a model is downloaded.

use super::{report_panics, thrown};
use crate::error::{Error, Result};
use crate::gpu;
use crate::model::Model;
use crate::model::weights::Weights;
use wasm_bindgen::prelude::*;

/// A GPU, opened and its shaders compiled while a model is downloaded, and what has come of that.
#[wasm_bindgen(js_name = Warm)]
pub struct PreparedGpu {
    gpu: gpu::PreparedGpu,
    /// As long as the file, zeros where nothing has come.
    file: Vec<u8>,
    /// Of the file, which it has, once its header is there.
    model: Option<Model>,
}

#[wasm_bindgen(js_class = Warm)]
impl PreparedGpu {
    /// Opens the GPU; with `half` it will compute in f16 where it can. Throws `no-gpu` where there is none.
    pub async fn open(half: bool) -> Result<PreparedGpu, JsValue> {
        report_panics();
        let gpu = gpu::PreparedGpu::new(half).await.map_err(thrown)?;
        Ok(PreparedGpu { gpu, file: Vec::new(), model: None })
    }

    /// Takes what has come next of a model's file of `total` bytes; at byte 0 it is another file. Weights go to the GPU
    /// as soon as a layer's are whole. `auto` leaves out a GPU that will not be used: a CPU that plays one. Gives whether
    /// the file was taken: [`Engine::load`] then needs no bytes once all have come.
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
                // It may be an announcement that means nothing.
                self.file.try_reserve_exact(total).map_err(|_| Error::Memory { bytes: total as u64 })?;
                self.file.resize(total, 0);
            }
            let arrived = at + chunk.len();
            if arrived > self.model.as_ref().map_or(self.file.len(), |model| model.weights.byte_len()) {
                return Err(Error::Argument("a piece of a file lies beyond its end".into()));
            }
            match &mut self.model {
                Some(model) => model.weights.fill(at, &chunk),
                None => {
                    self.file[at..arrived].copy_from_slice(&chunk);
                    if !Weights::preface(&self.file).is_ok_and(|preface| preface <= arrived) {
                        return Ok(());
                    }
                    // Its names do not matter yet, only how many there are.
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

/// Classes whose names are not in the file.
const IMAGENET: usize = 1000;

impl PreparedGpu {
    /// The GPU, and the model's file. Without a `file` it is the one that has come; all of it is looked at now, as of any.
    pub(super) fn with(self, file: Vec<u8>) -> (gpu::PreparedGpu, Vec<u8>) {
        let PreparedGpu { mut gpu, file: came, model } = self;
        if file.is_empty() {
            return (gpu, model.map_or(came, |model| model.weights.into_bytes()));
        }
        gpu.forget();
        (gpu, file)
    }
}
