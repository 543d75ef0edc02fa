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

__all__ = ["AnyLauncher", "Local", "Simulated"]
