//! The adapter and the device: how they are opened, and how their errors and the loss of the device are reported.

use crate::error::{Error, Result};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use wgpu::{Buffer, BufferUsages, CommandEncoder, Features};

/// Parts of the names of adapters that compute on the CPU.
const SOFTWARE: [&str; 5] = ["swiftshader", "llvmpipe", "lavapipe", "softpipe", "basic render driver"];

/// The number of texels in a row of a texture; `shaders/shared/texture.wgsl` has the same number. Every WebGPU device
/// supports textures of this width.
const TEXTURE_WIDTH: usize = 4096;

/// The set of kernels to run where there are several for one operation: those that are fast on GPUs, or those that are
/// fast on adapters that compute on the CPU. Both compute the same values on every adapter, and the tests run both on
/// the adapter they find.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelSet {
    Hardware,
    Software,
}

/// A WebGPU device with its queue.
pub struct Device {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    /// The adapter's name for people.
    pub name: String,
    pub kind: Kind,
    /// The set of kernels that run on this device.
    pub set: KernelSet,
    failure: Arc<Mutex<Failure>>,
    counts: Mutex<Counts>,
}

/// What the adapter computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Hardware,
    /// The CPU, through Chromium's software adapter.
    SwiftShader,
    /// The CPU, through another software adapter.
    Software,
}

/// Counts of a device's work since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Pipelines created, each of which compiles a shader.
    pub pipelines: usize,
    /// Buffers created.
    pub buffers: usize,
    /// Command buffers submitted.
    pub submits: usize,
    /// Dispatches that computed steps of networks.
    pub dispatches: usize,
    /// Buffers mapped for reading.
    pub maps: usize,
}

/// Errors that occurred outside of any [`ErrorScope`].
#[derive(Default)]
struct Failure {
    error: Option<String>,
    /// The reason why the device was lost. A lost device does not recover.
    lost: Option<String>,
}

impl Device {
    /// Opens the fastest adapter, which may be a software adapter. With `half`, shaders compute in f16 if the adapter
    /// supports it. `set` chooses the kernels. Default: the kernels for the adapter's kind. Fails with [`Error::NoGpu`]
    /// where there is no adapter.
    pub async fn open(half: bool, set: Option<KernelSet>) -> Result<Self> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = request(&instance, false).await;
        let adapter = match adapter {
            Ok(adapter) => adapter,
            // Some browsers return their software adapter only if it is requested explicitly.
            Err(why) => request(&instance, true).await.map_err(|_| Error::NoGpu(no_adapter(&why)))?,
        };
        let info = adapter.get_info();
        let wanted = if half { Features::TIMESTAMP_QUERY | Features::SHADER_F16 } else { Features::TIMESTAMP_QUERY };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("googlenet"),
            required_features: adapter.features() & wanted,
            // WebGPU's default limits, which every device supports.
            required_limits: wgpu::Limits::defaults(),
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(|e| {
            Error::NoGpu(format!("the adapter \"{}\" gives no device with WebGPU's default limits: {e}", info.name))
        })?;

        let names = names(&device, &info);
        let kind = if names.iter().any(|name| name.to_ascii_lowercase().contains("swiftshader")) {
            Kind::SwiftShader
        } else if info.device_type == wgpu::DeviceType::Cpu || names.iter().any(|name| is_software(name)) {
            Kind::Software
        } else {
            Kind::Hardware
        };
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "unnamed".into());
        let failure = Arc::new(Mutex::new(Failure::default()));
        let kept = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&kept).error.get_or_insert_with(|| sentence(&error));
        }));
        let kept = failure.clone();
        device.set_device_lost_callback(move |_, message| {
            let message = if message.is_empty() { "no reason was given".into() } else { message };
            lock(&kept).lost.get_or_insert(message);
        });
        Ok(Device {
            device,
            queue,
            name: format!("{name} ({})", backend(info.backend)),
            kind,
            set: set.unwrap_or(if kind == Kind::Hardware { KernelSet::Hardware } else { KernelSet::Software }),
            failure,
            counts: Mutex::default(),
        })
    }

    /// Whether the adapter is a GPU, and not a driver that computes on the CPU.
    pub fn is_hardware(&self) -> bool {
        self.kind == Kind::Hardware
    }

    /// Whether compute passes can be timed.
    pub fn has_timestamps(&self) -> bool {
        self.device.features().contains(Features::TIMESTAMP_QUERY)
    }

    /// Whether shaders compute in f16.
    pub fn is_half(&self) -> bool {
        self.device.features().contains(Features::SHADER_F16)
    }

    /// The number of bytes of this many activations, in the device's precision.
    pub fn bytes(&self, values: usize) -> u64 {
        values as u64 * if self.is_half() { 2 } else { 4 }
    }

    /// The largest number of bytes of one storage buffer binding.
    pub fn max_binding(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    /// A new buffer of at least `bytes` bytes, which may be 0.
    pub fn buffer(&self, label: &str, bytes: u64, usage: BufferUsages) -> Buffer {
        self.count(|counts| counts.buffers += 1);
        let size = bytes.max(4).next_multiple_of(4);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// A new buffer with these values, which shaders can read.
    pub fn filled<T: bytemuck::Pod>(&self, label: &str, values: &[T], usage: BufferUsages) -> Buffer {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        let buffer = self.buffer(label, bytes.len() as u64, usage | BufferUsages::COPY_DST);
        self.queue.write_buffer(&buffer, 0, bytes);
        buffer
    }

    /// A new texture of at least this many texels of four f32, in rows of [`TEXTURE_WIDTH`].
    pub fn texture(&self, label: &str, texels: usize, usage: wgpu::TextureUsages) -> wgpu::Texture {
        self.count(|counts| counts.buffers += 1);
        let rows = texels.div_ceil(TEXTURE_WIDTH).max(1) as u32;
        self.device.create_texture(&wgpu::TextureDescriptor {
            label: Some(label),
            size: wgpu::Extent3d { width: TEXTURE_WIDTH as u32, height: rows, depth_or_array_layers: 1 },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            format: wgpu::TextureFormat::Rgba32Float,
            usage: usage | wgpu::TextureUsages::TEXTURE_BINDING,
            view_formats: &[],
        })
    }

    /// A new texture with these values, four in each texel.
    pub fn filled_texture(&self, label: &str, values: &[f32]) -> wgpu::Texture {
        let texture = self.texture(label, values.len() / 4, wgpu::TextureUsages::COPY_DST);
        let mut rows = values.to_vec();
        rows.resize(texture.height() as usize * TEXTURE_WIDTH * 4, 0.0);
        let layout =
            wgpu::TexelCopyBufferLayout { bytes_per_row: Some(TEXTURE_WIDTH as u32 * 16), ..Default::default() };
        self.queue.write_texture(texture.as_image_copy(), bytemuck::cast_slice(&rows), layout, texture.size());
        texture
    }

    pub fn encoder(&self) -> CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub fn submit(&self, encoder: CommandEncoder) {
        self.count(|counts| counts.submits += 1);
        self.queue.submit([encoder.finish()]);
    }

    /// Updates the counts of the device's work.
    pub fn count(&self, add: impl FnOnce(&mut Counts)) {
        add(&mut lock(&self.counts));
    }

    pub fn counts(&self) -> Counts {
        *lock(&self.counts)
    }

    /// Does `work` in an error scope. [`ErrorScope::result`] then returns the errors of the commands that it issued.
    pub fn scoped<T>(&self, work: impl FnOnce() -> T) -> (T, ErrorScope) {
        let filters = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let value = work();
        // Scopes are closed in reverse order.
        let errors = scopes.into_iter().rev().map(|scope| Box::pin(scope.pop()) as PendingError).collect();
        (value, ErrorScope(errors))
    }

    /// Fails with [`Error::Gpu`] if an error has occurred outside of the error scopes since the last call, or if the
    /// device was lost.
    pub fn check(&self) -> Result<()> {
        let mut failure = lock(&self.failure);
        if let Some(why) = &failure.lost {
            return Err(Error::Gpu(format!("the device was lost: {why}")));
        }
        failure.error.take().map_or(Ok(()), |error| Err(Error::Gpu(error)))
    }

    /// Waits until all submitted work has run.
    pub async fn finished(&self) -> Result<()> {
        let slot = Arc::new(Mutex::new(Slot::default()));
        let filled = slot.clone();
        self.queue.on_submitted_work_done(move || fill(&filled, Ok(())));
        self.wait_for(slot).await?.map_err(|e| Error::Gpu(format!("waiting for it failed: {e}")))
    }

    /// Waits until the callback of a mapping or of submitted work has filled the slot.
    async fn wait_for(&self, slot: Arc<Mutex<Slot>>) -> Result<Result<(), wgpu::BufferAsyncError>> {
        #[cfg(target_arch = "wasm32")]
        browser::nudge(&self.queue, &slot);
        // Natively only this call runs callbacks; in a browser it does nothing.
        let polled = self.device.poll(wgpu::PollType::wait_indefinitely());
        polled.map_err(|e| Error::Gpu(format!("waiting for it failed: {e}")))?;
        Ok(Mapped(slot).await)
    }

    /// Reads a buffer of f32 after all submitted work has run. The buffer needs the usage `COPY_SRC`.
    pub async fn values(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        self.values_at(buffer, 0..buffer.size()).await
    }

    /// Like [`Device::values`], for these bytes of the buffer.
    pub async fn values_at(&self, buffer: &Buffer, bytes: Range<u64>) -> Result<Vec<f32>> {
        let size = bytes.end - bytes.start;
        let (staging, errors) = self.scoped(|| {
            let staging = self.buffer("values", size, BufferUsages::MAP_READ | BufferUsages::COPY_DST);
            let mut encoder = self.encoder();
            encoder.copy_buffer_to_buffer(buffer, bytes.start, &staging, 0, size);
            self.submit(encoder);
            staging
        });
        let values = self.read(&staging, bytemuck::pod_collect_to_vec).await;
        errors.result().await?;
        staging.destroy();
        values
    }

    /// Maps a `MAP_READ` buffer after all submitted work has run, and decodes its bytes.
    pub async fn read<T>(&self, staging: &Buffer, decode: impl FnOnce(&[u8]) -> T) -> Result<T> {
        self.count(|counts| counts.maps += 1);
        let slot = Arc::new(Mutex::new(Slot::default()));
        let filled = slot.clone();
        let mut mapping = Mapping { buffer: staging, live: true };
        staging.map_async(wgpu::MapMode::Read, .., move |result| fill(&filled, result));
        let mapped = self.wait_for(slot).await?;
        mapping.live = mapped.is_ok();
        self.check()?;
        mapped.map_err(|e| Error::Gpu(format!("its results cannot be read: {e}")))?;
        let view = staging.get_mapped_range(..).map_err(|e| Error::Gpu(format!("its results cannot be read: {e}")))?;
        let value = decode(&view);
        drop(view);
        drop(mapping);
        Ok(value)
    }
}

/// Destroys the device, which frees its memory at once. A browser's garbage collector does not know how much memory a
/// device holds, and might run much later.
impl Drop for Device {
    fn drop(&mut self) {
        self.device.destroy();
    }
}

#[cfg(not(target_arch = "wasm32"))]
type PendingError = Pin<Box<dyn Future<Output = Option<wgpu::Error>> + Send>>;
#[cfg(target_arch = "wasm32")]
type PendingError = Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>;

/// The errors of some commands, which a browser reports asynchronously.
#[must_use = "errors are lost unless `result` is called"]
pub struct ErrorScope(Vec<PendingError>);

impl ErrorScope {
    /// Waits for the device, and fails with [`Error::Gpu`] with the first error.
    pub async fn result(self) -> Result<()> {
        let mut result = Ok(());
        for error in self.0 {
            if let Some(error) = error.await
                && result.is_ok()
            {
                result = Err(Error::Gpu(sentence(&error)));
            }
        }
        result
    }
}

/// Unmaps the buffer when reading ends, also if it fails or its future is dropped.
struct Mapping<'a> {
    buffer: &'a Buffer,
    live: bool,
}

impl Drop for Mapping<'_> {
    fn drop(&mut self) {
        if self.live {
            self.buffer.unmap();
        }
    }
}

#[derive(Default)]
struct Slot {
    result: Option<Result<(), wgpu::BufferAsyncError>>,
    filled: bool,
    waker: Option<Waker>,
}

fn fill(slot: &Mutex<Slot>, result: Result<(), wgpu::BufferAsyncError>) {
    let mut slot = lock(slot);
    slot.result = Some(result);
    slot.filled = true;
    if let Some(waker) = slot.waker.take() {
        waker.wake();
    }
}

/// A mapping in progress.
struct Mapped(Arc<Mutex<Slot>>);

impl Future for Mapped {
    type Output = Result<(), wgpu::BufferAsyncError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = lock(&self.0);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Locks a mutex. No code panics while it holds one of these locks; if it did, the value would still be consistent.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A workaround for Firefox, which checks only every 100 ms and at each submit whether a GPU has finished.
#[cfg(target_arch = "wasm32")]
mod browser {
    use super::{Slot, lock};
    use js_sys::{Function, Promise, Reflect};
    use std::sync::{Arc, Mutex};
    use wasm_bindgen::{JsCast, JsValue};

    /// The time between two submits, in milliseconds.
    const INTERVAL: u32 = 4;
    /// The largest number of submits, which take half a minute. After that something else is wrong.
    const MAX_SUBMITS: usize = 7500;

    /// In Firefox, submits an empty list again and again until the slot is filled. Does nothing in other browsers.
    pub fn nudge(queue: &wgpu::Queue, slot: &Arc<Mutex<Slot>>) {
        if !is_firefox() {
            return;
        }
        let (queue, slot) = (queue.clone(), slot.clone());
        wasm_bindgen_futures::spawn_local(async move {
            for _ in 0..MAX_SUBMITS {
                if sleep(INTERVAL).await.is_err() || lock(&slot).filled {
                    return;
                }
                queue.submit([]);
            }
        });
    }

    fn is_firefox() -> bool {
        let get = |of: JsValue, name: &str| Reflect::get(&of, &name.into()).ok();
        let agent = get(js_sys::global().into(), "navigator").and_then(|navigator| get(navigator, "userAgent"));
        agent.and_then(|agent| agent.as_string()).is_some_and(|agent| agent.contains("Firefox"))
    }

    async fn sleep(ms: u32) -> Result<JsValue, JsValue> {
        let set_timeout: Function = Reflect::get(&js_sys::global(), &"setTimeout".into())?.dyn_into()?;
        let promise = Promise::new(&mut |resolve, _| {
            // This cannot fail, because both arguments have the right types.
            let _ = set_timeout.call2(&JsValue::UNDEFINED, &resolve, &ms.into());
        });
        wasm_bindgen_futures::JsFuture::from(promise).await
    }
}

async fn request(
    instance: &wgpu::Instance,
    force_fallback_adapter: bool,
) -> Result<wgpu::Adapter, wgpu::RequestAdapterError> {
    let options = wgpu::RequestAdapterOptions {
        power_preference: wgpu::PowerPreference::HighPerformance,
        force_fallback_adapter,
        ..Default::default()
    };
    instance.request_adapter(&options).await
}

fn no_adapter(why: &wgpu::RequestAdapterError) -> String {
    if cfg!(target_arch = "wasm32") {
        "this browser offers no WebGPU adapter".into()
    } else {
        format!("there is no GPU adapter ({why})")
    }
}

fn is_software(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SOFTWARE.iter().any(|software| name.contains(software))
}

fn sentence(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "it is out of memory".into(),
        // wgpu writes each cause of an error on a line of its own.
        error => error.to_string().split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

fn backend(backend: wgpu::Backend) -> &'static str {
    match backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "Direct3D 12",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Gl => "OpenGL",
        wgpu::Backend::Noop => "no backend",
    }
}

/// The adapter's names, the best first. Any of them can reveal a software adapter.
#[cfg(not(target_arch = "wasm32"))]
fn names(_device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Vec<String> {
    vec![info.name.clone(), info.driver.clone(), info.driver_info.clone()]
}

/// The adapter's names, the best first. Browsers usually withhold the description, and only report the vendor and the
/// architecture, which wgpu does not pass on.
#[cfg(target_arch = "wasm32")]
fn names(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Vec<String> {
    let adapter_info = device.as_webgpu().and_then(|d| js_sys::Reflect::get(d.as_ref(), &"adapterInfo".into()).ok());
    let field = |name: &str| {
        let value =
            adapter_info.as_ref().and_then(|adapter_info| js_sys::Reflect::get(adapter_info, &name.into()).ok());
        value.and_then(|v| v.as_string()).unwrap_or_default()
    };
    let kind = format!("{} {}", field("vendor"), field("architecture"));
    vec![info.name.clone(), kind.trim().to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_adapters_are_known_by_name() {
        for name in [
            "llvmpipe (LLVM 19.1.7, 256 bits)",
            "SwiftShader Device (Subzero)",
            "google swiftshader",
            "Microsoft Basic Render Driver",
        ] {
            assert!(is_software(name), "{name}");
        }
        for name in ["NVIDIA GeForce RTX 4070", "apple metal-3", "Intel(R) UHD Graphics 620", ""] {
            assert!(!is_software(name), "{name}");
        }
    }
}
