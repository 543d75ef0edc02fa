"""Where jobs run. `AnyLauncher` is the list of what can be written under `launcher:`."""

from ziggurat.launchers.local import Local

AnyLauncher = Local

__all__ = ["AnyLauncher", "Local"]
