//! Max pooling, average pooling and adaptive average pooling.

use super::conv;
use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{EntryPoint, READ_WRITE, params};
use crate::gpu::layout::is_vec4;
use crate::gpu::shaders;
use crate::graph::op::{Geometry, Op};
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
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Mode(u32);

impl Mode {
    const MAX: Mode = Mode(0);
    const MEAN: Mode = Mode(1);
    const MEAN_PADDED: Mode = Mode(2);
    const ADAPTIVE: Mode = Mode(3);
}

impl Params {
    /// The parameters of a pooling layer. `each` is the number of channels that one thread computes. Adaptive pooling
    /// has no window; its bins follow from the shapes of input and output.
    pub fn new(layer: &Layer<'_>, each: usize) -> Result<Self> {
        let (from, to) = (layer.from()?, layer.to());
        let (geometry, mode) = match &layer.node().op {
            Op::MaxPool(window) => (Some(layer.geometry(window)?), Mode::MAX),
            Op::AvgPool { window, count_padding: true } => (Some(layer.geometry(window)?), Mode::MEAN_PADDED),
            Op::AvgPool { window, .. } => (Some(layer.geometry(window)?), Mode::MEAN),
            _ => (None, Mode::ADAPTIVE),
        };
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
