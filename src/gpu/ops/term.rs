//! The terms of an objective: their values, and the gradients with which the backward pass begins.

use crate::gpu::kernel::{Access, EntryPoint, params};
use crate::gpu::shaders;
use crate::plan::Place;
use crate::plan::backward::{Target, TermKind};

/// The number of values that one workgroup of `term` computes.
const PER_GROUP: usize = 4096;

pub static TERM: EntryPoint = EntryPoint {
    name: "term",
    shader: &shaders::BACKWARD_TERM,
    bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Write), (3, Access::Write)],
    per_workgroup: PER_GROUP,
};
pub static CROSS_ENTROPY: EntryPoint = EntryPoint {
    name: "cross_entropy",
    shader: &shaders::BACKWARD_TERM,
    bindings: &[(0, Access::Params), (1, Access::Read), (2, Access::Write), (3, Access::Write), (4, Access::Read)],
    per_workgroup: 1,
};

params! {
    /// The `Params` of `backward/term.wgsl`.
    Params {
        count: u32,
        pixels: u32,
        channels: u32,
        y_offset: u32,
        y_stride: u32,
        to_offset: u32,
        to_stride: u32,
        add: u32,
        first: u32,
        kind: u32,
        channel: u32,
        weight: f32,
        smoothing: f32,
    }
}

impl Params {
    /// The parameters of a term of the output at `from`, whose value begins at index `first`.
    pub fn new(kind: &TermKind, from: Place, target: Target, first: usize) -> Self {
        let to = target.place;
        let (number, channel, weight, smoothing) = match *kind {
            TermKind::Channel { channel, weight } => (0, channel, weight, 0.0),
            TermKind::Sum { weight } => (1, 0, weight, 0.0),
            TermKind::HalfSquares { weight } => (2, 0, weight, 0.0),
            TermKind::CrossEntropy { weight, smoothing, .. } => (0, 0, weight, smoothing),
        };
        Params {
            count: from.shape.len() as u32,
            pixels: (from.shape.h * from.shape.w) as u32,
            channels: from.shape.c as u32,
            y_offset: from.offset as u32,
            y_stride: from.stride as u32,
            to_offset: to.offset as u32,
            to_stride: to.stride as u32,
            add: u32::from(target.add),
            first: first as u32,
            kind: number,
            channel: channel as u32,
            weight,
            smoothing,
        }
    }
}

/// The number of parts of a term's value.
pub fn parts(kind: &TermKind, place: Place) -> usize {
    match kind {
        TermKind::CrossEntropy { .. } => place.shape.pixels(),
        _ => place.shape.len().div_ceil(PER_GROUP),
    }
}
