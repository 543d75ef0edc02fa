"""Layers that are trained with rounded numbers, and their form with integers, in which they are shipped.

While training, weights and activations are rounded in the forward pass and the gradient passes as if they
were not. What is rounded to fewer than 8 bits is stored and run as 8-bit integers once shipped, since
runtimes have no smaller kernels; its values are the same.

Source: Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, arXiv 1712.05877; weights here symmetric and with a scale for each output channel, after
Krishnamoorthi 2018, arXiv 1806.08342, section 3.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
"""Layers whose weights can be rounded; their first dimension counts the outputs."""
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
"""Norms that can be folded into the layer before them."""
Layer = nn.Conv1d | nn.Conv2d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d

_LEVELS = 255
_UNSEEN = 4.0
"""Half of the range of activations before any have been seen."""
_PACE = 0.05
"""Weight of a batch in the moving range."""
_TINY = 1e-12


class Rounding(nn.Module):
    """Rounds activations to 256 levels over the range that they have had in training.

    The range is that of the first batch, then a moving average over batches, and always holds 0.
    """

    low: Tensor
    high: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(-_UNSEEN))
        self.register_buffer("high", torch.tensor(_UNSEEN))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """The rounded activations, of any shape."""
        if x.is_meta:
            return x
        if self.training:
            self._observe(x.detach())
        scale, zero = self.grid()
        if _captured():
            return (torch.clamp(torch.round(x * (1.0 / scale)) + zero, 0, _LEVELS) - zero) * scale
        rounded = torch.fake_quantize_per_tensor_affine(x.float(), scale, zero, 0, _LEVELS)
        return rounded.to(x.dtype)

    def grid(self) -> tuple[Tensor, Tensor]:
        """Distance of two levels, and the level of 0."""
        scale = ((self.high - self.low) / _LEVELS).clamp_min(_TINY)
        return scale, torch.round(-self.low / scale).clamp(0, _LEVELS).to(torch.int32)

    def _observe(self, x: Tensor) -> None:
        low, high = torch.aminmax(x.float())
        pace = torch.where(self.seen > 0, _PACE, 1.0)
        self.low.lerp_(low.clamp_max(0.0), pace)
        self.high.lerp_(high.clamp_min(0.0), pace)
        self.seen.fill_(1.0)


class Quantised(nn.Module):
    """A layer whose weights are rounded, and its input too unless that is rounded where it comes from."""

    def __init__(self, layer: Layer, bits: int, *, rounds_input: bool) -> None:
        super().__init__()
        self.layer, self.bits = layer, bits
        self.input = Rounding() if rounds_input else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gives."""
        return _applied(self.layer, self.input(x), self.weight, self.layer.bias)

    @property
    def weight(self) -> Tensor:
        """The rounded weights: at most 2**bits - 1 different ones for each output."""
        weight = self.layer.weight
        if weight.is_meta:
            return weight
        scale = self.scale()
        if _captured():
            step = scale.view(-1, *(1,) * (weight.dim() - 1))
            return torch.round(weight * (1.0 / step)) * step
        zero = torch.zeros_like(scale, dtype=torch.int32)
        # the scale is such that no weight lies beyond +-(2**(bits - 1) - 1), so the bounds never cut
        rounded: Tensor = torch.fake_quantize_per_channel_affine(weight.float(), scale, zero, 0, -128, 127)
        return rounded.to(weight)

    @property
    def bias(self) -> Tensor | None:
        """The layer's own bias, which is not rounded."""
        return self.layer.bias

    def scale(self) -> Tensor:
        """Distance of two levels of the weights of each output, (outputs,)."""
        largest: Tensor = self.layer.weight.detach().float().abs().flatten(1).amax(1)
        steps: int = 2 ** (self.bits - 1) - 1
        return (largest / steps).clamp_min(_TINY)

    def saved_bytes(self) -> float:
        """Bytes by which the weights, with their scales, are smaller than numbers of 32 bits."""
        weight = self.layer.weight
        return float(weight.numel() * (weight.element_size() - self.bits / 8) - 4 * len(weight))

    def extra_repr(self) -> str:
        """The bits, in a printed model."""
        return f"bits={self.bits}"


class Integer(nn.Module):
    """A layer with 8-bit integers for weights, and the norm behind it folded in.

    Exactly what the layer and the norm compute in evaluation mode, but for the order of additions.
    """

    levels: Tensor
    scale: Tensor
    zero: Tensor
    offset: Tensor

    def __init__(self, quantised: Quantised, norm: Norm | None) -> None:
        super().__init__()
        layer, scale = quantised.layer, quantised.scale()
        with torch.no_grad():
            many = (-1, *(1,) * (layer.weight.dim() - 1))
            levels = torch.round(layer.weight.float() * (1.0 / scale).view(many))
            offset = torch.zeros_like(scale) if layer.bias is None else layer.bias.detach().clone()
            if norm is not None:
                factor, shift = _affine(norm)
                # a negative factor turns the integers round, which are symmetric, and not the scale
                levels = levels * torch.sign(factor).view(many)
                scale, offset = (scale * factor.abs()).clamp_min(_TINY), offset * factor + shift
        self.layer = _bare(layer)
        self.input = quantised.input
        self.register_buffer("levels", levels.to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("zero", torch.zeros_like(scale, dtype=torch.int8))
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        """What the layer and the norm gave."""
        return _applied(self.layer, self.input(x), self._weight(), self.offset)

    def _weight(self) -> Tensor:
        numbers = (self.levels, self.scale, self.zero)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            return _Scaled.apply(*numbers)  # type: ignore[no-any-return, no-untyped-call]
        if torch.onnx.is_in_onnx_export():
            shape = self.levels.shape
            return torch.onnx.ops.symbolic(_OPERATION, numbers, {"axis": 0}, dtype=torch.float32, shape=shape)
        return _scaled(self.levels, self.scale)


_OPERATION = "DequantizeLinear"
"""ONNX's operation that makes numbers of integers; runtimes join it with the layer."""


def _scaled(levels: Tensor, scale: Tensor) -> Tensor:
    return levels.float() * scale.view(-1, *(1,) * (levels.dim() - 1))


class _Scaled(torch.autograd.Function):
    """The same for torch's exporter that traces, which asks a function for its operation."""

    @staticmethod
    def forward(ctx: Any, levels: Tensor, scale: Tensor, zero: Tensor) -> Tensor:  # noqa: ANN401
        """Integers of (outputs, ...) times the scale of each output."""
        del ctx, zero
        return _scaled(levels, scale)

    @staticmethod
    def symbolic(graph: Any, levels: Any, scale: Any, zero: Any) -> Any:  # noqa: ANN401 - of the exporter
        """The operation."""
        return graph.op(_OPERATION, levels, scale, zero, axis_i=0).setType(
            levels.type().with_dtype(torch.float32)
        )


class Grid(nn.Module):
    """Rounds activations to 256 levels that stay what they are."""

    rounds = True

    def __init__(self, rounding: Rounding) -> None:
        super().__init__()
        scale, zero = rounding.grid()
        self.scale, self.zero = float(scale), int(zero)

    def forward(self, x: Tensor) -> Tensor:
        """The rounded activations, of any shape."""
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, _LEVELS)

    def extra_repr(self) -> str:
        """The levels, in a printed model."""
        return f"scale={self.scale:.6g}, zero={self.zero}"


def plain(layer: nn.Module) -> bool:
    """Whether a layer computes what its class in torch computes, and not something of its own."""
    return any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in LAYERS)


def _applied(layer: Layer, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a layer gives with other weights."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight, bias)
    answer: Tensor = layer._conv_forward(x, weight, bias)
    return answer


def _captured() -> bool:
    """Whether torch is making a graph of the model, which its operations for rounding cannot be part of."""
    return torch.compiler.is_compiling() or torch.compiler.is_exporting()


def _affine(norm: Norm) -> tuple[Tensor, Tensor]:
    """Factor and summand by which a norm changes each channel in evaluation mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = torch.rsqrt(norm.running_var + norm.eps)
    factor = factor if norm.weight is None else factor * norm.weight
    shift = -norm.running_mean * factor
    return factor.detach(), (shift if norm.bias is None else shift + norm.bias).detach()


def _bare(layer: Layer) -> Layer:
    """A layer of the same settings without numbers, to be given others."""
    made = copy.deepcopy(layer)
    made.weight = made.bias = None  # type: ignore[assignment]
    return made
