//! The gradients of a convolution. The input's gradient of a convolution with stride 1 is a convolution with transposed
//! and flipped filters. The weights' gradient is a product over pixels.

#![allow(unsafe_code, reason = "tasks write their own part of one buffer")]
#![deny(unsafe_op_in_unsafe_fn)]

use super::{Conv, ConvCall, copy_padded_lines, line_length};
use crate::cpu::gemm::{CHAIN, Epilogue, Packed, Rows};
use crate::cpu::gradient::{Extents, Gradient, GradientCall, Job, Part};
use crate::cpu::kernel::Kernel;
use crate::cpu::ops::activation;
use crate::cpu::outer::{self, Pixels};
use crate::cpu::schedule::{self, Extent};
use crate::cpu::simd::Isa;
use crate::cpu::view::{Out, RowsMut, View};
use crate::cpu::winograd::gradient::{self as winograd, Sources};
use crate::graph::op::{Activation, Geometry, Window};
use crate::graph::tensor::Shape;
use crate::plan::winograd::Tiling;

/// The gradients of one convolution.
pub struct ConvGradient {
    isa: Isa,
    window: Window,
    relu: bool,
    /// The number of output channels.
    outputs: usize,
    /// How the input's gradient is computed; `None` where it is never needed.
    input: Option<InputGradient>,
    /// The transposed and flipped filters, from which `input` is made.
    transposed: Vec<f32>,
}

enum InputGradient {
    /// For stride 1: a convolution of the output's gradient.
    Convolution(Conv),
    /// For any stride: the products of a line of the output's gradient with one row of the filters, (output channels,
    /// kernel width * input channels), are added to the lines of the input that the row of the filters reads.
    Rows(Vec<Packed>),
}

/// The number of rows of the weights' gradient in a piece of work: a multiple of the height of every register tile.
const STRIP: usize = 24;

impl ConvGradient {
    /// The gradients of a convolution between these shapes, with weights of zero until [`Gradient::update`]. `input` says
    /// whether the input's gradient is needed.
    pub fn new(isa: Isa, window: Window, activation: Activation, [x, y]: [Shape; 2], input: bool) -> Self {
        let [height, width] = window.kernel;
        let input = input.then(|| {
            if window.stride == [1, 1] {
                InputGradient::Convolution(Conv::zeros(isa, window, y, x))
            } else {
                InputGradient::Rows((0..height).map(|_| Packed::zeros(isa, y.c, width * x.c)).collect())
            }
        });
        let transposed = if input.is_some() { vec![0.0; height * width * x.c * y.c] } else { Vec::new() };
        ConvGradient { isa, window, relu: activation == Activation::Relu, outputs: y.c, input, transposed }
    }

    /// Whether the rows of A in the weights' gradient are the pixels of the input as they are.
    fn pointwise(&self, x: Shape, y: Shape) -> bool {
        self.window.kernel == [1, 1] && self.window.stride == [1, 1] && (x.h, x.w) == (y.h, y.w)
    }

    /// How the weights' gradient is computed by the Winograd algorithm; `None` where it is the direct sum.
    fn tiling(&self, x: Shape) -> Option<Tiling> {
        let [height, width] = self.window.kernel;
        if height == width && self.window.stride == [1, 1] && x.c >= 4 { winograd::tiling(height) } else { None }
    }

    /// The number of output lines whose windows are copied at a time.
    fn lines(y: Shape) -> usize {
        (outer::BLOCK / y.w).clamp(1, y.h)
    }

    /// The number of floats of a padded copy of the lines that these output lines read.
    fn padded(g: &Geometry, channels: usize, lines: usize) -> usize {
        ((lines - 1) * g.stride[0] + g.kernel[0]) * line_length(g, channels)
    }

    /// # Safety
    /// The same as for [`Gradient::run`].
    unsafe fn weights(&self, call: GradientCall<'_>, g: &Geometry) {
        let Some(weights) = call.weights else { return };
        // SAFETY: guaranteed by the caller.
        let (x, dy) = unsafe { (call.inputs.view(0), call.dy()) };
        let (c, segments) = (weights.weights.pointer(), g.kernel[0]);
        if let Some(tiling) = self.tiling(x.shape) {
            let Part { pieces, .. } = call.part;
            let channels = pieces.start * STRIP..(pieces.end * STRIP).min(x.shape.c);
            let sources = Sources { tiling, x, pad: g.pad, dy };
            // SAFETY: guaranteed by the caller.
            return unsafe { winograd::run(self.isa, sources, channels, c, call.fresh, call.scratch) };
        }
        let rows = g.kernel[1] * x.shape.c;
        // Pieces are strips of rows, counted over the segments.
        let strips = rows.div_ceil(STRIP);
        let row = |piece: usize| piece / strips * rows + (piece % strips * STRIP).min(rows);
        let rows_of = row(call.part.pieces.start)..row(call.part.pieces.end);
        let mut fresh = call.fresh;
        if self.pointwise(x.shape, dy.shape) {
            let all = x.shape.pixels();
            for first in (0..all).step_by(outer::BLOCK) {
                let pixels = Pixels {
                    a: &x.data[first * x.stride..],
                    lines: 1,
                    width: outer::BLOCK.min(all - first),
                    line_step: 0,
                    step: x.stride,
                    segments,
                    pitch: 0,
                    rows,
                    b: dy,
                    first,
                };
                // SAFETY: guaranteed by the caller.
                unsafe { outer::outer(self.isa, &pixels, rows_of.clone(), c, fresh, call.scratch) };
                fresh = false;
            }
            return;
        }
        let Shape { n, h, w, .. } = dy.shape;
        let (lines, pitch) = (Self::lines(dy.shape), line_length(g, x.shape.c));
        let (padded, room) = call.scratch.split_at_mut(Self::padded(g, x.shape.c, lines));
        for n in 0..n {
            for y in (0..h).step_by(lines) {
                let lines = lines.min(h - y);
                let padded = &mut padded[..Self::padded(g, x.shape.c, lines)];
                copy_padded_lines(x, g, n, y, padded);
                let pixels = Pixels {
                    a: padded,
                    lines,
                    width: w,
                    line_step: g.stride[0] * pitch,
                    step: g.stride[1] * x.shape.c,
                    segments,
                    pitch,
                    rows,
                    b: dy,
                    first: (n * h + y) * w,
                };
                // SAFETY: guaranteed by the caller.
                unsafe { outer::outer(self.isa, &pixels, rows_of.clone(), c, fresh, room) };
                fresh = false;
            }
        }
    }
}

/// The geometry of the convolution that computes the input's gradient, for stride 1.
fn transposed(g: &Geometry, x: Shape) -> Geometry {
    let pad = [0, 1].map(|axis| g.kernel[axis] - 1 - g.pad[axis]);
    Geometry { kernel: g.kernel, stride: [1, 1], pad, pad_end: [0, 0], out: [x.h, x.w] }
}

impl Gradient for ConvGradient {
    fn parts(&self, extents: &Extents<'_>) -> Vec<Part> {
        let Extents { x, y, threads, .. } = *extents;
        let [height, width] = self.window.kernel;
        let mut parts = Vec::new();
        if self.relu || extents.weights {
            parts.extend(activation::parts(extents));
        }
        let cost = (y.pixels() * height * width * x.c * y.c) as u64;
        if extents.weights {
            let shares = if cost < schedule::MIN_SHARED_COST { 1 } else { extents.threads * 2 };
            let shares = if threads == 1 { 1 } else { shares };
            parts.extend(match self.tiling(x) {
                // Each part transforms the output's gradient again.
                Some(_) => Part::divide(Job::Weights, x.c.div_ceil(STRIP), shares.min(threads)),
                None => Part::divide(Job::Weights, height * (width * x.c).div_ceil(STRIP), shares),
            });
        }
        match &self.input {
            Some(InputGradient::Convolution(conv)) if extents.input => {
                let extent = Extent { cost, ..conv.extent(x, &[]) };
                let tasks = schedule::cut(0, &extent, threads).into_iter();
                parts.extend(tasks.map(|task| Part { job: Job::Input, pieces: task.pieces, panels: task.panels }));
            }
            Some(InputGradient::Rows(_)) if extents.input => {
                parts.extend(Part::divide(Job::Input, x.n * x.h, if threads == 1 { 1 } else { 2 * threads }));
            }
            _ => {}
        }
        parts
    }

    fn scratch(&self, extents: &Extents<'_>, part: &Part) -> usize {
        let Extents { x, y, geometry: Some(g), .. } = *extents else { return 0 };
        match (part.job, &self.input) {
            (Job::Activation, _) => activation::scratch(extents),
            (Job::Weights, _) if let Some(tiling) = self.tiling(x) => {
                winograd::scratch(self.isa, tiling, y, part.pieces.len() * STRIP)
            }
            (Job::Weights, _) if self.pointwise(x, y) => outer::scratch(self.isa, outer::BLOCK),
            (Job::Weights, _) => {
                let lines = Self::lines(y);
                Self::padded(g, x.c, lines) + outer::scratch(self.isa, lines * y.w)
            }
            (Job::Input, Some(InputGradient::Convolution(conv))) => {
                conv.scratch(Some(&transposed(g, x)), y, x, part.pieces.len())
            }
            (Job::Input, _) => line_length(g, x.c).max((g.pad[1] + x.w) * x.c) + y.w * g.kernel[1] * x.c,
        }
    }

    fn update(&mut self, weights: &[f32]) {
        let [height, width] = self.window.kernel;
        let Some(input) = &mut self.input else { return };
        let matrix = weights.len() / (height * width);
        match input {
            InputGradient::Convolution(conv) => {
                // Filter (y, x) becomes filter (height - 1 - y, width - 1 - x), with its matrix transposed.
                let flipped = self.transposed.chunks_exact_mut(matrix).rev();
                for (from, to) in weights.chunks_exact(matrix).zip(flipped) {
                    transpose(from, self.outputs, to);
                }
                conv.set(&self.transposed, &[]);
            }
            InputGradient::Rows(rows) => {
                let (outputs, across) = (self.outputs, weights.len() / (self.outputs * height));
                // The weights of a row of the filters are (width * input channels, output channels).
                for (packed, from) in rows.iter_mut().zip(weights.chunks_exact(outputs * across)) {
                    let to = &mut self.transposed[..outputs * across];
                    transpose(from, outputs, to);
                    packed.update(to, &[]);
                }
            }
        }
    }

    unsafe fn run(&self, call: GradientCall<'_>) {
        let Some(g) = call.geometry else { return };
        // SAFETY: guaranteed by the caller.
        unsafe {
            match call.part.job {
                Job::Activation => activation::run(self.isa, self.relu, call),
                Job::Weights => self.weights(call, g),
                Job::Input => {
                    let (Some(input), Some((out, add))) = (&self.input, call.dx(0)) else { return };
                    let (x, Part { pieces, panels, .. }) = (call.dy(), call.part.clone());
                    match input {
                        InputGradient::Convolution(conv) => {
                            let epilogue = Epilogue { relu: false, add };
                            let geometry = &transposed(g, out.shape);
                            let scratch = call.scratch;
                            conv.compute(ConvCall { x, out, geometry, pieces, panels, epilogue, scratch });
                        }
                        InputGradient::Rows(rows) => {
                            for line in pieces {
                                input_line(rows, g, x, out, line, add, call.scratch);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Transposes a matrix with rows of `columns` values, in squares that fit into the first-level cache.
fn transpose(from: &[f32], columns: usize, to: &mut [f32]) {
    const SIDE: usize = 16;
    let rows = from.len() / columns;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for column in left..(left + SIDE).min(columns) {
                for row in top..(top + SIDE).min(rows) {
                    to[column * rows + row] = from[row * columns + column];
                }
            }
        }
    }
}

/// Computes a line of the input's gradient: the sum over the rows of the filters that read the line.
///
/// # Safety
/// No other thread may access the line.
unsafe fn input_line(
    rows: &[Packed],
    g: &Geometry,
    dy: View<'_>,
    dx: Out<'_>,
    line: usize,
    add: bool,
    scratch: &mut [f32],
) {
    let Shape { h, w, c, .. } = dx.shape;
    let (n, y) = (line / h, line % h);
    let across = g.kernel[1] * c;
    let padded = line_length(g, c).max((g.pad[1] + w) * c);
    let (sums, products) = scratch.split_at_mut(padded);
    let products = &mut products[..dy.shape.w * across];
    sums.fill(0.0);
    for (ky, packed) in rows.iter().enumerate() {
        let Some(top) = (y + g.pad[0]).checked_sub(ky).filter(|top| top.is_multiple_of(g.stride[0])) else { continue };
        let oy = top / g.stride[0];
        if oy >= dy.shape.h {
            continue;
        }
        let first = (n * dy.shape.h + oy) * dy.shape.w;
        let from = Rows::matrix(&dy.data[first * dy.stride..], dy.stride, dy.shape.c, dy.shape.w);
        let to = RowsMut { data: products.as_mut_ptr(), stride: across };
        // SAFETY: there is a row of products for each pixel of the line.
        unsafe { packed.run(&from, 0..dy.shape.w, to, 0..packed.panels(), Epilogue::default(), CHAIN) };
        for (ox, products) in products.chunks_exact(across).enumerate() {
            let sums = &mut sums[ox * g.stride[1] * c..][..across];
            sums.iter_mut().zip(products).for_each(|(sum, product)| *sum += product);
        }
    }
    for (x, sums) in sums[g.pad[1] * c..].chunks_exact(c).take(w).enumerate() {
        // SAFETY: guaranteed by the caller.
        let to = unsafe { dx.pixel(line * w + x) };
        if add {
            to.iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        } else {
            to.copy_from_slice(sums);
        }
    }
}
