"""Keeps libraries that chatter while a model is exported, quantised or compiled from filling the screen."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings and no log lines in this process for a while; errors are raised as ever."""
    before = logging.root.manager.disable
    # one switch for all: setting the levels of their many loggers takes longer than an export
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
