//! The WGSL of every shader, prepared by `build.rs` from the files in `shaders/`.

use std::fmt::Write;

/// A shader: its own text and the pieces that it includes. Each piece is stored once for all shaders.
pub struct Shader {
    /// The path of the file in `shaders`, without the extension.
    pub name: &'static str,
    pieces: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));

impl Shader {
    /// The WGSL for devices that compute in f32, or in f16 if `half` is set.
    pub fn source(&self, half: bool) -> String {
        let precision = if half { SHARED_PRECISION_F16_TEXT } else { SHARED_PRECISION_TEXT };
        let mut source = precision.to_owned();
        self.pieces.iter().for_each(|piece| source += piece);
        source
    }

    /// The FNV-1a hash of the text in hexadecimal digits, which identifies the version of a shader.
    pub fn hash(&self) -> String {
        let bytes = self.pieces.iter().flat_map(|piece| piece.bytes());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(text, "{:016x}", fnv(bytes));
        text
    }
}

fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The name of every shader, and its WGSL in f32 and in f16; for tests.
#[doc(hidden)]
#[cfg(not(target_arch = "wasm32"))]
pub fn shader_sources() -> Vec<(&'static str, [String; 2])> {
    ALL.iter().map(|shader| (shader.name, [false, true].map(|half| shader.source(half)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_texts_apart() {
        assert_ne!(fnv(b"a".iter().copied()), fnv(b"b".iter().copied()));
    }
}
