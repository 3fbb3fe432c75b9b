//! Kernels: an entry point of a shader, its bindings, and its pipeline, which is created when it is first needed.

use super::device::Device;
use super::shaders::Shader;
use super::vec_map::VecMap;
#[cfg(not(target_arch = "wasm32"))]
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use wgpu::{BindGroup, BindGroupLayout, Buffer, BufferUsages, ComputePass, ComputePipeline, ShaderModule};

/// The number of bytes between the parameters of two dispatches in the uniform buffer: the offset alignment that every
/// device supports.
pub const PARAMS_BYTES: usize = 256;

/// The largest number of workgroups of a dispatch in one dimension: WebGPU's default limit.
pub const MAX_WORKGROUPS: u32 = 65535;

/// The number of threads of a workgroup in shaders that include `shared/invocation.wgsl`.
pub const THREADS: usize = 64;

/// The number of placeholder buffers for outputs that a dispatch does not have.
pub const UNUSED: usize = 2;

/// Declares the `Params` of a shader: a struct with the same layout as in WGSL. A test compares the two.
macro_rules! params {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        #[cfg(test)]
        #[allow(dead_code, reason = "a struct within another is compared as a part of it")]
        impl $name {
            /// The names of the fields and their offsets in bytes.
            pub const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field))),*];
        }
    };
}
pub(super) use params;

/// How a shader uses a binding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Params,
    Read,
    Write,
    /// A texture with four f32 in each texel.
    ReadTexture,
    WriteTexture,
}

use Access::{Params, Read, ReadTexture, Write, WriteTexture};

/// An entry point of a shader. The names of all entry points are different.
pub struct EntryPoint {
    pub name: &'static str,
    pub shader: &'static Shader,
    /// The number of each binding and how it is used, parameters first.
    pub bindings: &'static [(u32, Access)],
    /// The number of units of work of one workgroup. [`EntryPoint::grid`] counts in the same units.
    pub per_workgroup: usize,
}

impl EntryPoint {
    /// An entry point with one unit of work for each thread, in workgroups of [`THREADS`].
    pub const fn elementwise(name: &'static str, shader: &'static Shader, bindings: &'static [(u32, Access)]) -> Self {
        EntryPoint { name, shader, bindings, per_workgroup: THREADS }
    }

    /// The workgroups for `count` units of work. Where one dimension is too short for them, they form a rectangle.
    pub fn grid(&self, count: usize) -> [u32; 3] {
        let groups = count.div_ceil(self.per_workgroup) as u32;
        let rows = groups.div_ceil(MAX_WORKGROUPS).max(1);
        [groups.div_ceil(rows), rows, 1]
    }
}

/// The bindings of a kernel that reads one buffer and writes another.
pub const READ_WRITE: &[(u32, Access)] = &[(0, Params), (1, Read), (2, Write)];

/// An entry point with values for the shader's `override` constants. Each combination has a pipeline of its own.
#[derive(Clone)]
pub struct KernelId {
    pub entry: &'static EntryPoint,
    pub overrides: Vec<(&'static str, u32)>,
}

impl PartialEq for KernelId {
    fn eq(&self, other: &Self) -> bool {
        (self.entry.name, &self.overrides) == (other.entry.name, &other.overrides)
    }
}

impl From<&'static EntryPoint> for KernelId {
    fn from(entry: &'static EntryPoint) -> Self {
        KernelId { entry, overrides: Vec::new() }
    }
}

/// A kernel that is ready to run.
#[derive(Clone)]
pub struct Kernel {
    entry: &'static EntryPoint,
    pipeline: ComputePipeline,
    layout: BindGroupLayout,
}

/// The kernels of a device. Shader modules and pipelines are created when they are first needed, so a device compiles
/// only the shaders that it runs.
pub struct Kernels {
    modules: Mutex<VecMap<&'static str, ShaderModule>>,
    made: Mutex<VecMap<KernelId, Kernel>>,
    /// The placeholder buffers, which a dispatch binds in place of the outputs that it does not have.
    pub unused: [Buffer; UNUSED],
}

impl Kernels {
    pub fn new(device: &Device) -> Self {
        let unused = [(); UNUSED].map(|()| device.buffer("unused", 16, BufferUsages::STORAGE));
        Kernels { modules: Mutex::default(), made: Mutex::default(), unused }
    }

    /// Returns a kernel, and creates it if necessary.
    pub fn get(&self, device: &Device, id: impl Into<KernelId>) -> Kernel {
        self.get_or_create(device, id.into())
    }

    #[inline(never)]
    fn get_or_create(&self, device: &Device, id: KernelId) -> Kernel {
        let mut made = lock(&self.made);
        if let Some(kernel) = made.get(&id) {
            return kernel.clone();
        }
        let kernel = Kernel::new(device, &self.module(device, id.entry.shader), &id);
        made.insert(id, kernel.clone());
        kernel
    }

    fn module(&self, device: &Device, shader: &'static Shader) -> ShaderModule {
        let mut modules = lock(&self.modules);
        if let Some(module) = modules.get(&shader.name) {
            return module.clone();
        }
        let source = wgpu::ShaderSource::Wgsl(shader.source(device.is_half()).into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some(shader.name), source };
        let module = device.device.create_shader_module(descriptor);
        modules.insert(shader.name, module.clone());
        module
    }
}

/// Locks a mutex. No code panics while it holds one of these locks; if it did, the value would still be consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The names of the entry points that this process has dispatched, on any device.
#[cfg(not(target_arch = "wasm32"))]
static DISPATCHED: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// The names of the entry points that this process has dispatched so far. Tests use it to check that every entry point
/// is run. Dispatches that only make a driver compile a shader or that measure a kernel's time are not included.
#[doc(hidden)]
#[cfg(not(target_arch = "wasm32"))]
pub fn dispatched() -> BTreeSet<&'static str> {
    lock(&DISPATCHED).clone()
}

impl Kernel {
    fn new(device: &Device, module: &ShaderModule, id: &KernelId) -> Self {
        let buffer = |ty| wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None };
        let entry = |&(binding, access): &(u32, Access)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: match access {
                Params => buffer(wgpu::BufferBindingType::Uniform),
                Read => buffer(wgpu::BufferBindingType::Storage { read_only: true }),
                Write => buffer(wgpu::BufferBindingType::Storage { read_only: false }),
                ReadTexture => wgpu::BindingType::Texture {
                    sample_type: wgpu::TextureSampleType::Float { filterable: false },
                    view_dimension: wgpu::TextureViewDimension::D2,
                    multisampled: false,
                },
                WriteTexture => wgpu::BindingType::StorageTexture {
                    access: wgpu::StorageTextureAccess::WriteOnly,
                    format: wgpu::TextureFormat::Rgba32Float,
                    view_dimension: wgpu::TextureViewDimension::D2,
                },
            },
            count: None,
        };
        let entries: Vec<_> = id.entry.bindings.iter().map(entry).collect();
        let label = Some(id.entry.name);
        let layout =
            device.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        device.count(|counts| counts.pipelines += 1);
        let constants: Vec<_> = id.overrides.iter().map(|&(name, value)| (name, f64::from(value))).collect();
        let pipeline = device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(id.entry.name),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                // Each shader writes workgroup memory before it reads it.
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Kernel { entry: id.entry, pipeline, layout }
    }

    /// See [`EntryPoint::grid`].
    pub fn grid(&self, count: usize) -> [u32; 3] {
        self.entry.grid(count)
    }

    /// Creates a bind group of the parameters at index `slot` of `uniforms`, and of these buffers in the order of the
    /// bindings.
    pub fn bind(&self, device: &Device, uniforms: &Buffer, slot: usize, buffers: &[&Buffer]) -> BindGroup {
        self.bind_all(device, uniforms, slot, buffers.iter().map(|buffer| buffer.as_entire_binding()))
    }

    /// Like [`Kernel::bind`], with any resources in place of buffers.
    pub fn bind_all<'a>(
        &self,
        device: &Device,
        uniforms: &'a Buffer,
        slot: usize,
        others: impl Iterator<Item = wgpu::BindingResource<'a>>,
    ) -> BindGroup {
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: uniforms,
            offset: (slot * PARAMS_BYTES) as u64,
            size: wgpu::BufferSize::new(PARAMS_BYTES as u64),
        });
        let bindings = self.entry.bindings.iter().map(|&(binding, _)| binding);
        let resources = bindings.zip(std::iter::once(params).chain(others));
        let entries: Vec<_> = resources.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: None, layout: &self.layout, entries: &entries };
        device.device.create_bind_group(&descriptor)
    }

    /// Encodes a dispatch whose results are used.
    pub fn dispatch(&self, pass: &mut ComputePass<'_>, bound: &BindGroup, grid: [u32; 3]) {
        #[cfg(not(target_arch = "wasm32"))]
        lock(&DISPATCHED).insert(self.entry.name);
        self.dispatch_unread(pass, bound, grid);
    }

    /// Encodes a dispatch whose results are not used.
    pub fn dispatch_unread(&self, pass: &mut ComputePass<'_>, bound: &BindGroup, grid: [u32; 3]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, bound, &[]);
        pass.dispatch_workgroups(grid[0], grid[1], grid[2]);
    }
}

/// Parameters as a slot of the uniform buffer holds them.
pub fn slot<P: bytemuck::Pod>(params: &P) -> [u8; PARAMS_BYTES] {
    padded(bytemuck::bytes_of(params))
}

/// One copy for the parameters of all operations, since every page downloads it.
#[inline(never)]
fn padded(bytes: &[u8]) -> [u8; PARAMS_BYTES] {
    let mut slot = [0; PARAMS_BYTES];
    slot[..bytes.len()].copy_from_slice(bytes);
    slot
}
