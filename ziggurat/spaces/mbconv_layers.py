"""Layers of the space `mbconv`; imported only when a model is built."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import interpolate

from ziggurat.errors import SpecError
from ziggurat.spaces.layers import ACTIVATIONS, DropPath

if TYPE_CHECKING:
    from torch import Tensor

    from ziggurat.operations import Operation


class Resize(nn.Module):
    """Bilinear resizing of images, so that the resolution belongs to the model and not to the data."""

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c, height, width)."""
        return interpolate(x, self.size, mode="bilinear", align_corners=False)

    def extra_repr(self) -> str:
        """The size, in a printed model."""
        return f"size={self.size}"


class SqueezeExcite(nn.Module):
    """Weighs each channel by a number from 0 to 1 that depends on the means of all channels.

    Source: Hu et al. 2018, Squeeze-and-Excitation Networks, arXiv 1709.01507, section 3; the hard sigmoid
    beside the hard swish is from Howard et al. 2019, arXiv 1905.02244, section 5.2.
    """

    def __init__(self, channels: int, squeezed: int, activation: str) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            ACTIVATIONS[activation](),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid() if activation == "hard_swish" else nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, h, w), the same shape."""
        weighed: Tensor = x * self.weigh(x)
        return weighed


class InvertedBottleneck(nn.Module):
    """Widening, depthwise convolution, squeeze-and-excitation, narrowing; added to the input where it fits.

    It fits where the map keeps its size and its channels. The squeezed channels are a share of the block's
    input, not of the widened map. Without expansion there is no widening layer.

    Source: Sandler et al. 2018, MobileNetV2, arXiv 1801.04381, section 3; with squeeze-and-excitation as in
    Tan et al. 2019, MnasNet, arXiv 1807.11626, and Tan & Le 2019, EfficientNet, arXiv 1905.11946.

    Args:
        before: Channels of the input.
        width: Channels of the output.
        kernel: Side of the depthwise kernel, odd.
        stride: Stride of the depthwise convolution.
        inside: Expansion, share of squeezed channels (0 for none) and name of the activation.
    """

    def __init__(
        self, before: int, width: int, kernel: int, stride: int, inside: tuple[float, float, str]
    ) -> None:
        super().__init__()
        expansion, squeeze_excite, activation = inside
        hidden = round(before * expansion)
        layers: list[nn.Module] = []
        if hidden != before:
            layers += [*_convolution(before, hidden, 1), ACTIVATIONS[activation]()]
        layers += _convolution(hidden, hidden, kernel, stride=stride, groups=hidden)
        layers.append(ACTIVATIONS[activation]())
        if squeeze_excite:
            layers.append(SqueezeExcite(hidden, max(1, int(before * squeeze_excite)), activation))
        self.branch = nn.Sequential(*layers, *_convolution(hidden, width, 1))
        self.drop_path = DropPath() if stride == 1 and before == width else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) to (n, width, h / stride, w / stride), rounded up."""
        y: Tensor = self.branch(x)
        return y if self.drop_path is None else x + self.drop_path(y)


class Head(nn.Module):
    """A 1 x 1 convolution to `width` channels (none if 0), the mean over all pixels, and a linear layer.

    Dropout before the linear layer is 0 unless `dropout.p` is set: it is no part of what is measured.
    """

    def __init__(self, before: int, width: int, classes: int, activation: str) -> None:
        super().__init__()
        layers = [*_convolution(before, width, 1), ACTIVATIONS[activation]()] if width else []
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(width or before, classes)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) to (n, classes)."""
        scores: Tensor = self.classifier(self.dropout(self.features(x)))
        return scores


def module(operation: Operation) -> nn.Module:
    """An operation of the space as a module, (n, *operation.shape) to what it leaves.

    Weights lie in memory with the channels last, and maps then follow them: on a CPU depthwise convolutions
    train about twice as fast so.

    Raises:
        SpecError: It is no operation of this space.
    """
    built = _module(operation)
    built.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch leaves it undeclared
    return built


def _module(operation: Operation) -> nn.Module:
    before, given = operation.shape[0], dict(operation.arguments)
    activation = str(given.get("activation", ""))
    match operation.kind:
        case "resize":
            return Resize(int(given["height"]), int(given["width"]))
        case "stem":
            convolution = _convolution(before, int(given["width"]), 3, stride=int(given["stride"]))
            return nn.Sequential(*convolution, ACTIVATIONS[activation]())
        case "mbconv":
            inside = (float(given["expansion"]), float(given["squeeze_excite"]), activation)
            width, kernel, stride = (int(given[n]) for n in ("width", "kernel", "stride"))
            return InvertedBottleneck(before, width, kernel, stride, inside)
        case "head":
            return Head(before, int(given["width"]), int(given["classes"]), activation)
    raise SpecError(
        f"operation '{operation.key}' is none of space 'mbconv', which has resize, stem, mbconv and head; "
        "use the space that it came from"
    )


def _convolution(
    before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """A convolution that pads, and batch norm; weights keep the variance of gradients (He et al. 2015)."""
    layer = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0, math.sqrt(2 * groups / (after * kernel * kernel)))
    return layer, nn.BatchNorm2d(after)
