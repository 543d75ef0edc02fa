"""Layers of the cells and the network they make; imported only when a model is built.

Sources: Dong & Yang 2020, NAS-Bench-201, arXiv 2001.00326, section 2; Liu, Simonyan and Yang 2019, DARTS,
arXiv 1806.09055, section 3.1; depthwise separable and dilated convolutions are as in the latter.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import pad

from ziggurat.spaces import cell_plan
from ziggurat.spaces.layers import DropPath

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ziggurat.domain import Value
    from ziggurat.operations import Operation
    from ziggurat.spaces.cell_plan import Layout, Node, Plan
    from ziggurat.spaces.cell_wiring import Wiring


def make(operation: Operation) -> nn.Module:
    """An untrained module of one operation; takes `operation.inputs` tensors of (n, *shape)."""
    given = dict(operation.arguments)
    if operation.kind in _EDGES:
        return _EDGES[operation.kind](operation.shape, int(given["stride"]))
    return _OTHERS[operation.kind](operation.shape, given)


def relu_conv_bn(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """ReLU, convolution and batch norm, in this order; the map keeps its size but for the stride."""
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(after))


def _depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise and pointwise convolution, batch norm."""
    around = dilation * (kernel // 2)
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, around, dilation=dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]


def _separable(kernel: int) -> Callable[[cell_plan.Shape, int], nn.Module]:
    """Two depthwise separable convolutions, the first with the stride."""
    return lambda shape, stride: nn.Sequential(
        *_depthwise(shape[0], kernel, stride), *_depthwise(shape[0], kernel, 1)
    )


def _dilated(kernel: int) -> Callable[[cell_plan.Shape, int], nn.Module]:
    return lambda shape, stride: nn.Sequential(*_depthwise(shape[0], kernel, stride, dilation=2))


class FactorizedReduce(nn.Module):
    """Halves a map by two 1 x 1 convolutions of stride 2, the second shifted by a pixel.

    (n, before, h, w) becomes (n, after, h', w'), sides halved and rounded up; beyond an odd side are zeros.
    """

    def __init__(self, shape: cell_plan.Shape, after: int) -> None:
        super().__init__()
        before, *sides = shape
        self.below, self.right = (side % 2 for side in sides)
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(before, after // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(before, after - after // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) to (n, after, h', w')."""
        x = self.relu(x)
        shifted = x[:, :, 1:, 1:]
        if self.below or self.right:
            shifted = pad(shifted, (0, self.right, 0, self.below))
        y: Tensor = self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
        return y


class ResidualReduction(nn.Module):
    """Two 3 x 3 convolutions, the first of stride 2, beside an average and a 1 x 1 convolution."""

    def __init__(self, shape: cell_plan.Shape, width: int) -> None:
        super().__init__()
        before, odd = shape[0], any(side % 2 for side in shape[1:])
        self.branch = nn.Sequential(relu_conv_bn(before, width, 3, 2), relu_conv_bn(width, width, 3))
        pool = nn.AvgPool2d(2, ceil_mode=odd, count_include_pad=False)
        self.shortcut = nn.Sequential(pool, nn.Conv2d(before, width, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, width, h', w')."""
        y: Tensor = self.branch(x) + self.shortcut(x)
        return y


class Zeros(nn.Module):
    """Zeros of the shape of the input behind a stride, what a node without any input is."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) to (n, c, h', w')."""
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class Sum(nn.Module):
    """Adds tensors of one shape."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """(n, c, h, w) each to the same."""
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return total


class Concat(nn.Module):
    """Joins tensors along the channels."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """(n, c, h, w) each to (n, c * number of tensors, h, w)."""
        return torch.cat(tensors, dim=1)


def _stem(shape: cell_plan.Shape, given: Mapping[str, Value]) -> nn.Module:
    width = int(given["width"])
    return nn.Sequential(nn.Conv2d(shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width))


def _preprocess(shape: cell_plan.Shape, given: Mapping[str, Value]) -> nn.Module:
    width = int(given["width"])
    halving = int(given["stride"]) > 1
    return FactorizedReduce(shape, width) if halving else relu_conv_bn(shape[0], width, 1)


def _head(shape: cell_plan.Shape, given: Mapping[str, Value]) -> nn.Module:
    norm = [nn.BatchNorm2d(shape[0]), nn.ReLU()] if given["norm"] else []
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*norm, *pool, nn.Linear(shape[0], int(given["classes"])))


_EDGES: dict[str, Callable[[cell_plan.Shape, int], nn.Module]] = {
    "skip_connect": lambda shape, stride: nn.Identity() if stride == 1 else FactorizedReduce(shape, shape[0]),
    "nor_conv_1x1": lambda shape, stride: relu_conv_bn(shape[0], shape[0], 1, stride),
    "nor_conv_3x3": lambda shape, stride: relu_conv_bn(shape[0], shape[0], 3, stride),
    "avg_pool_3x3": lambda _, stride: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
    "max_pool_3x3": lambda _, stride: nn.MaxPool2d(3, stride, padding=1),
    "sep_conv_3x3": _separable(3),
    "sep_conv_5x5": _separable(5),
    "dil_conv_3x3": _dilated(3),
    "dil_conv_5x5": _dilated(5),
    "zeros": lambda _, stride: Zeros(stride),
}
"""What an operation with a stride is built of, by its kind."""
_OTHERS: dict[str, Callable[[cell_plan.Shape, Mapping[str, Value]], nn.Module]] = {
    "stem": _stem,
    "preprocess": _preprocess,
    "residual_reduction": lambda shape, given: ResidualReduction(shape, int(given["width"])),
    "sum": lambda *_: Sum(),
    "concat": lambda *_: Concat(),
    "head": _head,
}


def _made(operation: Operation | None, *, runs: bool) -> nn.Module:
    """The module of an operation; one that never runs is built, as benchmarks do, and cannot be trained."""
    built = nn.Identity() if operation is None else make(operation)
    return built if runs else built.requires_grad_(requires_grad=False)


class NodeModule(nn.Module):
    """A node of a cell: its edges, with DropPath behind each that computes something, and their sum.

    Results that a later edge or node needs as well are kept in a mapping by their number.
    """

    def __init__(self, node: Node, plan: Plan, *, runs: bool) -> None:
        super().__init__()
        self.number, self.zeros_of = node.number, len(plan.entries) - 1
        # an edge that passes its source on computes nothing that could be kept
        numbers = [-1 if e.operation is None else e.number for e in node.edges]
        self.running = [(i, e.source, numbers[i]) for i, e in enumerate(node.edges) if e.runs]
        self.edges = nn.ModuleList(_made(e.operation, runs=runs and e.runs) for e in node.edges)
        self.drops = nn.ModuleList(
            DropPath() if e.runs and e.operation is not None else nn.Identity() for e in node.edges
        )
        self.joint = None if node.joint is None else make(node.joint)

    def forward(self, states: dict[int, Tensor], kept: dict[int, Tensor | None]) -> Tensor:
        """States of the cell by their place to the state of this node."""
        terms: list[Tensor] = []
        for place, source, number in self.running:
            term = kept.get(number)
            if term is None:
                term = self.edges[place](states[source])
                if number in kept:
                    kept[number] = term
            terms.append(self.drops[place](term))
        if self.joint is None:
            return terms[0]
        state = kept.get(self.number)
        if state is None:
            state = self.joint(*(terms or [states[self.zeros_of]]))
            if self.number in kept:
                kept[self.number] = state
        return state


class CellModule(nn.Module):
    """A cell, or a fixed block, over the outputs of the two before it."""

    def __init__(self, plan: Plan, *, runs: bool) -> None:
        super().__init__()
        self.runs, self.uses = runs, plan.uses
        self.entries = nn.ModuleList(
            _made(entry, runs=runs and used) for entry, used in zip(plan.entries, plan.uses, strict=True)
        )
        self.nodes = nn.ModuleList(NodeModule(node, plan, runs=runs) for node in plan.nodes)
        self.needed = [node.needed for node in plan.nodes]
        self.shared = _shared(plan)
        self.concat = None if plan.concat is None else make(plan.concat)

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        """Two states, of which a cell with one input takes the later, to the next."""
        given = (before, now)[-len(self.entries) :]
        states: dict[int, Tensor] = {}
        kept: dict[int, Tensor | None] = dict.fromkeys(self.shared)
        for place, (entry, used, x) in enumerate(zip(self.entries, self.uses, given, strict=True)):
            if used:
                states[place] = entry(x)
        for place, (node, needed) in enumerate(zip(self.nodes, self.needed, strict=True), len(given)):
            if needed:
                states[place] = node(states, kept)
        if self.concat is None:
            return states[max(states)]
        joined: Tensor = self.concat(*(states[len(given) + i] for i in range(len(self.nodes))))
        return joined


def _shared(plan: Plan) -> list[int]:
    """Numbers of results that are computed by one edge, or one node, and used by others too."""
    once = [e.number for n in plan.nodes for e in n.edges if e.runs and e.operation is not None]
    once += [n.number for n in plan.nodes if n.joint is not None]
    return [number for number, times in Counter(once).items() if times > 1]


class Network(nn.Module):
    """Stem, cells and head; (n, channels, height, width) to (n, classes)."""

    def __init__(self, layout: Layout, wirings: Mapping[str, Wiring]) -> None:
        super().__init__()
        plans = [cell_plan.plan(spot, wirings) for spot in layout.spots]
        runs = cell_plan.running(layout, wirings)
        self.stem = make(layout.stem)
        self.cells = nn.ModuleList(
            CellModule(plans[i], runs=needed) for i, needed in zip(layout.order, runs, strict=True)
        )
        self.head = make(layout.head)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, classes)."""
        before = now = self.stem(x)
        for cell in self.cells:
            # what comes out of a cell that does not run is never looked at
            before, now = now, cell(before, now) if cell.runs else now
        logits: Tensor = self.head(now)
        return logits
