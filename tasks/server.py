"""Prefect's embedded server, which `ziggurat run` uses where no `PREFECT_API_URL` is set."""

from __future__ import annotations

import contextlib
import signal
import threading

from prefect.client.orchestration import get_client


def start() -> None:
    """Start the embedded server where one is needed, out of reach of the keyboard, and wait until it answers.

    The terminal sends an interrupt to every process in the foreground. A server that ends with it leaves a
    flow that writes its checkpoints with nobody to report to, and that waits for minutes. A child inherits
    the signals that its starting thread has blocked; the main thread of this process still heeds them.
    """
    starter = threading.Thread(target=_start, name="embedded-server", daemon=True)
    starter.start()
    starter.join()


def _start() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with contextlib.suppress(RuntimeError, OSError):  # the flow tries it again, and says what is wrong
        get_client(sync_client=True)
