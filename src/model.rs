//! A model: network, weights, labels and preprocessing, read from one file.

#[cfg(feature = "import")]
pub mod import;
pub mod preprocess;
pub mod weights;

use crate::error::{Error, Result};
use crate::graph::googlenet::{Spec, Variant};
use crate::graph::network::Network;
use crate::model::preprocess::Preprocess;
use crate::model::weights::{Named, Weights};
use std::collections::BTreeMap;

/// The class names of ILSVRC 2012 in output order, one per line: WordNet 3.0 lemmas of the 1000 synsets. The modules
/// for browsers are built without them: few files lack labels, and every visitor would have to download these.
#[cfg(feature = "imagenet-labels")]
const IMAGENET_LABELS: Option<&str> = Some(include_str!("model/imagenet_labels.txt"));
#[cfg(not(feature = "imagenet-labels"))]
const IMAGENET_LABELS: Option<&str> = None;

/// The metadata keys of a model file.
pub mod key {
    /// The variant's name, see [`Variant::name`](crate::graph::googlenet::Variant::name).
    pub const VARIANT: &str = "variant";
    /// [`Preprocess`](crate::model::preprocess::Preprocess) as JSON.
    pub const PREPROCESSING: &str = "preprocessing";
    /// The class names in output order, as a JSON array.
    pub const LABELS: &str = "labels";
    pub const NAME: &str = "name";
    pub const SOURCE: &str = "source";
    pub const LICENSE: &str = "license";
    /// How the model was trained, as JSON.
    pub const TRAINING: &str = "training";
}

/// Everything that is needed to classify a picture. The names, shapes and values of all tensors have been checked.
#[derive(Debug, Clone)]
pub struct Model {
    pub name: String,
    pub spec: Spec,
    pub network: Network,
    pub weights: Weights,
    /// The name of each class, in output order.
    pub labels: Vec<String>,
    pub preprocess: Preprocess,
    pub source: Option<String>,
    pub license: Option<String>,
    /// How the model was trained, as JSON: what `googlenet train` wrote.
    pub training: Option<String>,
    /// Assumptions about what the file does not say, each as a sentence.
    pub notes: Vec<String>,
}

impl Model {
    /// Reads a safetensors model, described by its metadata. A file with the tensors of BVLC's model needs no metadata;
    /// it is recognised by the names and shapes of its tensors. Fails with the error that names the tensor or the
    /// metadata entry that is missing or invalid.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::labelled(bytes, IMAGENET_LABELS)
    }

    /// Like [`Model::from_bytes`]. `imagenet` has the names of ImageNet's classes, one per line; they are used for a
    /// file with 1000 classes and no labels. Default: the names built into this crate (feature `imagenet-labels`).
    pub fn labelled(bytes: Vec<u8>, imagenet: Option<&str>) -> Result<Self> {
        let weights = Weights::parse(bytes)?;
        let metadata = weights.metadata();
        let entry = |key: &str| metadata.get(key).map(String::as_str);
        let mut notes = Vec::new();

        let variant = match entry(key::VARIANT) {
            Some(name) => name.parse().map_err(|e: Error| metadata_error(key::VARIANT, e))?,
            None => {
                let variant = infer_variant(&weights);
                notes.push(format!(
                    "the file does not name its variant; its tensors are those of the {variant} network"
                ));
                variant
            }
        };
        let preprocess: Preprocess = match entry(key::PREPROCESSING) {
            Some(json) => serde_json::from_slice(json.as_bytes()).map_err(|e| metadata_error(key::PREPROCESSING, e))?,
            None if variant == Variant::Caffe => {
                notes.push(
                    "the file does not describe its preprocessing; BVLC's is assumed: BGR 0..255 minus (104, 117, 123)"
                        .into(),
                );
                Preprocess::BVLC
            }
            None => {
                let reason = "is missing, and it is not known how pictures are preprocessed for this network; \
                              `googlenet import` writes the entry";
                return Err(metadata_error(key::PREPROCESSING, reason));
            }
        };
        preprocess.check()?;

        let spec = Spec {
            variant,
            classes: classes(&weights)?,
            heads: variant.has_heads()
                && ["loss1/", "loss2/"].iter().any(|p| weights.names().any(|n| n.starts_with(p))),
            size: preprocess.size,
        };
        let labels = match entry(key::LABELS) {
            Some(json) => serde_json::from_slice(json.as_bytes()).map_err(|e| metadata_error(key::LABELS, e))?,
            None if spec.classes == 1000 => {
                notes.push("the file has no labels; it has 1000 classes, so ImageNet's labels are assumed".into());
                let names = imagenet.or(IMAGENET_LABELS);
                let names = names.ok_or_else(|| {
                    metadata_error(key::LABELS, "is missing, and this build does not include ImageNet's")
                })?;
                names.lines().map(str::to_owned).collect()
            }
            None => {
                notes.push("the file has no labels; classes are numbered".into());
                (0..spec.classes).map(|i| format!("class {i}")).collect::<Vec<String>>()
            }
        };
        if labels.len() != spec.classes {
            let reason = format!("names {} classes, but the last layer has {}", labels.len(), spec.classes);
            return Err(metadata_error(key::LABELS, reason));
        }
        let name = entry(key::NAME).or(entry("model")).map_or_else(|| format!("GoogLeNet ({variant})"), str::to_owned);
        let [source, license, training] =
            [key::SOURCE, key::LICENSE, key::TRAINING].map(|key| entry(key).map(str::to_owned));

        let network = spec.build()?;
        check_tensors(&network, &weights, variant.name())?;
        Ok(Model { name, spec, network, weights, labels, preprocess, source, license, training, notes })
    }

    /// Removes the auxiliary heads and their weights, which are about half of the parameters of a model with heads.
    pub fn without_heads(mut self) -> Result<Self> {
        if self.spec.heads {
            let spec = Spec { heads: false, ..self.spec };
            let network = spec.build()?;
            let kept = expected_tensors(&network);
            self.weights.retain(|name| kept.get(name).is_some());
            (self.spec, self.network) = (spec, network);
        }
        Ok(self)
    }

    /// Replaces the main classifier by one for other classes. `weights` are (classes, 1024), `bias` is (classes). Fails where
    /// the model has auxiliary heads, which would still be for the old classes, where the sizes do not fit together, or where
    /// a value is not finite.
    #[cfg(feature = "train")]
    pub fn with_classifier(mut self, labels: Vec<String>, weights: &[f32], bias: &[f32]) -> Result<Self> {
        if self.network.heads().len() != 1 {
            let reason = "the classifier of a model with auxiliary heads cannot be replaced; remove the heads first";
            return Err(Error::Argument(reason.into()));
        }
        let logits = self.network.heads().iter().map(|head| self.network.node(head.logits).name.clone());
        let [weight_name, bias_name] = tensor_names(&logits.collect::<String>());
        let classes = labels.len();
        let width = weights.len() / classes.max(1);
        self.weights.set(&weight_name, vec![classes, width], weights)?;
        self.weights.set(&bias_name, vec![classes], bias)?;
        self.spec.classes = classes;
        self.network = self.spec.build()?;
        self.labels = labels;
        check_tensors(&self.network, &self.weights, self.spec.variant.name())?;
        Ok(self)
    }

    /// Changes the height and width of the input in pixels, to which pictures are resized. Fails with
    /// [`Error::Argument`] where that is 0 or more than 4096, and with another error where the network cannot have inputs of
    /// this size; models with auxiliary heads need 224.
    #[cfg(feature = "train")]
    pub fn with_size(mut self, size: usize) -> Result<Self> {
        self.spec.size = size;
        self.preprocess.size = size;
        let wrong =
            |_| Error::Argument(format!("the input cannot have {size} by {size} pixels; 1 to 4096 are possible"));
        self.preprocess.check().map_err(wrong)?;
        self.network = self.spec.build()?;
        check_tensors(&self.network, &self.weights, self.spec.variant.name())?;
        Ok(self)
    }

    /// The metadata of a model file that describes this model completely.
    pub fn metadata(&self) -> Result<BTreeMap<String, String>> {
        let json = |key: &str, value: serde_json::Result<String>| value.map_err(|e| metadata_error(key, e));
        let mut metadata = BTreeMap::from([
            (key::VARIANT.to_owned(), self.spec.variant.name().to_owned()),
            (key::PREPROCESSING.to_owned(), json(key::PREPROCESSING, serde_json::to_string(&self.preprocess))?),
            (key::LABELS.to_owned(), json(key::LABELS, serde_json::to_string(&self.labels))?),
            (key::NAME.to_owned(), self.name.clone()),
        ]);
        let optional = [(key::SOURCE, &self.source), (key::LICENSE, &self.license), (key::TRAINING, &self.training)];
        for (key, value) in optional {
            metadata.extend(value.clone().map(|value| (key.to_owned(), value)));
        }
        Ok(metadata)
    }

    /// A model of any network and its weights, for tests and experiments. Pictures are preprocessed to RGB values 0..1
    /// at the size of the first input.
    pub fn from_network(network: Network, weights: Weights) -> Result<Self> {
        check_tensors(&network, &weights, "given")?;
        let size = network.inputs().next().map_or(1, |i| network.node(i).shape.h);
        let classes = network.heads().last().map_or(0, |h| network.node(h.prob).shape.c);
        Ok(Model {
            name: "network".into(),
            spec: Spec { classes, size, heads: network.heads().len() > 1, ..Spec::default() },
            labels: (0..classes).map(|i| format!("class {i}")).collect(),
            preprocess: Preprocess { size, scale: 1.0 / 255.0, ..Preprocess::default() },
            network,
            weights,
            source: None,
            license: None,
            training: None,
            notes: Vec::new(),
        })
    }
}

fn metadata_error(key: &str, reason: impl ToString) -> Error {
    Error::Metadata { key: key.to_owned(), reason: reason.to_string() }
}

/// Infers the variant from the names and shapes of the tensors. `keras_v2` has the same tensors as `caffe` and differs
/// only in its padding, so its files must name it in the metadata.
fn infer_variant(weights: &Weights) -> Variant {
    if weights.dims("conv2/3x3_reduce.weight").is_none() {
        Variant::Keras
    } else if weights.dims("inception_3a/5x5.weight").is_some_and(|d| d.last() == Some(&3)) {
        Variant::Torchvision
    } else {
        Variant::Caffe
    }
}

/// The number of classes, from the shape of the main classifier's weights.
fn classes(weights: &Weights) -> Result<usize> {
    const LAST: &str = "loss3/classifier.weight";
    match weights.dims(LAST) {
        // Both dimensions are checked: the first of an empty tensor (n, 0) may be any number, and each class gets a
        // label.
        Some([classes, 1024]) => Ok(*classes),
        Some(dims) => {
            Err(Error::TensorShape { name: LAST.into(), expected: [1000, 1024][..].into(), found: dims.into() })
        }
        None => Err(Error::MissingTensor { name: LAST.into(), expected: [1000, 1024][..].into() }),
    }
}

/// The name and shape of every tensor that a layer of the network reads.
fn expected_tensors(network: &Network) -> Named<Vec<usize>> {
    let mut expected = Named::default();
    for (id, node) in network.nodes().iter().enumerate() {
        for tensor in node.op.tensors(network.input_shape(id)) {
            expected.insert(tensor_name(&node.name, tensor.name), tensor.dims);
        }
    }
    expected
}

/// Checks that each tensor that a layer needs exists, has the right shape and only finite values, and that there are no
/// other tensors.
fn check_tensors(network: &Network, weights: &Weights, variant: &str) -> Result<()> {
    let expected = expected_tensors(network);
    for (name, dims) in expected.iter() {
        weights.check(name, dims)?;
    }
    match weights.names().find(|name| expected.get(name).is_none()) {
        Some(name) => Err(Error::ExtraTensor {
            name: name.to_owned(),
            found: weights.dims(name).unwrap_or_default().into(),
            variant: variant.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The name of a layer's tensor in a model file: `inception_3a/1x1.weight`.
pub fn tensor_name(layer: &str, tensor: &str) -> String {
    format!("{layer}.{tensor}")
}

/// The names of a layer's weight and bias in a model file.
pub fn tensor_names(layer: &str) -> [String; 2] {
    ["weight", "bias"].map(|tensor| tensor_name(layer, tensor))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tensor's name, dimensions and values.
    type Named = (String, Vec<usize>, Vec<f32>);

    /// The tensors of a network, all zero.
    fn tensors(spec: &Spec) -> Vec<Named> {
        let net = spec.build().unwrap();
        let layers = net
            .nodes()
            .iter()
            .enumerate()
            .filter_map(|(i, node)| Some((node, node.op.weight_dims(net.input_shape(i))?)));
        layers
            .flat_map(|(node, dims)| {
                let [weight, bias] = tensor_names(&node.name);
                let (len, out) = (dims.iter().product(), dims[0]);
                [(weight, dims, vec![0.0; len]), (bias, vec![out], vec![0.0; out])]
            })
            .collect()
    }

    fn load(tensors: Vec<Named>, metadata: &[(&str, &str)]) -> Result<Model> {
        let metadata: BTreeMap<String, String> = metadata.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Model::from_bytes(Weights::from_tensors(tensors)?.to_bytes(&metadata, true)?)
    }

    const SMALL: Spec = Spec { variant: Variant::KerasV2, classes: 3, heads: false, size: 64 };
    const PREPROCESSING: (&str, &str) = (key::PREPROCESSING, r#"{"size":64,"order":"RGB","scale":0.5,"mean":[1,2,3]}"#);

    #[test]
    fn metadata_says_what_the_model_is() {
        let labels = (key::LABELS, r#"["cat","dog","ship"]"#);
        let model = load(tensors(&SMALL), &[(key::VARIANT, "keras_v2"), PREPROCESSING, labels]).unwrap();
        assert_eq!(model.spec, SMALL);
        assert_eq!(model.labels, ["cat", "dog", "ship"]);
        assert_eq!(
            (model.preprocess.scale, model.preprocess.mean, model.preprocess.std),
            (0.5, [1.0, 2.0, 3.0], [1.0; 3])
        );
        assert!(model.notes.is_empty());
    }

    #[test]
    fn a_bvlc_file_is_recognised_and_the_model_says_so() {
        let caffe = Spec { variant: Variant::Caffe, heads: false, ..Spec::default() };
        let model = load(tensors(&caffe), &[]).unwrap();
        assert_eq!(model.spec, caffe);
        assert_eq!((model.labels[285].as_str(), model.labels.len()), ("Egyptian cat", 1000));
        assert_eq!(model.preprocess, Preprocess::BVLC);
        assert_eq!(model.notes.len(), 3);
    }

    #[test]
    fn errors_name_the_tensor_or_metadata_entry() {
        let variant = (key::VARIANT, "keras_v2");
        let fails = |change: &dyn Fn(&mut Vec<Named>)| {
            let mut t = tensors(&SMALL);
            change(&mut t);
            load(t, &[variant, PREPROCESSING]).unwrap_err()
        };
        let at = |t: &Vec<Named>, name: &str| t.iter().position(|x| x.0 == name).unwrap();
        let missing = fails(&|t| drop(t.remove(at(t, "inception_4c/5x5.bias"))));
        assert_eq!(
            missing.to_string(),
            "the model file lacks the tensor \"inception_4c/5x5.bias\" (expected shape 64)"
        );
        let extra = fails(&|t| t.push(("conv9.weight".into(), vec![1], vec![0.0])));
        assert_eq!((extra.code(), extra.detail()), ("extra-tensor", Some("conv9.weight")));
        let shape = fails(&|t| {
            let i = at(t, "conv1/7x7_s2.weight");
            t[i].1 = vec![64, 7, 7, 3];
        });
        assert!(shape.to_string().ends_with("has shape 64x7x7x3, but its layer needs 64x3x7x7"));
        let nan = fails(&|t| {
            let i = at(t, "conv2/3x3.weight");
            t[i].2[77] = f32::NAN;
        });
        assert!(nan.to_string().contains("\"conv2/3x3.weight\" holds NaN at element 77"));

        let refuse = |metadata: &[(&str, &str)]| load(tensors(&SMALL), metadata).unwrap_err();
        assert_eq!(refuse(&[variant]).detail(), Some("preprocessing"));
        assert_eq!(refuse(&[(key::VARIANT, "v3"), PREPROCESSING]).detail(), Some("variant"));
        assert_eq!(refuse(&[variant, PREPROCESSING, (key::LABELS, r#"["cat"]"#)]).detail(), Some("labels"));
        assert_eq!(refuse(&[variant, (key::PREPROCESSING, r#"{"size":0}"#)]).detail(), Some("preprocessing"));
    }

    #[test]
    fn heads_can_be_left_out() {
        let three = Spec { classes: 3, ..Spec::default() };
        let preprocessing = (key::PREPROCESSING, r#"{"size":224}"#);
        let full = load(tensors(&three), &[(key::VARIANT, "keras"), preprocessing]).unwrap();
        let params = full.network.total_params();
        let with_heads = full.clone();
        let lean = full.without_heads().unwrap();
        assert_eq!((lean.spec.heads, lean.network.heads().len()), (false, 1));
        assert!(lean.network.total_params() < params && !lean.weights.names().any(|n| n.starts_with("loss1/")));
        // Nor can a classifier be replaced while others are for the old classes.
        #[cfg(feature = "train")]
        {
            let four = ["a", "b", "c", "d"].map(String::from).to_vec();
            let new = |model: &Model, width: usize| {
                model.clone().with_classifier(four.clone(), &vec![0.5; 4 * width], &[1.0, 2.0, 3.0, 4.0])
            };
            assert!(new(&with_heads, 1024).is_err());
            assert_eq!(new(&lean, 1000).unwrap_err().code(), "tensor-shape");
            let other = new(&lean, 1024).unwrap().with_size(160).unwrap();
            assert_eq!((other.spec.classes, other.spec.size, &other.labels), (4, 160, &four));
            let file = other.weights.to_bytes_as_stored(&other.metadata().unwrap()).unwrap();
            let back = Model::from_bytes(file).unwrap();
            assert_eq!((back.spec, &back.labels, back.preprocess), (other.spec, &four, other.preprocess));
            assert_eq!(back.weights.get("loss3/classifier.bias").unwrap().1, [1.0, 2.0, 3.0, 4.0]);
            assert!(lean.clone().with_size(0).is_err() && with_heads.with_size(100).is_err());
        }
        // The file that it writes is a complete model with the same metadata.
        let back = Model::from_bytes(lean.weights.to_bytes(&lean.metadata().unwrap(), true).unwrap()).unwrap();
        assert_eq!((back.spec, &back.labels, &back.name), (lean.spec, &lean.labels, &lean.name));
        assert_eq!((back.preprocess, back.notes.len()), (lean.preprocess, 0));
    }
}
