"""What has been changed of a run's settings since it began: on approval, on resume, or to retrain once more.

The spec in the run directory stays as it was. Changes are events, the latest of a key counts, and what
follows from all of them is the spec that is in force. The limit is in `ziggurat.budget`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ziggurat.history import History
from ziggurat.spec import Spec

RETRAIN = "retrain."
SETTINGS = ("enabled", "k", "seeds")
"""Settings of the retraining that can be changed; `drop` and `trials` are lists beside them."""
DROP, TRIALS = "retrain.drop", "retrain.trials"


def in_force(spec: Spec, history: History) -> Spec:
    """The spec with what has been changed since."""
    changes = _latest(history)
    found = {name: changes[RETRAIN + name] for name in SETTINGS if RETRAIN + name in changes}
    if not found:
        return spec
    return spec.model_copy(update={"retrain": spec.retrain.model_copy(update=found)})


def dropped(history: History) -> frozenset[int]:
    """Search trials that are not to be retrained."""
    return frozenset(_numbers(history, DROP))


def chosen(history: History) -> tuple[int, ...]:
    """Search trials that somebody has named to be retrained; none if they are picked from the front."""
    return _numbers(history, TRIALS)


def revision(history: History) -> int:
    """How often it has been changed what is retrained; a selection holds for one revision."""
    return sum(any(key.startswith(RETRAIN) for key in a.changes) for a in history.amendments)


def _latest(history: History) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for amendment in history.amendments:
        found |= amendment.changes
    return found


def _numbers(history: History, key: str) -> tuple[int, ...]:
    value = _latest(history).get(key)
    return tuple(int(n) for n in value) if isinstance(value, (list, tuple)) else ()
