//! Local response normalisation from a texture.

use crate::error::Result;
use crate::gpu::job::{Bind, Job, Layer, Lowered};
use crate::gpu::kernel::{Access, EntryPoint};
use crate::gpu::ops::lrn::{Normalisation, Params};
use crate::gpu::shaders;

static LRN_TEXTURE: EntryPoint = EntryPoint::elementwise(
    "lrn_texture",
    &shaders::SOFTWARE_LRN,
    &[(0, Access::Params), (3, Access::ReadTexture), (2, Access::Write), (4, Access::WriteTexture)],
);

pub fn lower([input, output]: [Bind; 2], layer: &Layer<'_>, lowered: &mut Lowered) -> Result<()> {
    let Some(norm) = Normalisation::of(&layer.node().op) else { return Ok(()) };
    let (from, to) = (layer.from()?, layer.to());
    let binds = vec![input, Bind::Activations(to.buffer), output];
    lowered.jobs.push(Job::new(&LRN_TEXTURE, &Params::new(from, to, norm, 4), binds, to.shape.len() / 4));
    Ok(())
}
