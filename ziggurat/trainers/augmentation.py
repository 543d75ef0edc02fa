"""Random changes to a batch of training examples, as functions of tensors on any device.

Randomness comes from torch's generator of the device, which the trainer seeds at every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ziggurat.trainers.lightning import Augmentation

_IMAGE = 4
"""Dimensions of a batch of (channels, height, width) examples."""


def augment(x: Tensor, setting: Augmentation) -> Tensor:
    """A changed copy of a batch, (n, *shape); shift, flip and cutout leave flat examples alone."""
    image = x.dim() == _IMAGE
    if setting.shift and image:
        x = shift(x, setting.shift)
    if setting.flip and image:
        x = flip(x)
    if setting.noise:
        x = x + setting.noise * torch.randn_like(x)
    if setting.cutout and image:
        x = cutout(x, setting.cutout)
    return x


def shift(x: Tensor, pixels: int) -> Tensor:
    """Every (channels, height, width) example moved by up to so many pixels each way, zeros moving in."""
    n, channels, height, width = x.shape
    padded = torch.nn.functional.pad(x, (pixels,) * 4)
    offset = torch.randint(0, 2 * pixels + 1, (2, n, 1), device=x.device)
    rows = offset[0] + torch.arange(height, device=x.device)
    columns = offset[1] + torch.arange(width, device=x.device)
    one = torch.arange(n, device=x.device).view(n, 1, 1, 1)
    channel = torch.arange(channels, device=x.device).view(1, channels, 1, 1)
    return padded[one, channel, rows.view(n, 1, height, 1), columns.view(n, 1, 1, width)]


def flip(x: Tensor) -> Tensor:
    """Every example mirrored left to right with probability one half."""
    mirrored = torch.rand(x.shape[0], 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(3), x)


def cutout(x: Tensor, side: int) -> Tensor:
    """Every example with a square set to zero; its centre is anywhere, so it may reach beyond the edge.

    Source: DeVries and Taylor 2017, arXiv 1708.04552.
    """
    n, _, height, width = x.shape

    def hidden(length: int) -> Tensor:
        start = torch.randint(0, length, (n, 1), device=x.device) - side // 2
        place = torch.arange(length, device=x.device)
        return (place >= start) & (place < start + side)

    square = hidden(height).view(n, 1, height, 1) & hidden(width).view(n, 1, 1, width)
    return x.masked_fill(square, 0.0)
