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
    lowered.jobs.push(Job { kernel: layer.adding(kernel), params: slot(&params), binds, grid, conv: Some(key) });
    Ok(())
}

/// The output bindings of a dispatch: a buffer for each place, and placeholders for the remaining outputs.
pub fn outputs<'a>(places: impl Iterator<Item = &'a Place>) -> Vec<Bind> {
    let mut binds: Vec<Bind> = places.map(|place| Bind::Activations(place.buffer)).collect();
    binds.extend((0..MAX_LAYERS - binds.len()).map(Bind::Unused));
    binds
}

/// The gradients.
#[cfg(feature = "train")]
pub mod gradient {
    use super::*;
    use crate::gpu::backward::layer::{GradientLayer, LoweredGradients, Transposed};
    use crate::gpu::device::KernelSet;
    use crate::gpu::kernel::READ_WRITE;
    use crate::gpu::layout::WeightLayout;

    const WEIGHTS: &[(u32, Access)] = &[(0, Uniform), (1, Read), (2, Read), (3, Write)];

    const fn weights(name: &'static str) -> EntryPoint {
        EntryPoint { name, shader: &shaders::BACKWARD_CONV_WEIGHTS, bindings: WEIGHTS, per_workgroup: 1 }
    }

    static WEIGHTS16X8: EntryPoint = weights("weights16x8");
    static WEIGHTS8X8: EntryPoint = weights("weights8x8");
    static WEIGHTS4X8: EntryPoint = weights("weights4x8");
    static WEIGHTS_ANY: EntryPoint = weights("weights_any");
    static SUM_PARTS: EntryPoint = EntryPoint::elementwise("sum_parts", &shaders::BACKWARD_SUM_PARTS, READ_WRITE);
    static CONV_INPUT: EntryPoint = EntryPoint::elementwise("conv_input", &shaders::BACKWARD_CONV_INPUT, WEIGHTS);

    params! {
        /// The `Params` of `backward/conv_weights.wgsl`.
        WeightsParams {
            rows: u32,
            rows_per_part: u32,
            out_height: u32,
            out_width: u32,
            height: u32,
            width: u32,
            channels: u32,
            x_offset: u32,
            x_stride: u32,
            outputs: u32,
            g_offset: u32,
            g_stride: u32,
            kernel: [u32; 2],
            step: [u32; 2],
            pad: [u32; 2],
            columns: u32,
            first: u32,
            size: u32,
            add: u32,
        }
    }

    params! {
        /// The `Params` of `backward/sum_parts.wgsl`.
        SumParams {
            count: u32,
            parts: u32,
            size: u32,
            first: u32,
        }
    }

    params! {
        /// The `Params` of `backward/conv_input.wgsl`.
        InputParams {
            count: u32,
            phases: u32,
            tiles: u32,
            vec4_channels: u32,
            height: u32,
            width: u32,
            channels: u32,
            to_offset: u32,
            to_stride: u32,
            out_height: u32,
            out_width: u32,
            outputs: u32,
            g_offset: u32,
            g_stride: u32,
            kernel: [u32; 2],
            step: [u32; 2],
            pad: [u32; 2],
            add: u32,
        }
    }

    /// How the gradients for the weights of a layer are divided among threads.
    struct WeightsLaunch {
        entry: &'static EntryPoint,
        /// The number of threads of a workgroup along the outputs and along the channels.
        lanes: usize,
        rows: usize,
        /// The number of workgroups along the outputs and along the channels.
        groups: [usize; 2],
        /// The number of parts of the pixels, each of which has its own sums.
        parts: usize,
    }

    impl WeightsLaunch {
        /// The largest number of values of all parts of one layer.
        const MAX_PARTS: usize = 4 << 20;
        /// The smallest number of pixels of a part.
        const MIN_PIXELS: usize = 64;

        fn new(set: KernelSet, x: Place, gradient: Place, taps: usize) -> Self {
            let (channels, outputs) = (x.shape.c, gradient.shape.c);
            // The stride of an input is a multiple of four even where the number of its channels is not.
            let x_vec4 = x.offset.is_multiple_of(4) && x.stride.is_multiple_of(4);
            let vec4 = x_vec4 && is_vec4(&gradient);
            // A large tile takes fewer loads, of which software adapters have the cost, but on a GPU too many registers.
            let waste = |tile: usize| channels.next_multiple_of(tile) - channels;
            let software = set == KernelSet::Software;
            let (entry, tile, each) = if !vec4 {
                (&WEIGHTS_ANY, 4, 4)
            } else if channels <= 4 || !channels.is_multiple_of(4) {
                (&WEIGHTS4X8, 4, 8)
            } else if software && waste(16) * 8 <= channels {
                (&WEIGHTS16X8, 16, 8)
            } else {
                (&WEIGHTS8X8, 8, 8)
            };
            // The number of threads of a workgroup, and of a whole dispatch that uses all of a device.
            let (group, full): (usize, usize) = if software { (8, 16 * 8) } else { (64, 32_768) };
            let (columns, tiles) = (outputs.div_ceil(each), channels.div_ceil(tile));
            let lanes = columns.next_power_of_two().min(8);
            let rows = (group / lanes).min(tiles.next_power_of_two());
            let pixels = gradient.shape.pixels();
            let lines = gradient.shape.n * gradient.shape.h;
            let most = (Self::MAX_PARTS / ((taps * channels + 1) * outputs)).min(pixels / Self::MIN_PIXELS).min(lines);
            let parts = full.div_ceil(columns * tiles * taps).min(most).max(1);
            WeightsLaunch { entry, lanes, rows, groups: [columns.div_ceil(lanes), tiles.div_ceil(rows)], parts }
        }
    }

    /// Appends the dispatches that add the gradients for the weights and biases of a layer with this window to those from
    /// index `first` on. The gradient of ReLU has been applied.
    pub fn lower_weights(
        layer: &GradientLayer<'_>,
        geometry: &Geometry,
        first: usize,
        lowered: &mut LoweredGradients,
    ) -> Result<()> {
        let (x, gradient) = (layer.from()?, layer.gradient);
        let [channels, outputs] = [x.shape.c, gradient.shape.c];
        let taps = geometry.kernel[0] * geometry.kernel[1];
        let launch = WeightsLaunch::new(layer.set, x, gradient, taps);
        let lines = gradient.shape.n * gradient.shape.h;
        let rows_per_part = lines.div_ceil(launch.parts);
        let parts = lines.div_ceil(rows_per_part);
        let count = (taps * channels + 1) * outputs;
        let size = count.next_multiple_of(4);
        let direct = parts == 1;
        let params = WeightsParams {
            rows: lines as u32,
            rows_per_part: rows_per_part as u32,
            out_height: gradient.shape.h as u32,
            out_width: gradient.shape.w as u32,
            height: x.shape.h as u32,
            width: x.shape.w as u32,
            channels: channels as u32,
            x_offset: x.offset as u32,
            x_stride: x.stride as u32,
            outputs: outputs as u32,
            g_offset: gradient.offset as u32,
            g_stride: gradient.stride as u32,
            kernel: geometry.kernel.map(|n| n as u32),
            step: geometry.stride.map(|n| n as u32),
            pad: geometry.pad.map(|n| n as u32),
            columns: launch.groups[0] as u32,
            first: if direct { first as u32 } else { 0 },
            size: size as u32,
            add: u32::from(direct),
        };
        let to = if direct { Bind::WeightGradients } else { Bind::Parts };
        let kernel = KernelId {
            entry: launch.entry,
            overrides: vec![("LANES", launch.lanes as u32), ("ROWS", launch.rows as u32)],
        };
        let binds = vec![Bind::Activations(x.buffer), Bind::Gradient(gradient.buffer), to];
        // One tap more, for the biases.
        let grid = [launch.groups[0] * launch.groups[1], taps + 1, parts].map(|n| n as u32);
        lowered.jobs.push(Job { kernel, params: slot(&params), binds, grid, conv: None });
        if !direct {
            lowered.parts = lowered.parts.max(parts * size);
            let params = SumParams { count: count as u32, parts: parts as u32, size: size as u32, first: first as u32 };
            lowered.jobs.push(Job::new(&SUM_PARTS, &params, vec![Bind::Parts, Bind::WeightGradients], size / 4));
        }
        Ok(())
    }

    /// Appends one dispatch for the gradient for the input of a layer with this window, of any stride.
    pub fn lower_input(layer: &GradientLayer<'_>, geometry: &Geometry, lowered: &mut LoweredGradients) -> Result<()> {
        let Some(target) = layer.target() else { return Ok(()) };
        let (to, gradient) = (target.place, layer.gradient);
        let [channels, outputs] = [to.shape.c, gradient.shape.c];
        let vec4_channels = channels.div_ceil(4);
        let phases = geometry.stride[1].min(to.shape.w);
        let tiles = to.shape.w.div_ceil(geometry.stride[1]).div_ceil(4);
        let count = to.shape.n * to.shape.h * phases * tiles * vec4_channels;
        let params = InputParams {
            count: count as u32,
            phases: phases as u32,
            tiles: tiles as u32,
            vec4_channels: vec4_channels as u32,
            height: to.shape.h as u32,
            width: to.shape.w as u32,
            channels: channels as u32,
            to_offset: to.offset as u32,
            to_stride: to.stride as u32,
            out_height: gradient.shape.h as u32,
            out_width: gradient.shape.w as u32,
            outputs: outputs as u32,
            g_offset: gradient.offset as u32,
            g_stride: gradient.stride as u32,
            kernel: geometry.kernel.map(|n| n as u32),
            step: geometry.stride.map(|n| n as u32),
            pad: geometry.pad.map(|n| n as u32),
            add: u32::from(target.add),
        };
        let binds = vec![Bind::Gradient(gradient.buffer), Bind::Transposed(layer.node), Bind::Gradient(to.buffer)];
        lowered.jobs.push(Job::new(&CONV_INPUT, &params, binds, count));
        let [kh, kw] = geometry.kernel;
        let dims = [channels, outputs, kh, kw];
        lowered.transposed.push(Transposed { node: layer.node, dims, flipped: false, layout: WeightLayout::Buffer });
        Ok(())
    }
}
