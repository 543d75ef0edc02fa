"""One sitting of a controller at a run: its engine, its listeners, its report and its result.

Stages take the engine; whoever drives them (flows, tests) takes a `Session`, and closes it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TextIO

from ziggurat import exports, report, reporting, retention
from ziggurat.domain import Job, JobKind, Recipe, RunStatus, Trial
from ziggurat.engine import Engine
from ziggurat.errors import ZigguratError
from ziggurat.events import Alert, Body, Decided, Event
from ziggurat.history import History
from ziggurat.listeners import alerts
from ziggurat.listeners.mlflow_client import place_of
from ziggurat.listeners.mlflow_mirror import MlflowMirror
from ziggurat.listeners.notifier import Notifier
from ziggurat.listeners.progress import progress
from ziggurat.listeners.progress_words import Outline
from ziggurat.report.summary import outcome
from ziggurat.reporting import STAGES
from ziggurat.runs import Run
from ziggurat.scripted import script_of
from ziggurat.stores import StoreError
from ziggurat.strategies import Pbt

log = logging.getLogger(__name__)

FLUSH_S = 20.0
PUBLISH_S = 90.0
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
        self._crashes = alerts.crashes(past)
        self._notifier = Notifier(spec.alerts.urls)
        self._mirror: MlflowMirror | None = None
        if spec.tracking.enabled:
            place = place_of(spec.tracking, run.folder.parent, spec.name)
            self._mirror = MlflowMirror(spec.tracking, place, run.folder, spec.goals())
        outline = Outline(
            spec.goals(), spec.search.trials, spec.search.workers, run.limit_usd, str(run.folder), STAGES
        )
        self._view = progress(stream, outline) if stream is not None else None
        self._notifier.replay(past)
        run.listeners.append(self._notifier)
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
        self.engine = Engine(run, ticks=[self._alerts, self._sweep])

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
        spec = self.run.spec
        watch = alerts.Watch(
            objectives=spec.goals(),
            choices=spec.space.choices(),
            workers=spec.search.workers,
            since_utc=self._since,
            plan_usd=spec.budget.plan_usd,
            limit_usd=self.run.limit_usd,
            warn_at=spec.budget.warn_at,
            crashes=self._crashes,
        )
        found: list[Alert] = alerts.rules(self.run.history, now, spec.alerts, watch)
        return found

    def _sweep(self, now: float) -> Sequence[Body]:
        """Remove checkpoints that nothing will ask for, now and then."""
        last, ends = self._swept
        if self.run.durable and ends != self.run.history.ends and abs(now - last) >= SWEEP_S:
            self._swept = now, self.run.history.ends
            self._sweeper.sweep(self.run.history)
        return ()

    def raise_alerts(self) -> None:
        """Raise what is due now."""
        self.run.record(self._alerts(time.time()))

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
        """The command that shows the run in MLflow."""
        if self._mirror is None:
            return ""
        return reporting.mlflow_command(self.run.spec.tracking.address(self.run.folder.parent))

    def publish(self) -> None:
        """Log and register the best retrained model; the run goes on without if that fails."""
        best = self._best()
        if script_of(self.run.spec, Recipe.RETRAIN) is not None:
            log.info("MLflow: a script's model is its own, so none is logged or registered")
            return
        if self._mirror is None or best is None or self.run.history.decision("published") is not None:
            return
        key = f"service-publish-{best.number}-{self.run.mark[-8:]}"
        job = Job(
            key, JobKind.PUBLISH, "retrain", best.number, best.candidate, recipe=best.recipe,
            seed=best.seed, checkpoint=best.checkpoint, time_limit_s=PUBLISH_S,
        )  # fmt: skip
        try:
            self._await_mirror(self._mirror)
            found = self.engine.call(job, PUBLISH_S)
        except ZigguratError as error:
            log.warning("MLflow: the best model was not logged (%s)", error)
            return
        self.run.record([_published(found, self.run.history.length, best)])

    def _await_mirror(self, mirror: MlflowMirror) -> None:
        """Wait until the mirror has written what has happened so far.

        Raises:
            ZigguratError: It has not within its time.
        """
        deadline = time.monotonic() + FLUSH_S
        while mirror.pending:
            self.run.check_stop()
            if mirror.down or time.monotonic() > deadline:
                raise ZigguratError(f"{mirror.pending} events are still waiting for the server")
            self.engine.pool.wait(0.1)

    def _best(self) -> Trial | None:
        """The retrained model with the best first learned objective on validation."""
        goal = self.run.spec.judged()
        done = [t for t in self.run.history.of_stage("retrain") if t.rung == t.top_rung]
        known = [t for t in done if not math.isnan(t.value(goal.metric))]
        return min(known or done, key=lambda t: goal.loss(t.value(goal.metric)), default=None)

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

    def close(self) -> None:
        """Flush what can be flushed, end the workers, give the run back."""
        try:
            if self._view is not None:
                self._view.close()
            self.engine.close(leave=self.run.taken)
            if self._mirror is not None:
                self._mirror.close(FLUSH_S / 10 if self._mirror.down else FLUSH_S)
            self._notifier.close(FLUSH_S)
        finally:
            self.run.close()


def _published(found: dict[str, Any], seen: int, trial: Trial) -> Body:
    facts = {name: value for name, value in found.items() if isinstance(value, (str, int, float))}
    return Decided("published", "logged", trial.number, seen=seen, reason="best retrained model", facts=facts)
