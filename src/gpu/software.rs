//! Kernels for adapters that compute on the CPU: llvmpipe (Firefox without a GPU, native tests) and SwiftShader
//! (Chromium without a GPU). These load from buffers one lane of a vector at a time, which costs seven times as much as
//! a load from a texture. Therefore the inputs of convolutions are copied to textures, and convolutions with larger
//! windows use the Winograd algorithm on textures.
//!
//! [`Lowering`] replaces `ops::lower`, and [`weight_layout`] decides how weights are stored. On a GPU, none of these
//! shaders is compiled.

mod conv;
mod lrn;
mod pool;
mod textures;
mod winograd;

use super::job::{Bind, Layer, Lowered};
use super::launch::{ConvKey, LaunchConfig, Tile};
use super::layout::{WeightLayout, is_vec4};
use super::ops;
use crate::error::Result;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::plan::{Place, Plan};
pub use conv::kernel;
use textures::{EVEN, ODD, TEXTURES, reserve};
#[cfg(test)]
pub use winograd::Params as WinogradParams;

/// How the weights of the layers of one dispatch are stored.
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

/// The launch configuration of a convolution for which none was measured. These adapters run threads as the lanes of
/// SIMD vectors, so larger workgroups gain nothing, and no sum is shared.
pub fn default_config(key: ConvKey) -> LaunchConfig {
    let config = |tile: Tile, rows: u32| LaunchConfig { tile, lanes: key.lanes(tile), rows, slices: 1 };
    match key.tile {
        Some(Tile::Pool) => config(Tile::Pool, 2),
        Some(tile @ (Tile::Texture | Tile::Winograd)) => config(tile, 8 / key.lanes(tile)),
        Some(_) => key.default_config(),
        // On llvmpipe, loads of single lanes take five sixths of the time. A large tile is fastest although it does not
        // fit into registers; on SwiftShader it was the fastest of all 14 configurations for every convolution.
        None => config(Tile::T16x8, 8 / key.lanes(Tile::T16x8)),
    }
}

/// Lowers the layers of one plan.
#[derive(Default)]
pub struct Lowering {
    /// The places whose values the textures [`EVEN`] and [`ODD`] hold.
    held: [Option<Place>; 2],
}

impl Lowering {
    /// Appends the dispatches of a layer.
    pub fn lower(&mut self, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
        lowered.textures.resize(TEXTURES, 0);
        let (from, to) = (layer.from()?, layer.to());
        let vec4 = is_vec4(&from) && is_vec4(&to);
        match layer.node().op {
            // Barriers are expensive on these adapters, so two dispatches without them are faster than one fused
            // dispatch.
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

    /// Lowers the first step and the remaining steps to separate dispatches.
    fn lower_apart(&mut self, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
        let (first, others) = layer.steps.split_at(1);
        self.lower(&layer.with(first), lowered)?;
        self.lower(&layer.with(others), lowered)
    }

    /// Returns the texture that holds a layer's output, and copies the output to a texture if there is none. The copy
    /// belongs to the layer that reads it, which is stale whenever the output is, so the copy runs before every
    /// dispatch that relies on it.
    fn in_texture(&mut self, place: Place, lowered: &mut Lowered) -> usize {
        if let Some(texture) = self.held.iter().position(|held| *held == Some(place)) {
            return texture;
        }
        let to = self.hold(EVEN, place, lowered);
        lowered.jobs.push(winograd::copy_to_texture(place, to));
        EVEN
    }

    /// The textures from which a dispatch reads `from`, and to which it writes `to`.
    fn textures(&mut self, from: Place, to: Place, lowered: &mut Lowered) -> [Bind; 2] {
        let texture = self.in_texture(from, lowered);
        let other = if texture == EVEN { ODD } else { EVEN };
        [Bind::Texture(texture), self.hold(other, to, lowered)]
    }

    /// Records that a texture holds a layer's output from now on.
    fn hold(&mut self, texture: usize, place: Place, lowered: &mut Lowered) -> Bind {
        self.held[texture] = Some(place);
        reserve(texture, place.shape.len(), lowered)
    }
}
