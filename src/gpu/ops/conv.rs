//! Convolution: on its own, together with siblings that read the same input, together with the max pool before it, or
//! together with the normalisation after it.

use super::lrn::Normalisation;
use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, KernelId, UNUSED, params, slot};
use crate::gpu::launch::{ConvKey, LaunchConfig, Tile};
use crate::gpu::layout::{is_padded, is_vec4};
use crate::gpu::shaders;
use crate::graph::network::NodeId;
use crate::graph::op::{Activation, Geometry, Op};
use crate::plan::Place;
use Access::{Params as Uniform, Read, Write};

/// The largest number of layers that one dispatch computes: the number of the shader's output bindings.
pub const MAX_LAYERS: usize = UNUSED + 1;

/// The largest number of channels that `conv_norm` can normalise. One workgroup holds all channels of a pixel, eight in
/// each thread.
pub const MAX_NORMALISED: usize = 512;

const BINDINGS: &[(u32, Access)] = &[(0, Uniform), (1, Read), (2, Read), (3, Read), (4, Write), (5, Write), (6, Write)];

const fn entry(name: &'static str) -> EntryPoint {
    EntryPoint { name, shader: &shaders::CONV, bindings: BINDINGS, per_workgroup: 1 }
}

static CONV16X8: EntryPoint = entry("conv16x8");
static CONV8X8: EntryPoint = entry("conv8x8");
static CONV4X8: EntryPoint = entry("conv4x8");
static CONV4X4: EntryPoint = entry("conv4x4");
static SLICED8X8: EntryPoint = entry("sliced8x8");
static SLICED4X8: EntryPoint = entry("sliced4x8");
static SLICED4X4: EntryPoint = entry("sliced4x4");
static CONV: EntryPoint = entry("conv");
static CONV_POOL: EntryPoint = entry("conv_pool");
static CONV_NORM: EntryPoint = entry("conv_norm");

/// The kernel of a launch configuration; `None` for the kernels of `software/conv.wgsl`.
pub fn kernel(config: LaunchConfig) -> Option<KernelId> {
    let entry = match (config.tile, config.slices) {
        (Tile::T16x8, _) => &CONV16X8,
        (Tile::T8x8, 1) => &CONV8X8,
        (Tile::T4x8, 1) => &CONV4X8,
        (Tile::T4x4, 1) => &CONV4X4,
        (Tile::T8x8, _) => &SLICED8X8,
        (Tile::T4x8, _) => &SLICED4X8,
        (Tile::T4x4, _) => &SLICED4X4,
        (Tile::AnyChannels, _) => &CONV,
        (Tile::Pool, _) => &CONV_POOL,
        (Tile::Lrn, _) => &CONV_NORM,
        (Tile::Texture | Tile::Winograd, _) => return None,
    };
    Some(KernelId { entry, overrides: config.overrides() })
}

params! {
    /// Where a layer's output is written. Corresponds to `To` in `conv.wgsl`.
    To {
        /// The index of the layer's first group of four channels in the product of all layers.
        first: u32,
        channels: u32,
        offset: u32,
        stride: u32,
    }
}

params! {
    /// The `Params` of `conv.wgsl`.
    Params {
        to: [To; MAX_LAYERS],
        pixels: u32,
        vec4_channels: u32,
        height: u32,
        width: u32,
        channels: u32,
        x_offset: u32,
        x_stride: u32,
        out_height: u32,
        out_width: u32,
        kernel: [u32; 2],
        step: [u32; 2],
        pad: [u32; 2],
        relu: u32,
        plane: u32,
        norm: Normalisation,
    }
}

impl Params {
    /// The parameters of sibling layers that all read `from` and write to one place each in `to`. `fused` is the place
    /// of the fused max pool or normalisation. The channels of `from` may be padded with zeros, because their weights
    /// are padded as well.
    pub fn new(from: Place, to: &[Place], fused: Option<Place>, geometry: &Geometry, relu: bool) -> Self {
        // Unused outputs begin after the last channel, so nothing is written to them.
        let none = To { first: u32::MAX, channels: 0, offset: 0, stride: 0 };
        let mut all = [none; MAX_LAYERS];
        let mut vec4_channels = 0;
        for (to, slot) in to.iter().zip(&mut all) {
            *slot = To::new(vec4_channels, to);
            vec4_channels += to.shape.c.div_ceil(4) as u32;
        }
        if let Some(fused) = fused {
            all[to.len()] = To::new(u32::MAX, &fused);
        }
        let out = to[0].shape;
        Params {
            to: all,
            pixels: out.pixels() as u32,
            vec4_channels,
            height: from.shape.h as u32,
            width: from.shape.w as u32,
            channels: from.shape.c as u32,
            x_offset: from.offset as u32,
            x_stride: from.stride as u32,
            out_height: out.h as u32,
            out_width: out.w as u32,
            kernel: geometry.kernel.map(|n| n as u32),
            step: geometry.stride.map(|n| n as u32),
            pad: geometry.pad.map(|n| n as u32),
            relu: u32::from(relu),
            plane: out.pixels() as u32,
            norm: Normalisation::default(),
        }
    }

    /// The properties of the convolution that its launch configuration depends on.
    pub fn key(&self, tile: Option<Tile>) -> ConvKey {
        let taps = self.kernel[0] * self.kernel[1];
        ConvKey { tile, pixels: self.pixels, vec4_channels: self.vec4_channels, depth: self.channels / 4, taps }
    }
}

impl To {
    fn new(first: u32, place: &Place) -> Self {
        To { first, channels: place.shape.c as u32, offset: place.offset as u32, stride: place.stride as u32 }
    }
}

/// Whether the operation is a convolution that applies ReLU to its output.
pub fn has_relu(op: &Op) -> bool {
    matches!(op, Op::Conv { activation: Activation::Relu, .. })
}

/// An operation that is fused with a convolution into one dispatch.
enum Fusion {
    /// A max pool whose output is the convolution's input. Its output is written to this place, too.
    Pool(Place),
    /// A normalisation of the convolution's output, which is written to this place.
    Lrn(Place, Normalisation),
}

/// Appends one dispatch that computes a convolution with its siblings, or a convolution with the normalisation after
/// it.
pub fn lower(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Op::Conv { window, activation, .. } = layer.node().op else { return Ok(()) };
    let geometry = layer.geometry(&window)?;
    if let Some((place, norm)) = layer.next().and_then(|(place, op)| Some((place, Normalisation::of(op)?))) {
        let fusion = Some(Fusion::Lrn(place, norm));
        return add(layer, layer.step().node, (&[layer.to()], fusion), &geometry, activation, lowered);
    }
    let to: Vec<Place> = layer.steps.iter().map(|step| step.writes).collect();
    add(layer, layer.step().node, (&to, None), &geometry, activation, lowered)
}

/// Appends one dispatch that computes a max pool and the 1x1 convolution of its output.
pub fn lower_after_pool(layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let (Op::MaxPool(window), [_, conv, ..]) = (&layer.node().op, layer.steps) else { return Ok(()) };
    let activation = Activation::from(has_relu(&layer.network.node(conv.node).op));
    let fusion = Some(Fusion::Pool(layer.to()));
    add(layer, conv.node, (&[conv.writes], fusion), &layer.geometry(window)?, activation, lowered)
}

fn add(
    layer: &Layer<'_>,
    weights: NodeId,
    (to, fusion): (&[Place], Option<Fusion>),
    geometry: &Geometry,
    activation: Activation,
    lowered: &mut Lowered,
) -> Result<()> {
    let from = layer.from()?;
    let fused = fusion.as_ref().map(|(Fusion::Pool(place) | Fusion::Lrn(place, _))| *place);
    let mut params = Params::new(from, to, fused, geometry, activation == Activation::Relu);
    let padded = layer.node().inputs.first().is_some_and(|&input| is_padded(layer.network, input));
    let tile = match fusion {
        Some(Fusion::Pool(_)) => Some(Tile::Pool),
        Some(Fusion::Lrn(_, norm)) => {
            params.norm = norm;
            Some(Tile::Lrn)
        }
        None if (padded || is_vec4(&from)) && to.iter().all(is_vec4) => {
            params.channels = params.channels.next_multiple_of(4);
            None
        }
        None => Some(Tile::AnyChannels),
    };
    let key = params.key(tile);
    let config = (layer.config)(key);
    let Some(kernel) = kernel(config) else { return Err(layer.fail("it has no kernel".into())) };
    let mut binds = vec![Bind::Activations(from.buffer), Bind::Weight(weights), Bind::Bias(weights)];
    binds.extend(outputs(to.iter().chain(&fused)));
    let grid = config.grid(params.pixels, params.vec4_channels);
    lowered.jobs.push(Job { kernel, params: slot(&params), binds, grid, conv: Some(key) });
    Ok(())
}

/// The output bindings of a dispatch: a buffer for each place, and placeholders for the remaining outputs.
pub fn outputs<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<Bind> {
    let mut binds: Vec<Bind> = places.map(|place| Bind::Activations(place.buffer)).collect();
    binds.extend((0..MAX_LAYERS - binds.len()).map(Bind::Unused));
    binds
}
