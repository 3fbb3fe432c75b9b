//! Convolution by the Winograd algorithm (Lavin and Gray, CVPR 2016): the input transform, a matrix product for each
//! point, and the output transform.

use super::conv::{self, pointwise};
use super::textures::{WINOGRAD_INPUT, WINOGRAD_OUTPUT, reserve};
use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::launch::Tile;
use crate::gpu::layout::{is_padded, is_vec4};
use crate::gpu::ops::conv::has_relu;
use crate::gpu::{ops, shaders};
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::graph::tensor::Shape;
use crate::plan::winograd::{PHASES, Tiling};
use crate::plan::{Place, Plan};

const TO_TEXTURE: &[(u32, Access)] = &[(0, Access::Params), (1, Access::Read), (4, Access::WriteTexture)];

static INPUT: EntryPoint = EntryPoint::elementwise("winograd_input", &shaders::SOFTWARE_WINOGRAD, TO_TEXTURE);
static COPY: EntryPoint = EntryPoint::elementwise("copy_to_texture", &shaders::SOFTWARE_WINOGRAD, TO_TEXTURE);
static OUTPUT: EntryPoint = EntryPoint::elementwise(
    "winograd_output",
    &shaders::SOFTWARE_WINOGRAD,
    &[(0, Access::Params), (5, Access::ReadTexture), (2, Access::Read), (3, Access::Write)],
);

/// The largest number of values of the transformed input, unless a single picture needs more, as in the first layer.
/// Larger batches are computed in several parts, because textures are limited in size.
const MAX_VALUES: usize = 4 << 20;

params! {
    /// The `Params` of `winograd.wgsl`.
    #[derive(Default)]
    Params {
        tiles: u32,
        plane: u32,
        down: u32,
        across: u32,
        height: u32,
        width: u32,
        vec4_channels: u32,
        offset: u32,
        stride: u32,
        pad: [u32; 2],
        relu: u32,
        outputs: u32,
        step: u32,
        first: u32,
    }
}

/// The Winograd tiling of a layer; `None` if the layer is not computed by the Winograd algorithm.
pub fn tiling(network: &Network, layout_plan: &Plan, node: NodeId) -> Option<Tiling> {
    let Op::Conv { window, .. } = network.node(node).op else { return None };
    let (input, shape) = (network.node(node).inputs[0], network.node(node).shape);
    let [outputs, kernel] = match (window.kernel, window.stride) {
        ([3, 3], [1, 1]) => [4, 3],
        ([5, 5], [1, 1]) => [2, 5],
        // A stride of 2 is computed on the four phases of the input.
        ([7, 7], [2, 2]) => [3, 4],
        _ => return None,
    };
    let vec4 = |node: NodeId| is_padded(network, node) || is_vec4(&layout_plan.places[node]);
    let fills_a_tile = shape.h.min(shape.w) >= outputs;
    (vec4(input) && vec4(node) && fills_a_tile).then_some(Tiling { outputs, kernel })
}

/// A dispatch that copies a layer's output to a texture.
pub fn copy_to_texture(place: Place, texture: Bind) -> Job {
    let params = Params {
        tiles: place.shape.pixels() as u32,
        vec4_channels: (place.shape.c / 4) as u32,
        offset: place.offset as u32,
        stride: place.stride as u32,
        ..Default::default()
    };
    Job::new(&COPY, &params, vec![Bind::Activations(place.buffer), texture], place.shape.len() / 4)
}

/// Appends three dispatches for each part of the batch. A part has as many pictures as [`MAX_VALUES`] allows.
pub fn lower(tiling: Tiling, layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Op::Conv { window, .. } = layer.node().op else { return Ok(()) };
    let geometry = layer.geometry(&window)?;
    let (node, from, to) = (layer.step().node, layer.from()?, layer.to());
    let points = tiling.side() * tiling.side();
    let step = geometry.stride[0];
    let [down, across] = tiling.grid(to.shape);
    let channels = from.shape.c.next_multiple_of(4) * if step == 1 { 1 } else { PHASES };
    let most = (MAX_VALUES / (points * down * across * channels.max(to.shape.c))).max(1);
    for first in (0..to.shape.n).step_by(most) {
        let tiles = most.min(to.shape.n - first) * down * across;
        // A register tile of `conv.wgsl` must not span two points.
        let plane = tiles.next_multiple_of(Tile::MAX_PIXELS);
        let job = |entry, place: Place, channels: usize, binds| {
            let params = Params {
                tiles: tiles as u32,
                plane: plane as u32,
                down: down as u32,
                across: across as u32,
                height: place.shape.h as u32,
                width: place.shape.w as u32,
                vec4_channels: (channels / 4) as u32,
                offset: place.offset as u32,
                stride: place.stride as u32,
                pad: geometry.pad.map(|n| n as u32),
                relu: u32::from(has_relu(&layer.node().op)),
                outputs: tiling.outputs as u32,
                step: step as u32,
                first: first as u32,
            };
            Job::new(entry, &params, binds, tiles * channels / 4)
        };
        let matrix = |channels| Shape::new(1, points, plane, channels);
        let whole = |shape: Shape| Place { buffer: 0, offset: 0, stride: shape.c, shape };
        let (inputs, products) = (matrix(channels), matrix(to.shape.c));
        let transformed = reserve(WINOGRAD_INPUT, inputs.len(), lowered);
        let multiplied = reserve(WINOGRAD_OUTPUT, products.len(), lowered);
        lowered.jobs.push(job(&INPUT, from, channels, vec![Bind::Activations(from.buffer), transformed]));
        let mut product = ops::conv::Params::new(whole(inputs), &[whole(products)], None, &pointwise(inputs), false);
        product.plane = plane as u32;
        let binds = vec![transformed, Bind::Weight(node), multiplied];
        conv::add(Tile::Winograd, &product, binds, layer, lowered)?;
        let binds = vec![multiplied, Bind::Bias(node), Bind::Activations(to.buffer)];
        let output = job(&OUTPUT, to, to.shape.c, binds);
        lowered.jobs.push(Job { kernel: layer.adding(output.kernel), ..output });
    }
    Ok(())
}
