//! The two ways in which Keras keeps weights in HDF5, read into one list of layers.
//!
//! Keras 3 (`.weights.h5`, and inside `.keras`): a layer's variables are `<path>/vars/0` (kernel) and `/1`
//! (bias), where the path is made of attribute and class names. TensorFlow 2 and tf-keras (`.h5`): the attribute
//! `layer_names` lists groups, and each one's `weight_names` its variables, `<path>/kernel:0` and `/bias:0`.

use super::MAX_ITEMS;
use crate::error::{Dims, Error, Result};
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

/// GoogLeNet's file is five levels deep; a damaged one may lead in circles.
const MAX_DEPTH: usize = 12;
/// What any layer of a thousand classes fits into, in doubles.
const MAX_BYTES: usize = 1 << 24;
/// How many times the file's size a layer may be besides: random numbers do not deflate to a sixteenth.
const MAX_RATIO: usize = 16;

/// What describes a group or a dataset; Keras' are some hundred bytes, and a list of all names some ten thousand.
const MAX_HEADER: usize = 1 << 20;

pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// What a file holds.
pub(super) struct Contents {
    pub format: &'static str,
    /// In the order of the model as far as the file tells it: paths sorted with numbers as numbers, or the
    /// order of the names that the file lists.
    pub layers: Vec<Layer>,
}

/// One layer's variables.
pub(super) struct Layer {
    pub path: String,
    /// Kernel and bias, each with its path.
    pub variables: Vec<(String, Dataset)>,
}

impl Layer {
    /// Dimensions of the kernel.
    pub fn dims(&self) -> Vec<usize> {
        self.variables.first().map(|(_, kernel)| dims(kernel)).unwrap_or_default()
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Contents> {
    // What a damaged file claims beyond this is not allocated.
    let most = bytes.len().saturating_mul(MAX_RATIO).saturating_add(MAX_BYTES);
    let mut options = OpenOptions::default().with_max_read_bytes(most).with_max_chunk_bytes(most);
    // Every layer is read once.
    options.chunk_cache_bytes = 0;
    options.max_object_header_bytes = MAX_HEADER;
    let file = Hdf5File::from_bytes_with_options(bytes, options).map_err(damaged)?;
    let end = file.superblock().eof_address;
    if end > bytes.len() as u64 {
        return Err(Error::Import(format!(
            "the HDF5 file is cut off: {end} bytes were written, {} are here",
            bytes.len()
        )));
    }
    let root = file.root_group().map_err(damaged)?;
    let (groups, _) = root.member_names().map_err(damaged)?;
    // A whole model as .h5 keeps its weights one level down.
    let weights = groups.iter().find(|name| *name == "model_weights").map(|name| root.group(name));
    let weights = weights.transpose().map_err(damaged)?.unwrap_or(root);
    let contents = match strings(&weights, "layer_names")? {
        Some(names) => Contents { format: "Keras weights (TensorFlow 2)", layers: listed(&weights, &names)? },
        None => Contents { format: "Keras 3 weights", layers: found(&weights)? },
    };
    if contents.layers.is_empty() {
        let reason = "it is an HDF5 file without Keras' variables; \
                      write one with model.save_weights(\"name.weights.h5\")";
        return Err(Error::Import(reason.into()));
    }
    Ok(contents)
}

/// The layers that the file lists by name.
fn listed(root: &Group, names: &[String]) -> Result<Vec<Layer>> {
    let mut layers: Vec<Layer> = Vec::new();
    for name in names {
        let group = root.group(name).map_err(damaged)?;
        for weight in strings(&group, "weight_names")?.unwrap_or_default() {
            let (path, last) = weight.rsplit_once('/').unwrap_or(("", &weight));
            if path.matches('/').count() > MAX_DEPTH {
                return Err(Error::Import(format!("its variable \"{weight}\" is too deep for GoogLeNet")));
            }
            let mut at = root.group(name).map_err(damaged)?;
            for part in path.split('/').filter(|part| !part.is_empty()) {
                at = at.group(part).map_err(damaged)?;
            }
            let variable = (format!("{name}/{weight}"), at.dataset(last).map_err(damaged)?);
            let path = format!("{name}/{path}");
            match layers.last_mut() {
                Some(layer) if layer.path == path => layer.variables.push(variable),
                _ => layers.push(Layer { path, variables: vec![variable] }),
            }
            if layers.len() > MAX_ITEMS {
                return Err(Error::Import("it lists far more layers than GoogLeNet has".into()));
            }
        }
    }
    Ok(layers)
}

/// A list of strings beside a group, where it has one of this name.
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>> {
    let attributes = group.attributes().map_err(damaged)?;
    let attribute = attributes.iter().find(|a| a.name == name);
    // NumPy writes an empty list as numbers.
    let strings = attribute.map(|a| if a.num_elements()? == 0 { Ok(Vec::new()) } else { a.read_strings() });
    strings.transpose().map_err(damaged)
}

/// Every layer below the root that has `vars`.
fn found(root: &Group) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut budget = MAX_ITEMS;
    walk(root, "", MAX_DEPTH, &mut budget, &mut layers)?;
    layers.sort_by_key(|layer| natural(&layer.path));
    Ok(layers)
}

fn walk(group: &Group, path: &str, depth: usize, budget: &mut usize, layers: &mut Vec<Layer>) -> Result<()> {
    let (groups, datasets) = group.members().map_err(damaged)?;
    *budget = budget
        .checked_sub(groups.len() + datasets.len())
        .filter(|_| depth > 0)
        .ok_or_else(|| Error::Import(format!("the group \"{path}\" holds too much, or is too deep, for GoogLeNet")))?;
    if let Some(layer) = path.strip_suffix("/vars")
        && !datasets.is_empty()
    {
        let mut variables: Vec<_> = datasets.into_iter().map(|d| (format!("{path}/{}", d.name()), d)).collect();
        variables.sort_by_key(|(name, _)| natural(name));
        layers.push(Layer { path: layer.to_owned(), variables });
    }
    // Dropout's random state and the optimizer's are no weights.
    let weights = |name: &str| !matches!(name, "seed_generator" | "optimizer");
    for inner in groups.iter().filter(|inner| weights(inner.name())) {
        let inner_path = if path.is_empty() { inner.name().to_owned() } else { format!("{path}/{}", inner.name()) };
        walk(inner, &inner_path, depth - 1, budget, layers)?;
    }
    Ok(())
}

/// Orders `conv2d_10` after `conv2d_9`, and `conv2d` before `conv2d_1`.
fn natural(path: &str) -> Vec<(String, u64)> {
    let part = |part: &str| {
        let text = part.trim_end_matches(|c: char| c.is_ascii_digit());
        (text.trim_end_matches('_').to_owned(), part[text.len()..].parse().unwrap_or(0))
    };
    path.split('/').map(part).collect()
}

/// A variable's values, where it has this shape.
pub(super) fn values((path, dataset): &(String, Dataset), expected: &[usize]) -> Result<Vec<f32>> {
    let found = dims(dataset);
    if found != expected {
        return Err(Error::TensorShape { name: path.clone(), expected: expected.into(), found: Dims(found) });
    }
    let Datatype::FloatingPoint { size, .. } = dataset.dtype() else {
        return Err(Error::TensorType { name: path.clone(), found: format!("{:?}", dataset.dtype()) });
    };
    let bytes = dataset.read_native_bytes().map_err(damaged)?;
    Ok(match size {
        2 => bytes.as_chunks().0.iter().map(|&b| half::f16::from_ne_bytes(b).to_f32()).collect(),
        4 => bytes.as_chunks().0.iter().map(|&b| f32::from_ne_bytes(b)).collect(),
        8 => bytes.as_chunks().0.iter().map(|&b| f64::from_ne_bytes(b) as f32).collect(),
        _ => return Err(Error::TensorType { name: path.clone(), found: format!("a {size}-byte float") }),
    })
}

fn dims(dataset: &Dataset) -> Vec<usize> {
    dataset.shape().iter().map(|&d| usize::try_from(d).unwrap_or(usize::MAX)).collect()
}

fn damaged(error: hdf5_reader::error::Error) -> Error {
    Error::Import(format!("the HDF5 file is damaged, or uses what the reader lacks: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_sorted_as_numbers() {
        let mut paths = ["layers/inception_10", "layers/inception_9", "layers/inception/b", "layers/conv2d_1"];
        paths.sort_by_key(|path| natural(path));
        assert_eq!(paths, ["layers/conv2d_1", "layers/inception/b", "layers/inception_9", "layers/inception_10"]);
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
