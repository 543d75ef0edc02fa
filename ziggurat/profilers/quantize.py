"""ONNX files in 8 bits: quantised after training, calibrated on examples.

Weights are quantised for each output channel, activations for each tensor, symmetrically, in the form that
every backend of ONNX Runtime reads (pairs of QuantizeLinear and DequantizeLinear).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ziggurat.errors import SpecError
from ziggurat.profilers.quiet import quiet
from ziggurat.profilers.runtime import Array, open_session


def quantize_int8(file: bytes, calibration_batches: Sequence[Any]) -> bytes:
    """A file in 8 bits.

    Args:
        file: An ONNX file in single precision, for batches of m.
        calibration_batches: Examples from which the ranges of activations are taken, as they will be met:
            for each batch an (n, *shape) array or tensor, or a tuple with one for each input. A batch is cut
            into pieces of m, without what is left over; one of fewer than m is repeated.

    Returns:
        The bytes of the quantised file.

    Raises:
        SpecError: There are no examples, or only zeros, which tell nothing about ranges; or the runtime
            cannot quantise the file.
    """
    session = open_session(file)
    batches = [_arrays(b) for b in calibration_batches]
    if not any(np.any(a) for b in batches for a in b):
        raise SpecError(
            f"int8 cannot be calibrated on {len(batches)} batches of nothing but zeros; give real examples"
        )
    feeds = [f for b in batches for f in _feeds(session.names, session.shapes, b)]
    try:
        with quiet(), tempfile.TemporaryDirectory() as folder:
            return _quantized(file, feeds, Path(folder))
    except Exception as error:
        raise SpecError(
            f"ONNX Runtime cannot quantise the exported model ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); use precision: float32"
        ) from error


def _quantized(file: bytes, feeds: Sequence[dict[str, Array]], folder: Path) -> bytes:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[dict[str, Array]] = iter(feeds)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._left, None)

    prepared, done = folder / "prepared.onnx", folder / "int8.onnx"
    quant_pre_process(onnx.load_from_string(file), prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        done,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )
    return done.read_bytes()


def _arrays(batch: Any) -> tuple[Array, ...]:  # noqa: ANN401 - arrays or tensors
    several = batch if isinstance(batch, tuple) else (batch,)
    return tuple(np.asarray(one, dtype=np.float32) for one in several)


def _feeds(
    names: Sequence[str], shapes: Sequence[tuple[int, ...]], batch: tuple[Array, ...]
) -> Iterator[dict[str, Array]]:
    """A batch in pieces of the size that the file takes."""
    size, count = shapes[0][0], len(batch[0])
    if not count:
        return
    for first in range(0, max(1, count // size) * size, size):
        # a batch that is too small begins again
        chosen = np.arange(first, first + size) % count
        yield {name: array[chosen] for name, array in zip(names, batch, strict=True)}
