"""The base of everything a user can write in YAML: frozen, and strict about unknown keys.

It holds configuration of pydantic only, no behaviour.
"""

from pydantic import BaseModel, ConfigDict


class Setting(BaseModel):
    """A frozen model whose fields are YAML keys; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
