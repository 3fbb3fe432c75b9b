//! Sheets of channel tiles, drawn where the activations are.

use super::device::Device;
use super::kernels::{self, Kernels, TilesRange, slot};
use crate::error::Result;
use crate::plan::Place;
use crate::tiles::{Colormap, Range, Sheet};
use wgpu::{Buffer, BufferUsages};

/// The most bytes of a sheet drawn at once; a larger one is drawn in bands of rows.
const BAND: usize = 32 << 20;

/// RGBA of the sheet, rows from the top.
pub async fn draw(
    device: &Device,
    kernels: &Kernels,
    activations: &Buffer,
    place: Place,
    sheet: &Sheet,
) -> Result<Vec<u8>> {
    let [width, height] = sheet.size(place.shape)?;
    let rows = (BAND / (width * 4)).clamp(1, height);
    let band_bytes = (rows * width * 4) as u64;
    let tiles = sheet.channels.len();
    let ((buffers, staging), watch) = device.watch(|| {
        let out = BufferUsages::STORAGE | BufferUsages::COPY_SRC;
        let buffers = [
            device.buffer("tiles", kernels::SLOT, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
            device.filled("channels", &sheet.channels, BufferUsages::STORAGE),
            device.buffer("extents", (tiles as u64 + 1) * 8, BufferUsages::STORAGE),
            device.filled("colours", &sheet.colormap.table(), BufferUsages::STORAGE),
            device.buffer("sheet", band_bytes, out),
        ];
        (buffers, device.buffer("sheet", band_bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST))
    });
    watch.result().await?;
    let [uniforms, channels, extents, colours, pixels] = &buffers;

    let mut rgba = Vec::with_capacity(width * height * 4);
    for first_row in (0..height).step_by(rows) {
        let rows = rows.min(height - first_row);
        let ((), watch) = device.watch(|| {
            device.queue.write_buffer(uniforms, 0, &slot(&params(place, sheet, width, first_row, rows)));
            let mut encoder = device.encoder();
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            if first_row == 0 {
                let bound = kernels.extent.bind(device, uniforms, 0, &[activations, channels, extents]);
                kernels.extent.dispatch(&mut pass, &bound, kernels.extent.grid(tiles));
                let bound = kernels.merge.bind(device, uniforms, 0, &[extents]);
                kernels.merge.dispatch(&mut pass, &bound, [1, 1, 1]);
            }
            let bound = kernels.draw.bind(device, uniforms, 0, &[activations, channels, extents, colours, pixels]);
            kernels.draw.dispatch(&mut pass, &bound, kernels.draw.grid(rows * width));
            drop(pass);
            encoder.copy_buffer_to_buffer(pixels, 0, &staging, 0, band_bytes);
            device.submit(encoder);
        });
        let read = device.read(&staging, |bytes| rgba.extend_from_slice(&bytes[..rows * width * 4])).await;
        watch.result().await?;
        read?;
    }
    buffers.iter().chain([&staging]).for_each(Buffer::destroy);
    Ok(rgba)
}

fn params(place: Place, sheet: &Sheet, width: usize, first_row: usize, rows: usize) -> kernels::Tiles {
    let (range, low, high) = match sheet.range {
        Range::Channel => (TilesRange::CHANNEL, 0.0, 0.0),
        Range::Sheet => (TilesRange::SHEET, 0.0, 0.0),
        Range::Fixed(low, high) => (TilesRange::FIXED, low, high),
    };
    let shape = place.shape;
    kernels::Tiles {
        first_pixel: (sheet.image * shape.h * shape.w) as u32,
        height: shape.h as u32,
        width: shape.w as u32,
        offset: place.offset as u32,
        stride: place.stride as u32,
        tiles: sheet.channels.len() as u32,
        columns: sheet.columns.min(sheet.channels.len()) as u32,
        scale: sheet.scale as u32,
        gap: sheet.gap as u32,
        sheet_width: width as u32,
        first_row: first_row as u32,
        rows: rows as u32,
        range,
        low,
        high,
        diverging: u32::from(sheet.colormap == Colormap::Diverging),
    }
}
