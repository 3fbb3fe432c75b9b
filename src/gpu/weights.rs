//! Weights on the GPU, in the order in which the shaders read them.

use super::device::{Device, KernelSet};
use super::fusion::groups;
use super::layout::{WeightLayout, f32_to_f16, layout_plan};
use super::software;
use super::vec_map::VecMap;
use crate::error::{Dims, Error, Result};
use crate::graph::network::NodeId;
use crate::model::{Model, tensor_names};
use crate::plan::winograd::{MOST, PHASES, Tiling, phases};
use wgpu::{BindingResource, Buffer, BufferUsages, TextureView, TextureViewDescriptor};

/// The memory that holds weights.
pub enum Weight {
    Buffer(Buffer),
    /// Always in f32.
    Texture(TextureView),
}

impl Weight {
    pub fn binding(&self) -> BindingResource<'_> {
        match self {
            Weight::Buffer(buffer) => buffer.as_entire_binding(),
            Weight::Texture(view) => BindingResource::TextureView(view),
        }
    }
}

/// The weights of one layer, in the order of a model file.
pub struct LayerWeights {
    /// (out, in, kh, kw) or (out, in).
    pub dims: Vec<usize>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// The weights of one dispatch on the GPU.
pub struct Packed {
    /// (Kh, Kw, Cin padded to a multiple of four, Cout/4) vectors of four, in f16 where the device computes in f16.
    /// Dense layers have one tap; in layers for the Winograd algorithm, the points of the transformed filters replace
    /// the taps.
    pub weight: Weight,
    /// (Cout/4) vectors of four, always in f32.
    pub bias: Buffer,
}

impl Packed {
    /// Packs and uploads the weights of each dispatch of a model, and adds them under the dispatch's first layer that
    /// has weights. Skips dispatches that were added before, and those with a layer for which `here` is false.
    pub fn add_to(
        all: &mut VecMap<NodeId, Packed>,
        device: &Device,
        model: &Model,
        here: impl Fn(NodeId) -> bool,
    ) -> Result<()> {
        let network = &model.network;
        let plan = layout_plan(network)?;
        for group in groups(network, &plan, &plan) {
            let nodes = group.iter().map(|&step| plan.steps[step].node);
            let dims = |id: NodeId| Some((id, network.node(id).op.weight_dims(network.input_shape(id))?));
            let layers: Vec<_> = nodes.filter_map(dims).collect();
            if let Some((first, _)) = layers.first()
                && all.get(first).is_none()
                && layers.iter().all(|(id, _)| here(*id))
            {
                let nodes: Vec<NodeId> = layers.iter().map(|(id, _)| *id).collect();
                let layout = match device.set {
                    KernelSet::Hardware => WeightLayout::Buffer,
                    KernelSet::Software => software::weight_layout(network, &plan, &nodes),
                };
                all.insert(*first, Packed::new(device, model, &layers, layout)?);
            }
        }
        Ok(())
    }

    fn new(device: &Device, model: &Model, layers: &[(NodeId, Vec<usize>)], layout: WeightLayout) -> Result<Self> {
        let tensors = |(id, dims): &(NodeId, Vec<usize>)| {
            let [weight, bias] = tensor_names(&model.network.node(*id).name);
            let (weight, bias) = (model.weights.get(&weight)?.1, model.weights.get(&bias)?.1);
            Ok(LayerWeights { dims: dims.clone(), weight, bias })
        };
        let [name, _] = tensor_names(&model.network.node(layers[0].0).name);
        let layers = layers.iter().map(tensors).collect::<Result<Vec<_>>>()?;
        Self::of(device, &name, layers, layout)
    }

    /// Packs and uploads the weights of the layers of one dispatch. `name` is that of the first layer's weights.
    pub fn of(device: &Device, name: &str, layers: Vec<LayerWeights>, layout: WeightLayout) -> Result<Self> {
        let vec4_channels: usize = layers.iter().map(|layer| layer.dims[0].div_ceil(4)).sum();
        let first_dims = layers.first().map_or(Vec::new(), |layer| layer.dims.clone());
        let mut bias = vec![0.0; vec4_channels * 4];
        let mut weight = Vec::new();
        let mut first = 0;
        for LayerWeights { dims, weight: values, bias: offsets } in layers {
            let [out, mut channels] = [dims[0], dims[1]];
            let values = match layout {
                WeightLayout::Winograd(tiling) if dims[2] == tiling.kernel => transformed(tiling, &values),
                WeightLayout::Winograd(tiling) => {
                    let padded = channels.next_multiple_of(4);
                    let phased = phases(&values, channels, padded, [dims[2], dims[3]], tiling.kernel);
                    channels = padded * PHASES;
                    transformed(tiling, &phased)
                }
                WeightLayout::Buffer | WeightLayout::Texture => values,
            };
            pack(out, channels, &values, &mut weight, first, vec4_channels * 4);
            bias[first..first + offsets.len()].copy_from_slice(&offsets);
            first += dims[0].next_multiple_of(4);
        }
        if weight.len() as u64 * 4 > device.max_binding() {
            return Err(Error::NoGpu(format!(
                "the tensor \"{name}\" {} is larger than a buffer of \"{}\" may be",
                Dims(first_dims),
                device.name
            )));
        }
        let weight = if layout != WeightLayout::Buffer {
            let texture = device.filled_texture(name, &weight);
            Weight::Texture(texture.create_view(&TextureViewDescriptor::default()))
        } else if device.is_half() {
            Weight::Buffer(device.filled(name, &f32_to_f16(&weight), BufferUsages::STORAGE))
        } else {
            Weight::Buffer(device.filled(name, &weight, BufferUsages::STORAGE))
        };
        Ok(Packed { weight, bias: device.filled(name, &bias, BufferUsages::STORAGE) })
    }
}

/// Applies Winograd's filter transform, from (out, channels, taps) to (out, channels, points).
fn transformed(tiling: Tiling, filters: &[f32]) -> Vec<f32> {
    debug_assert_eq!(tiling.side(), MOST);
    tiling.filters(filters).flatten().flatten().map(|value| value as f32).collect()
}

/// Writes weights (out, channels, taps) as (taps, channels padded with zeros to a multiple of four, `stride`), to the
/// output channels from `first` on.
fn pack(out: usize, channels: usize, weight: &[f32], packed: &mut Vec<f32>, first: usize, stride: usize) {
    let taps = weight.len() / (out * channels);
    let padded = channels.next_multiple_of(4);
    packed.resize(taps * padded * stride, 0.0);
    for (o, filter) in weight.chunks_exact(channels * taps).enumerate() {
        for (c, kernel) in filter.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                packed[(tap * padded + c) * stride + first + o] = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_packed_by_tap_and_channel() {
        // Three filters over three channels of a 2x1 kernel. Each value encodes its filter, channel and tap.
        let value = |o: usize, c: usize, t: usize| (100 * o + 10 * c + t) as f32;
        let weight: Vec<f32> =
            (1..4).flat_map(|o| (1..4).flat_map(move |c| (1..3).map(move |t| value(o, c, t)))).collect();
        let mut packed = Vec::new();
        pack(3, 3, &weight, &mut packed, 4, 8);
        assert_eq!(packed.len(), 2 * 4 * 8);
        assert_eq!(packed[..8], [0.0, 0.0, 0.0, 0.0, 111.0, 211.0, 311.0, 0.0]);
        assert_eq!(packed[8..16], [0.0, 0.0, 0.0, 0.0, 121.0, 221.0, 321.0, 0.0]);
        assert!(packed[24..32].iter().all(|&v| v == 0.0), "channels are padded");
        assert_eq!(packed[32..40], [0.0, 0.0, 0.0, 0.0, 112.0, 212.0, 312.0, 0.0]);
    }
}
