"""Settings of a device that torch itself runs on: the machine's CPU, or a CUDA GPU.

The fields are the YAML; what they do is in sibling modules, which import torch and are imported when used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.errors import SpecError
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ziggurat.domain import Candidate, Measurement


class TorchDevice(Setting):
    """A CPU or CUDA device measured through torch."""

    kind: Literal["torch"] = "torch"
    name: str = Field(
        default="local",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Name of the device in reports.",
    )
    device: str = Field(
        default="cpu", pattern=r"^(cpu|cuda(:\d{1,2})?)$", description="cpu, cuda, cuda:0, ..."
    )
    batch_size: int = Field(default=1, ge=1, le=65_536, description="Examples in a measured batch.")
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of torch while measuring on a CPU.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        default="float32", description="Type of weights and examples."
    )
    warmup: int = Field(default=10, ge=0, le=100_000, description="Runs before measuring.")
    repetitions: int = Field(default=100, ge=20, le=1_000_000, description="Measured runs.")
    max_seconds: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="Time for one model; at least 20 runs are measured all the same.",
    )
    noise_limit: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="Samples are noisy if the central 68 % are wider than this, relative to the median.",
    )
    usd_per_hour: float = Field(default=0.0, ge=0, le=10_000, description="Price of the device.")

    def check(self) -> None:
        """Whether the device is there; imports torch only if it is a GPU.

        Raises:
            SpecError: CUDA is asked for and absent.
        """
        if self.device == "cpu":
            return
        import torch

        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        index = int(self.device.partition(":")[2] or 0)
        if index >= count:
            raise SpecError(
                f"devices: '{self.name}' asks for device '{self.device}', but torch sees {count} CUDA "
                "devices here; use device: cpu or run where the GPU is"
            )

    def profile(
        self, model: nn.Module, example: Tensor, candidate: Candidate | None = None
    ) -> tuple[Measurement, ...]:
        """Latency and memory of a model in evaluation mode.

        Args:
            model: Left unchanged; a copy is measured.
            example: (1, *shape), one example as a batch; it is repeated to the batch size.
            candidate: Makes no difference here.

        Returns:
            latency_p50_ms, latency_p90_ms and latency_p99_ms of one batch; latency_noise, the width of the
            central 68 % of the samples relative to their median; peak_memory_mb, on CUDA the most that the
            model, the batch and the forward pass allocate, on a CPU the weights plus the results alive at
            the same time.

        Raises:
            SpecError: The device is absent or cannot run the model in the asked type.
        """
        del candidate
        from ziggurat.profilers.latency import profile

        return profile(self, model, example)

    def noisy(self, measurements: Sequence[Measurement]) -> bool:
        """Whether the samples behind a profile scatter more than `noise_limit`."""
        return any(m.metric == "latency_noise" and m.value > self.noise_limit for m in measurements)
