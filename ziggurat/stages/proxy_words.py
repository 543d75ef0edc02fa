"""How well a cheap setting ranks candidates, in numbers and in words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ziggurat import proxies
from ziggurat.domain import Fidelity
from ziggurat.spec import Spec


@dataclass(frozen=True)
class Agreement:
    """How one setting ranks candidates, against the top rung or against itself with other seeds."""

    tau: float
    low: float
    high: float
    candidates: int

    def proves(self, gate: float) -> bool:
        """Whether it is as good as sure that the rankings agree."""
        return not math.isnan(self.tau) and self.low >= gate

    def refutes(self, gate: float) -> bool:
        """Whether it is as good as sure that they do not."""
        return self.high < gate

    @property
    def text(self) -> str:
        """Tau and its interval in words."""
        tau = "not defined (all equal)" if math.isnan(self.tau) else f"{self.tau:.2f}"
        return f"{tau} ({self.low:.2f} to {self.high:.2f})"


def rounded(ending: str, found: Agreement) -> dict[str, float]:
    """Tau and its interval as facts; nothing where tau is not defined."""
    numbers: Mapping[str, float] = {"tau": found.tau, "low": found.low, "high": found.high}
    if math.isnan(found.tau):
        return {} if ending else {"low": round(found.low, 4), "high": round(found.high, 4)}
    return {f"{name}{ending}": round(value, 4) for name, value in numbers.items()}


def explained(
    spec: Spec, setting: Fidelity, found: Agreement, seeds: Agreement | None, tried: Sequence[str]
) -> str:
    """Why the search begins with a setting, in words and numbers."""
    lowest, top = spec.ladder()[0], spec.ladder()[-1]
    share = proxies.cost(setting) / proxies.cost(lowest)
    n, gate = found.candidates, spec.validation.gate_tau
    listed = "; ".join(tried)
    again = "" if seeds is None else f" Two seeds of it rank them with {seeds.text}, the most to be expected."
    begun, wanted = proxies.words(setting), proxies.words(lowest)
    if setting == lowest:
        return (
            f"No cheaper setting has proved to rank {n} candidates as {proxies.words(top)} do, so the search "
            f"begins with {begun} as the spec says. Kendall's tau and its {spec.validation.confidence:.0%} "
            f"interval, of which the lower end had to reach {gate:g}: {listed}.{again}"
        )
    return (
        f"The search begins with {begun} in place of {wanted}, at {share:.0%} of the cost: it ranks {n} "
        f"candidates as {proxies.words(top)} do, with a Kendall's tau of {found.text}, and the lower end "
        f"reaches the gate of {gate:g}.{again} Tried, the cheapest first: {listed}. To begin every run "
        f"so, let fidelities begin with {proxies.yaml(setting)}"
    )
