"""A latency table: a dated file with the time of every operation of a space on one device.

It predicts the median latency of whole models, and refuses to do so for another device, for another space,
with operations missing, or when it is old. How it comes about is said in `build`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ziggurat import __version__
from ziggurat.domain import Candidate, Measurement
from ziggurat.errors import SpecError
from ziggurat.files import write_whole
from ziggurat.latency.fit import Overhead, Quality
from ziggurat.operations import Operation
from ziggurat.protocols import DecomposableSpace, FloatArray, Profiler, Signature

if TYPE_CHECKING:
    from ziggurat.protocols import SearchSpace

FORMAT = 1
METRIC = "latency_p50_ms"
"""The one metric that a table predicts."""
MAX_AGE_DAYS = 90.0
DAY_S = 86_400.0


@dataclass(frozen=True)
class Entry:
    """One measured median.

    Attributes:
        p50_ms: The median in milliseconds.
        spread_ms: Half the width of the central 68 % of the samples, if the device tells.
        samples: How many there were, if the device tells.
        noise: How well the median is known, relative to it, if the device tells.
    """

    p50_ms: float
    spread_ms: float | None = None
    samples: int | None = None
    noise: float | None = None


@dataclass(frozen=True)
class Whole:
    """A whole model that was measured for the fit, and what a fit to the others predicts."""

    choices: dict[str, bool | int | float | str]
    measured_ms: float
    predicted_ms: float


@dataclass(frozen=True)
class LatencyTable:
    """Times of operations, and how models follow from them.

    Attributes:
        created_utc: When it was finished, in seconds since the epoch.
        device: Name of the device.
        fingerprint: What the numbers depend on.
        space: Settings of the space without hyperparameters, and the signature.
        identity: Hash of `space`.
        fixed_ms: What measuring a model that does next to nothing takes; every entry has it once.
        entries: By key of the operation.
        overhead: The fit.
        quality: How well it predicts models that it has not seen.
        models: The whole models behind the fit.
        format: Version of the file's format.
        version: Version of this library.
    """

    created_utc: float
    device: str
    fingerprint: dict[str, str]
    space: dict[str, Any]
    identity: str
    fixed_ms: float
    entries: dict[str, Entry]
    overhead: Overhead
    quality: Quality
    models: list[Whole]
    format: int = FORMAT
    version: str = __version__

    @cached_property
    def _shares(self) -> dict[Operation, float]:
        """What operations add to a model, those asked for so far: making a key takes longer than looking."""
        return {}

    def net_ms(self, operation: Operation) -> float:
        """What an operation takes alone, without the call.

        Raises:
            SpecError: It was not measured.
        """
        entry = self.entries.get(operation.key)
        if entry is None:
            raise SpecError(
                f"the latency table of device '{self.device}' lacks operation '{operation.key}'; build it "
                "anew with `ziggurat profile SPEC --table FILE`"
            )
        return max(entry.p50_ms - self.fixed_ms, 0.0)

    def share_ms(self, operation: Operation) -> float:
        """What an operation adds to a model.

        Raises:
            SpecError: It was not measured.
        """
        if operation not in self._shares:
            self._shares[operation] = self.overhead.share_ms(operation.kind, self.net_ms(operation))
        return self._shares[operation]

    def predict(
        self, space: SearchSpace, candidates: Sequence[Candidate], signature: Signature
    ) -> tuple[FloatArray, float]:
        """(n,) predicted medians in milliseconds, and the relative error that 68 % of predictions keep.

        Raises:
            SpecError: The space has no operations, or one was not measured.
        """
        whole, shares = decomposable(space), self._shares
        values = np.empty(len(candidates))
        for row, candidate in enumerate(candidates):
            operations = whole.operations(candidate, signature)
            try:
                values[row] = sum([shares[operation] for operation in operations])
            except KeyError:
                values[row] = sum([self.share_ms(operation) for operation in operations])
        return values + self.overhead.constant_ms, self.quality.error

    def measurement(self, space: SearchSpace, candidate: Candidate, signature: Signature) -> Measurement:
        """The predicted median of a candidate: without samples, its spread the stated error."""
        values, error = self.predict(space, [candidate], signature)
        value = float(values[0])
        return Measurement(METRIC, value, "ms", device=self.device, spread=error * value)

    def age_days(self, utc: float) -> float:
        """Days since it was finished."""
        return (utc - self.created_utc) / DAY_S

    def write(self, path: Path) -> None:
        """Write it whole or not at all.

        Raises:
            SpecError: The file cannot be written.
        """
        plain = asdict(self)
        plain["created"] = datetime.fromtimestamp(self.created_utc, UTC).isoformat(timespec="seconds")
        try:
            write_whole(path, json.dumps(plain, indent=1, allow_nan=False))
        except OSError as error:
            raise SpecError(f"{path}: cannot be written ({error.strerror}); name another file") from None

    def told(self, utc: float) -> str:
        """What it is, how old and how good, in a few words."""
        days = self.age_days(utc)
        age = f"{days:.0f} days" if days >= 1 else f"{days * 24:.1f} hours"
        return (
            f"{len(self.entries)} operations, {age} old; {self.quality.models} whole models were predicted "
            f"with a median error of {self.quality.median_error:.1%}, 68 % within {self.quality.error:.1%}"
        )


def decomposable(space: SearchSpace) -> DecomposableSpace:
    """The space itself, if its models are made of operations.

    Raises:
        SpecError: They are not.
    """
    if not hasattr(space, "operations"):
        kind = getattr(space, "kind", type(space).__name__)
        raise SpecError(
            f"space.kind '{kind}' cannot be taken apart into operations, so no latency table can be made for "
            "it; use mbconv, cell or cnn, or remove devices.table and have every candidate measured"
        )
    return cast("DecomposableSpace", space)


def settings_of(space: SearchSpace, signature: Signature) -> dict[str, Any]:
    """Everything that decides which operations there are, as plain JSON."""
    dump: Any = getattr(space, "model_dump", None)
    settings = dump(mode="json", by_alias=True, exclude={"hyperparameters"}) if dump is not None else {}
    return {**settings, "data.shape": list(signature.shape), "data.classes": signature.classes}


def identity_of(settings: Mapping[str, Any]) -> str:
    """Hash of what decides the operations."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def read(path: Path) -> LatencyTable:
    """A table from its file, whatever it is for.

    Raises:
        SpecError: It is absent, or no whole table.
    """
    again = f"build it with `ziggurat profile SPEC --table {path}`"
    try:
        plain = json.loads(path.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        raise SpecError(f"{path}: the latency table cannot be read ({error.strerror}); {again}") from None
    except ValueError as error:
        raise SpecError(f"{path}: no latency table, it is not JSON ({error}); {again}") from None
    found = plain.get("format") if isinstance(plain, dict) else None
    if found != FORMAT:
        raise SpecError(f"{path}: no latency table of format {FORMAT}, its format is {found!r}; {again}")
    plain.pop("created", None)
    try:
        table = TypeAdapter(LatencyTable).validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SpecError(f"{path}: a broken latency table, {where}: {first['msg'].lower()}; {again}") from None
    if not _sane(table):
        raise SpecError(
            f"{path}: a broken latency table, it holds times that are no positive numbers; {again}"
        )
    return table


def _sane(table: LatencyTable) -> bool:
    overhead = table.overhead
    numbers = [table.fixed_ms, table.created_utc, table.quality.error, overhead.constant_ms]
    numbers += [overhead.each_ms, *overhead.slopes.values()]
    return all(np.isfinite(n) and n >= 0 for n in numbers) and all(
        np.isfinite(e.p50_ms) and e.p50_ms > 0 for e in table.entries.values()
    )


def usable(
    path: Path,
    device: Profiler,
    space: SearchSpace,
    signature: Signature,
    *,
    utc: float | None = None,
    max_age_days: float = MAX_AGE_DAYS,
) -> LatencyTable:
    """The table of a file, held against the device, the space and the date.

    Args:
        path: The file.
        device: Whose latencies are wanted; one that is reached through a launcher is elsewhere, so its
            hardware cannot be compared from here.
        space: Whose candidates are to be predicted.
        signature: Shape of the data.
        utc: Now, in seconds since the epoch.
        max_age_days: Age up to which a table is trusted.

    Raises:
        SpecError: It cannot be used; one line says why and how to build it anew.
    """
    whole = decomposable(space)
    table = read(path)
    reason = (
        _other_space(table, settings_of(space, signature))
        or _other_device(table, device)
        or _old(table, time.time() if utc is None else utc, max_age_days)
        or _missing(table, whole, signature)
    )
    if reason:
        name = "" if device.name == "local" else f" --device {device.name}"
        raise SpecError(f"{path}: {reason}; build it anew with `ziggurat profile SPEC --table {path}{name}`")
    return table


def _other_space(table: LatencyTable, settings: Mapping[str, Any]) -> str:
    if table.identity == identity_of(settings):
        return ""
    names = [*settings, *(n for n in table.space if n not in settings)]
    name = next((n for n in names if table.space.get(n) != settings.get(n)), "kind")
    here = name if name.startswith("data.") else f"space.{name}"
    return (
        f"the latency table is of another space: {here} was {_short(table.space.get(name))}, "
        f"the spec has {_short(settings.get(name))}"
    )


def _other_device(table: LatencyTable, device: Profiler) -> str:
    if getattr(device, "launcher", None) is not None:
        return ""
    here = dict(device.fingerprint())
    for name in {**here, **table.fingerprint}:
        if here.get(name) != table.fingerprint.get(name):
            before, now = _short(table.fingerprint.get(name)), _short(here.get(name))
            return f"the latency table was measured elsewhere: {name} was {before}, here it is {now}"
    if table.version != __version__:
        return f"the latency table was made by version {table.version} of ziggurat, this is {__version__}"
    return ""


def _old(table: LatencyTable, utc: float, max_age_days: float) -> str:
    days = table.age_days(utc)
    if -1 <= days <= max_age_days:
        return ""
    if days < 0:
        return f"the latency table is dated {-days:.0f} days in the future"
    return f"the latency table is {days:.0f} days old, {max_age_days:g} are allowed"


def _missing(table: LatencyTable, space: DecomposableSpace, signature: Signature) -> str:
    lacking = [o.key for o in space.all_operations(signature) if o.key not in table.entries]
    if not lacking:
        return ""
    return f"the latency table is incomplete: {len(lacking)} operations are missing, such as '{lacking[0]}'"


def _short(value: object) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return f"'{text if len(text) <= 60 else text[:57] + '...'}'"  # noqa: PLR2004 - one line
