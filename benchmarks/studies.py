"""What studies of real searches share: where they keep their runs, how they end, and what they write."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from ziggurat.errors import SpecError, ZigguratError

Result = TypeVar("Result")
"""What a study keeps of one search: a dataclass."""


def with_places(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser with options for what is written."""
    parser.add_argument("--json", type=Path, help="write all numbers to a file")
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    return parser


def told(
    study: Callable[[argparse.Namespace, Path], list[Result]],
    table: Callable[[Sequence[Result]], list[str]],
    given: argparse.Namespace,
    facts: Mapping[str, Any],
) -> tuple[int, list[Result]]:
    """Run a study, print its table and write its numbers.

    Args:
        study: Runs all searches under a folder.
        table: The lines to print.
        given: The options, those of `with_places` among them.
        facts: What else is written beside the results.

    Returns:
        0 and the results; without any, 2 if what was given is wrong, 1 if a search could not be run.
    """
    began = time.perf_counter()
    keep = nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory(prefix="ziggurat-study-")
    try:
        with keep as folder:
            results = study(given, Path(folder))
    except ZigguratError as error:
        print(error, file=sys.stderr)
        return (2 if isinstance(error, SpecError) else 1), []
    took = time.perf_counter() - began
    print("\n".join(table(results)))
    print(f"\n{len(results)} searches in {took / 60:.1f} minutes on {os.cpu_count()} cores")
    if given.json:
        whole = {**facts, "seconds": round(took, 1), "cores": os.cpu_count()}
        rows = [asdict(r) for r in results]  # type: ignore[call-overload]
        given.json.write_text(json.dumps({**whole, "runs": rows}, indent=1))
    return 0, results
