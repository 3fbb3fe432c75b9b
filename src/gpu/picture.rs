//! Preprocesses pictures to the network's input. Each place of the batch keeps its buffers for the next picture, and
//! keeps its resampling taps for the next picture of the same size.

use super::device::Device;
use super::kernel::{Access, EntryPoint, Kernels, params, slot};
use super::recording::Recording;
use super::shaders;
use crate::model::preprocess::{Crop, Image, Preprocess, Taps};
use crate::plan::Place;
use wgpu::{BindGroup, Buffer, BufferUsages, CommandEncoder};

static ACROSS: EntryPoint = EntryPoint::elementwise(
    "across",
    &shaders::PREPROCESS,
    &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (3, Access::Read), (4, Access::Write)],
);
static DOWN: EntryPoint = EntryPoint::elementwise(
    "down",
    &shaders::PREPROCESS,
    &[(0, Access::Params), (1, Access::Read), (2, Access::Read), (4, Access::Write), (5, Access::Write)],
);

/// The kernels that preprocess pictures.
pub const KERNELS: [&EntryPoint; 2] = [&ACROSS, &DOWN];

params! {
    /// The `Params` of `preprocess.wgsl`.
    Params {
        width: u32,
        first_row: u32,
        rows: u32,
        size: u32,
        image: u32,
        y_offset: u32,
        y_stride: u32,
        from: [u32; 3],
        factor: [f32; 3],
        offset: [f32; 3],
    }
}

/// The buffers that `preprocess.wgsl` reads and writes for one place of the batch.
#[derive(Default)]
pub struct Picture {
    params: Option<Buffer>,
    spans: Option<Buffer>,
    weights: Option<Buffer>,
    pixels: Option<Buffer>,
    narrow: Option<Buffer>,
    uploaded: Option<UploadedTaps>,
    bound: Option<Bound>,
}

/// The taps in the buffers, and the picture size and crop that they are for.
struct UploadedTaps {
    width: usize,
    height: usize,
    crop: Crop,
    /// The first row that any tap reads, and the number of rows from there to the last.
    first_row: usize,
    rows: usize,
}

/// The bind groups of the current buffers.
struct Bound {
    across: BindGroup,
    down: BindGroup,
}

impl Picture {
    /// Drops the bind groups, because the input will be in another buffer.
    pub fn unbind(&mut self) {
        self.bound = None;
    }

    /// Preprocesses a picture into place `at` of the batch. Returns whether it has encoded a compute pass, which takes
    /// the timestamps `times`. A picture that is larger than the device's buffers is preprocessed on the CPU instead.
    pub fn encode(
        &mut self,
        (device, kernels, preprocess): (&Device, &Kernels, &Preprocess),
        recording: &Recording,
        (image, crop, at): (&Image, Crop, usize),
        encoder: &mut CommandEncoder,
        times: Option<wgpu::ComputePassTimestampWrites<'_>>,
    ) -> bool {
        let place = recording.inputs[0];
        let input = recording.buffer(place);
        let Some((first_row, rows)) = self.upload_taps(device, preprocess, image, crop) else {
            let mut values = vec![0.0; preprocess.size * preprocess.size * 3];
            preprocess.run(image, crop, &mut values);
            recording.write(device, place, at, &values);
            return false;
        };
        let row_bytes = image.width() * 4;
        let pixels = &image.rgba()[first_row * row_bytes..(first_row + rows) * row_bytes];
        let params = slot(&params(preprocess, image, place, (first_row, rows), at));
        let usage = BufferUsages::STORAGE;
        let mut fresh = false;
        let buffers = [
            fit(device, &mut self.params, &mut fresh, params.len(), BufferUsages::UNIFORM),
            fit(device, &mut self.pixels, &mut fresh, pixels.len(), usage),
            fit(device, &mut self.narrow, &mut fresh, rows * preprocess.size * 16, usage),
        ];
        let [uniforms, picture, narrow] = buffers;
        device.queue.write_buffer(uniforms, 0, &params);
        device.queue.write_buffer(picture, 0, pixels);
        if fresh {
            self.bound = None;
        }
        let (Some(spans), Some(weights)) = (&self.spans, &self.weights) else { return false };
        let (across, down) = (kernels.get(device, &ACROSS), kernels.get(device, &DOWN));
        let bound = self.bound.get_or_insert_with(|| Bound {
            across: across.bind(device, uniforms, 0, &[spans, weights, picture, narrow]),
            down: down.bind(device, uniforms, 0, &[spans, weights, narrow, input]),
        });
        let descriptor = wgpu::ComputePassDescriptor { label: Some("preprocess"), timestamp_writes: times };
        let mut pass = encoder.begin_compute_pass(&descriptor);
        across.dispatch(&mut pass, &bound.across, across.grid(rows * preprocess.size));
        down.dispatch(&mut pass, &bound.down, down.grid(preprocess.size * preprocess.size));
        true
    }

    /// Uploads the taps for this picture, unless the buffers hold them already. Returns the first row that they read
    /// and the number of rows; `None` if the picture is larger than the device's buffers allow.
    fn upload_taps(
        &mut self,
        device: &Device,
        preprocess: &Preprocess,
        image: &Image,
        crop: Crop,
    ) -> Option<(usize, usize)> {
        let (width, height) = (image.width(), image.height());
        if let Some(uploaded) = &self.uploaded
            && (uploaded.width, uploaded.height, uploaded.crop) == (width, height, crop)
        {
            return Some((uploaded.first_row, uploaded.rows));
        }
        let taps = preprocess.taps(width, height, crop);
        let reach = taps[1].reach();
        let (first_row, rows) = (reach.start, reach.len());
        let (spans, weights) = concatenated(&taps);
        let bytes = [rows * width * 4, rows * preprocess.size * 16, weights.len() * 4];
        if bytes.iter().any(|&bytes| bytes as u64 > device.max_binding()) {
            return None;
        }
        self.uploaded = None;
        let mut fresh = false;
        let to = fit(device, &mut self.spans, &mut fresh, spans.len() * 4, BufferUsages::STORAGE);
        device.queue.write_buffer(to, 0, bytemuck::cast_slice(&spans));
        let to = fit(device, &mut self.weights, &mut fresh, weights.len() * 4, BufferUsages::STORAGE);
        device.queue.write_buffer(to, 0, bytemuck::cast_slice(&weights));
        if fresh {
            self.bound = None;
        }
        self.uploaded = Some(UploadedTaps { width, height, crop, first_row, rows });
        Some((first_row, rows))
    }
}

/// Returns the buffer in `slot`, and replaces it if it has fewer than `bytes` bytes. Sets `fresh` if the buffer is new.
fn fit<'a>(
    device: &Device,
    slot: &'a mut Option<Buffer>,
    fresh: &mut bool,
    bytes: usize,
    usage: BufferUsages,
) -> &'a Buffer {
    if slot.as_ref().is_some_and(|buffer| buffer.size() < bytes as u64) {
        *slot = None;
    }
    slot.get_or_insert_with(|| {
        *fresh = true;
        device.buffer("picture", bytes as u64, usage | BufferUsages::COPY_DST)
    })
}

/// The spans and weights of the horizontal axis, followed by those of the vertical axis.
fn concatenated([across, down]: &[Taps; 2]) -> (Vec<u32>, Vec<f32>) {
    let start = across.weights.len() as u32;
    let moved = down.spans.iter().map(|&[first, count, at]| [first, count, at + start]);
    let spans = across.spans.iter().copied().chain(moved).flatten().collect();
    (spans, [across.weights.as_slice(), &down.weights].concat())
}

fn params(
    preprocess: &Preprocess,
    image: &Image,
    place: Place,
    (first_row, rows): (usize, usize),
    at: usize,
) -> Params {
    let affine = preprocess.affine();
    Params {
        width: image.width() as u32,
        first_row: first_row as u32,
        rows: rows as u32,
        size: preprocess.size as u32,
        image: at as u32,
        y_offset: place.offset as u32,
        y_stride: place.stride as u32,
        from: affine.map(|(from, ..)| from as u32),
        factor: affine.map(|(_, factor, _)| factor),
        offset: affine.map(|(.., offset)| offset),
    }
}
