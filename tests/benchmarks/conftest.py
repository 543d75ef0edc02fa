"""Benchmarks are scripts that import their neighbours, so their folder is on the path as when one is run."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
