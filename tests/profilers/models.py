"""Small models for tests of profilers."""

from __future__ import annotations

import torch
from torch import nn


class Svd(nn.Module):
    """An operation that no exporter knows."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.svd(x.flatten(1))[1]


class Chance(nn.Module):
    """Gives something else at every run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) * torch.rand(1)


class Branch(nn.Module):
    """What it computes depends on the values; a trace keeps one of the two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if float(x.sum()) > 0 else -2 * x.flatten(1)


class Pair(nn.Module):
    """Gives two tensors."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class Sum(nn.Module):
    """Takes two tensors."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + 2 * b


class Spectrum(nn.Module):
    """Known to the second exporter only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs().flatten(1)


class Attention(nn.Module):
    """Has a fused kernel in evaluation mode, which is no operation outside torch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x[:, 0]).flatten(1)


def network(width: int = 8) -> nn.Module:
    """A small convolutional network for (1, 8, 8) and 10 classes, with statistics and dropout."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(2 * width, 10),
        )
        with torch.no_grad():
            net[1].running_mean.normal_()
            net[1].running_var.uniform_(0.5, 2.0)
        return net
