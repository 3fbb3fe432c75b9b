// Convolutions for software adapters. Some of these load from buffers one lane of a vector at a time, which costs seven
// times as much as a load from a texture. `conv_texture` is a 1x1 convolution that reads textures; `conv_winograd`
// computes the products of winograd.wgsl, one for each point. The register tile is that of `conv16x8` in conv.wgsl.

//#include shared/texture.wgsl
//#include shared/conv_tile.wgsl

@group(0) @binding(7) var xt: texture_2d<f32>; // (N, H, W, channels/4), or (points, plane, channels/4)
@group(0) @binding(8) var wt: texture_2d<f32>; // (points, channels, vec4_channels)
@group(0) @binding(9) var yt: texture_storage_2d<rgba32float, write>; // (points, plane, vec4_channels), for conv_winograd

fn inputs4(pixel: u32, vec4_channel: u32) -> mat4x4f {
    let vec4_channels = p.channels / 4u;
    let at = vec4u(pixel, pixel + 1u, pixel + 2u, pixel + 3u);
    let all = min(at, vec4u(p.pixels - 1u)) * vec4_channels + vec4_channel;
    return mat4x4f(
        textureLoad(xt, texel(all.x), 0),
        textureLoad(xt, texel(all.y), 0),
        textureLoad(xt, texel(all.z), 0),
        textureLoad(xt, texel(all.w), 0),
    );
}

fn weights(at: u32) -> weight4x4 {
    return weight4x4(
        weight4(textureLoad(wt, texel(at), 0)),
        weight4(textureLoad(wt, texel(at + p.vec4_channels), 0)),
        weight4(textureLoad(wt, texel(at + 2u * p.vec4_channels), 0)),
        weight4(textureLoad(wt, texel(at + 3u * p.vec4_channels), 0)),
    );
}

// The sums of a 16x8 register tile for a 1x1 window. The weights begin at index `first`.
fn sum16x8(at: vec3u, first: u32) -> array<Sixteen, 2> {
    let q0 = min(at.y, p.vec4_channels - 1u);
    let q1 = min(at.y + LANES, p.vec4_channels - 1u);
    var s0 = Sixteen();
    var s1 = Sixteen();
    for (var vec4_channel = 0u; vec4_channel < p.channels / 4u; vec4_channel++) {
        let k = first + vec4_channel * 4u * p.vec4_channels;
        let x = Sixteen(
            inputs4(at.x, vec4_channel),
            inputs4(at.x + 4u, vec4_channel),
            inputs4(at.x + 8u, vec4_channel),
            inputs4(at.x + 12u, vec4_channel),
        );
        s0 = add(s0, weights(k + q0), x);
        s1 = add(s1, weights(k + q1), x);
    }
    return array(s0, s1);
}

@compute @workgroup_size(LANES, ROWS)
fn conv_texture(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 16u, 2u);
    let sum = sum16x8(at, 0u);
    store16(at.x, at.y, sum[0]);
    store16(at.x, at.y + LANES, sum[1]);
}

fn store_texture4(pixel: u32, vec4_channel: u32, sum: mat4x4f) {
    let at = pixel * p.vec4_channels + vec4_channel;
    if (pixel < p.pixels) & (vec4_channel < p.vec4_channels) {
        textureStore(yt, texel(at), sum[0]);
        textureStore(yt, texel(at + p.vec4_channels), sum[1]);
        textureStore(yt, texel(at + 2u * p.vec4_channels), sum[2]);
        textureStore(yt, texel(at + 3u * p.vec4_channels), sum[3]);
    }
}

fn store_texture16(pixel: u32, vec4_channel: u32, sum: Sixteen) {
    store_texture4(pixel, vec4_channel, sum.a);
    store_texture4(pixel + 4u, vec4_channel, sum.b);
    store_texture4(pixel + 8u, vec4_channel, sum.c);
    store_texture4(pixel + 12u, vec4_channel, sum.d);
}

@compute @workgroup_size(LANES, ROWS)
fn conv_winograd(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let at = tile(group, groups, local, 16u, 2u);
    let sum = sum16x8(at, at.x / p.plane * p.channels * p.vec4_channels);
    store_texture16(at.x, at.y, sum[0]);
    store_texture16(at.x, at.y + LANES, sum[1]);
}
