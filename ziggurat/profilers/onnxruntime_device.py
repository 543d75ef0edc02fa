"""Settings of a device that runs exported models in ONNX Runtime, in single precision or in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from ziggurat.errors import SpecError
from ziggurat.profilers.setting import DeviceSetting

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.domain import Candidate, Measurement
    from ziggurat.profilers.inputs import Example


class OnnxRuntimeDevice(DeviceSetting):
    """This machine's CPU or GPU, measured through ONNX Runtime on the exported model."""

    kind: Literal["onnxruntime"] = "onnxruntime"
    provider: Literal["cpu", "cuda"] = Field(default="cpu", description="Execution provider of the runtime.")
    threads: int = Field(default=1, ge=1, le=1024, description="Threads of the runtime on a CPU.")
    precision: Literal["float32", "int8"] = Field(
        default="float32",
        description="float32, or int8: weights (per channel) and activations are quantised after training.",
    )

    @model_validator(mode="after")
    def _runs(self) -> Self:
        if self.precision == "int8" and self.provider != "cpu":
            raise ValueError(
                f"precision 'int8' cannot be used with provider '{self.provider}'; use provider: cpu or "
                "precision: float32"
            )
        return self

    def check(self) -> None:
        """Whether the libraries and the provider are installed.

        Raises:
            SpecError: One is not.
        """
        needed = ("onnxruntime", "onnx")
        missing = [name for name in needed if find_spec(name) is None]
        if missing:
            raise SpecError(
                f"devices: '{self.name}' of kind onnxruntime needs {' and '.join(missing)}, which cannot be "
                f"imported; pip install {' '.join(missing)}, or use kind: torch"
            )
        if self.provider == "cpu":
            return
        import onnxruntime

        from ziggurat.profilers.runtime import PROVIDERS

        offered = onnxruntime.get_available_providers()
        if PROVIDERS[self.provider] not in offered:
            raise SpecError(
                f"devices: '{self.name}' asks for provider '{self.provider}', but ONNX Runtime here offers "
                f"{', '.join(offered)}; install onnxruntime-gpu or use provider: cpu"
            )

    def describe(self) -> str:
        """What is measured, in a few words."""
        from ziggurat.profilers import hardware

        under = hardware.conditions(self.provider, self.threads, self.batch_size)
        return f"ONNX Runtime on {self.provider}, {self.precision}, {under}"

    def fingerprint(self) -> Mapping[str, str]:
        """What the numbers depend on."""
        from ziggurat.profilers import hardware

        return {
            **hardware.machine(),
            **(hardware.gpu(0) if self.provider == "cuda" else {}),
            "library": hardware.library("onnxruntime"),
            "provider": self.provider,
            "precision": self.precision,
            "threads": str(self.threads),
            "batch_size": str(self.batch_size),
        }

    def file(self, model: nn.Module, example: Example) -> bytes:
        """The ONNX file that is measured, for batches of `batch_size`; see `profile`."""
        from ziggurat.profilers.onnx_profile import exported

        return exported(self, model, example)

    def latency(self, model: nn.Module, example: Example) -> tuple[Measurement, ...]:
        """The measurements of `profile` that come from running the file, without its memory and size."""
        from ziggurat.profilers.onnx_profile import latency

        return latency(self, self.file(model, example))

    def profile(
        self, model: nn.Module, example: Example, candidate: Candidate | None = None
    ) -> tuple[Measurement, ...]:
        """Latency, memory and file size of a model in evaluation mode, exported to ONNX.

        With int8 the file is calibrated on random examples: good for its latency and size, not for its
        accuracy (`quantize_int8` takes real ones).

        Args:
            model: Left unchanged; a copy is exported.
            example: (1, *shape), one example as a batch; it is repeated to the batch size. Several of them
                for a model with several inputs.
            candidate: Makes no difference here.

        Returns:
            latency_p50_ms, latency_p90_ms and latency_p99_ms of one batch; latency_noise, half the width of
            the 95 % interval of p50 relative to it; cpu_share; energy_mj of one batch where a counter is
            readable; file_size_mb; and, on a CPU, peak_memory_mb: by how much the private memory of a process
            that holds nothing else has grown after opening and running the file.

        Raises:
            SpecError: The runtime is absent, an operation cannot be exported, or the file and the model
                disagree.
        """
        del candidate
        from ziggurat.profilers.onnx_profile import profile

        return profile(self, self.file(model, example))
