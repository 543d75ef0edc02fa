"""How a candidate's cell is wired: which of its edges count, and which of them give the same result.

Nothing here needs torch or knows shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

NONE, SKIP = "none", "skip_connect"
POOLS = ("avg_pool_3x3", "max_pool_3x3")
"""Operations without weights: two of a kind over the same state give the same."""
Edges = list[tuple[int, str]]
"""Sources and operations of the edges into one node."""


class Wire(NamedTuple):
    """One edge of a cell.

    Attributes:
        source: State it starts from.
        name: Its operation.
        runs: Whether the cell's output needs it.
        number: Of its result; equal results have equal numbers. -1 if it does not run.
        first: Whether no edge before it computes that result.
    """

    source: int
    name: str
    runs: bool
    number: int = -1
    first: bool = False


class NodeWiring(NamedTuple):
    """A node of a cell: the edges into it, then as for an edge; `first` is about their sum, or zeros."""

    wires: tuple[Wire, ...]
    needed: bool
    number: int
    first: bool


class Wiring(NamedTuple):
    """A candidate's cell: its nodes in order, and which of the cell's inputs its output needs."""

    nodes: tuple[NodeWiring, ...]
    uses: tuple[bool, ...]


def wire(nodes: Sequence[Edges], inputs: int, *, strided: bool = False) -> Wiring:
    """Find out what runs: an edge does if there is a way by it from an input of the cell to its output.

    An edge whose source is nothing but zeros gives zeros, and one that leads nowhere is not needed. A node
    that is needed and gets nothing is zeros of the shape of the last input.

    Args:
        nodes: For each node its edges; the states are the inputs, then the nodes.
        inputs: 1 for a cell whose output is its last node, 2 for one that concatenates all nodes.
        strided: Whether edges from inputs have a stride, so that their skip connections compute something.
    """
    runs, needed = _running(nodes, inputs)
    results = list(range(inputs))
    numbers: dict[tuple[object, ...], int] = {}
    wired: list[NodeWiring] = []
    for place, edges in enumerate(nodes):
        wires: list[Wire] = []
        for (source, name), run in zip(edges, runs[place], strict=True):
            if not run:
                wires.append(Wire(source, name, runs=False))
            elif name == SKIP and not (strided and source < inputs):
                wires.append(Wire(source, name, runs=True, number=results[source]))
            else:
                key = (name, results[source]) if name in POOLS else (place, source)
                first = key not in numbers
                wires.append(Wire(source, name, True, numbers.setdefault(key, inputs + len(numbers)), first))
        come = [w.number for w in wires if w.runs]
        first = False
        if len(come) == 1 or not needed[inputs + place]:
            number = come[0] if come else -1
        else:
            joint = ("sum", *come)
            first = joint not in numbers
            number = numbers.setdefault(joint, inputs + len(numbers))
        results.append(number)
        wired.append(NodeWiring(tuple(wires), needed[inputs + place], number, first))
    return Wiring(tuple(wired), tuple(needed[:inputs]))


def _running(nodes: Sequence[Edges], inputs: int) -> tuple[list[list[bool]], list[bool]]:
    """Which edges run, by node, and which states are needed."""
    alive = [True] * inputs
    for edges in nodes:
        alive.append(any(name != NONE and alive[source] for source, name in edges))
    needed = [False] * inputs + [inputs > 1] * len(nodes)
    needed[-1] = True
    runs: list[list[bool]] = [[]] * len(nodes)
    for place in range(len(nodes) - 1, -1, -1):
        here = needed[inputs + place]
        runs[place] = [here and name != NONE and alive[source] for source, name in nodes[place]]
        for (source, _), run in zip(nodes[place], runs[place], strict=True):
            needed[source] |= run
        if here and not alive[inputs + place]:
            needed[inputs - 1] = True
    return runs, needed
