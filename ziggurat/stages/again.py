"""Stages that are opened once more: retraining others than before, or measuring what has not been measured.

Nothing is rewritten. What is to change is an amendment, the stages begin again, and they do what is missing.
All functions are pure: they say what has to be journalled.
"""

from __future__ import annotations

from dataclasses import dataclass

from ziggurat import amended
from ziggurat.budget import limit_usd
from ziggurat.errors import SpecError
from ziggurat.events import Amended, Body, Fact, StageStarted
from ziggurat.history import History
from ziggurat.spec import Spec
from ziggurat.stages import approval, selection

MEASURE = "measure"


@dataclass(frozen=True)
class Wish:
    """What is to be retrained instead of what the spec says; None as it is.

    Attributes:
        k: How many architectures.
        trials: Which search trials.
        seeds: Trainings of each.
        add_usd: By how much the limit is raised.
    """

    k: int | None = None
    trials: tuple[int, ...] = ()
    seeds: int | None = None
    add_usd: float = 0.0


def retraining(spec: Spec, history: History, wish: Wish, who: str) -> list[Body]:
    """What opens retraining and measuring again; whoever asks for it approves of it.

    Args:
        spec: In force.
        history: What has happened.
        wish: What is to be different.
        who: Asks, in words that tell one request from another; the same request counts once.

    Raises:
        SpecError: The search has not ended, a trial cannot be retrained, or nothing is missing.
    """
    reason = f"retrain, asked for by {who}"
    if any(a.reason == reason for a in history.amendments):
        return []
    if not history.finished("search"):
        raise SpecError(
            f"{history.run_id}: its search has not ended, so there is nothing to pick from; "
            "continue it with `ziggurat resume`"
        )
    change = Amended(_changes(spec, history, wish), reason)
    draft = history.copy()
    draft.amendments = [*draft.amendments, change]
    after = amended.in_force(spec, draft)
    _check(after, draft, wish)
    chosen = selection.selected(after, draft)
    if not (selection.missing(after, draft, chosen) or _open(history)):
        there = ", ".join(str(t.number) for t in chosen)
        raise SpecError(
            f"{history.run_id}: trials {there} are retrained with {after.retrain.seeds} seeds already; "
            "name others by --trials, or raise --k or --seeds"
        )
    measuring = [StageStarted(MEASURE)] if MEASURE in history.stages else []
    return [change, *approval.granted(spec, history, who), StageStarted(selection.STAGE), *measuring]


def measuring(history: History) -> list[Body]:
    """What opens measuring again, for what has not been measured or has failed.

    Raises:
        SpecError: There is no retrained model.
    """
    if not any(t.rung == t.top_rung for t in history.of_stage(selection.STAGE)):
        raise SpecError(f"{history.run_id}: no model is retrained yet; use `ziggurat retrain`")
    return [StageStarted(MEASURE)]


def _changes(spec: Spec, history: History, wish: Wish) -> dict[str, Fact | list[Fact]]:
    """A wish as amendments."""
    found: dict[str, Fact | list[Fact]] = {"retrain.enabled": True}
    found |= {f"retrain.{n}": v for n, v in (("k", wish.k), ("seeds", wish.seeds)) if v is not None}
    if wish.trials:
        found[amended.TRIALS] = list(dict.fromkeys(wish.trials))
    elif wish.k is not None:
        found[amended.TRIALS] = []  # a K picks from the front again
    if wish.add_usd:
        limit = limit_usd(spec.budget, history)
        if limit is None:
            raise SpecError("--add-usd: the run has no limit to raise (budget.limit_usd); leave it out")
        found["budget.limit_usd"] = round(limit + wish.add_usd, 9)
    return found


def _open(history: History) -> bool:
    """Whether retraining is under way, and was only interrupted."""
    return selection.STAGE in history.stages and not history.finished(selection.STAGE)


def _check(spec: Spec, history: History, wish: Wish) -> None:
    """Hold a wish against the candidates.

    Raises:
        SpecError: It does not fit.
    """
    numbers = [t.number for t in selection.candidates(spec, history)]
    shown = ", ".join(str(n) for n in numbers[: approval.SHOWN])
    if not numbers:
        raise SpecError(f"{history.run_id}: no trial has reached the top rung with all limits kept")
    unknown = [n for n in wish.trials if n not in numbers]
    if unknown:
        raise SpecError(f"--trials {unknown[0]}: is no trial that can be retrained; these can: {shown}")
    if wish.k is not None and wish.k > len(numbers):
        raise SpecError(f"--k {wish.k}: only {len(numbers)} trials can be retrained ({shown}); lower it")
    bad = {"--k": wish.k, "--seeds": wish.seeds}
    for option, value in bad.items():
        if value is not None and value < 1:
            raise SpecError(f"{option} {value}: must be at least 1")
    if wish.add_usd < 0:
        raise SpecError(f"--add-usd {wish.add_usd:g}: must not be negative")
