//! The operations of a network, without weights or buffers: shapes, parameters, multiply-adds and receptive fields.
//!
//! All functions are pure, so that a network is checked completely before anything runs.

use crate::graph::tensor::Shape;

/// The padding of a window's input. It is zero for convolutions and minus infinity for max pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// No padding: every window lies inside the input.
    Valid,
    /// TensorFlow's SAME: `ceil(in / stride)` outputs. An odd row or column of padding is at the bottom or right.
    Same,
    /// This many rows and columns on each side. `ceil` rounds the output size up, as the pools of Caffe and torchvision
    /// do.
    Explicit { top: usize, left: usize, bottom: usize, right: usize, ceil: bool },
}

impl Padding {
    /// `pad` rows and columns on every side, with the output size rounded down, as for Caffe's convolutions.
    pub const fn symmetric(pad: usize) -> Self {
        Padding::Explicit { top: pad, left: pad, bottom: pad, right: pad, ceil: false }
    }

    /// `pad` rows and columns on every side, with the output size rounded up, as for Caffe's pools.
    pub const fn symmetric_ceil(pad: usize) -> Self {
        Padding::Explicit { top: pad, left: pad, bottom: pad, right: pad, ceil: true }
    }
}

/// A sliding window: kernel size, stride and padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    pub padding: Padding,
}

/// The geometry of a [`Window`] on an input of a given size, as the engines' kernels need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Padding rows above and columns to the left of the input. Kernels need no number for the other sides: everything
    /// that a window covers beyond the end of the input is padding.
    pub pad: [usize; 2],
    /// Padding rows below and columns to the right of the input. An average pool that includes its padding counts
    /// these, but not the cells beyond them that a window covers because the output size was rounded up.
    pub pad_end: [usize; 2],
    /// Height and width of the output.
    pub out: [usize; 2],
}

impl Window {
    /// A square kernel with the same stride in both directions.
    pub const fn square(kernel: usize, stride: usize, padding: Padding) -> Self {
        Window { kernel: [kernel, kernel], stride: [stride, stride], padding }
    }

    /// The geometry of the window on an input of `size` (height, width). Fails with the reason where the window does
    /// not fit.
    pub fn on(&self, size: [usize; 2]) -> Result<Geometry, String> {
        let [y, x] = [0, 1].map(|axis| self.axis(axis, size[axis]));
        let (y, x) = (y?, x?);
        Ok(Geometry { kernel: self.kernel, stride: self.stride, pad: [y.0, x.0], pad_end: [y.1, x.1], out: [y.2, x.2] })
    }

    /// Returns (padding before, padding after, output size) along one axis.
    fn axis(&self, axis: usize, size: usize) -> Result<(usize, usize, usize), String> {
        let (k, s) = (self.kernel[axis], self.stride[axis]);
        if k == 0 || s == 0 {
            return Err(format!("a window of kernel {k} and stride {s} cannot slide"));
        }
        if size == 0 {
            return Err("the input is empty".into());
        }
        let (before, after, ceil) = match self.padding {
            Padding::Valid => (0, 0, false),
            Padding::Same => {
                let out = size.div_ceil(s);
                let total = ((out - 1) * s + k).saturating_sub(size);
                return Ok((total / 2, total - total / 2, out));
            }
            Padding::Explicit { top, left, bottom, right, ceil } => {
                if axis == 0 {
                    (top, bottom, ceil)
                } else {
                    (left, right, ceil)
                }
            }
        };
        let most = before.max(after);
        if most >= k {
            return Err(format!(
                "padding {most} is not smaller than the kernel {k}, so a window could contain nothing but padding"
            ));
        }
        let padded = size + before + after;
        if padded < k {
            return Err(format!("an input of {size} with padding {before}+{after} is smaller than the kernel {k}"));
        }
        let mut out = (padded - k) / s + 1;
        // Rounding up may add one window, but only if it starts inside the input or in the padding before it (as in
        // Caffe's pooling_layer.cpp and in ONNX since opset 19).
        if ceil && !(padded - k).is_multiple_of(s) && out * s < size + before {
            out += 1;
        }
        Ok((before, after, out))
    }
}

/// The range of inputs that output `i` of an adaptive average pool covers along one axis: from `floor(i*size/out)` up
/// to, but not including, `ceil((i+1)*size/out)` (PyTorch's AdaptiveAvgPool2d). The ranges may differ in length.
pub const fn adaptive_range(i: usize, size: usize, out: usize) -> (usize, usize) {
    (i * size / out, ((i + 1) * size).div_ceil(out))
}

/// The function that follows a convolution or a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The identity.
    None,
    /// `max(x, 0)`.
    Relu,
}

impl From<bool> for Activation {
    /// ReLU if `relu` is true, otherwise none.
    fn from(relu: bool) -> Self {
        if relu { Activation::Relu } else { Activation::None }
    }
}

/// One operation of the network. Convolutions and dense layers have a bias and an activation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// An input of the network, of this shape.
    Input(Shape),
    /// A convolution with zero padding. Its weights are (out, kh, kw, in) in the engine and OIHW in a file.
    Conv { window: Window, out: usize, activation: Activation },
    /// Max pooling, where padding is minus infinity.
    MaxPool(Window),
    /// Average pooling. The sum is divided by the number of the window's cells inside the input, or with
    /// `count_padding` inside the input and its padding.
    AvgPool { window: Window, count_padding: bool },
    /// Average pooling over a grid of `out` (height, width) regions, see [`adaptive_range`]. `[1, 1]` is the global
    /// average.
    AdaptiveAvgPool { out: [usize; 2] },
    /// Local response normalisation across channels: `x / (k + alpha/size * sum of x^2 over size channels)^beta`
    /// (Krizhevsky et al. 2012, section 3.3, with alpha divided by size as in Caffe). With an even size, the window has
    /// one channel more after the current one than before it, as in ONNX.
    Lrn { size: usize, alpha: f32, beta: f32, k: f32 },
    /// Concatenation along channels.
    Concat,
    /// A dense layer with weights (out, in), where `in` is the flattened input in the order HWC.
    Dense { out: usize, activation: Activation },
    /// Softmax over channels.
    Softmax,
    /// Dropout (Srivastava et al. 2014), as PyTorch has it: a training run sets a random `ratio` of the values to zero and
    /// multiplies the others by `1 / (1 - ratio)`. Any other run copies the values.
    Dropout { ratio: f32 },
}

impl Op {
    /// The operation's name in tables.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Input(_) => "input",
            Op::Conv { .. } => "conv",
            Op::MaxPool(_) => "max pool",
            Op::AvgPool { .. } | Op::AdaptiveAvgPool { .. } => "avg pool",
            Op::Lrn { .. } => "lrn",
            Op::Concat => "concat",
            Op::Dense { .. } => "dense",
            Op::Softmax => "softmax",
            Op::Dropout { .. } => "dropout",
        }
    }

    /// The output's shape. Fails with the reason where the operation cannot process these inputs.
    pub fn out_shape(&self, inputs: &[Shape]) -> Result<Shape, String> {
        if let Op::Input(shape) = self {
            return if inputs.is_empty() { Ok(*shape) } else { Err("an input node reads nothing".into()) };
        }
        let Some(&x) = inputs.first() else { return Err("the node has no input".into()) };
        if inputs.len() > 1 && *self != Op::Concat {
            return Err(format!("{} reads one input, not {}", self.kind(), inputs.len()));
        }
        if inputs.iter().any(Shape::is_empty) {
            return Err("the input is empty".into());
        }
        let slide = |window: &Window, c| {
            let [h, w] = window.on([x.h, x.w])?.out;
            Ok(Shape::new(x.n, h, w, c))
        };
        match self {
            Op::Input(_) => unreachable!("handled above"),
            Op::Conv { out, .. } | Op::Dense { out, .. } if *out == 0 => {
                Err("a layer needs at least one output".into())
            }
            Op::Conv { window, out, .. } => slide(window, *out),
            Op::MaxPool(window) | Op::AvgPool { window, .. } => slide(window, x.c),
            Op::AdaptiveAvgPool { out: [h, w] } if *h == 0 || *w == 0 => Err("an average pool needs an output".into()),
            Op::AdaptiveAvgPool { out: [h, w] } => Ok(Shape::new(x.n, *h, *w, x.c)),
            Op::Lrn { size, .. } if *size == 0 => Err("normalisation needs at least one channel".into()),
            Op::Dropout { ratio } if !(0.0..1.0).contains(ratio) => {
                Err("dropout needs a ratio from 0 up to, but not including, 1".into())
            }
            Op::Lrn { .. } | Op::Softmax | Op::Dropout { .. } => Ok(x),
            Op::Concat => {
                if let Some(odd) = inputs.iter().find(|s| (s.n, s.h, s.w) != (x.n, x.h, x.w)) {
                    return Err(format!("{odd} cannot be concatenated with {x}: only the channels may differ"));
                }
                Ok(Shape { c: inputs.iter().map(|s| s.c).sum(), ..x })
            }
            Op::Dense { out, .. } => Ok(Shape::new(x.n, 1, 1, *out)),
        }
    }

    /// The tensors of a layer with this input, in the order of a model file. Empty for operations without weights.
    pub fn tensors(&self, input: Shape) -> Vec<TensorSpec> {
        let Some(dims) = self.weight_dims(input) else { return Vec::new() };
        let bias = TensorSpec { name: "bias", dims: vec![dims[0]] };
        vec![TensorSpec { name: "weight", dims }, bias]
    }

    /// The dimensions of the weights in a model file: OIHW for convolutions, (out, in) for dense layers; `None` for
    /// operations without weights.
    pub fn weight_dims(&self, input: Shape) -> Option<Vec<usize>> {
        match self {
            Op::Conv { window, out, .. } => Some(vec![*out, input.c, window.kernel[0], window.kernel[1]]),
            Op::Dense { out, .. } => Some(vec![*out, input.per_image()]),
            _ => None,
        }
    }

    /// The number of weights and biases of a layer.
    pub fn params(&self, input: Shape) -> usize {
        self.tensors(input).iter().map(|tensor| tensor.dims.iter().product::<usize>()).sum()
    }

    /// Multiply-adds for the whole batch, as a direct convolution executes them, including those with padding. Pools,
    /// normalisation and softmax count as zero, as is usual in the literature.
    pub fn macs(&self, input: Shape, output: Shape) -> u64 {
        self.weight_dims(input)
            .map_or(0, |dims| output.pixels() as u64 * dims.iter().map(|&d| d as u64).product::<u64>())
    }

    /// The receptive field of this layer's output in the network's input. `input` is the receptive field of the layer's
    /// input, and `shape` its shape.
    pub fn receptive_field(&self, input: Field, shape: Shape) -> Field {
        let map = [shape.h, shape.w];
        let (kernel, stride, pad) = match self {
            // A window that does not fit has no output, so its padding does not matter.
            Op::Conv { window: w, .. } | Op::MaxPool(w) | Op::AvgPool { window: w, .. } => {
                (w.kernel, w.stride, w.on(map).map_or([0; 2], |geometry| geometry.pad))
            }
            // The regions may differ in size and spacing. Evenly spaced windows, the last of which ends at the map's
            // end, contain them.
            Op::AdaptiveAvgPool { out } => {
                let stride = [map[0] / out[0], map[1] / out[1]];
                ([0, 1].map(|a| map[a] - (out[a] - 1) * stride[a]), stride, [0; 2])
            }
            Op::Dense { .. } => (map, [1; 2], [0; 2]),
            Op::Input(_) | Op::Lrn { .. } | Op::Concat | Op::Softmax | Op::Dropout { .. } => {
                return input;
            }
        };
        let mut field = input;
        for a in [0, 1] {
            field.size[a] += (kernel[a].max(1) - 1) * input.jump[a];
            field.jump[a] *= stride[a];
            field.start[a] -= (pad[a] * input.jump[a]) as isize;
        }
        field
    }
}

/// A tensor of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// The suffix after the layer's name in a model file, e.g. `weight` in `inception_3a/1x1.weight`.
    pub name: &'static str,
    /// The dimensions in a model file.
    pub dims: Vec<usize>,
}

/// The receptive field of a layer's cells in the network's input, in pixels; each array has the vertical and the
/// horizontal value. The cell in column x depends on the columns from `start + x * jump` up to, but not including,
/// `start + x * jump + size`. Columns outside the input are padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub size: [usize; 2],
    /// The distance between the receptive fields of neighbouring cells.
    pub jump: [usize; 2],
    /// Where the first cell's receptive field begins; negative where the layers up to this one have padding.
    pub start: [isize; 2],
}

impl Field {
    /// The receptive field of the network's input: each pixel is its own.
    pub const PIXEL: Field = Field { size: [1, 1], jump: [1, 1], start: [0, 0] };

    /// The receptive field of a cell that reads both of these. Both have the same jump, as layers that are concatenated
    /// have the same height and width.
    pub fn union(mut self, other: Field) -> Field {
        for a in [0, 1] {
            let end = |field: &Field| field.start[a] + field.size[a] as isize;
            let end = end(&self).max(end(&other));
            self.start[a] = self.start[a].min(other.start[a]);
            self.size[a] = (end - self.start[a]) as usize;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(kernel: usize, stride: usize, padding: Padding, size: usize) -> (usize, usize, usize) {
        let g = Window::square(kernel, stride, padding).on([size, size]).unwrap();
        (g.pad[0], g.pad_end[0], g.out[0])
    }

    #[test]
    fn same_padding_matches_tensorflow() {
        assert_eq!(geometry(7, 2, Padding::Same, 224), (2, 3, 112));
        assert_eq!(geometry(3, 2, Padding::Same, 112), (0, 1, 56));
        assert_eq!(geometry(3, 1, Padding::Same, 28), (1, 1, 28));
        assert_eq!(geometry(1, 3, Padding::Same, 7), (0, 0, 3));
    }

    #[test]
    fn pools_round_up_as_in_caffe() {
        assert_eq!(geometry(3, 2, Padding::symmetric_ceil(0), 112).2, 56);
        assert_eq!(geometry(3, 2, Padding::symmetric(0), 112).2, 55);
        assert_eq!(geometry(3, 1, Padding::symmetric_ceil(1), 28).2, 28);
        // A window that would start beyond the input is omitted.
        assert_eq!(geometry(1, 2, Padding::symmetric_ceil(0), 2).2, 1);
        assert_eq!(geometry(3, 3, Padding::symmetric_ceil(1), 2).2, 1);
    }

    #[test]
    fn invalid_windows_and_inputs_are_errors() {
        let window = |k, s| Window::square(k, s, Padding::Valid);
        assert!(window(5, 1).on([4, 9]).is_err());
        assert!(window(0, 1).on([4, 4]).is_err());
        assert!(window(1, 0).on([4, 4]).is_err());
        assert!(Window::square(2, 1, Padding::symmetric(2)).on([4, 4]).is_err());
        let below = Padding::Explicit { top: 0, left: 0, bottom: 2, right: 0, ceil: false };
        assert!(Window::square(2, 1, below).on([4, 4]).is_err());
        let concatenated = Op::Concat.out_shape(&[Shape::new(1, 2, 2, 3), Shape::new(1, 2, 3, 3)]);
        assert!(concatenated.unwrap_err().contains("only the channels may differ"));
        assert!(Op::Softmax.out_shape(&[]).is_err());
    }

    #[test]
    fn adaptive_regions_match_pytorch() {
        let ranges: Vec<_> = (0..4).map(|i| adaptive_range(i, 14, 4)).collect();
        assert_eq!(ranges, [(0, 4), (3, 7), (7, 11), (10, 14)]);
        assert_eq!(adaptive_range(0, 7, 1), (0, 7));
    }

    #[test]
    fn macs_count_the_direct_algorithm() {
        let conv = Op::Conv { window: Window::square(5, 1, Padding::Same), out: 32, activation: Activation::Relu };
        let x = Shape::new(1, 28, 28, 192);
        assert_eq!(conv.macs(x, conv.out_shape(&[x]).unwrap()), 120_422_400);
        assert_eq!(conv.params(x), 5 * 5 * 192 * 32 + 32);
    }
}
