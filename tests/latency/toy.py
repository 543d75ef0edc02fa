"""A space made of operations and a device on which each takes a known time: nothing is really measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from ziggurat.choices import Choices, Range, Values
from ziggurat.domain import Candidate, Measurement
from ziggurat.operations import Operation
from ziggurat.protocols import Signature
from ziggurat.setting import Setting

SIGNATURE = Signature((4,), 3)
CALL_MS, SLOPE, EACH_MS = 0.05, 0.9, 0.02
"""What a whole model takes beside its operations: once, as a factor of their sum, and for each of them."""


class Layer(nn.Module):
    """A linear layer that knows what it costs."""

    def __init__(self, before: int, after: int, cost_ms: float, inputs: int = 1) -> None:
        super().__init__()
        self.linear, self.cost_ms, self.inputs = nn.Linear(before, after), cost_ms, inputs

    def forward(self, *x: Tensor) -> Tensor:
        assert len(x) == self.inputs
        return self.linear(sum(x))


class Toy(Setting):
    """One to three layers of some width, and a last one."""

    kind: Literal["toy"] = "toy"
    widths: tuple[int, ...] = (4, 8, 16)
    depth: int = 3
    hyperparameters: dict[str, Any] = Field(
        default_factory=lambda: {"learning_rate": Range(min=0.1, max=0.2)}
    )

    def choices(self) -> Choices:
        levels = range(1, self.depth + 1)
        found = {"depth": Values(values=list(levels))}
        widths = {
            f"width_{i}": Values(values=list(self.widths), when={"depth": list(levels)[i - 1 :]})
            for i in levels
        }
        return {**found, **widths, **self.hyperparameters}

    def operations(self, candidate: Candidate, signature: Signature) -> tuple[Operation, ...]:
        shape, found = signature.shape, []
        for level in range(1, int(candidate.choices["depth"]) + 1):
            width = int(candidate.choices[f"width_{level}"])
            found.append(Operation("layer", shape, (("width", width),)))
            shape = (width,)
        return (*found, Operation("head", shape, (("classes", signature.classes),), inputs=2))

    def all_operations(self, signature: Signature) -> tuple[Operation, ...]:
        shapes = [signature.shape, *((w,) for w in self.widths if (w,) != signature.shape)]
        layers = [Operation("layer", s, (("width", w),)) for s in shapes for w in self.widths]
        heads = [Operation("head", (w,), (("classes", signature.classes),), inputs=2) for w in self.widths]
        return (*layers, *heads)

    def build_operation(self, operation: Operation) -> nn.Module:
        after = int(dict(operation.arguments).get("width", SIGNATURE.classes))
        return Layer(operation.shape[0], after, cost_of(operation), operation.inputs)

    def build(self, candidate: Candidate, signature: Signature) -> nn.Module:
        *layers, head = self.operations(candidate, signature)
        return nn.Sequential(
            *(self.build_operation(o) for o in layers), nn.Sequential(self.build_operation(head))
        )


def cost_of(operation: Operation) -> float:
    """Milliseconds of an operation within a model: a hundredth for each weight."""
    after = int(dict(operation.arguments).get("width", SIGNATURE.classes))
    return operation.shape[0] * after / 100


@dataclass
class Stand:
    """A device that answers with made-up times and remembers what it was asked.

    Attributes:
        name: Its name.
        marks: What the numbers depend on.
        asked: Times it gave, in order.
        disturb: A factor for the next measurement, given how many there were.
        noise: The noise of the next measurement, given how many there were.
        stop_after: Measurements after which it is killed.
    """

    name: str = "stand"
    marks: dict[str, str] = field(default_factory=lambda: {"cpu": "abacus", "threads": "1"})
    asked: list[float] = field(default_factory=list)
    disturb: Callable[[int], float] = lambda _: 1.0
    noise: Callable[[int], float] = lambda _: 0.01
    stop_after: int | None = None
    launcher: None = None

    def check(self) -> None:
        """It is there."""

    def describe(self) -> str:
        return "made up"

    def fingerprint(self) -> Mapping[str, str]:
        return self.marks

    def noisy(self, measurements: Sequence[Measurement]) -> bool:
        return any(m.metric == "latency_noise" and m.value > 0.05 for m in measurements)

    def profile(
        self, model: nn.Module, example: Tensor, candidate: Candidate | None = None
    ) -> list[Measurement]:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise KeyboardInterrupt
        del example
        costs = [m.cost_ms for m in model.modules() if isinstance(m, Layer)]
        whole = isinstance(model, nn.Sequential)
        took = CALL_MS + (SLOPE * sum(costs) + EACH_MS * len(costs) if whole else sum(costs))
        assert whole == (candidate is not None)
        number = len(self.asked)
        took *= self.disturb(number)
        self.asked.append(took)
        return [
            Measurement("latency_p50_ms", took, "ms", device=self.name, spread=took / 100, samples=50),
            Measurement("latency_noise", self.noise(number), device=self.name),
        ]


def model_ms(space: Toy, candidate: Candidate) -> float:
    """What the device says of a whole model."""
    costs = [cost_of(o) for o in space.operations(candidate, SIGNATURE)]
    return CALL_MS + SLOPE * sum(costs) + EACH_MS * len(costs)


def quiet(_: str) -> None:
    """Say nothing."""
