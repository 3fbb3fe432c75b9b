//! Augmentation: random changes of training pictures that do not change what they show.
//!
//! The random numbers depend only on the seed, the epoch and the number of the picture. A run therefore repeats exactly,
//! in whatever order and on however many threads the pictures are prepared.

use crate::error::{Error, Result};
use crate::model::preprocess::{Area, Crop, Image, Preprocess};
use crate::plan::numbers;
use crate::plan::random::hash;
use std::fmt;
use std::str::FromStr;

/// How training pictures are changed. Default: not at all.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Augment {
    /// Cuts a random area out of the picture and resizes it to the network's input.
    pub crop: Option<RandomCrop>,
    /// Mirrors half of the pictures from left to right.
    pub flip: bool,
    /// Multiplies brightness, contrast and saturation, each by a random factor from 1 - `colour` to 1 + `colour`. 0
    /// leaves the colours as they are.
    pub colour: f32,
}

/// The size of the areas that are cut out of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RandomCrop {
    /// The range of the paper, or for small pictures [`Ranges::SMALL`].
    BySize,
    Ranges(Ranges),
}

/// The range of random areas. Both are even distributions: of the area, and of the logarithm of the ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ranges {
    /// The least area as a share of the picture's area, greater than 0 and at most 1. The greatest is the whole picture.
    pub area: f64,
    /// The least ratio of width and height, greater than 0 and at most 1. The greatest is its reciprocal.
    pub aspect: f64,
}

impl Ranges {
    /// The ranges of the GoogLeNet paper (section 6): areas from 8 %, ratios from 3/4 to 4/3.
    pub const PAPER: Ranges = Ranges { area: 0.08, aspect: 0.75 };
    /// Ranges for pictures of few pixels, where a small area shows nothing. They are a choice of this project: of a
    /// CIFAR picture of 32x32 pixels, an area has at least 21 pixels a side.
    pub const SMALL: Ranges = Ranges { area: 0.5, aspect: 0.9 };
    /// Pictures whose shorter side has fewer pixels than this are small.
    pub const SMALL_SIDE: usize = 96;
}

/// The strength of `colour` where none is given.
const COLOUR: f64 = 0.3;
/// How often an area is drawn that may not fit into the picture, before the centre is taken.
const TRIES: usize = 10;

/// What the random numbers of a picture depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// The seed of the training.
    pub seed: u32,
    pub epoch: u32,
    /// The number of the picture in the set of all pictures, which must not depend on the order of training.
    pub picture: u32,
}

/// The random numbers of one picture.
struct Random {
    key: Key,
    count: u32,
}

impl Random {
    /// Three numbers from 0 to less than 1.
    fn next(&mut self) -> [f64; 3] {
        let Key { seed, epoch, picture } = self.key;
        // Dropout uses the same function. The constant keeps its numbers apart from these.
        let numbers = hash([seed ^ self.count.wrapping_mul(0x85EB_CA6B) ^ 0xA511_E9B3, epoch, picture]);
        self.count += 1;
        numbers.map(|v| f64::from(v) / 4_294_967_296.0)
    }
}

impl Augment {
    /// Checks that all numbers are in their ranges. Fails with [`Error::Argument`] otherwise.
    pub fn check(&self) -> Result<()> {
        let share = |v: f64| v > 0.0 && v <= 1.0;
        let reason = match self.crop {
            Some(RandomCrop::Ranges(Ranges { area, .. })) if !share(area) => {
                "the least area of a crop must be greater than 0 and at most 1"
            }
            Some(RandomCrop::Ranges(Ranges { aspect, .. })) if !share(aspect) => {
                "the least ratio of a crop's width and height must be greater than 0 and at most 1"
            }
            _ if !(0.0..=1.0).contains(&self.colour) => "the strength of the change of colours must be from 0 to 1",
            _ => return Ok(()),
        };
        Err(Error::Argument(reason.into()))
    }

    /// Writes the network's input for one training picture to `out`, in the order HWC. Without augmentation these are
    /// exactly the values of [`Preprocess::run`]. With a random crop, `crop` has no effect. Panics if `out` does not have
    /// exactly the input's length.
    pub fn run(&self, preprocess: &Preprocess, image: &Image, crop: Crop, key: Key, out: &mut [f32]) {
        let mut random = Random { key, count: 0 };
        // Each kind of change has its numbers, whether the other kinds are wanted or not.
        let [flip, ..] = random.next();
        let factors = random.next().map(|v| 1.0 + self.colour * (2.0 * v as f32 - 1.0));
        let (width, height) = (image.width(), image.height());
        let mut taps = match self.crop {
            None => preprocess.taps(width, height, crop),
            Some(crop) => {
                let side = width.min(height).min(preprocess.through.unwrap_or(usize::MAX));
                let ranges = match crop {
                    RandomCrop::Ranges(ranges) => ranges,
                    RandomCrop::BySize if side < Ranges::SMALL_SIDE => Ranges::SMALL,
                    RandomCrop::BySize => Ranges::PAPER,
                };
                preprocess.taps_of(random_area(ranges, width, height, &mut random))
            }
        };
        if self.flip && flip < 0.5 {
            let [across, down] = taps;
            taps = [across.reversed(), down];
        }
        if self.colour > 0.0 {
            preprocess.run_with(image, &taps, |rgb| change_colour(rgb, factors), out);
        } else {
            preprocess.run_with(image, &taps, |rgb| rgb, out);
        }
    }
}

/// A random area of a picture. Where none of the first areas fits into the picture, it is the largest area at the centre
/// whose ratio is in the range.
fn random_area(ranges: Ranges, width: usize, height: usize, random: &mut Random) -> Area {
    let (full_width, full_height) = (width as f64, height as f64);
    let at = |x: f64, y: f64, w: usize, h: usize| {
        let offset = |share: f64, free: usize| ((share * (free + 1) as f64) as usize).min(free);
        Area { x: offset(x, width - w), y: offset(y, height - h), width: w, height: h }
    };
    for _ in 0..TRIES {
        let ([area, aspect, _], [x, y, _]) = (random.next(), random.next());
        let area = full_width * full_height * (ranges.area + (1.0 - ranges.area) * area);
        let aspect = (ranges.aspect.ln() * (2.0 * aspect - 1.0)).exp();
        let [w, h] = [area * aspect, area / aspect].map(|v| v.sqrt().round().max(1.0) as usize);
        if w <= width && h <= height {
            return at(x, y, w, h);
        }
    }
    let aspect = (full_width / full_height).clamp(ranges.aspect, 1.0 / ranges.aspect);
    let w = (full_height * aspect).round().clamp(1.0, full_width);
    let h = (full_width / aspect).round().clamp(1.0, full_height);
    at(0.5, 0.5, w as usize, h as usize)
}

/// Multiplies brightness, contrast around a medium grey, and saturation. The result is limited to 0..255.
fn change_colour(rgb: [f32; 3], [brightness, contrast, saturation]: [f32; 3]) -> [f32; 3] {
    let rgb = rgb.map(|v| 127.5 + contrast * (brightness * v - 127.5));
    // The luma of ITU-R BT.601.
    let grey = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2];
    rgb.map(|v| (grey + saturation * (v - grey)).clamp(0.0, 255.0))
}

/// Reads a list such as `crop,flip,colour`: `crop[:area[:aspect]]` with the least area and ratio, `flip`, and
/// `colour[:strength]` with a strength of 0.3 by default; or `none`.
impl FromStr for Augment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut augment = Augment::default();
        if text == "none" {
            return Ok(augment);
        }
        for part in text.split(',') {
            match part.split(':').next().unwrap_or_default() {
                "crop" if part == "crop" => augment.crop = Some(RandomCrop::BySize),
                "crop" => {
                    let mut ranges = [Ranges::PAPER.area, Ranges::PAPER.aspect];
                    numbers::parse(part, &mut ranges)?;
                    augment.crop = Some(RandomCrop::Ranges(Ranges { area: ranges[0], aspect: ranges[1] }));
                }
                "flip" => {
                    numbers::parse(part, &mut [])?;
                    augment.flip = true;
                }
                "colour" => {
                    let mut strength = [COLOUR];
                    numbers::parse(part, &mut strength)?;
                    augment.colour = strength[0] as f32;
                }
                name => {
                    let known = "crop, flip and colour, separated by commas, or none";
                    return Err(Error::Argument(format!("\"{name}\" is not an augmentation; there are {known}")));
                }
            }
        }
        augment.check()?;
        Ok(augment)
    }
}

/// Writes the list that [`Augment::from_str`] reads.
impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crop = self.crop.map(|crop| match crop {
            RandomCrop::BySize => "crop".to_owned(),
            RandomCrop::Ranges(Ranges { area, aspect }) => format!("crop:{area}:{aspect}"),
        });
        let flip = self.flip.then(|| "flip".to_owned());
        let colour = (self.colour > 0.0).then(|| format!("colour:{}", self.colour));
        let parts: Vec<String> = [crop, flip, colour].into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "none".to_owned() } else { parts.join(",") }.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose red and green values are the place of each pixel.
    fn picture(width: usize, height: usize) -> Image {
        let scale = |at: usize, len: usize| (at * 255 / len.max(2)) as u8;
        let pixel = |i: usize| [scale(i % width, width - 1), scale(i / width, height - 1), 77, 255];
        Image::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
    }

    fn plain(size: usize) -> Preprocess {
        Preprocess { size, ..Preprocess::default() }
    }

    fn run(augment: &Augment, preprocess: &Preprocess, image: &Image, key: Key) -> Vec<f32> {
        let mut out = vec![0.0; preprocess.size * preprocess.size * 3];
        augment.run(preprocess, image, Crop::Center, key, &mut out);
        out
    }

    fn keys() -> impl Iterator<Item = Key> {
        (0..200).map(|i| Key { seed: 1, epoch: i / 20, picture: i % 20 })
    }

    fn parse(text: &str) -> Augment {
        text.parse().unwrap()
    }

    #[test]
    fn without_augmentation_nothing_changes() {
        let image = picture(60, 41);
        for preprocess in [Preprocess { size: 32, ..Preprocess::BVLC }, Preprocess { through: Some(16), ..plain(32) }] {
            for crop in [Crop::Center, Crop::Squash, Crop::Fit] {
                let want = preprocess.tensor(&[&image], crop).data;
                let mut got = vec![0.0; want.len()];
                for key in keys().take(9) {
                    Augment::default().run(&preprocess, &image, crop, key, &mut got);
                    assert_eq!(got, want);
                }
                parse("crop,flip,colour").run(
                    &preprocess,
                    &image,
                    crop,
                    Key { seed: 1, epoch: 0, picture: 0 },
                    &mut got,
                );
                assert_ne!(got, want);
            }
        }
    }

    #[test]
    fn a_run_repeats_and_every_part_of_the_key_counts() {
        let (augment, image) = (parse("crop,flip,colour"), picture(120, 100));
        let of = |key| run(&augment, &plain(24), &image, key);
        let key = Key { seed: 7, epoch: 3, picture: 5 };
        assert_eq!(of(key), of(key));
        for other in [Key { seed: 8, ..key }, Key { epoch: 4, ..key }, Key { picture: 6, ..key }] {
            assert_ne!(of(other), of(key));
        }
    }

    #[test]
    fn half_of_the_pictures_are_mirrored() {
        let image = picture(32, 32);
        let straight = run(&Augment::default(), &plain(32), &image, Key { seed: 0, epoch: 0, picture: 0 });
        let lines = straight.chunks(32 * 3);
        let mirrored: Vec<f32> = lines.flat_map(|line| line.chunks(3).rev().flatten().copied()).collect();
        let mut count = 0;
        for key in keys() {
            let out = run(&parse("flip"), &plain(32), &image, key);
            assert!(out == straight || out == mirrored);
            count += usize::from(out == mirrored);
        }
        // The standard deviation is 7.
        assert!((70..=130).contains(&count), "{count}");
    }

    #[test]
    fn areas_are_inside_the_picture_and_in_their_ranges() {
        for (width, height) in [(500, 400), (32, 32), (1, 1), (2, 900), (900, 2), (7, 5)] {
            for ranges in [Ranges::PAPER, Ranges::SMALL, Ranges { area: 1.0, aspect: 1.0 }] {
                let mut sizes = Vec::new();
                for key in keys() {
                    let area = random_area(ranges, width, height, &mut Random { key, count: 0 });
                    assert!(area.width > 0 && area.x + area.width <= width);
                    assert!(area.height > 0 && area.y + area.height <= height);
                    sizes.push(area);
                }
                if (width, height) != (500, 400) || ranges.area == 1.0 {
                    continue;
                }
                let share = |a: &Area| (a.width * a.height) as f64 / 200_000.0;
                let mean = sizes.iter().map(share).sum::<f64>() / sizes.len() as f64;
                assert!(sizes.iter().all(|a| share(a) > ranges.area - 0.01));
                // Very large areas often do not fit, so the mean is below that of the even distribution.
                let even = (1.0 + ranges.area) / 2.0;
                assert!(mean < even + 0.05 && mean > even - 0.15, "{mean}, not about {even}");
                let aspect = |a: &Area| a.width as f64 / a.height as f64;
                assert!(sizes.iter().all(|a| aspect(a) > ranges.aspect - 0.01 && aspect(a) < 1.01 / ranges.aspect));
                // Areas are also at the edges, and nearly all differ.
                assert!(sizes.iter().any(|a| a.x < 25) && sizes.iter().any(|a| a.x + a.width > 475));
                assert!(sizes.iter().filter(|a| **a == sizes[0]).count() == 1);
            }
        }
        // A picture in which no area of the right ratio fits: the centre.
        let key = Key { seed: 0, epoch: 0, picture: 0 };
        let narrow = random_area(Ranges::SMALL, 900, 90, &mut Random { key, count: 0 });
        assert_eq!(narrow, Area { x: 400, y: 0, width: 100, height: 90 });
    }

    #[test]
    fn small_pictures_keep_most_of_their_area() {
        // The greatest value of the mirrored gradient's red channel says how much was cut off at the right.
        let least = |preprocess: Preprocess, side: usize| {
            let image = picture(side, side);
            let width = |key| {
                let out = run(&parse("crop"), &preprocess, &image, key);
                let red = |f: fn(f32, f32) -> f32| out.chunks(3).map(|p| p[0]).reduce(f).unwrap();
                (red(f32::max) - red(f32::min)) / 255.0
            };
            keys().map(width).fold(1.0, f32::min)
        };
        assert!(least(plain(16), 32) > 0.6);
        assert!(least(plain(16), 200) < 0.5);
        // The network sees a large picture only as a small one.
        assert!(least(Preprocess { through: Some(32), ..plain(64) }, 200) > 0.6);
    }

    #[test]
    fn colours_change_within_limits() {
        let close = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-3);
        let rgb = [100.0, 50.0, 200.0];
        assert!(close(change_colour(rgb, [1.0; 3]), rgb));
        assert!(close(change_colour(rgb, [1.2, 1.0, 1.0]), [120.0, 60.0, 240.0]));
        assert!(close(change_colour(rgb, [1.0, 0.5, 1.0]), [113.75, 88.75, 163.75]));
        assert!(close(change_colour(rgb, [1.0, 1.0, 0.0]), [82.05; 3]));
        assert!(close(change_colour(rgb, [2.0, 1.0, 1.0]), [200.0, 100.0, 255.0]));
        // Grey stays grey, and the strongest change stays within 0..255.
        let image = picture(20, 20);
        let straight = run(&Augment::default(), &plain(20), &image, Key { seed: 0, epoch: 0, picture: 0 });
        let mut changes = Vec::new();
        for key in keys() {
            let out = run(&parse("colour:1"), &plain(20), &image, key);
            assert!(out.iter().all(|v| (0.0..=255.0).contains(v)));
            let weak = run(&parse("colour:0.1"), &plain(20), &image, key);
            let most = |out: &[f32]| out.iter().zip(&straight).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(most(&weak) < 80.0 && most(&weak) <= most(&out) + 1e-3);
            changes.push(most(&out));
        }
        assert!(changes.iter().any(|&c| c > 100.0));
    }

    #[test]
    fn options_are_read_and_written() {
        let all = Augment { crop: Some(RandomCrop::BySize), flip: true, colour: 0.3 };
        assert_eq!(parse("crop,flip,colour"), all);
        assert_eq!(parse("flip,colour:0.3,crop"), all);
        assert_eq!(parse("none"), Augment::default());
        let ranges = Some(RandomCrop::Ranges(Ranges { area: 0.35, aspect: 0.75 }));
        assert_eq!(parse("crop:0.35"), Augment { crop: ranges, ..Augment::default() });
        for text in ["none", "crop", "flip", "crop:0.5:0.9,flip", "crop,flip,colour:0.3"] {
            assert_eq!(parse(text).to_string(), text);
        }
        let error = "crop,rotate".parse::<Augment>().unwrap_err().to_string();
        assert_eq!(
            error,
            "\"rotate\" is not an augmentation; there are crop, flip and colour, separated by commas, or none"
        );
        for text in
            ["", "crop:0", "crop:1.5", "crop:0.5:0", "crop:0.5:0.9:1", "flip:1", "colour:2", "colour:x", "crop,"]
        {
            assert!(text.parse::<Augment>().is_err(), "{text}");
        }
    }
}
