"""Rules of alerts about the course of a run: stages, approval, its end, and controllers that die."""

from __future__ import annotations

from pydantic import Field

from ziggurat.domain import RunStatus
from ziggurat.listeners.alert_shapes import MATTERS, Case, Cases, Lasting, Rule, Scene, Severity

CLOCKS_S = 5.0
"""By how much the clocks of a run and of its watcher may differ."""


class ControllerCrashed(Lasting):
    """The controller died or fell silent; `ziggurat watch` tells while it lasts, a resumed run afterwards."""

    severity: Severity = Field(default="critical", description=MATTERS)
    silence_s: float = Field(
        default=30.0, ge=10, le=86_400, description="Seconds of silence within which `ziggurat watch` tells."
    )
    repeat_hours: float | None = Field(
        default=None, gt=0, description="Hours after which it is raised again while it lasts; null: never."
    )

    def cases(self, scene: Scene) -> Cases:
        """One for each crash of which no watcher has told."""
        for number, (died, back) in enumerate(scene.digest.crashes, 1):
            if any(died - CLOCKS_S <= utc <= back + CLOCKS_S for utc in scene.watch.told_utc):
                continue
            yield Case(
                f"controller_crashed/{number}",
                f"The controller died and was resumed after {_lasted(back - died)}",
                "The run goes on from its journal; no finished segment is lost.",
                back,
            )


class StageFinishedRule(Rule):
    """A stage has come to its end."""

    severity: Severity = Field(default="info", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One for each stage that did something."""
        for stage, (utc, end) in scene.digest.ends.items():
            if end.verdict in {"ok", "stopped_by_budget"}:
                words = "finished" if end.verdict == "ok" else "was stopped by the budget"
                took = _lasted(utc - scene.history.stage_times[stage][0])
                text = f"After {took}; {scene.history.spent_usd:.4g} USD are spent."
                yield Case(f"stage_finished/{stage}", f"Stage {stage} {words}", text, utc)


class StageFailedRule(Rule):
    """A stage has failed."""

    severity: Severity = Field(default="critical", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One for each such stage."""
        for stage, (utc, end) in scene.digest.ends.items():
            if end.verdict == "failed":
                reason = str(end.summary.get("reason", ""))
                yield Case(f"stage_failed/{stage}", f"Stage {stage} has failed", reason, utc)


class ApprovalWanted(Lasting):
    """The run waits for somebody to approve what comes next."""

    def cases(self, scene: Scene) -> Cases:
        """One, until somebody has answered or the time is over."""
        found = scene.digest.decided("approval")
        if found is not None and found[1].verdict == "wanted" and not scene.digest.over:
            text = found[1].reason or "It goes on when that is answered."
            text = f"{text} Answer with: ziggurat approve {scene.watch.where}"
            yield Case("approval_wanted", "Approval is wanted", text)


class RunFinishedRule(Rule):
    """The run has ended; an interrupted one can be resumed."""

    severity: Severity = Field(default="info", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One, unless it has failed."""
        if scene.digest.finish is None:
            return
        utc, end = scene.digest.finish
        if end.status is RunStatus.FAILED:
            return
        words = end.status.value.replace("_", " ")
        text = f"{scene.digest.proposals} trials, {scene.history.spent_usd:.4g} USD."
        text += f" {end.reason}." if end.reason else ""
        if end.status is RunStatus.INTERRUPTED:
            text += f" Continue with: ziggurat resume {scene.watch.where}"
        yield Case(f"run_finished/{end.status.value}", f"The run has ended: {words}", text, utc)


class RunFailed(Rule):
    """The run has failed."""

    severity: Severity = Field(default="critical", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One, if so."""
        if scene.digest.finish is not None and scene.digest.finish[1].status is RunStatus.FAILED:
            utc, end = scene.digest.finish
            yield Case("run_failed", "The run has failed", end.reason, utc)


def _lasted(seconds: float) -> str:
    """A duration in a few characters."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"
