//! Replaces the CPU engine in builds without the feature `cpu`. Its types have no values, so the compiler removes all
//! code that uses them.

use crate::error::{Error, Result};
use crate::graph::network::NodeId;
use crate::graph::tensor::Tensor;
use crate::inspect::contact_sheet::Sheet;
use crate::inspect::statistics::Stats;
use crate::model::Model;
use crate::plan::{Algorithm, Output, Place, Plan, Work};
#[cfg(feature = "train")]
use crate::plan::{
    backward::{BackwardPlan, Term},
    optimiser::{Kept, Step},
    random::DropoutKey,
};
use threads::ThreadPool;

/// The CPU engine, which this build does not have.
pub enum Cpu {}

impl Cpu {
    /// Always fails with [`Error::Argument`].
    pub fn new(_: &Model, _: ThreadPool) -> Result<Self> {
        Err(Error::Argument("this build has no CPU engine".into()))
    }

    pub fn adapter(&self) -> String {
        match *self {}
    }

    pub fn threads(&self) -> usize {
        match *self {}
    }

    pub fn set_pool(&mut self, _: ThreadPool) {
        match *self {}
    }

    pub fn algorithm(&self, _: NodeId) -> Algorithm {
        match *self {}
    }

    pub fn prepare(&mut self, _: &Plan) -> Result<()> {
        match *self {}
    }

    pub fn run(&mut self, _: Work<'_>, _: &[f32], _: bool) -> Result<Output> {
        match *self {}
    }

    pub fn read(&self, _: Place) -> Result<Tensor> {
        match *self {}
    }

    pub fn draw(&self, _: Place, _: &Sheet) -> Result<Vec<u8>> {
        match *self {}
    }

    pub fn stats(&self, _: Place, _: usize, _: Stats) -> Result<Vec<f32>> {
        match *self {}
    }
}

/// The thread pool, which this build does not need.
pub mod threads {
    use std::num::NonZeroUsize;

    pub struct ThreadPool;

    impl ThreadPool {
        pub fn new(_: usize) -> Self {
            ThreadPool
        }

        pub fn of(_: Option<NonZeroUsize>) -> Self {
            ThreadPool
        }
    }
}

#[cfg(feature = "train")]
impl Cpu {
    pub fn keep_parameters(&mut self, _: &Model) -> Result<()> {
        match *self {}
    }

    pub fn set_dropout(&mut self, _: Option<DropoutKey>) {
        match *self {}
    }

    pub fn prepare_backward(&mut self, _: &BackwardPlan) -> Result<()> {
        match *self {}
    }

    pub fn backward(&mut self, _: &[Term], _: &[f32], _: bool) -> Result<Vec<f64>> {
        match *self {}
    }

    pub fn read_gradient(&self, _: Place) -> Result<Tensor> {
        match *self {}
    }

    pub fn weight_gradient(&self, _: NodeId) -> Option<[Vec<f32>; 2]> {
        match *self {}
    }

    pub fn gradient_squares(&mut self) -> Result<f64> {
        match *self {}
    }

    pub fn update(&mut self, _: &Step, _: &Step, _: Option<f64>) -> Result<()> {
        match *self {}
    }

    pub fn kept(&self, _: NodeId, _: Kept) -> Option<[Vec<f32>; 2]> {
        match *self {}
    }

    pub fn set_kept(&mut self, _: NodeId, _: Kept, _: [&[f32]; 2]) {
        match *self {}
    }

    pub fn repack(&mut self) {
        match *self {}
    }

    pub fn swap_averages(&mut self) {
        match *self {}
    }
}
