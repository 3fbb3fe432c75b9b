//! What a plan comes to on the GPU: dispatches with their kernels, parameters, bindings and workgroups. Worked out
//! without a device.

use super::conv::{self, Cut, Tile};
use super::few::Few;
use super::kernels::{self, KernelSet, MAX_GROUPS, PoolMode, slot};
use crate::error::{Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Geometry, Op};
use crate::graph::tensor::Shape;
use crate::plan::winograd::{PHASES, Tiling};
use crate::plan::{Join, Place, Plan, Step};
use std::ops::Range;

/// One dispatch.
pub struct Job {
    pub kernel: Which,
    pub params: [u8; kernels::SLOT as usize],
    /// What it binds after its parameters.
    pub binds: Vec<Bind>,
    pub grid: [u32; 3],
}

/// A kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Conv(Cut),
    Scatter,
    Lay,
    Gather,
    Pool,
    Pool4,
    PoolTexels,
    Lrn,
    Lrn4,
    LrnTexels,
    Concat,
    Dense,
    Softmax,
}

impl Which {
    /// The shader's entry point.
    pub fn entry(self) -> &'static str {
        match self {
            Which::Conv(cut) => cut.entry(),
            Which::Scatter => "scatter",
            Which::Lay => "lay",
            Which::Gather => "gather",
            Which::Pool => "pool",
            Which::Pool4 => "pool4",
            Which::PoolTexels => "pool_texels",
            Which::Lrn => "lrn",
            Which::Lrn4 => "lrn4",
            Which::LrnTexels => "lrn_texels",
            Which::Concat => "concat",
            Which::Dense => "dense",
            Which::Softmax => "softmax",
        }
    }
}

/// A buffer or a texture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// Of the plan.
    Activations(usize),
    /// Of the dispatch whose first layer with weights this is.
    Weight(NodeId),
    Bias(NodeId),
    Texels(Texels),
    /// What a run gives.
    Given,
    /// One factor a node.
    Gains,
    /// What is bound in place of a layer that is not there.
    Spare(usize),
}

/// A texture that software adapters read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Texels {
    /// A layer's output as it is.
    Even,
    /// Another's: what is made of the one in [`Texels::Even`], or the other way round.
    Odd,
    /// Winograd's inputs by point.
    Points,
    /// Winograd's products.
    Products,
}

impl Texels {
    const COUNT: usize = 4;

    fn other(self) -> Self {
        if self == Texels::Even { Texels::Odd } else { Texels::Even }
    }
}

/// Steps that are computed, and timed, together.
pub struct Span {
    /// The nodes, and each one's part of the work.
    pub nodes: Vec<(NodeId, f64)>,
    pub jobs: Range<usize>,
}

/// All of a plan.
pub struct Jobs {
    /// The plan with its inputs' channels filled up, which the jobs are of.
    pub plan: Plan,
    pub jobs: Vec<Job>,
    /// Of each job: what its cut depends on, where there is a choice.
    pub classes: Vec<Option<conv::Class>>,
    pub spans: Vec<Span>,
    /// Where the values of each softmax begin in [`Bind::Given`], and of how many that is.
    pub given: (Few<NodeId, usize>, usize),
    /// Values that each of [`Texels`] holds.
    pub texels: [usize; Texels::COUNT],
    /// What [`Texels::Even`] and [`Texels::Odd`] hold.
    laid: [Option<Place>; 2],
}

/// How convolutions are computed.
pub struct Choice<'a> {
    pub set: KernelSet,
    pub cut: &'a dyn Fn(conv::Class) -> Cut,
}

impl Jobs {
    pub fn new(network: &Network, plan: &Plan, choice: &Choice<'_>) -> Result<Self> {
        // What can be read in fours must not depend on the plan, since weights do not.
        let strictest = Plan::new(network, 1, Join::Direct)?;
        let plan = widened(network, plan);
        let mut all = Jobs {
            plan,
            jobs: Vec::new(),
            classes: Vec::new(),
            spans: Vec::new(),
            given: Default::default(),
            texels: [0; Texels::COUNT],
            laid: [None; 2],
        };
        for group in conv::groups(network, &all.plan)? {
            let from = all.jobs.len();
            let steps: Vec<Step> = group.iter().map(|&i| all.plan.steps[i].clone()).collect();
            Layer { network, steps: &steps, strictest: &strictest, choice }.add_to(&mut all)?;
            all.spans.push(Span { nodes: parts(network, &steps), jobs: from..all.jobs.len() });
        }
        Ok(all)
    }

    fn push(&mut self, job: Job) {
        self.jobs.push(job);
        self.classes.push(None);
    }

    /// So many values are written to these texels.
    fn hold(&mut self, texels: Texels, values: usize) -> Bind {
        let held = &mut self.texels[texels as usize];
        *held = values.max(*held);
        Bind::Texels(texels)
    }

    /// A layer's output is written to these texels.
    fn keep(&mut self, texels: Texels, place: Place) -> Bind {
        self.laid[texels as usize] = Some(place);
        self.hold(texels, place.shape.len())
    }

    /// The texels that a layer's output stands in; it is laid there where it is in none. Who reads a place is stale
    /// whenever it is, so that what lays it runs before whoever relies on that.
    #[inline(never)]
    fn lay(&mut self, place: Place) -> Texels {
        if let Some(texels) = [Texels::Even, Texels::Odd].into_iter().find(|&t| self.laid[t as usize] == Some(place)) {
            return texels;
        }
        let params = kernels::Winograd {
            tiles: place.shape.pixels() as u32,
            quads: (place.shape.c / 4) as u32,
            offset: place.offset as u32,
            stride: place.stride as u32,
            ..Default::default()
        };
        let to = self.keep(Texels::Even, place);
        self.push(Job {
            kernel: Which::Lay,
            params: slot(&params),
            binds: vec![Bind::Activations(place.buffer), to],
            grid: folded((place.shape.len() / 4).div_ceil(MAP)),
        });
        Texels::Even
    }
}

/// The plan with its inputs' channels filled up to a multiple of four, so that they can be read in fours.
fn widened(network: &Network, plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for input in network.inputs() {
        let buffer = plan.places[input].buffer;
        plan.buffers[buffer].c = plan.buffers[buffer].c.next_multiple_of(4);
        let stride = plan.buffers[buffer].c;
        let reads = plan.steps.iter_mut().flat_map(|step| &mut step.reads);
        plan.places.iter_mut().chain(reads).filter(|p| p.buffer == buffer).for_each(|p| p.stride = stride);
    }
    plan
}

/// The parts of a dispatch's work that are its steps': by multiply-adds, where a pool's comparisons and a
/// normalisation's squares count as such.
fn parts(network: &Network, steps: &[Step]) -> Vec<(NodeId, f64)> {
    let work = |step: &Step| match &network.node(step.node).op {
        Op::Lrn { size, .. } => (size * step.writes.shape.per_image()) as f64,
        Op::MaxPool(window) => (window.kernel[0] * window.kernel[1] * step.writes.shape.per_image()) as f64,
        _ => network.macs(step.node) as f64,
    };
    let total: f64 = steps.iter().map(work).sum();
    steps.iter().map(|step| (step.node, if steps.len() == 1 { 1.0 } else { work(step) / total })).collect()
}

/// Steps that are computed together.
struct Layer<'a> {
    network: &'a Network,
    steps: &'a [Step],
    strictest: &'a Plan,
    choice: &'a Choice<'a>,
}

impl Layer<'_> {
    fn add_to(&self, all: &mut Jobs) -> Result<()> {
        let step = &self.steps[0];
        let node = self.network.node(step.node);
        let fail = |reason: String| Error::Shape { layer: node.name.clone(), reason };
        let to = step.writes;
        let Some(&from) = step.reads.first() else { return Err(fail("it reads nothing".into())) };
        let geometry = |window: &crate::graph::op::Window| window.on([from.shape.h, from.shape.w]).map_err(fail);
        let fours = conv::by_four(&from) && conv::by_four(&to);
        let next = self.steps.get(1).map(|step| (step.writes, &self.network.node(step.node).op));
        let hardware = self.choice.set == KernelSet::Hardware;
        let texels = fours && !hardware;
        let mut pooled = |geometry: Option<&Geometry>, mode| {
            let (kernel, each) = match fours {
                true if texels => (Which::PoolTexels, 4),
                true => (Which::Pool4, 4),
                false => (Which::Pool, 1),
            };
            map(all, kernel, slot(&pool(from, to, geometry, mode, each)), from, to, to.shape.len() / each)
        };
        let job = match &node.op {
            // As of pools below; and Winograd's tiles are not for it.
            Op::Conv { .. } if matches!(next, Some((_, Op::Lrn { .. }))) && !hardware => {
                Layer { steps: &self.steps[..1], ..*self }.add_to(all)?;
                return Layer { steps: &self.steps[1..], ..*self }.add_to(all);
            }
            Op::Conv { window, relu, .. } => {
                let geometry = geometry(window)?;
                if let Some(tiling) = conv::winograd(self.network, self.strictest, step.node, self.choice.set) {
                    self.winograd(tiling, &geometry, *relu, all);
                } else if self.is_by_texels() {
                    self.texels(*relu, all);
                } else if let Some((norm, &Op::Lrn { size, alpha, beta, k })) = next {
                    let also = Also::Norm(norm, conv::Norm::new(size, [alpha, beta, k]));
                    self.conv((from, &[to], Some(also)), &geometry, *relu, all);
                } else {
                    let to: Vec<Place> = self.steps.iter().map(|step| step.writes).collect();
                    self.conv((from, &to, None), &geometry, *relu, all);
                }
                return Ok(());
            }
            // Where barriers are dear, two dispatches are faster than one that has some.
            Op::MaxPool(window) if self.steps.len() > 1 && !hardware => {
                let job = pooled(Some(&geometry(window)?), PoolMode::MAX);
                all.push(job);
                return Layer { steps: &self.steps[1..], ..*self }.add_to(all);
            }
            Op::MaxPool(window) if let Some((projected, op)) = next => {
                let relu = matches!(op, Op::Conv { relu: true, .. });
                self.conv((from, &[projected], Some(Also::Pool(to))), &geometry(window)?, relu, all);
                return Ok(());
            }
            Op::MaxPool(window) => pooled(Some(&geometry(window)?), PoolMode::MAX),
            Op::AvgPool { window, count_padding } => {
                let mode = if *count_padding { PoolMode::MEAN_PADDED } else { PoolMode::MEAN };
                pooled(Some(&geometry(window)?), mode)
            }
            Op::AdaptiveAvgPool { .. } => pooled(None, PoolMode::ADAPTIVE),
            Op::Lrn { size, alpha, beta, k } => {
                let params = |each: usize| kernels::Lrn {
                    count: (to.shape.len() / each) as u32,
                    channels: to.shape.c as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                    norm: conv::Norm::new(*size, [*alpha, *beta, *k]),
                };
                // In fours a window reaches no further than the fours beside it.
                let (kernel, each) = match *size <= 8 {
                    true if texels => (Which::LrnTexels, 4),
                    true if fours => (Which::Lrn4, 4),
                    _ => (Which::Lrn, 1),
                };
                map(all, kernel, slot(&params(each)), from, to, to.shape.len() / each)
            }
            Op::Concat => {
                let mut offset = to.offset;
                for (&branch, &from) in node.inputs.iter().zip(&step.reads) {
                    let params = kernels::Concat {
                        count: from.shape.len() as u32,
                        channels: from.shape.c as u32,
                        x_offset: from.offset as u32,
                        x_stride: from.stride as u32,
                        y_offset: offset as u32,
                        y_stride: to.stride as u32,
                        branch: branch as u32,
                    };
                    let mut job = map(all, Which::Concat, slot(&params), from, to, from.shape.len());
                    job.binds.insert(1, Bind::Gains);
                    all.push(job);
                    offset += from.shape.c;
                }
                return Ok(());
            }
            Op::Dense { out, relu } => {
                let params = kernels::Dense {
                    inputs: from.shape.per_image() as u32,
                    channels: from.shape.c as u32,
                    pixels: (from.shape.h * from.shape.w) as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    outputs: *out as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                    relu: u32::from(*relu),
                };
                Job {
                    kernel: Which::Dense,
                    params: slot(&params),
                    binds: vec![
                        Bind::Activations(from.buffer),
                        Bind::Weight(step.node),
                        Bind::Bias(step.node),
                        Bind::Activations(to.buffer),
                    ],
                    grid: [out.div_ceil(DENSE) as u32, to.shape.n as u32, 1],
                }
            }
            Op::Softmax => {
                let params = kernels::Softmax {
                    pixels: to.shape.pixels() as u32,
                    channels: to.shape.c as u32,
                    x_offset: from.offset as u32,
                    x_stride: from.stride as u32,
                    y_offset: to.offset as u32,
                    y_stride: to.stride as u32,
                    first: all.given.1 as u32,
                };
                all.given.0.insert(step.node, all.given.1);
                all.given.1 += to.shape.len();
                let mut job = map(all, Which::Softmax, slot(&params), from, to, 0);
                job.binds.push(Bind::Given);
                Job { grid: folded(to.shape.pixels()), ..job }
            }
            Op::Input(_) => return Err(fail("an input is no step".into())),
        };
        all.push(job);
        Ok(())
    }

    /// Convolutions of one input, or one with what comes before or after it.
    fn conv(&self, (from, to, also): (Place, &[Place], Option<Also>), geometry: &Geometry, relu: bool, all: &mut Jobs) {
        let place = also.map(|(Also::Pool(place) | Also::Norm(place, _))| place);
        let mut params = conv::Params::new(from, to, place, geometry, relu);
        let input = self.network.node(self.steps[0].node).inputs.first();
        let filled = input.is_some_and(|&input| conv::is_filled(self.network, input));
        let tile = match also {
            Some(Also::Pool(_)) => Some(Tile::Pool),
            Some(Also::Norm(_, norm)) => {
                params.norm = norm;
                Some(Tile::Norm)
            }
            None if (filled || conv::by_four(&from)) && to.iter().all(conv::by_four) => {
                params.channels = params.channels.next_multiple_of(4);
                None
            }
            None => Some(Tile::Any),
        };
        let layer = self.steps[usize::from(matches!(also, Some(Also::Pool(_))))].node;
        let outs = to.iter().chain(&place).map(|place| Bind::Activations(place.buffer));
        self.product(tile, &params, Bind::Activations(from.buffer), layer, outs.collect(), all);
    }

    /// As [`conv::Packed`] has the weights of such layers.
    fn is_by_texels(&self) -> bool {
        let by_texels = |step: &Step| conv::is_by_texels(self.network, self.strictest, step.node, self.choice.set);
        self.steps.iter().all(by_texels)
    }

    /// 1x1 convolutions of one input, by texels.
    fn texels(&self, relu: bool, all: &mut Jobs) {
        let from = self.steps[0].reads[0];
        let to: Vec<Place> = self.steps.iter().map(|step| step.writes).collect();
        let texels = Bind::Texels(all.lay(from));
        let outs = to.iter().map(|place| Bind::Activations(place.buffer)).collect();
        let params = conv::Params::new(from, &to, None, &one(from.shape), relu);
        self.product(Some(Tile::Texels), &params, texels, self.steps[0].node, outs, all);
    }

    /// A dispatch of conv.wgsl.
    fn product(
        &self,
        tile: Option<Tile>,
        params: &conv::Params,
        from: Bind,
        layer: NodeId,
        to: Vec<Bind>,
        all: &mut Jobs,
    ) {
        let taps = params.kernel[0] * params.kernel[1];
        let class = conv::Class { tile, pixels: params.pixels, quads: params.quads, depth: params.channels / 4, taps };
        let cut = (self.choice.cut)(class);
        let mut binds = vec![from, Bind::Weight(layer)];
        if tile == Some(Tile::Points) {
            binds.extend(to);
        } else {
            let spare = conv::MOST_LAYERS - to.len();
            binds.push(Bind::Bias(layer));
            binds.extend(to);
            binds.extend((0..spare).map(Bind::Spare));
        }
        let grid = cut.grid(params.pixels, params.quads);
        all.jobs.push(Job { kernel: Which::Conv(cut), params: slot(params), binds, grid });
        all.classes.push(Some(class));
    }

    /// A convolution as three dispatches, of as many pictures as the scratch shall hold: transform, one product a
    /// point, transform back.
    fn winograd(&self, tiling: Tiling, geometry: &Geometry, relu: bool, all: &mut Jobs) {
        let Step { node, ref reads, writes: to } = self.steps[0];
        let from = reads[0];
        let points = tiling.side() * tiling.side();
        let step = geometry.stride[0];
        let [down, across] = tiling.grid(to.shape);
        let channels = from.shape.c.next_multiple_of(4) * if step == 1 { 1 } else { PHASES };
        let most = (SCRATCH / (points * down * across * channels.max(to.shape.c))).max(1);
        for first in (0..to.shape.n).step_by(most) {
            let tiles = most.min(to.shape.n - first) * down * across;
            // Tiles of conv.wgsl shall not reach from one point into the next.
            let plane = tiles.next_multiple_of(conv::Tile::MOST_PIXELS);
            let job = |kernel, place: Place, channels: usize, binds| Job {
                kernel,
                params: slot(&kernels::Winograd {
                    tiles: tiles as u32,
                    plane: plane as u32,
                    down: down as u32,
                    across: across as u32,
                    height: place.shape.h as u32,
                    width: place.shape.w as u32,
                    quads: (channels / 4) as u32,
                    offset: place.offset as u32,
                    stride: place.stride as u32,
                    pad: geometry.pad.map(|n| n as u32),
                    relu: u32::from(relu),
                    outputs: tiling.outputs as u32,
                    step: step as u32,
                    first: first as u32,
                }),
                binds,
                grid: folded((tiles * channels / 4).div_ceil(MAP)),
            };
            let rows = |channels| Shape::new(1, points, plane, channels);
            let whole = |shape: Shape| Place { buffer: 0, offset: 0, stride: shape.c, shape };
            let (inputs, products) = (rows(channels), rows(to.shape.c));
            let scattered = all.hold(Texels::Points, inputs.len());
            let multiplied = all.hold(Texels::Products, products.len());
            all.push(job(Which::Scatter, from, channels, vec![Bind::Activations(from.buffer), scattered]));
            let mut product = conv::Params::new(whole(inputs), &[whole(products)], None, &one(inputs), false);
            product.plane = plane as u32;
            self.product(Some(Tile::Points), &product, scattered, node, vec![multiplied], all);
            let binds = vec![multiplied, Bind::Bias(node), Bind::Activations(to.buffer)];
            all.push(job(Which::Gather, to, to.shape.c, binds));
        }
    }
}

/// What one dispatch makes beside a convolution's output.
#[derive(Clone, Copy)]
enum Also {
    /// What it reads: a pool's output, to this place.
    Pool(Place),
    /// Its output normalised, to this place.
    Norm(Place, conv::Norm),
}

/// A window of one cell.
fn one(shape: Shape) -> Geometry {
    Geometry { kernel: [1, 1], stride: [1, 1], pad: [0, 0], pad_end: [0, 0], out: [shape.h, shape.w] }
}

/// Values that a scratch shall hold, unless one picture takes more: the first layer's, and a large batch would need
/// more than a buffer may hold.
const SCRATCH: usize = 4 << 20;
/// Threads of a workgroup where each makes one thing.
const MAP: usize = 64;
/// Outputs of a workgroup of dense.wgsl.
const DENSE: usize = 32;

/// A dispatch that reads one place and writes another, a thread for each of `count` things.
#[inline(never)]
fn map(
    all: &mut Jobs,
    kernel: Which,
    params: [u8; kernels::SLOT as usize],
    from: Place,
    to: Place,
    count: usize,
) -> Job {
    let binds = if matches!(kernel, Which::PoolTexels | Which::LrnTexels) {
        let texels = all.lay(from);
        vec![Bind::Texels(texels), Bind::Activations(to.buffer), all.keep(texels.other(), to)]
    } else {
        vec![Bind::Activations(from.buffer), Bind::Activations(to.buffer)]
    };
    Job { kernel, params, binds, grid: folded(count.div_ceil(MAP)) }
}

/// So many workgroups, in rows where one dimension does not hold them.
fn folded(groups: usize) -> [u32; 3] {
    let groups = groups as u32;
    let rows = groups.div_ceil(MAX_GROUPS).max(1);
    [groups.div_ceil(rows), rows, 1]
}

/// Adaptive pooling has no window: the shapes say all. A thread makes `each` channels.
fn pool(from: Place, to: Place, geometry: Option<&Geometry>, mode: PoolMode, each: usize) -> kernels::Pool {
    let axes = |field: fn(&Geometry) -> [usize; 2]| geometry.map_or([0; 2], |g| field(g).map(|n| n as u32));
    kernels::Pool {
        count: (to.shape.len() / each) as u32,
        height: from.shape.h as u32,
        width: from.shape.w as u32,
        channels: from.shape.c as u32,
        x_offset: from.offset as u32,
        x_stride: from.stride as u32,
        out_height: to.shape.h as u32,
        out_width: to.shape.w as u32,
        y_offset: to.offset as u32,
        y_stride: to.stride as u32,
        kernel: axes(|g| g.kernel),
        step: axes(|g| g.stride),
        pad: axes(|g| g.pad),
        end: axes(|g| g.pad_end),
        mode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::googlenet::{Spec, Variant};

    fn jobs(variant: Variant, join: Join, set: KernelSet) -> Jobs {
        let network = Spec { variant, heads: false, ..Spec::default() }.build().unwrap();
        let plan = Plan::new(&network, 1, join).unwrap();
        Jobs::new(&network, &plan, &Choice { set, cut: &|class| class.cut(set) }).unwrap()
    }

    #[test]
    fn a_network_takes_as_many_dispatches_as_budgeted() {
        let budgets: serde_json::Value =
            serde_json::from_str(include_str!("../../budgets.json")).expect("budgets.json is JSON");
        let budget = |variant: &str| budgets["dispatches"][variant].as_u64().expect("a number") as usize;
        let keras = jobs(Variant::Keras, Join::Direct, KernelSet::Hardware).jobs.len();
        assert_eq!(keras, budget("keras"), "a network that takes fewer lowers its budget");
        // BVLC's has a convolution and two normalisations more, one of them with the convolution before it.
        assert_eq!(jobs(Variant::Caffe, Join::Direct, KernelSet::Hardware).jobs.len(), budget("caffe"));
        // Nine modules of four branches are joined.
        assert_eq!(jobs(Variant::Keras, Join::Gains, KernelSet::Hardware).jobs.len(), keras + 9 * 4);
        // Winograd's transforms, of the first layer, ten of 3x3 and nine of 5x5, and nine pools by themselves; what the
        // other five pools and six of the modules read is laid as texels, and pools leave theirs for who reads them.
        let software = jobs(Variant::Keras, Join::Direct, KernelSet::Software).jobs.len();
        assert_eq!(software, keras + 2 * (1 + 10 + 9) + 9 + 5 + 6);
    }

    #[test]
    fn a_dispatch_writes_to_different_buffers() {
        for job in jobs(Variant::Caffe, Join::Direct, KernelSet::Software).jobs {
            let mut binds = job.binds.clone();
            binds.dedup();
            assert_eq!(binds.len(), job.binds.len());
        }
    }
}
