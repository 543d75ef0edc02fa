"""Specs side by side: whether two differ in luck alone, what tells them apart, and how they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ziggurat.report.words import ABSENT

if TYPE_CHECKING:
    from ziggurat.spec import Spec

SAME = ("seed", "name", "tracking", "alerts", "store", "checkpoints", "schema_version")
"""Keys that do not tell what is searched, how, or for how much money."""
TOLD = 2
"""Settings that the name of a group tells at most."""


def strategy_of(spec: Spec) -> str:
    """Searcher and stopper, or the joint strategy, in a few words."""
    search = spec.search
    if search.strategy is not None:
        return search.strategy.kind
    assert search.searcher is not None
    assert search.stopper is not None
    stopper = search.stopper.kind
    kind = getattr(search.stopper, "type", "")
    return (
        search.searcher.kind if stopper == "never" else f"{search.searcher.kind} + {stopper} {kind}".strip()
    )


def core(spec: Spec) -> str:
    """What must be equal for two runs to differ in luck alone."""
    return json.dumps({k: v for k, v in spec.plain().items() if k not in SAME}, sort_keys=True)


def labels(specs: Sequence[Spec]) -> list[str]:
    """Strategies; where two groups share one, with the settings in which these differ."""
    names = [strategy_of(spec) for spec in specs]
    known = [flat(spec) for spec in specs]
    found = []
    for index, name in enumerate(names):
        twins = [i for i, n in enumerate(names) if n == name]
        keys = [k for k in known[index] if len({known[i].get(k) for i in twins}) > 1][:TOLD]
        told = ", ".join(f"{k.rpartition('.')[2]} {known[index].get(k)}" for k in keys)
        found.append(f"{name} ({told})" if len(twins) > 1 and told else name)
    return [n if found.count(n) == 1 else f"{n} #{found[: i + 1].count(n)}" for i, n in enumerate(found)]


def flat(spec: Spec) -> dict[str, str]:
    """A spec as dotted keys with values in words; secrets are variables in it, or none."""
    found: dict[str, str] = {}
    plain = {k: v for k, v in spec.plain().items() if k not in SAME}

    def walk(prefix: str, value: object) -> None:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), below)
        else:
            found[prefix] = in_words(value)

    walk("", plain)
    return found


def in_words(value: object) -> str:
    """A value of a spec in words."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def data(spec: Spec) -> dict[str, Any]:
    """What the runs of a spec learn from; a table is its files."""
    plain = spec.plain()
    if plain["space"]["kind"] == "table":
        return {k: v for k, v in plain["space"].items() if k != "only"}
    return dict(plain["data"])


def difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """The first key in which two mappings differ, with its values."""
    key = next(k for k in {**first, **second} if first.get(k) != second.get(k))
    return f"{key} is {in_words(second.get(key))}, not {in_words(first.get(key))}"
