//! A model on the engine of this build, as JavaScript sees it.

#[cfg(feature = "gpu")]
use super::prepared::PreparedGpu;
use super::{js_error, report_panics, thrown};
#[cfg(all(feature = "cpu", target_feature = "atomics"))]
use crate::cpu::threads;
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
use js_sys::{Array, Float32Array, JSON, Object, Reflect, Uint8ClampedArray};
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
    /// Empty while a call is under way.
    inner: Cell<Option<Box<Loaded>>>,
    /// Of the last run; empty where it was not timed.
    steps: Rc<RefCell<Vec<StepTime>>>,
    labels: Rc<Vec<String>>,
}

/// An engine, and what explains its answers.
struct Loaded {
    engine: engine::Engine,
    classifier: Option<Classifier>,
    ablation: Ablation,
}

/// What `info()` gives.
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

/// What `classify()` gives for each picture.
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

/// What `ablate()` gives.
#[derive(Serialize)]
struct Ablated<'a> {
    #[serde(flatten)]
    answer: Answer<'a>,
    /// What the network as it is gives the classes of `top`.
    untouched: Vec<f32>,
    /// Its own likeliest classes.
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

/// A model's file as JavaScript hands it in.
struct File {
    bytes: Vec<u8>,
    heads: bool,
    labels: Option<String>,
}

impl Engine {
    /// Loads a model's file onto a backend. `gpu` was opened before.
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
    /// Loads a safetensors model onto the CPU; with its auxiliary heads, or without. It has one thread: see
    /// [`Engine::set_threads`]. A file with ImageNet's classes and without their names is refused for its metadata
    /// `labels`, unless these are given, one a line. `ablation` readies it for [`Engine::ablate`].
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

    /// Runs the network once before there is a picture, so that the first finds memory and code ready.
    pub async fn warm_up(&self) -> Result<(), JsValue> {
        self.take()?.engine.warm_up().await.map_err(thrown)
    }

    /// Shares the steps among this many threads, or as many as there are: the caller and the helper
    /// workers that have arrived since the last time. Only for an engine in a worker: it waits for its
    /// helpers, and a page's main thread must not wait. Gives the number in force.
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
    /// Loads a safetensors model onto the GPU; `heads`, `labels` and `ablation` are as for the CPU. `auto` refuses a CPU
    /// that plays a GPU, with the code `no-gpu`. `prepared` is a GPU that was opened meanwhile; if it has taken the whole
    /// model, `model` may be empty. `check` says whether the GPU must first show that it computes rightly; by default
    /// one that is hardware must. `half` has a GPU that can compute in f16.
    #[allow(clippy::too_many_arguments, reason = "an object would have to be taken apart by hand")]
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

    /// Whether `tune` pays: there is a GPU, and not a CPU that plays one.
    pub fn can_tune(&self) -> Result<bool, JsValue> {
        Ok(self.take()?.engine.can_tune())
    }

    /// Measures which kernels are fastest on this GPU, and goes on with those. Gives what `set_tuning` takes the next
    /// time.
    pub async fn tune(&self) -> Result<Option<String>, JsValue> {
        self.take()?.engine.tune().await.map_err(thrown)
    }

    /// Takes on what `tune` gave on the same GPU; refused where it was another, or the kernels were.
    pub async fn set_tuning(&self, kept: String) -> Result<(), JsValue> {
        self.take()?.engine.set_tuning(&kept).await.map_err(thrown)
    }
}

#[wasm_bindgen]
impl Engine {
    /// What the engine runs on and why, and what the model is.
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

    /// The network's layers in order: shape, parameters, multiply-adds, what they read, where they belong.
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

    /// Classifies pictures of RGBA bytes, rows from the top, one picture after the other; `sizes` has the width
    /// and height of each. `crop` is `center`, `squash` or `fit`; `top` says how many classes of each head to give.
    /// Gives, in an array as soon as the GPU has all that it needs, the promise of an answer a picture. Then another call
    /// may come: of two at once on a GPU each is answered.
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
            // From the last one, as that moves no bytes but its own.
            for size in sizes.rchunks_exact(2) {
                let [width, height] = [size[0], size[1]].map(|side| side as usize);
                let length = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(4));
                let start = length.and_then(|length| rgba.len().checked_sub(length));
                let start = start.ok_or_else(|| {
                    Error::Image(format!("{width}x{height} pixels take more than the {} bytes given", rgba.len()))
                })?;
                images.push(Image::new(width, height, rgba.split_off(start))?);
            }
            if !rgba.is_empty() {
                return Err(Error::Image(format!("there are {} bytes more than its pixels take", rgba.len())));
            }
            let images: Vec<&Image> = images.iter().rev().collect();
            loaded.ablation.forget();
            loaded.engine.start_input(Input::Images(&images, crop)).await
        };
        let flight = start.await.map_err(thrown)?;
        let (steps, labels) = (self.steps.clone(), self.labels.clone());
        let answered = async move {
            let output = noted(&steps, flight.finish().await)?;
            let answers = (0..sizes.len() / 2).map(|picture| Answer::of(&output, &labels, picture, top));
            object(&answers.collect::<Vec<_>>())
        };
        Ok(Array::of1(&future_to_promise(answered)))
    }

    /// Runs an input as it is: as many pictures of HWC values as the array holds. Gives each head's
    /// probabilities by name.
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
        let output = noted(&self.steps, run.await)?;
        loaded.ablation.forget();
        let heads = Object::new();
        for head in &output.heads {
            set(&heads, &head.name, &floats(&head.probabilities.data))?;
        }
        Ok(heads.into())
    }

    /// The time of each step of the last run, be it `ablate`'s, in order: `[{node, ms}]`, on the CPU with `algorithm` and the
    /// multiply-adds it executes a picture; empty where that run was not timed. `timed` says whether the next ones
    /// are. Off at first, as measuring costs.
    pub fn profile(&self, timed: bool) -> Result<JsValue, JsValue> {
        let engine = &mut self.take()?.engine;
        engine.set_timed(timed);
        let network = &engine.model().network;
        let steps = self.steps.borrow();
        let step =
            |s: &StepTime| Step { node: &network.node(s.node).name, ms: s.ms, algorithm: engine.algorithm(s.node) };
        object(&steps.iter().map(step).collect::<Vec<_>>())
    }

    /// What a node gave in the last run: `{data, shape: [n, h, w, c]}`, `data` in that order.
    pub async fn read(&self, node: String) -> Result<JsValue, JsValue> {
        let engine = &self.take()?.engine;
        let tensor = engine.read(&node).await.map_err(thrown)?;
        let s = tensor.shape;
        let out = Object::new();
        set(&out, "data", &floats(&tensor.data))?;
        set(&out, "shape", &[s.n, s.h, s.w, s.c].map(|d| JsValue::from(d as u32)).into_iter().collect::<Array>())?;
        Ok(out.into())
    }

    /// Four numbers of each channel of what a node gave for a picture of the last run: mean, greatest and least value,
    /// share of zeros; or of one channel its values, row by row.
    pub async fn stats(&self, node: String, image: usize, channel: Option<usize>) -> Result<Vec<f32>, JsValue> {
        let engine = &self.take()?.engine;
        engine.stats(&node, image, channel.map_or(Stats::Channels, Stats::Map)).await.map_err(thrown)
    }

    /// Draws channels of what a node gave for a picture of the last run: `{width, height, data}`, RGBA; on a GPU,
    /// where `resident` says that it can be taken from there, `{width, height, device, pixels, pitch}`, a buffer of
    /// rows of so many bytes. No channels are all. `range` is empty for each channel's own, one number for the
    /// whole sheet's, or two, its ends.
    #[allow(clippy::too_many_arguments, reason = "an object would have to be taken apart by hand")]
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
                _ => return Err(Error::Argument(format!("\"{colormap}\" is no colour map"))),
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
            Drawn::Resident(left) => {
                set(&out, "device", &left.device)?;
                set(&out, "pixels", &left.pixels)?;
                set(&out, "pitch", &left.pitch.into())?;
            }
        }
        set(&out, "width", &width.into())?;
        set(&out, "height", &height.into())?;
        Ok(out.into())
    }

    /// Which channels, and which places of the last picture, a class's score comes from.
    pub async fn explain(&self, class: usize) -> Result<JsValue, JsValue> {
        let loaded = self.take()?;
        let none = || Error::Argument("this network does not end in averages and one dense layer".into());
        let explanation = async { loaded.classifier.as_ref().ok_or_else(none)?.explain(&loaded.engine, class).await };
        object(&explanation.await.map_err(thrown)?)
    }

    /// Runs the last picture with these gains; branches that are not named have gain 1. They stay.
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

    /// The engine for the length of one call; a second call meanwhile is refused, not undefined.
    fn take(&self) -> Result<Borrowed<'_>, JsValue> {
        match self.inner.take() {
            Some(loaded) => Ok(Borrowed { loaded: Some(loaded), home: &self.inner }),
            None => Err(thrown(Error::Argument("the engine is busy: wait for the call before this one".into()))),
        }
    }
}

/// A run's output, its steps' times set aside for `profile`.
fn noted(steps: &RefCell<Vec<StepTime>>, output: Result<Output>) -> Result<Output, JsValue> {
    let mut output = output.map_err(thrown)?;
    steps.replace(std::mem::take(&mut output.steps));
    Ok(output)
}

impl<'a> Answer<'a> {
    /// What a run says of a picture of its batch.
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

/// A worker that helps the engine of another: it waits for runs and does a part of their steps.
#[cfg(all(feature = "cpu", target_feature = "atomics"))]
#[wasm_bindgen]
pub struct Helper(threads::Helper);

#[cfg(all(feature = "cpu", target_feature = "atomics"))]
#[wasm_bindgen]
impl Helper {
    /// Offers this worker to the next engine whose threads are set. `work` must follow.
    pub fn arrive() -> Helper {
        report_panics();
        Helper(threads::Helper::arrive())
    }

    /// Blocks until the engine is freed or has other threads set. Where it throws, `fail` must follow.
    pub fn work(&self) {
        self.0.work();
    }

    /// Tells the engine, which may be waiting, that this worker is lost.
    pub fn fail(&self) {
        self.0.fail();
    }
}

/// The engine away from its place; dropping this puts it back.
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

/// A value as a plain JavaScript object.
fn object(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let json = serde_json::to_string(value).map_err(|e| js_error("internal", None, &e.to_string()))?;
    JSON::parse(&json)
}

fn set(object: &Object, key: &str, value: &JsValue) -> Result<(), JsValue> {
    Reflect::set(object, &key.into(), value).map(drop)
}

fn floats(values: &[f32]) -> Float32Array {
    Float32Array::from(values)
}
