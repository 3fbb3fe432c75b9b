//! The engine of this build with a model, for JavaScript.

#[cfg(feature = "gpu")]
use super::prepared::PreparedGpu;
use super::values::{floats, object, set};
use super::{report_panics, thrown};
use crate::engine::{self, Algorithm, Backend, HeadOutput, Options, Output};
use crate::error::{Error, Result};
use crate::explain::{Ablation, Classifier};
use crate::gpu::{self, Drawn};
use crate::graph::summary;
use crate::graph::tensor::Tensor;
use crate::inspect::contact_sheet::{Colormap, Range, Sheet};
use crate::inspect::statistics::Stats;
use crate::model::Model;
use crate::model::preprocess::Image;
use crate::plan::{ConcatMode, Input, StepTime};
use js_sys::{Array, Object, Uint8ClampedArray};
use serde::Serialize;
use std::cell::{Cell, RefCell};
#[cfg(feature = "cpu")]
use std::num::NonZeroUsize;
use std::rc::Rc;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

/// A model on a backend.
#[wasm_bindgen]
pub struct Engine {
    /// Empty while a call is in progress.
    inner: Cell<Option<Box<Loaded>>>,
    /// The step times of the last run; empty if it was not timed.
    steps: Rc<RefCell<Vec<StepTime>>>,
    labels: Rc<Vec<String>>,
}

/// An engine, and what is needed to explain its outputs.
struct Loaded {
    engine: engine::Engine,
    classifier: Option<Classifier>,
    ablation: Ablation,
}

/// The result of `info()`.
#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    engine: &'a engine::Info,
    model: &'a str,
    variant: &'static str,
    classes: usize,
    labels: &'a [String],
    heads: Vec<&'a str>,
    notes: &'a [String],
    source: Option<&'a str>,
    license: Option<&'a str>,
    /// Height and width of the network's input.
    size: usize,
    parameters: usize,
}

/// The result of `classify()` for one picture.
#[derive(Serialize)]
struct Answer<'a> {
    top: Vec<Class<'a>>,
    heads: Vec<Head<'a>>,
    ms: Milliseconds,
}

#[derive(Serialize)]
struct Head<'a> {
    name: &'a str,
    top: Vec<Class<'a>>,
}

#[derive(Serialize)]
struct Class<'a> {
    index: usize,
    label: &'a str,
    probability: f32,
}

#[derive(Serialize)]
struct Milliseconds {
    preprocess: f64,
    run: f64,
}

/// The result of `ablate()`.
#[derive(Serialize)]
struct Ablated<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    /// The probabilities of the classes of `top` in the unchanged network.
    untouched: Vec<f32>,
    /// The most probable classes of the unchanged network.
    before: Vec<Class<'a>>,
}

/// One entry of `profile()`.
#[derive(Serialize)]
struct Step<'a> {
    node: &'a str,
    ms: f64,
    #[serde(flatten)]
    algorithm: Option<Algorithm>,
}

/// One entry of `layers()`.
#[derive(Serialize)]
struct Layer<'a> {
    #[serde(flatten)]
    row: summary::Row,
    module: Option<&'a str>,
    branch: Option<&'static str>,
}

/// A model's file and the options for reading it.
struct File {
    bytes: Vec<u8>,
    /// Whether to keep the auxiliary heads.
    heads: bool,
    /// The names of ImageNet's classes, one per line, for files without labels.
    labels: Option<String>,
}

impl Engine {
    /// Loads a model's file onto a backend. `gpu` is a GPU that is already open, if there is one.
    async fn load(file: File, options: Options, gpu: Option<gpu::PreparedGpu>) -> Result<Engine, JsValue> {
        let load = async {
            let model = Model::labelled(file.bytes, file.labels.as_deref())?;
            let model = if file.heads { model } else { model.without_heads()? };
            let classifier = Classifier::of(&model);
            let engine = engine::Engine::with_gpu(model, options, gpu).await?;
            Ok(Loaded { engine, classifier, ablation: Ablation::default() })
        };
        let loaded = load.await.map_err(thrown)?;
        let labels = Rc::new(loaded.engine.model().labels.clone());
        Ok(Engine { inner: Cell::new(Some(Box::new(loaded))), steps: Rc::default(), labels })
    }
}

fn concat_mode(ablation: bool) -> ConcatMode {
    if ablation { ConcatMode::WithGains } else { ConcatMode::InPlace }
}

#[cfg(feature = "cpu")]
#[wasm_bindgen]
impl Engine {
    /// Loads a safetensors model onto the CPU, with one thread (see [`Engine::set_threads`]). `heads` says whether to
    /// keep the auxiliary heads. `labels` has the names of ImageNet's classes, one per line; a file with 1000 classes
    /// and no labels needs them, and is otherwise rejected with an error about the metadata `labels`. `ablation`
    /// prepares buffers for [`Engine::ablate`].
    pub async fn on_cpu(
        model: Vec<u8>,
        heads: bool,
        labels: Option<String>,
        ablation: bool,
    ) -> Result<Engine, JsValue> {
        report_panics();
        let threads = Some(NonZeroUsize::MIN);
        let options = Options { backend: Backend::Cpu, threads, concat: concat_mode(ablation), ..Options::default() };
        Self::load(File { bytes: model, heads, labels }, options, None).await
    }

    /// Runs the network once without a picture, so that memory and code are ready for the first picture.
    pub async fn warm_up(&self) -> Result<(), JsValue> {
        self.take()?.engine.warm_up().await.map_err(thrown)
    }

    /// Shares the work among this many threads, or among as many as there are: the calling worker and its helper
    /// workers, including those that have started since the last call. Only for an engine in a worker, as it blocks
    /// until its helpers have finished, which a page's main thread must not do. Returns the actual number of threads.
    pub fn set_threads(&self, threads: usize) -> Result<usize, JsValue> {
        let engine = &mut self.take()?.engine;
        if let Some(threads) = NonZeroUsize::new(threads) {
            engine.set_threads(threads);
        }
        Ok(engine.info().threads)
    }
}

#[cfg(feature = "gpu")]
#[wasm_bindgen]
impl Engine {
    /// Loads a safetensors model onto the GPU; `heads`, `labels` and `ablation` are as for the CPU. With `auto`, a GPU
    /// that is emulated on the CPU is rejected with the code `no-gpu`. `prepared` is a GPU that was opened during the
    /// download; if it has taken the whole file, `model` may be empty. `check` says whether the GPU's results are
    /// checked before it is used. Default: yes for hardware. With `half`, the GPU computes in f16 if it can.
    #[allow(clippy::too_many_arguments, reason = "the fields of a JavaScript object would have to be read by hand")]
    pub async fn on_gpu(
        model: Vec<u8>,
        auto: bool,
        heads: bool,
        labels: Option<String>,
        ablation: bool,
        prepared: Option<PreparedGpu>,
        check: Option<bool>,
        half: bool,
    ) -> Result<Engine, JsValue> {
        report_panics();
        let (gpu, bytes) = match prepared {
            Some(prepared) => {
                let (gpu, bytes) = prepared.with(model);
                (Some(gpu), bytes)
            }
            None => (None, model),
        };
        let backend = if auto { Backend::Auto } else { Backend::Gpu };
        let options = Options { backend, concat: concat_mode(ablation), check, half, ..Options::default() };
        Self::load(File { bytes, heads, labels }, options, gpu).await
    }

    /// Whether `tune` is worth its time: the engine runs on a real GPU, not on one that is emulated on the CPU.
    pub fn can_tune(&self) -> Result<bool, JsValue> {
        Ok(self.take()?.engine.can_tune())
    }

    /// Measures which kernels are fastest on this GPU, and uses them from the next run on. Returns the result as text
    /// for `set_tuning`.
    pub async fn tune(&self) -> Result<Option<String>, JsValue> {
        self.take()?.engine.tune().await.map_err(thrown)
    }

    /// Uses an earlier result of `tune`. Throws an error with the code `argument` where it was measured on another GPU
    /// or with other kernels.
    pub async fn set_tuning(&self, kept: String) -> Result<(), JsValue> {
        self.take()?.engine.set_tuning(&kept).await.map_err(thrown)
    }
}

#[wasm_bindgen]
impl Engine {
    /// Describes the backend, the reason for it, and the model.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let engine = &self.take()?.engine;
        let model = engine.model();
        object(&Info {
            engine: engine.info(),
            model: &model.name,
            variant: model.spec.variant.name(),
            classes: model.spec.classes,
            labels: &model.labels,
            heads: model.network.heads().iter().map(|h| h.name.as_str()).collect(),
            notes: &model.notes,
            source: model.source.as_deref(),
            license: model.license.as_deref(),
            size: model.preprocess.size,
            parameters: model.network.total_params(),
        })
    }

    /// The network's layers in order, each with its shape, parameters, multiply-adds, inputs, module and branch.
    pub fn layers(&self) -> Result<JsValue, JsValue> {
        let engine = &self.take()?.engine;
        let network = &engine.model().network;
        let layers = summary::rows(network).into_iter().zip(network.nodes()).map(|(row, node)| Layer {
            row,
            module: node.module.as_deref(),
            branch: node.branch.map(|b| b.name()),
        });
        object(&layers.collect::<Vec<_>>())
    }

    /// Classifies a batch of pictures. `rgba` has their RGBA bytes, with rows from the top, one picture after the
    /// other; `sizes` has the width and height of each picture. `crop` is `center`, `squash` or `fit`. `top` is the
    /// number of classes to return for each head. Resolves as soon as the GPU has everything that it needs, to an array
    /// whose only element is the promise of an array with one answer for each picture. A second call may be made then:
    /// a GPU can have two runs in progress.
    pub async fn classify(
        &self,
        mut rgba: Vec<u8>,
        sizes: Vec<u32>,
        crop: String,
        top: usize,
    ) -> Result<Array, JsValue> {
        let mut loaded = self.take()?;
        let start = async {
            let crop = crop.parse()?;
            let mut images = Vec::new();
            // From the last picture to the first, as splitting off the end copies only that picture's bytes.
            for size in sizes.rchunks_exact(2) {
                let [width, height] = [size[0], size[1]].map(|side| side as usize);
                let length = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(4));
                let start = length.and_then(|length| rgba.len().checked_sub(length));
                let start = start.ok_or_else(|| {
                    Error::Image(format!(
                        "{width}x{height} pixels need more than the {} bytes that there are",
                        rgba.len()
                    ))
                })?;
                images.push(Image::new(width, height, rgba.split_off(start))?);
            }
            if !rgba.is_empty() {
                return Err(Error::Image(format!("there are {} bytes more than the pictures need", rgba.len())));
            }
            let images: Vec<&Image> = images.iter().rev().collect();
            loaded.ablation.forget();
            loaded.engine.start_input(Input::Images(&images, crop)).await
        };
        let pending = start.await.map_err(thrown)?;
        let (steps, labels) = (self.steps.clone(), self.labels.clone());
        let answers = async move {
            let output = keep_times(&steps, pending.await)?;
            let answers = (0..sizes.len() / 2).map(|picture| Answer::of(&output, &labels, picture, top));
            object(&answers.collect::<Vec<_>>())
        };
        Ok(Array::of1(&future_to_promise(answers)))
    }

    /// Runs a batch of inputs without preprocessing: `values` has the HWC values of one picture after the other.
    /// Returns an object with the probabilities of each head under its name.
    pub async fn run_tensor(&self, values: Vec<f32>) -> Result<JsValue, JsValue> {
        let mut loaded = self.take()?;
        let engine = &mut loaded.engine;
        let network = &engine.model().network;
        let shape = network.inputs().next().map(|i| network.node(i).shape);
        let run = async {
            let shape = shape.ok_or_else(|| Error::Argument("the network has no input".into()))?;
            let input = Tensor::new(shape.with_batch(values.len() / shape.per_image()), values)?;
            engine.run_input(Input::Tensors(&[&input])).await
        };
        let output = keep_times(&self.steps, run.await)?;
        loaded.ablation.forget();
        let heads = Object::new();
        for head in &output.heads {
            set(&heads, &head.name, &floats(&head.probabilities.data))?;
        }
        Ok(heads.into())
    }

    /// The time of each step of the last run, including one by `ablate`, in order: `[{node, ms}]`. On the CPU each
    /// entry also has `algorithm`, and in `executed` the multiply-adds for one picture. Empty if the run was not timed.
    /// `timed` says whether the next runs are timed, which makes them slower. Default: no.
    pub fn profile(&self, timed: bool) -> Result<JsValue, JsValue> {
        let engine = &mut self.take()?.engine;
        engine.set_timed(timed);
        let network = &engine.model().network;
        let steps = self.steps.borrow();
        let step =
            |s: &StepTime| Step { node: &network.node(s.node).name, ms: s.ms, algorithm: engine.algorithm(s.node) };
        object(&steps.iter().map(step).collect::<Vec<_>>())
    }

    /// The activations of a node in the last run: `{data, shape: [n, h, w, c]}`, where `data` is NHWC.
    pub async fn read(&self, node: String) -> Result<JsValue, JsValue> {
        let engine = &self.take()?.engine;
        let tensor = engine.read(&node).await.map_err(thrown)?;
        let s = tensor.shape;
        let out = Object::new();
        set(&out, "data", &floats(&tensor.data))?;
        set(&out, "shape", &[s.n, s.h, s.w, s.c].map(|d| JsValue::from(d as u32)).into_iter().collect::<Array>())?;
        Ok(out.into())
    }

    /// Statistics of a node's activations in the last run, for one picture of the batch. Without `channel`, returns
    /// four numbers for each channel: mean, maximum, minimum and share of zeros. With `channel`, returns the values of
    /// that channel in row-major order.
    pub async fn stats(&self, node: String, image: usize, channel: Option<usize>) -> Result<Vec<f32>, JsValue> {
        let engine = &self.take()?.engine;
        engine.stats(&node, image, channel.map_or(Stats::Channels, Stats::Map)).await.map_err(thrown)
    }

    /// Draws channels of a node's activations in the last run as a contact sheet, for one picture of the batch. Returns
    /// `{width, height, data}` with RGBA bytes. With `resident`, a GPU returns `{width, height, device, pixels, pitch}`
    /// where it can: a buffer on its device, and the number of bytes of each row. An empty `channels` means all
    /// channels. `range` says which values the colours span: those of each channel if it is empty, those of the whole
    /// sheet if it has one number, and those between its two numbers otherwise.
    #[allow(clippy::too_many_arguments, reason = "the fields of a JavaScript object would have to be read by hand")]
    pub async fn draw(
        &self,
        node: String,
        image: usize,
        mut channels: Vec<u32>,
        columns: usize,
        scale: usize,
        gap: usize,
        colormap: String,
        range: Vec<f32>,
        resident: bool,
    ) -> Result<JsValue, JsValue> {
        let engine = &self.take()?.engine;
        let draw = async {
            if channels.is_empty() {
                let network = &engine.model().network;
                channels = (0..network.node(network.find(&node)?).shape.c as u32).collect();
            }
            let colormap = match &*colormap {
                "viridis" => Colormap::Viridis,
                "grey" => Colormap::Grey,
                "diverging" => Colormap::Diverging,
                _ => {
                    return Err(Error::Argument(format!(
                        "\"{colormap}\" is not a colour map; there are viridis, grey and diverging"
                    )));
                }
            };
            let range = match *range {
                [] => Range::Channel,
                [_] => Range::Sheet,
                [low, high, ..] => Range::Fixed(low, high),
            };
            let sheet = Sheet { image, channels, columns, scale, gap, colormap, range };
            let drawn = engine.draw_on_gpu(&node, &sheet, resident).await?;
            Ok((drawn, engine.sheet_size(&node, &sheet)?))
        };
        let out = Object::new();
        let (drawn, [width, height]) = draw.await.map_err(thrown)?;
        match drawn {
            Drawn::Rgba(rgba) => set(&out, "data", &Uint8ClampedArray::from(&*rgba))?,
            #[cfg(feature = "gpu")]
            Drawn::Resident(sheet) => {
                set(&out, "device", &sheet.device)?;
                set(&out, "pixels", &sheet.pixels)?;
                set(&out, "pitch", &sheet.pitch.into())?;
            }
        }
        set(&out, "width", &width.into())?;
        set(&out, "height", &height.into())?;
        Ok(out.into())
    }

    /// Explains a class's score for the last picture by the contributions of channels and of cells of the map, see
    /// [`Classifier::explain`].
    pub async fn explain(&self, class: usize) -> Result<JsValue, JsValue> {
        let loaded = self.take()?;
        let none = || Error::Argument("this network does not end in a global average pool and one dense layer".into());
        let explanation = async { loaded.classifier.as_ref().ok_or_else(none)?.explain(&loaded.engine, class).await };
        object(&explanation.await.map_err(thrown)?)
    }

    /// Runs the last picture with these gains, and with gain 1 for branches that are not named. The gains also apply to
    /// later runs.
    pub async fn ablate(&self, branches: Vec<String>, gains: Vec<f32>, top: usize) -> Result<JsValue, JsValue> {
        let mut loaded = self.take()?;
        let Loaded { engine, ablation, .. } = &mut *loaded;
        let gains: Vec<_> = branches.into_iter().zip(gains).collect();
        let (untouched, mut output) = ablation.run(engine, &gains).await.map_err(thrown)?;
        self.steps.replace(std::mem::take(&mut output.steps));
        let answer = Answer::of(&output, &self.labels, 0, top);
        let before = Answer::of(untouched, &self.labels, 0, top).top;
        let all = untouched.answer().map_or(&[][..], |head| head.probabilities.image(0));
        let untouched = answer.top.iter().map(|class| all[class.index]).collect();
        object(&Ablated { answer, untouched, before })
    }

    /// Borrows the engine for one call. Another call in the meantime throws an error with the code `argument`.
    fn take(&self) -> Result<Borrowed<'_>, JsValue> {
        match self.inner.take() {
            Some(loaded) => Ok(Borrowed { loaded: Some(loaded), home: &self.inner }),
            None => {
                Err(thrown(Error::Argument("the engine is busy: wait until the previous call has finished".into())))
            }
        }
    }
}

/// Moves the step times from a run's output to `steps`, where `profile` finds them.
fn keep_times(steps: &RefCell<Vec<StepTime>>, output: Result<Output>) -> Result<Output, JsValue> {
    let mut output = output.map_err(thrown)?;
    steps.replace(std::mem::take(&mut output.steps));
    Ok(output)
}

impl<'a> Answer<'a> {
    /// A run's answer for one picture of its batch, with the `top` most probable classes of each head.
    fn of(output: &'a Output, labels: &'a [String], picture: usize, top: usize) -> Self {
        let best = |head: &HeadOutput| -> Vec<Class<'a>> {
            let class = |(index, probability)| Class { index, label: &labels[index], probability };
            head.top(picture, top).into_iter().map(class).collect()
        };
        Answer {
            top: output.answer().map(best).unwrap_or_default(),
            heads: output.heads.iter().map(|h| Head { name: &h.name, top: best(h) }).collect(),
            ms: Milliseconds { preprocess: output.preprocess_ms, run: output.run_ms },
        }
    }
}

/// An engine that is borrowed for one call. Dropping this puts it back.
struct Borrowed<'a> {
    loaded: Option<Box<Loaded>>,
    home: &'a Cell<Option<Box<Loaded>>>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.home.set(self.loaded.take());
    }
}

impl std::ops::Deref for Borrowed<'_> {
    type Target = Loaded;

    fn deref(&self) -> &Loaded {
        self.loaded.as_deref().expect("present until dropped")
    }
}

impl std::ops::DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Loaded {
        self.loaded.as_deref_mut().expect("present until dropped")
    }
}
