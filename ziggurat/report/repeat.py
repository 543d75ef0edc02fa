"""The section on how to repeat the run: what it was, and the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.report.blocks import Code, Pairs, Section
from ziggurat.report.redact import redacted, without_login

if TYPE_CHECKING:
    from ziggurat.report.case import Case

COMMANDS = frozenset({"Repeat", "Continue", "Compare"})


def section(case: Case) -> Section:
    """How to repeat the run."""
    facts, spec = case.facts, case.spec
    pairs = [
        ("Run", case.history.run_id or "not started"),
        ("Spec hash", f"sha256 {spec.sha256()}"),
        ("Seed", str(spec.seed)),
        ("Repeat", facts.command),
        ("Continue", facts.resume),
        ("Compare", without_login(facts.mlflow)),
    ]
    text = facts.spec_text if facts.spec_text is not None else redacted(spec.plain())
    blocks = (
        Pairs(tuple((name, value) for name, value in pairs if value), code=COMMANDS),
        Code(text, "spec", "The resolved spec"),
    )
    return Section("repeat", "How to repeat this", "", blocks)
