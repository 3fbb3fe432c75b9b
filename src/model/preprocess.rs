//! Preprocessing, from a picture's pixels to the network's input: crop, antialiased resize and normalisation.
//!
//! This code is the specification. `shaders/preprocess.wgsl` does the same arithmetic with the same [`Taps`]. No image
//! library is used, as their resizing rounds to bytes between its two passes, which a shader could not match.

use crate::error::{Error, Result};
use crate::graph::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

#[cfg(not(target_arch = "wasm32"))]
mod decode;

/// A decoded picture: RGBA with 8 bits per channel, rows from the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    rgba: Vec<u8>,
}

impl Image {
    /// A picture of these RGBA bytes. Fails with [`Error::Image`] where it has no pixels, or where the number of bytes
    /// does not fit its size.
    pub fn new(width: usize, height: usize, rgba: Vec<u8>) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(Error::Image(format!("it is {width} by {height} pixels")));
        }
        let expected = width.checked_mul(height).and_then(|n| n.checked_mul(4));
        if expected != Some(rgba.len()) {
            return Err(Error::Image(format!("{width} by {height} pixels of RGBA are not {} bytes", rgba.len())));
        }
        Ok(Image { width, height, rgba })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn rgba(&self) -> &[u8] {
        &self.rgba
    }

    /// The colour of a pixel, 0..255, blended with white by its alpha.
    fn rgb(&self, x: usize, y: usize) -> [f32; 3] {
        let at = (y * self.width + x) * 4;
        let [r, g, b, a] = [0, 1, 2, 3].map(|i| self.rgba[at + i] as f32);
        if a == 255.0 { [r, g, b] } else { [r, g, b].map(|v| 255.0 + (v - 255.0) * (a / 255.0)) }
    }
}

/// How a picture is made square for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crop {
    /// The largest square at the picture's centre.
    #[default]
    Center,
    /// The whole picture, with both sides scaled to the same length.
    Squash,
    /// The whole picture in its own proportions, with bars of the mean colour.
    Fit,
}

impl FromStr for Crop {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "center" => Ok(Crop::Center),
            "squash" => Ok(Crop::Squash),
            "fit" => Ok(Crop::Fit),
            _ => Err(Error::Argument(format!("\"{s}\" is not a way to crop; there are center, squash and fit"))),
        }
    }
}

/// A rectangle of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// The order of the colour channels in the network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub enum Order {
    #[default]
    #[serde(rename = "RGB")]
    Rgb,
    #[serde(rename = "BGR")]
    Bgr,
}

/// A model's preprocessing: input channel c is `(pixel * scale - mean[c]) / std[c]`, where pixel is 0..255.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// Height and width of the network's input in pixels.
    pub size: usize,
    #[serde(default)]
    pub order: Order,
    #[serde(default = "one")]
    pub scale: f32,
    /// The mean of each channel, in the order of the network's input channels.
    #[serde(default)]
    pub mean: [f32; 3],
    #[serde(default = "ones")]
    pub std: [f32; 3],
    /// If set, a picture that is larger than this is first reduced to this size and then enlarged to `size`. For
    /// networks that were trained on small pictures, e.g. 32 for CIFAR-10, and have never seen finer detail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<usize>,
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// RGB 0..255 at 224x224, without normalisation.
impl Default for Preprocess {
    fn default() -> Self {
        Preprocess { size: 224, order: Order::Rgb, scale: 1.0, mean: [0.0; 3], std: [1.0; 3], through: None }
    }
}

impl Preprocess {
    /// The preprocessing of BVLC's network: BGR 0..255 minus the mean of ImageNet.
    pub const BVLC: Preprocess = Preprocess {
        size: 224,
        order: Order::Bgr,
        scale: 1.0,
        mean: [104.0, 117.0, 123.0],
        std: [1.0; 3],
        through: None,
    };

    /// Checks that all numbers are in their ranges. Fails with [`Error::Metadata`] otherwise.
    pub fn check(&self) -> Result<()> {
        let reason = if self.size == 0 || self.size > 4096 {
            "size must be from 1 to 4096"
        } else if self.through.is_some_and(|t| t == 0 || t > 4096) {
            "through must be from 1 to 4096"
        } else if !self.scale.is_finite() || self.mean.iter().chain(&self.std).any(|v| !v.is_finite()) {
            "scale, mean and std must be finite"
        } else if self.std.contains(&0.0) {
            "std must not be 0"
        } else if self.affine().iter().any(|(_, factor, offset)| !(factor * 255.0 + offset).is_finite()) {
            "scale and mean divided by std must be finite"
        } else {
            return Ok(());
        };
        Err(Error::Metadata { key: "preprocessing".into(), reason: reason.into() })
    }

    /// Returns (colour, factor, offset) for each input channel: it is `pixel * factor + offset` of the colour 0, 1 or 2
    /// for R, G or B.
    pub fn affine(&self) -> [(usize, f32, f32); 3] {
        [0, 1, 2].map(|c| {
            let from = if self.order == Order::Rgb { c } else { 2 - c };
            (from, self.scale / self.std[c], -self.mean[c] / self.std[c])
        })
    }

    /// The taps along x and along y for a picture of this width and height.
    pub fn taps(&self, width: usize, height: usize, crop: Crop) -> [Taps; 2] {
        let short = width.min(height);
        [width, height].map(|len| match crop {
            Crop::Center => Taps::new((len - short) / 2, short, 0, self.size, self.size, self.through),
            Crop::Squash => Taps::new(0, len, 0, self.size, self.size, self.through),
            Crop::Fit => {
                let long = width.max(height);
                let inner = |full: usize| ((full * len + long / 2) / long).max(1);
                let out = inner(self.size);
                Taps::new(0, len, (self.size - out) / 2, out, self.size, self.through.map(inner))
            }
        })
    }

    /// The taps along x and along y that resize an area of a picture to the network's input. Panics if the area is empty.
    pub fn taps_of(&self, area: Area) -> [Taps; 2] {
        assert!(area.width > 0 && area.height > 0, "the area must have pixels");
        [(area.x, area.width), (area.y, area.height)]
            .map(|(from, len)| Taps::new(from, len, 0, self.size, self.size, self.through))
    }

    /// Writes the network's input for one picture to `out`, in the order HWC. Panics if `out` does not have exactly its
    /// length.
    pub fn run(&self, image: &Image, crop: Crop, out: &mut [f32]) {
        self.run_with(image, &self.taps(image.width, image.height, crop), |rgb| rgb, out);
    }

    /// Like [`Preprocess::run`], with these taps along x and along y, and with the colours that `colour` returns for RGB
    /// values 0..255. Panics if `out` does not have exactly the input's length, or where taps read outside the picture.
    pub fn run_with(
        &self,
        image: &Image,
        [across, down]: &[Taps; 2],
        colour: impl Fn([f32; 3]) -> [f32; 3],
        out: &mut [f32],
    ) {
        let size = self.size;
        assert_eq!(out.len(), size * size * 3, "the slice must hold one picture");
        let rows = down.reach();
        let mut narrow = vec![[0f32; 3]; rows.len() * size];
        let mut line = vec![[0f32; 3]; image.width];
        for (y, narrow) in rows.clone().zip(narrow.chunks_exact_mut(size)) {
            for x in across.reach() {
                line[x] = image.rgb(x, y);
            }
            for (x, to) in narrow.iter_mut().enumerate() {
                *to = across.apply(x, |i| line[i]);
            }
        }
        let affine = self.affine();
        for (y, line) in out.chunks_exact_mut(size * 3).enumerate() {
            for (x, to) in line.chunks_exact_mut(3).enumerate() {
                // The bars of `Crop::Fit` have the mean colour, which is zero after normalisation.
                if down.is_outside(y) || across.is_outside(x) {
                    to.fill(0.0);
                    continue;
                }
                let rgb = colour(down.apply(y, |i| narrow[(i - rows.start) * size + x]));
                for (to, (from, factor, offset)) in to.iter_mut().zip(affine) {
                    *to = rgb[from] * factor + offset;
                }
            }
        }
    }

    /// The network's input for a batch of pictures, (n, size, size, 3).
    pub fn tensor(&self, images: &[&Image], crop: Crop) -> Tensor {
        let mut tensor = Tensor::zeros(Shape::new(images.len(), self.size, self.size, 3));
        for (image, out) in images.iter().zip(tensor.data.chunks_exact_mut(self.size * self.size * 3)) {
            self.run(image, crop, out);
        }
        tensor
    }
}

/// The weights with which each output along one axis is summed from inputs: an antialiased bilinear resize (Pillow's
/// `BILINEAR`, a triangle filter whose width grows with the reduction).
#[derive(Debug, Clone, PartialEq)]
pub struct Taps {
    /// For each output, the index of its first input, the number of its inputs, and the index of its first weight.
    pub spans: Vec<[u32; 3]>,
    pub weights: Vec<f32>,
}

impl Taps {
    /// The taps from the inputs `from .. from + len` to the outputs `at .. at + out` of `total`. The other outputs have
    /// no inputs. With `through`, a longer input is first reduced to that many samples.
    fn new(from: usize, len: usize, at: usize, out: usize, total: usize, through: Option<usize>) -> Self {
        let mut rows = match through {
            Some(t) if t < len => {
                let (down, up) = (triangle(len, t), triangle(t, out));
                up.iter().map(|row| compose(row, &down)).collect()
            }
            _ => triangle(len, out),
        };
        let mut taps = Taps { spans: vec![[0; 3]; total], weights: Vec::new() };
        for (span, (first, weights)) in taps.spans[at..at + out].iter_mut().zip(&mut rows) {
            *span = [from + *first, weights.len(), taps.weights.len()].map(|v| v as u32);
            taps.weights.append(weights);
        }
        taps
    }

    /// The taps that give the outputs in reverse order: with those along x, the resized picture is mirrored.
    pub fn reversed(mut self) -> Self {
        self.spans.reverse();
        self
    }

    /// The range of inputs that any output reads.
    pub fn reach(&self) -> std::ops::Range<usize> {
        let inside = self.spans.iter().filter(|s| s[1] > 0);
        let start = inside.clone().map(|s| s[0]).min().unwrap_or(0);
        let end = inside.map(|s| s[0] + s[1]).max().unwrap_or(0);
        start as usize..end as usize
    }

    /// Whether an output has no inputs.
    fn is_outside(&self, out: usize) -> bool {
        self.spans[out][1] == 0
    }

    /// The weighted sum of an output's inputs.
    fn apply(&self, out: usize, read: impl Fn(usize) -> [f32; 3]) -> [f32; 3] {
        let [first, count, at] = self.spans[out].map(|v| v as usize);
        let mut sum = [0.0; 3];
        for (i, &w) in self.weights[at..at + count].iter().enumerate() {
            let rgb = read(first + i);
            for c in 0..3 {
                sum[c] += rgb[c] * w;
            }
        }
        sum
    }
}

/// The first input and the weights of each of `out` outputs that cover `len` inputs.
fn triangle(len: usize, out: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = len as f64 / out as f64;
    let width = scale.max(1.0);
    (0..out)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - width + 0.5).max(0.0) as usize;
            let end = ((center + width + 0.5) as usize).min(len).max(first + 1);
            let weight = |x: usize| (1.0 - ((x as f64 + 0.5 - center) / width).abs()).max(0.0);
            let sum: f64 = (first..end).map(weight).sum();
            (first, (first..end).map(|x| (weight(x) / sum) as f32).collect())
        })
        .collect()
}

/// Combines two resizes: the taps of one output of the second, expressed in inputs of the first, whose taps are
/// `inner`.
fn compose((first, weights): &(usize, Vec<f32>), inner: &[(usize, Vec<f32>)]) -> (usize, Vec<f32>) {
    let used = &inner[*first..first + weights.len()];
    let start = used.iter().map(|r| r.0).min().unwrap_or(0);
    let end = used.iter().map(|r| r.0 + r.1.len()).max().unwrap_or(start);
    let mut sum = vec![0.0; end - start];
    for (&w, (at, row)) in weights.iter().zip(used) {
        for (to, v) in sum[at - start..].iter_mut().zip(row) {
            *to += w * v;
        }
    }
    (start, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(size: usize) -> Preprocess {
        Preprocess { size, ..Preprocess::default() }
    }

    fn gradient(width: usize, height: usize) -> Image {
        let rgba = (0..height * width).flat_map(|i| [(i % width) as u8, (i / width) as u8, 7, 255]).collect();
        Image::new(width, height, rgba).unwrap()
    }

    #[test]
    fn weights_of_every_output_sum_to_one() {
        for (len, out, through) in
            [(1, 224, None), (300, 224, None), (3000, 224, Some(32)), (33, 10, Some(32)), (5, 7, Some(9))]
        {
            let taps = Taps::new(2, len, 0, out, out, through);
            for [first, count, at] in taps.spans.iter().map(|s| s.map(|v| v as usize)) {
                let sum: f32 = taps.weights[at..at + count].iter().sum();
                assert!((sum - 1.0).abs() < 1e-5, "{len} -> {out}: {sum}");
                assert!(first >= 2 && first + count <= 2 + len);
            }
        }
    }

    #[test]
    fn a_picture_of_the_right_size_is_not_changed() {
        let image = gradient(5, 5);
        let out = plain(5).tensor(&[&image], Crop::Center);
        assert_eq!(out.data[(3 * 5 + 2) * 3..][..3], [2.0, 3.0, 7.0]);
    }

    #[test]
    fn the_centre_is_cropped_and_channels_are_ordered() {
        let image = gradient(9, 5);
        let mut p = plain(5);
        p.order = Order::Bgr;
        p.mean = [7.0, 0.0, 0.0];
        p.std = [1.0, 2.0, 1.0];
        let out = p.tensor(&[&image], Crop::Center);
        assert_eq!(out.data[..3], [0.0, 0.0, 2.0]);
        assert_eq!(out.data[4 * 5 * 3..][..3], [0.0, 2.0, 2.0]);
    }

    #[test]
    fn an_area_is_resized_like_a_picture_of_its_own() {
        let image = gradient(40, 30);
        for (x, y, width, height) in [(0, 0, 40, 30), (7, 3, 20, 9), (39, 29, 1, 1)] {
            let pixels = (y..y + height).flat_map(|y| (x..x + width).flat_map(move |x| [x as u8, y as u8, 7, 255]));
            let alone = Image::new(width, height, pixels.collect()).unwrap();
            for p in [plain(16), Preprocess { through: Some(8), ..plain(16) }] {
                let want = p.tensor(&[&alone], Crop::Squash).data;
                let mut got = vec![0.0; want.len()];
                let [across, down] = p.taps_of(Area { x, y, width, height });
                p.run_with(&image, &[across.clone(), down.clone()], |rgb| rgb, &mut got);
                assert_eq!(got, want);
                p.run_with(&image, &[across.reversed(), down], |[r, g, _]| [r, g, 9.0], &mut got);
                for (got, want) in got.chunks(16 * 3).zip(want.chunks(16 * 3)) {
                    let mirrored = want.chunks(3).rev().flat_map(|pixel| [pixel[0], pixel[1], 9.0]);
                    assert!(got.iter().copied().eq(mirrored));
                }
            }
        }
    }

    #[test]
    fn fit_adds_bars_of_the_mean_colour() {
        let mut p = plain(8);
        p.mean = [9.0; 3];
        let out = p.tensor(&[&gradient(8, 4)], Crop::Fit);
        assert_eq!(out.data[..3], [0.0; 3]);
        assert_eq!(out.data[2 * 8 * 3..][..3], [-9.0, -9.0, -2.0]);
        assert_eq!(out.data[7 * 8 * 3..][..3], [0.0; 3]);
    }

    #[test]
    fn transparent_pixels_are_blended_with_white() {
        let image = Image::new(1, 1, vec![10, 20, 30, 0]).unwrap();
        assert_eq!(plain(1).tensor(&[&image], Crop::Squash).data, [255.0; 3]);
    }

    #[test]
    fn a_picture_needs_pixels() {
        assert!(Image::new(0, 4, vec![]).is_err());
        assert!(Image::new(2, 2, vec![0; 15]).is_err());
        assert!(Image::new(usize::MAX, 2, vec![]).is_err());
    }

    #[test]
    fn extreme_proportions_give_finite_values() {
        for (w, h) in [(1, 2000), (2000, 1), (1, 1)] {
            for crop in [Crop::Center, Crop::Squash, Crop::Fit] {
                let out = plain(8).tensor(&[&gradient(w, h)], crop);
                assert!(out.data.iter().all(|v| v.is_finite()));
            }
        }
    }

    /// Compares with bilinear interpolation with half-pixel centres and repeated edges, which frameworks call
    /// `align_corners=False`.
    #[test]
    fn enlarging_matches_bilinear_interpolation() {
        let rgba = (0..32 * 32 * 4).map(|i| if i % 4 == 3 { 255 } else { (i * 7919 % 251) as u8 });
        let image = Image::new(32, 32, rgba.collect()).unwrap();
        let out = plain(224).tensor(&[&image], Crop::Center);
        let source = |i: usize| ((i as f64 + 0.5) * (32.0 / 224.0) - 0.5).max(0.0);
        for (y, x) in [(0, 0), (0, 223), (223, 100), (17, 3), (111, 112), (223, 223)] {
            let (sy, sx) = (source(y), source(x));
            let (y0, x0) = (sy as usize, sx as usize);
            let (fy, fx) = (sy - y0 as f64, sx - x0 as f64);
            let at = |y: usize, x: usize| f64::from(image.rgb(x.min(31), y.min(31))[1]);
            let top = at(y0, x0) * (1.0 - fx) + at(y0, x0 + 1) * fx;
            let bottom = at(y0 + 1, x0) * (1.0 - fx) + at(y0 + 1, x0 + 1) * fx;
            let want = top * (1.0 - fy) + bottom * fy;
            let got = f64::from(out.data[(y * 224 + x) * 3 + 1]);
            assert!((got - want).abs() < 1e-3, "({y}, {x}): {got}, not {want}");
        }
    }

    #[test]
    fn through_reduces_and_then_enlarges() {
        let image = gradient(200, 170);
        let small = Preprocess { size: 32, ..plain(32) }.tensor(&[&image], Crop::Squash);
        let reduced = Preprocess { through: Some(32), ..plain(224) };
        let got = reduced.tensor(&[&image], Crop::Squash);
        let up = triangle(32, 224);
        let sum = |row: &(usize, Vec<f32>), f: &dyn Fn(usize) -> f32| -> f32 {
            row.1.iter().enumerate().map(|(i, w)| w * f(row.0 + i)).sum()
        };
        for (y, x) in [(0, 0), (100, 57), (223, 223), (3, 200)] {
            let want = sum(&up[y], &|j| sum(&up[x], &|i| small.data[(j * 32 + i) * 3]));
            let value = got.data[(y * 224 + x) * 3];
            assert!((value - want).abs() < 1e-3, "({y}, {x}): {value}, not {want}");
        }
        // A picture that is not larger is enlarged directly.
        let tiny = gradient(32, 32);
        assert_eq!(reduced.tensor(&[&tiny], Crop::Center), plain(224).tensor(&[&tiny], Crop::Center));
    }
}
