"""Runs tiny scripts as a trial would be run."""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ziggurat.domain import Candidate, Fidelity, Job, JobKind, Measurement
from ziggurat.trainers import Script, StopTraining

CHOICES = {"width": 8, "rate": 0.01}
LADDER = (Fidelity(2, 0.5), Fidelity(4))


def job(to_rung: int = 1, **changes: Any) -> Job:
    """A job that trains a small candidate."""
    plain = {
        "key": f"00003-train-{to_rung}-0", "kind": JobKind.TRAIN, "stage": "search", "trial": 3,
        "candidate": Candidate(CHOICES), "ladder": LADDER, "to_rung": to_rung, "seed": 7,
    }  # fmt: skip
    return Job(**{**plain, **changes})


@dataclass
class Bench:
    """A trial's folder, and what a training has reported there.

    Attributes:
        folder: Holds scripts and the trial's folder.
        rows: Rows as they were reported: epoch and values by name.
        stop_after: Rows after which a report asks to stop; 0 for never.
    """

    folder: Path
    rows: list[tuple[int | None, dict[str, float]]] = field(default_factory=list)
    stop_after: int = 0

    @property
    def trial(self) -> Path:
        """The trial's folder."""
        return self.folder / "trials" / "00003"

    @property
    def log(self) -> bytes:
        """The log of the last training."""
        (found,) = (self.trial / "logs").glob("*-train-*.log")
        return found.read_bytes()

    def script(self, code: str, name: str = "train.py") -> str:
        """Write a script; its path."""
        path = self.folder / name
        path.write_text(textwrap.dedent(code), encoding="utf-8")
        return str(path)

    def setting(self, code: str, *arguments: Any, **changes: Any) -> Script:
        """A trainer that runs some Python; without site packages it starts faster."""
        command = [sys.executable, "-S", self.script(code), *arguments]
        return Script.model_validate({"kind": "script", "command": command, "grace_s": 5, **changes})

    def report(self, row: Any) -> None:
        """Take a row."""
        self.rows.append((row[0].step, {m.metric: m.value for m in row}))
        if len(self.rows) == self.stop_after:
            raise StopTraining

    def train(
        self, setting: Script, resume: Path | None = None, stopped=lambda at_end: False, **changes: Any
    ):
        """Train, from the run's folder."""
        self.trial.mkdir(parents=True, exist_ok=True)
        return setting.train(job(**changes), self.report, stopped, self.trial, resume, "run-1")

    def values(self, setting: Script, resume: Path | None = None, **changes: Any) -> dict[str, float]:
        """Final values of a training."""
        return by_name(self.train(setting, resume, **changes).measurements)


def by_name(measurements: tuple[Measurement, ...]) -> dict[str, float]:
    """Values by metric."""
    return {m.metric: m.value for m in measurements}
