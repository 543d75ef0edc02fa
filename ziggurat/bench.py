"""What a worker finds out about candidates without training them: static metrics, measurements on devices."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, cast

from ziggurat.domain import Candidate, Measurement
from ziggurat.errors import SpecError
from ziggurat.latency import LatencyTable, usable
from ziggurat.protocols import Signature
from ziggurat.spaces import Parameters, TableSpace

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.operations import Operation
    from ziggurat.profilers import AnyDevice
    from ziggurat.protocols import DecomposableSpace
    from ziggurat.spec import Spec

NO_MODELS = Signature((), 0)
"""Shape of the data where no models are built that would have to know it."""


class Bench:
    """Builds, looks at, measures and predicts candidates of a spec; what it has found out once it keeps."""

    def __init__(self, spec: Spec, signature: Signature) -> None:
        """Set up for a spec and the shape of its data."""
        self.spec, self.signature = spec, signature
        self._static: dict[str, tuple[Measurement, ...]] = {}
        self._parts: dict[Operation, tuple[Measurement, ...]] = {}

    def build(self, candidate: Candidate, seed: int) -> nn.Module:
        """An untrained model, initialised from a seed."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.spec.space.build(candidate, self.signature)

    def static(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """Parameters, FLOPs and size of a candidate, and latencies by tables; nothing if it cannot be built.

        Raises:
            SpecError: A latency table cannot be used.
        """
        if isinstance(self.spec.space, TableSpace):
            return tuple(Measurement(n, v) for n, v in self.spec.space.static(candidate).items())
        if isinstance(self.spec.space, Parameters):
            return ()
        # two candidates of one architecture cost the same, however they are trained
        names = [n for n in candidate.choices if n not in self.spec.space.hyperparameters]
        key = Candidate({n: candidate.choices[n] for n in names}).key
        if key not in self._static:
            try:
                found = self._counted(candidate)
            except Exception as error:  # noqa: BLE001 - the user's builder; its trial fails with the reason
                print(f"candidate {candidate.key} cannot be built: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log
                self._static[key] = ()
            else:
                self._static[key] = (*found, *self.predicted(candidate))
        return self._static[key]

    def _counted(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """Parameters, FLOPs and size of a model: counted, or summed over operations that are counted once."""
        from ziggurat.profilers.static import static_metrics, summed

        space, signature = self.spec.space, self.signature
        if not getattr(space, "additive", False):
            return static_metrics(lambda: space.build(candidate, signature), signature.shape)
        whole = cast("DecomposableSpace", space)
        space.check(signature)
        operations = whole.operations(candidate, signature)
        for new in set(operations) - self._parts.keys():
            self._parts[new] = static_metrics(partial(whole.build_operation, new), new.shape)
        return summed([self._parts[operation] for operation in operations])

    @cached_property
    def tables(self) -> dict[str, LatencyTable]:
        """Latency tables of the devices that have one, by device.

        Raises:
            SpecError: One cannot be used.
        """
        spec = self.spec
        return {
            d.name: usable(d.table, d, spec.space, self.signature)
            for d in spec.devices
            if d.table is not None
        }

    def predicted(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """Latencies of a candidate on the devices that have a table; those of the first have no suffix.

        Raises:
            SpecError: A latency table cannot be used.
        """
        found = [t.measurement(self.spec.space, candidate, self.signature) for t in self.tables.values()]
        first = self.spec.devices[0].name
        return tuple(
            m if name == first else replace(m, metric=f"{m.metric}@{name}", device=name)
            for name, m in zip(self.tables, found, strict=True)
        )

    def _device(self, name: str) -> AnyDevice:
        return next(d for d in self.spec.devices if d.name == name)

    def check(self, device: str) -> None:
        """Whether a device is there, as seen from here.

        Raises:
            SpecError: It is not.
        """
        self._device(device).check()

    def profile(self, model: nn.Module, candidate: Candidate, device: str) -> tuple[Measurement, ...]:
        """Measure a model on a device of the spec; metrics of all but the first carry the device's name."""
        import torch

        setting = self._device(device)
        found = tuple(setting.profile(model, torch.zeros(1, *self.signature.shape), candidate))
        if setting is self.spec.devices[0]:
            self.suffice(setting.name, {m.metric for m in found})
            return found
        return tuple(replace(m, metric=f"{m.metric}@{setting.name}") for m in found)

    def suffice(self, device: str, found: set[str]) -> None:
        """Hold what a device gives against what the objectives need of it, if it is the first.

        Raises:
            SpecError: Something is missing, and no measurement would ever bring it.
        """
        if device != self.spec.devices[0].name:
            return
        measured = self.spec.metrics.measured
        lacking = [metric for metric in self.spec.inputs() if metric in measured and metric not in found]
        if lacking:
            raise SpecError(
                f"device '{device}' gives no {lacking[0]}, which the objectives need, only "
                f"{', '.join(sorted(found))}; have it give that as well, or change the objective"
            )
