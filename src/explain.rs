//! Explanations of a class's score: class activation maps, contributions of channels, and ablation of branches.
//!
//! GoogLeNet ends in a global average pool and one dense layer. Both are linear, so a class's score before softmax is
//! exactly its bias plus a sum over the channels of the last module, or a sum over the cells of their maps.

use crate::engine::{Engine, Output};
use crate::error::{Error, Result};
use crate::graph::network::Network;
use crate::graph::op::{Activation, Op};
use crate::model::{Model, tensor_names};
use serde::Serialize;

/// The network's last layers, with a copy of the classifier's weights. The engine itself keeps no weights after it has
/// handed them to its backend.
pub struct Classifier {
    /// The layer whose maps are averaged.
    map: String,
    /// The layer that averages them.
    pooled: String,
    branches: Vec<Branch>,
    /// (classes, channels).
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// A branch of the last module: the channels `from..to` of its output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch {
    pub branch: &'static str,
    pub from: usize,
    pub to: usize,
}

/// A class's score, as a sum over channels and as a sum over the cells of the map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The score before softmax: `bias` plus the sum of `channels`, which is also `bias` plus the mean of `map`.
    pub logit: f64,
    pub bias: f64,
    /// The contribution of each channel of the last module: its weight times its mean.
    pub channels: Vec<f64>,
    /// Height and width of the map.
    pub shape: [usize; 2],
    /// The class activation map in row-major order: the sum of all channels, each multiplied by the class's weight
    /// (Zhou et al., CVPR 2016).
    pub map: Vec<f64>,
    pub branches: Vec<Share>,
}

/// A branch's part of the score and of the map. The parts of all branches add up to the whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    #[serde(flatten)]
    pub of: Branch,
    pub sum: f64,
    pub map: Vec<f64>,
}

impl Classifier {
    /// The last layers of a model that still has its weights. `None` where the network does not end in a global average
    /// pool and one dense layer, or where the weights are missing.
    pub fn of(model: &Model) -> Option<Self> {
        let network = &model.network;
        let logits = network.node(network.heads().last()?.logits);
        let pooled = network.node(*logits.inputs.first()?);
        let map = *pooled.inputs.first()?;
        if !matches!(logits.op, Op::Dense { activation: Activation::None, .. })
            || pooled.op != (Op::AdaptiveAvgPool { out: [1, 1] })
        {
            return None;
        }
        let [weights, bias] = tensor_names(&logits.name).map(|name| model.weights.get(&name));
        Some(Classifier {
            map: network.node(map).name.clone(),
            pooled: pooled.name.clone(),
            branches: branches(network, map),
            weights: weights.ok()?.1,
            bias: bias.ok()?.1,
        })
    }

    /// The contributions of each channel and each cell to a class's score in the last run, for the first picture of the
    /// batch. Fails with [`Error::Argument`] where there is no such class, or where nothing has run.
    pub async fn explain(&self, engine: &Engine, class: usize) -> Result<Explanation> {
        let weights = self.weights(class)?;
        let pooled = engine.read(&self.pooled).await?;
        let tensor = engine.read(&self.map).await?;
        // The product of two f32 is exact in f64.
        let product = |(&w, &x): (&f32, &f32)| f64::from(w) * f64::from(x);
        let channels: Vec<f64> = weights.iter().zip(pooled.image(0)).map(product).collect();
        let map = |from: usize, to: usize| -> Vec<f64> {
            let cell = |x: &[f32]| weights[from..to].iter().zip(&x[from..to]).map(product).sum();
            tensor.image(0).chunks_exact(tensor.shape.c).map(cell).collect()
        };
        let share = |of: &Branch| Share {
            of: of.clone(),
            sum: channels[of.from..of.to].iter().sum(),
            map: map(of.from, of.to),
        };
        let bias = f64::from(self.bias[class]);
        Ok(Explanation {
            logit: bias + channels.iter().sum::<f64>(),
            bias,
            shape: [tensor.shape.h, tensor.shape.w],
            map: map(0, weights.len()),
            branches: self.branches.iter().map(share).collect(),
            channels,
        })
    }

    /// The weights of one class, (channels).
    fn weights(&self, class: usize) -> Result<&[f32]> {
        let channels = self.weights.len() / self.bias.len().max(1);
        if class >= self.bias.len() {
            return Err(Error::Argument(format!(
                "there is no class {class}: the model has {} classes",
                self.bias.len()
            )));
        }
        Ok(&self.weights[class * channels..][..channels])
    }
}

/// The branches that a module's output concatenates.
fn branches(network: &Network, output: usize) -> Vec<Branch> {
    let mut from = 0;
    let branches = network.node(output).inputs.iter().filter_map(|&id| {
        let node = network.node(id);
        let to = from + node.shape.c;
        let branch = Branch { branch: node.branch?.name(), from: std::mem::replace(&mut from, to), to };
        Some(branch)
    });
    branches.collect()
}

/// Runs the last picture again with other gains of the branches, e.g. with some switched off. It keeps the output of
/// the unchanged network for comparison.
#[derive(Default)]
pub struct Ablation(Option<Output>);

impl Ablation {
    /// Runs the last picture with these gains, and with gain 1 for all branches that are not named. Returns the output
    /// of the unchanged network and that with these gains. Only layers downstream of a changed gain are computed. The
    /// engine keeps the gains. Fails with [`Error::Argument`], and changes nothing, where a name is not a branch or a
    /// gain is not finite.
    pub async fn run(&mut self, engine: &mut Engine, gains: &[(String, f32)]) -> Result<(&Output, Output)> {
        // Before anything runs, as this fails where a gain is invalid.
        engine.set_gains(gains)?;
        let untouched = match self.0.take() {
            Some(untouched) => untouched,
            None => {
                engine.set_gains(&[])?;
                let untouched = engine.rerun().await?;
                engine.set_gains(gains)?;
                untouched
            }
        };
        let output = engine.rerun().await;
        Ok((self.0.insert(untouched), output?))
    }

    /// Discards the kept output. Must be called when another picture was run.
    pub fn forget(&mut self) {
        self.0 = None;
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::engine::Backend;
    use crate::graph::googlenet::{Spec, Variant};
    use crate::graph::tensor::Tensor;
    use crate::model::weights::Weights;
    use crate::plan::Input;
    use pollster::block_on;

    const CLASSES: usize = 5;

    /// A small GoogLeNet with random weights that has run a random picture.
    fn engine() -> (Engine, Classifier) {
        let spec = Spec { variant: Variant::KerasV2, classes: CLASSES, heads: false, size: 64 };
        let network = spec.build().unwrap();
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut tensors = Vec::new();
        for (id, node) in network.nodes().iter().enumerate() {
            let Some(dims) = node.op.weight_dims(network.input_shape(id)) else { continue };
            let fan_in = dims[1..].iter().product::<usize>() as f32;
            let [weight, bias] = tensor_names(&node.name);
            let values = (0..dims.iter().product()).map(|_| random() * (24.0 / fan_in).sqrt()).collect();
            tensors.push((bias, vec![dims[0]], (0..dims[0]).map(|_| random() * 0.1).collect()));
            tensors.push((weight, dims, values));
        }
        let model = Model::from_network(network, Weights::from_tensors(tensors).unwrap()).unwrap();
        let classifier = Classifier::of(&model).unwrap();
        let shape = model.network.node(0).shape;
        let input = Tensor::new(shape, (0..shape.len()).map(|_| random()).collect()).unwrap();
        let mut engine = block_on(Engine::new(model, Backend::Cpu)).unwrap();
        block_on(engine.run_input(Input::Tensors(&[&input]))).unwrap();
        (engine, classifier)
    }

    fn logit(engine: &Engine, class: usize) -> f64 {
        f64::from(block_on(engine.read("loss3/classifier")).unwrap().data[class])
    }

    /// Whether two values are equal, except for the rounding of f32 in a sum of a thousand terms.
    fn same(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-5 * (1.0 + b.abs())
    }

    #[test]
    fn contributions_add_up_to_the_score() {
        let (engine, mut classifier) = engine();
        for class in 0..CLASSES {
            let c = block_on(classifier.explain(&engine, class)).unwrap();
            assert_eq!(c.channels.len(), 1024);
            assert_eq!(c.logit, c.bias + c.channels.iter().sum::<f64>());
            assert!(
                same(c.logit, logit(&engine, class)),
                "class {class}: {} instead of {}",
                c.logit,
                logit(&engine, class)
            );
            let shares: f64 = c.branches.iter().map(|b| b.sum).sum();
            assert!((c.bias + shares - c.logit).abs() < 1e-12);
            let of: Vec<_> = c.branches.iter().map(|b| (b.of.branch, b.of.to - b.of.from)).collect();
            assert_eq!(of, [("1x1", 384), ("3x3", 384), ("5x5", 128), ("pool", 128)]);
        }
        // The channel that contributes most is changed, so that the change exceeds the tolerance.
        let c = block_on(classifier.explain(&engine, 2)).unwrap();
        let (channel, _) = c.channels.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        classifier.weights[2 * 1024 + channel] *= 1.1;
        let changed = block_on(classifier.explain(&engine, 2)).unwrap();
        assert!(!same(changed.logit, logit(&engine, 2)), "one weight changed, and it still agrees");
    }

    #[test]
    fn class_activation_maps_equal_a_plain_sum_and_their_mean_is_the_score() {
        let (engine, mut classifier) = engine();
        let map = block_on(engine.read("inception_5b/output")).unwrap();
        let cells = map.shape.h * map.shape.w;
        let plain = |classifier: &Classifier, class: usize, cell: usize, channels: std::ops::Range<usize>| -> f64 {
            let at = |c: usize| f64::from(map.data[cell * 1024 + c]);
            channels.map(|c| f64::from(classifier.weights[class * 1024 + c]) * at(c)).sum()
        };
        for class in 0..CLASSES {
            let cam = block_on(classifier.explain(&engine, class)).unwrap();
            assert_eq!((cam.shape, cam.map.len()), ([map.shape.h, map.shape.w], cells));
            for cell in 0..cells {
                assert!(same(cam.map[cell], plain(&classifier, class, cell, 0..1024)));
                for b in &cam.branches {
                    assert!(same(b.map[cell], plain(&classifier, class, cell, b.of.from..b.of.to)));
                }
            }
            let mean = cam.map.iter().sum::<f64>() / cells as f64;
            assert!(same(mean + cam.bias, logit(&engine, class)));
        }
        let strongest = (0..1024).max_by(|&a, &b| {
            let [a, b] = [a, b].map(|c| plain(&classifier, 0, 0, c..c + 1).abs());
            a.total_cmp(&b)
        });
        let expected = plain(&classifier, 0, 0, 0..1024);
        classifier.weights[strongest.unwrap()] *= 1.1;
        let cam = block_on(classifier.explain(&engine, 0)).unwrap();
        assert!(!same(cam.map[0], expected), "one weight changed, and it still agrees");
    }

    #[test]
    fn ablation_runs_the_same_picture_and_rejects_nodes_that_are_not_branches() {
        let (mut engine, _) = engine();
        let before = block_on(engine.read("prob")).unwrap();
        let mut ablation = Ablation::default();
        let off = [("inception_4b/3x3".to_owned(), 0.0)];
        let (untouched, changed) = block_on(ablation.run(&mut engine, &off)).unwrap();
        assert_eq!(untouched.answer().unwrap().probabilities.data, before.data);
        assert_ne!(changed.answer().unwrap().probabilities.data, before.data);
        // The branch's own activations stay as they are, and its channels of the module's output are zero.
        assert!(block_on(engine.read("inception_4b/3x3")).unwrap().data.iter().any(|&v| v > 0.0));
        let output = block_on(engine.read("inception_4b/output")).unwrap();
        assert!(output.data.chunks_exact(output.shape.c).all(|x| x[160..384].iter().all(|&v| v == 0.0)));

        let bad = [("inception_4b/1x1".to_owned(), 0.5), ("inception_4b/3x3_reduce".to_owned(), 0.0)];
        assert!(block_on(ablation.run(&mut engine, &bad)).is_err());
        let (_, again) = block_on(ablation.run(&mut engine, &off)).unwrap();
        assert_eq!(again.heads, changed.heads, "a refusal changes nothing");
        let (_, restored) = block_on(ablation.run(&mut engine, &[])).unwrap();
        assert_eq!(restored.answer().unwrap().probabilities.data, before.data);
    }

    #[test]
    fn a_class_that_does_not_exist_is_an_error() {
        let (engine, classifier) = engine();
        let error = block_on(classifier.explain(&engine, CLASSES)).unwrap_err();
        assert_eq!(error.to_string(), "there is no class 5: the model has 5 classes");
        assert!(block_on(classifier.explain(&engine, usize::MAX)).is_err());
    }
}
