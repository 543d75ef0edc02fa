"""Verdicts that can end a run before its search: how they are written down, and overridden by the spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ziggurat.engine import Engine
from ziggurat.events import Alert, Body, Decided

GO, STOP, OVERRIDDEN = "go", "stop", "overridden"
KINDS = ("subset", "gate")


def record(engine: Engine, kind: str, verdict: str, reason: str, facts: Mapping[str, Any]) -> None:
    """Write a verdict into the journal; where the spec overrides it, say so and raise an alert."""
    run = engine.run
    words = run.spec.validation.override
    if verdict == STOP and words:
        verdict, reason = OVERRIDDEN, f"{reason}; overridden by validate.override: {words}"
        facts = {**facts, "override": words}
    bodies: list[Body] = [Decided(kind, verdict, seen=run.history.length, reason=reason, facts=dict(facts))]
    if verdict == OVERRIDDEN:
        title = f"Validation says stop ({kind}), and the spec overrides it"
        bodies.append(Alert(f"overridden/{kind}", "warning", title, reason, rule="overridden"))
    run.record(bodies)


def objection(engine: Engine) -> Decided | None:
    """The verdict that ends the run here, if there is one."""
    decided = (d for d in engine.run.history.decisions if d.kind in KINDS)
    return next((d for d in decided if d.verdict == STOP), None)
