"""Profilers: what a model costs on a device. Settings only; torch is imported when one is used."""

from ziggurat.profilers.device import TorchDevice

AnyDevice = TorchDevice
"""Becomes a union discriminated by `kind` with the second device."""

__all__ = ["AnyDevice", "TorchDevice"]
