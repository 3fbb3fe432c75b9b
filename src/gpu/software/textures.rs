//! The textures of a plan on software adapters.

use crate::gpu::job::{Bind, Lowered};

/// The indices of a plan's textures. The outputs of layers alternate between the first two, because a dispatch cannot
/// read the texture that it writes.
pub const EVEN: usize = 0;
pub const ODD: usize = 1;
pub const WINOGRAD_INPUT: usize = 2;
pub const WINOGRAD_OUTPUT: usize = 3;
pub const TEXTURES: usize = 4;

/// Makes a texture large enough for this many values.
pub fn reserve(texture: usize, values: usize, lowered: &mut Lowered) -> Bind {
    let held = &mut lowered.textures[texture];
    *held = values.max(*held);
    Bind::Texture(texture)
}
