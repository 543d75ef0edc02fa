"""Rounds of a search: `search` as a list, such as coarse, fine and full, each in the light of the one before.

The last round is the search proper, whose ladder is `fidelities`; those before it are `rounds`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

from pydantic import Field

from ziggurat import choices
from ziggurat.spaces import AnySpace
from ziggurat.stage_settings import FidelitySetting, Retrain, Search, Validate
from ziggurat.strategies import Pbt

RESERVED = frozenset(
    ("preflight", "validate", "proxy", "search", "baseline", "approval", "retrain", "measure", "report")
)
ALIKE = ("trainer", "workers", "retries")
"""What all rounds share: the machines are the same, and so is what trains on them."""


class Round(Search):
    """A round before the last; what it does not say is as in the round before it."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_-]{0,31}$", description="Name of its stage in reports and in the journal."
    )
    fidelities: list[FidelitySetting] = Field(
        min_length=1, max_length=10, description="Its ladder; by default that of the spec."
    )


class Whole(Protocol):
    """What a spec tells of a search and its rounds."""

    @property
    def search(self) -> Search:
        """The last round."""

    @property
    def rounds(self) -> list[Round]:
        """Those before it."""

    @property
    def fidelities(self) -> list[FidelitySetting]:
        """The ladder of the last round."""

    @property
    def space(self) -> AnySpace:
        """What is searched."""

    @property
    def validation(self) -> Validate:
        """What comes before."""

    @property
    def retrain(self) -> Retrain:
        """What comes after."""

    @property
    def resumable(self) -> bool:
        """Whether a training goes on from its last rung."""

    def at(self, stage: str) -> Whole:
        """The spec as a stage sees it."""


def unfold(raw: Any) -> Any:  # noqa: ANN401 - plain YAML values, of any shape
    """A spec's plain values with a list of rounds taken apart: `search` is the last, `rounds` the others."""
    search = raw.get("search") if isinstance(raw, Mapping) else None
    if not isinstance(search, list) or not search or not all(isinstance(r, Mapping) for r in search):
        return raw
    if "rounds" in raw:
        raise ValueError("search is a list of rounds, and rounds is given as well; write all into search")
    rounds: list[dict[str, Any]] = []
    for number, given in enumerate(search, 1):
        rounds.append({"name": f"round-{number}", **_inherited(rounds[-1] if rounds else {}, given), **given})
        if "fidelities" in raw:
            rounds[-1].setdefault("fidelities", raw["fidelities"])
    last = {k: v for k, v in rounds.pop().items() if k != "name"}
    ladder = {"fidelities": last.pop("fidelities")} if "fidelities" in last else {}
    return {**raw, **ladder, "search": last, "rounds": rounds}


def listed(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a spec, with `search` as a list of rounds beside what it is else."""
    whole = schema["$defs"]["Round"]
    given = {name: value for name, value in whole.items() if name != "required"}
    one = schema["properties"]["search"]
    rounds = {"type": "array", "items": {"$ref": "#/$defs/RoundOfAList"}, "minItems": 1}
    return {
        **schema,
        "$defs": {**schema["$defs"], "RoundOfAList": {**given, "title": "RoundOfAList"}},
        "properties": {**schema["properties"], "search": {"anyOf": [one, rounds]}},
    }


def _inherited(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a round takes over from the one before: all but its name and ladder, and one way of deciding."""
    gone = {"name", "fidelities"}
    if "strategy" in given:
        gone |= {"searcher", "stopper"}
    elif {"searcher", "stopper"} & given.keys():
        gone |= {"strategy"}
    return {k: v for k, v in before.items() if k in Search.model_fields and k not in gone}


def check_ladder(ladder: Sequence[FidelitySetting]) -> None:
    """Whether fidelities grow from rung to rung.

    Raises:
        ValueError: They do not.
    """
    epochs = [f.epochs for f in ladder]
    if any(b <= a for a, b in pairwise(epochs)):
        raise ValueError(f"epochs are {epochs}, but must grow from rung to rung; put them in order")
    for name in ("data_fraction", "resolution"):
        shares = [getattr(f, name) for f in ladder]
        if any(b < a for a, b in pairwise(shares)):
            raise ValueError(
                f"{name} is {shares}, but must not shrink from rung to rung; raise the later ones"
            )


def check(spec: Whole) -> None:
    """Whether the search fits the spec, and so do the rounds before it, and they each other.

    Raises:
        ValueError: They do not.
    """
    _fit(spec)
    names = [r.name for r in spec.rounds]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise ValueError(
                f"a round is named '{name}', which is taken; give each a name of its own, none of "
                f"{', '.join(sorted(RESERVED))}"
            )
    for each in spec.rounds:
        try:
            _check_round(each, spec.search)
            _fit(spec.at(each.name))
        except ValueError as error:
            raise ValueError(f"round '{each.name}': {error}") from None
    if spec.rounds and any(isinstance(s.strategy, Pbt) for s in (*spec.rounds, spec.search)):
        raise ValueError(
            "search.strategy 'pbt' trains one population from beginning to end, so it cannot be one of "
            "several rounds; choose another strategy, or one round"
        )


def _check_round(each: Round, last: Search) -> None:
    check_ladder(each.fidelities)
    for key in ALIKE:
        if getattr(each, key) != getattr(last, key):
            raise ValueError(f"{key} differs from that of the last round; it must be the same in all rounds")
    if each.baseline:
        raise ValueError(
            f"baseline is {each.baseline}, but only the last round is compared with random search; "
            "set it there alone"
        )


def _fit(spec: Whole) -> None:
    _trials_fit(spec)
    _strategy_fits(spec)
    _rungs_fit(spec)


def _trials_fit(spec: Whole) -> None:
    trials = spec.search.trials
    if spec.retrain.enabled and spec.retrain.k > trials and not isinstance(spec.search, Round):
        raise ValueError(
            f"retrain.k is {spec.retrain.k}, but search.trials is {trials}; "
            "lower retrain.k or raise search.trials"
        )
    strategy = spec.search.strategy
    # only the beginnings of a population differ; who takes a place may have been there before
    key, many = "trials", trials
    if isinstance(strategy, Pbt):
        key, many = "strategy.population", strategy.population
    size = choices.count(spec.space.choices(), at_most=max(many, 1024))
    if many > size:
        raise ValueError(
            f"search.{key} is {many}, but space '{spec.space.kind}' has only {size:g} candidates; "
            f"lower search.{key} to at most {size:g} or widen the space"
        )


def _strategy_fits(spec: Whole) -> None:
    strategy = spec.search.strategy
    if not isinstance(strategy, Pbt):
        return
    reason = strategy.unfit(
        rungs=len(spec.fidelities),
        trials=spec.search.trials,
        hyperparameters=sum(c.size > 1 for c in spec.space.hyperparameters.values()),
        inherits=spec.resumable and spec.search.trainer.inherits,
    )
    if reason:
        raise ValueError(f"search.strategy 'pbt' {reason}")


def _rungs_fit(spec: Whole) -> None:
    top, rungs = spec.fidelities[-1].epochs, len(spec.fidelities)
    epochs = spec.validation.epochs
    if epochs is not None and epochs > top and not isinstance(spec.search, Round):
        raise ValueError(
            f"validate.epochs is {epochs}, but the top rung has {top} epochs; "
            f"lower validate.epochs to at most {top} or leave it out"
        )
    grace = getattr(spec.search.decider, "grace", 0)
    brackets = getattr(spec.search.decider, "brackets", 1)
    if grace >= rungs > 1:
        raise ValueError(
            f"search.stopper.grace is {grace}, but the rungs are 0 to {rungs - 1}, so nothing is ever "
            f"stopped; lower it to at most {rungs - 1} or use stopper kind never"
        )
    if brackets > 1 and grace + brackets > rungs:
        raise ValueError(
            f"search.stopper.brackets is {brackets} with grace {grace}, but there are {rungs} rungs; "
            f"lower brackets to at most {max(1, rungs - grace)}"
        )
