//! Why an answer: class activation maps, contributions and ablation. Arithmetic over activations.
//!
//! GoogLeNet ends in the average of each channel's map and one dense layer. Both are linear, so a class's score
//! is its bias and a sum over the channels of the last module, or over the cells of their maps. Nothing here is
//! an estimate.

use crate::engine::{Engine, Output};
use crate::error::{Error, Result};
use crate::graph::network::Network;
use crate::graph::op::{Activation, Op};
use crate::model::{Model, tensor_names};
use serde::Serialize;

/// The network's last layers, with the classifier's weights: the engine gives all others to its backend.
pub struct Classifier {
    /// The layer whose maps are averaged, and the one that averages them.
    map: String,
    pooled: String,
    branches: Vec<Branch>,
    /// (classes, channels).
    weights: Vec<f32>,
    bias: Vec<f32>,
}

/// A branch of the last module: channels `from` up to, but without, `to` of its output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Branch {
    pub branch: &'static str,
    pub from: usize,
    pub to: usize,
}

/// What makes up a class's score, taken apart by channels and by places.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The score before softmax: `bias` and all of `channels`; also `bias` and the mean of `map`.
    pub logit: f64,
    pub bias: f64,
    /// One a channel of the last module: its weight times its mean.
    pub channels: Vec<f64>,
    /// Height, width of the maps.
    pub shape: [usize; 2],
    /// The class activation map, row by row.
    pub map: Vec<f64>,
    pub branches: Vec<Share>,
}

/// What a branch adds; the branches add up to the whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    #[serde(flatten)]
    pub of: Branch,
    pub sum: f64,
    pub map: Vec<f64>,
}

impl Classifier {
    /// Of a model that has its weights still; none where the network does not end as GoogLeNet does.
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

    /// What each channel, and each place, of the last run's picture (the first of a batch) adds to a class's score.
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

    fn weights(&self, class: usize) -> Result<&[f32]> {
        let channels = self.weights.len() / self.bias.len().max(1);
        if class >= self.bias.len() {
            return Err(Error::Argument(format!("there is no class {class} among {}", self.bias.len())));
        }
        Ok(&self.weights[class * channels..][..channels])
    }
}

/// The branches that a module's output joins.
fn branches(network: &Network, output: usize) -> Vec<Branch> {
    let mut from = 0;
    let joined = network.node(output).inputs.iter().filter_map(|&id| {
        let node = network.node(id);
        let to = from + node.shape.c;
        let branch = Branch { branch: node.branch?.name(), from: std::mem::replace(&mut from, to), to };
        Some(branch)
    });
    joined.collect()
}

/// Runs one picture again and again with branches weighed or switched off. Keeps its answer from the network as it is.
#[derive(Default)]
pub struct Ablation(Option<Output>);

impl Ablation {
    /// Of the picture that was run last. Branches that are not named have gain 1; all gains stay as they are set here.
    /// Gives the answer of the network as it is, and that with these gains, for which only what lies downstream of a
    /// gain that has changed is run.
    pub async fn run(&mut self, engine: &mut Engine, gains: &[(String, f32)]) -> Result<(&Output, Output)> {
        // First of all, as it refuses what cannot be.
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

    /// Another picture was run.
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

    /// A small GoogLeNet of made-up weights that has run a made-up picture.
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

    /// Equal but for the rounding of f32 in a sum of a thousand terms.
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
        // Of the channel that adds most, so that the change can be seen.
        let c = block_on(classifier.explain(&engine, 2)).unwrap();
        let (channel, _) = c.channels.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        classifier.weights[2 * 1024 + channel] *= 1.1;
        let changed = block_on(classifier.explain(&engine, 2)).unwrap();
        assert!(!same(changed.logit, logit(&engine, 2)), "one weight changed, and it still agrees");
    }

    #[test]
    fn a_class_activation_map_is_its_plain_sum_and_has_the_score_as_its_mean() {
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
    fn ablation_runs_the_same_picture_and_refuses_what_is_no_branch() {
        let (mut engine, _) = engine();
        let before = block_on(engine.read("prob")).unwrap();
        let mut ablation = Ablation::default();
        let off = [("inception_4b/3x3".to_owned(), 0.0)];
        let (untouched, changed) = block_on(ablation.run(&mut engine, &off)).unwrap();
        assert_eq!(untouched.answer().unwrap().probabilities.data, before.data);
        assert_ne!(changed.answer().unwrap().probabilities.data, before.data);
        // The branch itself stays visible, and what it hands on is gone.
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
    fn a_class_that_does_not_exist_is_refused() {
        let (engine, classifier) = engine();
        let error = block_on(classifier.explain(&engine, CLASSES)).unwrap_err();
        assert_eq!(error.to_string(), "there is no class 5 among 5");
        assert!(block_on(classifier.explain(&engine, usize::MAX)).is_err());
    }
}
