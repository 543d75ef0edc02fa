"""Measures an ONNX file on the machine this script runs on, and prints the samples as JSON.

It stands alone: copy it to a device that has Python, onnxruntime and numpy. A device of `kind: command` can
run it there through `ssh` or `adb`, or here as it is:

    devices:
      - kind: command
        name: board
        commands:
          - [scp, -q, "${onnx_file}", "pi@board:/tmp/model.onnx"]
          - [ssh, pi@board, python3, measure.py, /tmp/model.onnx, --repetitions, "${repetitions}"]
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="ONNX file")
    parser.add_argument("--repetitions", type=int, default=100, help="measured runs")
    parser.add_argument("--warmup", type=int, default=10, help="runs before measuring")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime")
    return parser.parse_args()


def open_model(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def example(session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """Random inputs; a dimension without a number is 1."""
    rng = np.random.default_rng(0)
    shapes = {i.name: [d if isinstance(d, int) else 1 for d in i.shape] for i in session.get_inputs()}
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


def main() -> int:
    given = arguments()
    try:
        session = open_model(given.model, given.threads)
    except Exception as error:  # noqa: BLE001 - whatever the runtime raises, the caller needs the reason
        print(f"{given.model} cannot be opened: {error}", file=sys.stderr)
        return 1
    inputs = example(session)
    for _ in range(given.warmup):
        session.run(None, inputs)
    samples = []
    for _ in range(given.repetitions):
        start = time.perf_counter_ns()
        session.run(None, inputs)
        samples.append((time.perf_counter_ns() - start) / 1e6)
    print(json.dumps({"samples_ms": samples, "file_size_mb": given.model.stat().st_size / 1e6}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
