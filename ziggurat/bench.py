"""What a worker finds out about candidates without training them: static metrics, measurements on devices."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ziggurat.domain import Candidate, Measurement
from ziggurat.spaces import TableSpace

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.protocols import Signature
    from ziggurat.spec import Spec


class Bench:
    """Builds, looks at and measures the candidates of a spec; what it has found out once it keeps."""

    def __init__(self, spec: Spec, signature: Signature) -> None:
        """Set up for a spec and the shape of its data."""
        self.spec, self.signature = spec, signature
        self._static: dict[str, tuple[Measurement, ...]] = {}

    def build(self, candidate: Candidate, seed: int) -> nn.Module:
        """An untrained model, initialised from a seed."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.spec.space.build(candidate, self.signature)

    def static(self, candidate: Candidate) -> tuple[Measurement, ...]:
        """Parameters, FLOPs and size of a candidate; nothing if it cannot be built."""
        if isinstance(self.spec.space, TableSpace):
            return tuple(Measurement(n, v) for n, v in self.spec.space.static(candidate).items())
        from ziggurat.profilers.static import static_metrics

        # two candidates of one architecture cost the same, however they are trained
        names = [n for n in candidate.choices if n not in self.spec.space.hyperparameters]
        key = Candidate({n: candidate.choices[n] for n in names}).key
        if key not in self._static:
            shape = self.signature.shape

            def build() -> nn.Module:
                return self.spec.space.build(candidate, self.signature)

            try:
                self._static[key] = static_metrics(build, shape)
            except Exception as error:  # noqa: BLE001 - the user's builder; its trial fails with the reason
                print(f"candidate {candidate.key} cannot be built: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log
                self._static[key] = ()
        return self._static[key]

    def profile(self, model: nn.Module, candidate: Candidate, device: str) -> tuple[Measurement, ...]:
        """Measure a model on a device of the spec; metrics of all but the first carry the device's name."""
        import torch

        setting = next(d for d in self.spec.devices if d.name == device)
        found = tuple(setting.profile(model, torch.zeros(1, *self.signature.shape), candidate))
        if setting is self.spec.devices[0]:
            return found
        return tuple(replace(m, metric=f"{m.metric}@{setting.name}") for m in found)
