"""Models as ONNX files: exported, and compared with the model they come from.

Of torch's two exporters the tracing one is tried first: it takes hundredths of a second where the other takes
seconds, and the files run equally fast. An operation that neither knows is named.
"""

from __future__ import annotations

import copy
import io
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ziggurat.errors import SpecError
from ziggurat.profilers.quiet import quiet
from ziggurat.profilers.runtime import open_session

TOLERANCE = 1e-3
"""Largest difference between the outputs of a model and its file, relative to the largest output."""
ROUNDED_TOLERANCE = 0.1
"""The same where activations are rounded to 8 bits: sums in another order fall on neighbouring levels."""
CURE = "measure it with a device of kind: torch, which needs no export"
_OPSET = 18
_UNKNOWN = (
    r"operator '([\w.:]+)' to ONNX",
    r"unrecognized namespace ([\w.:]+?)\.? ",
    r"No ONNX function found for <OpOverload\(op='([\w.:]+)'",
    r"No ONNX function found for ([^\s.]+)",
)
"""How the exporters say which operation they do not know."""
_BATCHES = 2


def export_onnx(model: nn.Module, *examples: Tensor, check: bool = True) -> bytes:
    """The ONNX file of a model in evaluation mode and single precision, as bytes.

    Args:
        model: Left unchanged; a copy is exported.
        examples: One (n, *shape) tensor for each input of the model. The file takes batches of n, always.
        check: Run the file on random examples and compare its outputs with the model's.

    Raises:
        SpecError: An operation cannot be exported, or the file's outputs differ from the model's by more than
            `TOLERANCE`, or `ROUNDED_TOLERANCE` for one that rounds its activations.
    """
    model, tolerance = _shipped(copy.deepcopy(model).to("cpu", torch.float32).eval())
    inputs = tuple(e.detach().to("cpu", torch.float32) for e in examples)
    with torch.no_grad():
        given = model(*inputs)  # what is wrong with the model itself is said by the model
    if not isinstance(given, Tensor):
        what = type(given).__name__
        raise SpecError(f"the model gives a {what}, but only one that gives a tensor can be exported; {CURE}")
    file = _exported(model, inputs)
    if check:
        compare(model, file, inputs, tolerance)
    return file


def _shipped(model: nn.Module) -> tuple[nn.Module, float]:
    """The form in which a model is shipped, if it has one, and the tolerance of its comparison.

    A model says by a method `deployed` how it is shipped. A module that rounds says so by `rounds = True`.
    """
    form = getattr(model, "deployed", None)
    model = form() if callable(form) else model
    rounds = any(getattr(module, "rounds", False) for module in model.modules())
    return model, ROUNDED_TOLERANCE if rounds else TOLERANCE


def tolerance_of(model: nn.Module) -> float:
    """How far the outputs of a model's file may lie from its own, relative to the largest; see `compare`."""
    return _shipped(copy.deepcopy(model))[1]


def compare(model: nn.Module, file: bytes, inputs: tuple[Tensor, ...], tolerance: float = TOLERANCE) -> float:
    """Largest difference between the outputs of a model and of its file on random examples.

    Args:
        model: On the CPU, in evaluation mode.
        file: Its ONNX file.
        inputs: One tensor of the file's batch size for each input; only their shapes matter.
        tolerance: Largest difference allowed.

    Returns:
        The difference relative to the largest output of the model.

    Raises:
        SpecError: It is above the tolerance, or one of the two is not finite where the other is.
    """
    session = open_session(file)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    for _ in range(_BATCHES):
        batch = tuple(torch.randn(i.shape, generator=generator) for i in inputs)
        with torch.no_grad():
            wanted = model(*batch).numpy()
        found = session(*(b.numpy() for b in batch))
        worst = max(worst, difference(wanted, found))
    if not worst <= tolerance:
        raise SpecError(
            f"the exported file's outputs differ from the model's by {worst:.2g} of the largest, allowed are "
            f"{tolerance:g}; a model that depends on values or chance cannot be traced: {CURE}"
        )
    return worst


def difference(wanted: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """Largest difference of two arrays relative to the largest finite value of the first.

    Infinite if the shapes differ, or if one is finite where the other is not.
    """
    if wanted.shape != found.shape or (np.isfinite(wanted) != np.isfinite(found)).any():
        return float("inf")
    finite = np.isfinite(wanted)
    largest = float(np.abs(wanted[finite]).max(initial=0.0))
    gap = float(np.abs(wanted[finite] - found[finite]).max(initial=0.0))
    return gap / largest if largest > 0 else gap


def _exported(model: nn.Module, inputs: tuple[Tensor, ...]) -> bytes:
    names = {"input_names": [f"input{i}" for i in range(len(inputs))], "output_names": ["output"]}
    reasons: list[Exception] = []
    for export in (_traced, _captured):
        try:
            with quiet(), torch.no_grad():
                return export(model, inputs, names)
        except Exception as error:  # noqa: BLE001 - exporters raise whatever they meet
            reasons.append(error)
    raise SpecError(_reason(reasons)) from reasons[0]


def _traced(model: nn.Module, inputs: tuple[Tensor, ...], names: dict[str, list[str]]) -> bytes:
    buffer = io.BytesIO()
    fused, log = torch.backends.mha.get_fastpath_enabled(), torch._C._jit_onnx_log
    torch.backends.mha.set_fastpath_enabled(False)  # there is no such operation outside torch
    # it prints the whole graph of a refused model, past sys.stdout, and cannot be told not to
    torch._C._jit_onnx_log = lambda *_: None
    try:
        torch.onnx.export(model, inputs, buffer, dynamo=False, opset_version=_OPSET, **names)  # type: ignore[arg-type]
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        torch._C._jit_onnx_log = log
    return buffer.getvalue()


def _captured(model: nn.Module, inputs: tuple[Tensor, ...], names: dict[str, list[str]]) -> bytes:
    program = torch.onnx.export(
        model,
        inputs,
        dynamo=True,
        verbose=False,
        opset_version=_OPSET,
        **names,  # type: ignore[arg-type]
    )
    assert program is not None
    proto = program.model_proto
    # the exporter notes the line of source that each operation comes from, with paths of this machine
    del proto.metadata_props[:], proto.graph.metadata_props[:]
    for part in (*proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]
    for node in proto.graph.node:
        node.ClearField("doc_string")
    return bytes(proto.SerializeToString())


def _reason(errors: list[Exception]) -> str:
    """One line about a refused export: the operation if an exporter names it, else what the last one said."""
    for error in errors:
        for pattern in _UNKNOWN:
            found = re.search(pattern, str(error))
            if found:
                return f"operation {found[1]} cannot be exported to ONNX; {CURE}, or replace the operation"
    text = next((line for line in str(errors[0]).splitlines() if line.strip()), "")
    return f"the model cannot be exported to ONNX ({type(errors[0]).__name__}: {text[:200]}); {CURE}"
