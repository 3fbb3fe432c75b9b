//! Contact sheets of channels, drawn by the GPU from its activations.

use super::device::{Device, Kind};
use super::kernel::{Access, EntryPoint, Kernels, PARAMS_BYTES, params, slot};
use super::shaders;
use crate::error::Result;
use crate::inspect::contact_sheet::{Colormap, Range, Sheet};
use crate::plan::Place;
#[cfg(target_arch = "wasm32")]
use wasm_bindgen::JsValue;
use wgpu::{Buffer, BufferUsages};

static EXTENT: EntryPoint = EntryPoint {
    name: "extent",
    shader: &shaders::CONTACT_SHEET,
    bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Write)],
    per_workgroup: 1,
};
static MERGE: EntryPoint = EntryPoint {
    name: "merge",
    shader: &shaders::CONTACT_SHEET,
    bindings: &[(0, Access::Params), (3, Access::Write)],
    per_workgroup: 1,
};
static DRAW: EntryPoint = EntryPoint::elementwise(
    "draw",
    &shaders::CONTACT_SHEET,
    &[
        (0, Access::Params),
        (1, Access::Read),
        (2, Access::Read),
        (3, Access::Write),
        (4, Access::Read),
        (5, Access::Write),
    ],
);

/// The kernels that draw contact sheets.
pub const KERNELS: [&EntryPoint; 3] = [&EXTENT, &MERGE, &DRAW];

params! {
    /// The `Params` of `contact_sheet.wgsl`.
    Params {
        first_pixel: u32,
        height: u32,
        width: u32,
        offset: u32,
        stride: u32,
        tiles: u32,
        columns: u32,
        scale: u32,
        gap: u32,
        sheet_width: u32,
        first_row: u32,
        rows: u32,
        range: RangeMode,
        low: f32,
        high: f32,
        diverging: u32,
    }
}

/// How `contact_sheet.wgsl` determines the values at the two ends of the colour map.
#[repr(transparent)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RangeMode(u32);

impl RangeMode {
    const CHANNEL: RangeMode = RangeMode(0);
    const SHEET: RangeMode = RangeMode(1);
    const FIXED: RangeMode = RangeMode(2);
}

/// The largest number of bytes that are drawn at once. A larger sheet is drawn in bands of rows.
const MAX_BAND_BYTES: usize = 32 << 20;

/// A contact sheet that was drawn.
pub enum Drawn {
    /// RGBA pixels, row by row from the top.
    Rgba(Vec<u8>),
    /// Pixels in a buffer on the GPU.
    #[cfg(target_arch = "wasm32")]
    Resident(Resident),
}

/// The pixels of a contact sheet on the GPU, which JavaScript can copy to a texture.
#[cfg(target_arch = "wasm32")]
pub struct Resident {
    /// The `GPUDevice`.
    pub device: JsValue,
    /// The `GPUBuffer` with rows of RGBA. The caller must destroy it.
    pub pixels: JsValue,
    /// The number of bytes from the start of one row to the start of the next.
    pub pitch: usize,
}

/// Draws a contact sheet. With `keep_on_gpu`, a browser keeps the pixels on the GPU, unless the sheet is larger than a
/// texture or a band, or the adapter is SwiftShader.
pub async fn draw(
    device: &Device,
    kernels: &Kernels,
    activations: &Buffer,
    place: Place,
    sheet: &Sheet,
    keep_on_gpu: bool,
) -> Result<Drawn> {
    let [width, height] = sheet.size(place.shape)?;
    // A copy from a buffer to a texture requires rows of a multiple of 256 bytes.
    let padded = width.next_multiple_of(64);
    let max_side = device.device.limits().max_texture_dimension_2d as usize;
    // Chromium's GPU process crashes when SwiftShader draws to a canvas.
    let keep_on_gpu = cfg!(target_arch = "wasm32") && keep_on_gpu;
    let keep_on_gpu = keep_on_gpu
        && device.kind != Kind::SwiftShader
        && width.max(height) <= max_side
        && padded * height * 4 <= MAX_BAND_BYTES;
    let [pitch, rows] =
        if keep_on_gpu { [padded, height] } else { [width, (MAX_BAND_BYTES / (width * 4)).clamp(1, height)] };
    let ((drawing, staging), errors) = device.scoped(|| {
        let drawing = Drawing::new(device, kernels, activations, place, sheet, [pitch, rows]);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = (!keep_on_gpu).then(|| device.buffer("sheet", drawing.pixels.size(), usage));
        (drawing, staging)
    });
    errors.result().await?;
    let mut rgba = Vec::new();
    for first_row in (0..height).step_by(rows) {
        let rows = rows.min(height - first_row);
        let ((), errors) = device.scoped(|| drawing.draw([first_row, rows], staging.as_ref()));
        let read = match &staging {
            Some(staging) => device.read(staging, |bytes| rgba.extend_from_slice(&bytes[..rows * width * 4])).await,
            None => Ok(()),
        };
        errors.result().await?;
        read?;
    }
    #[cfg(target_arch = "wasm32")]
    if let (true, Some(handle), Some(pixels)) = (keep_on_gpu, device.device.as_webgpu(), drawing.pixels.as_webgpu()) {
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

/// The buffers with which a contact sheet is drawn, band by band.
struct Drawing<'a> {
    device: &'a Device,
    kernels: &'a Kernels,
    activations: &'a Buffer,
    place: Place,
    sheet: &'a Sheet,
    /// The number of pixels from the start of one row of a band to the start of the next.
    pitch: usize,
    uniforms: Buffer,
    channels: Buffer,
    extents: Buffer,
    colours: Buffer,
    /// The pixels of one band.
    pixels: Buffer,
}

impl<'a> Drawing<'a> {
    /// Creates the buffers for bands of `rows` rows with `pitch` pixels each.
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
            uniforms: device.buffer("tiles", PARAMS_BYTES as u64, BufferUsages::UNIFORM | BufferUsages::COPY_DST),
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

    /// Draws the band of `rows` rows from `first_row` on, and copies it to the staging buffer if there is one.
    fn draw(&self, [first_row, rows]: [usize; 2], staging: Option<&Buffer>) {
        let Drawing { device, kernels, activations, uniforms, channels, extents, colours, pixels, .. } = self;
        device.queue.write_buffer(uniforms, 0, &slot(&self.params([first_row, rows])));
        let mut encoder = device.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        if first_row == 0 {
            let (extent, merge) = (kernels.get(device, &EXTENT), kernels.get(device, &MERGE));
            let bound = extent.bind(device, uniforms, 0, &[activations, channels, extents]);
            extent.dispatch(&mut pass, &bound, extent.grid(self.sheet.channels.len()));
            let bound = merge.bind(device, uniforms, 0, &[extents]);
            merge.dispatch(&mut pass, &bound, [1, 1, 1]);
        }
        let draw = kernels.get(device, &DRAW);
        let bound = draw.bind(device, uniforms, 0, &[activations, channels, extents, colours, pixels]);
        draw.dispatch(&mut pass, &bound, draw.grid(rows * self.pitch));
        drop(pass);
        if let Some(staging) = staging {
            encoder.copy_buffer_to_buffer(pixels, 0, staging, 0, pixels.size());
        }
        device.submit(encoder);
    }

    fn params(&self, [first_row, rows]: [usize; 2]) -> Params {
        let (sheet, place) = (self.sheet, self.place);
        let (range, low, high) = match sheet.range {
            Range::Channel => (RangeMode::CHANNEL, 0.0, 0.0),
            Range::Sheet => (RangeMode::SHEET, 0.0, 0.0),
            Range::Fixed(low, high) => (RangeMode::FIXED, low, high),
        };
        let shape = place.shape;
        Params {
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

/// Destroys the buffers; submitted commands may still use them. Otherwise a browser would keep their memory until the
/// next garbage collection.
impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        [&self.uniforms, &self.channels, &self.extents, &self.colours].into_iter().for_each(Buffer::destroy);
    }
}
