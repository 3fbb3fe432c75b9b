//! How a convolution is launched: the register tile of a thread and the shape of a workgroup.

use super::kernel::MAX_WORKGROUPS;

/// The register tile: the pixels x channels that one thread computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    T16x8,
    T8x8,
    T4x8,
    T4x4,
    /// 4x8, for any number of channels.
    AnyChannels,
    /// 4x8, where the input is the output of a max pool that the same dispatch computes.
    Pool,
    /// 4x8, where one workgroup has all channels and normalises them.
    Lrn,
    /// 16x8, with input and weights from textures; for software adapters.
    Texture,
    /// 16x8, from textures to a texture: the products of the Winograd algorithm, one for each point; for software
    /// adapters.
    Winograd,
}

impl Tile {
    pub const ALL: [Tile; 9] = [
        Tile::T16x8,
        Tile::T8x8,
        Tile::T4x8,
        Tile::T4x4,
        Tile::AnyChannels,
        Tile::Pool,
        Tile::Lrn,
        Tile::Texture,
        Tile::Winograd,
    ];

    /// A multiple of the number of pixels of every tile.
    pub const MAX_PIXELS: usize = 16;

    pub const fn pixels(self) -> u32 {
        match self {
            Tile::T16x8 | Tile::Texture | Tile::Winograd => 16,
            Tile::T8x8 => 8,
            Tile::T4x8 | Tile::T4x4 | Tile::AnyChannels | Tile::Pool | Tile::Lrn => 4,
        }
    }

    /// The number of groups of four channels of the tile.
    pub const fn vec4_channels(self) -> u32 {
        match self {
            Tile::T4x4 => 1,
            _ => 2,
        }
    }
}

/// How a convolution is divided into workgroups and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchConfig {
    pub tile: Tile,
    /// The number of threads of a workgroup along the channels.
    pub lanes: u32,
    /// The number of threads of a workgroup along the pixels.
    pub rows: u32,
    /// The number of threads that share one sum; 1 for tiles that do not support sharing.
    pub slices: u32,
}

impl LaunchConfig {
    /// The workgroups for this many pixels and groups of four channels.
    pub fn grid(self, pixels: u32, vec4_channels: u32) -> [u32; 3] {
        let groups = pixels.div_ceil(self.tile.pixels() * self.rows);
        let layers = groups.div_ceil(MAX_WORKGROUPS).max(1);
        [groups.div_ceil(layers), vec4_channels.div_ceil(self.tile.vec4_channels() * self.lanes), layers]
    }

    /// The values of the `override` constants of `conv.wgsl`.
    pub fn overrides(self) -> Vec<(&'static str, u32)> {
        let mut overrides = vec![("LANES", self.lanes), ("ROWS", self.rows)];
        if self.slices > 1 {
            overrides.push(("SLICES", self.slices));
        }
        overrides
    }
}

/// The properties of a convolution that its launch configuration depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvKey {
    /// The tile, if only one tile can compute the convolution.
    pub tile: Option<Tile>,
    /// The number of pixels of the output.
    pub pixels: u32,
    /// The number of groups of four channels of the output.
    pub vec4_channels: u32,
    /// The number of groups of four channels of the input, which are read at each tap.
    pub depth: u32,
    pub taps: u32,
}

impl ConvKey {
    fn columns(self, tile: Tile) -> u32 {
        self.vec4_channels.div_ceil(tile.vec4_channels())
    }

    /// The number of threads along the channels. It is at most eight, so that adjacent threads load 128 consecutive
    /// bytes. It is larger for tiles whose workgroup computes, or needs, all channels of a pixel.
    pub fn lanes(self, tile: Tile) -> u32 {
        match tile {
            Tile::Pool => self.columns(tile).next_power_of_two().min(16),
            Tile::Lrn => self.columns(tile),
            _ => self.columns(tile).next_power_of_two().min(8),
        }
    }

    /// The configurations that are worth measuring.
    pub fn candidates(self) -> Vec<LaunchConfig> {
        let most = power_below(self.depth);
        let slices = [1, 2, 4, 8].into_iter().filter(|&slices| slices <= most);
        match self.tile {
            None => {
                let tiles = [Tile::T8x8, Tile::T4x8, Tile::T4x4];
                let sliced = tiles.into_iter().flat_map(|tile| slices.clone().map(move |slices| (tile, slices)));
                let each = [(Tile::T16x8, 1)].into_iter().chain(sliced);
                let config = |(tile, slices)| {
                    let lanes = self.lanes(tile);
                    // Small workgroups spread small maps over the GPU; large workgroups share what they load.
                    let rows = if slices == 1 { vec![8 / lanes, 64 / lanes] } else { vec![32 / lanes] };
                    rows.into_iter().map(move |rows| LaunchConfig { tile, lanes, rows, slices })
                };
                each.flat_map(config).collect()
            }
            Some(tile @ (Tile::Pool | Tile::Lrn)) => {
                let lanes = self.lanes(tile);
                let each = [1, 2, 4].into_iter().flat_map(|rows| slices.clone().map(move |slices| (rows, slices)));
                // With more threads, their sums would not fit into workgroup memory.
                let fits = |&(rows, slices): &(u32, u32)| lanes * rows * slices <= MAX_SHARED_THREADS;
                each.filter(fits).map(|(rows, slices)| LaunchConfig { tile, lanes, rows, slices }).collect()
            }
            Some(tile @ (Tile::Texture | Tile::Winograd)) => {
                let lanes = self.lanes(tile);
                [8, 64].map(|threads| LaunchConfig { tile, lanes, rows: threads / lanes, slices: 1 }).to_vec()
            }
            Some(_) => vec![self.default_config()],
        }
    }

    /// The configuration on a GPU for which none was measured.
    pub fn default_config(self) -> LaunchConfig {
        match self.tile {
            // One workgroup computes all channels, so that the pool is computed only once.
            Some(tile @ Tile::Pool) => {
                let lanes = self.lanes(tile);
                let slices = (64 / lanes).min(power_below(self.depth));
                LaunchConfig { tile, lanes, rows: 2, slices }
            }
            Some(tile @ Tile::Lrn) => {
                let lanes = self.lanes(tile);
                let slices = FULL_GPU.div_ceil(self.pixels.div_ceil(tile.pixels()) * lanes).next_power_of_two();
                let slices = slices.min(8).min(power_below(self.depth)).min(power_below(MAX_SHARED_THREADS / lanes));
                let rows = power_below(MAX_SHARED_THREADS / (lanes * slices)).min(4);
                LaunchConfig { tile, lanes, rows, slices }
            }
            Some(tile) => LaunchConfig { tile, lanes: self.lanes(tile), rows: 64 / self.lanes(tile), slices: 1 },
            None => {
                // Small maps do not fill a GPU with large tiles, nor without sharing sums among threads.
                let threads = |tile: Tile| self.pixels.div_ceil(tile.pixels()) * self.columns(tile);
                let slices = |tile: Tile| {
                    (FULL_GPU / threads(tile)).max(1).next_power_of_two().min(8).min(power_below(self.depth))
                };
                let full = |tile: &Tile| threads(*tile) * slices(*tile) >= FULL_GPU;
                let tile = [Tile::T8x8, Tile::T4x8].into_iter().find(full).unwrap_or(Tile::T4x4);
                let (lanes, slices) = (self.lanes(tile), slices(tile));
                LaunchConfig { tile, lanes, rows: if slices == 1 { 64 } else { 32 } / lanes, slices }
            }
        }
    }
}

/// The number of threads that fill a GPU of 64 cores with 16 groups of 32 threads each.
const FULL_GPU: u32 = 32_768;

/// The largest number of threads whose sums fit into workgroup memory together with the output of a pool.
pub const MAX_SHARED_THREADS: u32 = 128;

fn power_below(n: u32) -> u32 {
    1 << n.max(1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_tile_is_a_multiple_of_every_tile() {
        for tile in Tile::ALL {
            assert_eq!(Tile::MAX_PIXELS % tile.pixels() as usize, 0, "{tile:?}");
        }
    }
}
