"""What a latency table is about: a space on a device, and how its parts and its models are measured there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.domain import Candidate, Measurement
from ziggurat.errors import SpecError
from ziggurat.latency.table import METRIC, Entry
from ziggurat.operations import Operation
from ziggurat.protocols import DecomposableSpace, Profiler, Signature

if TYPE_CHECKING:
    from torch import nn

NOISE = "latency_noise"


@dataclass(frozen=True)
class Subject:
    """What a table is built and validated with.

    Attributes:
        device: What measures.
        space: A space that can be taken apart.
        signature: Shape of the data.
        seed: Decides weights, order and the models that are drawn.
    """

    device: Profiler
    space: DecomposableSpace
    signature: Signature
    seed: int = 0

    def candidate(self, candidate: Candidate) -> Entry:
        """The latency of a whole model."""
        model = self._built(lambda: self.space.build(candidate, self.signature))
        return self._measured(model, self.signature.shape, candidate)

    def operation(self, operation: Operation) -> Entry:
        """The latency of an operation alone; one of several inputs is given the same one for each.

        Raises:
            SpecError: The device cannot measure it.
        """
        module = self._built(lambda: self.space.build_operation(operation))
        if operation.inputs > 1:
            from ziggurat.latency.modules import Repeated

            module = Repeated(module, operation.inputs)
        try:
            return self._measured(module.eval(), operation.shape)
        except SpecError as error:
            raise SpecError(f"operation '{operation.key}' cannot be measured: {error}") from error

    def nothing(self) -> Entry:
        """The latency of a model that does next to nothing with an example."""
        from torch import nn

        return self._measured(nn.ReLU(), self.signature.shape)

    def noisy(self, entry: Entry) -> bool:
        """Whether the device says that a median is not well known."""
        asked: Callable[[Sequence[Measurement]], bool] | None = getattr(self.device, "noisy", None)
        if asked is None or entry.noise is None:
            return False
        return asked([Measurement(NOISE, entry.noise, device=self.device.name)])

    def _built(self, build: Callable[[], nn.Module]) -> nn.Module:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build().eval()

    def _measured(self, model: nn.Module, shape: Sequence[int], candidate: Candidate | None = None) -> Entry:
        import torch

        example = torch.zeros(1, *shape)
        # where a device can leave out all but the latency, a table is built in a fraction of the time
        latency: Callable[..., Sequence[Measurement]] | None = getattr(self.device, "latency", None)
        measurements = (
            self.device.profile(model, example, candidate) if latency is None else latency(model, example)
        )
        found = {m.metric: m for m in measurements}
        p50, noise = found.get(METRIC), found.get(NOISE)
        if p50 is None or not (math.isfinite(p50.value) and p50.value > 0):
            given = "nothing" if p50 is None else f"{p50.value:g}"
            raise SpecError(
                f"device '{self.device.name}' gives {given} as {METRIC}; a latency table needs times above 0"
            )
        return Entry(p50.value, p50.spread, p50.samples, None if noise is None else noise.value)
