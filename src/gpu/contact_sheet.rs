//! Sheets of channel tiles, drawn where the activations are.

use super::device::{Device, Kind};
use super::kernels::{self, Kernels, TilesRange, slot};
use crate::error::Result;
use crate::inspect::contact_sheet::{Colormap, Range, Sheet};
use crate::plan::Place;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen::JsValue;
use wgpu::{Buffer, BufferUsages};

/// The most bytes of a sheet drawn at once; a larger one is drawn in bands of rows.
const BAND: usize = 32 << 20;

/// A sheet that was drawn.
pub enum Drawn {
    /// RGBA, rows from the top.
    Rgba(Vec<u8>),
    /// On the GPU still.
    #[cfg(target_arch = "wasm32")]
    Resident(Resident),
}

/// A sheet's pixels on the GPU, as JavaScript can copy them to a texture.
#[cfg(target_arch = "wasm32")]
pub struct Resident {
    /// The `GPUDevice`.
    pub device: JsValue,
    /// The `GPUBuffer` with rows of RGBA. It is the caller's to destroy.
    pub pixels: JsValue,
    /// Bytes from row to row.
    pub pitch: usize,
}

/// Draws the sheet. In a browser it stays on the GPU where it may, unless it is too large for a texture or nothing but
/// reading it back is safe.
pub async fn draw(
    device: &Device,
    kernels: &Kernels,
    activations: &Buffer,
    place: Place,
    sheet: &Sheet,
    stay: bool,
) -> Result<Drawn> {
    let [width, height] = sheet.size(place.shape)?;
    // A copy to a texture wants rows of a multiple of 256 bytes.
    let padded = width.next_multiple_of(64);
    let most = device.device.limits().max_texture_dimension_2d as usize;
    // Chromium's GPU process crashes when its software adapter is to draw to a canvas.
    let stay = cfg!(target_arch = "wasm32") && stay;
    let stay = stay && device.kind != Kind::SwiftShader && width.max(height) <= most && padded * height * 4 <= BAND;
    let [pitch, rows] = if stay { [padded, height] } else { [width, (BAND / (width * 4)).clamp(1, height)] };
    let ((drawing, staging), watch) = device.watch(|| {
        let drawing = Drawing::new(device, kernels, activations, place, sheet, [pitch, rows]);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = (!stay).then(|| device.buffer("sheet", drawing.pixels.size(), usage));
        (drawing, staging)
    });
    watch.result().await?;
    let mut rgba = Vec::new();
    for first_row in (0..height).step_by(rows) {
        let rows = rows.min(height - first_row);
        let ((), watch) = device.watch(|| drawing.draw([first_row, rows], staging.as_ref()));
        let read = match &staging {
            Some(staging) => device.read(staging, |bytes| rgba.extend_from_slice(&bytes[..rows * width * 4])).await,
            None => Ok(()),
        };
        watch.result().await?;
        read?;
    }
    #[cfg(target_arch = "wasm32")]
    if let (true, Some(handle), Some(pixels)) = (stay, device.device.as_webgpu(), drawing.pixels.as_webgpu()) {
        device.check()?;
        return Ok(Drawn::Resident(Resident {
            device: JsValue::clone(handle.as_ref()),
            pixels: JsValue::clone(pixels.as_ref()),
            pitch: pitch * 4,
        }));
    }
    [Some(&drawing.pixels), staging.as_ref()].into_iter().flatten().for_each(Buffer::destroy);
    Ok(Drawn::Rgba(rgba))
}

/// What draws a sheet, band by band.
struct Drawing<'a> {
    device: &'a Device,
    kernels: &'a Kernels,
    activations: &'a Buffer,
    place: Place,
    sheet: &'a Sheet,
    /// Pixels from row to row of a band.
    pitch: usize,
    uniforms: Buffer,
    channels: Buffer,
    extents: Buffer,
    colours: Buffer,
    /// A band's.
    pixels: Buffer,
}

impl<'a> Drawing<'a> {
    /// With room for a band of so many rows, of so many pixels each.
    fn new(
        device: &'a Device,
        kernels: &'a Kernels,
        activations: &'a Buffer,
        place: Place,
        sheet: &'a Sheet,
        [pitch, rows]: [usize; 2],
    ) -> Self {
        let tiles = sheet.channels.len() as u64;
        Drawing {
            uniforms: device.buffer("tiles", kernels::SLOT, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
            channels: device.filled("channels", &sheet.channels, BufferUsages::STORAGE),
            extents: device.buffer("extents", (tiles + 1) * 8, BufferUsages::STORAGE),
            colours: device.filled("colours", &sheet.colormap.table(), BufferUsages::STORAGE),
            pixels: device.buffer("sheet", (pitch * rows * 4) as u64, BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            device,
            kernels,
            activations,
            place,
            sheet,
            pitch,
        }
    }

    /// Draws a band, and copies it to `staging` where that is given.
    fn draw(&self, [first_row, rows]: [usize; 2], staging: Option<&Buffer>) {
        let Drawing { device, kernels, activations, uniforms, channels, extents, colours, pixels, .. } = self;
        device.queue.write_buffer(uniforms, 0, &slot(&self.params([first_row, rows])));
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        if first_row == 0 {
            let bound = kernels.extent.bind(device, uniforms, 0, &[activations, channels, extents]);
            kernels.extent.dispatch(&mut pass, &bound, kernels.extent.grid(self.sheet.channels.len()));
            let bound = kernels.merge.bind(device, uniforms, 0, &[extents]);
            kernels.merge.dispatch(&mut pass, &bound, [1, 1, 1]);
        }
        let bound = kernels.draw.bind(device, uniforms, 0, &[activations, channels, extents, colours, pixels]);
        kernels.draw.dispatch(&mut pass, &bound, kernels.draw.grid(rows * self.pitch));
        drop(pass);
        if let Some(staging) = staging {
            encoder.copy_buffer_to_buffer(pixels, 0, staging, 0, pixels.size());
        }
        device.submit(encoder);
    }

    fn params(&self, [first_row, rows]: [usize; 2]) -> kernels::Tiles {
        let (sheet, place) = (self.sheet, self.place);
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
            sheet_width: self.pitch as u32,
            first_row: first_row as u32,
            rows: rows as u32,
            range,
            low,
            high,
            diverging: u32::from(sheet.colormap == Colormap::Diverging),
        }
    }
}

/// What was submitted has it still; without this, a browser would keep the memory until it collects garbage.
impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        [&self.uniforms, &self.channels, &self.extents, &self.colours].into_iter().for_each(Buffer::destroy);
    }
}
