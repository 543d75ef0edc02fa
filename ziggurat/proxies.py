"""Cheap settings by which a search may begin: which are tried, and what the ladder is once one is chosen.

Pure functions of a spec and its history. A chosen setting takes the place of the lowest rung, so that the
number of rungs stays, and with it what stoppers count by. Whether a setting ranks candidates as the top rung
does is found out by the stage `validate`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

from ziggurat.combinations import uses
from ziggurat.domain import Fidelity
from ziggurat.history import History
from ziggurat.segments import units
from ziggurat.stage_settings import Search, Validate
from ziggurat.trainers import Script

DECISION = "proxy_choice"
CHOSEN, KEPT = "chosen", "kept"
READING = ("script", "table")
"""Kinds of trainers that read their data themselves, or need none."""
SHARED = ("data_fraction", "resolution")
"""What of an epoch can be left out, each as a share."""
SHARES = (0.25, 0.5)
"""Of the lowest rung's epochs, and of its data, that are tried where nothing is listed."""


class Laddered(Protocol):
    """What a spec tells of its ladders."""

    @property
    def search(self) -> Search:
        """The search proper."""

    @property
    def validation(self) -> Validate:
        """What comes before."""

    @property
    def searching(self) -> tuple[str, ...]:
        """The stages that search, in order."""

    @property
    def resumable(self) -> bool:
        """Whether a training goes on from its last rung."""

    def ladder(self) -> tuple[Fidelity, ...]:
        """Fidelities of the search proper."""

    def at(self, stage: str) -> Laddered:
        """The spec as a stage sees it."""


def listed(spec: Laddered) -> tuple[Fidelity, ...]:
    """The settings to try, the cheapest first; none of them is the lowest rung itself."""
    wanted = spec.validation.proxies
    lowest = spec.ladder()[0]
    found = automatic(spec) if isinstance(wanted, str) else [f.fidelity() for f in wanted]
    return tuple(sorted({f for f in found if f != lowest}, key=lambda f: (cost(f), f.epochs)))


def automatic(spec: Laddered) -> list[Fidelity]:
    """Fractions of the lowest rung's epochs, of its data, and of both."""
    lowest = spec.ladder()[0]
    trainer = spec.search.trainer
    whole = isinstance(trainer, Script) and not uses(trainer, "data_fraction")
    found = [replace(lowest, epochs=math.ceil(lowest.epochs * s)) for s in SHARES]
    if not whole:
        found += [replace(lowest, data_fraction=lowest.data_fraction * s) for s in SHARES]
        found.append(replace(found[1], data_fraction=lowest.data_fraction / 2))
    return [f for f in found if cost(f) < cost(lowest)]


def cost(setting: Fidelity) -> float:
    """Epochs on the whole training part that a training with a setting takes."""
    return units((setting,), -1, 0)


def on_the_way(spec: Laddered, setting: Fidelity) -> bool:
    """Whether the first epochs towards the top are a training with this setting."""
    if isinstance(spec.search.trainer, Script) or not spec.resumable:
        return False
    rungs = spec.ladder()
    until = next((i for i, f in enumerate(rungs) if f.epochs >= setting.epochs), len(rungs) - 1)
    return all(replace(f, epochs=setting.epochs) == setting for f in rungs[: until + 1])


def compared(spec: Laddered) -> float:
    """Epochs on the whole training part, for each candidate, that comparing listed settings may take."""
    found = listed(spec)
    if not found:
        return 0.0
    trained = sum(cost(f) for f in found if not on_the_way(spec, f))
    return trained + max(cost(f) for f in (*found, spec.ladder()[0]))


def words(setting: Fidelity) -> str:
    """A setting in words."""
    told = f"{setting.epochs} epoch{'s' if setting.epochs > 1 else ''}"
    if setting.data_fraction < 1:
        told += f" on {setting.data_fraction:.3g} of the data"
    if setting.resolution < 1:
        told += f" at {setting.resolution:.3g} of the resolution"
    return told


def yaml(setting: Fidelity) -> str:
    """A setting as an entry of `fidelities`."""
    shares = [n for n in SHARED if getattr(setting, n) < 1]
    return (
        "{"
        + ", ".join([f"epochs: {setting.epochs}", *(f"{n}: {getattr(setting, n):g}" for n in shares)])
        + "}"
    )


def resolutions(spec: Laddered) -> tuple[float, ...]:
    """Resolutions below that of the data at which a spec may train."""
    rungs = [f for stage in spec.searching for f in spec.at(stage).ladder()]
    return tuple(sorted({f.resolution for f in (*rungs, *listed(spec)) if f.resolution < 1}))


def begun(ladder: tuple[Fidelity, ...], setting: Fidelity) -> tuple[Fidelity, ...]:
    """A ladder that begins with a setting in place of its lowest rung."""
    return (setting, *ladder[1:])


def ladder(spec: Laddered, history: History, stage: str = "search") -> tuple[Fidelity, ...]:
    """The ladder of a stage that searches, as it is after what validation has chosen.

    A round with a ladder of its own keeps it.
    """
    declared = spec.at(stage).ladder()
    decision = history.decision(DECISION)
    if decision is None or decision.verdict != CHOSEN or declared[0] != spec.ladder()[0]:
        return declared
    epochs = decision.facts["epochs"]
    assert isinstance(epochs, int)
    chosen = begun(declared, Fidelity(epochs, *(float(str(decision.facts.get(n, 1.0))) for n in SHARED)))
    return chosen if fault(chosen) == "" else declared


def fault(tried: tuple[Fidelity, ...]) -> str:
    """Why a ladder cannot begin with its first setting; empty if it can."""
    first = tried[0]
    if len(tried) == 1:
        return "there is only one rung, so nothing can be cheaper; give fidelities a second one"
    if first.epochs >= tried[1].epochs:
        return (
            f"its {first.epochs} epochs do not lie below the {tried[1].epochs} of the second rung; lower them"
        )
    for name in SHARED:
        mine, next_one = getattr(first, name), getattr(tried[1], name)
        if mine > next_one:
            return f"its {name} {mine:g} lies above the {next_one:g} of the second rung; lower it"
    return ""


def check(spec: Laddered) -> None:
    """Whether the listed settings can begin the spec's ladder.

    Raises:
        ValueError: One cannot.
    """
    _images(spec)
    if not spec.validation.proxies:
        return
    if not (spec.validation.enabled and spec.validation.proxy):
        off = "enabled" if not spec.validation.enabled else "proxy"
        raise ValueError(
            f"validate.proxies are to be compared, but validate.{off} is false; remove one of the two"
        )
    trainer = spec.search.trainer
    whole = isinstance(trainer, Script) and not uses(trainer, "data_fraction")
    wanted = spec.validation.proxies
    settings = [] if isinstance(wanted, str) else [f.fidelity() for f in wanted]
    if len(set(settings)) < len(settings):
        raise ValueError("validate.proxies repeat; list each setting once")
    for index, setting in enumerate(listed(spec) or (spec.ladder()[0],)):
        where = f"validate.proxies[{index}] (cheapest first)" if settings else "validate.proxies"
        reason = fault(begun(spec.ladder(), setting))
        if not reason and whole and setting.data_fraction < 1:
            reason = (
                "the command of search.trainer does not use ${data_fraction}, so all data are trained on; "
                "use it, or leave data_fraction out"
            )
        if reason:
            raise ValueError(f"{where}, {words(setting)}: {reason}")


def _images(spec: Laddered) -> None:
    """Refuse smaller images where nothing here could make them.

    Raises:
        ValueError: Trainings read their data themselves.
    """
    found, kind = resolutions(spec), spec.search.trainer.kind
    if found and kind in READING:
        raise ValueError(
            f"resolution is {found[0]:g}, but with search.trainer.kind '{kind}' no images are at hand; "
            "leave it out"
        )
