//! Lowers a plan to dispatches, with the kernels for GPUs or with those for adapters that compute on the CPU.

use super::device::KernelSet;
use super::fusion::groups;
use super::job::{Layer, Lowered, Span};
use super::kernel::KernelId;
use super::launch::{ConvKey, LaunchConfig};
use super::layout::{layout_plan, pad_inputs};
use super::{ops, software};
use crate::error::Result;
use crate::graph::network::{Network, NodeId};
use crate::graph::op::Op;
use crate::plan::{Plan, Step};

/// Lowers a plan. `config` returns the launch configuration of each convolution.
pub fn lower(
    network: &Network,
    plan: &Plan,
    set: KernelSet,
    config: &dyn Fn(ConvKey) -> LaunchConfig,
) -> Result<Lowered> {
    let layout = layout_plan(network)?;
    let mut lowered = Lowered {
        plan: pad_inputs(network, plan),
        jobs: Vec::new(),
        spans: Vec::new(),
        head_outputs: Default::default(),
        textures: Vec::new(),
    };
    let mut software = software::Lowering::default();
    for group in groups(network, &lowered.plan, &layout) {
        let from = lowered.jobs.len();
        let steps: Vec<Step> = group.iter().map(|&i| lowered.plan.steps[i].clone()).collect();
        let layer = Layer { network, steps: &steps, layout_plan: &layout, config, add: false };
        match set {
            KernelSet::Hardware => ops::lower(&layer, &mut lowered)?,
            KernelSet::Software => software.lower(&layer, &mut lowered)?,
        }
        lowered.spans.push(Span { nodes: parts(network, &steps), jobs: from..lowered.jobs.len() });
    }
    Ok(lowered)
}

/// The launch configuration of a convolution for which none was measured.
pub fn default_config(set: KernelSet, key: ConvKey) -> LaunchConfig {
    match set {
        KernelSet::Hardware => key.default_config(),
        KernelSet::Software => software::default_config(key),
    }
}

/// The kernel of a convolution's launch configuration.
pub fn conv_kernel(config: LaunchConfig) -> Option<KernelId> {
    ops::conv::kernel(config).or_else(|| software::kernel(config))
}

/// Each step's share of a dispatch's work, by multiply-adds. The comparisons of a pool and the squares of a
/// normalisation count as multiply-adds.
fn parts(network: &Network, steps: &[Step]) -> Vec<(NodeId, f64)> {
    let work = |step: &Step| match &network.node(step.node).op {
        Op::Lrn { size, .. } => (size * step.writes.shape.per_image()) as f64,
        Op::MaxPool(window) => (window.kernel[0] * window.kernel[1] * step.writes.shape.per_image()) as f64,
        _ => network.macs(step.node) as f64,
    };
    let total: f64 = steps.iter().map(work).sum();
    steps.iter().map(|step| (step.node, if steps.len() == 1 { 1.0 } else { work(step) / total })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::launch::{MAX_SHARED_THREADS, Tile};
    use crate::graph::googlenet::{Spec, Variant};
    use crate::plan::ConcatMode;

    fn lowered(variant: Variant, concat: ConcatMode, set: KernelSet) -> Lowered {
        let network = Spec { variant, heads: false, ..Spec::default() }.build().unwrap();
        let plan = Plan::new(&network, 1, concat).unwrap();
        lower(&network, &plan, set, &|key| default_config(set, key)).unwrap()
    }

    #[test]
    fn a_network_takes_as_many_dispatches_as_budgeted() {
        let budgets: serde_json::Value =
            serde_json::from_str(include_str!("../../budgets.json")).expect("budgets.json is JSON");
        let budget = |variant: &str| budgets["dispatches"][variant].as_u64().expect("a number") as usize;
        let keras = lowered(Variant::Keras, ConcatMode::InPlace, KernelSet::Hardware).jobs.len();
        assert_eq!(keras, budget("keras"), "a network that takes fewer lowers its budget");
        // The BVLC network has one more convolution and two normalisations. One of these is fused with its convolution.
        assert_eq!(lowered(Variant::Caffe, ConcatMode::InPlace, KernelSet::Hardware).jobs.len(), budget("caffe"));
        // With gains, the four branches of nine modules are copied to the module's output.
        assert_eq!(lowered(Variant::Keras, ConcatMode::WithGains, KernelSet::Hardware).jobs.len(), keras + 9 * 4);
        // On software adapters there are also: the input and output transforms of the first layer, of ten 3x3 layers
        // and of nine 5x5 layers; nine pools that are not fused; and copies to textures of the inputs of the other five
        // pools and of six modules.
        let software = lowered(Variant::Keras, ConcatMode::InPlace, KernelSet::Software).jobs.len();
        assert_eq!(software, keras + 2 * (1 + 10 + 9) + 9 + 5 + 6);
    }

    #[test]
    fn a_dispatch_writes_to_different_buffers() {
        for job in lowered(Variant::Caffe, ConcatMode::InPlace, KernelSet::Software).jobs {
            let mut binds = job.binds.clone();
            binds.dedup();
            assert_eq!(binds.len(), job.binds.len());
        }
    }

    #[test]
    fn gpus_run_no_kernels_of_software_adapters() {
        for concat in [ConcatMode::InPlace, ConcatMode::WithGains] {
            let lowered = lowered(Variant::Caffe, concat, KernelSet::Hardware);
            let shaders: Vec<&str> = lowered.jobs.iter().map(|job| job.kernel.entry.shader.name).collect();
            assert!(shaders.iter().all(|name| !name.starts_with("software/")), "{shaders:?}");
            assert!(lowered.textures.is_empty());
        }
    }

    #[test]
    fn launch_configurations_cover_all_pixels_and_channels() {
        for set in [KernelSet::Hardware, KernelSet::Software] {
            for (pixels, vec4_channels, depth) in
                [(49, 96, 48), (196, 80, 40), (3136, 48, 16), (1, 1, 1), (12544, 16, 1)]
            {
                let tiles = [Tile::AnyChannels, Tile::Pool, Tile::Lrn, Tile::Texture, Tile::Winograd];
                for tile in tiles.map(Some).into_iter().chain([None]) {
                    let key = ConvKey { tile, pixels, vec4_channels, depth, taps: 9 };
                    let config = default_config(set, key);
                    let [x, y, z] = config.grid(pixels, vec4_channels);
                    assert!(x * z * config.tile.pixels() * config.rows >= pixels);
                    assert!(y * config.tile.vec4_channels() * config.lanes >= vec4_channels);
                    let threads = config.lanes * config.rows * config.slices;
                    let shared = matches!(tile, Some(Tile::Pool | Tile::Lrn));
                    assert!(threads <= if shared { MAX_SHARED_THREADS } else { 256 }, "{config:?}");
                    assert!(tile != Some(Tile::Lrn) || y == 1, "all channels are in one workgroup");
                    assert!(config.slices <= depth, "{config:?}");
                    assert!(key.candidates().contains(&config), "{config:?} is not among those that are measured");
                    assert!(conv_kernel(config).is_some(), "{config:?}");
                }
            }
        }
    }
}
