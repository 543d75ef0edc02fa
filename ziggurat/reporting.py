"""The report of a run with all that is known around its history, for drivers and mere readers of a run."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from ziggurat import __version__, prices, publishing, report
from ziggurat.budget import limit_usd
from ziggurat.contexts import chance
from ziggurat.history import History
from ziggurat.scripted import script_of, unchecked
from ziggurat.spec import Spec

STAGES = ("preflight", "validate", "search", "retrain", "measure", "report")


def facts(folder: Path, spec: Spec, history: History) -> report.ReportFacts:
    """What a report tells beside the history itself; whoever drives the run adds how it ends."""
    forecast = history.decision("forecast")
    planned = {
        k: float(v) for k, v in (forecast.facts if forecast else {}).items() if isinstance(v, (int, float))
    }
    unsealed = history.decision("unsealed")
    preflight = history.stages.get("preflight")
    found = preflight.summary if preflight is not None else {}
    parts = [
        f"{n:,}" if isinstance(n, int) else str(n) for n in (found.get("train"), found.get("validation"))
    ]
    data = f"{parts[0]} training and {parts[1]} validation examples" if found else ""
    if script_of(spec) is not None:
        data = "data read by the script"
    return report.ReportFacts(
        limit_usd=limit_usd(spec.budget, history),
        usd_per_hour=spec.launcher.usd_per_hour,
        test_looks=int(str(unsealed.facts.get("looks", 0))) if unsealed is not None else None,
        chance=chance(history),
        devices={d.name: prices.described(spec, d.name) for d in spec.devices},
        data=data,
        forecast_usd={s: planned[s] for s in STAGES if s in planned},
        forecast_s={s: planned[f"{s}_s"] for s in STAGES if f"{s}_s" in planned},
        command="ziggurat run spec.yaml",
        resume=f"ziggurat resume {folder}",
        spec_text=publishing.spec_text(folder),
        version=__version__,
        unchecked=tuple(unchecked(spec)) if spec.retrain.enabled else (),
    )


def write(folder: Path, spec: Spec, history: History, told: report.ReportFacts) -> dict[int, Path]:
    """Write model cards, and the report that links to them; the cards by the number of their trial."""
    cards = report.write_cards(folder, report.cards(spec, history, told))
    told = replace(told, cards={number: f"../{path}" for number, path in cards.items()})
    report.write_report(folder / "report", spec, history, utc=time.time(), facts=told)
    return {number: folder / path for number, path in cards.items()}
