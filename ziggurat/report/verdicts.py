"""What the proxy gate, the looks at the sealed test part and the retraining say, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.report import words
from ziggurat.report.summary import RETRAIN

if TYPE_CHECKING:
    from ziggurat.report.case import Case

OVERRIDDEN = "overridden"
CHECKS = {"gate": "proxy gate", "subset": "subset validation"}


def retraining_state(case: Case) -> str:
    """How many full trainings are done, and what became of the others."""
    trials = case.history.of_stage(RETRAIN)
    done = sum(len(r.seeds) for r in case.summary.retrained)
    return f"{done:,} of {words.many(len(trials), 'training')} finished" if trials else ""


def looks(count: int | None) -> str:
    """How often the sealed test part was looked at, in words."""
    if count is None:
        return ""
    if count == 0:
        return "The sealed test set has not been looked at."
    times = {1: "once", 2: "twice"}.get(count, f"{count} times")
    caution = "" if count == 1 else " Each further look makes its numbers a little too good."
    return f"The sealed test set of this dataset has been looked at {times}, over all runs.{caution}"


def unchecked(case: Case) -> str:
    """What nobody has looked at of the retrained models, in words; empty if nothing was left out."""
    listed = "; ".join(case.facts.unchecked) if case.summary.retrained else ""
    return f"Not checked: {listed}." if listed else ""


@dataclass(frozen=True)
class Gate:
    """The proxy gate in words and numbers."""

    text: str
    tau: float
    low: float
    high: float
    verdict: str
    overridden: bool = False


def judged(case: Case) -> bool:
    """Whether anything was judged before the search."""
    return any(d.kind in {*CHECKS, "proxy"} for d in case.history.decisions)


def before(case: Case) -> list[str]:
    """What else the validation said: which cheap setting was chosen and why, whether the subset learned."""
    told = []
    choice = case.history.decision("proxy_choice")
    if choice is not None and choice.reason:
        told.append(f"{words.capital(choice.reason)}.")
    subset = case.history.decision("subset")
    if subset is not None:
        end = case.history.stages.get("validate")
        explained = end.summary.get("explained") if end is not None else None
        text = str(explained or subset.reason).rstrip(".")
        told.append(f"On the subset: {text}. Verdict: {subset.verdict}.")
    return told


def gate(case: Case) -> Gate | None:
    """What the comparison of the cheap setting with the top rung said; None if it was not made."""
    decision = case.history.decision("gate") or case.history.decision("proxy")
    if decision is None:
        return None
    tau, low, high = (_fact(decision.facts.get(k)) for k in ("tau", "low", "high"))
    listed = decision.facts.get("candidates")
    n = len(listed) if isinstance(listed, list) else listed
    bar = case.spec.validation.gate_tau
    overridden = decision.verdict == OVERRIDDEN
    if not math.isfinite(tau):
        text = f"{words.capital(decision.reason or 'the rank correlation could not be determined')}."
        return Gate(text, tau, low, high, decision.verdict, overridden)
    among = f" over {n:g} candidates" if isinstance(n, (int, float)) else ""
    interval = f"{100 * case.spec.validation.confidence:g} % interval {_signed(low)} to {_signed(high)}"
    text = (
        f"Kendall's tau of the rankings after the lowest and after the top rung is {_signed(tau)}{among} "
        f"({interval}). {_means(tau, low, high, bar)}"
    )
    return Gate(text, tau, low, high, decision.verdict, overridden)


def overrides(case: Case) -> list[str]:
    """Verdicts that the spec has overridden, each with its reason."""
    found = {d.kind: d for d in case.history.decisions if d.verdict == OVERRIDDEN}
    return [
        f"The verdict of the {CHECKS.get(kind, kind)} was to stop, and the spec overrode it: {d.reason}."
        for kind, d in found.items()
    ]


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else "unknown"


def _means(tau: float, low: float, high: float, bar: float) -> str:
    if high < bar:
        return f"Even its upper end is below the gate of {bar:g}: the cheap setting ranks differently."
    if low >= bar:
        return f"Its lower end is above the gate of {bar:g}: judging candidates cheaply is sound here."
    if tau >= bar:
        return f"The estimate is above the gate of {bar:g}, but the interval is too wide to be sure."
    return f"The estimate is below the gate of {bar:g}, but its interval reaches above, so the run went on."


def _fact(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
