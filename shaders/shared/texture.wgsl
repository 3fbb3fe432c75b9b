// Values in a texture: one vector of four in each texel, row by row, in rows of TEXTURE_WIDTH texels. src/gpu/device.rs
// creates these textures.

const TEXTURE_WIDTH = 4096u;

fn texel(at: u32) -> vec2u {
    return vec2u(at % TEXTURE_WIDTH, at / TEXTURE_WIDTH);
}
