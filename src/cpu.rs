//! The CPU engine: SIMD128 in the browser, the widest vectors there are natively.
//!
//! Weights are packed once, at load. Buffers and scratch are made once a plan; a run allocates only
//! the tensors it hands out.

mod concat;
mod conv;
mod dense;
mod gemm;
mod lrn;
mod pool;
mod softmax;
pub mod team;
mod tiles;
mod view;

use crate::error::{Error, Result};
use crate::image::Preprocess;
use crate::model::{Model, tensor_names};
use crate::network::NodeId;
use crate::op::{Op, Window};
use crate::plan::{Input, Place, Plan, Run, Step, StepTime};
use crate::tensor::Tensor;
use crate::tiles::Sheet;
use conv::Conv;
use dense::Dense;
use gemm::Isa;
use lrn::Lrn;
use std::mem;
use team::Team;
use view::{View, ViewMut};
use web_time::Instant;

/// A model's weights packed for this machine, and the plan in force with its buffers.
pub struct Cpu {
    isa: Isa,
    team: Team,
    preprocess: Preprocess,
    /// One a node.
    layers: Vec<Layer>,
    inputs: Vec<NodeId>,
    /// The node of each head's probabilities.
    heads: Vec<NodeId>,
    plan: Option<Plan>,
    /// One a buffer of the plan.
    buffers: Vec<Vec<f32>>,
    /// As much as the hungriest step needs.
    scratch: Vec<f32>,
}

/// A node: its name, what it does, and the nodes it reads.
struct Layer {
    name: String,
    kernel: Kernel,
    inputs: Vec<NodeId>,
}

/// An operation with its weights.
enum Kernel {
    Input,
    Conv(Conv),
    MaxPool(Window),
    AvgPool { window: Window, count_padding: bool },
    AdaptiveAvgPool,
    Lrn(Lrn),
    Concat,
    Dense(Dense),
    Softmax,
}

impl Layer {
    fn fail(&self, reason: String) -> Error {
        Error::Shape { layer: self.name.clone(), reason }
    }
}

impl Cpu {
    /// Packs the model's weights for the instruction set found here. The team shares the steps.
    pub fn new(model: &Model, team: Team) -> Result<Self> {
        let isa = Isa::detect();
        let network = &model.network;
        let layer = |(id, node): (NodeId, &crate::network::Node)| {
            let input = network.input_shape(id);
            let weights = || -> Result<[Vec<f32>; 2]> {
                let [weight, bias] = tensor_names(&node.name);
                Ok([model.weights.get(&weight)?.1, model.weights.get(&bias)?.1])
            };
            let kernel = match node.op {
                Op::Input(_) => Kernel::Input,
                Op::Conv { window, relu, .. } => {
                    let [weight, bias] = weights()?;
                    Kernel::Conv(Conv::new(isa, window, relu, input.c, &weight, &bias))
                }
                Op::MaxPool(window) => Kernel::MaxPool(window),
                Op::AvgPool { window, count_padding } => Kernel::AvgPool { window, count_padding },
                Op::AdaptiveAvgPool { .. } => Kernel::AdaptiveAvgPool,
                Op::Lrn { size, alpha, beta, k } => Kernel::Lrn(Lrn { size, alpha, beta, k }),
                Op::Concat => Kernel::Concat,
                Op::Dense { relu, .. } => {
                    let [weight, bias] = weights()?;
                    Kernel::Dense(Dense::new(isa, relu, input.per_image(), &weight, &bias))
                }
                Op::Softmax => Kernel::Softmax,
            };
            Ok(Layer { name: node.name.clone(), kernel, inputs: node.inputs.clone() })
        };
        Ok(Cpu {
            isa,
            team,
            preprocess: model.preprocess,
            layers: network.nodes().iter().enumerate().map(layer).collect::<Result<_>>()?,
            inputs: network.inputs().collect(),
            heads: network.heads().iter().map(|h| h.prob).collect(),
            plan: None,
            buffers: Vec::new(),
            scratch: Vec::new(),
        })
    }

    /// The instruction set, as a person reads it.
    pub fn adapter(&self) -> String {
        self.isa.to_string()
    }

    /// Threads that share a step.
    pub fn threads(&self) -> usize {
        self.team.size()
    }

    /// Takes another team; the plan must be prepared anew.
    pub fn set_team(&mut self, team: Team) {
        self.plan = None;
        self.team = team;
    }

    /// Takes on a plan: makes its buffers and the scratch its steps need.
    pub fn prepare(&mut self, plan: &Plan) -> Result<()> {
        self.plan = None;
        let mut scratch = 0;
        for step in &plan.steps {
            let layer = &self.layers[step.node];
            if step.reads.iter().any(|r| r.buffer == step.writes.buffer) {
                return Err(layer.fail("it would read the buffer it writes".into()));
            }
            let Some(x) = step.reads.first() else { return Err(layer.fail("the node has no input".into())) };
            let needs = match &layer.kernel {
                Kernel::Conv(conv) => conv.scratch(x.shape, step.writes.shape),
                Kernel::Lrn(lrn) => lrn.scratch(x.shape),
                Kernel::Dense(_) if !x.is_whole() && x.shape.h * x.shape.w > 1 => {
                    return Err(layer.fail("a dense layer reads whole buffers only".into()));
                }
                _ => 0,
            };
            scratch = scratch.max(needs);
        }
        self.buffers = plan.buffers.iter().map(|shape| vec![0.0; shape.len()]).collect();
        self.scratch = vec![0.0; scratch];
        self.plan = Some(plan.clone());
        Ok(())
    }

    /// Runs the plan. `gains` has one factor a node, which joins apply to what they read.
    pub fn run(&mut self, input: Input<'_>, gains: &[f32], timed: bool) -> Result<Run> {
        let plan = self.plan.take().ok_or_else(unprepared)?;
        let run = self.run_plan(&plan, input, gains, timed);
        self.plan = Some(plan);
        run
    }

    fn run_plan(&mut self, plan: &Plan, input: Input<'_>, gains: &[f32], timed: bool) -> Result<Run> {
        if input.batch() != plan.batch {
            return Err(Error::Argument(format!("the plan is for {} pictures, not {}", plan.batch, input.batch())));
        }
        let start = Instant::now();
        self.load(plan, input)?;
        let loaded = Instant::now();
        let mut steps = Vec::with_capacity(if timed { plan.steps.len() } else { 0 });
        for step in &plan.steps {
            let start = timed.then(Instant::now);
            self.step(step, gains)?;
            steps.extend(start.map(|s| StepTime { node: step.node, ms: ms(s.elapsed()) }));
        }
        let run_ms = ms(loaded.elapsed());
        let heads = self.heads.iter().map(|&id| self.read(plan.places[id])).collect::<Result<_>>()?;
        Ok(Run { heads, steps, preprocess_ms: ms(loaded - start), run_ms })
    }

    /// Fills the input nodes' buffers.
    fn load(&mut self, plan: &Plan, input: Input<'_>) -> Result<()> {
        for (i, &id) in self.inputs.iter().enumerate() {
            let buffer = &mut self.buffers[plan.places[id].buffer];
            match input {
                Input::Images(images, crop) => {
                    let size = self.preprocess.size * self.preprocess.size * 3;
                    if buffer.len() != images.len() * size {
                        return Err(self.layers[id].fail("it does not read pictures".into()));
                    }
                    for (image, out) in images.iter().zip(buffer.chunks_exact_mut(size)) {
                        self.preprocess.run(image, crop, out);
                    }
                }
                Input::Tensors(tensors) => match tensors.get(i) {
                    Some(t) if t.data.len() == buffer.len() => buffer.copy_from_slice(&t.data),
                    _ => return Err(self.layers[id].fail("there is no tensor of its shape".into())),
                },
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step, gains: &[f32]) -> Result<()> {
        // Taken out so that the others can be read while it is written; no step reads what it writes.
        let mut written = mem::take(&mut self.buffers[step.writes.buffer]);
        let done = self.apply(step, gains, ViewMut::new(&mut written, step.writes));
        self.buffers[step.writes.buffer] = written;
        done
    }

    fn apply(&mut self, step: &Step, gains: &[f32], out: ViewMut<'_>) -> Result<()> {
        let layer = &self.layers[step.node];
        let buffers = &self.buffers;
        let view = |place: &Place| View::new(&buffers[place.buffer], *place);
        let Some(x) = step.reads.first().map(view) else { return Ok(()) };
        let size = [x.shape.h, x.shape.w];
        let on = |window: &Window| window.on(size).map_err(|reason| layer.fail(reason));
        match &layer.kernel {
            Kernel::Input => {}
            Kernel::Conv(conv) => conv.run(&on(&conv.window)?, x, out, &mut self.scratch),
            Kernel::MaxPool(window) => pool::max(&on(window)?, x, out),
            Kernel::AvgPool { window, count_padding } => pool::average(&on(window)?, *count_padding, x, out),
            Kernel::AdaptiveAvgPool => pool::adaptive_average(x, out),
            Kernel::Lrn(lrn) => lrn.run(x, out, &mut self.scratch),
            Kernel::Concat => {
                let gains = layer.inputs.iter().map(|&branch| gains.get(branch).copied().unwrap_or(1.0));
                concat::run(step.reads.iter().map(view).zip(gains), out);
            }
            Kernel::Dense(dense) => dense.run(x, out),
            Kernel::Softmax => softmax::run(x, out),
        }
        Ok(())
    }

    /// What a node gave in the last run.
    pub fn read(&self, place: Place) -> Result<Tensor> {
        let view = self.view(place)?;
        let mut tensor = Tensor::zeros(place.shape);
        for (p, to) in tensor.data.chunks_exact_mut(place.shape.c).enumerate() {
            to.copy_from_slice(view.pixel(p));
        }
        Ok(tensor)
    }

    /// Channels of what a node gave, as RGBA rows of [`Sheet::size`].
    pub fn draw(&self, place: Place, sheet: &Sheet) -> Result<Vec<u8>> {
        tiles::draw(self.view(place)?, sheet)
    }

    fn view(&self, place: Place) -> Result<View<'_>> {
        self.buffers.get(place.buffer).map(|buffer| View::new(buffer, place)).ok_or_else(unprepared)
    }
}

fn unprepared() -> Error {
    Error::Argument("no plan has been prepared".into())
}

fn ms(time: std::time::Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
