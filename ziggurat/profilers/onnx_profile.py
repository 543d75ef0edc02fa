"""Latency, memory and size of an ONNX file in ONNX Runtime.

A run is one batch through the file, waited for, from arrays to arrays on a CPU; on a GPU the batch is there
already and the outputs stay there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ziggurat.domain import Measurement
from ziggurat.errors import SpecError
from ziggurat.profilers import onnx_memory
from ziggurat.profilers.energy import joules_of
from ziggurat.profilers.inputs import batches
from ziggurat.profilers.onnx_file import export_onnx
from ziggurat.profilers.quantize import quantize_int8
from ziggurat.profilers.runtime import Array, Session, open_session
from ziggurat.profilers.sampling import Gauges, clocked, sample, summary

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.profilers.inputs import Example
    from ziggurat.profilers.onnxruntime_device import OnnxRuntimeDevice

_CALIBRATIONS = 4
"""Random batches that stand for real ones where only latency and size are asked for."""
_MEMORY_S = 120.0


def exported(setting: OnnxRuntimeDevice, model: nn.Module, example: Example) -> bytes:
    """The ONNX file of a model for a device: of its batch size, and quantised if it asks for that."""
    setting.check()
    inputs = batches(example, setting.batch_size)
    file = export_onnx(model, *inputs)
    if setting.precision == "float32":
        return file
    rng = np.random.default_rng(0)
    shapes = [tuple(i.shape) for i in inputs]
    return quantize_int8(file, [_random(shapes, rng) for _ in range(_CALIBRATIONS)])


def latency(setting: OnnxRuntimeDevice, file: bytes) -> tuple[Measurement, ...]:
    """Latency percentiles and their noise, and energy, of a file."""
    session = open_session(file, threads=setting.threads, provider=setting.provider)
    inputs = _random(session.shapes, np.random.default_rng(1))
    on_cpu = setting.provider == "cpu"
    run = (lambda: session(*inputs)) if on_cpu else _bound(session, setting.provider, inputs)
    gauges = Gauges(cpu=time.thread_time if on_cpu else None, joules=joules_of(setting.provider))
    return summary(sample(clocked(run), setting, gauges), setting.name)


def profile(setting: OnnxRuntimeDevice, file: bytes) -> tuple[Measurement, ...]:
    """All measurements of a file; see `OnnxRuntimeDevice.profile`."""
    found = [*latency(setting, file), Measurement("file_size_mb", len(file) / 1e6, "MB")]
    if setting.provider == "cpu":
        memory = memory_bytes(file, setting.threads)
        found.append(Measurement("peak_memory_mb", memory / 1e6, "MB", device=setting.name))
    return tuple(found)


def memory_bytes(file: bytes, threads: int = 1) -> int:
    """Private memory by which a fresh process has grown after opening and running a file.

    That is weights, what the runtime makes of them, and its arena after some runs, which it keeps; the code
    of the runtime and of Python are not in it.

    Raises:
        SpecError: The process fails.
    """
    # -P: the folder of the script must not hide modules
    command = [sys.executable, "-P", str(Path(onnx_memory.__file__)), str(threads)]
    try:
        done = subprocess.run(command, input=file, capture_output=True, timeout=_MEMORY_S, check=True)
        return int(json.loads(done.stdout))
    except (subprocess.SubprocessError, ValueError) as error:
        told = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        raise SpecError(
            f"memory of the exported model cannot be measured ({told[-1][:200] if told else error}); "
            "use a device of kind: torch"
        ) from error


def _random(
    shapes: list[tuple[int, ...]] | tuple[tuple[int, ...], ...], rng: np.random.Generator
) -> tuple[Array, ...]:
    return tuple(rng.standard_normal(s, dtype=np.float32) for s in shapes)


def _bound(session: Session, provider: str, inputs: tuple[Array, ...]) -> Callable[[], object]:
    """A run whose inputs and outputs stay on the device."""
    import onnxruntime

    binding = session.inner.io_binding()
    for name, array in zip(session.names, inputs, strict=True):
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, provider, 0))
    binding.bind_output(session.inner.get_outputs()[0].name, provider)

    def run() -> None:
        session.inner.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run
