"""What a network of cells consists of: where cells stand, at which shapes, and which operations run.

Nothing here needs torch. A layout says where cells stand, a wiring (`cell_wiring`) which edges of a
candidate's cell count, and a plan joins the two into the operations that are listed and built.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.spaces import bounds
from ziggurat.spaces.cell_wiring import NONE, SKIP, Wiring

if TYPE_CHECKING:
    from ziggurat.protocols import Signature

SETS: Mapping[str, tuple[str, ...]] = {
    "nas_bench_201": ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"),
    "darts": (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    ),
}
"""Operations of an edge by the name of their set."""
NORMAL, REDUCE = "normal", "reduce"
Shape = tuple[int, ...]
"""(channels, height, width)"""


class Frame(NamedTuple):
    """What a spec fixes: skeleton, channels of the stem, width and cells of each stage, nodes of a cell."""

    skeleton: str
    stem: int
    widths: tuple[int, ...]
    repeats: tuple[int, ...]
    nodes: int


class Spot(NamedTuple):
    """A place in the network.

    Attributes:
        cell: normal or reduce; empty for a fixed block, which is its only entry.
        entries: What each input passes through first; None if it does not.
        shape: Shape of an input after that.
        stride: Stride of edges that start at an input.
        concat: What joins the nodes; None if the last node is the output.
    """

    cell: str
    entries: tuple[Operation | None, ...]
    shape: Shape
    stride: int
    concat: Operation | None = None


class Layout(NamedTuple):
    """A network without its candidate: the spots that differ, and the order in which they occur."""

    stem: Operation
    spots: tuple[Spot, ...]
    order: tuple[int, ...]
    head: Operation


@functools.lru_cache(maxsize=256)
def layout(frame: Frame, signature: Signature) -> Layout:
    """Where cells stand, and at which shapes.

    Raises:
        SpecError: The data are no images, or images too small to be halved that often.
    """
    _check(frame, signature)
    darts = frame.skeleton == "darts"
    stem = Operation("stem", signature.shape, (("width", frame.stem),))
    after = (frame.stem, *signature.shape[1:])
    spots, last = (_darts if darts else _nas_bench_201)(frame, after)
    distinct = tuple(dict.fromkeys(spots))
    head = Operation("head", last, (("classes", signature.classes), ("norm", not darts)))
    return Layout(stem, distinct, tuple(distinct.index(s) for s in spots), head)


def _check(frame: Frame, signature: Signature) -> None:
    bounds.images("cell", signature)
    shape = signature.shape
    side, most = min(shape[1:]), 1
    while side > 1:
        side, most = (side + 1) // 2, most + 1
    if len(frame.widths) > most:
        here = functools.reduce(lambda s, _: _halved(s), range(most - 1), shape)
        raise SpecError(
            f"space.widths has {len(frame.widths)} stages, but images of {shape[1]}x{shape[2]} pixels are "
            f"{here[1]}x{here[2]} in stage {most} and cannot be halved for stage {most + 1}; "
            f"allowed for these data: at most {most} widths"
        )


def _halved(shape: Shape) -> Shape:
    """The shape behind a stride of 2, rounded up."""
    return (shape[0], *((side + 1) // 2 for side in shape[1:]))


def _nas_bench_201(frame: Frame, now: Shape) -> tuple[list[Spot], Shape]:
    """Stages of cells that keep the shape, a residual block of stride 2 before each but the first."""
    spots: list[Spot] = []
    for stage, (width, count) in enumerate(zip(frame.widths, frame.repeats, strict=True)):
        if stage:
            block = Operation("residual_reduction", now, (("width", width),))
            now = (width, *_halved(now)[1:])
            spots.append(Spot("", (block,), now, 1))
        spots += [Spot(NORMAL, (None,), now, 1)] * count
    return spots, now


def _darts(frame: Frame, now: Shape) -> tuple[list[Spot], Shape]:
    """Cells over the outputs of the two cells before, a reduction cell before each stage but the first."""
    spots: list[Spot] = []
    before = now
    for stage, (width, count) in enumerate(zip(frame.widths, frame.repeats, strict=True)):
        for cell in ([REDUCE] if stage else []) + [NORMAL] * count:
            shape = (width, *now[1:])
            inner = _halved(shape) if cell == REDUCE else shape
            joined = Operation("concat", inner, inputs=frame.nodes) if frame.nodes > 1 else None
            entries = (_preprocess(before, shape), _preprocess(now, shape))
            spots.append(Spot(cell, entries, shape, 2 if cell == REDUCE else 1, joined))
            before, now = now, (frame.nodes * width, *inner[1:])
    return spots, now


def _preprocess(given: Shape, wanted: Shape) -> Operation:
    stride = 1 if given[1:] == wanted[1:] else 2
    return Operation("preprocess", given, (("width", wanted[0]), ("stride", stride)))


class Edge(NamedTuple):
    """An edge to build: a wire whose operation stands at a shape, None for one that passes its source on."""

    source: int
    operation: Operation | None
    runs: bool
    number: int
    first: bool


class Node(NamedTuple):
    """A node to build.

    Attributes:
        edges: All but those of operation none.
        joint: What makes one tensor of those that come in, or zeros if none does; None for a single one.
        needed: Whether the cell's output needs it.
        number: Of its result; equal results have equal numbers.
        first: Whether no node before it computes what `joint` does.
    """

    edges: tuple[Edge, ...]
    joint: Operation | None
    needed: bool
    number: int
    first: bool


class Plan(NamedTuple):
    """A cell to build; `uses` says which entries run."""

    entries: tuple[Operation | None, ...]
    uses: tuple[bool, ...]
    nodes: tuple[Node, ...]
    concat: Operation | None

    def listed(self) -> Iterator[Operation]:
        """The operations that run, in order, those of equal results once."""
        for entry, runs in zip(self.entries, self.uses, strict=True):
            if runs and entry is not None:
                yield entry
        for edges, joint, _, _, first in self.nodes:
            for edge in edges:
                if edge.first and edge.operation is not None:
                    yield edge.operation
            if joint is not None and first:
                yield joint
        if self.concat is not None:
            yield self.concat


def plan(spot: Spot, wirings: Mapping[str, Wiring]) -> Plan:
    """The cell of a candidate at a spot."""
    if not spot.cell:
        return Plan(spot.entries, (True,), (), None)
    wiring = wirings[spot.cell]
    inputs = len(spot.entries)
    inner = _halved(spot.shape) if spot.stride > 1 else spot.shape
    nodes: list[Node] = []
    for wires, needed, result, computed in wiring.nodes:
        edges: list[Edge] = []
        running = 0
        for source, name, runs, number, first in wires:
            running += runs
            if name != NONE:
                at = (spot.shape, spot.stride) if source < inputs else (inner, 1)
                edges.append(Edge(source, edge_operation(name, *at), runs, number, first))
        joint = _joint(spot, inner, running) if needed else None
        nodes.append(Node(tuple(edges), joint, needed, result, computed))
    return Plan(spot.entries, wiring.uses, tuple(nodes), spot.concat)


def _joint(spot: Spot, inner: Shape, running: int) -> Operation | None:
    if running == 1:
        return None
    return _sum(inner, running) if running else edge_operation("zeros", spot.shape, spot.stride)


@functools.lru_cache(maxsize=4096)
def edge_operation(name: str, shape: Shape, stride: int) -> Operation | None:
    """The operation of an edge; None for a skip connection that changes nothing."""
    return None if name == SKIP and stride == 1 else Operation(name, shape, (("stride", stride),))


@functools.lru_cache(maxsize=4096)
def _sum(shape: Shape, inputs: int) -> Operation:
    return Operation("sum", shape, inputs=inputs)


def running(where: Layout, wirings: Mapping[str, Wiring]) -> list[bool]:
    """For each spot in order, whether the network's output needs it."""
    if all(w.uses[-1] for w in wirings.values()):
        return [True] * len(where.order)
    needed = [False] * len(where.order) + [True]
    for place in range(len(where.order) - 1, -1, -1):
        if needed[place + 1]:
            cell = where.spots[where.order[place]].cell
            uses = wirings[cell].uses if cell else (True,)
            needed[place] |= uses[-1]
            if len(uses) > 1 and place:
                needed[place - 1] |= uses[0]
    return needed[1:]


def operations(where: Layout, wirings: Mapping[str, Wiring]) -> tuple[Operation, ...]:
    """What a candidate executes, each operation as often as it occurs, in order."""
    at = [tuple(plan(spot, wirings).listed()) for spot in where.spots]
    runs = running(where, wirings)
    cells = [at[i] for i, needed in zip(where.order, runs, strict=True) if needed]
    return (where.stem, *chain.from_iterable(cells), where.head)


def all_operations(frame: Frame, where: Layout, names: Sequence[str]) -> tuple[Operation, ...]:
    """Every operation that some candidate executes, once, in the order of the network."""
    found = dict.fromkeys([where.stem])
    for spot in where.spots:
        found |= dict.fromkeys(o for o in spot.entries if o is not None)
        if spot.cell:
            found |= dict.fromkeys(_possible(frame, spot, names))
    return tuple(found | dict.fromkeys([where.head]))


def _possible(frame: Frame, spot: Spot, names: Sequence[str]) -> Iterator[Operation]:
    """What cells of all candidates can execute at a spot behind its entries."""
    inputs = len(spot.entries)
    inner = _halved(spot.shape) if spot.stride > 1 else spot.shape
    # edges between the nodes of a reduction cell are as those of the normal cells behind it
    for name in names:
        if name != NONE:
            yield from filter(None, [edge_operation(name, spot.shape, spot.stride)])
    most = 2 if inputs > 1 else frame.nodes - 1
    yield from (_sum(inner, count) for count in range(2, most + 1))
    if NONE in names:
        yield from filter(None, [edge_operation("zeros", spot.shape, spot.stride)])
    if spot.concat is not None:
        yield spot.concat
