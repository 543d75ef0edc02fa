"""Where one start of a script works: its folders, the values of its placeholders, and its environment."""

from __future__ import annotations

import glob
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ziggurat.domain import Job, JobKind
from ziggurat.trainers.script_arguments import Filling
from ziggurat.trainers.script_checkpoint import clear

if TYPE_CHECKING:
    from ziggurat.trainers.script import Script


@dataclass(frozen=True)
class Place:
    """Where one start of a script works.

    Attributes:
        setting: The trainer.
        job: What is to be done.
        run_id: Identity of the run.
        trial: The trial's folder.
        device: Name of the device of a profile command.
        begun: Epochs that its checkpoint holds.
    """

    setting: Script
    job: Job
    run_id: str
    trial: Path
    device: str = ""
    begun: int = 0

    @property
    def key(self) -> str:
        """The job's key as a file name."""
        return re.sub(r"[^\w.-]", "_", self.job.key)

    @cached_property
    def output(self) -> Path:
        """Folder for what the script writes beside checkpoints; its own for every start."""
        return self.trial.absolute() / "output" / self.key

    @cached_property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint; that of a test or a measurement is a copy."""
        if self.job.kind is JobKind.TRAIN:
            return self.trial.absolute() / "checkpoint"
        return self.output / "checkpoint"

    @property
    def log(self) -> Path:
        """Where output goes."""
        return self.trial / "logs" / f"{self.key}.log"

    @property
    def epochs(self) -> int:
        """Epochs in total at the end; of a test or a measurement, those that were trained."""
        rung = self.job.to_rung
        return self.job.ladder[rung].epochs if 0 <= rung < len(self.job.ladder) else self.begun

    @property
    def top_epochs(self) -> int:
        """Epochs of the last rung."""
        return self.job.ladder[-1].epochs if self.job.ladder else self.epochs

    @property
    def data_fraction(self) -> float:
        """Fraction of the training data."""
        rung = self.job.to_rung
        return self.job.ladder[rung].data_fraction if 0 <= rung < len(self.job.ladder) else 1.0

    def begin(self) -> None:
        """Have empty folders."""
        clear(self.output)
        clear(self.checkpoint)

    def remove_drafts(self) -> None:
        """Remove halves of archives that an earlier start was killed over."""
        for path in self.trial.glob(".*.part"):
            path.unlink(missing_ok=True)

    def after(self, epochs: int) -> Place:
        """The same place, once it is known how many epochs its checkpoint holds."""
        return replace(self, begun=epochs)

    def write(self) -> None:
        """Write the files that hand over the candidate."""
        candidate = self.job.candidate
        plain = {
            "choices": {} if candidate is None else dict(candidate.choices),
            "trial": self.job.trial,
            "seed": self.job.seed,
            "epochs": self.epochs,
            "data_fraction": self.data_fraction,
        }
        Path(self._values["arch_file"]).write_text(json.dumps(plain, indent=2), encoding="utf-8")
        Path(self._values["args_json_file"]).write_text(self.filling.json(), encoding="utf-8")

    @cached_property
    def _values(self) -> dict[str, str]:
        job, fraction = self.job, self.data_fraction
        values = {
            "arch_file": self.output / "arch.json",
            "args_json_file": self.output / "args.json",
            "epochs": self.epochs,
            "epochs_left": max(0, self.epochs - self.begun),
            "top_epochs": self.top_epochs,
            "data_fraction": int(fraction) if fraction == int(fraction) else fraction,
            "checkpoint_dir": self.checkpoint,
            "output_dir": self.output,
            "metrics_file": self.output / "metrics.jsonl",
            "trial_id": job.trial,
            "seed": job.seed,
            "run_id": self.run_id,
            "stage": job.stage,
            "rung": max(0, job.to_rung),
            "device": self.device,
            "python": sys.executable,
            "args_json": json.dumps({} if job.candidate is None else dict(job.candidate.choices)),
        }
        return {name: str(value) for name, value in values.items()}

    @cached_property
    def filling(self) -> Filling:
        """What placeholders stand for here."""
        choices = {} if self.job.candidate is None else self.job.candidate.choices
        return Filling(self._values, choices, self.setting.flags, self.setting.booleans)

    @property
    def folder(self) -> Path:
        """Where the script runs."""
        given = self.setting.working_directory
        return Path.cwd() if given is None else Path.cwd() / self.filling.text(given)

    def pattern(self, path: str) -> str:
        """A path of the spec as a pattern of whole paths; only what the user wrote is one."""
        literal = {name: glob.escape(value) for name, value in self._values.items()}
        whole = replace(self.filling, values=literal).text(path)
        return whole if Path(whole).is_absolute() else str(Path(glob.escape(str(self.folder)), whole))

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """The whole environment: this process's, the spec's, and what tells a script where it stands."""
        values = self._values
        own = {
            "RUN_ID": self.run_id,
            "TRIAL": values["trial_id"],
            "STAGE": self.job.stage,
            "RUNG": values["rung"],
            "EPOCHS": values["epochs"],
            "DATA_FRACTION": values["data_fraction"],
            "ARCH_FILE": values["arch_file"],
            "CHECKPOINT_DIR": values["checkpoint_dir"],
            "METRICS_FILE": values["metrics_file"],
            "OUTPUT_DIR": values["output_dir"],
            "SEED": values["seed"],
            **({"DEVICE": self.device} if self.device else {}),
        }
        return {
            "PYTHONUNBUFFERED": "1",  # or what it prints arrives in blocks
            **os.environ,
            **{name: self.filling.text(value) for name, value in self.setting.environment.items()},
            **{f"ZIGGURAT_{name}": value for name, value in own.items()},
        }
