//! Picture files, where there is no browser to decode them.

use super::Image;
use crate::error::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use std::io::Cursor;

/// Some more than the largest cameras': what a file claims beyond it is not allocated.
const MAX_PIXELS: u64 = 1 << 27;
/// That many pixels of RGBA in 16 bits, as a decoder may hold them.
const MAX_BYTES: u64 = MAX_PIXELS * 8;

impl Image {
    /// Decodes a JPEG, PNG, GIF (its first frame), WebP or BMP file, whatever it is called, and turns it as its EXIF
    /// says.
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
        // One line, whatever the decoder's reason is made of.
        let wrong = |e: ImageError| Error::Image(e.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
        let mut decoder = reader.into_decoder().map_err(wrong)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(Error::Image(format!("it is {width} by {height} pixels; at most 134 million are read")));
        }
        let orientation = decoder.orientation().map_err(wrong)?;
        let mut picture = DynamicImage::from_decoder(decoder).map_err(wrong)?;
        picture.apply_orientation(orientation);
        let rgba = picture.into_rgba8();
        Image::new(rgba.width() as usize, rgba.height() as usize, rgba.into_raw())
    }
}
