"""One sitting of a controller at a run: its engine, its listeners, its report and its result.

Stages take the engine; whoever drives them (flows, tests) takes a `Session`, and closes it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TextIO

from ziggurat import exports, publishing, report, reporting, retention
from ziggurat.alerting import Alerting
from ziggurat.domain import JobKind, RunStatus
from ziggurat.engine import Engine
from ziggurat.errors import JournalError
from ziggurat.events import Body, Event
from ziggurat.history import History
from ziggurat.listeners.progress import progress
from ziggurat.listeners.progress_words import Outline
from ziggurat.report.summary import outcome
from ziggurat.reporting import STAGES
from ziggurat.runs import Interrupted, Run
from ziggurat.stores import StoreError
from ziggurat.strategies import Pbt

log = logging.getLogger(__name__)

FLUSH_S = 20.0
FLUSH_SHARE = 0.05
"""Share of a session's time that the mirror in MLflow may take at its end, if it has been held up."""
SAMPLE_S = 30.0
SWEEP_S = 10.0
CHECKPOINTS = (".ckpt", ".tar")
"""Endings of what only a training reads."""


class Session:
    """A run with everything around it that ends with this process."""

    def __init__(self, run: Run, stream: TextIO | None = None) -> None:
        """Start the workers and the listeners."""
        self.run = run
        spec = run.spec
        self._since = time.time()
        past = run.past()
        self._held: list[Event] = []
        self._mirror = publishing.mirror_of(run.folder, spec)
        self._sampled = 0.0
        outline = Outline(
            spec.goals(), spec.search.trials, spec.search.workers, run.limit_usd, str(run.folder), STAGES
        )
        self._view = progress(stream, outline) if stream is not None else None
        self._alerting = Alerting(run, past, self._mirror)
        run.listeners.append(self._alerting)
        for hear in (self._mirrored, self._view):
            if hear is not None:
                run.listeners.append(hear)
                for event in past:
                    hear(event, run.history)
        handed_on = isinstance(spec.search.strategy, Pbt)
        rules = retention.Rules(spec.checkpoints.keep, spec.judged(), handed_on)
        self._sweeper, self._swept = retention.Sweeper(run.folder, run.store, rules), (0.0, 0)
        if run.store is not None:
            with contextlib.suppress(StoreError):
                run.store.tidy()
        self.engine = Engine(run, ticks=[self._alerts, self._sweep, self._sample])

    def _mirrored(self, event: Event, history: History) -> None:
        """Let the mirror hear of a run that has passed its preflight; nothing is left of one that has not."""
        self._held.append(event)
        if history.stages.get("preflight") is not None or history.status is not RunStatus.RUNNING:
            self._release()

    def _release(self) -> None:
        if self._mirror is not None:
            self._mirror.replay(self._held)
        self._held = []

    def _alerts(self, now: float) -> Sequence[Body]:
        return self._alerting.tick(now, self.engine)

    def _sweep(self, now: float) -> Sequence[Body]:
        """Remove checkpoints that nothing will ask for, now and then."""
        last, ends = self._swept
        if self.run.durable and ends != self.run.history.ends and abs(now - last) >= SWEEP_S:
            self._swept = now, self.run.history.ends
            self._sweeper.sweep(self.run.history)
        return ()

    def raise_alerts(self) -> None:
        """Raise what is due now."""
        self.run.record(self._alerts(self.run.clock()))

    def status(self) -> RunStatus:
        """How the run ends if it ends now, after all its stages."""
        status = outcome(self.run.history)
        return RunStatus.COMPLETED if status is RunStatus.RUNNING else status

    def write_report(self, status: RunStatus, reason: str = "") -> None:
        """Write report, front and images, and copy them to the tracking server."""
        run = self.run
        if run.durable:
            self._sweeper.sweep(run.history)
        self._fetch_exports()
        told = replace(
            reporting.facts(run.folder, run.spec, run.history),
            status=status,
            reason=reason,
            limit_usd=run.limit_usd,
            mlflow=self.mlflow_command(),
        )
        cards = reporting.write(run.folder, run.spec, run.history, told)
        self._release()
        if self._mirror is not None:
            self._mirror.log_artifacts(run.folder / "report")
            for number, card in cards.items():
                files = [card.with_name(name) for name in report.PUBLISHED]
                self._mirror.log_files(number, [file for file in files if file.is_file()])

    def _fetch_exports(self) -> None:
        """Have the exported models here, where other machines have written them to the store."""
        run = self.run
        exported = {e.trial for e in run.history.decisions if e.kind == exports.DECISION}
        if run.store is None or not exported:
            return
        try:
            for number in sorted(n for n in exported if n is not None):
                for entry in run.store.entries(f"trials/{number:05d}/"):
                    if (
                        not entry.key.endswith((".json", *CHECKPOINTS))
                        and not (run.folder / entry.key).exists()
                    ):
                        run.store.download(entry.key, run.folder / entry.key)
        except StoreError as error:
            log.warning("exported models are missing in the report: %s", error)

    def mlflow_command(self) -> str:
        """How the finalists are looked at side by side in MLflow."""
        return publishing.look_command(self.run.folder, self.run.spec, self.run.history)

    def publish(self) -> None:
        """Log and register the finished models; the run goes on without if that fails."""
        publishing.publish(self.engine, self._mirror)

    def _sample(self, now: float) -> Sequence[Body]:
        """Tell the mirror what running trainings use of their machines, now and then."""
        if self._mirror is not None and abs(now - self._sampled) >= SAMPLE_S:
            self._sampled = now
            jobs = {key: s.job for key, s in self.run.history.open_segments.items()}
            used = {k: u for k, u in self.engine.usage.items() if k in jobs and jobs[k].kind is JobKind.TRAIN}
            self._mirror.sample(now, {jobs[key].trial: found for key, found in used.items()})
        return ()

    def result(self) -> dict[str, Any]:
        """What the command line prints."""
        run = self.run
        return report.result_json(
            run.folder,
            run.spec.goals(),
            run.history,
            run.folder / "report" / "index.html",
            workers=run.spec.search.workers,
        )

    def _last_alerts(self) -> None:
        """Raise what is due at the end, deliver what is left, and journal what has arrived."""
        with contextlib.suppress(Interrupted, JournalError):  # there is nobody left to stop, or to be told
            if not self.run.taken:
                self.raise_alerts()
        arrived = self._alerting.close(FLUSH_S)
        with contextlib.suppress(Interrupted, JournalError):
            if not self.run.taken:
                self.run.record(arrived)

    def close(self) -> None:
        """Flush what can be flushed, end the workers, give the run back."""
        try:
            if self._view is not None:
                self._view.close()
            self.engine.close(leave=self.run.taken)
            if self._mirror is not None:
                patience = max(FLUSH_S, FLUSH_SHARE * (time.time() - self._since))
                self._mirror.close(FLUSH_S / 10 if self._mirror.down else patience)
            self._last_alerts()
        finally:
            self.run.close()
