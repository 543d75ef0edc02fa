"""What is known about a model before it is trained or run: parameters, FLOPs and size, exact and quick.

The model is built on torch's meta device, where tensors have shapes but no numbers, or, where that fails, on
the CPU.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ziggurat.domain import Measurement

_WORK = (
    "attention",
    "bilinear_form",
    "cdist",
    "cholesky",
    "conv",
    "dot",
    "eig",
    "fft",
    "gru",
    "inverse",
    "linalg",
    "linear",
    "lstm",
    "mm",
    "mv",
    "qr",
    "rnn",
    "solve",
    "svd",
    "transformer",
    "trilinear",
)
"""Parts of the names of torch's own operations whose work grows faster than their tensors."""
_LIGHT = ("upsample", "fused_lstm_cell", "fused_gru_cell", "cummax", "cummin")
"""Names that contain one of those parts and mean light work all the same."""


def static_metrics(build: Callable[[], nn.Module], example_shape: tuple[int, ...]) -> tuple[Measurement, ...]:
    """Metrics parameters, flops (of one example), and model_size_mb, the bytes of the state / 1e6.

    Args:
        build: Builds the model; it is called once or twice, with torch's default device set.
        example_shape: Shape of one example, without the batch.

    Warns:
        UserWarning: An operation does work that is not counted.
    """
    try:
        model, (flops, unknown) = _counted(build, example_shape, "meta")
    except Exception:  # noqa: BLE001 - the model needs numbers; whatever is really wrong with it fails below as well
        model, (flops, unknown) = _counted(build, example_shape, "cpu")
    for name in unknown:
        _warn_once(name)
    return (
        Measurement("parameters", float(sum(p.numel() for p in model.parameters()))),
        Measurement("flops", float(flops)),
        Measurement("model_size_mb", _bytes(model) / 1e6, "MB"),
    )


def summed(parts: Sequence[tuple[Measurement, ...]]) -> tuple[Measurement, ...]:
    """Static metrics of a model that is made of parts, given those of each part."""
    totals = [sum(values) for values in zip(*([m.value for m in part] for part in parts), strict=True)]
    # sizes are whole numbers of bytes in megabytes
    return tuple(replace(m, value=round(total, 6)) for m, total in zip(parts[0], totals, strict=True))


def count_flops(model: nn.Module, batch: Tensor) -> tuple[int, list[str]]:
    """Floating-point operations of one forward pass in evaluation mode, two for each multiply-add.

    Elementwise operations, norms and pooling are not counted, as is usual.

    Args:
        model: On the device of the batch; its mode is restored.
        batch: (n, *shape) examples.

    Returns:
        The count, and the names of operations that do work which the counter does not know.
    """
    seen = _Seen()
    with _evaluation(model), torch.no_grad(), FlopCounterMode(display=False) as counter, seen:
        model(batch)
    return counter.get_total_flops(), sorted(seen.unknown)


@functools.cache
def _warn_once(name: str) -> None:
    """Warn of an uncounted operation, once in a process."""
    warnings.warn(f"flops leave out operation {name}, which torch's counter does not know", stacklevel=3)


def _counted(
    build: Callable[[], nn.Module], shape: tuple[int, ...], device: str
) -> tuple[nn.Module, tuple[int, list[str]]]:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        model = build()
        return model, count_flops(model, torch.zeros((1, *shape)))


def _bytes(model: nn.Module) -> float:
    """Bytes of the state; a model that is stored in fewer bits says so by a method `size_bytes`."""
    stated = getattr(model, "size_bytes", None)
    if callable(stated):
        return float(stated())
    tensors = [t for t in model.state_dict().values() if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors)


@contextmanager
def _evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, without fused kernels for attention and recurrence, whose work the counter misses."""
    modes = {m: m.training for m in model.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    onednn = torch.backends.mkldnn.set_flags(False)
    model.eval()
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mkldnn.set_flags(*onednn[:1])
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes.items():
            module.training = training


class _Seen(TorchDispatchMode):
    """Keeps the names of operations that the counter does not know and that may do much work."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unknown: set[str] = set()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        packet = func.overloadpacket
        if packet not in flop_registry and _works(func):
            self.unknown.add(str(packet))
        return func(*args, **(kwargs or {}))


def _works(func: Any) -> bool:  # noqa: ANN401 - torch's operator has no public type
    """Whether an unknown operation may do much work: torch's own by name, all others always."""
    namespace, _, name = str(func.overloadpacket).partition(".")
    if namespace not in {"aten", "prims", "prim"}:
        return namespace != "profiler"
    if torch.Tag.pointwise in func.tags or any(part in name for part in _LIGHT):
        return False
    return any(part in name for part in _WORK)
