//! Pooling from a texture.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint};
use crate::gpu::ops::pool::Params;
use crate::gpu::shaders;

static POOL_TEXTURE: EntryPoint = EntryPoint::elementwise(
    "pool_texture",
    &shaders::SOFTWARE_POOL,
    &[(0, Access::Params), (3, Access::ReadTexture), (2, Access::Write), (4, Access::WriteTexture)],
);

pub fn lower([input, output]: [Bind; 2], layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let binds = vec![input, Bind::Activations(layer.to().buffer), output];
    lowered.jobs.push(Job::new(&POOL_TEXTURE, &Params::new(layer, 4)?, binds, layer.to().shape.len() / 4));
    Ok(())
}
