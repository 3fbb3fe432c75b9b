//! Reads Keras' weights from HDF5 into a list of layers. There are two layouts:
//!
//! - Keras 3 (`.weights.h5`, also inside `.keras`): a layer's variables are `<path>/vars/0` (kernel) and
//!   `<path>/vars/1` (bias), where the path consists of names of attributes and classes.
//! - TensorFlow 2 and tf-keras (`.h5`): the attribute `layer_names` lists groups, and the attribute `weight_names` of
//!   each group lists its variables, `<path>/kernel:0` and `<path>/bias:0`.

use super::source::MAX_ITEMS;
use crate::error::{Dims, Error, Result};
use hdf5_reader::group::Group;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

/// The largest depth of groups. GoogLeNet's file has five levels; the groups of a damaged file may form a cycle.
const MAX_DEPTH: usize = 12;
/// A layer may be at most this long, enough for any layer with 1000 classes in f64, plus [`MAX_RATIO`] times the file's
/// size.
const MAX_BYTES: usize = 1 << 24;
/// The largest compression ratio. Trained weights do not compress to a sixteenth.
const MAX_RATIO: usize = 16;

/// The largest object header of a group or dataset. Keras' have about a hundred bytes, or ten thousand with a list of
/// names.
const MAX_HEADER: usize = 1 << 20;

pub(super) fn recognises(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89HDF\r\n\x1a\n")
}

/// The contents of a file.
pub(super) struct Contents {
    /// The format, in words for people.
    pub format: &'static str,
    /// The layers in the order that the file lists, or sorted by path with numbers compared as numbers. This is the
    /// model's order if the names follow Keras' numbering.
    pub layers: Vec<Layer>,
}

/// One layer's variables.
pub(super) struct Layer {
    pub path: String,
    /// The kernel and the bias, each with its path.
    pub variables: Vec<(String, Dataset)>,
}

impl Layer {
    /// The dimensions of the kernel, HWIO or (in, out).
    pub fn dims(&self) -> Vec<usize> {
        self.variables.first().map(|(_, kernel)| dims(kernel)).unwrap_or_default()
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Contents> {
    // More than this is not allocated, whatever size a damaged file claims.
    let most = bytes.len().saturating_mul(MAX_RATIO).saturating_add(MAX_BYTES);
    let mut options = OpenOptions::default().with_max_read_bytes(most).with_max_chunk_bytes(most);
    // Every layer is read only once.
    options.chunk_cache_bytes = 0;
    options.max_object_header_bytes = MAX_HEADER;
    let file = Hdf5File::from_bytes_with_options(bytes, options).map_err(damaged)?;
    let end = file.superblock().eof_address;
    if end > bytes.len() as u64 {
        return Err(Error::Import(format!(
            "the HDF5 file is cut off: it should have {end} bytes, but has {}",
            bytes.len()
        )));
    }
    let root = file.root_group().map_err(damaged)?;
    let (groups, _) = root.member_names().map_err(damaged)?;
    // An .h5 file of a whole model has its weights in a group of the root.
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

/// The strings of the attribute of a group with this name. `None` where the group has no such attribute.
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>> {
    let attributes = group.attributes().map_err(damaged)?;
    let attribute = attributes.iter().find(|a| a.name == name);
    // NumPy writes an empty list as numbers.
    let strings = attribute.map(|a| if a.num_elements()? == 0 { Ok(Vec::new()) } else { a.read_strings() });
    strings.transpose().map_err(damaged)
}

/// All layers below the root, which are the groups that contain `vars`.
fn found(root: &Group) -> Result<Vec<Layer>> {
    let mut layers = Vec::new();
    let mut budget = MAX_ITEMS;
    walk(root, "", MAX_DEPTH, &mut budget, &mut layers)?;
    layers.sort_by_key(|layer| natural(&layer.path));
    Ok(layers)
}

/// Adds all layers below a group to `layers`. Fails where it is deeper than `depth`, or has more members than `budget`.
fn walk(group: &Group, path: &str, depth: usize, budget: &mut usize, layers: &mut Vec<Layer>) -> Result<()> {
    let (groups, datasets) = group.members().map_err(damaged)?;
    *budget = budget.checked_sub(groups.len() + datasets.len()).filter(|_| depth > 0).ok_or_else(|| {
        Error::Import(format!("the group \"{path}\" has too many members, or is too deep, for GoogLeNet"))
    })?;
    if let Some(layer) = path.strip_suffix("/vars")
        && !datasets.is_empty()
    {
        let mut variables: Vec<_> = datasets.into_iter().map(|d| (format!("{path}/{}", d.name()), d)).collect();
        variables.sort_by_key(|(name, _)| natural(name));
        layers.push(Layer { path: layer.to_owned(), variables });
    }
    // The states of dropout's random generator and of the optimizer are not weights.
    let weights = |name: &str| !matches!(name, "seed_generator" | "optimizer");
    for inner in groups.iter().filter(|inner| weights(inner.name())) {
        let inner_path = if path.is_empty() { inner.name().to_owned() } else { format!("{path}/{}", inner.name()) };
        walk(inner, &inner_path, depth - 1, budget, layers)?;
    }
    Ok(())
}

/// A sort key that compares numbers as numbers: `conv2d`, `conv2d_1`, `conv2d_9`, `conv2d_10`.
fn natural(path: &str) -> Vec<(String, u64)> {
    let part = |part: &str| {
        let text = part.trim_end_matches(|c: char| c.is_ascii_digit());
        (text.trim_end_matches('_').to_owned(), part[text.len()..].parse().unwrap_or(0))
    };
    path.split('/').map(part).collect()
}

/// The values of a variable, which must have this shape.
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
    Error::Import(format!("the HDF5 file is damaged, or uses a feature that is not supported: {error}"))
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
