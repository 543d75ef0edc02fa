"""Rules of alerts about the search itself: whether it still gets anywhere, and what its trials come to."""

from __future__ import annotations

from pydantic import Field

from ziggurat.listeners.alert_shapes import CLEAR, MATTERS, Case, Cases, Lasting, Rule, Scene, Severity

FEW = 5
"""Ended trials from which on a share of failures means something."""


class NoImprovement(Lasting):
    """The front has not grown for so much work, or for so much money."""

    severity: Severity = Field(default="critical", description=MATTERS)
    hours: float | None = Field(
        default=24.0, gt=0, description="Hours of work without growth of the front; null: any number."
    )
    usd: float | None = Field(default=None, gt=0, description="Money spent without growth of the front.")

    def cases(self, scene: Scene) -> Cases:
        """One, from then on until the front grows."""
        stage = scene.digest.searching
        if stage is None:
            return
        seconds, usd = scene.digest.quiet(stage, scene.now_utc)
        text = "Consider ending the search, or widening the space."
        if self.hours is not None and seconds >= self.hours * 3600:
            yield Case("no_improvement", f"The front has not grown for {seconds / 3600:.3g} h", text)
        elif self.usd is not None and usd >= self.usd:
            yield Case("no_improvement", f"The front has not grown for {usd:.4g} USD", text)


class LowDiversity(Lasting):
    """The last candidates are much alike: their mean pairwise edit distance is small.

    Candidates that are not the same differ in one choice at least, so what counts is how far their distance
    lies above 1, on the way to that of random candidates of the same space.
    """

    share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Of the way from one choice to the distance of random candidates; below, it is raised.",
    )
    distance: float | None = Field(
        default=None, gt=0, description="The distance itself, in choices; counts in place of share."
    )
    window: int = Field(default=20, ge=2, le=1000, description="Candidates that are compared.")

    def cases(self, scene: Scene) -> Cases:
        """One, while the search proposes such candidates."""
        stage = scene.digest.searching
        found = None if stage is None else scene.digest.likeness(stage)
        if found is None:
            return
        mean, random = found
        least = 1 + self.share * (random - 1) if self.distance is None else self.distance
        if mean < least:
            yield Case(
                "low_diversity",
                f"The last {self.window} candidates differ in {mean:.2f} choices on average",
                f"Random ones differ in {random:.2f}. The search has converged; consider ending it, or "
                "another searcher.",
            )
        elif mean < CLEAR * least:
            yield Case("low_diversity", sure=False)


class ManyFailures(Lasting):
    """Many of the last trials have failed, those of lost and pre-empted machines aside."""

    share: float = Field(
        default=0.5, gt=0, lt=1, description="Share of failed trials above which it is raised."
    )
    window: int = Field(default=20, ge=FEW, le=10_000, description="Last trials that are counted.")

    def cases(self, scene: Scene) -> Cases:
        """One, while that is so."""
        failed, ended = scene.digest.failures()
        if ended < FEW or scene.digest.over:
            return
        if failed > self.share * ended:
            yield Case("many_failures", f"{failed} of the last {ended} trials have failed", _last(scene))
        elif failed * CLEAR > self.share * ended:
            yield Case("many_failures", sure=False)


def _last(scene: Scene) -> str:
    """Why the last failed trial has failed."""
    number = scene.digest.last_failed
    trial = scene.history.trials.get(number) if number is not None else None
    if trial is None or trial.failure is None:
        return ""
    return f"Trial {trial.number}: {trial.failure.kind.value}: {trial.failure.text}"


class WeakProxy(Rule):
    """The cheap setting ranks candidates worse than the gate asks for, and the run goes on all the same."""

    def cases(self, scene: Scene) -> Cases:
        """One for each time it was found so."""
        for utc, gate in scene.digest.decisions:
            tau, least = gate.facts.get("tau"), gate.facts.get("gate_tau")
            numbers = isinstance(tau, (int, float)) and isinstance(least, (int, float))
            if gate.kind == "gate" and gate.verdict == "go" and numbers and tau < least:  # type: ignore[operator]
                title = f"The proxy ranks weakly: Kendall's tau is {tau:.2f}, the gate is {least:g}"
                yield Case("weak_proxy", title, gate.reason, utc)


class GateStopped(Rule):
    """A gate has stopped the run before it costs more."""

    severity: Severity = Field(default="critical", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One for each time."""
        for utc, gate in scene.digest.decisions:
            if gate.kind in {"subset", "gate"} and gate.verdict == "stop":
                yield Case("gate_stopped", "A gate has stopped the run", gate.reason, utc)
