"""The memory of an ONNX file: a small program that reads one from its input and prints bytes.

It runs as a process of its own, so that nothing else is counted, and imports nothing of this library.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_RUNS = 5


def private_bytes() -> int:
    """Resident private memory of this process; where the system does not tell, all of it at its peak."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * int(fields.get("RssAnon", fields["VmRSS"]).split()[0])


def growth(file: bytes, threads: int) -> int:
    """Bytes by which opening and running a file makes this process grow."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    before = private_bytes()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()}
    for _ in range(_RUNS):
        session.run(None, inputs)
    return max(0, private_bytes() - before)


if __name__ == "__main__":
    print(growth(sys.stdin.buffer.read(), int(sys.argv[1])))  # noqa: T201 - its answer
