//! Keras' weights: assigns the layers of a file to the layers of this crate's network.
//!
//! The paths in a file consist of names of classes and attributes, which each author chooses. So layers are identified
//! by the shape of their kernel, and by their group: a group of six convolutions with the shapes of one row of the
//! paper's table is that inception module. No two rows have the same shapes.

use super::hdf5::{self, Layer};
use super::layers::{Flatten, Values, collect, outputs_first};
use super::source::Source;
use crate::error::{Dims, Error, Result};
use crate::graph::googlenet::{Row, Spec, TABLE, Variant};
use std::collections::BTreeMap;

/// The number of a module's six layers that must have the right shape for a group to be taken for the module.
const ENOUGH: usize = 4;

/// A layer to find: its name in this crate's network, and the dimensions of its kernel in Keras' order.
struct Wanted {
    name: String,
    dims: Vec<Dim>,
}

#[derive(Clone, Copy)]
enum Dim {
    Is(usize),
    /// Any size: the number of classes.
    Any,
}

impl Wanted {
    fn new(name: &str, dims: &[usize]) -> Self {
        Wanted { name: name.to_owned(), dims: dims.iter().map(|&d| Dim::Is(d)).collect() }
    }

    fn classifier(name: &str) -> Self {
        Wanted { name: name.to_owned(), dims: vec![Dim::Is(1024), Dim::Any] }
    }

    fn fits(&self, dims: &[usize]) -> bool {
        let same = |(want, &is): (&Dim, &usize)| matches!(want, Dim::Any) || matches!(want, Dim::Is(d) if *d == is);
        self.dims.len() == dims.len() && self.dims.iter().zip(dims).all(same)
    }
}

/// Reads the network, with the number of classes of its last layer, and with auxiliary heads if the file has them. If
/// there is a 1x1 convolution from 64 to 64 channels, it is conv2's reduction, and the variant is `keras_v2`.
pub(super) fn read(bytes: &[u8]) -> Result<Source> {
    let contents = hdf5::read(bytes)?;
    let mut search = Search::new(&contents.layers);
    let mut channels = 192;
    for row in &TABLE {
        search.module(row, channels);
        channels = row.out();
    }
    let heads = search.has(&[2048, 1024]);
    if heads {
        search.head("loss1", 512);
        search.head("loss2", 528);
    }
    let reduces = search.has(&[1, 1, 64, 64]);
    search.rest(reduces);

    let classes = search.found.get("loss3/classifier").and_then(|&i| search.dims[i].last().copied()).unwrap_or(1000);
    let variant = if reduces { Variant::KerasV2 } else { Variant::Keras };
    let spec = Spec { variant, classes, heads, ..Spec::default() };
    let tensors = collect(&spec.build()?, Flatten::Hwc, |name, dims| {
        let Some(&index) = search.found.get(name) else {
            return Err(Error::MissingTensor { name: name.to_owned(), expected: Dims(keras_dims(dims)) });
        };
        let layer = &contents.layers[index];
        let [kernel, bias] = &layer.variables[..] else {
            let reason = format!("it has {} variables in the file, not a kernel and a bias", layer.variables.len());
            return Err(Error::Shape { layer: layer.path.clone(), reason });
        };
        let (out, positions) = (dims[0], dims[2..].iter().product());
        let kernel = hdf5::values(kernel, &keras_dims(dims))?;
        Ok(Values { weight: outputs_first(&kernel, out, positions), bias: hdf5::values(bias, &dims[..1])? })
    })?;
    if let Some((index, layer)) = contents.layers.iter().enumerate().find(|(i, _)| !search.used[*i]) {
        return Err(Error::ExtraTensor {
            name: layer.path.clone(),
            found: Dims(search.dims[index].clone()),
            variant: variant.to_string(),
        });
    }
    let notes = search.notes;
    Ok(Source { notes, ..Source::new(contents.format, variant, tensors) })
}

/// Reorders dimensions from OIHW to HWIO, or from (out, in) to (in, out).
fn keras_dims(dims: &[usize]) -> Vec<usize> {
    match *dims {
        [o, i, h, w] => vec![h, w, i, o],
        _ => dims.iter().rev().copied().collect(),
    }
}

/// The file's layers, and which of them have been assigned.
struct Search<'a> {
    layers: &'a [Layer],
    /// The dimensions of each layer's kernel.
    dims: Vec<Vec<usize>>,
    /// The indices of the layers below each path.
    groups: BTreeMap<&'a str, Vec<usize>>,
    /// Whether each layer has been assigned.
    used: Vec<bool>,
    /// The index of the layer that is assigned to each name of this crate's network.
    found: BTreeMap<String, usize>,
    notes: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(layers: &'a [Layer]) -> Self {
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, layer) in layers.iter().enumerate() {
            let ends = layer.path.match_indices('/').map(|(end, _)| end);
            for end in ends {
                groups.entry(&layer.path[..end]).or_default().push(index);
            }
        }
        // A larger group is the whole model, not one of its modules.
        groups.retain(|_, inside| inside.len() <= 12);
        Search {
            layers,
            dims: layers.iter().map(Layer::dims).collect(),
            groups,
            used: vec![false; layers.len()],
            found: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Whether an unused layer has this shape.
    fn has(&self, dims: &[usize]) -> bool {
        (0..self.layers.len()).any(|i| !self.used[i] && self.dims[i] == dims)
    }

    /// Assigns the layers of an inception module with this number of input channels, if there is a group that fits.
    fn module(&mut self, row: &Row, channels: usize) {
        let module = row.module();
        let wanted = |part: &str, k: usize, i: usize, o: usize| Wanted::new(&format!("{module}/{part}"), &[k, k, i, o]);
        let parts = [
            wanted("1x1", 1, channels, row.conv1x1),
            wanted("3x3_reduce", 1, channels, row.reduce3x3),
            wanted("3x3", 3, row.reduce3x3, row.conv3x3),
            wanted("5x5_reduce", 1, channels, row.reduce5x5),
            wanted("5x5", 5, row.reduce5x5, row.conv5x5),
            wanted("pool_proj", 1, channels, row.pool_proj),
        ];
        let Some(inside) = self.best_group(&parts, ENOUGH) else { return };
        self.assign(&parts, inside);
        if row.conv1x1 == row.reduce3x3 {
            self.tell_apart(&module);
        }
    }

    /// Assigns the layers of an auxiliary head with this number of input channels, if there is a group that fits.
    fn head(&mut self, head: &str, channels: usize) {
        let name = |part: &str| format!("{head}/{part}");
        let parts = [
            Wanted::new(&name("conv"), &[1, 1, channels, 128]),
            Wanted::new(&name("fc"), &[2048, 1024]),
            Wanted::classifier(&name("classifier")),
        ];
        if let Some(inside) = self.best_group(&parts, 2) {
            self.assign(&parts, inside);
        }
    }

    /// Assigns the layers that are in no module and no auxiliary head.
    fn rest(&mut self, reduces: bool) {
        let mut parts = vec![
            Wanted::new("conv1/7x7_s2", &[7, 7, 3, 64]),
            Wanted::new("conv2/3x3", &[3, 3, 64, 192]),
            Wanted::classifier("loss3/classifier"),
        ];
        if reduces {
            parts.push(Wanted::new("conv2/3x3_reduce", &[1, 1, 64, 64]));
        }
        self.assign(&parts, (0..self.layers.len()).collect());
    }

    /// The group of unused layers in which most parts are found, at least `enough` of them. Of several, the smallest
    /// group.
    fn best_group(&self, parts: &[Wanted], enough: usize) -> Option<Vec<usize>> {
        let score = |inside: &Vec<usize>| {
            let mut left: Vec<usize> = inside.clone();
            let fits = parts.iter().filter(|part| {
                let at = left.iter().position(|&i| part.fits(&self.dims[i]));
                at.map(|at| left.swap_remove(at)).is_some()
            });
            let fits = fits.count();
            (fits >= enough).then_some((fits, std::cmp::Reverse(inside.len())))
        };
        let unused = self.groups.values().filter(|inside| inside.iter().all(|&i| !self.used[i]));
        let scored = unused.filter_map(|inside| Some((score(inside)?, inside)));
        scored.max_by_key(|(score, _)| *score).map(|(_, inside)| inside.clone())
    }

    /// Assigns to each part the first unused layer of its shape. A part without such a layer gets the first remaining
    /// layer with the same number of dimensions, so that reading it fails with an error that names the wrong shape.
    fn assign(&mut self, parts: &[Wanted], inside: Vec<usize>) {
        for exact in [true, false] {
            for part in parts.iter().filter(|part| !self.found.contains_key(&part.name)).collect::<Vec<_>>() {
                let fits = |dims: &[usize]| if exact { part.fits(dims) } else { part.dims.len() == dims.len() };
                let free = inside.iter().copied().find(|&i| !self.used[i] && fits(&self.dims[i]));
                if let Some(index) = free {
                    self.used[index] = true;
                    self.found.insert(part.name.clone(), index);
                }
            }
        }
    }

    /// Distinguishes the 1x1 convolution and the reduction before the 3x3, which have the same shape in two modules.
    /// The reduction is the one in the same group as the 3x3; otherwise the one with "reduc" in its name; otherwise the
    /// second.
    fn tell_apart(&mut self, module: &str) {
        let names = ["1x1", "3x3_reduce", "3x3"].map(|part| format!("{module}/{part}"));
        let [Some(a), Some(b), Some(wide)] = names.each_ref().map(|name| self.found.get(name).copied()) else { return };
        let path = |i: usize| self.layers[i].path.as_str();
        let parent = |i: usize| path(i).rsplit_once('/').map(|(parent, _)| parent);
        let beside = |i| parent(i) == parent(wide);
        let says = |i| path(i).to_ascii_lowercase().contains("reduc");
        let first_reduces = match (beside(a), beside(b)) {
            (false, true) => false,
            (true, false) => true,
            _ if says(a) != says(b) => says(a),
            _ => {
                let (a, b) = (path(a), path(b));
                self.notes
                    .push(format!("\"{a}\" and \"{b}\" have the same shape; the first is assumed to be {}", names[0]));
                false
            }
        };
        if first_reduces {
            self.found.extend(names.into_iter().zip([b, a]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A search in layers that have these kernel dimensions and no values.
    fn search(layers: &[Layer], dims: Vec<Vec<usize>>) -> Search<'_> {
        Search { dims, ..Search::new(layers) }
    }

    fn layer(path: &str) -> Layer {
        Layer { path: path.to_owned(), variables: Vec::new() }
    }

    #[test]
    fn a_module_is_found_under_any_names() {
        let paths = ["m/a/x", "m/b/p/one", "m/b/p/three", "m/c/p", "m/c/q", "m/d/p", "other/p", "other/q"];
        let layers = paths.map(layer);
        let dims = [
            [1, 1, 512, 128],
            [1, 1, 512, 128],
            [3, 3, 128, 256],
            [1, 1, 512, 24],
            [5, 5, 24, 64],
            [1, 1, 512, 64],
            [1, 1, 512, 24],
            [5, 5, 24, 64],
        ];
        let mut search = search(&layers, dims.map(Vec::from).into());
        let row = TABLE.iter().find(|row| row.name == "4c").unwrap();
        search.module(row, 512);
        let found = |name: &str| search.found.get(&format!("inception_4c/{name}")).copied();
        let order = ["1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj"].map(found);
        assert_eq!(order, [0, 1, 2, 3, 4, 5].map(Some));
        assert!(search.notes.is_empty(), "the reduction is beside the 3x3");
    }

    #[test]
    fn a_reduction_that_comes_first_is_found_by_its_name() {
        let layers = ["m/a_reduced", "m/b_plain", "m/c", "m/d", "m/e", "m/f"].map(layer);
        let dims =
            [[1, 1, 512, 128], [1, 1, 512, 128], [3, 3, 128, 256], [1, 1, 512, 24], [5, 5, 24, 64], [1, 1, 512, 64]];
        let mut search = search(&layers, dims.map(Vec::from).into());
        search.module(TABLE.iter().find(|row| row.name == "4c").unwrap(), 512);
        assert_eq!(search.found["inception_4c/3x3_reduce"], 0);
        assert_eq!(search.found["inception_4c/1x1"], 1);
    }

    #[test]
    fn dimensions_are_reordered() {
        assert_eq!(keras_dims(&[3, 2, 1, 4]), [1, 4, 2, 3]);
        assert_eq!(keras_dims(&[3, 4]), [4, 3]);
    }
}
