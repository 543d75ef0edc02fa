"""Settings of a device that torch itself runs on: the machine's CPU, or a CUDA GPU.

The fields are the YAML; what they do is in sibling modules, which import torch and are imported when used.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.errors import SpecError
from ziggurat.profilers.setting import DeviceSetting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate, Measurement
    from ziggurat.profilers.inputs import Example


class TorchDevice(DeviceSetting):
    """A CPU or CUDA device measured through torch, eager or compiled."""

    kind: Literal["torch"] = "torch"
    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d{1,2})?)$", description="cpu, cuda, cuda:0, ..."
    )
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of torch while measuring on a CPU.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type of weights and examples."
    )
    compile: bool = Field(
        default=False,
        description="Measure what `torch.compile` makes of the model; takes seconds a model and needs a C++ "
        "compiler.",
    )

    def check(self) -> None:
        """Whether the device and, for `compile`, a compiler are there; imports torch only if it has to.

        Raises:
            SpecError: CUDA is asked for and absent, or there is no compiler.
        """
        if self.device != "cpu":
            self._check_gpu()
        if self.compile:
            self._check_compiler()

    def _check_gpu(self) -> None:
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(self.device.partition(":")[2] or 0)
        if index >= count:
            raise SpecError(
                f"devices: '{self.name}' asks for device '{self.device}', but torch sees {count} CUDA "
                "devices here; use device: cpu or run where the GPU is"
            )

    def _check_compiler(self) -> None:
        from torch._inductor import config

        names = config.cpp.cxx if isinstance(config.cpp.cxx, tuple) else (config.cpp.cxx,)
        if not any(name and shutil.which(name) for name in names):
            raise SpecError(
                f"devices: '{self.name}' asks for compile: true, but no C++ compiler is here (looked for "
                f"{', '.join(n for n in names if n)}); install one, use compile: false or kind: onnxruntime"
            )

    def describe(self) -> str:
        """What is measured, in a few words."""
        from ziggurat.profilers import hardware

        how = "compiled" if self.compile else "eager"
        under = hardware.conditions(self.device, self.threads, self.batch_size)
        return f"torch {how} on {self.device}, {self.dtype}, {under}"

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers depend on."""
        from ziggurat.profilers import hardware

        gpu = hardware.gpu(int(self.device.partition(":")[2] or 0)) if self.device != "cpu" else {}
        return {
            **hardware.machine(),
            **gpu,
            "library": hardware.library("torch"),
            "device": self.device,
            "compile": str(self.compile).lower(),
            "precision": self.dtype,
            "threads": str(self.threads),
            "batch_size": str(self.batch_size),
        }

    def latency(self, model: nn.Module, example: Example) -> tuple[Measurement, ...]:
        """The measurements of `profile` that come from running the model, without its memory."""
        from ziggurat.profilers.latency import latency

        return latency(self, model, example)

    def profile(
        self, model: nn.Module, example: Example, candidate: Candidate | None = None
    ) -> tuple[Measurement, ...]:
        """Latency and memory of a model in evaluation mode.

        Args:
            model: Left unchanged; a copy is measured.
            example: (1, *shape), one example as a batch; it is repeated to the batch size. Several of them
                for a model with several inputs.
            candidate: Makes no difference here.

        Returns:
            latency_p50_ms, latency_p90_ms and latency_p99_ms of one batch; latency_noise, half the width of
            the 95 % interval of p50 relative to it; cpu_share on a CPU; energy_mj of one batch where a
            counter is readable; peak_memory_mb, on CUDA the most that the model, the batch and the forward
            pass allocate, on a CPU the weights plus the results alive at the same time in eager mode.

        Raises:
            SpecError: The device is absent or cannot run the model in the asked type.
        """
        del candidate
        from ziggurat.profilers.latency import profile

        return profile(self, model, example)
