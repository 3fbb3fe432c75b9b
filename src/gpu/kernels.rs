//! The pipelines, and the parameters each shader reads.

use super::conv::{Convs, Norm};
use super::device::Device;
use super::jobs::Which;
use bytemuck::{Pod, Zeroable};
#[cfg(not(target_arch = "wasm32"))]
use std::collections::BTreeSet;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, PoisonError};
use wgpu::{BindGroup, BindGroupLayout, Buffer, ComputePass, ComputePipeline};

/// Bytes of the uniform buffer that one dispatch's parameters take: what every device can bind at.
pub const SLOT: u64 = 256;

/// The most workgroups of a dispatch along one dimension.
pub const MAX_GROUPS: u32 = 65535;

/// Which kernels run where there are several for the same: those that are fast on GPUs, or those that are on CPUs that
/// play one. Both are right on either, and tests run both on whatever adapter there is.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelSet {
    Hardware,
    Software,
}

/// The entry points that were dispatched, on any device.
#[cfg(not(target_arch = "wasm32"))]
static DISPATCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The entry points of shaders that this process has run so far, for tests to see that none is left out. What only has
/// a driver compile a shader, or measures how long it takes, does not count.
#[doc(hidden)]
#[cfg(not(target_arch = "wasm32"))]
pub fn dispatched() -> BTreeSet<&'static str> {
    DISPATCHED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// One entry point of a shader, ready to run.
#[derive(Clone)]
pub struct Kernel {
    #[cfg(not(target_arch = "wasm32"))]
    entry: &'static str,
    pipeline: ComputePipeline,
    layout: BindGroupLayout,
    bindings: &'static [(u32, Access)],
    /// What one workgroup makes, counted in what [`Kernel::grid`] is asked for.
    pub per_group: usize,
}

/// How a shader uses a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Params,
    Read,
    Write,
    ReadTexels,
    WriteTexels,
}

use Access::{Params, Read, ReadTexels, Write, WriteTexels};

/// Every kernel, named as its entry point.
pub struct Kernels {
    pub convs: Convs,
    scatter: Kernel,
    lay: Kernel,
    gather: Kernel,
    pool: Kernel,
    pool4: Kernel,
    pool_texels: Kernel,
    lrn: Kernel,
    lrn4: Kernel,
    lrn_texels: Kernel,
    concat: Kernel,
    dense: Kernel,
    softmax: Kernel,
    pub across: Kernel,
    pub down: Kernel,
    pub extent: Kernel,
    pub merge: Kernel,
    pub draw: Kernel,
    pub channels: Kernel,
    pub map: Kernel,
}

impl Kernels {
    pub fn new(device: &Device) -> Self {
        const MAP: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Write)];
        const JOIN: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Read), (3, Write)];
        const LAY: &[(u32, Access)] = &[(0, Params), (1, Read), (4, WriteTexels)];
        const GATHER: &[(u32, Access)] = &[(0, Params), (5, ReadTexels), (2, Read), (3, Write)];
        const TEXELS: &[(u32, Access)] = &[(0, Params), (3, ReadTexels), (2, Write), (4, WriteTexels)];
        const PRODUCT: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Read), (3, Read), (4, Write)];
        let half = device.is_half();
        let module = |label, source: &str| {
            let source = wgpu::ShaderSource::Wgsl(if half { halved(source) } else { source.into() }.into());
            device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
        };
        let kernel = |module, entry, bindings, per_group| Kernel::new(device, module, entry, bindings, per_group);

        let conv = module("conv", include_str!(concat!(env!("OUT_DIR"), "/conv.wgsl")));
        let winograd = module("winograd", include_str!(concat!(env!("OUT_DIR"), "/winograd.wgsl")));
        let pool = module("pool", include_str!(concat!(env!("OUT_DIR"), "/pool.wgsl")));
        let lrn = module("lrn", include_str!(concat!(env!("OUT_DIR"), "/lrn.wgsl")));
        let concat = module("concat", include_str!(concat!(env!("OUT_DIR"), "/concat.wgsl")));
        let dense = module("dense", include_str!(concat!(env!("OUT_DIR"), "/dense.wgsl")));
        let softmax = module("softmax", include_str!(concat!(env!("OUT_DIR"), "/softmax.wgsl")));
        let preprocess = module("preprocess", include_str!(concat!(env!("OUT_DIR"), "/preprocess.wgsl")));
        let tiles = module("contact_sheet", include_str!(concat!(env!("OUT_DIR"), "/contact_sheet.wgsl")));
        let stats = module("statistics", include_str!(concat!(env!("OUT_DIR"), "/statistics.wgsl")));
        Kernels {
            convs: Convs::new(device, conv),
            scatter: kernel(&winograd, "scatter", LAY, 64),
            lay: kernel(&winograd, "lay", LAY, 64),
            gather: kernel(&winograd, "gather", GATHER, 64),
            pool: kernel(&pool, "pool", MAP, 64),
            pool4: kernel(&pool, "pool4", MAP, 64),
            pool_texels: kernel(&pool, "pool_texels", TEXELS, 64),
            lrn: kernel(&lrn, "lrn", MAP, 64),
            lrn4: kernel(&lrn, "lrn4", MAP, 64),
            lrn_texels: kernel(&lrn, "lrn_texels", TEXELS, 64),
            concat: kernel(&concat, "concat", JOIN, 64),
            dense: kernel(&dense, "dense", PRODUCT, 1),
            softmax: kernel(&softmax, "softmax", &[(0, Params), (1, Read), (2, Write), (3, Write)], 1),
            across: kernel(&preprocess, "across", &[(0, Params), (1, Read), (2, Read), (3, Read), (4, Write)], 64),
            down: kernel(&preprocess, "down", &[(0, Params), (1, Read), (2, Read), (4, Write), (5, Write)], 64),
            extent: kernel(&tiles, "extent", JOIN, 1),
            merge: kernel(&tiles, "merge", &[(0, Params), (3, Write)], 1),
            draw: kernel(&tiles, "draw", &[(0, Params), (1, Read), (2, Read), (3, Write), (4, Read), (5, Write)], 64),
            channels: kernel(&stats, "channels", MAP, 16),
            map: kernel(&stats, "map", MAP, 64),
        }
    }
}

impl Kernels {
    /// The kernel of a job; a convolution's is made here where it was not needed before.
    pub fn get(&self, device: &Device, which: Which) -> Kernel {
        match which {
            Which::Conv(cut) => return self.convs.get(device, cut),
            Which::Scatter => &self.scatter,
            Which::Lay => &self.lay,
            Which::Gather => &self.gather,
            Which::Pool => &self.pool,
            Which::Pool4 => &self.pool4,
            Which::PoolTexels => &self.pool_texels,
            Which::Lrn => &self.lrn,
            Which::Lrn4 => &self.lrn4,
            Which::LrnTexels => &self.lrn_texels,
            Which::Concat => &self.concat,
            Which::Dense => &self.dense,
            Which::Softmax => &self.softmax,
        }
        .clone()
    }
}

impl Kernel {
    fn new(
        device: &Device,
        module: &wgpu::ShaderModule,
        entry: &'static str,
        bindings: &'static [(u32, Access)],
        per_group: usize,
    ) -> Self {
        Self::with(device, module, entry, bindings, per_group, &[])
    }

    /// With other values for the shader's `override`s.
    pub fn with(
        device: &Device,
        module: &wgpu::ShaderModule,
        entry: &'static str,
        bindings: &'static [(u32, Access)],
        per_group: usize,
        constants: &[(&str, f64)],
    ) -> Self {
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let entries: Vec<_> = bindings
            .iter()
            .map(|&(binding, access)| wgpu::BindGroupLayoutEntry {
                binding,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: match access {
                    Params => buffer(wgpu::BufferBindingType::Uniform),
                    Read => buffer(wgpu::BufferBindingType::Storage { read_only: true }),
                    Write => buffer(wgpu::BufferBindingType::Storage { read_only: false }),
                    ReadTexels => wgpu::BindingType::Texture {
                        sample_type: wgpu::TextureSampleType::Float { filterable: false },
                        view_dimension: wgpu::TextureViewDimension::D2,
                        multisampled: false,
                    },
                    WriteTexels => wgpu::BindingType::StorageTexture {
                        access: wgpu::StorageTextureAccess::WriteOnly,
                        format: wgpu::TextureFormat::Rgba32Float,
                        view_dimension: wgpu::TextureViewDimension::D2,
                    },
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
        device.count(|counts| counts.pipelines += 1);
        let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                // Each shader writes what it reads.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Kernel {
            #[cfg(not(target_arch = "wasm32"))]
            entry,
            pipeline,
            layout,
            bindings,
            per_group,
        }
    }

    /// Binds the parameters in a slot of `uniforms`, and the buffers in the order of their bindings.
    pub fn bind(&self, device: &Device, uniforms: &Buffer, slot: usize, buffers: &[&Buffer]) -> BindGroup {
        self.bind_all(device, uniforms, slot, buffers.iter().map(|buffer| buffer.as_entire_binding()))
    }

    /// The same, where some are textures.
    pub fn bind_all<'a>(
        &self,
        device: &Device,
        uniforms: &'a Buffer,
        slot: usize,
        others: impl Iterator<Item = wgpu::BindingResource<'a>>,
    ) -> BindGroup {
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: uniforms,
            offset: slot as u64 * SLOT,
            size: wgpu::BufferSize::new(SLOT),
        });
        let resources = std::iter::once(params).chain(others);
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

    /// Encodes a dispatch whose results are for somebody to read.
    pub fn dispatch(&self, pass: &mut ComputePass<'_>, bound: &BindGroup, grid: [u32; 3]) {
        #[cfg(not(target_arch = "wasm32"))]
        DISPATCHED.lock().unwrap_or_else(PoisonError::into_inner).insert(self.entry);
        self.dispatch_unread(pass, bound, grid);
    }

    /// The same where nobody reads them.
    pub fn dispatch_unread(&self, pass: &mut ComputePass<'_>, bound: &BindGroup, grid: [u32; 3]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
}

/// A shader with its activations and weights in f16.
fn halved(source: &str) -> String {
    let halves = [("real=f32", "real=f16"), ("4=vec4f;", "4=vec4h;"), ("4=mat4x4f;", "4=mat4x4h;")];
    let source = halves.iter().fold(source.to_owned(), |source, (single, half)| source.replace(single, half));
    format!("enable f16;{source}")
}

/// Parameters as a slot of the uniform buffer holds them.
pub fn slot<P: Pod>(params: &P) -> [u8; SLOT as usize] {
    let mut slot = [0; SLOT as usize];
    let bytes = bytemuck::bytes_of(params);
    slot[..bytes.len()].copy_from_slice(bytes);
    slot
}

/// The `Params` of winograd.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Default, Pod, Zeroable)]
pub struct Winograd {
    pub tiles: u32,
    pub plane: u32,
    pub down: u32,
    pub across: u32,
    pub height: u32,
    pub width: u32,
    pub quads: u32,
    pub offset: u32,
    pub stride: u32,
    pub pad: [u32; 2],
    pub relu: u32,
    pub outputs: u32,
    pub step: u32,
    pub first: u32,
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
    pub norm: Norm,
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
    pub first: u32,
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

/// The `Params` of contact_sheet.wgsl.
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

/// Where contact_sheet.wgsl takes the ends of the colour map from.
#[repr(transparent)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct TilesRange(u32);

impl TilesRange {
    pub const CHANNEL: TilesRange = TilesRange(0);
    pub const SHEET: TilesRange = TilesRange(1);
    pub const FIXED: TilesRange = TilesRange(2);
}

/// The `Params` of statistics.wgsl.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Stats {
    pub first_pixel: u32,
    pub pixels: u32,
    pub channels: u32,
    pub offset: u32,
    pub stride: u32,
    pub channel: u32,
}
