#!/usr/bin/env python3
"""Writes the networks that `cargo xtask bench cpu` times, for us and for each peer, from the same weights.

usage: make_peers.py FOLDER [--caffe FILE] [--keras FILE]

FILE holds the weights as our safetensors do, without auxiliary heads; without it they are random, and so are
the answers, but not the work. For each VARIANT, `caffe` and `keras`, FOLDER gets
  VARIANT.safetensors                         for us, and for TensorFlow.js, whose network is built in JavaScript
  VARIANT-320.safetensors, -448.safetensors   the same weights for larger pictures
  VARIANT.onnx                                for onnxruntime: `data` (1,3,224,224) to `prob` (1,1000)
  VARIANT.tflite                              for LiteRT: (1,224,224,3) to (1,1000)
"""

import argparse
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
from make_models import TABLE  # noqa: E402

SIZES = (224, 320, 448)
# Caffe's alpha, and ONNX's, is divided by the size of the window; TensorFlow's is not.
LRN = {"size": 5, "alpha": 1e-4, "beta": 0.75, "k": 1.0}


def network(b, variant, x):
    """The network on a builder, in the order in which it runs."""
    caffe = variant == "caffe"
    x = b.conv(x, "conv1/7x7_s2", 7, stride=2, symmetric=caffe)
    x = b.pool(x, 2)
    if caffe:
        x = b.lrn(x)
        x = b.conv(x, "conv2/3x3_reduce", 1)
    x = b.conv(x, "conv2/3x3", 3)
    if caffe:
        x = b.lrn(x)
    x = b.pool(x, 2)
    for row in TABLE:
        if row in ("4a", "5a"):
            x = b.pool(x, 2)
        n = f"inception_{row}/"
        x = b.concat([
            b.conv(x, n + "1x1", 1),
            b.conv(b.conv(x, n + "3x3_reduce", 1), n + "3x3", 3),
            b.conv(b.conv(x, n + "5x5_reduce", 1), n + "5x5", 5),
            b.conv(b.pool(x, 1), n + "pool_proj", 1),
        ])
    return b.head(x, "loss3/classifier")


class Shapes:
    """Only which weights there are, and of which shape."""

    def __init__(self):
        self.weights = {}

    def conv(self, x, name, kernel, stride=1, symmetric=False):
        module, _, layer = name.partition("/")
        row = TABLE.get(module.removeprefix("inception_"))
        places = ("1x1", "3x3_reduce", "3x3", "5x5_reduce", "5x5", "pool_proj")
        stem = {"conv1/7x7_s2": 64, "conv2/3x3_reduce": 64, "conv2/3x3": 192}
        out = row[places.index(layer)] if row else stem[name]
        self.weights[name] = (out, x, kernel, kernel)
        return out

    def pool(self, x, stride):
        return x

    def lrn(self, x):
        return x

    def concat(self, parts):
        return sum(parts)

    def head(self, x, name):
        self.weights[name] = (1000, x)


def random_weights(variant):
    shapes, rng, tensors = Shapes(), np.random.default_rng(0), {}
    network(shapes, variant, 3)
    for name, shape in shapes.weights.items():
        spread = np.sqrt(2 / np.prod(shape[1:]))
        tensors[name + ".weight"] = rng.normal(0, spread, shape).astype(np.float32)
        tensors[name + ".bias"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
    return tensors


class Onnx:
    def __init__(self, weights):
        from onnx import helper, numpy_helper

        self.helper, self.nodes = helper, []
        self.weights = [numpy_helper.from_array(a, k) for k, a in weights.items()]

    def node(self, kind, inputs, **attributes):
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def conv(self, x, name, kernel, stride=1, symmetric=False):
        p = kernel // 2
        pads = [p] * 4 if stride == 1 or symmetric else [p - 1, p - 1, p, p]
        inputs = [x, name + ".weight", name + ".bias"]
        return self.node("Relu", [self.node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)])

    def pool(self, x, stride):
        # Rounding up and TensorFlow's SAME come to the same on maps of even size.
        pads = [1, 1, 1, 1] if stride == 1 else [0, 0, 1, 1]
        return self.node("MaxPool", [x], kernel_shape=[3, 3], strides=[stride] * 2, pads=pads)

    def lrn(self, x):
        return self.node("LRN", [x], size=LRN["size"], alpha=LRN["alpha"], beta=LRN["beta"], bias=LRN["k"])

    def concat(self, parts):
        return self.node("Concat", parts, axis=1)

    def head(self, x, name):
        x = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        return self.node("Softmax", [self.node("Gemm", [x, name + ".weight", name + ".bias"], transB=1)], axis=1)


def write_onnx(weights, variant, path):
    import onnx
    from onnx import TensorProto, helper

    b = Onnx(weights)
    network(b, variant, "data")
    b.nodes[-1].output[0] = "prob"
    tensor = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)  # noqa: E731
    graph = helper.make_graph(
        b.nodes, variant, [tensor("data", [1, 3, 224, 224])], [tensor("prob", [1, 1000])], b.weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)


class TensorFlow:
    def __init__(self, weights):
        import tensorflow as tf

        self.tf, self.weights = tf, weights

    def conv(self, x, name, kernel, stride=1, symmetric=False):
        filters = self.weights[name + ".weight"].transpose(2, 3, 1, 0)
        p = [kernel // 2] * 2
        padding = [[0, 0], p, p, [0, 0]] if stride == 2 and symmetric else "SAME"
        return self.tf.nn.relu(self.tf.nn.conv2d(x, filters, stride, padding) + self.weights[name + ".bias"])

    def pool(self, x, stride):
        return self.tf.nn.max_pool2d(x, 3, stride, "SAME")

    def lrn(self, x):
        # One of other operations, its sum over channels a 1x1 convolution, was not faster in the median.
        alpha = LRN["alpha"] / LRN["size"]
        return self.tf.nn.local_response_normalization(x, LRN["size"] // 2, LRN["k"], alpha, LRN["beta"])

    def concat(self, parts):
        return self.tf.concat(parts, -1)

    def head(self, x, name):
        x = self.tf.reduce_mean(x, (1, 2))
        return self.tf.nn.softmax(x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"])


def write_tflite(weights, variant, path):
    import tensorflow as tf

    b = TensorFlow(weights)
    function = tf.function(lambda data: network(b, variant, data))
    concrete = function.get_concrete_function(tf.TensorSpec((1, 224, 224, 3), tf.float32))
    path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete], function).convert())


def write_ours(weights, variant, size, path):
    # The pictures are numbers here; a picture's own preprocessing plays no part.
    metadata = {"variant": variant, "preprocessing": json.dumps({"size": size}), "name": f"{variant}, {size}"}
    save_file(weights, path, metadata)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=pathlib.Path)
    for variant in ("caffe", "keras"):
        arguments.add_argument(f"--{variant}", type=pathlib.Path)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for variant in ("caffe", "keras"):
        source = getattr(given, variant)
        weights = load_file(source) if source else random_weights(variant)
        for size in SIZES:
            name = variant if size == 224 else f"{variant}-{size}"
            write_ours(weights, variant, size, given.folder / f"{name}.safetensors")
        write_onnx(weights, variant, given.folder / f"{variant}.onnx")
        write_tflite(weights, variant, given.folder / f"{variant}.tflite")


if __name__ == "__main__":
    main()
