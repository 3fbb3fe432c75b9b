//! Decodes image files natively. In a browser, the browser decodes them.

use super::Image;
use crate::error::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use std::io::Cursor;

/// The largest number of pixels that is decoded, a little more than the largest cameras have. Nothing is allocated for
/// a file that claims more.
const MAX_PIXELS: u64 = 1 << 27;
/// The largest number of bytes that a decoder may allocate: [`MAX_PIXELS`] of RGBA with 16 bits per channel.
const MAX_BYTES: u64 = MAX_PIXELS * 8;

impl Image {
    /// Decodes a JPEG, PNG, GIF (its first frame), WebP or BMP file, and applies the orientation of its EXIF data. The
    /// format is detected from the file's bytes. Fails with [`Error::Image`] where the file cannot be decoded.
    pub fn decode(file: &[u8]) -> Result<Self> {
        if file.is_empty() {
            return Err(Error::Image("the file is empty".into()));
        }
        let mut reader =
            ImageReader::new(Cursor::new(file)).with_guessed_format().map_err(|e| Error::Io(e.to_string()))?;
        if reader.format().is_none_or(|format| !format.reading_enabled()) {
            return Err(Error::Image("it is no JPEG, PNG, GIF, WebP or BMP".into()));
        }
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_BYTES);
        reader.limits(limits);
        // The decoder's message may have several lines; ours has one.
        let wrong = |e: ImageError| Error::Image(e.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        let mut decoder = reader.into_decoder().map_err(wrong)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::Image(format!("it is {width} by {height} pixels; at most 134 million are supported")));
        }
        let orientation = decoder.orientation().map_err(wrong)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(wrong)?;
        picture.apply_orientation(orientation);
        let rgba = picture.into_rgba8();
        Image::new(rgba.width() as usize, rgba.height() as usize, rgba.into_raw())
    }
}
