//! Local response normalisation across channels (Krizhevsky et al. 2012, section 3.3).

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{EntryPoint, READ_WRITE, params};
use crate::gpu::layout::is_vec4;
use crate::gpu::shaders;
use crate::graph::op::Op;
use crate::plan::Place;

static LRN: EntryPoint = EntryPoint::elementwise("lrn", &shaders::LRN, READ_WRITE);
static LRN4: EntryPoint = EntryPoint::elementwise("lrn4", &shaders::LRN, READ_WRITE);

/// The largest window for kernels that compute four channels per thread: it reaches at most four channels to either
/// side.
pub const MAX_VEC4_SIZE: usize = 8;

params! {
    /// The `Params` of `lrn.wgsl`.
    Params {
        count: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        y_offset: u32,
        y_stride: u32,
        norm: Normalisation,
    }
}

params! {
    /// The parameters of a normalisation. They are the last field of the parameters of several shaders.
    #[derive(Default)]
    Normalisation {
        /// The number of channels in the window before the current one, and after it.
        before: u32,
        after: u32,
        /// Alpha divided by the window's size.
        scale: f32,
        beta: f32,
        k: f32,
    }
}

impl Normalisation {
    pub fn new(size: usize, [alpha, beta, k]: [f32; 3]) -> Self {
        let (before, after) = ((size.saturating_sub(1) / 2) as u32, (size / 2) as u32);
        Normalisation { before, after, scale: alpha / size as f32, beta, k }
    }

    /// The parameters of an operation; `None` if it is not a normalisation.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Lrn { size, alpha, beta, k } => Some(Self::new(size, [alpha, beta, k])),
            _ => None,
        }
    }
}

impl Params {
    /// `each` is the number of channels that one thread computes.
    pub fn new(from: Place, to: Place, norm: Normalisation, each: usize) -> Self {
        Params {
            count: (to.shape.len() / each) as u32,
            channels: to.shape.c as u32,
            x_offset: from.offset as u32,
            x_stride: from.stride as u32,
            y_offset: to.offset as u32,
            y_stride: to.stride as u32,
            norm,
        }
    }
}

/// Appends one dispatch.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Op::Lrn { size, alpha, beta, k } = layer.node().op else { return Ok(()) };
    let (from, to) = (layer.from()?, layer.to());
    let vec4 = size <= MAX_VEC4_SIZE && is_vec4(&from) && is_vec4(&to);
    let (entry, each) = if vec4 { (&LRN4, 4) } else { (&LRN, 1) };
    let params = Params::new(from, to, Normalisation::new(size, [alpha, beta, k]), each);
    let binds = vec![Bind::Activations(from.buffer), Bind::Activations(to.buffer)];
    lowered.jobs.push(Job::new(entry, &params, binds, to.shape.len() / each));
    Ok(())
}

/// The gradients.
#[cfg(feature = "train")]
pub mod gradient {
    use super::*;
    use crate::gpu::backward::layer::{GradientLayer, LoweredGradients};
    use crate::gpu::kernel::Access;

    const GRADIENT: &[(u32, Access)] = &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)];

    static LRN_GRADIENT: EntryPoint = EntryPoint::elementwise("lrn_gradient", &shaders::BACKWARD_LRN, GRADIENT);
    static LRN_GRADIENT4: EntryPoint = EntryPoint::elementwise("lrn_gradient4", &shaders::BACKWARD_LRN, GRADIENT);

    /// The largest window for which a thread computes the gradients for four channels: windows that overlap them reach at
    /// most four channels to either side.
    const MAX_VEC4_GRADIENT: usize = 5;

    params! {
        /// The `Params` of `backward/lrn.wgsl`.
        GradientParams {
            count: u32,
            channels: u32,
            x_offset: u32,
            x_stride: u32,
            g_offset: u32,
            g_stride: u32,
            to_offset: u32,
            to_stride: u32,
            add: u32,
            norm: Normalisation,
        }
    }

    /// Appends one dispatch for the gradient.
    pub fn lower_gradient(layer: &GradientLayer<'_>, lowered: &mut LoweredGradients) -> Result<()> {
        let (&Op::Lrn { size, alpha, beta, k }, Some(target)) = (&layer.op_node().op, layer.target()) else {
            return Ok(());
        };
        let (from, gradient, to) = (layer.from()?, layer.gradient, target.place);
        let vec4 = size <= MAX_VEC4_GRADIENT && [from, gradient, to].iter().all(is_vec4);
        let (entry, each) = if vec4 { (&LRN_GRADIENT4, 4) } else { (&LRN_GRADIENT, 1) };
        let count = to.shape.len() / each;
        let params = GradientParams {
            count: count as u32,
            channels: to.shape.c as u32,
            x_offset: from.offset as u32,
            x_stride: from.stride as u32,
            g_offset: gradient.offset as u32,
            g_stride: gradient.stride as u32,
            to_offset: to.offset as u32,
            to_stride: to.stride as u32,
            add: u32::from(target.add),
            norm: Normalisation::new(size, [alpha, beta, k]),
        };
        let binds = vec![Bind::Activations(from.buffer), Bind::Gradient(gradient.buffer), Bind::Gradient(to.buffer)];
        lowered.jobs.push(Job::new(entry, &params, binds, count));
        Ok(())
    }
}
