"""A training script of the user's own, unchanged: how it is called, and where its metrics are read.

The fields are the YAML; what they do is in sibling modules. Nothing is known of the model inside: it is
trained by `command`, tested by `test`, and measured by `profile`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ziggurat.errors import SpecError, near
from ziggurat.setting import Setting
from ziggurat.trainers import script_arguments as arguments
from ziggurat.trainers.script_arguments import Argument, Arguments, Booleans
from ziggurat.trainers.script_metrics import LEARNED, PATHS, MetricSetting, check_name, printed
from ziggurat.trainers.script_programs import check_command

if TYPE_CHECKING:
    from ziggurat.domain import Job, Measurement
    from ziggurat.protocols import Report, Trained

RESERVED = "ZIGGURAT_"


def _from_text(raw: object) -> object:
    """`stdout` alone is short for `{from: stdout}`."""
    return {"from": raw} if isinstance(raw, str) else raw


Metrics = dict[str, Annotated[MetricSetting, BeforeValidator(_from_text)]]


def _check_metrics(metrics: Mapping[str, MetricSetting]) -> None:
    for name, metric in metrics.items():
        check_name(name)
        if metric.source in PATHS:
            arguments.check_form([metric.file])


class Command(Setting):
    """A command that measures a trained model and ends."""

    command: Arguments = Field(min_length=1, description="Program and arguments, with the same placeholders.")
    metrics: Metrics = Field(
        default_factory=dict, description="What it tells, by name, and where; by default NAME=NUMBER lines."
    )
    timeout_s: float = Field(default=600.0, gt=0, le=864_000, description="Seconds after which it is ended.")

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        arguments.check_form(arguments.texts(self.command))
        _check_metrics(self.metrics)
        return self


class Script(Setting):
    """Train by a script that knows nothing of Ziggurat: arguments go in, its metrics are read."""

    kind: Literal["script"] = "script"
    command: Arguments = Field(
        min_length=1,
        description="Program and arguments, run without a shell. ${args} becomes --NAME VALUE for all "
        "choices, ${args_no_hyphens} NAME=VALUE; ${NAME} is a choice or a placeholder of docs/scripts.md. "
        "A list among the arguments is left out where a candidate lacks a choice that it names.",
    )
    flags: dict[str, Argument] = Field(
        default_factory=dict, description="What the script calls a choice, such as learning_rate: --lr."
    )
    booleans: Booleans = Field(
        default="flag",
        description="How ${args} gives a choice that is true or false: --NAME or nothing (flag), --NAME true "
        "(value), --NAME or --no-NAME (no).",
    )
    resume: Arguments = Field(
        default_factory=list, description="Further arguments where the checkpoint folder holds something."
    )
    resumable: bool = Field(
        default=False,
        description="Whether a training goes on from its checkpoint; by default whether `resume` is given. "
        "Otherwise every rung is trained from the beginning.",
    )
    working_directory: str | None = Field(
        default=None, min_length=1, description="Where it runs; by default where Ziggurat was started."
    )
    environment: dict[str, Argument] = Field(
        default_factory=dict, description="Environment variables, with placeholders; secrets as ${NAME}."
    )
    metrics: Metrics = Field(
        default_factory=dict,
        description="What the script tells, by name, and where it is read; by default val_accuracy, val_loss "
        "and train_loss from lines such as val_accuracy=0.9 of standard output.",
    )
    first_epoch: int = Field(
        default=1, ge=0, le=1, description="What the script calls its first epoch, where it tells epochs."
    )
    test_by: Command | None = Field(
        default=None,
        alias="test",
        description="Tells test_accuracy of a trained model; without it, it is not checked.",
    )
    profile_by: Command | None = Field(
        default=None,
        alias="profile",
        description="Tells latency, size and the like (latency_p50_ms, parameters, flops, ...); without it "
        "they are not checked.",
    )
    grace_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="Seconds between SIGTERM and SIGKILL when it is to stop; less than that of the launcher.",
    )
    checkpoint_s: float | None = Field(
        default=300,
        gt=0,
        description="Seconds after which the checkpoint folder of a script that can resume is kept inside a "
        "segment, while the script goes on; null: never.",
    )
    output_limit_mb: float = Field(
        default=10.0, gt=0, le=10_000, description="MB of output that are kept: its beginning and its end."
    )
    checkpoint_limit_mb: float = Field(
        default=20_000.0, gt=0, description="MB that the checkpoint folder may hold."
    )

    @model_validator(mode="before")
    @classmethod
    def _resumes(cls, raw: object) -> object:
        if isinstance(raw, Mapping) and "resumable" not in raw:
            return {**raw, "resumable": bool(raw.get("resume"))}
        return raw

    @field_validator("environment")
    @classmethod
    def _free(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if not name or "=" in name or "\0" in name:
                raise ValueError(f"'{name}' cannot be the name of a variable; use letters, digits and _")
            if name.startswith(RESERVED):
                raise ValueError(f"{name} is set for every training; give the variable another name")
            if "\0" in value:
                raise ValueError(f"the value of {name} holds a null character; remove it")
        return environment

    @model_validator(mode="after")
    def _well_formed(self) -> Self:
        for where, parts in self._texts():
            try:
                arguments.check_form(parts)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        _check_metrics(self.metrics)
        if self.resume and not self.resumable:
            raise ValueError("resume is given, but resumable is false; remove one of them")
        return self

    @property
    def inherits(self) -> bool:
        """Whether a training can go on from a checkpoint of other hyperparameters."""
        return self.resumable

    @property
    def sources(self) -> dict[str, MetricSetting]:
        """Metrics of a training, by name."""
        return self.metrics or printed(LEARNED)

    def where(self, metric: str) -> str:
        """Where a metric was looked for and not found, in words; empty if it was not looked for."""
        found = self.sources.get(metric)
        return f"trainer.metrics does not name {metric}" if found is None else found.where(metric)

    def _texts(self) -> Iterator[tuple[str, list[str]]]:
        """All texts with placeholders, by key."""
        yield "command", list(arguments.texts(self.command))
        yield "resume", list(arguments.texts(self.resume))
        yield "working_directory", [self.working_directory] if self.working_directory else []
        yield "environment", list(self.environment.values())
        yield "metrics", [m.file for m in self.metrics.values() if m.source in PATHS]
        for key, command in (("test", self.test_by), ("profile", self.profile_by)):
            if command is not None:
                yield f"{key}.command", list(arguments.texts(command.command))
                yield f"{key}.metrics", [m.file for m in command.metrics.values() if m.source in PATHS]

    def check_names(self, parameters: Collection[str], conditional: Collection[str] = ()) -> None:
        """Hold placeholders and flags against the choices of the space.

        Args:
            parameters: Names of all choices.
            conditional: Names of those that not every candidate has.

        Raises:
            SpecError: A name is unknown, a choice has the name of a placeholder, or never reaches the script.
        """
        for name in parameters:
            if name in arguments.PLACEHOLDERS:
                raise SpecError(f"space.choices.{name}: ${{{name}}} is a placeholder; rename the choice")
        for where, parts in self._texts():
            arguments.check_names(f"trainer.{where}", parts, parameters)
        for name in self.flags:
            if name not in parameters:
                raise SpecError(
                    f"trainer.flags: '{name}' is no choice of the space; {near(name, parameters)}"
                )
        self._handed_over(parameters)
        self._always_there(conditional)

    def _handed_over(self, parameters: Collection[str]) -> None:
        """Refuse a command that names some of the choices and has no way to learn of the others."""
        used = arguments.names([*arguments.texts(self.command), *self.environment.values()])
        lost = sorted(set(parameters) - used)
        if lost and used & set(parameters) and not used & arguments.WHOLE:
            raise SpecError(
                f"trainer.command: choice '{lost[0]}' of the space reaches the script nowhere; add "
                f"${{args}} or ${{{lost[0]}}}, or remove the choice"
            )

    def _always_there(self, conditional: Collection[str]) -> None:
        """Refuse an argument by itself, or another text, that names a choice which a candidate may lack."""
        lists = (self.command, self.resume, *(c.command for c in (self.test_by, self.profile_by) if c))
        single = [part for found in lists for part in found if isinstance(part, str)]
        others = [
            text for key, found in self._texts() if not key.endswith(("command", "resume")) for text in found
        ]
        for name in sorted(arguments.names([*single, *others]) & set(conditional)):
            raise SpecError(
                f"trainer.command: not every candidate has the choice '{name}'; put the arguments that need "
                f'it into a list of their own, such as [--{name}, "${{{name}}}"]'
            )

    def check(self) -> None:
        """Whether programs, scripts and folders are there, and trials do not write the same files.

        Raises:
            SpecError: Something is missing; one line that says what to do.
        """
        folder = self._folder()
        commands = (("command", self.command), ("test.command", self.test_by and self.test_by.command))
        for where, words in (*commands, ("profile.command", self.profile_by and self.profile_by.command)):
            if words:
                check_command(f"trainer.{where}", list(arguments.texts(words)), folder, self.environment)
        for name, metric in self.metrics.items():
            self._check_path(name, metric)

    def _folder(self) -> Path | None:
        """Where it runs, if that is the same for all trials."""
        given = self.working_directory
        if given is not None and arguments.names([given]):
            return None
        folder = Path.cwd() / (given or "")
        if not folder.is_dir():
            raise SpecError(f"trainer.working_directory: '{given}' is no folder; correct it, or make it")
        return folder

    def _check_path(self, name: str, metric: MetricSetting) -> None:
        if metric.source not in PATHS:
            return
        whole = metric.file if Path(metric.file).is_absolute() else f"{self.working_directory}/{metric.file}"
        own = arguments.names([whole]) - {"epochs", "data_fraction", "seed", "run_id", "stage", "rung"}
        if not own:
            raise SpecError(
                f"trainer.metrics.{name}.path: '{metric.file}' is the same file for all trials; have the "
                "script write below ${output_dir} and name it here, or set working_directory to ${output_dir}"
            )

    def train(
        self,
        job: Job,
        report: Report,
        stopped: Callable[[bool], bool],
        folder: Path,
        resume: Path | None,
        run_id: str,
    ) -> Trained:
        """Train to `job.to_rung` from `resume` (None: from nothing); the checkpoint is `rung-N.tar`.

        Args:
            job: Ladder, rungs, seed, stage and candidate.
            report: Called with the metrics of every epoch; `StopTraining` raised there stops the script.
            stopped: Whether to stop now, asked between epochs (False) and when the script has ended (True).
            folder: The trial's folder.
            resume: The archive that an earlier segment has left.
            run_id: Identity of the run.

        Raises:
            StopTraining: It was stopped; its checkpoint, if any, was packed into `partial.tar`.
            Diverged: A metric that the spec names is not finite.
            TrainingFailed: The script cannot be started, failed, or told nothing.
        """
        from ziggurat.trainers.script_place import Place
        from ziggurat.trainers.script_run import train

        return train(Place(self, job, run_id, folder), report, stopped, resume)

    def test(self, job: Job, folder: Path, checkpoint: Path | None, run_id: str) -> tuple[Measurement, ...]:
        """What the test command tells of a trained model; nothing without a test command.

        Raises:
            TrainingFailed: It failed, took too long, or told nothing.
        """
        from ziggurat.trainers.script_place import Place
        from ziggurat.trainers.script_run import once

        if self.test_by is None:
            return ()
        return once(Place(self, job, run_id, folder), checkpoint, self.test_by)

    def profile(
        self, job: Job, folder: Path, checkpoint: Path | None, run_id: str, device: str
    ) -> tuple[Measurement, ...]:
        """What the profile command tells of a model, trained or not; nothing without a profile command.

        Raises:
            TrainingFailed: It failed, took too long, or told nothing.
        """
        from ziggurat.trainers.script_place import Place
        from ziggurat.trainers.script_run import once

        if self.profile_by is None:
            return ()
        return once(Place(self, job, run_id, folder, device), checkpoint, self.profile_by)
