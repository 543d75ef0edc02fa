"""Runs side by side: reads them, wherever they lie, and writes the page."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ziggurat import __version__, run_places, runs

FOLDER = Path("comparison")


def compare(where: Sequence[str], out: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Write the comparison of some runs; the path of its page, and the same as data.

    Args:
        where: Run directories and URLs of runs in stores.
        out: Directory of the page; by default `comparison` in the working directory.

    Raises:
        SpecError: A run cannot be read, the runs cannot be compared, or the page cannot be written.
    """
    from ziggurat.report import compare as comparing
    from ziggurat.report import compare_page

    with contextlib.ExitStack() as places:
        looked = [
            comparing.Looked(place, *runs.look(places.enter_context(run_places.reading(place))))
            for place in where
        ]
    found = comparing.compare(looked)
    page = compare_page.write(out or FOLDER, found, utc=time.time(), version=__version__)
    return page, compare_page.plain(found)


def text(page: Path, data: Mapping[str, Any]) -> str:
    """The answer, and where the page lies, for people."""
    return "\n".join([*data["answer"], *data["notes"], f"comparison: {page}"])
