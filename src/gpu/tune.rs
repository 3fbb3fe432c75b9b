//! The fastest cut of each convolution on this adapter, by trying them.

use super::conv::{Class, Cut, Tile};
use super::device::Device;
use super::few::Few;
use super::jobs::Jobs;
use super::kernels::{KernelSet, Kernels};
use super::record::Recording;
use crate::error::{Error, Result};
use web_time::Instant;

/// What each cut is timed for, in milliseconds: browsers' clocks are coarse, and a submit costs by itself.
const SPAN_MS: f64 = 4.0;
/// The most repetitions of a dispatch in one submit.
const MOST: u32 = 256;

/// The measured choices. As text they are kept for the next time: what they hold for, and a line of numbers a choice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tuning {
    cuts: Few<Class, Cut>,
}

impl Tuning {
    /// The measured cut, or the usual one.
    pub fn cut(&self, class: Class, set: KernelSet) -> Cut {
        self.cuts.get(&class).copied().unwrap_or_else(|| class.cut(set))
    }

    /// Each class's candidate number `i`, in turn where there are fewer: for tests.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of(classes: &[Option<Class>], i: usize) -> Self {
        let cut = |class: &Class| (*class, class.candidates()[i % class.candidates().len()]);
        Tuning { cuts: classes.iter().flatten().map(cut).collect() }
    }

    /// Reads what was kept; [`Error::Argument`] where it is of another adapter, of other shaders, or no such thing.
    pub fn parse(text: &str, key: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(key) {
            return Err(Error::Argument(format!("these choices of kernels were not measured on \"{key}\"")));
        }
        let choice =
            |line: &str| choice(line).ok_or_else(|| Error::Argument(format!("\"{line}\" is no choice of a kernel")));
        Ok(Tuning { cuts: lines.map(choice).collect::<Result<_>>()? })
    }

    /// To be kept.
    pub fn to_text(&self, key: &str) -> String {
        let line = |(class, cut): &(Class, Cut)| {
            let tile = |tile: Tile| Tile::ALL.iter().position(|&t| t == tile).map_or(0, |at| at as u32 + 1);
            let Class { pixels, quads, depth, taps, .. } = *class;
            let all = [class.tile.map_or(0, tile), pixels, quads, depth, taps];
            let all = all.into_iter().chain([tile(cut.tile), cut.lanes, cut.rows, cut.slices]);
            all.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
        };
        let lines = std::iter::once(key.to_owned()).chain(self.cuts.iter().map(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Times every candidate for the convolutions of a recording that have not been measured yet.
    pub async fn measure(
        &mut self,
        (device, kernels, recording): (&Device, &Kernels, &Recording),
        jobs: &Jobs,
    ) -> Result<()> {
        for (at, class) in jobs.classes.iter().enumerate() {
            let Some(class) = class.filter(|class| self.cuts.get(class).is_none()) else { continue };
            let candidates = class.candidates();
            if candidates.len() == 1 {
                continue;
            }
            let mut best: Option<(f64, Cut)> = None;
            for cut in candidates {
                let ms = time((device, kernels, recording), at, class, cut).await?;
                if best.is_none_or(|(least, _)| ms < least) {
                    best = Some((ms, cut));
                }
            }
            if let Some((_, cut)) = best {
                self.cuts.insert(class, cut);
            }
        }
        Ok(())
    }
}

/// A line of [`Tuning::to_text`], if it is one of what could have been measured.
fn choice(line: &str) -> Option<(Class, Cut)> {
    let numbers: Vec<u32> = line.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [of, pixels, quads, depth, taps, tile, lanes, rows, slices] = numbers[..] else { return None };
    let named = |n: u32| Tile::ALL.get(n.checked_sub(1)? as usize).copied();
    let class = Class { tile: named(of), pixels, quads, depth, taps };
    let cut = Cut { tile: named(tile)?, lanes, rows, slices };
    class.candidates().contains(&cut).then_some((class, cut))
}

/// What choices hold for: the adapter, and the shaders as they are.
pub fn key(adapter: &str, half: bool) -> String {
    let half = if half { ", f16" } else { "" };
    format!("{adapter}{half}, {:016x}", fnv(include_bytes!(concat!(env!("OUT_DIR"), "/conv.wgsl"))))
}

/// FNV-1a: tells versions of a file apart, and is no defence.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Milliseconds of a recording's dispatch, were it cut so.
async fn time(
    (device, kernels, recording): (&Device, &Kernels, &Recording),
    at: usize,
    class: Class,
    cut: Cut,
) -> Result<f64> {
    let (kernel, watch) = device.watch(|| kernels.convs.get(device, cut));
    watch.result().await?;
    let grid = cut.grid(class.pixels, class.quads);
    let run = async |count: u32| {
        let start = Instant::now();
        let ((), watch) = device.watch(|| {
            let mut encoder = device.encoder();
            recording.encode_repeated(&mut encoder, at, (&kernel, grid), count);
            device.submit(encoder);
        });
        device.finished().await?;
        watch.result().await?;
        Ok::<_, Error>(start.elapsed().as_secs_f64() * 1e3)
    };
    run(1).await?;
    let once = run(1).await?;
    let count = ((SPAN_MS / once.max(1e-3)) as u32).clamp(1, MOST);
    let mut least = f64::INFINITY;
    for _ in 0..2 {
        least = least.min(run(count).await? / f64::from(count));
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_kept_and_read_again() {
        let class = Class { tile: None, pixels: 196, quads: 80, depth: 40, taps: 9 };
        let cut = class.candidates()[1];
        let tuning = Tuning { cuts: [(class, cut)].into_iter().collect() };
        let text = tuning.to_text("a");
        assert_eq!(Tuning::parse(&text, "a").unwrap(), tuning);
        assert_eq!(tuning.cut(class, KernelSet::Software), cut);
        assert_eq!(Tuning::parse(&text, "b").unwrap_err().code(), "argument");
        for broken in ["", "b", &text.replace(" 8 ", " 7 "), &format!("{text} 1"), "a\nNaN"] {
            assert!(Tuning::parse(broken, "a").is_err(), "{broken}");
        }
    }

    #[test]
    fn the_key_tells_shaders_apart() {
        assert_ne!(fnv(b"a"), fnv(b"b"));
        assert!(key("an adapter", false).starts_with("an adapter, "));
        assert_ne!(key("an adapter", false), key("an adapter", true));
    }
}
