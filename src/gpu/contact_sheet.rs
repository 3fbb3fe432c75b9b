//! Sheets of channel tiles, drawn where the activations are.

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
    /// The `Params` of contact_sheet.wgsl.
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

/// Where contact_sheet.wgsl takes the ends of the colour map from.
#[repr(transparent)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RangeMode(u32);

impl RangeMode {
    const CHANNEL: RangeMode = RangeMode(0);
    const SHEET: RangeMode = RangeMode(1);
    const FIXED: RangeMode = RangeMode(2);
}

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
    let ((drawing, staging), errors) = device.scoped(|| {
        let drawing = Drawing::new(device, kernels, activations, place, sheet, [pitch, rows]);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let staging = (!stay).then(|| device.buffer("sheet", drawing.pixels.size(), usage));
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

    /// Draws a band, and copies it to `staging` where that is given.
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

/// What was submitted has it still; without this, a browser would keep the memory until it collects garbage.
impl Drop for Drawing<'_> {
    fn drop(&mut self) {
        [&self.uniforms, &self.channels, &self.extents, &self.colours].into_iter().for_each(Buffer::destroy);
    }
}
