"""The form in which Prefect's pages ask for a run's parameters, and what a filled-in form changes of a spec.

What is left empty stays as the spec has it. Each field is one key of the spec and is checked as such when the
spec is read, so that a bad value is one line that names the key.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from ziggurat.budget import Budget as BudgetSetting
from ziggurat.errors import SpecError
from ziggurat.searchers import AnySearcher
from ziggurat.stage_settings import Approval
from ziggurat.stoppers import AnyStopper
from ziggurat.strategies import AnyStrategy


def flat(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema in which every choice is an `anyOf`, the only word for one that Prefect's pages draw."""
    found = {key: flat(value) if isinstance(value, dict) else value for key, value in schema.items()}
    found.pop("discriminator", None)
    choices: list[Any] = []
    for choice in [*found.pop("oneOf", []), *found.get("anyOf", [])]:
        inner = flat(choice)
        choices += inner["anyOf"] if set(inner) == {"anyOf"} else [inner]
    if choices:
        found["anyOf"] = choices
    return found


class Form(BaseModel):
    """A part of the form, drawn by Prefect's pages."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Its schema, flat."""
        schema = handler(core_schema)
        whole = handler.resolve_ref_schema(schema)
        drawn = flat(whole)
        for position, field in enumerate(drawn["properties"].values()):
            field["position"] = position  # a server on PostgreSQL forgets the order of keys
        whole.clear()
        whole.update(drawn)
        return schema


class Search(Form):
    """The search: a searcher with a stopper, or a strategy that decides both; each with fields of its own."""

    searcher: AnySearcher | None = Field(default=None, description="What proposes candidates.")
    stopper: AnyStopper | None = Field(default=None, description="What ends hopeless trials early.")
    strategy: AnyStrategy | None = Field(
        default=None, description="Decides both what is tried and how far, in place of searcher and stopper."
    )
    trials: int | None = Field(default=None, ge=1, le=100_000, description="Candidates that become trials.")
    workers: int | None = Field(default=None, ge=1, le=1024, description="Segments at the same time.")


class Budget(Form):
    """Money and time that the run may take."""

    plan_usd: float | None = Field(
        default=None, gt=0, description="Expected cost; 20 % more raises an alarm."
    )
    limit_usd: float | None = Field(default=None, gt=0, description="Cost that is never passed.")
    limit_hours: float | None = Field(default=None, gt=0, description="Hours after which nothing is begun.")


class Retrain(Form):
    """Full training of the best architectures, and whether somebody is asked before."""

    k: int | None = Field(default=None, ge=1, le=1000, description="Architectures from the front.")
    seeds: int | None = Field(default=None, ge=1, le=100, description="Trainings of each.")
    approval: Approval | None = Field(default=None, description="Ask before the full training.")


PARTS: Mapping[str, type[BaseModel]] = {"search": Search, "budget": Budget, "retrain": Retrain}
assert set(Budget.model_fields) <= set(BudgetSetting.model_fields)


def assignments(**parts: Any) -> list[str]:
    """A filled-in form as assignments of keys of the spec, such as `search.trials=20`.

    Args:
        parts: For each part of the form its values: as Prefect hands them on, or as an instance.

    Raises:
        SpecError: A part has a field that the form has not.
    """
    found: list[str] = []
    for part, given in parts.items():
        values = given.model_dump(mode="json") if isinstance(given, BaseModel) else given
        for name, value in _checked(part, values).items():
            if value is not None:
                found += _assigned(f"{part}.{name}", value)
    return found


def _assigned(key: str, value: Any) -> list[str]:  # noqa: ANN401 - a value of JSON
    """A choice with a kind replaces what the spec has; anything else is changed key by key."""
    if isinstance(value, dict) and "kind" not in value:
        return [line for name, inner in value.items() for line in _assigned(f"{key}.{name}", inner)]
    return [f"{key}={json.dumps(value)}"]


def _checked(part: str, values: Any) -> Mapping[str, Any]:  # noqa: ANN401 - what a user hands in
    known = PARTS[part].model_fields
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise SpecError(f"{part}: is {values!r}, but must be a mapping of {', '.join(known)}")
    unknown = [name for name in values if name not in known]
    if unknown:
        raise SpecError(
            f"{part}.{unknown[0]}: the form has no such field; it has {', '.join(known)}; "
            "use `overrides` for other keys"
        )
    return values
