"""Profilers: what a model costs on a device. Settings only; torch is imported when one is used.

`AnyDevice` is the list of what can be written under `devices:`.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field

from ziggurat.profilers.command import CommandDevice
from ziggurat.profilers.device import TorchDevice
from ziggurat.profilers.onnxruntime_device import OnnxRuntimeDevice
from ziggurat.setting import kind_if_missing

AnyDevice = Annotated[
    Annotated[TorchDevice | OnnxRuntimeDevice | CommandDevice, Field(discriminator="kind")],
    BeforeValidator(kind_if_missing("torch")),
]
"""One device, told apart by `kind`; `torch` where none is given."""

__all__ = ["AnyDevice", "CommandDevice", "OnnxRuntimeDevice", "TorchDevice"]
