"""ONNX files in ONNX Runtime: opened and run.

A session runs a whole graph with all of the runtime's optimisations on. A file takes batches of one size;
examples of any number are cut into such batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ziggurat.errors import SpecError

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[np.float32]
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True)
class Session:
    """An open file; calling it runs one batch."""

    inner: onnxruntime.InferenceSession
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __call__(self, *inputs: Array) -> Array:
        """Outputs (n, classes) of one batch; one (n, *shape) array for each input."""
        return self.inner.run(None, dict(zip(self.names, inputs, strict=True)))[0]  # type: ignore[no-any-return]


def open_session(file: bytes, *, threads: int = 1, provider: str = "cpu") -> Session:
    """An ONNX file, ready to run.

    Args:
        file: The file's bytes.
        threads: Threads of the runtime, the calling one included.
        provider: cpu or cuda.

    Raises:
        SpecError: ONNX Runtime cannot run the file; an operation without an implementation is named.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 4  # fatal ones only; errors are raised besides
    try:
        inner = onnxruntime.InferenceSession(file, options, providers=[PROVIDERS[provider]])
    except Exception as error:
        text = " ".join(str(error).split()).removeprefix("[ONNXRuntimeError] : ")
        raise SpecError(
            f"ONNX Runtime cannot run the exported model ({text[:200]}); use a device of kind: torch"
        ) from error
    inputs = inner.get_inputs()
    return Session(inner, tuple(i.name for i in inputs), tuple(tuple(i.shape) for i in inputs))


def run(file: bytes, x: Any, *, threads: int = 1) -> Array:  # noqa: ANN401 - an array or a tensor
    """Outputs of a file with one input for any number of examples, such as the logits of a validation part.

    Args:
        file: The file's bytes; it takes batches of some size m.
        x: (n, *shape) examples, of whatever n.
        threads: Threads of the runtime.

    Returns:
        (n, classes) outputs.
    """
    session = open_session(file, threads=threads)
    examples = np.asarray(x, dtype=np.float32)
    size = session.shapes[0][0]
    short = -len(examples) % size
    # the last batch is filled up; what that gives is cut off
    padded = np.concatenate([examples, np.zeros((short, *examples.shape[1:]), np.float32)])
    parts = [session(padded[i : i + size]) for i in range(0, len(padded), size)]
    return np.concatenate(parts)[: len(examples)]
