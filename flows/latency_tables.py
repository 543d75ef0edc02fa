"""Commands about latency tables: building one, and holding its predictions against measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ziggurat import spec as specs
from ziggurat.errors import SpecError
from ziggurat.latency import decomposable, usable
from ziggurat.latency.build import build, least
from ziggurat.latency.subject import Subject
from ziggurat.latency.validate import validate
from ziggurat.protocols import Profiler
from ziggurat.report.predictions import predictions
from ziggurat.spec import Spec


def make(path: Path, sets: Sequence[str], table: Path, device: str | None, models: int) -> dict[str, Any]:
    """Build the table of a spec's space for one of its devices, going on with an unfinished build.

    Raises:
        SpecError: The space has no operations, the device is absent, or a file cannot be written.
    """
    subject = _subject(path, sets, device)
    least(models)
    if not table.parent.is_dir():
        raise SpecError(f"--table {table}: there is no folder {table.parent}; make it first")
    made = build(subject, table, models)
    return {
        "table": str(table),
        "device": made.device,
        "operations": len(made.entries),
        "fixed_ms": made.fixed_ms,
        "constant_ms": made.overhead.constant_ms,
        "each_ms": made.overhead.each_ms,
        "slopes": dict(made.overhead.slopes),
        **vars(made.quality),
    }


def made_text(data: Mapping[str, Any]) -> str:
    """What was built, in words."""
    slopes = ", ".join(f"{kind} x {slope:.2f}" for kind, slope in data["slopes"].items())
    return (
        f"{data['table']}: {data['operations']} operations on device '{data['device']}'\n"
        f"a model takes {data['constant_ms']:.4g} ms + its operations ({slopes}) + {data['each_ms']:.4g} ms "
        "for each of them\n"
        f"{data['models']} whole models, {data['span']:.1f}x apart, each predicted by a fit to the others: "
        f"median error {data['median_error']:.1%}, 68 % within {data['error']:.1%}, 90 % within "
        f"{data['p90_error']:.1%}\n"
        f"to use it: table: {data['table']} under the device in the spec"
    )


def check(  # noqa: PLR0913 - the options of the command
    path: Path,
    sets: Sequence[str],
    table: Path,
    *,
    device: str | None,
    count: int,
    seed: int | None,
    plot: Path | None,
) -> dict[str, Any]:
    """Measure models that the table's fit has not seen, and compare them with the predictions.

    Raises:
        SpecError: The table cannot be used for this spec, or a file cannot be written.
    """
    subject = _subject(path, sets, device, seed)
    known = usable(table, subject.device, subject.space, subject.signature)
    found = validate(subject, known, count)
    if plot is not None:
        _write(plot, predictions(found, subject.device.name))
    return {"table": str(table), "device": subject.device.name, **found.plain()}


def checked_text(data: Mapping[str, Any]) -> str:
    """How good the predictions are, in words."""
    noise = data["median_noise"]
    known = "" if noise is None else f"; the median of a measurement is known to {noise:.1%}"
    return (
        f"{data['table']} on device '{data['device']}': {data['models']:.0f} models that were not used in "
        f"fitting, {data['fastest_ms']:.4g} to {data['slowest_ms']:.4g} ms ({data['span']:.1f}x)\n"
        f"median error {data['median_error']:.1%}, 90 % within {data['p90_error']:.1%}{known}\n"
        f"Kendall's tau {data['kendall_tau']:.3f}, Spearman's rho {data['spearman']:.3f}\n"
        f"a prediction takes {data['predict_ms']:.4f} ms of a processor, building and measuring a model "
        f"{data['measure_ms']:.0f} ms ({data['measure_ms'] / data['predict_ms']:,.0f}x)"
    )


def _subject(path: Path, sets: Sequence[str], device: str | None, seed: int | None = None) -> Subject:
    spec, _ = specs.read(path, sets)
    space = decomposable(spec.space)
    setting = _device(spec, device)
    setting.check()
    return Subject(setting, space, spec.data.signature(), spec.seed if seed is None else seed)


def _device(spec: Spec, name: str | None) -> Profiler:
    if name is None:
        return spec.devices[0]
    found = next((d for d in spec.devices if d.name == name), None)
    if found is None:
        names = ", ".join(d.name for d in spec.devices)
        raise SpecError(f"--device {name}: the spec has no such device, only {names}; name one of these")
    return found


def _write(path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise SpecError(f"--plot {path}: cannot be written ({error.strerror}); name another file") from None
