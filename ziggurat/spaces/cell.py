"""Stacked cells, searched at the level of single operations (micro search).

The settings and what is asked of a space; what runs is in `cell_wiring`, shapes in `cell_plan`, text forms
in `cell_text`, layers in `cell_layers`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, StrictInt, StrictStr, model_validator

from ziggurat.choices import Choice, Choices, Values
from ziggurat.domain import Candidate, Value
from ziggurat.errors import SpecError, near
from ziggurat.operations import Operation
from ziggurat.setting import Setting
from ziggurat.spaces import bounds, cell_plan, cell_text
from ziggurat.spaces.cell_plan import NORMAL, REDUCE, SETS, Frame
from ziggurat.spaces.cell_wiring import NONE, Edges, Wiring, wire

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.protocols import Signature

_STEM = {"nas_bench_201": 1, "darts": 3}
"""Channels of the stem for each channel of the first stage."""
_WIDEST = 4096
Width = Annotated[StrictInt, Field(ge=2, le=_WIDEST)]
Repeats = Annotated[StrictInt, Field(ge=1, le=100)]


class Cell(Setting):
    """A stem, stages of equal cells with a reduction between them, and a linear layer.

    With the operations of `nas_bench_201` a cell is a complete graph whose edges are chosen, and residual
    blocks reduce the map. With those of `darts` there are a normal and a reduction cell; each node has two
    inputs among the outputs of the two cells before and the nodes before it, and an operation for each.

    A part of a cell that gets no input, or that does not lead to the output, is built, so that parameters
    are those of the benchmark, but is not run and not trained: FLOPs, latency and `operations` are without
    it, as is an exported model. Poolings of one state are run once. A node without any input is zeros.

    Sources: Dong & Yang 2020, NAS-Bench-201, arXiv 2001.00326; Liu, Simonyan and Yang 2019, DARTS, arXiv
    1806.09055.
    """

    kind: Literal["cell"] = "cell"
    declared: StrictStr | list[StrictStr] = Field(
        default="nas_bench_201",
        alias="operations",
        description=f"A set, {' or '.join(SETS)}, or a list of operations of one set. "
        + "; ".join(f"{name}: {', '.join(members)}" for name, members in SETS.items())
        + ".",
    )
    skeleton: Literal["nas_bench_201", "darts"] | None = Field(
        default=None,
        description="The network around the operations; by default that of their set. "
        "Needed only if listed operations are in both sets.",
    )
    nodes: int = Field(
        default=4,
        ge=1,
        le=8,
        description="Nodes of a cell: 2 to 8 with its input for nas_bench_201, 1 to 8 without for darts.",
    )
    widths: list[Width] = Field(
        default=[16, 32, 64],
        min_length=1,
        max_length=8,
        description="Channels of each stage, 2 to 4096; maps are halved before each but the first.",
    )
    repeats: Repeats | list[Repeats] = Field(
        default=5, description="Cells of a stage beside its reduction, 1 to 100; one number or one a stage."
    )
    stem: Width | None = Field(
        default=None,
        description="Channels of the stem; by default 3 times the first width for darts. "
        "For nas_bench_201 it is always the first width.",
    )
    hyperparameters: dict[str, Choice] = Field(
        default_factory=bounds.default_hyperparameters,
        description="Choices beside the architecture, by name.",
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        _hold_operations(self.declared, self.skeleton)
        if self._style == "nas_bench_201":
            if self.nodes == 1:
                raise ValueError("nodes is 1, allowed for nas_bench_201 are 2 to 8; raise it")
            if self.stem not in (None, self.widths[0]):
                raise ValueError(
                    f"stem is {self.stem}, but cells of nas_bench_201 keep the width, so it must be that of "
                    f"the first stage, {self.widths[0]}; leave stem out"
                )
        if isinstance(self.repeats, list) and len(self.repeats) != len(self.widths):
            raise ValueError(
                f"repeats has {len(self.repeats)} numbers for {len(self.widths)} widths; give one number, or "
                "one for each width"
            )
        bounds.hyperparameters(self.hyperparameters)
        self.choices()
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Operations that an edge can have."""
        return SETS[self.declared] if isinstance(self.declared, str) else tuple(self.declared)

    @property
    def _style(self) -> str:
        return self.skeleton or next(name for name, known in SETS.items() if set(self.names) <= set(known))

    @property
    def _cells(self) -> tuple[str, ...]:
        return (NORMAL, REDUCE) if len(self.widths) > 1 else (NORMAL,)

    @property
    def _frame(self) -> Frame:
        style, count = self._style, len(self.widths)
        repeats = tuple(self.repeats) if isinstance(self.repeats, list) else (self.repeats,) * count
        stem = self.stem or _STEM[style] * self.widths[0]
        return Frame(style, stem, tuple(self.widths), repeats, self.nodes)

    def choices(self) -> Choices:
        """The edges of the cells, then hyperparameters.

        For nas_bench_201 `edge_0_1` is the operation from node 0 to node 1. For darts nodes are numbered
        from 2, behind the cell's two inputs: `normal_3_inputs` is a pair of different states such as "0,2",
        and `normal_3_first` and `normal_3_second` are the operations on them.
        """
        operation = Values(values=list(self.names))
        architecture: dict[str, Values] = {}
        if self._style == "nas_bench_201":
            architecture = {f"edge_{i}_{j}": operation for j in range(1, self.nodes) for i in range(j)}
        else:
            for cell, node in self._places():
                if node > 2:  # noqa: PLR2004 - the first node has the two inputs of the cell
                    architecture[f"{cell}_{node}_inputs"] = Values(values=list(_pairs(node)))
                architecture |= {f"{cell}_{node}_first": operation, f"{cell}_{node}_second": operation}
        return bounds.joined(architecture, self.hyperparameters)

    def _places(self) -> list[tuple[str, int]]:
        return [(cell, node) for cell in self._cells for node in range(2, self.nodes + 2)]

    def _edges(self, candidate: Candidate) -> dict[str, list[Edges]]:
        """The nodes of each cell of a candidate."""
        found: dict[str, list[Edges]] = {cell: [] for cell in self._cells}
        if self._style == "nas_bench_201":
            found = {NORMAL: []}
            for j in range(1, self.nodes):
                edges = [(i, self._operation(candidate, f"edge_{i}_{j}")) for i in range(j)]
                found[NORMAL].append(edges)
            return found
        for cell, node in self._places():
            place = f"{cell}_{node}"
            pair = (0, 1) if node == 2 else _pair(candidate, f"{place}_inputs", node)  # noqa: PLR2004
            names = [self._operation(candidate, f"{place}_{which}") for which in ("first", "second")]
            found[cell].append(list(zip(pair, names, strict=True)))
        return found

    def _operation(self, candidate: Candidate, name: str) -> str:
        value = bounds.chosen(candidate, name)
        if value not in self.names:
            raise SpecError(f"candidate {candidate.key} has {name} '{value}', {near(value, self.names)}")
        return str(value)

    def _wirings(self, candidate: Candidate) -> dict[str, Wiring]:
        inputs = 2 if self._style == "darts" else 1
        cells = self._edges(candidate)
        return {cell: wire(nodes, inputs, strided=cell == REDUCE) for cell, nodes in cells.items()}

    def check(self, signature: Signature) -> None:
        """Refuse data that are no images, or images too small for the reductions."""
        cell_plan.layout(self._frame, signature)

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        """(n, channels, height, width) to (n, classes); initialised from torch's global generator."""
        from ziggurat.spaces.cell_layers import Network

        return Network(cell_plan.layout(self._frame, signature), self._wirings(candidate))

    def operations(self, candidate: Candidate, signature: Signature) -> tuple[Operation, ...]:
        """What a candidate executes, each operation as often as it occurs, in order.

        Skip connections that change nothing, edges of operation none, and parts that do not run are left out.
        """
        return cell_plan.operations(cell_plan.layout(self._frame, signature), self._wirings(candidate))

    def all_operations(self, signature: Signature) -> tuple[Operation, ...]:
        """Every operation that some candidate executes, at every shape, once each."""
        frame = self._frame
        return cell_plan.all_operations(frame, cell_plan.layout(frame, signature), self.names)

    def build_operation(self, operation: Operation) -> nn.Module:
        """An untrained module of one operation; it takes `operation.inputs` tensors of (n, *shape).

        Raises:
            SpecError: The operation is not of a space of cells.
        """
        from ziggurat.spaces.cell_layers import make

        try:
            return make(operation)
        except KeyError as error:
            raise SpecError(
                f"operation '{operation.key}' is none of space 'cell', which has no {error.args[0]}; "
                "use operations that the space lists"
            ) from None

    def to_string(self, candidate: Candidate) -> str:
        """A candidate's cell as its NAS-Bench-201 string, or its two cells as a genotype of DARTS in JSON.

        Hyperparameters are left out.
        """
        cells = self._edges(candidate)
        if self._style == "nas_bench_201":
            return cell_text.to_string(cells[NORMAL])
        return cell_text.to_genotype(cells)

    def from_string(self, text: str, hyperparameters: Mapping[str, Value] | None = None) -> Candidate:
        """The candidate of a string as `to_string` writes it.

        Args:
            text: `|nor_conv_3x3~0|+|none~0|skip_connect~1|`, or {"normal": [["sep_conv_3x3", 0], ...], ...}.
            hyperparameters: Further choices of the candidate.

        Raises:
            SpecError: It describes no cell of this space.
        """
        chosen: dict[str, Value] = {}
        if self._style == "nas_bench_201":
            for j, edges in enumerate(cell_text.from_string(text, self.nodes, self.names), start=1):
                chosen |= {f"edge_{i}_{j}": name for i, name in edges}
            return Candidate({**chosen, **(hyperparameters or {})})
        cells = cell_text.from_genotype(text, self._cells, self.nodes, self.names)
        for cell, node in self._places():
            (a, first), (b, second) = cells[cell][node - 2]
            chosen |= {f"{cell}_{node}_first": first, f"{cell}_{node}_second": second}
            chosen |= {f"{cell}_{node}_inputs": f"{a},{b}"} if node > 2 else {}  # noqa: PLR2004
        return Candidate({**chosen, **(hyperparameters or {})})


@functools.cache
def _pairs(node: int) -> dict[Value, tuple[int, int]]:
    """Pairs of different states before a node, by their text."""
    return {f"{a},{b}": (a, b) for a, b in combinations(range(node), 2)}


def _pair(candidate: Candidate, name: str, node: int) -> tuple[int, int]:
    """The two inputs of a node."""
    value = bounds.chosen(candidate, name)
    pairs = _pairs(node)
    if value not in pairs:
        raise SpecError(
            f"candidate {candidate.key} has {name} '{value}', allowed are {'; '.join(map(str, pairs))}"
        )
    return pairs[value]


def _hold_operations(given: str | list[str], skeleton: str | None) -> None:
    """Hold the `operations` of a spec against the sets.

    Raises:
        ValueError: They are not of one set, or no network can be made of them.
    """
    if not isinstance(given, str):
        _hold_list(given, skeleton)
    elif given not in SETS:
        raise ValueError(
            f"operations is '{given}', which is no set, {near(given, SETS)} Or list operations of a set"
        )
    elif skeleton not in (None, given):
        raise ValueError(f"skeleton is '{skeleton}', but operations are those of '{given}'; remove it")


def _hold_list(given: list[str], skeleton: str | None) -> None:
    known = SETS[skeleton] if skeleton else tuple(dict.fromkeys(n for s in SETS.values() for n in s))
    if not given:
        raise ValueError(f"operations is empty; list some of {', '.join(known)}")
    for name in given:
        if name not in known:
            raise ValueError(f"operations: '{name}' is unknown, {near(name, known)}")
    if len(set(given)) != len(given):
        raise ValueError(f"operations {given} repeat; list each once")
    if set(given) == {NONE}:
        raise ValueError("operations is [none], which passes nothing on; add another one")
    homes = [name for name, members in SETS.items() if set(given) <= set(members)]
    if not homes:
        mixed = "; ".join(f"{', '.join(n for n in given if n in m)} of {s}" for s, m in SETS.items())
        raise ValueError(f"operations must be of one set, but are mixed: {mixed}; take those of one")
    if len(homes) > 1 and skeleton is None:
        raise ValueError(f"operations {given} are in both sets; add skeleton: {' or skeleton: '.join(homes)}")
