"""Every number of the page for machines: the content of `report.json`.

Numbers are raw, in the metrics' own units; what is not a finite number is null. `schema_version` grows when a
key changes its meaning or goes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ziggurat.report import answer, verdicts
from ziggurat.report.pick import pick
from ziggurat.report.plain import front_json
from ziggurat.report.progress import rung_bars
from ziggurat.report.stage_costs import stage_costs

if TYPE_CHECKING:
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings

SCHEMA_VERSION = 1


def report_json(case: Case, found: Findings) -> dict[str, Any]:
    """The content of `report.json`."""
    summary, history = case.summary, case.history
    model = pick(summary)
    gate = verdicts.gate(case)
    narrowing = found.narrowing
    return {
        "schema_version": SCHEMA_VERSION,
        **front_json(summary),
        "answer": {
            "sentences": answer.sentences(case),
            "questions": {a.question: a.text for a in answer.answers(case, found)},
            "trial": None if model is None else model.trial,
        },
        "trials": plain(summary.counts),
        "cost_usd": summary.cost_usd,
        "limit_usd": case.limit_usd,
        "plan_usd": case.spec.budget.plan_usd,
        "worker_s": summary.seconds,
        "wall_s": summary.wall_s,
        "utilisation": plain(summary.utilisation),
        "random_hypervolume": plain(summary.baseline),
        "stages": plain(stage_costs(case)),
        "charges": plain(history.charges),
        "curve": plain(found.curve),
        "random_curve": plain(found.random),
        "cost_per_point": plain(found.per_point),
        "factors": plain(found.factors),
        "importance": plain(found.importances),
        "cross_validation": plain(found.fits),
        "agreement": plain(found.agreements),
        "diversity": [[index, plain(value)] for index, value in found.diversity],
        "rungs": plain(rung_bars(history)),
        "gate": plain(gate),
        "overridden": verdicts.overrides(case),
        "narrower": None
        if narrowing is None
        else {
            "changed": narrowing.changed,
            "space": narrowing.space if narrowing.changed else None,
            "kept": plain(narrowing.kept),
            "reasons": narrowing.reasons,
            "lost": list(narrowing.lost),
        },
        "alerts": [{"utc": utc, **plain(alert)} for utc, alert in history.alert_log],
        "amendments": plain(history.amendments),
        "broken": dict(found.broken),
    }


def plain(thing: Any) -> Any:  # noqa: ANN401 - dataclasses, sequences, mappings and scalars
    """Plain JSON values of dataclasses; numbers that are not finite become null."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: plain(getattr(thing, f.name)) for f in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(item) for item in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing
