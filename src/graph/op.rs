//! What a layer does, without buffers: shapes, parameters, multiply-adds, receptive field.
//!
//! Everything here is pure, so a network is checked in full before anything runs.

use crate::graph::tensor::Shape;

/// How a window's edges are filled. Convolutions see zeros there, max pooling minus infinity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// None: every window lies inside the input.
    Valid,
    /// TensorFlow's SAME: `ceil(in / stride)` outputs, the odd row and column at the bottom and right.
    Same,
    /// So many rows and columns; `ceil` rounds the output size up (Caffe's and torchvision's pools).
    Explicit { top: usize, left: usize, bottom: usize, right: usize, ceil: bool },
}

impl Padding {
    /// The same number on every side, output size rounded down: Caffe's convolutions.
    pub const fn symmetric(pad: usize) -> Self {
        Padding::Explicit { top: pad, left: pad, bottom: pad, right: pad, ceil: false }
    }

    /// The same number on every side, output size rounded up: Caffe's pools.
    pub const fn symmetric_ceil(pad: usize) -> Self {
        Padding::Explicit { top: pad, left: pad, bottom: pad, right: pad, ceil: true }
    }
}

/// A sliding window: kernel size, stride, and what happens at the edges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    pub padding: Padding,
}

/// A [`Window`] laid on an input of one size: all a kernel needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    /// Rows above and columns to the left of the input. What lies below and to the right
    /// needs no number: it is whatever a window reaches past the end.
    pub pad: [usize; 2],
    /// Rows below and columns to the right that count as padding (an average that includes its
    /// padding counts these, but not what rounding up adds beyond them).
    pub pad_end: [usize; 2],
    /// Output height, width.
    pub out: [usize; 2],
}

impl Window {
    /// A square kernel with one stride both ways.
    pub const fn square(kernel: usize, stride: usize, padding: Padding) -> Self {
        Window { kernel: [kernel, kernel], stride: [stride, stride], padding }
    }

    /// Lays the window on an input of `size` (height, width), or says why it does not fit.
    pub fn on(&self, size: [usize; 2]) -> Result<Geometry, String> {
        let [y, x] = [0, 1].map(|axis| self.axis(axis, size[axis]));
        let (y, x) = (y?, x?);
        Ok(Geometry { kernel: self.kernel, stride: self.stride, pad: [y.0, x.0], pad_end: [y.1, x.1], out: [y.2, x.2] })
    }

    /// (padding before, padding after, output size) along one axis.
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
                "padding {most} is not smaller than the kernel {k}, so a window would see nothing else"
            ));
        }
        let padded = size + before + after;
        if padded < k {
            return Err(format!("an input of {size} with padding {before}+{after} is smaller than the kernel {k}"));
        }
        let mut out = (padded - k) / s + 1;
        // Rounding up may add one window, but only one that starts inside the input or its padding
        // before it (Caffe's pooling_layer.cpp and ONNX since opset 19 agree).
        if ceil && !(padded - k).is_multiple_of(s) && out * s < size + before {
            out += 1;
        }
        Ok((before, after, out))
    }
}

/// The geometry of adaptive average pooling has no single kernel size: output `i` of `out` covers
/// inputs `floor(i*size/out) .. ceil((i+1)*size/out)` (PyTorch's AdaptiveAvgPool2d).
pub const fn adaptive_range(i: usize, size: usize, out: usize) -> (usize, usize) {
    (i * size / out, ((i + 1) * size).div_ceil(out))
}

/// The function that follows a convolution or a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// The sums as they are.
    None,
    /// `max(x, 0)`.
    Relu,
}

impl From<bool> for Activation {
    /// ReLU where `relu` is set.
    fn from(relu: bool) -> Self {
        if relu { Activation::Relu } else { Activation::None }
    }
}

/// One operation of the network. Convolutions and dense layers have a bias and an activation.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// What the caller hands in.
    Input(Shape),
    /// Weights (out, kh, kw, in) in the engine, OIHW in a file; zero padding.
    Conv { window: Window, out: usize, activation: Activation },
    /// Padding never wins.
    MaxPool(Window),
    /// Divides by the window's part inside the input, or with `count_padding` by the part inside
    /// input and padding.
    AvgPool { window: Window, count_padding: bool },
    /// Averages over a grid of `out` (height, width) regions; `[1, 1]` is the global average.
    AdaptiveAvgPool { out: [usize; 2] },
    /// Across channels: `x / (k + alpha/size * sum of x^2 over size channels)^beta`
    /// (Krizhevsky et al. 2012, section 3.3, with Caffe's alpha divided by size). Of an even size the
    /// odd channel is above, as in ONNX.
    Lrn { size: usize, alpha: f32, beta: f32, k: f32 },
    /// Joins along channels.
    Concat,
    /// Weights (out, in), `in` flattened HWC.
    Dense { out: usize, activation: Activation },
    /// Over channels.
    Softmax,
}

impl Op {
    /// The operation's name as tables print it.
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
        }
    }

    /// The output's shape, or why these inputs cannot be taken.
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
            Op::Lrn { .. } | Op::Softmax => Ok(x),
            Op::Concat => {
                if let Some(odd) = inputs.iter().find(|s| (s.n, s.h, s.w) != (x.n, x.h, x.w)) {
                    return Err(format!("{odd} cannot be joined to {x}: only channels may differ"));
                }
                Ok(Shape { c: inputs.iter().map(|s| s.c).sum(), ..x })
            }
            Op::Dense { out, .. } => Ok(Shape::new(x.n, 1, 1, *out)),
        }
    }

    /// The tensors that a layer with this input holds, in the order of a file; none of most operations.
    pub fn tensors(&self, input: Shape) -> Vec<TensorSpec> {
        let weight_and_bias = |weight: Vec<usize>| {
            let bias = vec![weight[0]];
            vec![TensorSpec { name: "weight", dims: weight }, TensorSpec { name: "bias", dims: bias }]
        };
        match self {
            Op::Conv { window, out, .. } => weight_and_bias(vec![*out, input.c, window.kernel[0], window.kernel[1]]),
            Op::Dense { out, .. } => weight_and_bias(vec![*out, input.per_image()]),
            _ => Vec::new(),
        }
    }

    /// The dimensions of the weights as a file stores them: OIHW for convolutions, (out, in) for dense layers; `None` of
    /// operations without weights.
    pub fn weight_dims(&self, input: Shape) -> Option<Vec<usize>> {
        self.tensors(input).into_iter().find(|tensor| tensor.name == "weight").map(|tensor| tensor.dims)
    }

    /// The number of values in all tensors of a layer.
    pub fn params(&self, input: Shape) -> usize {
        self.tensors(input).iter().map(|tensor| tensor.dims.iter().product::<usize>()).sum()
    }

    /// Multiply-adds for the whole batch, counted as the direct algorithm does them, padding included.
    /// Pools, normalisation and softmax count none, as in the literature.
    pub fn macs(&self, input: Shape, output: Shape) -> u64 {
        self.weight_dims(input)
            .map_or(0, |dims| output.pixels() as u64 * dims.iter().map(|&d| d as u64).product::<u64>())
    }

    /// What of the network's input a cell of this layer's output sees, given what a cell of its input does; `shape` is
    /// that input's.
    pub fn receptive_field(&self, input: Field, shape: Shape) -> Field {
        let map = [shape.h, shape.w];
        let (kernel, stride, pad) = match self {
            // One that does not fit has no output, and no cell to ask about.
            Op::Conv { window: w, .. } | Op::MaxPool(w) | Op::AvgPool { window: w, .. } => {
                (w.kernel, w.stride, w.on(map).map_or([0; 2], |geometry| geometry.pad))
            }
            // Regions that are not all of one size, or not evenly spaced, are held by evenly spaced windows, the last of
            // which ends with the map.
            Op::AdaptiveAvgPool { out } => {
                let stride = [map[0] / out[0], map[1] / out[1]];
                ([0, 1].map(|a| map[a] - (out[a] - 1) * stride[a]), stride, [0; 2])
            }
            Op::Dense { .. } => (map, [1; 2], [0; 2]),
            Op::Input(_) | Op::Lrn { .. } | Op::Concat | Op::Softmax => return input,
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

/// A tensor that a layer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// What stands behind the layer's name in a file: `weight` of `inception_3a/1x1.weight`.
    pub name: &'static str,
    /// The dimensions as a file stores them.
    pub dims: Vec<usize>,
}

/// What of the network's input a cell of a layer sees, in pixels, down and right. Of the cell in column x these are the
/// columns from `start + x * jump` up to, but without, `start + x * jump + size`; what of them lies outside the input
/// is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    pub size: [usize; 2],
    /// From one cell to the next.
    pub jump: [usize; 2],
    /// Where the first cell's begins: below zero by as much as the layers up to this one pad.
    pub start: [isize; 2],
}

impl Field {
    /// A pixel of the input sees itself.
    pub const PIXEL: Field = Field { size: [1, 1], jump: [1, 1], start: [0, 0] };

    /// What a cell sees of which both of these are inputs. Neighbours are as far apart in either, as layers that are
    /// joined are of one size.
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
    fn same_pads_as_tensorflow_does() {
        assert_eq!(geometry(7, 2, Padding::Same, 224), (2, 3, 112));
        assert_eq!(geometry(3, 2, Padding::Same, 112), (0, 1, 56));
        assert_eq!(geometry(3, 1, Padding::Same, 28), (1, 1, 28));
        assert_eq!(geometry(1, 3, Padding::Same, 7), (0, 0, 3));
    }

    #[test]
    fn pools_round_up_as_caffe_does() {
        assert_eq!(geometry(3, 2, Padding::symmetric_ceil(0), 112).2, 56);
        assert_eq!(geometry(3, 2, Padding::symmetric(0), 112).2, 55);
        assert_eq!(geometry(3, 1, Padding::symmetric_ceil(1), 28).2, 28);
        // A window that would start beyond the input is left out.
        assert_eq!(geometry(1, 2, Padding::symmetric_ceil(0), 2).2, 1);
        assert_eq!(geometry(3, 3, Padding::symmetric_ceil(1), 2).2, 1);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let window = |k, s| Window::square(k, s, Padding::Valid);
        assert!(window(5, 1).on([4, 9]).is_err());
        assert!(window(0, 1).on([4, 4]).is_err());
        assert!(window(1, 0).on([4, 4]).is_err());
        assert!(Window::square(2, 1, Padding::symmetric(2)).on([4, 4]).is_err());
        let below = Padding::Explicit { top: 0, left: 0, bottom: 2, right: 0, ceil: false };
        assert!(Window::square(2, 1, below).on([4, 4]).is_err());
        let joined = Op::Concat.out_shape(&[Shape::new(1, 2, 2, 3), Shape::new(1, 2, 3, 3)]);
        assert!(joined.unwrap_err().contains("only channels may differ"));
        assert!(Op::Softmax.out_shape(&[]).is_err());
    }

    #[test]
    fn adaptive_regions_cover_the_map_as_pytorch_does() {
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
