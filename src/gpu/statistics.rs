//! Statistics of activations, computed by the GPU from its buffers.

use super::device::Device;
use super::kernel::{EntryPoint, Kernels, READ_WRITE, params, slot};
use super::shaders;
use crate::error::Result;
use crate::inspect::statistics::Stats;
use crate::plan::Place;
use wgpu::{Buffer, BufferUsages};

/// The number of channels of one workgroup of the entry point `channels`.
const CHANNELS_PER_WORKGROUP: usize = 16;

static CHANNELS: EntryPoint = EntryPoint {
    name: "channels",
    shader: &shaders::STATISTICS,
    bindings: READ_WRITE,
    per_workgroup: CHANNELS_PER_WORKGROUP,
};
static MAP: EntryPoint = EntryPoint::elementwise("map", &shaders::STATISTICS, READ_WRITE);

/// The kernels that compute statistics.
pub const KERNELS: [&EntryPoint; 2] = [&CHANNELS, &MAP];

params! {
    /// The `Params` of `statistics.wgsl`.
    Params {
        first_pixel: u32,
        pixels: u32,
        channels: u32,
        offset: u32,
        stride: u32,
        channel: u32,
    }
}

/// Computes statistics of one picture of the batch.
pub async fn stats(
    device: &Device,
    kernels: &Kernels,
    activations: &Buffer,
    place: Place,
    image: usize,
    stats: Stats,
) -> Result<Vec<f32>> {
    let shape = place.shape;
    let pixels = shape.h * shape.w;
    let (entry, units, channel) = match stats {
        Stats::Channels => (&CHANNELS, shape.c, 0),
        Stats::Map(channel) => (&MAP, pixels, channel),
    };
    let params = Params {
        first_pixel: (image * pixels) as u32,
        pixels: pixels as u32,
        channels: shape.c as u32,
        offset: place.offset as u32,
        stride: place.stride as u32,
        channel: channel as u32,
    };
    let floats = stats.len(shape, image)?;
    let (buffers, errors) = device.scoped(|| {
        let kernel = kernels.get(device, entry);
        let uniforms = device.filled("stats", &slot(&params), BufferUsages::UNIFORM);
        let found = device.buffer("stats", floats as u64 * 4, BufferUsages::STORAGE | BufferUsages::COPY_SRC);
        let bound = kernel.bind(device, &uniforms, 0, &[activations, &found]);
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        kernel.dispatch(&mut pass, &bound, kernel.grid(units));
        drop(pass);
        device.submit(encoder);
        [uniforms, found]
    });
    let values = device.values(&buffers[1]).await;
    // Otherwise a browser would keep the memory until the next garbage collection.
    buffers.iter().for_each(Buffer::destroy);
    errors.result().await?;
    values
}
