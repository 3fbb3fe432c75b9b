//! What the importers of all formats have in common.

use super::layers::Tensors;
use crate::graph::googlenet::Variant;
use crate::model::preprocess::Preprocess;

/// The largest number of groups, nodes or layers in a file of any format. GoogLeNet has about 300.
pub const MAX_ITEMS: usize = 10_000;

/// What an importer has read from a file.
pub struct Source {
    pub format: &'static str,
    pub variant: Variant,
    /// Whether the variant is certain, because the file contains the network and not only its tensors.
    pub certain: bool,
    pub tensors: Tensors,
    /// Height and width of the network's input.
    pub size: usize,
    /// The usual preprocessing for networks of this format, if there is one.
    pub preprocess: Option<Preprocess>,
    /// The note about the assumed preprocessing. It does not apply if the options contain a mean.
    pub assumed: Option<&'static str>,
    /// The factor and offset that the file's network itself applies to each input channel first, if it does.
    pub affine: Option<[(f32, f32); 3]>,
    /// Notes about what was assumed, each as a sentence.
    pub notes: Vec<String>,
}

impl Source {
    pub fn new(format: &'static str, variant: Variant, tensors: Tensors) -> Self {
        Source {
            format,
            variant,
            certain: false,
            tensors,
            size: 224,
            preprocess: None,
            assumed: None,
            affine: None,
            notes: Vec::new(),
        }
    }
}
