"""Runs a script from start to end: stops it on request, keeps its checkpoint, hands back its metrics."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ziggurat.domain import FailureKind, Measurement
from ziggurat.protocols import Report, Trained
from ziggurat.trainers import script_checkpoint as checkpoints
from ziggurat.trainers.failures import StopTraining, TrainingFailed
from ziggurat.trainers.script_checkpoint import Told
from ziggurat.trainers.script_metrics import PROFILED, TESTED, Found, measurement, on_device, printed
from ziggurat.trainers.script_place import Place
from ziggurat.trainers.script_session import SIGNALLED, Session
from ziggurat.trainers.script_snapshots import PARTIAL, Diary, Snapshots

if TYPE_CHECKING:
    from ziggurat.trainers.script import Command

ASKED_S = 1.0
"""Seconds in which the request to stop may follow a signal that somebody else has sent to the script."""


def train(place: Place, report: Report, stopped: Callable[[bool], bool], resume: Path | None) -> Trained:
    """Train with the script; see `Script.train`."""
    setting = place.setting
    place.begin()
    place.remove_drafts()
    told = Told()
    if resume is not None and setting.resumable:
        told = checkpoints.unpack(resume, place.checkpoint, setting.checkpoint_limit_mb)
    going_on = not checkpoints.empty(place.checkpoint)
    told = told if going_on else Told()
    place = place.after(min(told.epoch, place.epochs))
    place.write()
    command = place.filling.words([*setting.command, *(setting.resume if going_on else ())])
    metrics = setting.sources
    every = frozenset(name for name, metric in metrics.items() if metric.source != "result")
    rowed = every if setting.metrics else None
    found = Found(frozenset(metrics), rowed, place.begun, place.epochs, setting.first_epoch)
    before, diary = checkpoints.state(place.checkpoint), Diary(told, found)
    session = Session(place, command, metrics, found, set(setting.metrics))
    snapshots = Snapshots(place, session.program, diary, before)
    training = _Training(session, report, stopped, diary, snapshots)
    try:
        training.run()
        return training.done(told)
    finally:
        snapshots.close()
        session.close()


@dataclass
class _Training:
    """A training that runs."""

    session: Session
    report: Report
    stopped: Callable[[bool], bool]
    diary: Diary
    snapshots: Snapshots

    def run(self) -> None:
        """Let it run until it ends.

        Raises:
            StopTraining: It was stopped; its checkpoint was kept if there is one.
        """
        session = self.session
        try:
            while not session.program.ended:
                session.step()
                self._rows()
                self.snapshots.look()
                # a script keeps its state when it is asked to, not at ends of epochs
                if self.stopped(True) and not session.program.ended:
                    raise StopTraining
        except StopTraining as request:
            whole = session.program.stop(session.place.setting.grace_s, session.place.checkpoint)
            self._stop(request, whole=whole)

    def _rows(self) -> None:
        try:
            for row in self.session.found.rows():
                self.report(row)
        finally:
            self.diary.note()

    def _last_rows(self) -> None:
        """Report what is left; nothing runs any more that a request to stop could end."""
        for final in (False, True):
            for row in self.session.found.rows(final=final):
                with contextlib.suppress(StopTraining):
                    self.report(row)
            if not final:  # rows that are not whole are of an epoch that was not ended
                self.diary.note()

    def _stop(self, request: StopTraining, *, whole: bool) -> None:
        """Keep what a stopped script has left, and pass the request on."""
        session = self.session
        self.snapshots.close()
        session.finish()
        self._last_rows()
        place = session.place
        state = checkpoints.state(place.checkpoint)
        if whole and state is not None:
            archive = place.trial / PARTIAL
            limit = place.setting.checkpoint_limit_mb
            checkpoints.pack(place.checkpoint, archive, self._told(state.changed), limit, state.changed)
            request.checkpoint = str(archive)
        checkpoints.clear(place.checkpoint)
        raise request

    def _told(self, changed: float) -> Told:
        """What a stopped script had told by its checkpoint; all, if that is all that there is to tell."""
        found = self.session.found
        return Told(found.sent, found.last) if found.sent >= found.epochs else self.diary.told_at(changed)

    def done(self, told: Told) -> Trained:
        """What it hands back when it has ended by itself.

        Raises:
            TrainingFailed: It has failed, or told nothing.
            StopTraining: Somebody else has ended it, because it is to stop.
        """
        session, place = self.session, self.session.place
        code = session.finish()
        self._asked(code)
        if code != 0:
            raise session.failure(code, "the script")
        self._last_rows()
        found = session.found
        if not found.last and told.epoch >= place.epochs:
            found.last |= told.last  # it was stopped when it had done everything, so nothing was left to do
        if not found.last:
            raise session.silence(list(session.metrics), "the script")
        archive = place.trial / f"rung-{place.job.to_rung}.tar"
        kept = Told(place.epochs, found.last)
        checkpoints.pack(place.checkpoint, archive, kept, place.setting.checkpoint_limit_mb)
        checkpoints.clear(place.checkpoint)
        final = tuple(measurement(name, value, place.epochs) for name, value in found.last.items())
        lacks = not set(session.metrics) <= set(found.last)
        return Trained(final, archive, session.words() if lacks else "")

    def _asked(self, code: int) -> None:
        """Take an end for a stop if it was asked for: a scheduler's signal may reach the script first."""
        session = self.session
        signalled = code in {-signal.SIGTERM, -signal.SIGINT, SIGNALLED + signal.SIGTERM}
        deadline = time.monotonic() + (ASKED_S if signalled else 0.0)
        while not (asked := self.stopped(True)) and time.monotonic() < deadline:
            time.sleep(0.02)
        complete = code == 0 and session.found.sent >= session.place.epochs
        if asked and not complete:
            self._stop(StopTraining(), whole=session.program.left_whole(session.place.checkpoint))


def once(place: Place, checkpoint: Path | None, setting: Command) -> tuple[Measurement, ...]:
    """Run a command that measures something, to its end.

    Args:
        place: Where; with a device if it is a profile command.
        checkpoint: Archive of a trained model, unpacked into a folder of the command's own.
        setting: The command.

    Raises:
        TrainingFailed: It fails, takes too long, or tells none of the metrics.
    """
    what = "the profile command" if place.device else "the test command"
    metrics = setting.metrics or printed(PROFILED if place.device else TESTED)
    place.begin()
    if checkpoint is not None:
        limit = place.setting.checkpoint_limit_mb
        place = place.after(checkpoints.unpack(checkpoint, place.checkpoint, limit).epoch)
    place.write()
    found = Found(frozenset(metrics), frozenset(), place.begun, max(1, place.epochs))
    command = place.filling.words(setting.command)
    session = Session(place, command, metrics, found, set(setting.metrics))
    try:
        _until(session, setting.timeout_s, what)
        code = session.finish()
        if code != 0:
            raise session.failure(code, what)
    finally:
        session.close()
        checkpoints.clear(place.checkpoint)
    if not found.last:
        raise session.silence(list(metrics), what)
    device = place.device or None
    return tuple(
        measurement(name, value, device=device if on_device(name) else None)
        for name, value in found.last.items()
    )


def _until(session: Session, seconds: float, what: str) -> None:
    """Let a command run for some seconds at most.

    Raises:
        TrainingFailed: It takes longer.
    """
    deadline = time.monotonic() + seconds
    while not session.program.ended and time.monotonic() < deadline:
        session.step()
    if not session.program.ended:
        session.program.stop(min(session.place.setting.grace_s, seconds), session.place.checkpoint)
        text = f"{what} did not end within {seconds:g} s and was ended; raise timeout_s, or see why"
        raise TrainingFailed(FailureKind.TIMEOUT, text)
