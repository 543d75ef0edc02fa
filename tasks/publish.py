"""Artifacts on the Prefect page of a run, brought up to date while it goes on.

The engine's tick only looks at the clock and hands a copy of the history to a thread: a server that is slow
or gone never holds up the run. Each artifact is made once for each flow run and then changed in place.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from tasks import pages
from ziggurat.events import Body
from ziggurat.history import History
from ziggurat.runs import Run
from ziggurat.spec import Spec

log = logging.getLogger(__name__)

EVERY_S = 20.0
"""Least seconds between two rounds of calls."""
LAST_S = 20.0
"""Seconds for the last round at the end of a run."""
TIRED = 3
"""Rounds in a row that may fail; after these only the last one is tried."""


@dataclass(frozen=True)
class _Copy:
    """What a round of calls is about: nothing that the run goes on changing."""

    spec: Spec
    history: History


class Publisher:
    """Keeps the artifacts of one flow run."""

    def __init__(self, run: Run, every_s: float = EVERY_S) -> None:
        """Start the thread, for the flow run that calls; rounds of calls are so many seconds apart."""
        self._run, self._every_s = run, every_s
        self._flow_run = UUID(str(runtime.flow_run.id))
        self._next = 0.0
        self._seen = -1
        self._failed = 0
        self._known = False
        self._ids: dict[str, UUID] = {}
        self._told: dict[str, Any] = {}
        self._due: queue.SimpleQueue[_Copy | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        context = copy_context()  # the thread knows the settings of the flow run
        self._thread = threading.Thread(target=lambda: context.run(self._work), name="artifacts", daemon=True)
        self._thread.start()

    def tick(self, now: float) -> Sequence[Body]:
        """Hand on a copy, if something has happened, the last round is over and it is time; no events."""
        length = self._run.history.length
        if now >= self._next and length != self._seen and self._idle.is_set() and self._failed < TIRED:
            self._next, self._seen = now + self._every_s, length
            self._hand_on()
        return ()

    def close(self) -> None:
        """Show how it has ended; give up after a while."""
        self._hand_on()
        self._due.put(None)
        self._thread.join(LAST_S)
        if self._thread.is_alive():
            log.warning(
                "Prefect's page may not show the last numbers: the server takes longer than %g s", LAST_S
            )

    def _hand_on(self) -> None:
        self._idle.clear()
        self._due.put(_Copy(self._run.spec, self._run.history.copy()))

    def _work(self) -> None:
        while (copy := self._due.get()) is not None:
            try:
                self._publish(copy)
                self._failed = 0
            except Exception as error:  # noqa: BLE001 - a page is no reason to end a run
                self._failed += 1
                log.warning("Prefect's page is not up to date (%s)", error)
            finally:
                self._idle.set()

    def _publish(self, copy: _Copy) -> None:
        spec, history = copy.spec, copy.history
        with get_client(sync_client=True) as client:
            self._find(client)
            self._put(client, "front", "table", pages.front_rows(spec, history), f"Front of {history.run_id}")
            self._put(client, "stages", "table", pages.stage_rows(spec, history), "Stages and their cost")
            self._put(client, "progress", "progress", pages.percent(spec, history), history.run_id)
            text = pages.outcome_text(spec, history, str(self._run.folder))
            self._put(client, "outcome", "markdown", text, "Where the run stands")
            if link := pages.mlflow_text(self._run.folder, spec, history):
                self._put(client, "mlflow", "markdown", link, "The finalists side by side, in MLflow")

    def _find(self, client: SyncPrefectClient) -> None:
        """Go on with what an earlier try of the flow run has made."""
        if self._known:
            return
        asked = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._flow_run]))
        for artifact in client.read_artifacts(artifact_filter=asked):
            if artifact.key:
                self._ids[artifact.key] = artifact.id
        self._known = True

    def _put(self, client: SyncPrefectClient, what: str, kind: str, data: Any, text: str) -> None:  # noqa: ANN401 - an artifact
        """Make an artifact, or change it if it says something new."""
        plain = pages.as_data(kind, data)
        if self._told.get(what) == plain:
            return
        key = pages.key_of(self._run.run_id, what)
        if key in self._ids:
            client.update_artifact(self._ids[key], ArtifactUpdate(data=plain))
        else:
            made = client.create_artifact(
                ArtifactCreate(key=key, type=kind, description=text, data=plain, flow_run_id=self._flow_run)
            )
            self._ids[key] = made.id
        self._told[what] = plain
