"""A finished model as files that need none of our code: ONNX, `torch.export`, and ONNX in 8 bits if wanted.

Each file is held against the model on validation examples. What cannot be written is said, and nothing fails
for it: the checkpoint is there all the same.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat.domain import Measurement
from ziggurat.errors import SpecError
from ziggurat.events import Decided
from ziggurat.files import write_whole

if TYPE_CHECKING:
    from torch import nn

    from ziggurat.protocols import Data, FloatArray

DECISION = "exported"
MOST = 10_000
"""Validation examples at most on which a file is held against the model."""
CALIBRATION = 256
"""Training examples from which the ranges of 8-bit activations are taken."""
FILES = {"onnx": "model.onnx", "int8": "model-int8.onnx", "pt2": "model.pt2"}


def export(
    model: nn.Module, data: Data, root: Path, trial: int, *, int8: bool = False
) -> tuple[tuple[Measurement, ...], Decided]:
    """Write all files of a model, and tell how they compare with it.

    Args:
        model: With its weights, on the CPU.
        data: Validation examples to compare on, training examples to calibrate on.
        root: Run directory; the files go to `trials/NNNNN/` in it.
        trial: Number of the model's trial.
        int8: Whether a device runs it in 8 bits.

    Returns:
        onnx_accuracy and int8_accuracy on validation, for the files that could be written; and what the
        journal keeps: paths, sizes, hashes, agreement with the model, and why a file is missing.
    """
    from ziggurat.profilers.onnx_file import difference, tolerance_of

    folder = root / "trials" / f"{trial:05d}"
    facts: dict[str, Any] = {}
    reasons: list[str] = []
    found: list[Measurement] = []
    x, y = data.validation_x[:MOST], data.validation_y[:MOST].numpy()
    content, answers = _contents(model, data, int8=int8, reasons=reasons), {}
    wanted = _logits(model, x)
    for kind in [k for k in content if k != "pt2"]:
        answers[kind] = _run(content[kind], x)
    if "onnx" in answers and not (gap := difference(wanted, answers["onnx"])) <= tolerance_of(model):
        reasons.append(
            f"the ONNX file gives other answers on validation than the model (by {gap:.2g} of the largest "
            "output); a model that depends on values or chance cannot be traced"
        )
        content = {k: v for k, v in content.items() if k == "pt2"}
    for kind, file in content.items():
        path = folder / FILES[kind]
        write_whole(path, file)
        facts |= {
            f"{kind}_file": str(path.relative_to(root)),
            f"{kind}_bytes": len(file),
            f"{kind}_sha256": hashlib.sha256(file).hexdigest(),
        }
        if kind != "pt2":
            facts |= {f"{kind}_{n}": v for n, v in _compared(wanted, answers[kind]).items()}
            right = float((answers[kind].argmax(1) == y).mean()) if len(y) else float("nan")
            found.append(Measurement(f"{kind}_accuracy", right, samples=len(y)))
    facts |= {"examples": len(y), **_versions()}
    verdict = " and ".join(content) or "nothing"
    return tuple(found), Decided(DECISION, verdict, trial, reason="; ".join(reasons), facts=facts)


def _contents(model: nn.Module, data: Data, *, int8: bool, reasons: list[str]) -> dict[str, bytes]:
    """The files that can be written, by kind; reasons are added for the others."""
    from ziggurat.profilers.onnx_file import export_onnx
    from ziggurat.profilers.quantize import quantize_int8
    from ziggurat.profilers.torch_file import export_torch

    found: dict[str, bytes] = {}
    try:
        found["onnx"] = export_onnx(model, data.validation_x[:1])
        if int8:
            found["int8"] = quantize_int8(found["onnx"], [_calibration(data)])
    except SpecError as error:
        reasons.append(str(error))
    try:
        found["pt2"] = export_torch(model, data.validation_x[:2])
    except SpecError as error:
        reasons.append(str(error))
    return found


def _calibration(data: Data) -> Any:  # noqa: ANN401 - a tensor
    """Training examples from all over the training part."""
    count = len(data.train_x)
    return data.train_x[np.linspace(0, count - 1, min(CALIBRATION, count)).astype(int)]


def _logits(model: nn.Module, x: Any) -> FloatArray:  # noqa: ANN401 - a tensor
    import torch

    model.eval()
    with torch.no_grad():
        parts = [model(x[i : i + 256]) for i in range(0, len(x), 256)]
    return np.concatenate([p.double().numpy() for p in parts])


def _run(file: bytes, x: Any) -> FloatArray:  # noqa: ANN401 - a tensor
    from ziggurat.profilers.runtime import run

    return run(file, x).astype(np.float64)


def _compared(wanted: FloatArray, logits: FloatArray) -> dict[str, float]:
    """Largest absolute difference of two (n, classes) arrays, and the share of rows with the same argmax."""
    return {
        "difference": float(np.abs(wanted - logits).max()),
        "agreement": float((wanted.argmax(1) == logits.argmax(1)).mean()),
    }


def _versions() -> dict[str, str]:
    from ziggurat.profilers.hardware import library

    names = ("torch", "onnx", "onnxruntime")
    return {
        "python": platform.python_version(),
        **{name: library(name).removeprefix(f"{name} ") for name in names},
    }
