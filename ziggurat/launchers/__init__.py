"""Where jobs run. `AnyLauncher` is the list of what can be written under `launcher:`."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.launchers.aws_batch import AwsBatch
from ziggurat.launchers.local import Local
from ziggurat.launchers.ray_launcher import Ray
from ziggurat.launchers.simulated import Simulated
from ziggurat.launchers.torchx import TorchX
from ziggurat.setting import Setting, kind_if_missing

AnyLauncher = Annotated[
    Annotated[AwsBatch | Local | Ray | Simulated | TorchX, Field(discriminator="kind")],
    BeforeValidator(kind_if_missing("local")),
]
"""One launcher, told apart by `kind`; `local` where none is given."""


def refuse_simulated(launcher: Setting | None) -> None:
    """Refuse imaginary machines where models are really trained or measured.

    Raises:
        ValueError: It is a simulated launcher.
    """
    if isinstance(launcher, Simulated):
        raise ValueError(
            "launcher.kind 'simulated' has no machines; give another kind (local), or leave launcher out"
        )


__all__ = ["AnyLauncher", "AwsBatch", "Local", "Ray", "Simulated", "TorchX", "refuse_simulated"]
