//! The learner, for JavaScript: a model whose gradients can be computed and whose weights can be changed. It has a module
//! of its own, which a page fetches when it is first needed.

use super::values::{floats, object, set};
use super::{js_error, report_panics, thrown};
use crate::engine::gradient::{Gradients, Objective, Wrt};
use crate::engine::training::Update;
use crate::engine::{self, Backend, Options};
use crate::error::{Error, Result};
use crate::graph::tensor::Tensor;
use crate::model::Model;
use crate::plan::Input;
use crate::plan::optimiser::{Biases, Kept, Optimiser, Rule};
use crate::plan::random::DropoutKey;
use js_sys::Object;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::num::NonZeroUsize;
use wasm_bindgen::prelude::*;

/// A model that can learn.
#[wasm_bindgen]
pub struct Learner {
    /// Empty while a call is in progress.
    inner: Cell<Option<Box<engine::Engine>>>,
}

/// An objective as JSON: `{"score": {"head": "loss3", "class": 3}}`, `{"probability": ...}`, `{"mean": {"layer":
/// "inception_4c/output", "channel": 7}}`, `{"halfSquares": {"layer": ...}}` or `{"loss": {"classes": [0, 2], "heads":
/// [["loss3", 1], ["loss1", 0.3]], "smoothing": 0}}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Goal {
    Score {
        head: String,
        class: usize,
    },
    Probability {
        head: String,
        class: usize,
    },
    Mean {
        layer: String,
        channel: Option<usize>,
    },
    HalfSquares {
        layer: String,
    },
    Loss {
        classes: Vec<usize>,
        heads: Vec<(String, f32)>,
        #[serde(default)]
        smoothing: f32,
    },
}

/// With respect to what the objective is differentiated, as JSON: `"input"`, `{"layer": name}`, `"weights"` or
/// `{"weightsFrom": name}`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Of {
    Input,
    Layer(String),
    Weights,
    WeightsFrom(String),
}

impl Of {
    fn wrt(&self) -> Wrt<'_> {
        match self {
            Of::Input => Wrt::Input,
            Of::Layer(name) => Wrt::Layer(name),
            Of::Weights => Wrt::Weights,
            Of::WeightsFrom(name) => Wrt::WeightsFrom(name),
        }
    }
}

/// How the weights change, as JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    rate: f64,
    step: u64,
    /// As on the command line: `sgd:0.9`, `nesterov:0.9`, `adam`. Default: SGD with a momentum of 0.9.
    optimiser: Option<String>,
    weight_decay: Option<f32>,
    /// `caffe` or `plain`.
    biases: Option<String>,
    #[serde(default = "one")]
    scale: f64,
    clip: Option<f64>,
    average: Option<f64>,
}

fn one() -> f64 {
    1.0
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    engine: &'a engine::Info,
    classes: usize,
    labels: &'a [String],
    heads: Vec<&'a str>,
    size: usize,
}

#[wasm_bindgen]
impl Learner {
    /// Loads a safetensors model onto the backend of this build. `heads` says whether to keep the auxiliary heads, and
    /// `labels` has the names of ImageNet's classes, one per line, for files without labels.
    pub async fn load(model: Vec<u8>, heads: bool, labels: Option<String>) -> Result<Learner, JsValue> {
        report_panics();
        let load = async {
            let model = Model::labelled(model, labels.as_deref())?;
            let model = if heads { model } else { model.without_heads()? };
            let backend = if cfg!(feature = "cpu") { Backend::Cpu } else { Backend::Gpu };
            let options = Options { backend, threads: Some(NonZeroUsize::MIN), gradients: true, ..Options::default() };
            engine::Engine::with(model, options).await
        };
        Ok(Learner { inner: Cell::new(Some(Box::new(load.await.map_err(thrown)?))) })
    }

    /// What the model and the backend are: `{backend, adapter, threads, classes, labels, heads, size}`.
    pub fn info(&self) -> Result<JsValue, JsValue> {
        let engine = self.take()?;
        let model = engine.model();
        object(&Info {
            engine: engine.info(),
            classes: model.spec.classes,
            labels: &model.labels,
            heads: model.network.heads().iter().map(|head| head.name.as_str()).collect(),
            size: model.preprocess.size,
        })
    }

    /// Shares the work among this many threads, or among as many as there are. Returns the number of threads.
    pub fn set_threads(&self, threads: usize) -> Result<usize, JsValue> {
        let mut engine = self.take()?;
        if let Some(threads) = NonZeroUsize::new(threads) {
            engine.set_threads(threads);
        }
        Ok(engine.info().threads)
    }

    /// Runs inputs without preprocessing: `values` has the HWC values of one picture after the other. Returns an object
    /// with the probabilities of each head under its name.
    pub async fn run(&self, values: Vec<f32>) -> Result<JsValue, JsValue> {
        let mut engine = self.take()?;
        let run = async {
            let input = tensor(&engine, values)?;
            engine.run_input(Input::Tensors(&[&input])).await
        };
        let output = run.await.map_err(thrown)?;
        let heads = Object::new();
        for head in &output.heads {
            set(&heads, &head.name, &floats(&head.probabilities.data))?;
        }
        Ok(heads.into())
    }

    /// Runs inputs and differentiates an objective. Returns `{value, terms, layer, weights}`: `layer` has the gradient with
    /// respect to the input or layer, `weights` an object with the gradient of each weight and bias under its name.
    pub async fn gradient(&self, values: Vec<f32>, objective: String, of: String) -> Result<JsValue, JsValue> {
        let (goal, of): (Goal, Of) = (parsed(&objective)?, parsed(&of)?);
        let mut engine = self.take()?;
        let run = async {
            let input = tensor(&engine, values)?;
            let heads = goal.heads();
            engine.gradient(Input::Tensors(&[&input]), &goal.objective(&heads), of.wrt()).await
        };
        let Gradients { value, terms, layer, weights } = run.await.map_err(thrown)?;
        let result = Object::new();
        set(&result, "value", &value.into())?;
        set(&result, "terms", &object(&terms)?)?;
        if let Some(layer) = layer {
            set(&result, "layer", &floats(&layer.data))?;
        }
        let named = Object::new();
        for gradient in &weights {
            set(&named, &gradient.name, &floats(&gradient.data))?;
        }
        set(&result, "weights", &named)?;
        Ok(result.into())
    }

    /// Computes the gradients of a micro-batch for a step of training, see `Engine::accumulate`. Returns the value of each
    /// term of the objective.
    pub async fn accumulate(
        &self,
        values: Vec<f32>,
        objective: String,
        of: String,
        seed: u32,
        first: u32,
        fresh: bool,
    ) -> Result<JsValue, JsValue> {
        let (goal, of): (Goal, Of) = (parsed(&objective)?, parsed(&of)?);
        let mut engine = self.take()?;
        let run = async {
            let input = tensor(&engine, values)?;
            let heads = goal.heads();
            let (objective, key) = (goal.objective(&heads), DropoutKey { seed, first });
            engine.accumulate(Input::Tensors(&[&input]), &objective, of.wrt(), key, fresh).await
        };
        object(&run.await.map_err(thrown)?)
    }

    /// Changes the weights by the gradients of `accumulate`. `change` is JSON: `{rate, step, optimiser, weightDecay,
    /// biases, scale, clip, average}`, of which only the first two are needed.
    pub async fn update(&self, change: String) -> Result<(), JsValue> {
        let change: Change = parsed(&change)?;
        let mut engine = self.take()?;
        let rule = || -> Result<Rule> {
            let defaults = Rule::default();
            let optimiser = change.optimiser.as_deref().map(str::parse::<Optimiser>).transpose()?;
            let biases = change.biases.as_deref().map(str::parse::<Biases>).transpose()?;
            let rule = Rule {
                optimiser: optimiser.unwrap_or(defaults.optimiser),
                weight_decay: change.weight_decay.unwrap_or(defaults.weight_decay),
                biases: biases.unwrap_or(defaults.biases),
            };
            rule.check()?;
            Ok(rule)
        };
        let rule = rule().map_err(thrown)?;
        let Change { rate, step, scale, clip, average, .. } = change;
        engine.update(&Update { rule, rate, step, scale, clip, average }).await.map_err(thrown)
    }

    /// The current weights and biases, as an object with the values of each under its name.
    pub async fn weights(&self) -> Result<JsValue, JsValue> {
        let engine = self.take()?;
        let tensors = engine.kept(Kept::Values).await.map_err(thrown)?;
        let named = Object::new();
        for tensor in &tensors {
            set(&named, &tensor.name, &floats(&tensor.data))?;
        }
        Ok(named.into())
    }
}

impl Learner {
    fn take(&self) -> Result<Borrowed<'_>, JsValue> {
        let engine = self.inner.take();
        let busy = || js_error("argument", None, "the learner is busy with another call: wait for its promise");
        Ok(Borrowed { engine: Some(engine.ok_or_else(busy)?), home: &self.inner })
    }
}

impl Goal {
    /// The heads of a loss.
    fn heads(&self) -> Vec<(&str, f32)> {
        match self {
            Goal::Loss { heads, .. } => heads.iter().map(|(name, weight)| (name.as_str(), *weight)).collect(),
            _ => Vec::new(),
        }
    }

    fn objective<'a>(&'a self, heads: &'a [(&'a str, f32)]) -> Objective<'a> {
        match self {
            Goal::Score { head, class } => Objective::Score { head, class: *class },
            Goal::Probability { head, class } => Objective::Probability { head, class: *class },
            Goal::Mean { layer, channel } => Objective::Mean { layer, channel: *channel },
            Goal::HalfSquares { layer } => Objective::HalfSquares { layer },
            Goal::Loss { classes, smoothing, .. } => Objective::Loss { classes, heads, smoothing: *smoothing },
        }
    }
}

/// An engine that is borrowed for one call. Dropping this puts it back.
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

fn parsed<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, JsValue> {
    serde_json::from_str(json).map_err(|e| thrown(Error::Argument(format!("{json}: {e}"))))
}

/// The inputs of a run, as many as there are values for.
fn tensor(engine: &engine::Engine, values: Vec<f32>) -> Result<Tensor> {
    let network = &engine.model().network;
    let shape = network.inputs().next().map(|id| network.node(id).shape);
    let shape = shape.ok_or_else(|| Error::Argument("the network has no input".into()))?;
    Tensor::new(shape.with_batch(values.len() / shape.per_image()), values)
}
