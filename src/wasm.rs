//! The engine as JavaScript sees it. The only file that knows JavaScript.
//!
//! Every failure is an `Error` with a `code` (see [`Error::code`]), a `detail` where there is one (the
//! layer, tensor or key it is about) and a sentence a person can act on. A panic, which is a fault of
//! ours, is thrown as an `Error` of code `internal`; after it the module must be loaded anew.

#[cfg(target_feature = "atomics")]
use crate::cpu::team;
use crate::engine::{self, Algorithm, HeadOutput, Options, Output};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::model::Model;
use crate::plan::{Input, StepTime};
use crate::summary;
use crate::tensor::Tensor;
use js_sys::{Array, Float32Array, JSON, Object, Reflect};
use serde::Serialize;
use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::sync::Once;
use wasm_bindgen::prelude::*;

/// A model on a backend.
#[wasm_bindgen]
pub struct Engine {
    /// Empty while a call is under way.
    inner: Cell<Option<Box<engine::Engine>>>,
    /// Of the last run; empty where it was not timed.
    steps: RefCell<Vec<StepTime>>,
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

/// What `classify()` gives.
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

#[wasm_bindgen]
impl Engine {
    /// Loads a safetensors model onto `auto`, `cpu` or `gpu`; with its auxiliary heads, or without. It has one
    /// thread: see [`Engine::set_threads`].
    pub async fn load(model: Vec<u8>, backend: String, heads: bool) -> Result<Engine, JsValue> {
        report_panics();
        let load = async {
            let backend = backend.parse()?;
            let model = Model::from_bytes(model)?;
            let model = if heads { model } else { model.without_heads()? };
            engine::Engine::with(model, Options { backend, threads: Some(NonZeroUsize::MIN) }).await
        };
        let engine = load.await.map_err(thrown)?;
        Ok(Engine { inner: Cell::new(Some(Box::new(engine))), steps: RefCell::default() })
    }

    /// Shares the steps on the CPU among this many threads, or as many as there are: the caller and the helper
    /// workers that have arrived since the last time. Only for an engine in a worker: it waits for its
    /// helpers, and a page's main thread must not wait. Gives the number in force.
    pub fn set_threads(&self, threads: usize) -> Result<usize, JsValue> {
        let mut engine = self.take()?;
        if let Some(threads) = NonZeroUsize::new(threads) {
            engine.set_threads(threads);
        }
        Ok(engine.info().threads)
    }

    /// What the engine runs on and why, and what the model is.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let engine = self.take()?;
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
        let engine = self.take()?;
        let network = &engine.model().network;
        let layers = summary::rows(network).into_iter().zip(network.nodes()).map(|(row, node)| Layer {
            row,
            module: node.module.as_deref(),
            branch: node.branch.map(|b| b.name()),
        });
        object(&layers.collect::<Vec<_>>())
    }

    /// Classifies a picture of RGBA bytes, rows from the top. `crop` is `center`, `squash` or `fit`;
    /// `top` says how many classes of each head to give.
    pub async fn classify(
        &self,
        rgba: Vec<u8>,
        width: u32,
        height: u32,
        crop: String,
        top: u32,
    ) -> Result<JsValue, JsValue> {
        let mut engine = self.take()?;
        let run = async {
            let image = Image::new(width as usize, height as usize, rgba)?;
            engine.run_input(Input::Images(&[&image], crop.parse()?)).await
        };
        let output = self.noted(run.await)?;
        let labels = &engine.model().labels;
        let best = |head: &HeadOutput| -> Vec<Class> {
            let class = |(index, probability)| Class { index, label: &labels[index], probability };
            head.top(0, top as usize).into_iter().map(class).collect()
        };
        object(&Answer {
            top: output.answer().map(best).unwrap_or_default(),
            heads: output.heads.iter().map(|h| Head { name: &h.name, top: best(h) }).collect(),
            ms: Milliseconds { preprocess: output.preprocess_ms, run: output.run_ms },
        })
    }

    /// Runs an input as it is: as many pictures of HWC values as the array holds. Gives each head's
    /// probabilities by name.
    pub async fn run_tensor(&self, values: Vec<f32>) -> Result<JsValue, JsValue> {
        let mut engine = self.take()?;
        let network = &engine.model().network;
        let shape = network.inputs().next().map(|i| network.node(i).shape);
        let run = async {
            let shape = shape.ok_or_else(|| Error::Argument("the network has no input".into()))?;
            let input = Tensor::new(shape.with_batch(values.len() / shape.per_image()), values)?;
            engine.run_input(Input::Tensors(&[&input])).await
        };
        let output = self.noted(run.await)?;
        let heads = Object::new();
        for head in &output.heads {
            set(&heads, &head.name, &floats(&head.probabilities.data))?;
        }
        Ok(heads.into())
    }

    /// The time of each step of the last run, in order: `[{node, ms}]`, on the CPU with `algorithm` and the
    /// multiply-adds it executes a picture; empty where that run was not timed. `timed` says whether the next ones
    /// are. Off at first, as measuring costs.
    pub fn profile(&self, timed: bool) -> Result<JsValue, JsValue> {
        let mut engine = self.take()?;
        engine.set_timed(timed);
        let engine = &*engine;
        let network = &engine.model().network;
        let steps = self.steps.borrow();
        let step =
            |s: &StepTime| Step { node: &network.node(s.node).name, ms: s.ms, algorithm: engine.algorithm(s.node) };
        object(&steps.iter().map(step).collect::<Vec<_>>())
    }

    /// What a node gave in the last run: `{data, shape: [n, h, w, c]}`, `data` in that order.
    pub async fn read(&self, node: String) -> Result<JsValue, JsValue> {
        let engine = self.take()?;
        let tensor = engine.read(&node).await.map_err(thrown)?;
        let s = tensor.shape;
        let out = Object::new();
        set(&out, "data", &floats(&tensor.data))?;
        set(&out, "shape", &[s.n, s.h, s.w, s.c].map(|d| JsValue::from(d as u32)).into_iter().collect::<Array>())?;
        Ok(out.into())
    }

    /// Multiplies what a branch (named by its last layer) hands to its module's output, from the next run on.
    pub fn set_gain(&self, branch: &str, gain: f32) -> Result<(), JsValue> {
        self.take()?.set_gain(branch, gain).map_err(thrown)
    }

    /// A run's output, its steps' times set aside for `profile`.
    fn noted(&self, output: Result<Output>) -> Result<Output, JsValue> {
        let mut output = output.map_err(thrown)?;
        self.steps.replace(std::mem::take(&mut output.steps));
        Ok(output)
    }

    /// The engine for the length of one call; a second call meanwhile is refused, not undefined.
    fn take(&self) -> Result<Borrowed<'_>, JsValue> {
        match self.inner.take() {
            Some(engine) => Ok(Borrowed { engine: Some(engine), home: &self.inner }),
            None => Err(thrown(Error::Argument("the engine is busy: wait for the call before this one".into()))),
        }
    }
}

/// A worker that helps the engine of another: it waits for runs and does a part of their steps.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
pub struct Helper(team::Helper);

#[cfg(target_feature = "atomics")]
#[wasm_bindgen]
impl Helper {
    /// Offers this worker to the next engine whose threads are set. `work` must follow.
    pub fn arrive() -> Helper {
        report_panics();
        Helper(team::Helper::arrive())
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
    engine: Option<Box<engine::Engine>>,
    home: &'a Cell<Option<Box<engine::Engine>>>,
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        self.home.set(self.engine.take());
    }
}

impl std::ops::Deref for Borrowed<'_> {
    type Target = engine::Engine;

    fn deref(&self) -> &engine::Engine {
        self.engine.as_deref().expect("present until dropped")
    }
}

impl std::ops::DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut engine::Engine {
        self.engine.as_deref_mut().expect("present until dropped")
    }
}

/// An error as JavaScript sees it.
pub fn thrown(error: Error) -> JsValue {
    js_error(error.code(), error.detail(), &error.to_string())
}

fn js_error(code: &str, detail: Option<&str>, message: &str) -> JsValue {
    let error = js_sys::Error::new(message);
    // Setting a property of a fresh object cannot fail.
    let _ = Reflect::set(&error, &"code".into(), &code.into());
    if let Some(detail) = detail {
        let _ = Reflect::set(&error, &"detail".into(), &detail.into());
    }
    error.into()
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

/// Makes a panic a thrown `Error` of code `internal` that says where, instead of a bare `unreachable`.
pub fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            wasm_bindgen::throw_val(js_error("internal", None, &format!("a fault in the engine: {panic}")));
        }));
    });
}
