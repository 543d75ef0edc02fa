"""A user's own network: a function that makes an `nn.Module` from the choices of python_space.yaml.

Nothing here knows Ziggurat. The dictionary holds the active choices of the spec by name; a choice with a
`when:` that does not hold is absent.
"""

import torch
from torch import nn

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU}


class Mixer(nn.Module):
    """Mixes the rows of an image, then the pixels within a row, each beside a skip connection."""

    def __init__(self, rows, columns, factor, activation):
        super().__init__()
        self.over_rows = self._mlp(rows, factor, activation)
        self.over_columns = self._mlp(columns, factor, activation)

    @staticmethod
    def _mlp(size, factor, activation):
        return nn.Sequential(
            nn.LayerNorm(size), nn.Linear(size, factor * size), activation(), nn.Linear(factor * size, size)
        )

    def forward(self, x):
        x = x + self.over_rows(x.transpose(1, 2)).transpose(1, 2)
        return x + self.over_columns(x)


class Tower(nn.Module):
    """Some mixers on top of each other, and a linear layer behind an optional hidden one."""

    def __init__(self, choices, shape, classes):
        super().__init__()
        _, rows, columns = shape
        activation = ACTIVATIONS[choices["activation"]]
        self.mixers = nn.Sequential(
            *(Mixer(rows, columns, choices["factor"], activation) for _ in range(choices["depth"]))
        )
        width = rows * columns
        hidden = []
        if choices["head"] == "hidden":
            hidden = [nn.Linear(width, choices["head_width"]), activation()]
            width = choices["head_width"]
        self.head = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, classes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.mixers(images.squeeze(1)))


def build(choices, signature):
    """A tower for examples of shape (1, rows, columns)."""
    return Tower(choices, signature.shape, signature.classes)
