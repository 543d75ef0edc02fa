"""Which cells compute the same: one text for all NAS-Bench-201 cells that run the same operations alike.

Parts that do not run are left out, so are skip connections, and sums have no order. Two results that look
alike are one only if one operation computes both. The benchmark itself counts 6,466 unique cells by a looser
rule, which keeps some dead parts and does not see whether results are shared.
"""

from __future__ import annotations

from collections.abc import Sequence

from ziggurat.spaces.cell_wiring import SKIP, Edges, wire

Graph = list[tuple[str, tuple[int, ...]]]
"""Operations and what they sum up: earlier operations by their place from 1 on; 0 is the cell's input."""


def canonical(nodes: Sequence[Edges]) -> str:
    """A text such as `1=nor_conv_3x3(0) 0+1`: numbered operations with their inputs, then the cell's output.

    A cell without a way from its input to its output has an empty one.
    """
    graph, output = _graph(nodes)
    return _least(graph, output, _refined(graph, output, _depths(graph)))


def _graph(nodes: Sequence[Edges]) -> tuple[Graph, tuple[int, ...]]:
    """What runs, and what the output sums up."""
    graph: Graph = []
    states: list[tuple[int, ...]] = [(0,)]
    place: dict[int, int] = {}
    for node in wire(nodes, 1).nodes:
        terms: list[int] = []
        for edge in node.wires:
            if edge.runs and edge.name == SKIP:
                terms += states[edge.source]
            elif edge.runs:
                if edge.number not in place:
                    graph.append((edge.name, states[edge.source]))
                    place[edge.number] = len(graph)
                terms.append(place[edge.number])
        states.append(tuple(sorted(terms)))
    return graph, states[-1]


def _depths(graph: Graph) -> list[int]:
    """Longest way from the input to each operation; the input itself has 0."""
    depths = [0]
    for _, inputs in graph:
        depths.append(1 + max(depths[i] for i in inputs))
    return depths


def _refined(graph: Graph, output: tuple[int, ...], classes: list[int]) -> list[int]:
    """Classes of operations, split until those of one class have inputs and readers of the same classes."""
    while True:
        readers: list[list[int]] = [[-1] * output.count(v) for v in range(len(classes))]
        for v, (_, inputs) in enumerate(graph, start=1):
            for i in inputs:
                readers[i].append(classes[v])
        keys = [
            (
                classes[v],
                graph[v - 1][0] if v else "",
                sorted(classes[i] for i in _inputs(graph, v)),
                sorted(r),
            )
            for v, r in enumerate(readers)
        ]
        ranks = sorted({repr(key): key for key in keys}.values())
        found = [ranks.index(key) for key in keys]
        if len(ranks) == len(set(classes)):
            return found
        classes = found


def _inputs(graph: Graph, v: int) -> tuple[int, ...]:
    return graph[v - 1][1] if v else ()


def _least(graph: Graph, output: tuple[int, ...], classes: list[int]) -> str:
    """The least text of all orders that the classes leave open."""
    tied = [v for v, c in enumerate(classes) if classes.count(c) > 1]
    if not tied:
        return _text(graph, output, classes)
    first = min(classes[v] for v in tied)
    texts: list[str] = []
    tried: set[str] = set()
    for v in (v for v in tied if classes[v] == first):
        # operations with the same inputs and readers can change places without any change
        around = repr((_inputs(graph, v), output.count(v), [inputs.count(v) for _, inputs in graph]))
        if around not in tried:
            tried.add(around)
            split = [2 * c + (c == first and u != v) for u, c in enumerate(classes)]
            texts.append(_least(graph, output, _refined(graph, output, split)))
    return min(texts)


def _text(graph: Graph, output: tuple[int, ...], order: list[int]) -> str:
    def joined(terms: tuple[int, ...]) -> str:
        return "+".join(str(n) for n in sorted(order[i] for i in terms))

    named = sorted((order[v], f"{name}({joined(inputs)})") for v, (name, inputs) in enumerate(graph, start=1))
    return " ".join([f"{number}={text}" for number, text in named] + [joined(output)])
