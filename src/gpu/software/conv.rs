//! Convolutions that read textures: 1x1 convolutions, and the products of the Winograd algorithm.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, KernelId, slot};
use crate::gpu::launch::{LaunchConfig, Tile};
use crate::gpu::layout::is_vec4;
use crate::gpu::ops::conv::{Params, has_relu, outputs};
use crate::gpu::shaders;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::{Geometry, Op};
use crate::graph::tensor::Shape;
use crate::plan::{Place, Plan};
use Access::{Params as Uniform, Read, ReadTexture, Write, WriteTexture};

static CONV_TEXTURE: EntryPoint = EntryPoint {
    name: "conv_texture",
    shader: &shaders::SOFTWARE_CONV,
    bindings: &[(0, Uniform), (7, ReadTexture), (8, ReadTexture), (3, Read), (4, Write), (5, Write), (6, Write)],
    per_workgroup: 1,
};
static CONV_WINOGRAD: EntryPoint = EntryPoint {
    name: "conv_winograd",
    shader: &shaders::SOFTWARE_CONV,
    bindings: &[(0, Uniform), (7, ReadTexture), (8, ReadTexture), (9, WriteTexture)],
    per_workgroup: 1,
};

/// The kernel of a launch configuration; `None` for the kernels of `conv.wgsl`.
pub fn kernel(config: LaunchConfig) -> Option<KernelId> {
    let entry = match config.tile {
        Tile::Texture => &CONV_TEXTURE,
        Tile::Winograd => &CONV_WINOGRAD,
        _ => return None,
    };
    Some(KernelId { entry, overrides: config.overrides() })
}

/// Whether a node is a 1x1 convolution with stride 1 whose input and output are vectors of four channels.
pub fn is_pointwise(network: &Network, layout_plan: &Plan, node: NodeId) -> bool {
    let Op::Conv { window, .. } = network.node(node).op else { return false };
    let vec4 = |node: NodeId| is_vec4(&layout_plan.places[node]);
    window.kernel == [1, 1] && window.stride == [1, 1] && vec4(network.node(node).inputs[0]) && vec4(node)
}

/// Appends one dispatch for 1x1 convolutions that read the same input from a texture.
pub fn lower(texture: usize, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let from = layer.from()?;
    let to: Vec<Place> = layer.steps.iter().map(|step| step.writes).collect();
    let params = Params::new(from, &to, None, &pointwise(from.shape), has_relu(&layer.node().op));
    let node = layer.step().node;
    let mut binds = vec![Bind::Texture(texture), Bind::Weight(node), Bind::Bias(node)];
    binds.extend(outputs(to.iter()));
    add(Tile::Texture, &params, binds, layer, lowered)
}

/// Appends a dispatch of `software/conv.wgsl`.
pub fn add(tile: Tile, params: &Params, binds: Vec<Bind>, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let key = params.key(Some(tile));
    let config = (layer.config)(key);
    let Some(kernel) = kernel(config) else { return Err(layer.fail("it has no kernel".into())) };
    let grid = config.grid(params.pixels, params.vec4_channels);
    let kernel = if tile == Tile::Texture { layer.adding(kernel) } else { kernel };
    lowered.jobs.push(Job { kernel, params: slot(params), binds, grid, conv: Some(key) });
    Ok(())
}

/// The geometry of a 1x1 window with stride 1.
pub fn pointwise(shape: Shape) -> Geometry {
    Geometry { kernel: [1, 1], stride: [1, 1], pad: [0, 0], pad_end: [0, 0], out: [shape.h, shape.w] }
}
