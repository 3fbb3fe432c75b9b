//! Convolution: the choice of the algorithm for each layer, and the division of its work.

#![allow(unsafe_code, reason = "tasks write their own pixels of one buffer")]

#[cfg(feature = "train")]
pub mod gradient;

use crate::cpu::gemm::{CHAIN, Epilogue, Packed, Rows};
use crate::cpu::kernel::{Call, Kernel, Layer};
use crate::cpu::schedule::Extent;
#[cfg(feature = "train")]
use crate::cpu::simd::Isa;
use crate::cpu::view::{Out, View};
use crate::cpu::winograd::{Source, Winograd};
use crate::error::Result;
use crate::graph::op::{Activation, Geometry, Window};
use crate::graph::tensor::Shape;
use crate::plan::winograd::{PHASES, Tiling, phases};
use std::fmt;
use std::ops::Range;

/// A convolution with packed weights.
pub struct Conv {
    window: Window,
    relu: bool,
    weights: Weights,
}

/// The algorithms for convolutions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    /// GEMM for a 1x1 kernel with stride 1 and without padding: the input is the matrix.
    Pointwise,
    /// GEMM over windows that are read in place (virtual im2col), from a padded copy of a few lines.
    Direct,
    Winograd(Tiling),
    /// The Winograd algorithm for kernels with stride 2: as a convolution with a kernel of half the size on four times
    /// the channels, one for each phase of the stride. It makes the first layer three times as fast, whose three input
    /// channels do not fill a vector.
    Phases(Tiling),
}

enum Weights {
    Pointwise(Packed),
    Direct(Packed),
    Winograd(Winograd),
    Phases(Winograd),
}

/// The number of products in one chain for long windows. The first layer of the BVLC network adds 147 products of up to
/// 10^3, and would miss a tolerance of 1e-4 in one chain.
const SHORT_CHAIN: usize = 64;

impl Algorithm {
    /// The algorithm for a layer. `docs/tried.md` describes the alternatives that were tried.
    fn choose(window: Window, input: Shape, output: Shape) -> Self {
        let Window { kernel, stride, .. } = window;
        let same = (input.h, input.w) == (output.h, output.w);
        match (kernel, stride) {
            ([1, 1], [1, 1]) if same => Algorithm::Pointwise,
            ([3, 3], [1, 1]) if input.c >= 4 => {
                Algorithm::Winograd(Tiling { outputs: if output.h <= 7 { 2 } else { 4 }, kernel: 3 })
            }
            ([5, 5], [1, 1]) if input.c >= 4 => Algorithm::Winograd(Tiling { outputs: 2, kernel: 5 }),
            ([7, 7], [2, 2]) if input.c < 8 => Algorithm::Phases(Tiling { outputs: 3, kernel: 4 }),
            _ => Algorithm::Direct,
        }
    }

    /// The number of multiply-adds that the algorithm executes for one picture.
    fn macs(self, window: Window, input: Shape, output: Shape) -> u64 {
        match self {
            Algorithm::Pointwise | Algorithm::Direct => {
                (output.len() * input.c * window.kernel[0] * window.kernel[1]) as u64
            }
            Algorithm::Winograd(tiling) => tiling.macs(input.c, output),
            Algorithm::Phases(tiling) => tiling.macs(input.c * PHASES, output),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Algorithm::Pointwise => f.write_str("GEMM"),
            Algorithm::Direct => f.write_str("virtual im2col"),
            Algorithm::Winograd(t) => write!(f, "Winograd F({},{})", t.outputs, t.kernel),
            Algorithm::Phases(t) => write!(f, "phases, Winograd F({},{})", t.outputs, t.kernel),
        }
    }
}

impl Kernel for Conv {
    fn window(&self) -> Option<Window> {
        Some(self.window)
    }

    fn algorithm(&self, input: Shape, output: Shape) -> Option<(String, u64)> {
        let algorithm = self.choice();
        Some((algorithm.to_string(), algorithm.macs(self.window, input, output)))
    }

    fn extent(&self, out: Shape, siblings: &[&dyn Kernel]) -> Extent {
        let panels = self.panels() + siblings.iter().map(|sibling| sibling.panels()).sum::<usize>();
        let lines = matches!(self.choice(), Algorithm::Direct | Algorithm::Phases(_));
        Extent {
            pieces: self.pieces(out),
            block: self.block(out),
            multiple: if lines { 1 } else { 8 },
            panels,
            prefer_pieces: lines || self.pieces(out) > 16 * panels,
            // Each part of the channels repeats the Winograd input transform.
            repeats: matches!(self.choice(), Algorithm::Winograd(_)),
            cost: 0,
        }
    }

    fn panels(&self) -> usize {
        match &self.weights {
            Weights::Pointwise(p) | Weights::Direct(p) => p.panels(),
            Weights::Winograd(w) | Weights::Phases(w) => w.panels(),
        }
    }

    fn block(&self, out: Shape) -> usize {
        const FLOATS: usize = 64 * 1024;
        match &self.weights {
            Weights::Pointwise(p) => (FLOATS / p.depth()).max(24) / 24 * 24,
            Weights::Direct(p) => (FLOATS / (p.depth() * out.w)).max(1),
            Weights::Winograd(w) => w.block(),
            Weights::Phases(_) => 1,
        }
    }

    fn scratch(&self, g: Option<&Geometry>, input: Shape, out: Shape, pieces: usize) -> usize {
        let Some(g) = g else { return 0 };
        match &self.weights {
            Weights::Pointwise(_) => 0,
            Weights::Direct(_) => ((pieces - 1) * g.stride[0] + g.kernel[0]) * line_length(g, input.c),
            Weights::Winograd(w) => w.scratch(pieces),
            Weights::Phases(w) => {
                let across = w.tiling().grid(out)[1];
                // The phases of a line of tiles, and one line of the input, which is smaller than a line of the phases.
                let lines = phase_floats(w.tiling(), across, input.c);
                lines + lines / w.tiling().side() + w.scratch(across)
            }
        }
    }

    unsafe fn run(&self, call: Call<'_>) {
        let Call { inputs, out, geometry: Some(geometry), pieces, panels, scratch } = call else { return };
        let epilogue = Epilogue::relu(self.relu);
        // SAFETY: guaranteed by the caller.
        unsafe {
            let x = inputs.view(0);
            self.compute(ConvCall { x, out, geometry, pieces, panels, epilogue, scratch });
        }
    }

    #[cfg(feature = "train")]
    fn update(&mut self, weights: &[f32], bias: &[f32]) {
        self.set(weights, bias);
    }
}

/// One call of [`Conv::compute`].
struct ConvCall<'a> {
    x: View<'a>,
    out: Out<'a>,
    geometry: &'a Geometry,
    pieces: Range<usize>,
    panels: Range<usize>,
    epilogue: Epilogue,
    scratch: &'a mut [f32],
}

impl Conv {
    /// Packs the layer's weight, which is OIHW, for the algorithm that suits it. Fails where a tensor is missing.
    pub fn new(layer: &Layer<'_>, window: Window, activation: Activation) -> Result<Self> {
        let Layer { isa, input, output, .. } = *layer;
        let [weight, bias] = layer.weights()?;
        let (weight, bias) = (weight.as_slice(), bias.as_slice());
        let algorithm = Algorithm::choose(window, input, output);
        let channels = input.c;
        let [kh, kw] = window.kernel;
        let tiles = |tiling: Tiling| tiling.grid(output).iter().product();
        let weights = match algorithm {
            Algorithm::Pointwise => Weights::Pointwise(Packed::new(isa, weight, channels, bias)),
            Algorithm::Direct => {
                Weights::Direct(Packed::new(isa, &ohwi(weight, channels, kh * kw), channels * kh * kw, bias))
            }
            Algorithm::Winograd(tiling) => {
                Weights::Winograd(Winograd::new(isa, tiling, channels, tiles(tiling), weight, bias))
            }
            Algorithm::Phases(tiling) => {
                let weight = phases(weight, channels, channels, window.kernel, tiling.kernel);
                Weights::Phases(Winograd::new(isa, tiling, channels * PHASES, tiles(tiling), &weight, bias))
            }
        };
        Ok(Conv { window, relu: activation == Activation::Relu, weights })
    }

    /// A convolution without activation whose weights and biases are zero, for [`Conv::set`].
    #[cfg(feature = "train")]
    fn zeros(isa: Isa, window: Window, input: Shape, output: Shape) -> Self {
        let (channels, area) = (input.c, window.kernel[0] * window.kernel[1]);
        let tiles = |tiling: Tiling| output.n * tiling.grid(output).iter().product::<usize>();
        let weights = match Algorithm::choose(window, input, output) {
            Algorithm::Pointwise => Weights::Pointwise(Packed::zeros(isa, channels, output.c)),
            Algorithm::Direct => Weights::Direct(Packed::zeros(isa, channels * area, output.c)),
            Algorithm::Winograd(tiling) => {
                Weights::Winograd(Winograd::zeros(isa, tiling, channels, tiles(tiling), output.c))
            }
            Algorithm::Phases(tiling) => {
                Weights::Phases(Winograd::zeros(isa, tiling, channels * PHASES, tiles(tiling), output.c))
            }
        };
        Conv { window, relu: false, weights }
    }

    /// Replaces the weights, which are HWIO, and the bias. An empty bias leaves the bias as it is.
    #[cfg(feature = "train")]
    fn set(&mut self, weights: &[f32], bias: &[f32]) {
        match &mut self.weights {
            Weights::Pointwise(packed) | Weights::Direct(packed) => packed.update(weights, bias),
            Weights::Winograd(winograd) => winograd.update(weights, bias),
            Weights::Phases(winograd) => {
                let columns = winograd.columns();
                let channels = weights.len() / (columns * self.window.kernel[0] * self.window.kernel[1]);
                let half = winograd.tiling().kernel;
                // The first layer alone is computed by phases, and has few weights.
                let mut phased = vec![0.0; half * half * PHASES * channels * columns];
                for (i, from) in weights.chunks_exact(channels * columns).enumerate() {
                    let (y, x) = (i / self.window.kernel[1], i % self.window.kernel[1]);
                    let plane = (y / 2 * half + x / 2) * PHASES + y % 2 * 2 + x % 2;
                    phased[plane * channels * columns..][..channels * columns].copy_from_slice(from);
                }
                winograd.update(&phased, bias);
            }
        }
    }

    /// Computes pieces and panels of the output.
    ///
    /// # Safety
    /// The same as for [`Kernel::run`].
    unsafe fn compute(&self, call: ConvCall<'_>) {
        // SAFETY: guaranteed by the caller, for all four algorithms.
        unsafe {
            match &self.weights {
                Weights::Pointwise(packed) => {
                    let ConvCall { x, out, pieces, panels, epilogue, .. } = call;
                    let rows = Rows::matrix(x.data, x.stride, x.shape.c, x.shape.pixels());
                    packed.run(&rows, pieces, out.rows(0), panels, epilogue, CHAIN);
                }
                Weights::Direct(packed) => direct(packed, call),
                Weights::Winograd(winograd) => {
                    let source = Source { view: call.x, image: 0, origin: call.geometry.pad };
                    winograd.run(source, call.out, call.pieces, call.panels, call.epilogue, call.scratch);
                }
                Weights::Phases(winograd) => by_phases(winograd, call),
            }
        }
    }

    fn choice(&self) -> Algorithm {
        match &self.weights {
            Weights::Pointwise(_) => Algorithm::Pointwise,
            Weights::Direct(_) => Algorithm::Direct,
            Weights::Winograd(w) => Algorithm::Winograd(w.tiling()),
            Weights::Phases(w) => Algorithm::Phases(w.tiling()),
        }
    }

    /// The number of pieces of the output map that the work can be divided into: pixels, lines, tiles or lines of
    /// tiles.
    fn pieces(&self, out: Shape) -> usize {
        match &self.weights {
            Weights::Pointwise(_) => out.pixels(),
            Weights::Direct(_) => out.n * out.h,
            Weights::Winograd(w) => out.n * w.tiling().grid(out).iter().product::<usize>(),
            Weights::Phases(w) => out.n * w.tiling().grid(out)[0],
        }
    }
}

/// Computes lines of the output as a product of windows, which are read in place from a padded copy of a few lines.
///
/// # Safety
/// The same as for [`Kernel::run`].
unsafe fn direct(packed: &Packed, call: ConvCall<'_>) {
    let ConvCall { x, out, geometry: g, pieces: lines, panels, epilogue, scratch } = call;
    let ([out_h, out_w], c) = (g.out, x.shape.c);
    let pitch = line_length(g, c);
    let mut first = lines.start;
    while first < lines.end {
        // As many lines as belong to the same picture.
        let (n, y) = (first / out_h, first % out_h);
        let count = (lines.end - first).min(out_h - y);
        let high = (count - 1) * g.stride[0] + g.kernel[0];
        let padded = &mut scratch[..high * pitch];
        copy_padded_lines(x, g, n, y, padded);
        let rows = Rows {
            data: padded,
            count: count * out_w,
            width: out_w,
            step: g.stride[1] * c,
            line: g.stride[0] * pitch,
            segments: g.kernel[0],
            length: g.kernel[1] * c,
            pitch,
        };
        let to = out.rows(first * out_w);
        // SAFETY: guaranteed by the caller.
        unsafe { packed.run(&rows, 0..rows.count, to, panels.clone(), epilogue, SHORT_CHAIN) };
        first += count;
    }
}

/// Computes lines of tiles of the output by the Winograd algorithm over the phases of the input.
///
/// # Safety
/// The same as for [`Kernel::run`].
unsafe fn by_phases(winograd: &Winograd, call: ConvCall<'_>) {
    let ConvCall { x, out, geometry: g, pieces: lines, panels, epilogue, scratch } = call;
    let tiling = winograd.tiling();
    let [down, across] = tiling.grid(out.shape);
    let (high, wide) = (tiling.side(), across * tiling.outputs + tiling.kernel - 1);
    let channels = x.shape.c * PHASES;
    let (phased, scratch) = scratch.split_at_mut(phase_floats(tiling, across, x.shape.c));
    let (line, scratch) = scratch.split_at_mut(wide * 2 * x.shape.c);
    for at in lines {
        let (n, top) = (at / down, at % down * tiling.outputs);
        for (i, to) in phased.chunks_exact_mut(wide * channels).enumerate() {
            copy_phases(x, n, 2 * (top + i), g.pad, line, to);
        }
        let view = View { data: phased, stride: channels, shape: Shape::new(1, high, wide, channels) };
        let source = Source { view, image: n, origin: [top, 0] };
        let tiles = at * across..(at + 1) * across;
        // SAFETY: guaranteed by the caller.
        unsafe { winograd.run(source, out, tiles, panels.clone(), epilogue, scratch) };
    }
}

/// Reorders weights from OIHW to OHWI, the order in which a window is read from NHWC.
fn ohwi(weight: &[f32], channels: usize, area: usize) -> Vec<f32> {
    let mut rows = vec![0.0; weight.len()];
    for (row, filter) in rows.chunks_exact_mut(area * channels).zip(weight.chunks_exact(area * channels)) {
        for (c, plane) in filter.chunks_exact(area).enumerate() {
            row[c..].iter_mut().step_by(channels).zip(plane).for_each(|(to, v)| *to = *v);
        }
    }
    rows
}

/// The number of floats of a padded input line that covers all windows of a line of output.
fn line_length(g: &Geometry, channels: usize) -> usize {
    ((g.out[1] - 1) * g.stride[1] + g.kernel[1]) * channels
}

/// Copies the padded lines of picture `n` that the windows of the output lines from `y` on read, as many as fit into `to`.
fn copy_padded_lines(x: View<'_>, g: &Geometry, n: usize, y: usize, to: &mut [f32]) {
    for (i, to) in to.chunks_exact_mut(line_length(g, x.shape.c)).enumerate() {
        copy_padded_line(x, n, (y * g.stride[0] + i).wrapping_sub(g.pad[0]), g.pad[1], to);
    }
}

/// Copies line `y` of picture `n` behind `left` columns of zeros. Lines outside the picture are zero.
fn copy_padded_line(x: View<'_>, n: usize, y: usize, left: usize, to: &mut [f32]) {
    let Shape { h, w, c, .. } = x.shape;
    if y >= h {
        return to.fill(0.0);
    }
    let inside = w.min((to.len() / c).saturating_sub(left));
    let (before, rest) = to.split_at_mut(left * c);
    let (line, after) = rest.split_at_mut(inside * c);
    before.fill(0.0);
    after.fill(0.0);
    let first = (n * h + y) * w;
    if x.stride == c {
        line.copy_from_slice(&x.data[first * c..][..inside * c]);
    } else {
        line.chunks_exact_mut(c).enumerate().for_each(|(i, to)| to.copy_from_slice(x.pixel(first + i)));
    }
}

/// Copies line i of the phases: column j has the pixels (2i, 2j), (2i, 2j + 1), (2i + 1, 2j) and (2i + 1, 2j + 1) of
/// the padded input. `y` is 2i. `line` has room for one line of the padded input.
fn copy_phases(x: View<'_>, n: usize, y: usize, [top, left]: [usize; 2], line: &mut [f32], to: &mut [f32]) {
    let pair = 2 * x.shape.c;
    for below in 0..2 {
        copy_padded_line(x, n, (y + below).wrapping_sub(top), left, line);
        let each = to[below * pair..].chunks_mut(2 * pair).zip(line.chunks_exact(pair));
        if pair == 6 {
            // RGB pictures. With a constant length, the compiler inlines the copy.
            each.for_each(|(to, pixels)| to[..6].copy_from_slice(&pixels[..6]));
        } else {
            each.for_each(|(to, pixels)| to[..pair].copy_from_slice(pixels));
        }
    }
}

fn phase_floats(tiling: Tiling, across: usize, channels: usize) -> usize {
    tiling.side() * (across * tiling.outputs + tiling.kernel - 1) * channels * PHASES
}
