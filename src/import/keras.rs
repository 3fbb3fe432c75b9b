//! Keras 3 weights: the HDF5 file that `model.save_weights("name.weights.h5")` writes.
//!
//! A layer's variables stand at `layers/<layer>/vars/0` (kernel) and `/1` (bias). Layers are named by
//! class and by their order in the model, nested layers by attribute: `inception_2/branch3/layers/conv2d_1`.

use super::Source;
use crate::error::{Dims, Error, Result};
use crate::googlenet::{Spec, TABLE, Variant};
use crate::model::tensor_names;
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};
use std::collections::BTreeMap;

/// Where all of a Keras file's layers are.
const LAYERS: &str = "layers";
/// GoogLeNet's file has some 300 groups and variables, five levels deep; a damaged one may lead in circles.
const MAX_OBJECTS: usize = 10_000;
const MAX_DEPTH: usize = 12;
/// Far above any layer's size; what a damaged file claims beyond it is not allocated.
const MAX_BYTES: usize = 1 << 28;

pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// Reads the weights of the Keras network, with as many classes as its last layer has, and with the
/// auxiliary heads where the file has them.
pub(super) fn read(bytes: &[u8]) -> Result<Source> {
    let mut variables = variables(bytes)?;
    let (classifier, _) = paths("loss3/classifier");
    let classes = match variables.get(&classifier).map(Dataset::shape) {
        Some(&[_, classes]) => usize::try_from(classes).unwrap_or(usize::MAX),
        // Whatever else it is, reading it below says what is wrong.
        _ => 1000,
    };
    let heads = variables.keys().any(|path| path.starts_with("layers/auxiliary_classifier"));
    let spec = Spec { variant: Variant::Keras, classes, heads, ..Spec::default() };
    let network = spec.build()?;

    let mut tensors = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let Some(dims) = node.op.weight_dims(network.input_shape(id)) else { continue };
        let (out, positions) = (dims[0], dims[2..].iter().product());
        let [weight, bias] = tensor_names(&node.name);
        let (kernel_path, bias_path) = paths(&node.name);
        let kernel = take(&mut variables, &kernel_path, &keras_dims(&dims))?;
        tensors.push((weight, dims, outputs_first(&kernel, out, positions)));
        tensors.push((bias, vec![out], take(&mut variables, &bias_path, &[out])?));
    }
    if let Some((path, extra)) = variables.first_key_value() {
        return Err(Error::ExtraTensor {
            name: path.clone(),
            found: Dims(shape(extra)),
            variant: spec.variant.to_string(),
        });
    }
    Ok(Source { format: "Keras 3 weights", variant: spec.variant, tensors, preprocess: None })
}

/// Where the file keeps a layer's kernel and bias.
fn paths(layer: &str) -> (String, String) {
    let at = match layer.split_once('/') {
        Some(("conv1", _)) => "conv2d".into(),
        Some(("conv2", _)) => "conv2d_1".into(),
        Some(("loss3", _)) => "dense".into(),
        Some((head @ ("loss1" | "loss2"), part)) => {
            let nth = usize::from(head == "loss2");
            let part = match part {
                "conv" => "conv",
                "fc" => "fc1",
                _ => "fc2",
            };
            format!("{}/{part}", numbered("auxiliary_classifier", nth))
        }
        _ => {
            let (module, part) = layer.split_once('/').unwrap_or((layer, ""));
            let nth = TABLE.iter().position(|row| row.module() == module).unwrap_or(TABLE.len());
            let part = match part {
                "1x1" => "branch1",
                "3x3_reduce" => "branch2/layers/conv2d",
                "3x3" => "branch2/layers/conv2d_1",
                "5x5_reduce" => "branch3/layers/conv2d",
                "5x5" => "branch3/layers/conv2d_1",
                _ => "branch4/layers/conv2d",
            };
            format!("{}/{part}", numbered("inception", nth))
        }
    };
    (format!("{LAYERS}/{at}/vars/0"), format!("{LAYERS}/{at}/vars/1"))
}

/// Keras numbers the layers of a class from the second one on.
fn numbered(class: &str, nth: usize) -> String {
    if nth == 0 { class.to_owned() } else { format!("{class}_{nth}") }
}

/// OIHW as HWIO, (out, in) as (in, out).
fn keras_dims(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [o, i, h, w] => vec![h, w, i, o],
        _ => dims.iter().rev().copied().collect(),
    }
}

/// HWIO into OIHW, where h*w is the number of `positions`; a dense kernel has one.
fn outputs_first(kernel: &[f32], out: usize, positions: usize) -> Vec<f32> {
    let inputs = kernel.len() / (out * positions).max(1);
    let mut to = Vec::with_capacity(kernel.len());
    for o in 0..out {
        for i in 0..inputs {
            to.extend((0..positions).map(|p| kernel[(p * inputs + i) * out + o]));
        }
    }
    to
}

/// Every variable under `layers/`, by path.
fn variables(bytes: &[u8]) -> Result<BTreeMap<String, Dataset>> {
    let options = OpenOptions::default().with_max_read_bytes(MAX_BYTES);
    let file = Hdf5File::from_bytes_with_options(bytes, options).map_err(damaged)?;
    let end = file.superblock().eof_address;
    if end > bytes.len() as u64 {
        return Err(Error::Import(format!(
            "the HDF5 file is cut off: {end} bytes were written, {} are here",
            bytes.len()
        )));
    }
    let root = file.root_group().map_err(damaged)?;
    let mut found = BTreeMap::new();
    if root.member_names().map_err(damaged)?.0.iter().any(|name| name == LAYERS) {
        let mut budget = MAX_OBJECTS;
        walk(&root.group(LAYERS).map_err(damaged)?, LAYERS, MAX_DEPTH, &mut budget, &mut found)?;
    }
    if found.is_empty() {
        let reason = "it is an HDF5 file without layers/.../vars, so not one of Keras 3's; \
                      write one with model.save_weights(\"name.weights.h5\")";
        return Err(Error::Import(reason.into()));
    }
    Ok(found)
}

fn walk(
    group: &Group,
    path: &str,
    depth: usize,
    budget: &mut usize,
    found: &mut BTreeMap<String, Dataset>,
) -> Result<()> {
    let (groups, datasets) = group.members().map_err(damaged)?;
    *budget = budget
        .checked_sub(groups.len() + datasets.len())
        .filter(|_| depth > 0)
        .ok_or_else(|| Error::Import(format!("the group \"{path}\" holds too much, or is too deep, for GoogLeNet")))?;
    found.extend(datasets.into_iter().map(|d| (format!("{path}/{}", d.name()), d)));
    for inner in groups {
        walk(&inner, &format!("{path}/{}", inner.name()), depth - 1, budget, found)?;
    }
    Ok(())
}

/// Takes a variable of this shape out of the file.
fn take(variables: &mut BTreeMap<String, Dataset>, path: &str, expected: &[usize]) -> Result<Vec<f32>> {
    let Some(dataset) = variables.remove(path) else {
        return Err(Error::MissingTensor { name: path.to_owned(), expected: expected.into() });
    };
    let found = shape(&dataset);
    if found != expected {
        return Err(Error::TensorShape { name: path.to_owned(), expected: expected.into(), found: Dims(found) });
    }
    let Datatype::FloatingPoint { size, .. } = dataset.dtype() else {
        return Err(Error::TensorType { name: path.to_owned(), found: format!("{:?}", dataset.dtype()) });
    };
    let bytes = dataset.read_native_bytes().map_err(damaged)?;
    Ok(match size {
        2 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_ne_bytes(b).to_f32()).collect(),
        4 => bytes.as_chunks().0.iter().map(|&b| f32::from_ne_bytes(b)).collect(),
        8 => bytes.as_chunks().0.iter().map(|&b| f64::from_ne_bytes(b) as f32).collect(),
        _ => return Err(Error::TensorType { name: path.to_owned(), found: format!("a {size}-byte float") }),
    })
}

fn shape(dataset: &Dataset) -> Vec<usize> {
    dataset.shape().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect()
}

fn damaged(error: hdf5_reader::error::Error) -> Error {
    Error::Import(format!("the HDF5 file is damaged, or uses what the reader lacks: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_where_keras_puts_them() {
        for (layer, kernel) in [
            ("conv1/7x7_s2", "layers/conv2d/vars/0"),
            ("conv2/3x3", "layers/conv2d_1/vars/0"),
            ("inception_3a/1x1", "layers/inception/branch1/vars/0"),
            ("inception_3b/3x3_reduce", "layers/inception_1/branch2/layers/conv2d/vars/0"),
            ("inception_4a/3x3", "layers/inception_2/branch2/layers/conv2d_1/vars/0"),
            ("inception_5a/5x5_reduce", "layers/inception_7/branch3/layers/conv2d/vars/0"),
            ("inception_5b/5x5", "layers/inception_8/branch3/layers/conv2d_1/vars/0"),
            ("inception_5b/pool_proj", "layers/inception_8/branch4/layers/conv2d/vars/0"),
            ("loss1/conv", "layers/auxiliary_classifier/conv/vars/0"),
            ("loss2/fc", "layers/auxiliary_classifier_1/fc1/vars/0"),
            ("loss2/classifier", "layers/auxiliary_classifier_1/fc2/vars/0"),
            ("loss3/classifier", "layers/dense/vars/0"),
        ] {
            assert_eq!(paths(layer).0, kernel, "{layer}");
        }
        assert_eq!(paths("loss3/classifier").1, "layers/dense/vars/1");
    }

    #[test]
    fn kernels_are_reordered() {
        // h 1, w 2, in 2, out 3: the value is the index in Keras' order.
        let kernel: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(keras_dims(&[3, 2, 1, 2]), [1, 2, 2, 3]);
        assert_eq!(outputs_first(&kernel, 3, 2), [0., 6., 3., 9., 1., 7., 4., 10., 2., 8., 5., 11.]);
        assert_eq!(keras_dims(&[3, 4]), [4, 3]);
        assert_eq!(outputs_first(&kernel, 3, 1), [0., 3., 6., 9., 1., 4., 7., 10., 2., 5., 8., 11.]);
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let mut bytes = b"\x89HDF\r\n\x1a\n".to_vec();
        assert_eq!(read(&bytes).err().map(|e| e.code()), Some("import"));
        bytes.resize(4096, 0);
        assert_eq!(read(&bytes).err().map(|e| e.code()), Some("import"));
        bytes[8..].fill(0xff);
        assert_eq!(read(&bytes).err().map(|e| e.code()), Some("import"));
    }
}
