//! What runs only on adapters that compute on the CPU: llvmpipe (Firefox without a GPU, native tests) and SwiftShader
//! (Chromium without a GPU). They load from buffers one lane of a vector at a time, at seven times the cost of a texture.
//! So inputs of convolutions are copied to textures, and larger windows are computed by Winograd's algorithm from textures.
//!
//! [`Lowering`] stands in place of `ops::lower`, and [`weight_layout`] says how weights are stored. Nothing of this is
//! compiled on a GPU.

mod conv;
mod lrn;
mod pool;
mod winograd;

use super::job::{Bind, Layer, Lowered};
use super::launch::{ConvKey, LaunchConfig, Tile};
use super::layout::is_vec4;
use super::ops;
use crate::error::Result;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::plan::winograd::Tiling;
use crate::plan::{Place, Plan};
pub use conv::kernel;
#[cfg(test)]
pub use winograd::Params as WinogradParams;

/// Textures of a plan. Layers' outputs alternate between the first two, because a dispatch cannot read the texture that
/// it writes.
const EVEN: usize = 0;
const ODD: usize = 1;
const WINOGRAD_INPUT: usize = 2;
const WINOGRAD_OUTPUT: usize = 3;
const TEXTURES: usize = 4;

/// How the weights of a dispatch are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightLayout {
    Buffer,
    Texture,
    /// As a texture of the filters that Winograd's algorithm has transformed.
    Winograd(Tiling),
}

/// How the weights of these layers are stored.
pub fn weight_layout(network: &Network, layout_plan: &Plan, nodes: &[NodeId]) -> WeightLayout {
    if let Some(tiling) = nodes.first().and_then(|&node| winograd::tiling(network, layout_plan, node)) {
        return WeightLayout::Winograd(tiling);
    }
    if nodes.iter().all(|&node| conv::is_pointwise(network, layout_plan, node)) {
        WeightLayout::Texture
    } else {
        WeightLayout::Buffer
    }
}

/// The launch configuration of a convolution, unless one was measured. The lanes of a CPU's vector are threads: more of
/// them in a workgroup gain nothing, and no sum is shared.
pub fn default_config(key: ConvKey) -> LaunchConfig {
    let config = |tile: Tile, rows: u32| LaunchConfig { tile, lanes: key.lanes(tile), rows, slices: 1 };
    match key.tile {
        Some(Tile::Pool) => config(Tile::Pool, 2),
        Some(tile @ (Tile::Texture | Tile::Winograd)) => config(tile, 8 / key.lanes(tile)),
        Some(_) => key.default_config(),
        // Loads take five sixths of llvmpipe's time where each lane's is by itself. A large tile wins although it does
        // not fit into registers; on SwiftShader it was the fastest of all 14 for every convolution.
        None => config(Tile::T16x8, 8 / key.lanes(Tile::T16x8)),
    }
}

/// Lowers the layers of one plan.
#[derive(Default)]
pub struct Lowering {
    /// The places whose values [`EVEN`] and [`ODD`] hold.
    held: [Option<Place>; 2],
}

impl Lowering {
    /// Adds the dispatches of a layer.
    pub fn lower(&mut self, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
        lowered.textures.resize(TEXTURES, 0);
        let (from, to) = (layer.from()?, layer.to());
        let vec4 = is_vec4(&from) && is_vec4(&to);
        match layer.node().op {
            // Where barriers are expensive, two dispatches are faster than one that has some.
            Op::MaxPool(_) if layer.steps.len() > 1 => self.lower_apart(layer, lowered),
            Op::Conv { .. } if matches!(layer.next(), Some((_, Op::Lrn { .. }))) => self.lower_apart(layer, lowered),
            Op::Conv { .. } => {
                if let Some(tiling) = winograd::tiling(layer.network, layer.layout_plan, layer.step().node) {
                    winograd::lower(tiling, layer, lowered)
                } else if layer.steps.iter().all(|s| conv::is_pointwise(layer.network, layer.layout_plan, s.node)) {
                    conv::lower(self.in_texture(from, lowered), layer, lowered)
                } else {
                    ops::lower(layer, lowered)
                }
            }
            Op::MaxPool(_) | Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } if vec4 => {
                let textures = self.textures(from, to, lowered);
                pool::lower(textures, layer, lowered)
            }
            Op::Lrn { size, .. } if vec4 && size <= ops::lrn::MAX_VEC4_SIZE => {
                let textures = self.textures(from, to, lowered);
                lrn::lower(textures, layer, lowered)
            }
            _ => ops::lower(layer, lowered),
        }
    }

    /// The first step and the others, in dispatches of their own.
    fn lower_apart(&mut self, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
        let (first, others) = layer.steps.split_at(1);
        self.lower(&layer.with(first), lowered)?;
        self.lower(&layer.with(others), lowered)
    }

    /// The texture that holds a layer's output; it is copied to one where none does. What reads a place is stale whenever
    /// the place is, so that a copy runs before every dispatch that relies on it.
    fn in_texture(&mut self, place: Place, lowered: &mut Lowered) -> usize {
        if let Some(texture) = self.held.iter().position(|held| *held == Some(place)) {
            return texture;
        }
        let to = self.hold(EVEN, place, lowered);
        lowered.jobs.push(winograd::copy_to_texture(place, to));
        EVEN
    }

    /// The textures from which a dispatch reads one place, and to which it writes another.
    fn textures(&mut self, from: Place, to: Place, lowered: &mut Lowered) -> [Bind; 2] {
        let texture = self.in_texture(from, lowered);
        let other = if texture == EVEN { ODD } else { EVEN };
        [Bind::Texture(texture), self.hold(other, to, lowered)]
    }

    /// Notes that a texture holds a layer's output from now on.
    fn hold(&mut self, texture: usize, place: Place, lowered: &mut Lowered) -> Bind {
        self.held[texture] = Some(place);
        reserve(texture, place.shape.len(), lowered)
    }
}

/// Notes that so many values are written to a texture.
fn reserve(texture: usize, values: usize, lowered: &mut Lowered) -> Bind {
    let held = &mut lowered.textures[texture];
    *held = values.max(*held);
    Bind::Texture(texture)
}
