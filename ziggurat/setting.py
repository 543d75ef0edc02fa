"""The base of everything a user can write in YAML: frozen, and strict about unknown keys.

It holds configuration of pydantic only, no behaviour.
"""

from collections.abc import Callable, Mapping

from pydantic import BaseModel, ConfigDict


class Setting(BaseModel):
    """A frozen model whose fields are YAML keys; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def kind_if_missing(kind: str) -> Callable[[object], object]:
    """What a validator does with a mapping without `kind`: it is of the usual kind."""

    def fill(raw: object) -> object:
        return {"kind": kind, **raw} if isinstance(raw, Mapping) and "kind" not in raw else raw

    return fill
