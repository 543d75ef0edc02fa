"""Metrics of a script: where each is read, and what has been read of a training so far.

Reading itself is in sibling modules, one for each kind of source.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

from pydantic import Field, model_validator

from ziggurat.domain import FailureKind, Measurement
from ziggurat.setting import Setting
from ziggurat.trainers.failures import Diverged, TrainingFailed

Source = Literal["stdout", "stderr", "tensorboard", "mlflow", "jsonl", "csv", "result"]
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "stdout": ("pattern", "key", "step", "scale"),
    "stderr": ("pattern", "key", "step", "scale"),
    "tensorboard": ("tag", "path", "step", "scale"),
    "mlflow": ("key", "step", "scale"),
    "jsonl": ("column", "path", "step", "scale"),
    "csv": ("column", "path", "step", "scale"),
    "result": ("key", "path", "scale"),
}
"""What may be said of a metric, by its source."""
PATHS = {
    "tensorboard": "${output_dir}",
    "jsonl": "${metrics_file}",
    "csv": "${output_dir}/**/metrics.csv",
    "result": "${output_dir}/result.json",
}
"""Where files are looked for by default."""
OWN_STEP = "step"
STREAMS = ("stdout", "stderr")
UNITS = {"_ms": "ms", "_mb": "MB", "_mj": "mJ"}
SHARE = "accuracy"
"""Metrics whose names end so lie between 0 and 1."""
MOST = 64
"""Metrics that are taken from a file that names them itself."""
LEARNED = ("val_accuracy", "val_loss", "train_loss")
"""Metrics that are looked for on standard output if the spec names none."""
TESTED = ("test_accuracy", "test_loss")
"""Those of the test command."""
ON_DEVICE = (
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p99_ms",
    "peak_memory_mb",
    "file_size_mb",
    "energy_mj",
)
PROFILED = (*ON_DEVICE, "parameters", "flops", "model_size_mb")
"""Those of the profile command."""
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


class MetricSetting(Setting):
    """Where one metric of a script is read."""

    source: Source = Field(
        alias="from",
        description="Lines of the script's output (stdout, stderr), TensorBoard event files, an MLflow run, "
        "a file of JSON lines or a CSV file that grows, or a JSON file at the end (result).",
    )
    pattern: str | None = Field(
        default=None,
        description="Of stdout and stderr: a regular expression with one group, the number, searched in "
        "every line; by default NAME=NUMBER or NAME: NUMBER.",
    )
    tag: str | None = Field(
        default=None, min_length=1, description="Tag of TensorBoard; by default the metric's name."
    )
    key: str | None = Field(
        default=None,
        min_length=1,
        description="What stdout, stderr, mlflow or result call it; by default the metric's name. In a "
        "result a.b is b inside of a.",
    )
    column: str | None = Field(
        default=None, min_length=1, description="Column of csv, key of jsonl; by default the metric's name."
    )
    path: str | None = Field(
        default=None,
        min_length=1,
        description="The file, or the folder of TensorBoard's files; * and ** are allowed; by default "
        "${output_dir}/**/metrics.csv, ${metrics_file}, ${output_dir}/result.json or ${output_dir}.",
    )
    step: str | None = Field(
        default=None,
        min_length=1,
        description="What tells the epoch of a value: a regular expression with one group (stdout, stderr: "
        "on the same line or the last one before it), a column (csv, jsonl), or the word `step` "
        "(tensorboard, mlflow); by default values are counted, one for each epoch.",
    )
    scale: float = Field(
        default=1.0, description="Factor by which values are multiplied, such as 0.01 for per cent."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        allowed = OPTIONS[self.source]
        for name in ("pattern", "tag", "key", "column", "path", "step"):
            if getattr(self, name) is not None and name not in allowed:
                raise ValueError(
                    f"{name} means nothing from {self.source}, which takes {', '.join(allowed)}; remove it"
                )
        if self.scale == 0:
            raise ValueError("scale is 0, which makes all values 0; give another factor")
        if self.source in STREAMS:
            if self.pattern is not None and self.key is not None:
                raise ValueError("pattern and key are two ways to find it in a line; remove one of them")
            for name in ("pattern", "step"):
                one_group(name, getattr(self, name))
        elif self.source in {"tensorboard", "mlflow"} and self.step not in {None, OWN_STEP}:
            raise ValueError(
                f"step is '{self.step}', from {self.source} it can only be '{OWN_STEP}': the step that the "
                "script gives is the epoch; or leave it out to count values"
            )
        return self

    def called(self, metric: str) -> str:
        """What its source calls it."""
        return self.tag or self.key or self.column or metric

    @property
    def file(self) -> str:
        """Where its file is, with placeholders."""
        return self.path or PATHS[self.source]

    def where(self, metric: str) -> str:
        """What was looked for, in words for messages."""
        name = self.called(metric)
        match self.source:
            case "stdout" | "stderr":
                lines = "standard output" if self.source == "stdout" else "standard error"
                how = f"matches '{self.pattern}'" if self.pattern else f"holds {name}=NUMBER"
                return f"no line of {lines} {how}"
            case "tensorboard":
                return f"no TensorBoard file in {self.file} has the tag '{name}'"
            case "mlflow":
                return f"the MLflow run has no metric '{name}'"
            case "result":
                return f"{self.file} has no number '{name}'"
        return f"{self.file} has no number under '{name}'"


def one_group(name: str, pattern: str | None) -> None:
    """Hold a regular expression against what it must be.

    Raises:
        ValueError: It is none, or has not exactly one group.
    """
    if pattern is None:
        return
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{name} '{pattern}' is no regular expression ({error}); correct it") from None
    if groups != 1:
        raise ValueError(
            f"{name} '{pattern}' has {groups} groups, but exactly one must enclose the number; write (?:...) "
            "for groups that only hold together"
        )


def check_name(metric: str) -> None:
    """Hold the name of a metric against what it may be.

    Raises:
        ValueError: It is not a word.
    """
    if _WORD.fullmatch(metric) is None:
        raise ValueError(
            f"'{metric}' is no name for a metric; use letters, digits and _, such as val_accuracy"
        )


def printed(names: Collection[str]) -> dict[str, MetricSetting]:
    """Metrics that are looked for under their own names on standard output."""
    return {name: MetricSetting.model_validate({"from": "stdout"}) for name in names}


def on_device(metric: str) -> bool:
    """Whether a metric depends on the device that it was measured on."""
    return metric in ON_DEVICE or metric.endswith(("_ms", "_mj"))


def unit_of(metric: str) -> str:
    """The unit that a metric's name tells."""
    return UNITS.get(metric[-3:], "1")


def number_of(value: object) -> float | None:
    """A number as it stands in JSON; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


@dataclass
class Found:
    """What a training has told so far, in rows of one epoch each.

    Attributes:
        declared: Metrics that the spec names, whose values must be finite.
        rowed: What makes the row of an epoch complete; None: what earlier rows had.
        begun: Epochs before this start of the script.
        epochs: Epochs in total at its end.
        first_epoch: What the script calls its first epoch.
        sent: Last epoch of which a row was given out.
        last: Latest value of every metric.
    """

    declared: Collection[str]
    rowed: frozenset[str] | None
    begun: int
    epochs: int
    first_epoch: int = 1
    sent: int = 0
    last: dict[str, float] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _pending: dict[int, dict[str, float]] = field(default_factory=dict)
    _newest: int = 0
    _learns: bool = False

    def __post_init__(self) -> None:
        """Rows of what is trained already were given out by an earlier start."""
        self._learns = self.rowed is None
        self.sent = max(self.sent, self.begun)

    def tell(self, metric: str, value: float, step: float | None = None) -> None:
        """Take a value of a metric.

        Args:
            metric: Its name in the spec.
            value: The number.
            step: The epoch in the script's own count; None to count values.

        Raises:
            Diverged: It is not finite.
            TrainingFailed: It cannot be true.
        """
        if metric not in self.last and metric not in self.declared and len(self.last) >= MOST:
            return
        if not math.isfinite(value):
            if metric in self.declared:
                raise Diverged(f"{metric} is {value}")
            return
        _possible(metric, value)
        self.last[metric] = value
        self._counts[metric] = self._counts.get(metric, 0) + 1
        epoch = self._epoch(step, self._counts[metric])
        if epoch > self.sent:
            self._newest = max(self._newest, epoch)
            self._pending.setdefault(epoch, {})[metric] = value

    @property
    def done(self) -> int:
        """Epochs that are told of as a whole; as long as it is not known what a row has, all told of."""
        return max(self.sent, self._newest if self.rowed is None else 0)

    def _epoch(self, step: float | None, count: int) -> int:
        if step is None:
            return min(self.begun + count, self.epochs)
        return int(min(max(step - self.first_epoch + 1, 0), self.epochs)) if math.isfinite(step) else 0

    def rows(self, *, final: bool = False) -> Iterator[tuple[Measurement, ...]]:
        """Rows that are complete: all metrics are there, a later epoch has begun, or nothing will follow."""
        for epoch in sorted(self._pending):
            values = self._pending[epoch]
            complete = self.rowed is not None and values.keys() >= self.rowed
            if not (final or epoch < self._newest or complete):
                break
            if self._learns:
                self.rowed = frozenset(values) | (self.rowed or frozenset())
            del self._pending[epoch]
            self.sent = epoch
            yield tuple(measurement(name, value, epoch) for name, value in values.items())


def _possible(metric: str, value: float) -> None:
    if metric.endswith(SHARE) and not 0 <= value <= 1:
        cure = "give scale: 0.01" if 1 < value <= 100 else "see where it is read"  # noqa: PLR2004 - per cent
        raise TrainingFailed(
            FailureKind.USER_ERROR,
            f"trainer.metrics.{metric}: the script gave {value:g}, but it must lie between 0 and 1; {cure}",
        )


def measurement(metric: str, value: float, step: int | None = None, device: str | None = None) -> Measurement:
    """A number as a measurement."""
    return Measurement(metric, value, unit_of(metric), step=step, device=device)
