//! Convolutions: which steps one dispatch computes, how it is cut into workgroups, what the shader is told, and
//! weights in the order in which it reads them.

use super::device::Device;
use super::few::Few;
use super::kernels::{Access, Kernel, KernelSet, MAX_GROUPS};
use super::record::halves;
use crate::error::{Dims, Error, Result};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Geometry, Op};
use crate::model::{Model, tensor_names};
use crate::plan::winograd::{MOST, PHASES, Tiling, phases};
use crate::plan::{Join, Place, Plan};
use Access::{Params as Uniform, Read, ReadTexels, Write, WriteTexels};
use bytemuck::{Pod, Zeroable};
use std::sync::{Mutex, PoisonError};
use wgpu::{BindingResource, Buffer, BufferUsages, ShaderModule, TextureView, TextureViewDescriptor};

/// Layers that one dispatch can compute: as many as it has buffers to write to.
pub const MOST_LAYERS: usize = 3;

/// What a thread makes: pixels x channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    T16x8,
    T8x8,
    T4x8,
    T4x4,
    /// 4x8, any number of channels.
    Any,
    /// 4x8, of what a max pool makes.
    Pool,
    /// 4x8, all channels in one workgroup, normalised after that.
    Norm,
    /// 16x8, from textures.
    Texels,
    /// The same to a texture, of Winograd's points.
    Points,
}

impl Tile {
    pub const ALL: [Tile; 9] = [
        Tile::T16x8,
        Tile::T8x8,
        Tile::T4x8,
        Tile::T4x4,
        Tile::Any,
        Tile::Pool,
        Tile::Norm,
        Tile::Texels,
        Tile::Points,
    ];
}

/// How a convolution is cut into workgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub tile: Tile,
    /// Threads along the channels.
    pub lanes: u32,
    /// Threads along the pixels.
    pub rows: u32,
    /// Threads that share a sum; 1 where the tile cannot.
    pub slices: u32,
}

impl Tile {
    /// What every tile's pixels divide.
    pub const MOST_PIXELS: usize = 16;

    const fn pixels(self) -> u32 {
        match self {
            Tile::T16x8 | Tile::Texels | Tile::Points => 16,
            Tile::T8x8 => 8,
            Tile::T4x8 | Tile::T4x4 | Tile::Any | Tile::Pool | Tile::Norm => 4,
        }
    }

    /// Groups of four channels.
    const fn quads(self) -> u32 {
        match self {
            Tile::T4x4 => 1,
            _ => 2,
        }
    }
}

impl Cut {
    /// The shader's entry point.
    pub fn entry(self) -> &'static str {
        match (self.tile, self.slices) {
            (Tile::T16x8, _) => "conv16x8",
            (Tile::T8x8, 1) => "conv8x8",
            (Tile::T4x8, 1) => "conv4x8",
            (Tile::T4x4, 1) => "conv4x4",
            (Tile::T8x8, _) => "sliced8x8",
            (Tile::T4x8, _) => "sliced4x8",
            (Tile::T4x4, _) => "sliced4x4",
            (Tile::Any, _) => "conv",
            (Tile::Pool, _) => "conv_pool",
            (Tile::Norm, _) => "conv_norm",
            (Tile::Texels, _) => "conv_texels",
            (Tile::Points, _) => "conv_points",
        }
    }

    /// The workgroups for so many pixels and groups of four channels.
    pub fn grid(self, pixels: u32, quads: u32) -> [u32; 3] {
        let groups = pixels.div_ceil(self.tile.pixels() * self.rows);
        let layers = groups.div_ceil(MAX_GROUPS).max(1);
        [groups.div_ceil(layers), quads.div_ceil(self.tile.quads() * self.lanes), layers]
    }
}

/// All that the choice of a cut depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// Where there is no choice.
    pub tile: Option<Tile>,
    pub pixels: u32,
    /// Groups of four channels that are made.
    pub quads: u32,
    /// Groups of four channels that are read at each tap.
    pub depth: u32,
    pub taps: u32,
}

impl Class {
    fn columns(self, tile: Tile) -> u32 {
        self.quads.div_ceil(tile.quads())
    }

    /// Up to eight threads along the channels: a load of theirs fetches 128 bytes in a row. More where each workgroup
    /// makes, or needs, all of a pixel.
    fn lanes(self, tile: Tile) -> u32 {
        match tile {
            Tile::Pool => self.columns(tile).next_power_of_two().min(16),
            Tile::Norm => self.columns(tile),
            _ => self.columns(tile).next_power_of_two().min(8),
        }
    }

    /// The cuts that are worth measuring.
    pub fn candidates(self) -> Vec<Cut> {
        let most = power_below(self.depth);
        let slices = [1, 2, 4, 8].into_iter().filter(|&slices| slices <= most);
        match self.tile {
            None => {
                let tiles = [Tile::T8x8, Tile::T4x8, Tile::T4x4];
                let sliced = tiles.into_iter().flat_map(|tile| slices.clone().map(move |slices| (tile, slices)));
                let each = [(Tile::T16x8, 1)].into_iter().chain(sliced);
                let cut = |(tile, slices)| {
                    let lanes = self.lanes(tile);
                    // Small workgroups spread small maps; large ones share what they load.
                    let rows = if slices == 1 { vec![8 / lanes, 64 / lanes] } else { vec![32 / lanes] };
                    rows.into_iter().map(move |rows| Cut { tile, lanes, rows, slices })
                };
                each.flat_map(cut).collect()
            }
            Some(tile @ (Tile::Pool | Tile::Norm)) => {
                let lanes = self.lanes(tile);
                let each = [1, 2, 4].into_iter().flat_map(|rows| slices.clone().map(move |slices| (rows, slices)));
                // More would not leave room for their sums.
                let fits = |&(rows, slices): &(u32, u32)| lanes * rows * slices <= MOST_SHARED;
                each.filter(fits).map(|(rows, slices)| Cut { tile, lanes, rows, slices }).collect()
            }
            Some(tile @ (Tile::Texels | Tile::Points)) => {
                let lanes = self.lanes(tile);
                [8, 64].map(|threads| Cut { tile, lanes, rows: threads / lanes, slices: 1 }).to_vec()
            }
            Some(_) => vec![self.cut(KernelSet::Hardware)],
        }
    }

    /// The cut unless one was measured. Of a software adapter, the lanes of a CPU's vector are threads: more of them
    /// in a workgroup gain nothing, and sums are shared by nobody.
    pub fn cut(self, set: KernelSet) -> Cut {
        let software = set == KernelSet::Software;
        match self.tile {
            // All channels in one workgroup, so that the pool is computed once.
            Some(tile @ Tile::Pool) => {
                let lanes = self.lanes(tile);
                let slices = if software { 1 } else { (64 / lanes).min(power_below(self.depth)) };
                return Cut { tile, lanes, rows: 2, slices };
            }
            Some(tile @ Tile::Norm) => {
                let lanes = self.lanes(tile);
                let slices = FULL.div_ceil(self.pixels.div_ceil(tile.pixels()) * lanes).next_power_of_two();
                let slices = slices.min(8).min(power_below(self.depth)).min(power_below(MOST_SHARED / lanes));
                return Cut { tile, lanes, rows: power_below(MOST_SHARED / (lanes * slices)).min(4), slices };
            }
            Some(tile @ (Tile::Texels | Tile::Points)) => {
                let lanes = self.lanes(tile);
                return Cut { tile, lanes, rows: 8 / lanes, slices: 1 };
            }
            Some(tile) => return Cut { tile, lanes: self.lanes(tile), rows: 64 / self.lanes(tile), slices: 1 },
            None => {}
        }
        if software {
            // Loads are dear where each lane's is by itself: five sixths of llvmpipe's time. A large tile wins although
            // it does not fit into registers; on SwiftShader it was the fastest of all 14 for every convolution.
            let tile = Tile::T16x8;
            let lanes = self.lanes(tile);
            return Cut { tile, lanes, rows: 8 / lanes, slices: 1 };
        }
        // Small maps do not fill a GPU with large tiles, nor with whole sums.
        let threads = |tile: Tile| self.pixels.div_ceil(tile.pixels()) * self.columns(tile);
        let slices = |tile: Tile| (FULL / threads(tile)).max(1).next_power_of_two().min(8).min(power_below(self.depth));
        let full = |tile: &Tile| threads(*tile) * slices(*tile) >= FULL;
        let tile = [Tile::T8x8, Tile::T4x8].into_iter().find(full).unwrap_or(Tile::T4x4);
        let (lanes, slices) = (self.lanes(tile), slices(tile));
        Cut { tile, lanes, rows: if slices == 1 { 64 } else { 32 } / lanes, slices }
    }
}

/// Threads that fill a GPU: what 16 of 32 lanes a core would be on one of 64 cores.
const FULL: u32 = 32_768;

/// The most threads whose sums a workgroup has room for beside what a pool makes.
const MOST_SHARED: u32 = 128;

fn power_below(n: u32) -> u32 {
    1 << n.max(1).ilog2()
}

/// The pipelines, made as they are first needed.
pub struct Convs {
    module: ShaderModule,
    made: Mutex<Few<Cut, Kernel>>,
    /// What a dispatch of fewer layers binds in place of the others.
    pub spare: [Buffer; MOST_LAYERS - 1],
}

impl Convs {
    pub fn new(device: &Device, module: ShaderModule) -> Self {
        let spare = [(); MOST_LAYERS - 1].map(|()| device.buffer("spare", 16, BufferUsages::STORAGE));
        Convs { module, made: Mutex::default(), spare }
    }

    pub fn get(&self, device: &Device, cut: Cut) -> Kernel {
        const BINDINGS: [(u32, Access); 7] =
            [(0, Uniform), (1, Read), (2, Read), (3, Read), (4, Write), (5, Write), (6, Write)];
        const TEXELS: [(u32, Access); 7] =
            [(0, Uniform), (7, ReadTexels), (8, ReadTexels), (3, Read), (4, Write), (5, Write), (6, Write)];
        const POINTS: [(u32, Access); 4] = [(0, Uniform), (7, ReadTexels), (8, ReadTexels), (9, WriteTexels)];
        let bindings: &[(u32, Access)] = match cut.tile {
            Tile::Texels => &TEXELS,
            Tile::Points => &POINTS,
            _ => &BINDINGS,
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = made.get(&cut) {
            return kernel.clone();
        }
        let mut constants = vec![("LANES", f64::from(cut.lanes)), ("ROWS", f64::from(cut.rows))];
        if cut.slices > 1 {
            constants.push(("SLICES", f64::from(cut.slices)));
        }
        let kernel = Kernel::with(device, &self.module, cut.entry(), bindings, 1, &constants);
        made.insert(cut, kernel.clone());
        kernel
    }
}

/// Where the channels from a quad on go, as conv.wgsl has it.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct To {
    pub first: u32,
    pub channels: u32,
    pub offset: u32,
    pub stride: u32,
}

/// The `Params` of conv.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Params {
    pub to: [To; MOST_LAYERS],
    pub pixels: u32,
    pub quads: u32,
    pub height: u32,
    pub width: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub kernel: [u32; 2],
    pub step: [u32; 2],
    pub pad: [u32; 2],
    pub relu: u32,
    pub plane: u32,
    pub norm: Norm,
}

/// Of a normalisation, as lrn.wgsl has it.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub struct Norm {
    pub before: u32,
    pub after: u32,
    pub scale: f32,
    pub beta: f32,
    pub k: f32,
}

impl Norm {
    pub fn new(size: usize, [alpha, beta, k]: [f32; 3]) -> Self {
        let (before, after) = ((size.saturating_sub(1) / 2) as u32, (size / 2) as u32);
        Norm { before, after, scale: alpha / size as f32, beta, k }
    }
}

impl Params {
    /// Of layers that read `from` and write each to a place of its own; of one with a pool before it or a normalisation
    /// behind it, `also` is the place of what that makes. Zeros may fill up the channels of `from`, as their weights are.
    pub fn new(from: Place, to: &[Place], also: Option<Place>, geometry: &Geometry, relu: bool) -> Self {
        // Where there is no layer, no quad is its.
        let none = To { first: u32::MAX, channels: 0, offset: 0, stride: 0 };
        let mut all = [none; MOST_LAYERS];
        let mut quads = 0;
        for (to, slot) in to.iter().zip(&mut all) {
            *slot = To::new(quads, to);
            quads += to.shape.c.div_ceil(4) as u32;
        }
        if let Some(also) = also {
            all[to.len()] = To::new(u32::MAX, &also);
        }
        let out = to[0].shape;
        Params {
            to: all,
            pixels: out.pixels() as u32,
            quads,
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
            norm: Norm::default(),
        }
    }
}

impl To {
    fn new(first: u32, place: &Place) -> Self {
        To { first, channels: place.shape.c as u32, offset: place.offset as u32, stride: place.stride as u32 }
    }
}

/// The tiles of a layer that is computed by Winograd. Of hardware nothing has been measured yet, and three dispatches
/// take longer than one where each is short; a software adapter computes so whatever fills a tile, since only so can it
/// read from textures.
pub fn winograd(network: &Network, strictest: &Plan, node: NodeId, set: KernelSet) -> Option<Tiling> {
    let Op::Conv { window, .. } = network.node(node).op else { return None };
    let (input, shape) = (network.node(node).inputs[0], network.node(node).shape);
    let [outputs, kernel] = match (window.kernel, window.stride) {
        ([3, 3], [1, 1]) => [4, 3],
        ([5, 5], [1, 1]) => [2, 5],
        // Over the phases of the stride.
        ([7, 7], [2, 2]) => [3, 4],
        _ => return None,
    };
    let fours = |&node: &NodeId| is_filled(network, node) || by_four(&strictest.places[node]);
    let room = shape.h.min(shape.w) >= outputs;
    (set == KernelSet::Software && [input, node].iter().all(fours) && room).then_some(Tiling { outputs, kernel })
}

/// Whether a convolution reads its input and its weights from textures: of software adapters, one by Winograd, or with a
/// window of one cell.
pub fn is_by_texels(network: &Network, strictest: &Plan, node: NodeId, set: KernelSet) -> bool {
    let Op::Conv { window, .. } = network.node(node).op else { return false };
    let fours = || [network.node(node).inputs[0], node].iter().all(|&node| by_four(&strictest.places[node]));
    let one = window.kernel == [1, 1] && window.stride == [1, 1] && fours();
    set == KernelSet::Software && (one || winograd(network, strictest, node, set).is_some())
}

/// Whether a node's channels are filled up to a multiple of four.
pub fn is_filled(network: &Network, node: NodeId) -> bool {
    matches!(network.node(node).op, Op::Input(_))
}

/// Channels that a workgroup can hold all of, each thread eight.
const MOST_NORMALISED: usize = 512;

/// Whether a place can be read and written four channels at a time.
pub fn by_four(place: &Place) -> bool {
    [place.shape.c, place.offset, place.stride].iter().all(|n| n.is_multiple_of(4))
}

/// The steps of a plan by dispatch. As [`Plan::fused`], but no more than the shader can: layers of one dispatch
/// write to different buffers and agree about ReLU, and a pool's channels come in fours. And a convolution has its
/// normalisation with it where a workgroup can hold all channels. The same layers come together in every plan of a
/// network.
pub fn groups(network: &Network, plan: &Plan) -> Result<Vec<Vec<usize>>> {
    // Where branches write into one buffer, fewer can come together.
    let strictest = Plan::new(network, 1, Join::Direct)?;
    let op = |step: usize| &network.node(plan.steps[step].node).op;
    let place = |step: usize| strictest.places[plan.steps[step].node];
    let read = |step: usize| strictest.places[network.node(plan.steps[step].node).inputs[0]];
    let relu = |step: usize| matches!(op(step), Op::Conv { relu: true, .. });
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for fused in plan.fused(network) {
        let is_pool = matches!(op(fused[0]), Op::MaxPool(_));
        let start = groups.len();
        for step in fused {
            let joins = |group: &&mut Vec<usize>| {
                let apart = group.iter().all(|&other| place(other).buffer != place(step).buffer);
                let alike = if is_pool {
                    group.len() == 1 && [read(group[0]), place(group[0]), place(step)].iter().all(by_four)
                } else {
                    group.len() < MOST_LAYERS && relu(group[0]) == relu(step)
                };
                apart && alike
            };
            match groups[start..].iter_mut().find(joins) {
                Some(group) => group.push(step),
                None => groups.push(vec![step]),
            }
        }
    }
    let is_norm = |step: usize| matches!(op(step), Op::Lrn { .. });
    let mut joined: Vec<Vec<usize>> = Vec::new();
    for group in groups {
        let normalised = |before: &&mut Vec<usize>| {
            let (conv, norm) = (before[0], group[0]);
            let follows = network.node(plan.steps[norm].node).inputs == [plan.steps[conv].node];
            let fours = [read(conv), place(conv), place(norm)].iter().all(by_four);
            let fits = place(conv).shape.c <= MOST_NORMALISED;
            before.len() == 1 && is_norm(norm) && matches!(op(conv), Op::Conv { .. }) && follows && fours && fits
        };
        match joined.iter_mut().find(normalised) {
            Some(conv) => conv.extend(group),
            None => joined.push(group),
        }
    }
    Ok(joined)
}

/// Where weights are.
pub enum Weight {
    Buffer(Buffer),
    /// Always in f32.
    Texels(TextureView),
}

impl Weight {
    pub fn binding(&self) -> BindingResource<'_> {
        match self {
            Weight::Buffer(buffer) => buffer.as_entire_binding(),
            Weight::Texels(view) => BindingResource::TextureView(view),
        }
    }
}

/// Weights on the GPU.
pub struct Packed {
    /// In f16 where the device computes so. (Kh, Kw, Cin filled up to a multiple of four, quads) of four; dense layers have one tap, and Winograd's
    /// points instead.
    pub weight: Weight,
    /// (quads) of four.
    pub bias: Buffer,
}

impl Packed {
    /// Adds the weights of each dispatch of a model, by its first layer that has any: of those that are not there yet,
    /// and of whose layers all are `here`.
    pub fn add_to(
        all: &mut Few<NodeId, Packed>,
        device: &Device,
        model: &Model,
        here: impl Fn(NodeId) -> bool,
    ) -> Result<()> {
        let network = &model.network;
        let plan = Plan::new(network, 1, Join::Direct)?;
        let tiling = |id| winograd(network, &plan, id, device.set);
        for group in groups(network, &plan)? {
            let nodes: Vec<NodeId> = group.iter().map(|&step| plan.steps[step].node).collect();
            let dims = |id: &NodeId| Some((*id, network.node(*id).op.weight_dims(network.input_shape(*id))?));
            let layers: Vec<_> = nodes.iter().filter_map(dims).collect();
            if let Some((first, _)) = layers.first()
                && all.get(first).is_none()
                && layers.iter().all(|(id, _)| here(*id))
            {
                let texels = layers.iter().all(|(id, _)| is_by_texels(network, &plan, *id, device.set));
                all.insert(*first, Packed::new(device, model, &layers, (tiling(*first), texels))?);
            }
        }
        Ok(())
    }

    fn new(
        device: &Device,
        model: &Model,
        layers: &[(NodeId, Vec<usize>)],
        (tiling, texels): (Option<Tiling>, bool),
    ) -> Result<Self> {
        let node = |id: NodeId| model.network.node(id);
        let quads: usize = layers.iter().map(|(_, dims)| dims[0].div_ceil(4)).sum();
        let mut bias = vec![0.0; quads * 4];
        let mut weight = Vec::new();
        let mut first = 0;
        let [name, _] = tensor_names(&node(layers[0].0).name);
        for (id, dims) in layers {
            let [weight_name, bias_name] = tensor_names(&node(*id).name);
            let (_, values) = model.weights.get(&weight_name)?;
            let (_, offsets) = model.weights.get(&bias_name)?;
            let [out, mut channels] = [dims[0], dims[1]];
            let values = match tiling {
                Some(tiling) if dims[2] == tiling.kernel => transformed(tiling, &values),
                Some(tiling) => {
                    let filled = channels.next_multiple_of(4);
                    let phased = phases(&values, channels, filled, [dims[2], dims[3]], tiling.kernel);
                    channels = filled * PHASES;
                    transformed(tiling, &phased)
                }
                None => values,
            };
            pack(out, channels, &values, &mut weight, first, quads * 4);
            bias[first..first + offsets.len()].copy_from_slice(&offsets);
            first += dims[0].next_multiple_of(4);
        }
        if weight.len() as u64 * 4 > device.max_binding() {
            return Err(Error::NoGpu(format!(
                "the tensor \"{name}\" {} is larger than a buffer of \"{}\" may be",
                Dims(layers[0].1.clone()),
                device.name
            )));
        }
        Ok(Packed {
            weight: if texels {
                Weight::Texels(device.texels(&name, &weight).create_view(&TextureViewDescriptor::default()))
            } else if device.is_half() {
                Weight::Buffer(device.filled(&name, &halves(&weight), BufferUsages::STORAGE))
            } else {
                Weight::Buffer(device.filled(&name, &weight, BufferUsages::STORAGE))
            },
            bias: device.filled(&name, &bias, BufferUsages::STORAGE),
        })
    }
}

/// Filters (out, channels, taps) as (out, channels, points).
fn transformed(tiling: Tiling, filters: &[f32]) -> Vec<f32> {
    debug_assert_eq!(tiling.side(), MOST);
    tiling.filters(filters).flatten().flatten().map(|value| value as f32).collect()
}

/// Writes weights (out, channels, taps) as (taps, channels filled up to a multiple of four with zeros, `stride`),
/// output channels from `first` on.
fn pack(out: usize, channels: usize, weight: &[f32], packed: &mut Vec<f32>, first: usize, stride: usize) {
    let taps = weight.len() / (out * channels);
    let filled = channels.next_multiple_of(4);
    packed.resize(taps * filled * stride, 0.0);
    for (o, filter) in weight.chunks_exact(channels * taps).enumerate() {
        for (c, kernel) in filter.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                packed[(tap * filled + c) * stride + first + o] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_packed_by_tap_and_channel() {
        // 3 filters over 3 channels of a 2x1 kernel; the value names filter, channel and tap.
        let value = |o: usize, c: usize, t: usize| (100 * o + 10 * c + t) as f32;
        let weight: Vec<f32> =
            (1..4).flat_map(|o| (1..4).flat_map(move |c| (1..3).map(move |t| value(o, c, t)))).collect();
        let mut packed = Vec::new();
        pack(3, 3, &weight, &mut packed, 4, 8);
        assert_eq!(packed.len(), 2 * 4 * 8);
        assert_eq!(packed[..8], [0.0, 0.0, 0.0, 0.0, 111.0, 211.0, 311.0, 0.0]);
        assert_eq!(packed[8..16], [0.0, 0.0, 0.0, 0.0, 121.0, 221.0, 321.0, 0.0]);
        assert!(packed[24..32].iter().all(|&v| v == 0.0), "channels are filled up");
        assert_eq!(packed[32..40], [0.0, 0.0, 0.0, 0.0, 112.0, 212.0, 312.0, 0.0]);
    }

    #[test]
    fn no_tile_crosses_what_is_filled_up_to_the_largest() {
        for tile in Tile::ALL {
            assert_eq!(Tile::MOST_PIXELS % tile.pixels() as usize, 0, "{tile:?}");
        }
    }

    #[test]
    fn cuts_cover_everything() {
        for set in [KernelSet::Hardware, KernelSet::Software] {
            for (pixels, quads, depth) in [(49, 96, 48), (196, 80, 40), (3136, 48, 16), (1, 1, 1), (12544, 16, 1)] {
                for tile in
                    [None, Some(Tile::Any), Some(Tile::Pool), Some(Tile::Norm), Some(Tile::Texels), Some(Tile::Points)]
                {
                    let cut = Class { tile, pixels, quads, depth, taps: 9 }.cut(set);
                    let [x, y, z] = cut.grid(pixels, quads);
                    assert!(x * z * cut.tile.pixels() * cut.rows >= pixels);
                    assert!(y * cut.tile.quads() * cut.lanes >= quads);
                    let threads = cut.lanes * cut.rows * cut.slices;
                    let shared = matches!(tile, Some(Tile::Pool | Tile::Norm));
                    assert!(threads <= if shared { MOST_SHARED } else { 256 }, "{cut:?}");
                    assert!(tile != Some(Tile::Norm) || cut.grid(pixels, quads)[1] == 1, "all channels in one");
                    assert!(cut.slices <= depth, "{cut:?}");
                    let class = Class { tile, pixels, quads, depth, taps: 9 };
                    assert!(class.candidates().contains(&cut), "{cut:?} is not among those that are measured");
                }
            }
        }
    }
}
