"""The mean of models' weights: of runs that share a beginning it is often better than each of them.

    python tools/average_weights.py A.safetensors B.safetensors -o MEAN.safetensors

The metadata is the last model's. (Wortsman et al., "Model soups", 2022, https://arxiv.org/abs/2203.05482)
"""

import argparse

from safetensors import safe_open
from safetensors.torch import load_file, save_file

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("models", nargs="+")
parser.add_argument("-o", "--output", required=True)
args = parser.parse_args()

models = [load_file(path) for path in args.models]
first = models[0]
for path, model in zip(args.models, models):
    if {name: t.shape for name, t in model.items()} != {name: t.shape for name, t in first.items()}:
        parser.error(f"{path} is another network than {args.models[0]}")
mean = {name: (sum(m[name].float() for m in models) / len(models)).to(first[name].dtype) for name in first}
with safe_open(args.models[-1], "pt") as last:
    save_file(mean, args.output, last.metadata())
