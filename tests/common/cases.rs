//! Cases for every operation: odd and non-square sizes, batches, and every padding rule.

use super::{Case, Named, Rng, Tolerance};
use googlenet::graph::googlenet::{Row, Variant, module_network};
use googlenet::graph::network::{Branch, Network, NodeId};
use googlenet::graph::op::{Activation, Op, Padding, Window};
use googlenet::graph::tensor::Shape;

/// Paddings of every kind for kernels of at least 3, including asymmetric ones and sizes that are rounded up.
pub const PADDINGS: [Padding; 6] = [
    Padding::Valid,
    Padding::Same,
    Padding::symmetric(1),
    Padding::symmetric_ceil(1),
    Padding::Explicit { top: 0, left: 2, bottom: 1, right: 0, ceil: false },
    Padding::Explicit { top: 2, left: 0, bottom: 0, right: 1, ceil: true },
];

/// One operation on an input of this shape, with random values; `None` if the window does not fit the input.
pub fn one_op(op: Op, input: Shape, seed: u64) -> Option<Case> {
    let mut network = Network::new();
    let x = network.input("data", input).ok()?;
    network.add("op", op.clone(), &[x]).ok()?;
    let mut rng = Rng::new(seed);
    let inputs = vec![rng.tensor(input)];
    let weights = weights(&network, &mut rng);
    Some(Case::new(&format!("{op:?} on {input}, seed {seed}"), network, weights, inputs))
}

/// Random weights for every layer of a network, scaled so that activations stay around 1.
pub fn weights(network: &Network, rng: &mut Rng) -> Vec<Named> {
    let mut weights = Vec::new();
    for (id, node) in network.nodes().iter().enumerate() {
        let Some(dims) = node.op.weight_dims(network.input_shape(id)) else { continue };
        let len: usize = dims.iter().product();
        let scale = (3.0 * dims[0] as f32 / len as f32).sqrt();
        let bias = rng.values(dims[0]);
        let values = rng.values(len).iter().map(|v| v * scale).collect();
        weights.push((format!("{}.bias", node.name), vec![dims[0]], bias));
        weights.push((format!("{}.weight", node.name), dims, values));
    }
    weights
}

fn all(ops: impl IntoIterator<Item = (Op, Shape)>) -> Vec<Case> {
    let case = |(i, (op, shape)): (usize, (Op, Shape))| one_op(op, shape, i as u64).expect("the window fits the input");
    ops.into_iter().enumerate().map(case).collect()
}

pub fn conv() -> Vec<Case> {
    let conv = |kernel, stride, padding, out, relu| Op::Conv {
        window: Window { kernel, stride, padding },
        out,
        activation: Activation::from(relu),
    };
    let mut ops = vec![
        (conv([1, 1], [1, 1], Padding::Valid, 17, true), Shape::new(3, 5, 7, 24)),
        (conv([1, 1], [2, 3], Padding::Valid, 5, false), Shape::new(2, 7, 8, 3)),
        (conv([1, 1], [1, 1], Padding::Same, 1, false), Shape::new(1, 1, 1, 1)),
        (conv([7, 7], [2, 2], Padding::Same, 16, true), Shape::new(2, 15, 11, 3)),
        (conv([7, 7], [2, 2], Padding::symmetric(3), 19, true), Shape::new(1, 14, 17, 3)),
        (conv([5, 5], [1, 1], Padding::Same, 24, false), Shape::new(2, 6, 9, 17)),
        (conv([5, 5], [1, 1], Padding::symmetric(2), 8, true), Shape::new(1, 3, 2, 4)),
        (conv([1, 7], [1, 2], Padding::Same, 9, false), Shape::new(1, 4, 13, 5)),
        (conv([3, 2], [3, 1], Padding::Valid, 33, true), Shape::new(2, 11, 5, 16)),
        // More pixels than one block of rows of the CPU's GEMM, and more products than one chain of its sums.
        (conv([3, 3], [1, 1], Padding::Same, 40, true), Shape::new(1, 21, 23, 96)),
    ];
    ops.extend(PADDINGS.map(|padding| (conv([3, 3], [1, 1], padding, 16, true), Shape::new(2, 7, 9, 16))));
    ops.extend(PADDINGS.map(|padding| (conv([3, 5], [2, 3], padding, 6, false), Shape::new(1, 8, 11, 3))));
    all(ops)
}

pub fn pool() -> Vec<Case> {
    let mut ops = Vec::new();
    for (i, padding) in PADDINGS.into_iter().enumerate() {
        let channels = [1, 3, 4, 5, 17, 24][i];
        for (kernel, stride) in [([3, 3], [1, 1]), ([3, 3], [2, 2]), ([5, 3], [3, 2])] {
            let window = Window { kernel, stride, padding };
            let shape = Shape::new(1 + i % 3, 9, 8 + i, channels);
            ops.push((Op::MaxPool(window), shape));
            ops.extend([false, true].map(|count_padding| (Op::AvgPool { window, count_padding }, shape)));
        }
    }
    ops.push((Op::MaxPool(Window::square(2, 2, Padding::symmetric_ceil(0))), Shape::new(2, 7, 5, 32)));
    ops.push((Op::MaxPool(Window::square(1, 2, Padding::symmetric_ceil(0))), Shape::new(1, 2, 3, 4)));
    for (out, shape) in [
        ([1, 1], Shape::new(2, 7, 7, 48)),
        ([1, 1], Shape::new(1, 3, 5, 1)),
        ([4, 4], Shape::new(1, 14, 14, 19)),
        ([3, 2], Shape::new(2, 7, 5, 16)),
        ([4, 5], Shape::new(1, 3, 2, 3)),
    ] {
        ops.push((Op::AdaptiveAvgPool { out }, shape));
    }
    all(ops)
}

pub fn lrn() -> Vec<Case> {
    let lrn = |size, alpha, beta, k| Op::Lrn { size, alpha, beta, k };
    all([
        (lrn(5, 1e-4, 0.75, 1.0), Shape::new(2, 3, 5, 64)),
        (lrn(5, 2.0, 0.75, 1.0), Shape::new(1, 4, 3, 17)),
        (lrn(3, 1.5, 0.5, 2.0), Shape::new(3, 2, 3, 5)),
        (lrn(4, 1.0, 0.6, 1.0), Shape::new(1, 2, 2, 6)),
        (lrn(1, 1.0, 0.75, 0.5), Shape::new(1, 1, 3, 4)),
        (lrn(9, 3.0, 1.0, 1.0), Shape::new(2, 1, 1, 3)),
        // Multiples of four channels, windows that extend beyond them on either side, and another power.
        (lrn(5, 2.0, 0.75, 1.0), Shape::new(1, 2, 3, 12)),
        (lrn(8, 2.0, 0.75, 1.0), Shape::new(2, 3, 2, 16)),
        (lrn(7, 1.5, 0.6, 2.0), Shape::new(1, 3, 2, 8)),
    ])
}

pub fn dense() -> Vec<Case> {
    let dense = |out, relu| Op::Dense { out, activation: Activation::from(relu) };
    all([
        (dense(10, false), Shape::new(1, 1, 1, 64)),
        (dense(17, true), Shape::new(3, 4, 3, 5)),
        (dense(1, false), Shape::new(2, 1, 1, 1)),
        (dense(33, true), Shape::new(9, 2, 2, 16)),
        (dense(7, false), Shape::new(2, 1, 1, 1023)),
    ])
}

pub fn softmax() -> Vec<Case> {
    let mut cases = all([
        (Op::Softmax, Shape::new(1, 1, 1, 1000)),
        (Op::Softmax, Shape::new(3, 1, 1, 10)),
        (Op::Softmax, Shape::new(2, 3, 5, 17)),
        (Op::Softmax, Shape::new(1, 2, 2, 2)),
    ]);
    // Scores whose exponentials would overflow in f32.
    for offset in [-1000.0, 1000.0] {
        let mut case = cases[1].clone();
        case.inputs[0].data.iter_mut().for_each(|v| *v = *v * 8.0 + offset);
        cases.push(Case::new(&format!("softmax around {offset}"), case.network, case.weights, case.inputs));
    }
    cases
}

/// A module whose branches have odd numbers of channels.
const ODD: Row = Row { name: "3a", conv1x1: 5, reduce3x3: 3, conv3x3: 7, reduce5x5: 2, conv5x5: 3, pool_proj: 9 };
/// A module whose branches begin at multiples of four channels.
const EVEN: Row = Row { name: "3b", conv1x1: 8, reduce3x3: 4, conv3x3: 12, reduce5x5: 4, conv5x5: 4, pool_proj: 16 };

/// A whole inception module, whose branches write to ranges of the output's channels.
pub fn module(variant: Variant, odd: bool, naive: bool, input: Shape, seed: u64) -> Case {
    let row = if odd { &ODD } else { &EVEN };
    let network = module_network(variant, row, input, naive).expect("the module fits the input");
    let mut rng = Rng::new(seed);
    let weights = weights(&network, &mut rng);
    let inputs = vec![rng.tensor(input)];
    let name = format!("{} of {variant}, naive {naive}, on {input}", row.module());
    Case::new(&name, network, weights, inputs).within(Tolerance::LAYERS)
}

pub fn concat() -> Vec<Case> {
    let gains = [
        ("inception_3a/1x1", 0.5),
        ("inception_3a/3x3", 0.0),
        ("inception_3a/5x5", -1.25),
        ("inception_3a/pool_proj", 1.0),
    ];
    let mut cases = vec![
        module(Variant::Keras, true, false, Shape::new(2, 5, 7, 6), 1),
        module(Variant::Caffe, true, false, Shape::new(1, 6, 5, 17), 2),
        module(Variant::Torchvision, false, false, Shape::new(3, 4, 9, 8), 3),
        module(Variant::Caffe, true, true, Shape::new(2, 3, 5, 5), 4),
        module(Variant::Keras, true, false, Shape::new(2, 5, 7, 6), 5).with_gains(&gains),
    ];
    // Concatenations that cannot be done in place: of inputs, and of the same node twice.
    let mut network = Network::new();
    let shapes = [Shape::new(2, 3, 5, 3), Shape::new(2, 3, 5, 4)];
    let a = network.input("a", shapes[0]).expect("an input");
    let b = network.input("b", shapes[1]).expect("an input");
    let joined = network.add("joined", Op::Concat, &[a, b, a]).expect("they have one size");
    network.add("again", Op::Concat, &[joined, b]).expect("they have one size");
    let mut rng = Rng::new(6);
    let inputs: Vec<_> = shapes.iter().map(|&s| rng.tensor(s)).collect();
    let case = Case::new("a join of inputs", network, Vec::new(), inputs);
    cases.push(case.clone());
    cases.push(case.with_gains(&[("a", 2.0), ("joined", 0.25)]));
    cases
}

/// A network of layers, each with the index of the layer that it reads. Index 0 is the input, and 1 is the first layer.
fn layers(name: &str, input: Shape, layers: &[(Op, usize)]) -> Case {
    let mut network = Network::new();
    let mut nodes = vec![network.input("data", input).expect("an input")];
    for (op, from) in layers {
        let name = format!("layer{}", nodes.len());
        nodes.push(network.add(&name, op.clone(), &[nodes[*from]]).expect("a layer that fits"));
    }
    let mut rng = Rng::new(input.len() as u64);
    let weights = weights(&network, &mut rng);
    let inputs = vec![rng.tensor(input)];
    Case::new(&format!("{name}, on {input}"), network, weights, inputs).within(Tolerance::LAYERS)
}

/// Layers that are fused into one dispatch, and layers that pass their output through textures.
pub fn fused() -> Vec<Case> {
    let square = |size, stride, padding| Window::square(size, stride, padding);
    let conv =
        |size, out, relu| Op::Conv { window: square(size, 1, Padding::Same), out, activation: Activation::from(relu) };
    let lrn = |size, alpha, beta, k| Op::Lrn { size, alpha, beta, k };
    vec![
        layers(
            "a pool and the projection of it",
            Shape::new(2, 6, 5, 8),
            &[(Op::MaxPool(square(3, 2, Padding::symmetric_ceil(0))), 0), (conv(1, 12, true), 1)],
        ),
        // More channels than a workgroup holds and computes at once.
        layers(
            "a pool and a projection of many channels",
            Shape::new(1, 3, 4, 524),
            &[(Op::MaxPool(square(3, 1, Padding::Same)), 0), (conv(1, 136, false), 1)],
        ),
        layers(
            "a normalisation behind a convolution",
            Shape::new(2, 5, 7, 12),
            &[(conv(3, 24, true), 0), (lrn(5, 2.0, 0.75, 1.0), 1)],
        ),
        layers(
            "a normalisation over a wide window",
            Shape::new(1, 4, 5, 8),
            &[(conv(1, 16, false), 0), (lrn(9, 1.5, 0.6, 2.0), 1)],
        ),
        layers(
            "three layers of one input",
            Shape::new(2, 5, 3, 24),
            &[(conv(1, 8, true), 0), (conv(1, 20, true), 0), (conv(1, 4, true), 0)],
        ),
        layers(
            "layers of one input with any number of channels",
            Shape::new(1, 3, 7, 5),
            &[(conv(1, 7, false), 0), (conv(1, 2, false), 0)],
        ),
        layers(
            "a chain of layers",
            Shape::new(1, 9, 7, 4),
            &[
                (conv(3, 16, true), 0),
                (Op::MaxPool(square(3, 2, Padding::symmetric(1))), 1),
                (lrn(5, 1.0, 0.75, 1.0), 2),
                (conv(1, 8, true), 3),
                (conv(5, 12, true), 4),
                (Op::AvgPool { window: square(2, 1, Padding::Valid), count_padding: false }, 5),
                (lrn(3, 1.0, 0.5, 2.0), 6),
            ],
        ),
    ]
}

/// A small GoogLeNet for `batch` pictures of 19x17 pixels: a stem with normalisation, two inception modules of odd numbers
/// of channels, two auxiliary heads with five classes, and dropout in front of every classifier.
pub fn miniature(batch: usize, seed: u64) -> Case {
    let input = Shape::new(batch, 19, 17, 3);
    let network = miniature_network(input).expect("the layers fit the input");
    let mut rng = Rng::new(seed);
    let weights = weights(&network, &mut rng);
    let inputs = vec![rng.tensor(input)];
    Case::new(&format!("a small GoogLeNet on {input}, seed {seed}"), network, weights, inputs).within(Tolerance::LAYERS)
}

fn miniature_network(input: Shape) -> googlenet::Result<Network> {
    const CLASSES: usize = 5;
    let relu = |kernel, stride, out| Op::Conv {
        window: Window::square(kernel, stride, Padding::Same),
        out,
        activation: Activation::Relu,
    };
    let dense = |out, relu| Op::Dense { out, activation: Activation::from(relu) };
    let mut net = Network::new();
    let module = |net: &mut Network, row: &Row, x: NodeId| -> googlenet::Result<NodeId> {
        let module = row.module();
        let branches = [
            (Branch::Conv1x1, vec![("1x1", relu(1, 1, row.conv1x1))]),
            (Branch::Conv3x3, vec![("3x3_reduce", relu(1, 1, row.reduce3x3)), ("3x3", relu(3, 1, row.conv3x3))]),
            (Branch::Conv5x5, vec![("5x5_reduce", relu(1, 1, row.reduce5x5)), ("5x5", relu(5, 1, row.conv5x5))]),
            (
                Branch::Pool,
                vec![
                    ("pool", Op::MaxPool(Window::square(3, 1, Padding::symmetric_ceil(1)))),
                    ("pool_proj", relu(1, 1, row.pool_proj)),
                ],
            ),
        ];
        let mut ends = Vec::new();
        for (branch, layers) in branches {
            net.enter(Some(&module), Some(branch));
            let mut last = x;
            for (layer, op) in layers {
                last = net.add(&format!("{module}/{layer}"), op, &[last])?;
            }
            ends.push(last);
        }
        net.enter(Some(&module), None);
        net.add(&format!("{module}/output"), Op::Concat, &ends)
    };
    let head = |net: &mut Network, head: &str, x: NodeId| -> googlenet::Result<()> {
        net.enter(Some(head), None);
        let name = |layer: &str| format!("{head}/{layer}");
        let window = Window::square(3, 2, Padding::symmetric(1));
        let x = net.add(&name("ave_pool"), Op::AvgPool { window, count_padding: false }, &[x])?;
        let x = net.add(&name("conv"), relu(1, 1, 7), &[x])?;
        let x = net.add(&name("fc"), dense(11, true), &[x])?;
        let x = net.add(&name("drop_fc"), Op::Dropout { ratio: 0.7 }, &[x])?;
        let logits = net.add(&name("classifier"), dense(CLASSES, false), &[x])?;
        let prob = net.add(&name("prob"), Op::Softmax, &[logits])?;
        net.add_head(head, logits, prob);
        Ok(())
    };
    let x = net.input("data", input)?;
    let x = net.add("conv1", relu(5, 2, 9), &[x])?;
    let x = net.add("pool1", Op::MaxPool(Window::square(3, 2, Padding::symmetric_ceil(0))), &[x])?;
    let x = net.add("norm1", Op::Lrn { size: 5, alpha: 0.5, beta: 0.75, k: 1.0 }, &[x])?;
    let x = module(&mut net, &ODD, x)?;
    head(&mut net, "loss1", x)?;
    net.enter(None, None);
    let x = net.add("pool3", Op::MaxPool(Window::square(3, 2, Padding::Same)), &[x])?;
    let second = Row { name: "4a", conv1x1: 3, reduce3x3: 5, conv3x3: 9, reduce5x5: 3, conv5x5: 5, pool_proj: 4 };
    let x = module(&mut net, &second, x)?;
    head(&mut net, "loss2", x)?;
    net.enter(None, None);
    let x = net.add("pool5", Op::AdaptiveAvgPool { out: [1, 1] }, &[x])?;
    let x = net.add("drop5", Op::Dropout { ratio: 0.4 }, &[x])?;
    let logits = net.add("loss3/classifier", dense(CLASSES, false), &[x])?;
    let prob = net.add("prob", Op::Softmax, &[logits])?;
    net.add_head("loss3", logits, prob);
    Ok(net)
}
