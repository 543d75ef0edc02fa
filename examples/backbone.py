"""A network that is there already, for lastmile.yaml: how it is made, and the script that has trained it.

    python examples/backbone.py train examples/backbone.pt

It is trained on images of the training files that lastmile.yaml leaves out: neither these nor the test files
are seen. `network` knows nothing of Ziggurat but the shape of the data.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

LIMIT, SEED = 8000, 0
"""`data.limit` and the seed of the split in lastmile.yaml."""


class Residual(nn.Module):
    """Two convolutions beside a shortcut; each activation is a module, to be seen from outside."""

    def __init__(self, before, after, stride=1, kernel=3):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
        self.norm1, self.act1 = nn.BatchNorm2d(after), nn.ReLU()
        self.conv2 = nn.Conv2d(after, after, kernel, padding=kernel // 2, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(after), nn.ReLU()
        self.shortcut = nn.Identity()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, x):
        y = self.act1(self.norm1(self.conv1(x)))
        return self.act2(self.norm2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """A stem, three stages of residual blocks and a linear classifier."""

    def __init__(self, signature, depth, kernel):
        super().__init__()
        channels = signature.shape[0]
        self.stem = nn.Sequential(nn.Conv2d(channels, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.stage1 = nn.Sequential(Residual(24, 24), Residual(24, 24))
        self.stage2 = nn.Sequential(Residual(24, 48, 2), Residual(48, 48))
        last = [Residual(48, 96, 2, kernel), *(Residual(96, 96, 1, kernel) for _ in range(depth - 1))]
        self.stage3 = nn.Sequential(*last)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(96, signature.classes)

    def forward(self, x):
        return self.head(self.pool(self.stage3(self.stage2(self.stage1(self.stem(x))))).flatten(1))


def network(choices, signature):
    """The network; the last stage can have another depth and kernel than the one that has been trained."""
    return Network(signature, choices.get("last_depth", 2), choices.get("last_kernel", 3))


def pretraining_data(directory):
    """Images (n, 1, 28, 28) and labels of the training files without those that lastmile.yaml uses."""
    from ziggurat.datasets import idx_format, stratify

    x, y = (
        idx_format.read(next(Path(directory).glob(f"train-{what}-idx*"))) for what in ("images", "labels")
    )
    y = y.astype("int64")
    shuffled = stratify.orders(y, SEED)
    used = stratify.first_of_each(shuffled, stratify.limit_counts([len(g) for g in shuffled], LIMIT, 2))
    rest = np.setdiff1d(np.arange(len(y)), used)
    images = torch.tensor(x[rest]).float().unsqueeze(1)
    return (images - images.mean()) / images.std(), torch.tensor(y[rest])


def train(out, directory, epochs=3, batch=128):
    """Train on all that is left of the training files and write a state dict."""
    from ziggurat.protocols import Signature

    torch.manual_seed(0)
    x, y = pretraining_data(directory)
    model = network({}, Signature((1, 28, 28), 10))
    steps = epochs * (len(y) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    began = time.monotonic()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(y)).split(batch)[: len(y) // batch]:
            some = x[rows]
            some = torch.where(torch.rand(len(rows), 1, 1, 1) < 0.5, some.flip(3), some)
            loss = functional.cross_entropy(model(some), y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        mean = total / (len(y) // batch)
        print(f"epoch {epoch + 1}/{epochs}: loss {mean:.4f}, {time.monotonic() - began:.0f} s", flush=True)
    torch.save(model.state_dict(), out)
    print(f"{out}: trained on {len(y)} images")


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "train":
        sys.exit("usage: python examples/backbone.py train OUT.pt")
    train(sys.argv[2], os.environ.get("FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
