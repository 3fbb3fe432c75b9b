#!/usr/bin/env python3
"""Writes GoogLeNets as the frameworks write them, with what those frameworks compute from them.

usage: make_models.py FOLDER [keras|tf_keras|torchvision|caffe|onnx|bad ...]

`bad` changes what the others wrote. For each NAME in FOLDER there is a file of the framework's own and NAME.golden.safetensors: `input` (HWC, what
the first convolution reads), `loss1`, `loss2` and `loss3` where the network has the head (probabilities), and
some layers' outputs (HWC) under Caffe's names. Weights are random, scaled so that activations stay near 1.
"""

import pathlib
import subprocess
import sys

import numpy as np

CLASSES = 7
# Factor of the classifiers' weights, for scores near 1 too.
CALM = 0.3
# #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
TABLE = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
BRANCHES = ("1x1", "3x3", "5x5", "pool_proj")
HEADS = {"4a": "loss1", "4d": "loss2"}
# Modules whose branches and output are stored.
STORED = ("3a", "4d", "5b")


def save_golden(folder, name, golden):
    from safetensors.numpy import save_file

    golden = {k: np.ascontiguousarray(np.squeeze(np.asarray(v, np.float32), 0)) for k, v in golden.items()}
    for head in ("loss1", "loss2", "loss3"):
        # A head that is sure of its answer would hide what is wrong before it.
        assert head not in golden or golden[head].max() < 0.95, (name, head, golden[head])
    save_file(golden, folder / f"{name}.golden.safetensors")


def picture(rng):
    return rng.normal(size=(1, 224, 224, 3)).astype(np.float32)


# --- Keras 3 and tf-keras ---------------------------------------------------------------------------------------


def keras_model(keras, v2, heads):
    layers = keras.layers

    def conv(out, kernel, stride=1, **kw):
        return layers.Conv2D(out, kernel, strides=stride, padding="same", activation="relu", **kw)

    def pool(stride, **kw):
        return layers.MaxPooling2D(3, strides=stride, padding="same", **kw)

    class Inception(layers.Layer):
        def __init__(self, row, **kw):
            super().__init__(**kw)
            c1, r3, c3, r5, c5, pp = row
            self.branch1 = conv(c1, 1)
            self.branch2 = keras.Sequential([conv(r3, 1), conv(c3, 3)])
            self.branch3 = keras.Sequential([conv(r5, 1), conv(c5, 5)])
            self.branch4 = keras.Sequential([pool(1), conv(pp, 1)])

        def branches(self, x):
            return [b(x) for b in (self.branch1, self.branch2, self.branch3, self.branch4)]

        def call(self, x):
            return keras.ops.concatenate(self.branches(x), -1) if hasattr(keras, "ops") else concat(self.branches(x))

    class AuxiliaryClassifier(layers.Layer):
        def __init__(self, **kw):
            super().__init__(**kw)
            self.pool = layers.AveragePooling2D(5, strides=3)
            self.conv = conv(128, 1)
            self.flatten = layers.Flatten()
            self.fc1 = layers.Dense(1024, activation="relu")
            self.dropout = layers.Dropout(0.7)
            self.fc2 = layers.Dense(CLASSES, activation="softmax")

        def call(self, x):
            return self.fc2(self.dropout(self.fc1(self.flatten(self.conv(self.pool(x))))))

    def concat(branches):
        import tensorflow as tf

        return tf.concat(branches, -1)

    class GoogLeNet(keras.Model):
        def __init__(self):
            super().__init__()
            self.conv1 = conv(64, 7, 2, name="convolution-1")
            self.pool1 = pool(2, name="max-pool-1")
            if v2:
                self.conv2_reduce = conv(64, 1, name="convolution-2-reduce")
            self.conv2 = conv(192, 3, name="convolution-2")
            self.pool2 = pool(2, name="max-pool-2")
            self.modules = [Inception(row, name=f"inception-{name}") for name, row in TABLE.items()]
            self.pool3 = pool(2, name="max-pool-3")
            self.pool4 = pool(2, name="max-pool-4")
            if heads:
                self.aux1 = AuxiliaryClassifier(name="AuxiliaryClassifier-1")
                self.aux2 = AuxiliaryClassifier(name="AuxiliaryClassifier-2")
            self.average = layers.GlobalAveragePooling2D(name="avg-pool")
            self.dropout = layers.Dropout(0.4, name="dropout")
            self.dense = layers.Dense(CLASSES, name="linear")
            self.softmax = layers.Softmax(name="softmax")

        def call(self, x, golden=None):
            outputs = []
            x = self.pool1(self.conv1(x))
            if v2:
                x = self.conv2_reduce(x)
            x = self.pool2(self.conv2(x))
            for name, module in zip(TABLE, self.modules):
                x = {"4a": self.pool3, "5a": self.pool4}.get(name, lambda x: x)(x)
                if golden is not None and name in STORED:
                    for branch, value in zip(BRANCHES, module.branches(x)):
                        golden[f"inception_{name}/{branch}"] = value
                x = module(x)
                if golden is not None and name in STORED:
                    golden[f"inception_{name}/output"] = x
                if heads and name in HEADS:
                    outputs.append((self.aux1 if name == "4a" else self.aux2)(x))
            outputs.append(self.softmax(self.dense(self.dropout(self.average(x)))))
            if golden is not None:
                golden.update(zip(("loss1", "loss2", "loss3") if heads else ("loss3",), outputs))
            return outputs

    return GoogLeNet()


def keras_models(folder, keras, files):
    for name, v2, suffixes in files:
        rng = np.random.default_rng(len(name))
        model = keras_model(keras, v2, not v2)
        x = picture(rng)
        model(x)
        weights = []
        for old in model.get_weights():
            spread = np.sqrt(2 / np.prod(old.shape[:-1])) if old.ndim > 1 else 0.1
            spread *= CALM if old.shape[-1] == CLASSES else 1
            weights.append(rng.normal(size=old.shape) * spread if old.dtype == np.float32 else old)
        model.set_weights(weights)
        golden = {"input": x}
        # Called directly: Keras hands a copy of the dictionary to `call`.
        model.call(x, golden=golden)
        for suffix in suffixes:
            path = str(folder / f"{name}{suffix}")
            model.save(path) if suffix == ".keras" else model.save_weights(path)
        save_golden(folder, name, golden)


def make_keras(folder):
    import keras

    keras_models(folder, keras, [("keras", False, [".weights.h5", ".keras"]), ("keras_v2", True, [".weights.h5"])])


def make_tf_keras(folder):
    import tf_keras

    keras_models(folder, tf_keras, [("tf_keras", False, [".h5"]), ("tf_keras_v2", True, [".h5"])])


# --- torchvision: state dict, and ONNX by both of torch's exporters -----------------------------------------------


def make_torchvision(folder):
    import torch
    import torchvision
    from safetensors.torch import save_file

    torch.manual_seed(1)
    model = torchvision.models.GoogLeNet(num_classes=CLASSES, transform_input=False, init_weights=False).eval()
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                torch.nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.7, 1.4)
            torch.nn.init.normal_(module.bias, std=0.1)
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.7, 1.4)

    golden = {}

    def keep(name):
        def hook(_, __, out):
            golden[name] = out.permute(0, 2, 3, 1)

        return hook

    heads = {}
    for name in TABLE:
        module = getattr(model, f"inception{name}")
        if name in STORED:
            for i, branch in enumerate(BRANCHES):
                getattr(module, f"branch{i + 1}").register_forward_hook(keep(f"inception_{name}/{branch}"))
            module.register_forward_hook(keep(f"inception_{name}/output"))
        if name in HEADS:
            aux = model.aux1 if name == "4a" else model.aux2
            head = HEADS[name]
            module.register_forward_hook(lambda _, __, out, aux=aux, head=head: heads.update({head: aux(out)}))

    with torch.no_grad():
        x = torch.from_numpy(picture(np.random.default_rng(2)).transpose(0, 3, 1, 2).copy())
        model(x)
        for aux, head in ((model.aux1, "loss1"), (model.aux2, "loss2")):
            aux.fc2.weight /= heads[head].std()
        model.fc.weight /= model(x).std()
        heads["loss3"] = model(x)
        golden["input"] = x.permute(0, 2, 3, 1)
        golden.update({name: torch.softmax(out, -1) for name, out in heads.items()})
        golden = {name: out.numpy() for name, out in golden.items()}
        save_golden(folder, "torchvision", golden)
        save_file(model.state_dict(), folder / "torchvision.safetensors")
        torch.save(model.state_dict(), folder / "torchvision.pth")

        for module in model.modules():
            module._forward_hooks.clear()
        # Evaluation mode exports the answer alone. The layers and the answer are the state dict's.
        preserve = torch.onnx.TrainingMode.PRESERVE
        old = {"dynamo": False}
        torch.onnx.export(model, (x,), str(folder / "torchvision.onnx"), **old)
        unfolded = {"training": preserve, "do_constant_folding": False, **old}
        torch.onnx.export(model, (x,), str(folder / "torchvision_batch_norm.onnx"), **unfolded)
        model.transform_input = True
        torch.onnx.export(model, (x,), str(folder / "torchvision_transform.onnx"), **old)
        dynamo = folder / "torchvision_dynamo.onnx"
        torch.onnx.export(model, (x,), str(dynamo), dynamo=True, external_data=False)


# --- Caffe and ONNX: BVLC's layers ---------------------------------------------------------------------------------


def layers_of(variant, heads):
    """(name, out, in, kernel) of each layer with weights; kernel 0 is a dense layer."""
    yield "conv1/7x7_s2", 64, 3, 7
    if variant != "keras":
        yield "conv2/3x3_reduce", 64, 64, 1
    yield "conv2/3x3", 192, 64, 3
    channels = 192
    for name, (c1, r3, c3, r5, c5, pp) in TABLE.items():
        m = f"inception_{name}/"
        yield m + "1x1", c1, channels, 1
        yield m + "3x3_reduce", r3, channels, 1
        yield m + "3x3", c3, r3, 3
        yield m + "5x5_reduce", r5, channels, 1
        yield m + "5x5", c5, r5, 5
        yield m + "pool_proj", pp, channels, 1
        channels = c1 + c3 + c5 + pp
        if heads and name in HEADS:
            yield HEADS[name] + "/conv", 128, channels, 1
            yield HEADS[name] + "/fc", 1024, 2048, 0
            yield HEADS[name] + "/classifier", CLASSES, 1024, 0
    yield "loss3/classifier", CLASSES, channels, 0


def random_layers(rng, variant, heads):
    weights = {}
    for name, out, inputs, kernel in layers_of(variant, heads):
        shape = (out, inputs, kernel, kernel) if kernel else (out, inputs)
        spread = np.sqrt(2 / np.prod(shape[1:])) * (CALM if out == CLASSES else 1)
        weights[name] = (
            (rng.normal(size=shape) * spread).astype(np.float32),
            (rng.normal(size=out) * 0.1).astype(np.float32),
        )
    return weights


def onnx_graph(weights, style, heads):
    """The network as ONNX nodes with meaningless names. Styles: `caffe`; `zoo`, as the model zoo's file is
    (opset 7, pads for rounding up, Dropout, Reshape); `keras` (SAME padding, one convolution in conv2, no LRN)."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, inits, tensors = [], [], {}

    def value():
        return f"t{len(nodes) + len(inits)}"

    def init(array):
        name = value()
        inits.append(numpy_helper.from_array(array, name))
        return name

    def node(kind, inputs, **attributes):
        name = value()
        nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    same = {"auto_pad": "SAME_UPPER"}

    def conv(x, name, stride=1):
        w, b = weights[name]
        k = w.shape[2]
        pads = same if style == "keras" else {"pads": [k // 2] * 4}
        x = node("Conv", [x, init(w), init(b)], kernel_shape=[k, k], strides=[stride, stride], **pads)
        tensors[name] = node("Relu", [x])
        return tensors[name]

    def pool(x, stride, pad):
        if style == "keras":
            pads = same
        elif style == "zoo":
            pads = {"pads": [pad, pad, pad, pad] if stride == 1 else [0, 0, 1, 1]}
        else:
            pads = {"pads": [pad] * 4, "ceil_mode": 1}
        return node("MaxPool", [x], kernel_shape=[3, 3], strides=[stride, stride], **pads)

    def lrn(x):
        return x if style == "keras" else node("LRN", [x], alpha=1e-4, beta=0.75, bias=1.0, size=5)

    def flatten(x, size):
        if style == "zoo":
            return node("Reshape", [x, init(np.array([-1 if size == 2048 else 1, size], np.int64))])
        return node("Flatten", [x])

    def dropout(x):
        if style != "zoo":
            return x
        out = value()
        nodes.append(helper.make_node("Dropout", [x], [out, out + "_mask"], ratio=0.4))
        return out

    def dense(x, name):
        w, b = weights[name]
        if style == "keras":
            return node("Add", [node("MatMul", [x, init(np.ascontiguousarray(w.T))]), init(b)])
        return node("Gemm", [x, init(w), init(b)], transB=1)

    def module(x, m):
        m = f"inception_{m}/"
        parts = [
            conv(x, m + "1x1"),
            conv(conv(x, m + "3x3_reduce"), m + "3x3"),
            conv(conv(x, m + "5x5_reduce"), m + "5x5"),
            conv(pool(x, 1, 1), m + "pool_proj"),
        ]
        tensors[m + "output"] = node("Concat", parts, axis=1)
        return tensors[m + "output"]

    x = lrn(pool(conv("pixels", "conv1/7x7_s2", 2), 2, 0))
    x = x if style == "keras" else conv(x, "conv2/3x3_reduce")
    x = pool(lrn(conv(x, "conv2/3x3")), 2, 0)
    for m in TABLE:
        x = module(pool(x, 2, 0) if m in ("4a", "5a") else x, m)
        if heads and m in HEADS:
            h = HEADS[m] + "/"
            y = conv(node("AveragePool", [x], kernel_shape=[5, 5], strides=[3, 3]), h + "conv")
            y = dropout(node("Relu", [dense(flatten(y, 2048), h + "fc")]))
            tensors[HEADS[m]] = node("Softmax", [dense(y, h + "classifier")], axis=1)
    x = node("AveragePool", [x], kernel_shape=[7, 7]) if style == "zoo" else node("GlobalAveragePool", [x])
    tensors["loss3"] = node("Softmax", [dense(flatten(dropout(x), 1024), "loss3/classifier")], axis=1)

    stored = [k for k in tensors if k.startswith(tuple(f"inception_{m}/" for m in STORED)) and not k.endswith("reduce")]
    wanted = ["loss1", "loss2", "loss3"] if heads else ["loss3"]
    opset, version = (7, 3) if style == "zoo" else (13, 8)

    def save(path, names):
        inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 224, 224])]
        if style == "zoo":
            inputs += [helper.make_tensor_value_info(i.name, i.data_type, i.dims) for i in inits]
        # What no reader asks for comes in any order.
        outputs = [helper.make_tensor_value_info(tensors[n], TensorProto.FLOAT, None) for n in reversed(names)]
        graph = helper.make_graph(nodes, "googlenet", inputs, outputs, inits)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)
        path.write_bytes(model.SerializeToString())

    def run(path, x):
        import onnxruntime

        names = wanted + stored
        save(path, names)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        values = session.run([tensors[n] for n in names], {"pixels": x.transpose(0, 3, 1, 2)})
        golden = {n: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for n, v in zip(names, values)}
        path.unlink()
        return {"input": x, **golden}

    return lambda path: save(path, wanted), run


def make_onnx(folder):
    for i, (name, style, heads) in enumerate([("onnx", "caffe", True), ("zoo", "zoo", False), ("onnx_keras", "keras", True)]):
        rng = np.random.default_rng(10 + i)
        weights = random_layers(rng, style, heads)
        save, run = onnx_graph(weights, style, heads)
        save_golden(folder, name, run(folder / f"{name}.tmp", picture(rng)))
        save(folder / f"{name}.onnx")


def caffe_messages():
    """The part of caffe.proto that holds weights, as message classes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    F = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")

    def message(name, *fields):
        m = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            f = m.field.add(name=field, number=number, label=F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL)
            if isinstance(kind, str):
                f.type, f.type_name = F.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                f.type = kind
                if repeated and kind in (F.TYPE_FLOAT, F.TYPE_DOUBLE, F.TYPE_INT64):
                    f.options.packed = True

    message("BlobShape", ("dim", 1, F.TYPE_INT64, True))
    message(
        "BlobProto",
        ("num", 1, F.TYPE_INT32, False),
        ("channels", 2, F.TYPE_INT32, False),
        ("height", 3, F.TYPE_INT32, False),
        ("width", 4, F.TYPE_INT32, False),
        ("data", 5, F.TYPE_FLOAT, True),
        ("diff", 6, F.TYPE_FLOAT, True),
        ("shape", 7, "BlobShape", False),
        ("double_data", 8, F.TYPE_DOUBLE, True),
    )
    message(
        "LayerParameter",
        ("name", 1, F.TYPE_STRING, False),
        ("type", 2, F.TYPE_STRING, False),
        ("bottom", 3, F.TYPE_STRING, True),
        ("top", 4, F.TYPE_STRING, True),
        ("blobs", 7, "BlobProto", True),
    )
    message(
        "V1LayerParameter",
        ("bottom", 2, F.TYPE_STRING, True),
        ("top", 3, F.TYPE_STRING, True),
        ("name", 4, F.TYPE_STRING, False),
        ("type", 5, F.TYPE_INT32, False),
        ("blobs", 6, "BlobProto", True),
    )
    message(
        "NetParameter",
        ("name", 1, F.TYPE_STRING, False),
        ("layers", 2, "V1LayerParameter", True),
        ("layer", 100, "LayerParameter", True),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.NetParameter"))


def make_caffe(folder):
    NetParameter = caffe_messages()
    # V1LayerParameter.LayerType
    V1 = {"Convolution": 4, "InnerProduct": 14, "LRN": 15}
    for i, (name, old, heads) in enumerate([("caffe_v1", True, True), ("caffe", False, True), ("caffe_double", False, False)]):
        rng = np.random.default_rng(20 + i)
        weights = random_layers(rng, "caffe", heads)
        net = NetParameter(name="GoogleNet")

        def add(layer, kind):
            if old:
                return net.layers.add(name=layer, type=V1[kind], bottom=["x"], top=[layer])
            return net.layer.add(name=layer, type=kind, bottom=["x"], top=[layer])

        for norm in ("pool1/norm1", "conv2/norm2"):
            add(norm, "LRN")
        for layer, arrays in weights.items():
            entry = add(layer, "Convolution" if arrays[0].ndim == 4 else "InnerProduct")
            for array in arrays:
                blob = entry.blobs.add()
                if old:
                    # Before 2014 every blob had four dimensions.
                    blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
                else:
                    blob.shape.dim.extend(array.shape)
                values = blob.double_data if name == "caffe_double" else blob.data
                values.extend(array.ravel().tolist())
        (folder / f"{name}.caffemodel").write_bytes(net.SerializeToString())
        # Its layers as ONNX, for onnxruntime to compute.
        _, run = onnx_graph(weights, "caffe", heads)
        save_golden(folder, name, run(folder / f"{name}.tmp", picture(rng)))


# --- Files with one fault each --------------------------------------------------------------------------------------


def make_bad(folder):
    import shutil
    import zipfile

    import h5py

    bad = folder / "bad"
    bad.mkdir(exist_ok=True)

    def h5(name, source, change):
        shutil.copyfile(folder / source, bad / name)
        with h5py.File(bad / name, "r+") as file:
            change(file)

    def put(file, path, shape):
        if path in file:
            del file[path]
        file.create_dataset(path, data=np.zeros(shape, np.float32))

    # The fifth module, 4c.
    layer = "layers/inception_4/branch3/layers/conv2d_1"
    h5("keras_missing.weights.h5", "keras_v2.weights.h5", lambda f: f.pop(layer))
    h5("keras_shape.weights.h5", "keras_v2.weights.h5", lambda f: put(f, layer + "/vars/0", (5, 5, 24, 63)))
    h5("keras_extra.weights.h5", "keras_v2.weights.h5", lambda f: put(f, "layers/conv2d_9/vars/0", (1, 1, 64, 32)))
    h5("keras_classes.weights.h5", "keras.weights.h5", lambda f: put(f, "aux1/fc2/vars/0", (1024, 8)))

    def narrow(file):
        group = file["inception-4c"]
        put(group, group.attrs["weight_names"][8], (5, 5, 24, 63))

    h5("tf_keras_shape.h5", "tf_keras_v2.h5", narrow)
    with h5py.File(bad / "other.h5", "w") as file:
        put(file, "numbers", (3,))
    with zipfile.ZipFile(bad / "other.zip", "w") as file:
        file.writestr("readme.txt", "no model")
    # As .keras, but compressed.
    with zipfile.ZipFile(folder / "keras_v2_deflated.keras", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(folder / "keras_v2.weights.h5", "model.weights.h5")


MAKERS = {
    "keras": make_keras,
    "tf_keras": make_tf_keras,
    "torchvision": make_torchvision,
    "caffe": make_caffe,
    "onnx": make_onnx,
    "bad": make_bad,
}


def main():
    folder, *names = sys.argv[1:]
    if len(names) == 1:
        MAKERS[names[0]](pathlib.Path(folder))
        return
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    # One process each: the frameworks do not always bear each other's libraries.
    for name in names or MAKERS:
        print(f"{name} ...", flush=True)
        subprocess.run([sys.executable, __file__, folder, name], check=True)


if __name__ == "__main__":
    main()
