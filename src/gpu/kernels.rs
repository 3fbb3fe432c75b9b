//! The pipelines, the parameters each shader reads, and weights in the order in which they are read.

use super::device::Device;
use crate::error::{Dims, Error, Result};
use crate::model::{Model, tensor_names};
use bytemuck::{Pod, Zeroable};
use wgpu::{BindGroup, BindGroupLayout, Buffer, BufferUsages, ComputePass, ComputePipeline};

/// Bytes of the uniform buffer that one dispatch's parameters take: what every device can bind at.
pub const SLOT: u64 = 256;

/// The most workgroups of a dispatch along one dimension.
const MAX_GROUPS: u32 = 65535;

/// One entry point of a shader, ready to run.
pub struct Kernel {
    pipeline: ComputePipeline,
    layout: BindGroupLayout,
    bindings: &'static [(u32, Access)],
    /// What one workgroup makes, counted in what [`Kernel::grid`] is asked for.
    pub per_group: usize,
}

/// How a shader uses a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Params,
    Read,
    Write,
}

use Access::{Params, Read, Write};

/// Every kernel, named as its entry point.
pub struct Kernels {
    pub conv: Kernel,
    pub conv4: Kernel,
    pub pool: Kernel,
    pub lrn: Kernel,
    pub concat: Kernel,
    pub dense: Kernel,
    pub softmax: Kernel,
    pub across: Kernel,
    pub down: Kernel,
    pub extent: Kernel,
    pub merge: Kernel,
    pub draw: Kernel,
}

impl Kernels {
    pub fn new(device: &Device) -> Self {
        const MAP: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Write)];
        const JOIN: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Read), (3, Write)];
        const PRODUCT: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Read), (3, Read), (4, Write)];
        let module = |label, source: &str| {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
        };
        let kernel = |module, entry, bindings, per_group| Kernel::new(device, module, entry, bindings, per_group);

        let conv = module("conv", include_str!("../../shaders/conv.wgsl"));
        let pool = module("pool", include_str!("../../shaders/pool.wgsl"));
        let lrn = module("lrn", include_str!("../../shaders/lrn.wgsl"));
        let concat = module("concat", include_str!("../../shaders/concat.wgsl"));
        let dense = module("dense", include_str!("../../shaders/dense.wgsl"));
        let softmax = module("softmax", include_str!("../../shaders/softmax.wgsl"));
        let preprocess = module("preprocess", include_str!("../../shaders/preprocess.wgsl"));
        let tiles = module("tiles", include_str!("../../shaders/tiles.wgsl"));
        Kernels {
            conv: kernel(&conv, "conv", PRODUCT, 32),
            conv4: kernel(&conv, "conv4", PRODUCT, 32),
            pool: kernel(&pool, "pool", MAP, 64),
            lrn: kernel(&lrn, "lrn", MAP, 64),
            concat: kernel(&concat, "concat", JOIN, 64),
            dense: kernel(&dense, "dense", PRODUCT, 32),
            softmax: kernel(&softmax, "softmax", MAP, 1),
            across: kernel(&preprocess, "across", &[(0, Params), (1, Read), (2, Read), (3, Read), (4, Write)], 64),
            down: kernel(&preprocess, "down", &[(0, Params), (1, Read), (2, Read), (4, Write), (5, Write)], 64),
            extent: kernel(&tiles, "extent", JOIN, 1),
            merge: kernel(&tiles, "merge", &[(0, Params), (3, Write)], 1),
            draw: kernel(&tiles, "draw", &[(0, Params), (1, Read), (2, Read), (3, Write), (4, Read), (5, Write)], 64),
        }
    }
}

impl Kernel {
    fn new(
        device: &Device,
        module: &wgpu::ShaderModule,
        entry: &str,
        bindings: &'static [(u32, Access)],
        per_group: usize,
    ) -> Self {
        let entries: Vec<_> = bindings
            .iter()
            .map(|&(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: match access {
                        Params => wgpu::BufferBindingType::Uniform,
                        Read => wgpu::BufferBindingType::Storage { read_only: true },
                        Write => wgpu::BufferBindingType::Storage { read_only: false },
                    },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let label = Some(entry);
        let layout =
            device.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        Kernel { pipeline, layout, bindings, per_group }
    }

    /// Binds the parameters in a slot of `uniforms`, and the buffers in the order of their bindings.
    pub fn bind(&self, device: &Device, uniforms: &Buffer, slot: usize, buffers: &[&Buffer]) -> BindGroup {
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: uniforms,
            offset: slot as u64 * SLOT,
            size: wgpu::BufferSize::new(SLOT),
        });
        let resources = std::iter::once(params).chain(buffers.iter().map(|buffer| buffer.as_entire_binding()));
        let entries: Vec<_> = self
            .bindings
            .iter()
            .zip(resources)
            .map(|(&(binding, _), resource)| wgpu::BindGroupEntry { binding, resource })
            .collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
        device.device.create_bind_group(&descriptor)
    }

    /// The workgroups for a row of `count` things, folded where one dimension does not hold them.
    pub fn grid(&self, count: usize) -> [u32; 3] {
        let groups = count.div_ceil(self.per_group) as u32;
        let rows = groups.div_ceil(MAX_GROUPS).max(1);
        [groups.div_ceil(rows), rows, 1]
    }

    pub fn dispatch(&self, pass: &mut ComputePass<'_>, bound: &BindGroup, grid: [u32; 3]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
}

/// Parameters as a slot of the uniform buffer holds them.
pub fn slot<P: Pod>(params: &P) -> [u8; SLOT as usize] {
    let mut slot = [0; SLOT as usize];
    let bytes = bytemuck::bytes_of(params);
    slot[..bytes.len()].copy_from_slice(bytes);
    slot
}

/// The `Params` of conv.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Conv {
    pub pixels: u32,
    pub depth: u32,
    pub height: u32,
    pub width: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub out_channels: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub kernel_width: u32,
    pub step: [u32; 2],
    pub pad: [u32; 2],
    pub relu: u32,
}

/// The `Params` of pool.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Pool {
    pub count: u32,
    pub height: u32,
    pub width: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub kernel: [u32; 2],
    pub step: [u32; 2],
    pub pad: [u32; 2],
    pub end: [u32; 2],
    pub mode: PoolMode,
}

/// What pool.wgsl makes of a window.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct PoolMode(u32);

impl PoolMode {
    pub const MAX: PoolMode = PoolMode(0);
    pub const MEAN: PoolMode = PoolMode(1);
    pub const MEAN_PADDED: PoolMode = PoolMode(2);
    pub const ADAPTIVE: PoolMode = PoolMode(3);
}

/// The `Params` of lrn.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Lrn {
    pub count: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub before: u32,
    pub after: u32,
    pub scale: f32,
    pub beta: f32,
    pub k: f32,
}

/// The `Params` of concat.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Concat {
    pub count: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub branch: u32,
}

/// The `Params` of dense.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Dense {
    pub inputs: u32,
    pub channels: u32,
    pub pixels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub outputs: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub relu: u32,
}

/// The `Params` of softmax.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Softmax {
    pub pixels: u32,
    pub channels: u32,
    pub x_offset: u32,
    pub x_stride: u32,
    pub y_offset: u32,
    pub y_stride: u32,
}

/// The `Params` of preprocess.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Preprocess {
    pub width: u32,
    pub first_row: u32,
    pub rows: u32,
    pub size: u32,
    pub image: u32,
    pub y_offset: u32,
    pub y_stride: u32,
    pub from: [u32; 3],
    pub factor: [f32; 3],
    pub offset: [f32; 3],
}

/// The `Params` of tiles.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Tiles {
    pub first_pixel: u32,
    pub height: u32,
    pub width: u32,
    pub offset: u32,
    pub stride: u32,
    pub tiles: u32,
    pub columns: u32,
    pub scale: u32,
    pub gap: u32,
    pub sheet_width: u32,
    pub first_row: u32,
    pub rows: u32,
    pub range: TilesRange,
    pub low: f32,
    pub high: f32,
    pub diverging: u32,
}

/// Where tiles.wgsl takes the ends of the colour map from.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TilesRange(u32);

impl TilesRange {
    pub const CHANNEL: TilesRange = TilesRange(0);
    pub const SHEET: TilesRange = TilesRange(1);
    pub const FIXED: TilesRange = TilesRange(2);
}

/// A layer's weights on the GPU.
pub struct Packed {
    /// (Kh, Kw, Cin, Cout/4) of four; dense layers have one tap.
    pub weight: Buffer,
    /// (Cout/4) of four.
    pub bias: Buffer,
}

impl Packed {
    /// The weights of every layer of a model, one a node; `None` where a node has none.
    pub fn all(device: &Device, model: &Model) -> Result<Vec<Option<Packed>>> {
        let network = &model.network;
        let layer = |(id, node): (usize, &crate::network::Node)| {
            let Some(dims) = node.op.weight_dims(network.input_shape(id)) else { return Ok(None) };
            let [weight_name, bias_name] = tensor_names(&node.name);
            let (_, weight) = model.weights.get(&weight_name)?;
            let (_, mut bias) = model.weights.get(&bias_name)?;
            let (out, channels) = (dims[0], dims[1]);
            let packed = pack(out, channels, &weight);
            if packed.len() as u64 * 4 > device.max_binding() {
                return Err(Error::NoGpu(format!(
                    "the tensor \"{weight_name}\" {} is larger than a buffer of \"{}\" may be",
                    Dims(dims),
                    device.name
                )));
            }
            bias.resize(out.next_multiple_of(4), 0.0);
            Ok(Some(Packed {
                weight: device.filled(&weight_name, &packed, BufferUsages::STORAGE),
                bias: device.filled(&bias_name, &bias, BufferUsages::STORAGE),
            }))
        };
        network.nodes().iter().enumerate().map(layer).collect()
    }
}

/// Weights (out, channels, taps) as (taps, channels, out), `out` filled up to a multiple of four with zeros.
fn pack(out: usize, channels: usize, weight: &[f32]) -> Vec<f32> {
    let taps = weight.len() / (out * channels);
    let stride = out.next_multiple_of(4);
    let mut packed = vec![0.0; taps * channels * stride];
    for (o, filter) in weight.chunks_exact(channels * taps).enumerate() {
        for (c, kernel) in filter.chunks_exact(taps).enumerate() {
            for (tap, &value) in kernel.iter().enumerate() {
                packed[(tap * channels + c) * stride + o] = value;
            }
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_packed_by_tap_and_channel() {
        // 3 filters over 2 channels of a 1x2 kernel; the value names filter, channel and tap.
        let weight: Vec<f32> =
            (0..3).flat_map(|o| (0..2).flat_map(move |c| (0..2).map(move |t| (100 * o + 10 * c + t) as f32))).collect();
        let packed = pack(3, 2, &weight);
        assert_eq!(packed.len(), 2 * 2 * 4);
        assert_eq!(packed[..4], [0.0, 100.0, 200.0, 0.0]);
        assert_eq!(packed[4..8], [10.0, 110.0, 210.0, 0.0]);
        assert_eq!(packed[8..12], [1.0, 101.0, 201.0, 0.0]);
    }
}
