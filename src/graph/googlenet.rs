//! GoogLeNet as data: the paper's table, and the differences between the variants for which weights are published.
//!
//! Szegedy et al., "Going deeper with convolutions" (CVPR 2015), table 1 and figures 2 and 3.

use crate::error::{Error, Result};
use crate::graph::network::{Branch, Network, NodeId};
use crate::graph::op::{Activation, Op, Padding, Window};
use crate::graph::tensor::Shape;
use std::fmt;
use std::str::FromStr;

/// The output channels of one inception module's layers: its row of the paper's table 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// `3a`, `3b`, ..., `5b`.
    pub name: &'static str,
    pub conv1x1: usize,
    pub reduce3x3: usize,
    pub conv3x3: usize,
    pub reduce5x5: usize,
    pub conv5x5: usize,
    pub pool_proj: usize,
}

const fn row(name: &'static str, [conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj]: [usize; 6]) -> Row {
    Row { name, conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool_proj }
}

/// The paper's table 1, with the columns #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5 and pool proj. These numbers are
/// nowhere else in the crate.
pub const TABLE: [Row; 9] = [
    row("3a", [64, 96, 128, 16, 32, 32]),
    row("3b", [128, 128, 192, 32, 96, 64]),
    row("4a", [192, 96, 208, 16, 48, 64]),
    row("4b", [160, 112, 224, 24, 64, 64]),
    row("4c", [128, 128, 256, 24, 64, 64]),
    row("4d", [112, 144, 288, 32, 64, 64]),
    row("4e", [256, 160, 320, 32, 128, 128]),
    row("5a", [256, 160, 320, 32, 128, 128]),
    row("5b", [384, 192, 384, 48, 128, 128]),
];

impl Row {
    /// The number of channels of the module's output.
    pub const fn out(&self) -> usize {
        self.conv1x1 + self.conv3x3 + self.conv5x5 + self.pool_proj
    }

    /// The module's name in the network: `inception_3a`.
    pub fn module(&self) -> String {
        format!("inception_{}", self.name)
    }
}

/// A variant of GoogLeNet. The published networks differ in padding, stem, normalisation and heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Variant {
    /// This project's Keras network: TensorFlow's SAME padding, one convolution in conv2, no LRN, two auxiliary heads.
    #[default]
    Keras,
    /// Like `Keras`, but with conv2's 1x1 reduction and without auxiliary heads.
    KerasV2,
    /// BVLC's network, also in the ONNX model zoo: symmetric padding, pools that round their output size up, two LRN
    /// layers.
    Caffe,
    /// torchvision's network: symmetric padding, pools that round their output size up, no LRN (its batch norm is
    /// folded into the weights at import), and a 3x3 convolution where the paper has a 5x5.
    Torchvision,
}

impl Variant {
    pub const ALL: [Variant; 4] = [Variant::Keras, Variant::KerasV2, Variant::Caffe, Variant::Torchvision];

    /// The variant's name in metadata and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Keras => "keras",
            Variant::KerasV2 => "keras_v2",
            Variant::Caffe => "caffe",
            Variant::Torchvision => "torchvision",
        }
    }

    /// Whether the variant has auxiliary heads.
    pub fn has_heads(self) -> bool {
        self != Variant::KerasV2
    }

    /// The padding of a convolution with this kernel size, which is odd.
    fn conv_padding(self, kernel: usize) -> Padding {
        match self {
            Variant::Keras | Variant::KerasV2 => Padding::Same,
            Variant::Caffe | Variant::Torchvision => Padding::symmetric(kernel / 2),
        }
    }

    /// The 3x3 max pool of stride 2 between stages. The last one of torchvision's network is 2x2.
    fn stage_pool(self, name: &str) -> Window {
        match self {
            Variant::Keras | Variant::KerasV2 => Window::square(3, 2, Padding::Same),
            Variant::Torchvision if name.starts_with("pool4/") => Window::square(2, 2, Padding::symmetric_ceil(0)),
            Variant::Caffe | Variant::Torchvision => Window::square(3, 2, Padding::symmetric_ceil(0)),
        }
    }

    /// The 3x3 max pool of stride 1 inside a module.
    fn branch_pool(self) -> Window {
        match self {
            Variant::Keras | Variant::KerasV2 => Window::square(3, 1, Padding::Same),
            Variant::Caffe | Variant::Torchvision => Window::square(3, 1, Padding::symmetric_ceil(1)),
        }
    }

    /// The kernel size of the "5x5" branch. In torchvision's network it is 3, an old mistake that torchvision keeps so
    /// that its published weights still fit.
    pub fn kernel5x5(self) -> usize {
        if self == Variant::Torchvision { 3 } else { 5 }
    }

    /// Whether conv2 begins with a 1x1 convolution.
    fn conv2_reduces(self) -> bool {
        self != Variant::Keras
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Variant {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        Variant::ALL.into_iter().find(|v| v.name() == s).ok_or_else(|| {
            Error::Argument(format!(
                "\"{s}\" is not a variant of GoogLeNet; the variants are keras, keras_v2, caffe and torchvision"
            ))
        })
    }
}

/// The options from which a GoogLeNet is built.
///
/// ```
/// use googlenet::graph::{googlenet::Spec, tensor::Shape};
///
/// let network = Spec::default().build()?;
/// let module = network.find("inception_3a/output")?;
/// assert_eq!(network.node(module).shape, Shape::new(1, 28, 28, 256));
/// # Ok::<(), googlenet::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    pub variant: Variant,
    /// The number of classes of every head.
    pub classes: usize,
    /// Whether to build the auxiliary heads, if the variant has them.
    pub heads: bool,
    /// Height and width of the input in pixels. Models with auxiliary heads need 224, as the heads' dense layers read a
    /// 4x4 map.
    pub size: usize,
}

impl Default for Spec {
    fn default() -> Self {
        Spec { variant: Variant::default(), classes: 1000, heads: true, size: 224 }
    }
}

impl Spec {
    /// Builds the network. Fails with [`Error::Shape`] where a layer's input is too small.
    pub fn build(&self) -> Result<Network> {
        let mut net = Network::new();
        let data = net.input("data", Shape::new(1, self.size, self.size, 3))?;
        let mut x = self.stem(&mut net, data)?;
        for row in &TABLE {
            x = match row.name {
                "4a" => self.stage_pool(&mut net, "pool3/3x3_s2", x)?,
                "5a" => self.stage_pool(&mut net, "pool4/3x3_s2", x)?,
                _ => x,
            };
            x = self.module(&mut net, row, x)?;
            if self.heads && self.variant.has_heads() {
                match row.name {
                    "4a" => self.auxiliary_head(&mut net, "loss1", x)?,
                    "4d" => self.auxiliary_head(&mut net, "loss2", x)?,
                    _ => {}
                }
            }
        }
        net.enter(None, None);
        let pooled = net.add("pool5/7x7_s1", Op::AdaptiveAvgPool { out: [1, 1] }, &[x])?;
        let logits =
            net.add("loss3/classifier", Op::Dense { out: self.classes, activation: Activation::None }, &[pooled])?;
        let prob = net.add("prob", Op::Softmax, &[logits])?;
        net.add_head("loss3", logits, prob);
        Ok(net)
    }

    /// The layers before the first inception module.
    fn stem(&self, net: &mut Network, data: NodeId) -> Result<NodeId> {
        let mut x = self.conv(net, "conv1/7x7_s2", 7, 2, 64, data)?;
        x = self.stage_pool(net, "pool1/3x3_s2", x)?;
        x = self.lrn(net, "pool1/norm1", x)?;
        if self.variant.conv2_reduces() {
            x = self.conv(net, "conv2/3x3_reduce", 1, 1, 64, x)?;
        }
        x = self.conv(net, "conv2/3x3", 3, 1, 192, x)?;
        x = self.lrn(net, "conv2/norm2", x)?;
        self.stage_pool(net, "pool2/3x3_s2", x)
    }

    /// An inception module with dimension reductions (figure 2b): 1x1 convolutions before the 3x3 and 5x5 convolutions
    /// and after the pool.
    fn module(&self, net: &mut Network, row: &Row, x: NodeId) -> Result<NodeId> {
        let module = row.module();
        let name = |layer: &str| format!("{module}/{layer}");
        let conv = |net: &mut Network, layer: &str, kernel, out, x| self.conv(net, &name(layer), kernel, 1, out, x);

        net.enter(Some(&module), Some(Branch::Conv1x1));
        let b1 = conv(net, "1x1", 1, row.conv1x1, x)?;
        net.enter(Some(&module), Some(Branch::Conv3x3));
        let reduced = conv(net, "3x3_reduce", 1, row.reduce3x3, x)?;
        let b2 = conv(net, "3x3", 3, row.conv3x3, reduced)?;
        net.enter(Some(&module), Some(Branch::Conv5x5));
        let reduced = conv(net, "5x5_reduce", 1, row.reduce5x5, x)?;
        let b3 = conv(net, "5x5", self.variant.kernel5x5(), row.conv5x5, reduced)?;
        net.enter(Some(&module), Some(Branch::Pool));
        let pooled = net.add(&name("pool"), Op::MaxPool(self.variant.branch_pool()), &[x])?;
        let b4 = conv(net, "pool_proj", 1, row.pool_proj, pooled)?;
        net.enter(Some(&module), None);
        net.add(&name("output"), Op::Concat, &[b1, b2, b3, b4])
    }

    /// The naive inception module (figure 2a), without the 1x1 reductions and the projection after the pool.
    fn naive_module(&self, net: &mut Network, row: &Row, x: NodeId) -> Result<NodeId> {
        let module = row.module();
        let name = |layer: &str| format!("{module}/{layer}");

        net.enter(Some(&module), Some(Branch::Conv1x1));
        let b1 = self.conv(net, &name("1x1"), 1, 1, row.conv1x1, x)?;
        net.enter(Some(&module), Some(Branch::Conv3x3));
        let b2 = self.conv(net, &name("3x3"), 3, 1, row.conv3x3, x)?;
        net.enter(Some(&module), Some(Branch::Conv5x5));
        let b3 = self.conv(net, &name("5x5"), self.variant.kernel5x5(), 1, row.conv5x5, x)?;
        net.enter(Some(&module), Some(Branch::Pool));
        let b4 = net.add(&name("pool"), Op::MaxPool(self.variant.branch_pool()), &[x])?;
        net.enter(Some(&module), None);
        net.add(&name("output"), Op::Concat, &[b1, b2, b3, b4])
    }

    /// An auxiliary head (the paper's section 5, p. 6): average pool 5x5 with stride 3, 1x1 convolution, two dense
    /// layers.
    fn auxiliary_head(&self, net: &mut Network, head: &str, x: NodeId) -> Result<()> {
        net.enter(Some(head), None);
        let name = |layer: &str| format!("{head}/{layer}");
        // torchvision uses an adaptive average pool to 4x4, which on a 14x14 map differs from a 5x5 window of stride 3.
        let pool = match self.variant {
            Variant::Torchvision => Op::AdaptiveAvgPool { out: [4, 4] },
            _ => Op::AvgPool { window: Window::square(5, 3, Padding::Valid), count_padding: false },
        };
        let x = net.add(&name("ave_pool"), pool, &[x])?;
        let x = self.conv(net, &name("conv"), 1, 1, 128, x)?;
        let x = net.add(&name("fc"), Op::Dense { out: 1024, activation: Activation::Relu }, &[x])?;
        let logits =
            net.add(&name("classifier"), Op::Dense { out: self.classes, activation: Activation::None }, &[x])?;
        let prob = net.add(&name("prob"), Op::Softmax, &[logits])?;
        net.add_head(head, logits, prob);
        Ok(())
    }

    fn conv(
        &self,
        net: &mut Network,
        name: &str,
        kernel: usize,
        stride: usize,
        out: usize,
        x: NodeId,
    ) -> Result<NodeId> {
        let window = Window::square(kernel, stride, self.variant.conv_padding(kernel));
        net.add(name, Op::Conv { window, out, activation: Activation::Relu }, &[x])
    }

    fn stage_pool(&self, net: &mut Network, name: &str, x: NodeId) -> Result<NodeId> {
        net.enter(None, None);
        net.add(name, Op::MaxPool(self.variant.stage_pool(name)), &[x])
    }

    fn lrn(&self, net: &mut Network, name: &str, x: NodeId) -> Result<NodeId> {
        if self.variant != Variant::Caffe {
            return Ok(x);
        }
        net.add(name, Op::Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 }, &[x])
    }
}

/// One inception module as a network of its own, for an input of this shape: with the reductions that GoogLeNet uses
/// (the paper's figure 2b), or `naive` (figure 2a). A comparison of the two shows how much the reductions save.
pub fn module_network(variant: Variant, row: &Row, input: Shape, naive: bool) -> Result<Network> {
    let spec = Spec { variant, ..Spec::default() };
    let mut net = Network::new();
    let x = net.input("data", input)?;
    if naive {
        spec.naive_module(&mut net, row, x)?
    } else {
        spec.module(&mut net, row, x)?
    };
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::op::Field;

    fn params(net: &Network, prefix: &str) -> usize {
        (0..net.nodes().len()).filter(|&i| net.node(i).name.starts_with(prefix)).map(|i| net.params(i)).sum()
    }

    #[test]
    fn parameter_counts_match_the_paper_and_the_frameworks() {
        let keras = Spec::default().build().unwrap();
        assert_eq!(keras.total_params(), 13_374_120);
        assert_eq!(params(&keras, "conv1/"), 9_472);
        assert_eq!(params(&keras, "conv2/"), 110_784);
        let modules: Vec<usize> = TABLE.iter().map(|r| params(&keras, &r.module())).collect();
        assert_eq!(modules, [163_696, 388_736, 376_176, 449_160, 510_104, 605_376, 868_352, 1_043_456, 1_444_080]);
        assert_eq!(params(&keras, "loss3/"), 1_025_000);
        assert_eq!(params(&keras, "loss1/"), 3_188_840);
        assert_eq!(params(&keras, "loss2/"), 3_190_888);

        let total = |variant| Spec { variant, heads: false, ..Spec::default() }.build().unwrap().total_params();
        assert_eq!(total(Variant::Caffe), 6_998_552);
        assert_eq!(total(Variant::Torchvision), 6_624_904 - BATCH_NORM_EXTRA);
    }

    /// torchvision's 6,624,904 parameters include the scale and shift of batch norm (2 per channel, 7,280 channels) and
    /// no convolution bias. After folding, each channel has one bias.
    const BATCH_NORM_EXTRA: usize = 7_280;

    #[test]
    fn shapes_match_the_paper() {
        for variant in Variant::ALL {
            let net = Spec { variant, ..Spec::default() }.build().unwrap();
            let shape = |name: &str| net.node(net.find(name).unwrap()).shape;
            assert_eq!(shape("conv1/7x7_s2"), Shape::new(1, 112, 112, 64), "{variant}");
            assert_eq!(shape("pool1/3x3_s2"), Shape::new(1, 56, 56, 64), "{variant}");
            assert_eq!(shape("conv2/3x3"), Shape::new(1, 56, 56, 192), "{variant}");
            for (row, (size, c)) in TABLE.iter().zip([
                (28, 256),
                (28, 480),
                (14, 512),
                (14, 512),
                (14, 512),
                (14, 528),
                (14, 832),
                (7, 832),
                (7, 1024),
            ]) {
                assert_eq!(shape(&format!("{}/output", row.module())), Shape::new(1, size, size, c));
                assert_eq!(row.out(), c);
            }
            assert_eq!(shape("pool5/7x7_s1"), Shape::new(1, 1, 1, 1024));
            assert_eq!(shape("prob"), Shape::new(1, 1, 1, 1000));
            assert_eq!(net.heads().len(), if variant.has_heads() { 3 } else { 1 });
            assert_eq!(net.heads().last().unwrap().name, "loss3");
        }
    }

    #[test]
    fn other_class_counts_and_sizes_build() {
        let ten = Spec { classes: 10, ..Spec::default() }.build().unwrap();
        assert_eq!(ten.total_params(), 13_374_120 - 3 * 990 * 1025);
        let wide = Spec { size: 448, heads: false, ..Spec::default() }.build().unwrap();
        assert_eq!(wide.node(wide.find("inception_5b/output").unwrap()).shape, Shape::new(1, 14, 14, 1024));
        assert_eq!(wide.node(wide.find("prob").unwrap()).shape, Shape::new(1, 1, 1, 1000));
        assert!(Spec { classes: 0, ..Spec::default() }.build().is_err());
        assert!(Spec { size: 0, ..Spec::default() }.build().is_err());
        assert!("alexnet".parse::<Variant>().unwrap_err().to_string().contains("torchvision"));
    }

    #[test]
    fn the_5x5_reduction_saves_multiply_adds() {
        let input = Shape::new(1, 28, 28, 192);
        let cost = |naive, layer: &str| {
            let net = module_network(Variant::Keras, &TABLE[0], input, naive).unwrap();
            net.macs(net.find(&format!("inception_3a/{layer}")).unwrap())
        };
        assert_eq!(cost(true, "5x5"), 120_422_400);
        assert_eq!((cost(false, "5x5_reduce"), cost(false, "5x5")), (2_408_448, 10_035_200));
        assert_eq!(cost(false, "5x5_reduce") + cost(false, "5x5"), 12_443_648);
        let naive = module_network(Variant::Keras, &TABLE[0], input, true).unwrap();
        let out = naive.node(naive.find("inception_3a/output").unwrap()).shape;
        assert_eq!(out, Shape::new(1, 28, 28, 64 + 128 + 32 + 192));
    }

    #[test]
    fn receptive_fields_of_known_layers_are_right() {
        let known = [
            // Size and jump; start with Keras' padding and with Caffe's.
            ("data", 1, 1, 0, 0),
            ("conv1/7x7_s2", 7, 2, -2, -3),
            ("pool1/3x3_s2", 11, 4, -2, -3),
            ("conv2/3x3", 19, 4, -6, -7),
            ("pool2/3x3_s2", 27, 8, -6, -7),
            ("inception_3a/1x1", 27, 8, -6, -7),
            ("inception_3a/3x3", 27 + 2 * 8, 8, -6 - 8, -7 - 8),
            ("inception_3a/output", 27 + 4 * 8, 8, -6 - 2 * 8, -7 - 2 * 8),
            ("inception_3b/output", 27 + 8 * 8, 8, -6 - 4 * 8, -7 - 4 * 8),
            ("pool3/3x3_s2", 27 + 10 * 8, 16, -6 - 4 * 8, -7 - 4 * 8),
            ("loss1/ave_pool", 27 + 10 * 8 + 8 * 16, 48, -6 - 4 * 8 - 2 * 16, -7 - 4 * 8 - 2 * 16),
        ];
        for variant in [Variant::Keras, Variant::Caffe] {
            let net = Spec { variant, ..Spec::default() }.build().unwrap();
            for (name, size, jump, keras, caffe) in known {
                let start = if variant == Variant::Keras { keras } else { caffe };
                let field = Field { size: [size; 2], jump: [jump; 2], start: [start; 2] };
                assert_eq!(net.node(net.find(name).unwrap()).field, field, "{variant}, {name}");
            }
        }
    }

    /// Computes the pixels that each cell of each layer depends on from the window positions inside its inputs, and
    /// compares them with the receptive field. Padding inside the network depends on no pixel.
    #[test]
    fn receptive_fields_match_the_pixels_that_cells_depend_on() {
        let taps = |op: &Op, map: [usize; 2], axis: usize, cell: usize| -> std::ops::Range<usize> {
            match op {
                Op::Conv { window, .. } | Op::MaxPool(window) | Op::AvgPool { window, .. } => {
                    let pad = window.on(map).unwrap().pad[axis];
                    let first = cell * window.stride[axis];
                    first.saturating_sub(pad)..(first + window.kernel[axis] - pad).min(map[axis])
                }
                Op::AdaptiveAvgPool { out } => {
                    let (from, to) = crate::graph::op::adaptive_range(cell, map[axis], out[axis]);
                    from..to
                }
                Op::Dense { .. } => 0..map[axis],
                _ => cell..cell + 1,
            }
        };
        for variant in Variant::ALL {
            let net = Spec { variant, ..Spec::default() }.build().unwrap();
            for axis in [0, 1] {
                let mut seen: Vec<Vec<(usize, usize)>> = Vec::new();
                for node in net.nodes() {
                    let cells = [node.shape.h, node.shape.w][axis];
                    let of = |cell: usize| {
                        let each = node.inputs.iter().flat_map(|&input| {
                            let shape = net.node(input).shape;
                            taps(&node.op, [shape.h, shape.w], axis, cell).map(move |tap| (input, tap))
                        });
                        let each = each.map(|(input, tap)| seen[input][tap]);
                        each.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))).unwrap_or((cell, cell + 1))
                    };
                    let all: Vec<_> = (0..cells).map(of).collect();
                    let within = |at: isize| at.clamp(0, 224) as usize;
                    let says = |field: Field, cell: usize| {
                        let start = field.start[axis] + (cell * field.jump[axis]) as isize;
                        (within(start), within(start + field.size[axis] as isize))
                    };
                    let wrong = |field: Field| (0..cells).filter(|&cell| says(field, cell) != all[cell]).count();
                    let uneven = matches!(node.op, Op::AdaptiveAvgPool { .. }) && cells > 1;
                    if uneven || node.module.as_deref().is_some_and(|m| m.starts_with("loss")) {
                        let holds = |cell| {
                            let (from, to) = says(node.field, cell);
                            from <= all[cell].0 && to >= all[cell].1
                        };
                        assert!((0..cells).all(holds), "{variant}, {}", node.name);
                    } else {
                        assert_eq!(wrong(node.field), 0, "{variant}, {}", node.name);
                    }
                    // Negative control: a field that is shifted by one pixel is wrong, unless every cell depends on the
                    // whole picture.
                    let moved = Field { start: node.field.start.map(|at| at + 1), ..node.field };
                    assert!(wrong(moved) > 0 || all.iter().all(|&cell| cell == (0, 224)), "{variant}, {}", node.name);
                    seen.push(all);
                }
            }
        }
    }
}
