"""Where numbers are rounded: layers are put into rounding ones, and activations rounded between them.

Activations are rounded where they go into a rounded layer, and where they come out of it: behind its norm and
its activation, so that runtimes find integers on both sides of the layer and run it in integers. The output
of the network stays as it is. Which module follows which is found by running one example.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ziggurat.spaces.quantised import NORMS, Norm, Quantised, Rounding

_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh)
"""Activations that a runtime joins with the layer before them."""

_EXAMPLES = 4


@dataclass(frozen=True)
class Call:
    """One run of a module without children.

    Attributes:
        name: Of the module.
        kind: Its class.
        taken: Number of the tensor that it took.
        given: Number of the tensor that it gave; the same where it handed that on or worked in place.
        dimensions: Of the tensor that it gave.
    """

    name: str
    kind: type[nn.Module]
    taken: int
    given: int
    dimensions: int


@dataclass(frozen=True)
class Trace:
    """All runs of modules without children in the order of one forward pass.

    Attributes:
        calls: The runs.
        output: Number of the tensor that the network gave.
    """

    calls: tuple[Call, ...]
    output: int

    def of(self, name: str) -> list[Call]:
        """The runs of a module."""
        return [c for c in self.calls if c.name == name]

    def once(self, name: str) -> Call | None:
        """The run of a module; None if there is none or more than one."""
        found = self.of(name)
        return found[0] if len(found) == 1 else None

    def after(self, call: Call, kinds: tuple[type[nn.Module], ...]) -> Call | None:
        """The module of some kinds that alone, and never elsewhere, takes what a module gave."""
        takers = [c for c in self.calls if c.taken == call.given and c is not call]
        in_place = [c for c in takers if c.given == c.taken and issubclass(c.kind, kinds)]
        others = [c for c in takers if c.given != c.taken]
        found = in_place[0] if in_place else others[0] if len(others) == 1 else None
        return self.once(found.name) if found is not None and issubclass(found.kind, kinds) else None

    def source(self, tensor: int) -> Call | None:
        """The module that made a tensor, if it runs once; one that works in place on it made it too."""
        found = [c for c in self.calls if c.given == tensor]
        found = [c for c in found if c.taken != tensor or issubclass(c.kind, _ACTIVATIONS)]
        return self.once(found[-1].name) if found else None


def trace(network: nn.Module, example: Tensor) -> Trace:
    """Run one example, (1, *shape), in evaluation mode; the mode is restored."""
    calls: list[Call] = []
    alive: list[object] = []  # an identity means nothing once its owner is gone
    numbers: dict[int, int] = {}

    def number(tensor: object) -> int:
        alive.append(tensor)
        return numbers.setdefault(id(tensor), len(numbers))

    def note(name: str, module: nn.Module, taken: tuple[object, ...], given: object) -> None:
        if len(taken) == 1 and isinstance(given, Tensor):
            calls.append(Call(name, type(module), number(taken[0]), number(given), given.dim()))

    hooks = [
        module.register_forward_hook(lambda m, taken, given, name=name: note(name, m, taken, given))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    modes = {m: m.training for m in network.modules()}
    try:
        with torch.no_grad():
            output = number(network.eval()(example))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return Trace(tuple(calls), output)


def quantise(network: nn.Module, bits: Mapping[str, int], seen: Trace) -> list[tuple[Quantised, Norm | None]]:
    """Put layers of a network into rounding ones, in place.

    Args:
        network: Its layers are convolutions and linear layers.
        bits: Bits of the weights by name of the layer, below 32.
        seen: A run of the network, or of one with other numbers of channels.

    Returns:
        The rounding layers, each with the norm that can be folded into it.
    """
    modules = dict(network.named_modules())
    runs = {name: seen.once(name) for name in bits}
    norms = {name: _norm_after(modules, seen, run) if run else None for name, run in runs.items()}
    wanted = {call.taken for name in bits for call in seen.of(name)}
    for name, run in runs.items():
        last = norms[name] or run
        if last is not None:
            wanted.add((seen.after(last, _ACTIVATIONS) or last).given)
    sources = {t: source.name for t in wanted - {seen.output} if (source := seen.source(t)) is not None}
    made: list[tuple[Quantised, Norm | None]] = []
    for name, count in bits.items():
        covered = all(call.taken in sources for call in seen.of(name))
        layer = Quantised(modules[name], count, rounds_input=not covered)
        replace(network, modules[name], layer)
        norm = norms[name]
        made.append((layer, modules[norm.name] if norm else None))
    for name in dict.fromkeys(sources.values()):
        now = network.get_submodule(name)
        replace(network, now, nn.Sequential(now, Rounding()))
    return made


def _norm_after(modules: Mapping[str, nn.Module], seen: Trace, run: Call) -> Call | None:
    """The norm of a layer's outputs, if it can be folded into the layer."""
    found = seen.after(run, NORMS)
    if found is None or getattr(modules[found.name], "running_mean", None) is None:
        return None
    # behind a linear layer of sequences, a norm is not of the outputs
    return None if issubclass(run.kind, nn.Linear) and run.dimensions != 2 else found  # noqa: PLR2004


def calibrate(network: nn.Module, shape: tuple[int, ...]) -> None:
    """Give rounded activations the ranges that random examples have, until those of training are seen.

    What is measured of an untrained network is thus what it will be: behind a ReLU, say, no level lies below
    0, so that runtimes can join the two.

    Args:
        network: On a device with numbers; its modes are restored.
        shape: Of one example.
    """
    roundings = [m for m in network.modules() if isinstance(m, Rounding)]
    modes = {m: m.training for m in network.modules()}
    place = next((t.device for t in network.parameters()), torch.device("cpu"))
    examples = torch.randn(_EXAMPLES, *shape, generator=torch.Generator().manual_seed(0)).to(place)
    try:
        network.eval()
        for rounding in roundings:
            rounding.train()
        with torch.no_grad():
            network(examples)
    finally:
        for rounding in roundings:
            rounding.seen.zero_()
        for module, mode in modes.items():
            module.training = mode


def replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in the place of another, wherever that stands."""
    for name, module in list(network.named_modules(remove_duplicate=False)):
        if module is old:
            network.set_submodule(name, new)
