"""Where jobs run. `AnyLauncher` is the list of what can be written under `launcher:`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.launchers.local import Local
from ziggurat.launchers.simulated import Simulated
from ziggurat.setting import kind_if_missing

AnyLauncher = Annotated[
    Annotated[Local | Simulated, Field(discriminator="kind")],
    BeforeValidator(kind_if_missing("local")),
]
"""One launcher, told apart by `kind`; `local` where none is given."""


def refuse_simulated(launcher: Local | Simulated | None) -> None:
    """Refuse imaginary machines where models are really trained or measured.

    Raises:
        ValueError: It is a simulated launcher.
    """
    if isinstance(launcher, Simulated):
        raise ValueError(
            "launcher.kind 'simulated' has no machines; give another kind (local), or leave launcher out"
        )


__all__ = ["AnyLauncher", "Local", "Simulated", "refuse_simulated"]
