//! Finds the fastest launch configuration of each convolution on this adapter by measuring.

use super::device::{Device, KernelSet};
use super::job::Job;
use super::kernel::Kernels;
use super::launch::{ConvKey, LaunchConfig, Tile};
use super::lower::{conv_kernel, default_config};
use super::recording::Recording;
use super::shaders;
use super::vec_map::VecMap;
use crate::error::{Error, Result};
use web_time::Instant;

/// The time for which each candidate is measured, in milliseconds. Clocks of browsers are coarse, and each submit has a
/// fixed cost.
const SPAN_MS: f64 = 4.0;
/// The largest number of repetitions of a dispatch in one submit.
const MAX_REPETITIONS: u32 = 256;

/// The measured launch configurations. As text, the first line is the [`key`], and each further line has the nine
/// numbers of one choice.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tuning {
    configs: VecMap<ConvKey, LaunchConfig>,
}

impl Tuning {
    /// The measured configuration, or else the default.
    pub fn config(&self, key: ConvKey, set: KernelSet) -> LaunchConfig {
        self.configs.get(&key).copied().unwrap_or_else(|| default_config(set, key))
    }

    /// For tests: candidate number `i` of each convolution, modulo the number of its candidates.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn of(jobs: &[Job], i: usize) -> Self {
        let config = |key: ConvKey| (key, key.candidates()[i % key.candidates().len()]);
        Tuning { configs: jobs.iter().filter_map(|job| job.conv).map(config).collect() }
    }

    /// Parses the result of [`Tuning::to_text`]. Fails with [`Error::Argument`] if it has another key or is malformed.
    pub fn parse(text: &str, key: &str) -> Result<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(key) {
            return Err(Error::Argument(format!("these choices of kernels were not measured on \"{key}\"")));
        }
        let choice =
            |line: &str| choice(line).ok_or_else(|| Error::Argument(format!("\"{line}\" is no choice of a kernel")));
        Ok(Tuning { configs: lines.map(choice).collect::<Result<_>>()? })
    }

    /// The choices as text, for [`Tuning::parse`].
    pub fn to_text(&self, key: &str) -> String {
        let line = |(key, config): &(ConvKey, LaunchConfig)| {
            let tile = |tile: Tile| Tile::ALL.iter().position(|&t| t == tile).map_or(0, |at| at as u32 + 1);
            let ConvKey { pixels, vec4_channels, depth, taps, .. } = *key;
            let all = [key.tile.map_or(0, tile), pixels, vec4_channels, depth, taps];
            let all = all.into_iter().chain([tile(config.tile), config.lanes, config.rows, config.slices]);
            all.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
        };
        let lines = std::iter::once(key.to_owned()).chain(self.configs.iter().map(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Measures all candidates of those convolutions of a recording that have not been measured yet.
    pub async fn measure(
        &mut self,
        (device, kernels, recording): (&Device, &Kernels, &Recording),
        jobs: &[Job],
    ) -> Result<()> {
        for (at, job) in jobs.iter().enumerate() {
            let Some(key) = job.conv.filter(|key| self.configs.get(key).is_none()) else { continue };
            let candidates = key.candidates();
            if candidates.len() == 1 {
                continue;
            }
            let mut best: Option<(f64, LaunchConfig)> = None;
            for config in candidates {
                let ms = time((device, kernels, recording), at, key, config).await?;
                if best.is_none_or(|(shortest, _)| ms < shortest) {
                    best = Some((ms, config));
                }
            }
            if let Some((_, config)) = best {
                self.configs.insert(key, config);
            }
        }
        Ok(())
    }
}

/// Parses a line of [`Tuning::to_text`]; `None` if it is malformed or no such candidate exists.
fn choice(line: &str) -> Option<(ConvKey, LaunchConfig)> {
    let numbers: Vec<u32> = line.split(' ').map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [of, pixels, vec4_channels, depth, taps, tile, lanes, rows, slices] = numbers[..] else { return None };
    let named = |n: u32| Tile::ALL.get(n.checked_sub(1)? as usize).copied();
    let key = ConvKey { tile: named(of), pixels, vec4_channels, depth, taps };
    let config = LaunchConfig { tile: named(tile)?, lanes, rows, slices };
    key.candidates().contains(&config).then_some((key, config))
}

/// What the choices are valid for: the adapter, the precision and the version of the shaders.
pub fn key(adapter: &str, half: bool) -> String {
    let half = if half { ", f16" } else { "" };
    format!("{adapter}{half}, {}{}", shaders::CONV.hash(), shaders::SOFTWARE_CONV.hash())
}

/// The milliseconds of dispatch `at` of a recording, with another launch configuration.
async fn time(
    (device, kernels, recording): (&Device, &Kernels, &Recording),
    at: usize,
    key: ConvKey,
    config: LaunchConfig,
) -> Result<f64> {
    let Some(id) = conv_kernel(config) else { return Ok(f64::INFINITY) };
    let (kernel, errors) = device.scoped(|| kernels.get(device, id));
    errors.result().await?;
    let grid = config.grid(key.pixels, key.vec4_channels);
    let run = async |count: u32| {
        let start = Instant::now();
        let ((), errors) = device.scoped(|| {
            let mut encoder = device.encoder();
            recording.encode_repeated(&mut encoder, at, (&kernel, grid), count);
            device.submit(encoder);
        });
        device.finished().await?;
        errors.result().await?;
        Ok::<_, Error>(start.elapsed().as_secs_f64() * 1e3)
    };
    run(1).await?;
    let once = run(1).await?;
    let count = ((SPAN_MS / once.max(1e-3)) as u32).clamp(1, MAX_REPETITIONS);
    let mut shortest = f64::INFINITY;
    for _ in 0..2 {
        shortest = shortest.min(run(count).await? / f64::from(count));
    }
    Ok(shortest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_survive_a_round_trip_through_text() {
        let conv = ConvKey { tile: None, pixels: 196, vec4_channels: 80, depth: 40, taps: 9 };
        let config = conv.candidates()[1];
        let tuning = Tuning { configs: [(conv, config)].into_iter().collect() };
        let text = tuning.to_text("a");
        assert_eq!(Tuning::parse(&text, "a").unwrap(), tuning);
        assert_eq!(tuning.config(conv, KernelSet::Software), config);
        assert_eq!(Tuning::parse(&text, "b").unwrap_err().code(), "argument");
        for broken in ["", "b", &text.replace(" 8 ", " 7 "), &format!("{text} 1"), "a\nNaN"] {
            assert!(Tuning::parse(broken, "a").is_err(), "{broken}");
        }
    }

    #[test]
    fn the_key_tells_adapters_and_precisions_apart() {
        assert!(key("an adapter", false).starts_with("an adapter, "));
        assert_ne!(key("an adapter", false), key("an adapter", true));
    }
}
