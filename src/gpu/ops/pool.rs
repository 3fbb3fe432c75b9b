//! Max pooling, average pooling and adaptive average pooling.

use super::conv;
use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{EntryPoint, READ_WRITE, params};
use crate::gpu::layout::is_vec4;
use crate::gpu::shaders;
use crate::graph::op::{Geometry, Op, Window};
use crate::plan::Place;

static POOL: EntryPoint = EntryPoint::elementwise("pool", &shaders::POOL, READ_WRITE);
static POOL4: EntryPoint = EntryPoint::elementwise("pool4", &shaders::POOL, READ_WRITE);

params! {
    /// The `Params` of `pool.wgsl`.
    Params {
        count: u32,
        height: u32,
        width: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        out_height: u32,
        out_width: u32,
        y_offset: u32,
        y_stride: u32,
        kernel: [u32; 2],
        step: [u32; 2],
        pad: [u32; 2],
        end: [u32; 2],
        mode: Mode,
    }
}

/// How `pool.wgsl` reduces a window to one value.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Mode(u32);

impl Mode {
    const MAX: Mode = Mode(0);
    const MEAN: Mode = Mode(1);
    const MEAN_PADDED: Mode = Mode(2);
    const ADAPTIVE: Mode = Mode(3);

    /// The mode of an operation, and the geometry of its window, if it has one.
    fn of(op: &Op, geometry: impl Fn(&Window) -> Result<Geometry>) -> Result<(Option<Geometry>, Mode)> {
        Ok(match op {
            Op::MaxPool(window) => (Some(geometry(window)?), Mode::MAX),
            Op::AvgPool { window, count_padding: true } => (Some(geometry(window)?), Mode::MEAN_PADDED),
            Op::AvgPool { window, .. } => (Some(geometry(window)?), Mode::MEAN),
            _ => (None, Mode::ADAPTIVE),
        })
    }
}

impl Params {
    /// The parameters of a pooling layer. `each` is the number of channels that one thread computes. Adaptive pooling
    /// has no window; its bins follow from the shapes of input and output.
    pub fn new(layer: &Layer<'_>, each: usize) -> Result<Self> {
        let (from, to) = (layer.from()?, layer.to());
        let (geometry, mode) = Mode::of(&layer.node().op, |window| layer.geometry(window))?;
        Ok(Self::on(from, to, geometry.as_ref(), mode, each))
    }

    fn on(from: Place, to: Place, geometry: Option<&Geometry>, mode: Mode, each: usize) -> Self {
        let axes = |field: fn(&Geometry) -> [usize; 2]| geometry.map_or([0; 2], |g| field(g).map(|n| n as u32));
        Params {
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
}

/// Appends one dispatch. If the layer also has the 1x1 convolution of a max pool's output, the same dispatch computes
/// it.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    if layer.next().is_some() {
        return conv::lower_after_pool(layer, lowered);
    }
    let (from, to) = (layer.from()?, layer.to());
    let (entry, each) = if is_vec4(&from) && is_vec4(&to) { (&POOL4, 4) } else { (&POOL, 1) };
    let binds = vec![Bind::Activations(from.buffer), Bind::Activations(to.buffer)];
    lowered.jobs.push(Job::new(entry, &Params::new(layer, each)?, binds, to.shape.len() / each));
    Ok(())
}

/// The gradients.
#[cfg(feature = "train")]
pub mod gradient {
    use super::*;
    use crate::gpu::backward::layer::{GradientLayer, LoweredGradients};
    use crate::gpu::kernel::Access;

    const MAX_GRADIENT: &[(u32, Access)] =
        &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Read), (4, Access::Write)];
    const MEAN_GRADIENT: &[(u32, Access)] = &[(0, Access::Params), (3, Access::Read), (4, Access::Write)];

    static MAX_POOL_GRADIENT: EntryPoint =
        EntryPoint::elementwise("max_pool_gradient", &shaders::BACKWARD_POOL, MAX_GRADIENT);
    static MAX_POOL_GRADIENT4: EntryPoint =
        EntryPoint::elementwise("max_pool_gradient4", &shaders::BACKWARD_POOL, MAX_GRADIENT);
    static MEAN_POOL_GRADIENT: EntryPoint =
        EntryPoint::elementwise("mean_pool_gradient", &shaders::BACKWARD_POOL, MEAN_GRADIENT);
    static MEAN_POOL_GRADIENT4: EntryPoint =
        EntryPoint::elementwise("mean_pool_gradient4", &shaders::BACKWARD_POOL, MEAN_GRADIENT);

    params! {
        /// The `Params` of `backward/pool.wgsl`.
        GradientParams {
            count: u32,
            height: u32,
            width: u32,
            channels: u32,
            x_offset: u32,
            x_stride: u32,
            out_height: u32,
            out_width: u32,
            y_offset: u32,
            y_stride: u32,
            g_offset: u32,
            g_stride: u32,
            to_offset: u32,
            to_stride: u32,
            kernel: [u32; 2],
            step: [u32; 2],
            pad: [u32; 2],
            end: [u32; 2],
            mode: Mode,
            add: u32,
        }
    }

    /// Appends one dispatch for the gradient.
    pub fn lower_gradient(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) -> Result<()> {
        let Some(target) = layer.target() else { return Ok(()) };
        let (from, output, gradient, to) = (layer.from()?, layer.writes, layer.gradient, target.place);
        let (geometry, mode) = Mode::of(&layer.op_node().op, |window| layer.geometry(window))?;
        let is_max = mode == Mode::MAX;
        let vec4 = [gradient, to].iter().all(is_vec4) && (!is_max || is_vec4(&from) && is_vec4(&output));
        let entry = match (is_max, vec4) {
            (true, true) => &MAX_POOL_GRADIENT4,
            (true, false) => &MAX_POOL_GRADIENT,
            (false, true) => &MEAN_POOL_GRADIENT4,
            (false, false) => &MEAN_POOL_GRADIENT,
        };
        let count = to.shape.len() / if vec4 { 4 } else { 1 };
        let forward = Params::on(from, output, geometry.as_ref(), mode, 1);
        let params = GradientParams {
            count: count as u32,
            height: forward.height,
            width: forward.width,
            channels: forward.channels,
            x_offset: forward.x_offset,
            x_stride: forward.x_stride,
            out_height: forward.out_height,
            out_width: forward.out_width,
            y_offset: forward.y_offset,
            y_stride: forward.y_stride,
            g_offset: gradient.offset as u32,
            g_stride: gradient.stride as u32,
            to_offset: to.offset as u32,
            to_stride: to.stride as u32,
            kernel: forward.kernel,
            step: forward.step,
            pad: forward.pad,
            end: forward.end,
            mode,
            add: u32::from(target.add),
        };
        let mut binds =
            if is_max { vec![Bind::Activations(from.buffer), Bind::Activations(output.buffer)] } else { vec![] };
        binds.extend([Bind::Gradient(gradient.buffer), Bind::Gradient(to.buffer)]);
        lowered.jobs.push(Job::new(entry, &params, binds, count));
        Ok(())
    }
}
