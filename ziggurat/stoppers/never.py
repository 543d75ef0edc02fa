"""No early stopping: every trial is trained up to its top rung, first in, first out."""

from __future__ import annotations

from typing import Literal

from ziggurat.domain import Decision, Trial
from ziggurat.protocols import Context
from ziggurat.setting import Setting


class Never(Setting):
    """Lets every trial go on."""

    kind: Literal["never"] = "never"

    def decide(self, trial: Trial, context: Context) -> Decision:  # noqa: ARG002 - the protocol's arguments
        """The trial continues."""
        return Decision.CONTINUE

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's arguments
        """No trial is ever paused, so none is promoted."""
        return None
