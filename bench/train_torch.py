"""Times training steps of the Keras GoogLeNet with its auxiliary heads in PyTorch, as `cargo xtask bench train` needs.

Prints one line of JSON: the median milliseconds a picture of a forward run, of a forward and a backward run, and of the
optimiser's step.
"""

import argparse
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional as F

# The paper's table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj.
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


class Inception(nn.Module):
    def __init__(self, channels, row):
        super().__init__()
        one, reduce3, three, reduce5, five, pool = row
        self.one = nn.Conv2d(channels, one, 1)
        self.reduce3, self.three = nn.Conv2d(channels, reduce3, 1), nn.Conv2d(reduce3, three, 3, padding=1)
        self.reduce5, self.five = nn.Conv2d(channels, reduce5, 1), nn.Conv2d(reduce5, five, 5, padding=2)
        self.pool = nn.Conv2d(channels, pool, 1)

    def forward(self, x):
        three = F.relu(self.three(F.relu(self.reduce3(x))))
        five = F.relu(self.five(F.relu(self.reduce5(x))))
        pool = F.relu(self.pool(F.max_pool2d(x, 3, 1, 1)))
        return torch.cat([F.relu(self.one(x)), three, five, pool], 1)


class Auxiliary(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 128, 1)
        self.fc, self.classifier = nn.Linear(2048, 1024), nn.Linear(1024, classes)

    def forward(self, x):
        x = F.relu(self.conv(F.avg_pool2d(x, 5, 3)))
        return self.classifier(F.relu(self.fc(x.flatten(1))))


def pool(x):
    """TensorFlow's SAME padding of a 3x3 pool with stride 2: one row below and one column to the right."""
    return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 3, 2)


class GoogLeNet(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 64, 7, 2), nn.Conv2d(64, 192, 3, padding=1)
        channels, modules, heads = 192, {}, {}
        for name, row in TABLE.items():
            modules[f"m{name}"] = Inception(channels, row)
            channels = row[0] + row[2] + row[4] + row[5]
            if name in ("4a", "4d"):
                heads[f"m{name}"] = Auxiliary(channels, classes)
        self.rows, self.heads = nn.ModuleDict(modules), nn.ModuleDict(heads)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        x = pool(F.relu(self.conv1(F.pad(x, (2, 3, 2, 3)))))
        x = pool(F.relu(self.conv2(x)))
        logits = []
        for name, module in self.rows.items():
            if name in ("m4a", "m5a"):
                x = pool(x)
            x = module(x)
            if name in self.heads:
                logits.append(self.heads[name](x))
        return [*logits, self.classifier(x.mean((2, 3)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--channels-last", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    net = GoogLeNet()
    x = torch.randn(options.batch, 3, 224, 224)
    if options.channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(options.batch) % 1000
    optimiser = torch.optim.SGD(net.parameters(), 1e-9, momentum=0.9, weight_decay=2e-4)
    forward, gradient, update = [], [], []
    for step in range(options.rounds + options.warm_up):
        start = time.perf_counter()
        with torch.no_grad():
            net(x)
        done = time.perf_counter()
        optimiser.zero_grad()
        first, second, last = net(x)
        loss = F.cross_entropy(last, labels) + 0.3 * (F.cross_entropy(first, labels) + F.cross_entropy(second, labels))
        loss.backward()
        backward = time.perf_counter()
        optimiser.step()
        end = time.perf_counter()
        if step >= options.warm_up:
            for times, ms in ((forward, done - start), (gradient, backward - done), (update, end - backward)):
                times.append(1000 * ms / options.batch)
    steps = [a + b for a, b in zip(gradient, update)]
    print(
        json.dumps(
            {
                "runtime": "PyTorch " + torch.__version__.split("+")[0] + (" NHWC" if options.channels_last else ""),
                "threads": options.threads,
                "batch": options.batch,
                "forward_ms": statistics.median(forward),
                "gradient_ms": statistics.median(gradient),
                "update_ms": statistics.median(update),
                "step_ms": statistics.median(steps),
                "least_step_ms": min(steps),
            }
        )
    )


main()
