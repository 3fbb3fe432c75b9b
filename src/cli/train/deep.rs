//! Depths below the classifier: layers of the network are trained, too.

use super::args::{Args, Depth};
use super::data::Data;
use super::output::Target;
use crate::cli::common;

pub fn run(
    _args: &Args,
    depth: Depth,
    _data: &Data,
    _model: &Target,
    _json: Option<&Target>,
    _plot: Option<&Target>,
) -> common::Result {
    Err(format!("depth {depth} needs gradients, which this build does not have yet").into())
}
