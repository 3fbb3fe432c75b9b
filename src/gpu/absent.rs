//! Replaces the GPU engine in builds without the feature `gpu`. Its types have no values, so the compiler removes all
//! code that uses them.

use crate::error::{Error, Result};
use crate::graph::tensor::Tensor;
use crate::inspect::contact_sheet::Sheet;
use crate::inspect::statistics::Stats;
use crate::model::Model;
use crate::plan::{PendingRun, Place, Plan, Work};
#[cfg(feature = "train")]
use crate::plan::{
    backward::{BackwardPlan, Term},
    random::DropoutKey,
};

/// The GPU engine, which this build does not have.
pub enum Gpu {}

/// A prepared device, which this build does not have.
pub enum PreparedGpu {}

/// The counts of a GPU's work, which this build does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts;

/// A GPU's peak performance, which this build does not measure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak;

/// The sets of kernels, which this build does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelSet {}

/// A contact sheet that was drawn.
pub enum Drawn {
    /// RGBA pixels, row by row from the top.
    Rgba(Vec<u8>),
}

impl PreparedGpu {
    /// Always fails with [`Error::NoGpu`].
    pub async fn with(_half: bool, _: Option<KernelSet>) -> Result<Self> {
        Err(Error::NoGpu("this build has no GPU engine".into()))
    }
}

#[allow(clippy::unused_async, reason = "the GPU engine's interface")]
impl Gpu {
    pub async fn hardware(prepared: PreparedGpu, _: &Model) -> Result<Self> {
        match prepared {}
    }

    pub async fn load(prepared: PreparedGpu, _: &Model) -> Result<Self> {
        match prepared {}
    }

    pub fn adapter(&self) -> String {
        match *self {}
    }

    pub async fn tune(&mut self, _: &Plan) -> Result<()> {
        match *self {}
    }

    pub fn tuning(&self) -> String {
        match *self {}
    }

    pub fn set_tuning(&mut self, _: &str) -> Result<()> {
        match *self {}
    }

    pub fn set_candidate(&mut self, _: &Plan, _: usize) -> Result<usize> {
        match *self {}
    }

    pub async fn peak(&self) -> Result<Peak> {
        match *self {}
    }

    pub fn is_hardware(&self) -> bool {
        match *self {}
    }

    pub fn is_half(&self) -> bool {
        match *self {}
    }

    pub fn counts(&self) -> Counts {
        match *self {}
    }

    pub fn prepare(&mut self, _: &Plan) -> Result<()> {
        match *self {}
    }

    pub async fn ready(&mut self) -> Result<()> {
        match *self {}
    }

    pub async fn start(&mut self, _: Work<'_>, _: &[f32], _: bool) -> Result<PendingRun> {
        match *self {}
    }

    pub async fn read(&self, _: Place) -> Result<Tensor> {
        match *self {}
    }

    pub async fn draw(&self, _: Place, _: &Sheet, _: bool) -> Result<Drawn> {
        match *self {}
    }

    pub async fn stats(&self, _: Place, _: usize, _: Stats) -> Result<Vec<f32>> {
        match *self {}
    }
}

#[cfg(feature = "train")]
impl Gpu {
    pub fn prepare_backward(&mut self, _: &Plan, _: &BackwardPlan, _: &Model) -> Result<()> {
        match *self {}
    }

    pub async fn backward(&mut self, _: &[Term], _: &[f32], _: bool) -> Result<Vec<f64>> {
        match *self {}
    }

    pub fn set_dropout(&mut self, _: Option<DropoutKey>) -> Result<()> {
        match *self {}
    }

    pub async fn read_gradient(&self, _: Place) -> Result<Tensor> {
        match *self {}
    }

    pub async fn weight_gradient(&self, _: crate::graph::network::NodeId) -> Result<[Vec<f32>; 2]> {
        match *self {}
    }
}
