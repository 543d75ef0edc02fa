"""Cells as text: the strings of NAS-Bench-201 and the genotypes of DARTS.

A cell is held as its nodes in order, each a list of (source, operation); states count from 0, the inputs of
the cell first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from ziggurat.errors import SpecError, near
from ziggurat.spaces.cell_plan import NORMAL, REDUCE
from ziggurat.spaces.cell_wiring import Edges

_SHOWN = 120
_PAIR = 2
"""Inputs of a DARTS cell, and of each of its nodes."""
_ENTRY = re.compile(r"([A-Za-z0-9_]{1,64})~([0-9]{1,2})")


def to_string(nodes: Sequence[Edges]) -> str:
    """A NAS-Bench-201 cell as its string, such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|`."""
    return "+".join("|" + "|".join(f"{name}~{source}" for source, name in edges) + "|" for edges in nodes)


def from_string(text: str, nodes: int, names: Sequence[str]) -> list[Edges]:
    """The cell of a NAS-Bench-201 string; each node has one edge from every node before it, in order.

    Args:
        text: Such as `|nor_conv_3x3~0|+|none~0|skip_connect~1|`.
        nodes: Nodes of the cell, its input included.
        names: Allowed operations.

    Raises:
        SpecError: It is none.
    """
    refuse = _refusal("cell", text)
    parts = text.strip().split("+")
    if len(parts) != nodes - 1:
        raise refuse(
            f"it has {len(parts)} nodes joined by '+', but a cell of {nodes} nodes has {nodes - 1} "
            "behind its input"
        )
    return [_edges(part, place, names, refuse) for place, part in enumerate(parts, start=1)]


def _edges(part: str, place: int, names: Sequence[str], refuse: Callable[[str], SpecError]) -> Edges:
    entries = part.strip("|").split("|") if part.strip("|") else []
    if part != "|" + "|".join(entries) + "|" or len(entries) != place:
        raise refuse(
            f"node {place} is '{_cut(part)}', which must be {place} times operation~node, "
            "each between bars, such as |none~0|"
        )
    edges: Edges = []
    for source, entry in enumerate(entries):
        found = _ENTRY.fullmatch(entry)
        if found is None:
            raise refuse(f"node {place} has '{_cut(entry)}', which must be operation~node, such as none~0")
        name, given = found[1], int(found[2])
        _known(name, names, refuse)
        if given != source:
            raise refuse(f"edge {source + 1} of node {place} comes from node {given}; it must be {source}")
        edges.append((source, name))
    return edges


def to_genotype(cells: dict[str, list[Edges]]) -> str:
    """DARTS cells as JSON: for each the list of [operation, source], two for each node."""
    return json.dumps({cell: [[n, s] for edges in nodes for s, n in edges] for cell, nodes in cells.items()})


def from_genotype(
    text: str, cells: Sequence[str], nodes: int, names: Sequence[str]
) -> dict[str, list[Edges]]:
    """The DARTS cells of a genotype in JSON, the sources of each node in growing order.

    Args:
        text: An object with a list of [operation, source] for each cell; normal_concat and reduce_concat may
            be given, and must name all nodes.
        cells: normal, and reduce if the network has such cells.
        nodes: Intermediate nodes of a cell.
        names: Allowed operations.

    Raises:
        SpecError: It is none.
    """
    refuse = _refusal("genotype", text)
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise refuse('it must be a JSON object such as {"normal": [["sep_conv_3x3", 0], ...], "reduce": ...}')
    everything = list(range(_PAIR, _PAIR + nodes))
    for key, value in given.items():
        if key in (f"{NORMAL}_concat", f"{REDUCE}_concat"):
            if value != everything:
                raise refuse(f"'{key}' must be {everything}: all nodes are joined")
        elif key not in cells:
            why = "; a network with one width has no reduction cells" if key == REDUCE else ""
            raise refuse(f"key '{_cut(key)}' is unknown, known: {', '.join(cells)}{why}")
    return {cell: _pairs(cell, given.get(cell), nodes, (names, refuse)) for cell in cells}


def _pairs(
    cell: str, given: object, nodes: int, rules: tuple[Sequence[str], Callable[[str], SpecError]]
) -> list[Edges]:
    names, refuse = rules
    if not isinstance(given, list) or len(given) != _PAIR * nodes:
        count = f"has {len(given)} entries" if isinstance(given, list) else "is missing or no list"
        raise refuse(f"'{cell}' {count}, it needs {_PAIR * nodes}: two [operation, source] for each node")
    found: list[Edges] = []
    for place in range(nodes):
        state = place + _PAIR
        edges = [_pair(entry, cell, state, rules) for entry in given[_PAIR * place : _PAIR * (place + 1)]]
        if edges[0][0] == edges[1][0]:
            raise refuse(f"both inputs of node {state} in '{cell}' are {edges[0][0]}; they must differ")
        found.append(sorted(edges))
    for _, name in (edge for edges in found for edge in edges):
        _known(name, names, refuse)
    return found


def _pair(
    entry: object, cell: str, state: int, rules: tuple[Sequence[str], Callable[[str], SpecError]]
) -> tuple[int, str]:
    names, refuse = rules
    good = isinstance(entry, list) and len(entry) == _PAIR
    if not (good and isinstance(entry, list) and isinstance(entry[0], str) and type(entry[1]) is int):
        shown = _cut(json.dumps(entry))
        raise refuse(f"'{cell}' has {shown} at node {state}; it must be [operation, source]")
    name, source = entry
    _known(name, names, refuse)
    if not 0 <= source < state:
        raise refuse(f"node {state} in '{cell}' takes state {source}; allowed are 0 to {state - 1}")
    return source, name


def _known(name: str, names: Sequence[str], refuse: Callable[[str], SpecError]) -> None:
    if name not in names:
        raise refuse(f"operation '{_cut(name)}' is unknown, {near(name, names)}")


def _refusal(what: str, text: str) -> Callable[[str], SpecError]:
    return lambda why: SpecError(f"{what} '{_cut(text)}' cannot be read: {why}")


def _cut(text: str) -> str:
    """A text on one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 3] + "..."
