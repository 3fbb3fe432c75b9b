// Values in a texture: vectors of four, one after the other, in rows of TEXTURE_WIDTH. src/gpu/device.rs makes such
// textures.

const TEXTURE_WIDTH = 4096u;

fn texel(at: u32) -> vec2u {
    return vec2u(at % TEXTURE_WIDTH, at / TEXTURE_WIDTH);
}
