"""Latency and memory of a model in evaluation mode, measured by torch on the device of a setting.

A run is one batch through the model, waited for. Time is taken by the clock on a CPU and by events on a GPU.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ziggurat.domain import Measurement
from ziggurat.errors import SpecError
from ziggurat.profilers.device import TorchDevice
from ziggurat.profilers.energy import joules_of
from ziggurat.profilers.inputs import batches
from ziggurat.profilers.memory import peak_bytes
from ziggurat.profilers.quiet import quiet
from ziggurat.profilers.sampling import Gauges, clocked, sample, summary

if TYPE_CHECKING:
    from ziggurat.profilers.inputs import Example


def profile(setting: TorchDevice, model: nn.Module, example: Example) -> tuple[Measurement, ...]:
    """Latency percentiles and their noise, energy, and peak memory; see `TorchDevice.profile`."""
    device = torch.device(setting.device)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        found = latency(setting, model, example)
        peak = torch.cuda.max_memory_allocated(device) - before
    else:
        found = latency(setting, model, example)
        peak = peak_bytes(*_placed(setting, model, example))
    return (*found, Measurement("peak_memory_mb", peak / 1e6, "MB", device=setting.name))


def latency(setting: TorchDevice, model: nn.Module, example: Example) -> tuple[Measurement, ...]:
    """Latency percentiles and their noise, and energy."""
    setting.check()
    device = torch.device(setting.device)
    on_cpu = device.type == "cpu"
    model, *inputs = _placed(setting, model, example)
    gauges = Gauges(cpu=time.thread_time if on_cpu else None, joules=joules_of(setting.device))
    with ExitStack() as stack:
        stack.enter_context(_threads(setting.threads if on_cpu else None))
        stack.enter_context(torch.inference_mode())
        run: Callable[..., object] = model
        if setting.compile:
            run = stack.enter_context(_compiled(setting, model, inputs))
        try:
            sampled = sample(_timer(lambda: run(*inputs), device), setting, gauges)
        except NotImplementedError as error:
            raise SpecError(
                f"device '{setting.name}': the model cannot run as {setting.dtype} on {setting.device} "
                f"({str(error).splitlines()[0]}); use dtype: float32"
            ) from error
    return summary(sampled, setting.name)


def _placed(
    setting: TorchDevice, model: nn.Module, example: Example
) -> tuple[nn.Module, *tuple[Tensor, ...]]:
    """A copy of the model and its inputs, on the device, in its type and of the batch size."""
    device, dtype = torch.device(setting.device), getattr(torch, setting.dtype)
    inputs = tuple(b.to(device, dtype) for b in batches(example, setting.batch_size))
    return copy.deepcopy(model).to(device, dtype).eval(), *inputs


@contextmanager
def _compiled(
    setting: TorchDevice, model: nn.Module, inputs: list[Tensor]
) -> Iterator[Callable[..., object]]:
    """What torch.compile makes of a model, compiled before it is handed out.

    torch keeps a few compiled versions of a class's code and then runs it eagerly without a word; forgetting
    all of them before and after keeps every model of a search compiled.
    """
    from torch._inductor import config

    torch.compiler.reset()
    try:
        run: Callable[..., object] = torch.compile(model)
        try:
            # in this process: a pool of compiling processes would outlive it
            with quiet(), config.patch(compile_threads=1):
                run(*inputs)
        except Exception as error:
            text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            raise SpecError(
                f"device '{setting.name}': torch.compile fails on the model ({type(error).__name__}: "
                f"{text[:200]}); use compile: false or kind: onnxruntime"
            ) from error
        yield run
    finally:
        torch.compiler.reset()


def _timer(run: Callable[[], object], device: torch.device) -> Callable[[], float]:
    """A function that runs once and returns the milliseconds it took."""
    if device.type != "cuda":
        return clocked(run)
    torch.cuda.reset_peak_memory_stats(device)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def by_events() -> float:
        with torch.cuda.device(device):
            begin.record()
            run()
            end.record()
            end.synchronize()
        return float(begin.elapsed_time(end))

    return by_events


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Another number of torch's threads for a while; None leaves it."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
