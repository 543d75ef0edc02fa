"""Layers of somebody else's network by name: which entries of a spec mean which layers.

An entry is the name of a layer, as in `model.named_modules()`, or of a block, which stands for the layers in
it. `last 3 convs` stands for three entries.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ziggurat.errors import SpecError, near

if TYPE_CHECKING:
    from torch import nn

_LAST = re.compile(r"last ([1-9]\d{0,2}) (convs|linears|layers)")


def well_formed(layers: Sequence[str] | str, field: str = "layers") -> int:
    """How many entries are meant.

    Raises:
        ValueError: There is none, or one twice, or a text that is not of the form `last 3 convs`.
    """
    if isinstance(layers, str):
        found = _LAST.fullmatch(layers)
        if found is None:
            raise ValueError(
                f"{field} is '{layers}'; list names, such as [stage3, head], or write 'last 3 convs' "
                "(or linears, or layers)"
            )
        return int(found[1])
    if not layers:
        raise ValueError(f"{field} is empty; name at least one, or leave the whole key out")
    repeated = sorted({n for n in layers if list(layers).count(n) > 1})
    if repeated:
        raise ValueError(f"{field} names '{repeated[0]}' twice; name each once")
    return len(layers)


def head_of(network: nn.Module) -> str:
    """Name of the classifier: the last convolution or linear layer in the order of declaration.

    Raises:
        SpecError: There is none.
    """
    from ziggurat.spaces.quantised import LAYERS

    found: list[str] = [n for n, module in network.named_modules() if isinstance(module, LAYERS) and n]
    if not found:
        raise SpecError(
            "space.function gives a network without a convolution or a linear layer that has a name; "
            "let a layer of it be its classifier"
        )
    return str(found[-1])


def resolve(
    network: nn.Module, layers: Sequence[str] | str, field: str, *, without: str | None = None
) -> list[tuple[str, list[str]]]:
    """The entries of a field, each with the names of its layers.

    Args:
        network: Whose layers are named.
        layers: As in the spec, well formed.
        field: Key of the spec, for messages.
        without: A layer that `last 3 convs` and blocks leave out.

    Raises:
        SpecError: A name is unknown or holds no such layer, two entries share one, or there are too few.
    """
    from ziggurat.spaces.quantised import LAYERS

    known = [n for n, m in network.named_modules() if isinstance(m, LAYERS) and n != without]
    if isinstance(layers, str):
        return [(name, [name]) for name in _last(network, layers, known, field)]
    names = [name for name, _ in network.named_modules() if name]
    found: list[tuple[str, list[str]]] = []
    for entry in layers:
        if entry not in names:
            raise SpecError(f"{field}.layers: the network has no '{entry}'; {near(entry, names)}")
        inside = [n for n in known if n == entry or n.startswith(f"{entry}.")]
        if not inside:
            kind = type(network.get_submodule(entry)).__name__
            why = "is the classifier" if entry == without else f"({kind}) holds no layer that can be"
            raise SpecError(
                f"{field}.layers: '{entry}' {why}{'' if entry == without else ' chosen'}; "
                f"name convolutions, linear layers, or blocks of these: {near(entry, known)}"
            )
        found.append((entry, inside))
    for index, (entry, inside) in enumerate(found):
        for other, held in found[:index]:
            if set(inside) & set(held):
                raise SpecError(
                    f"{field}.layers: '{other}' and '{entry}' share layers; name one of them, or their parts"
                )
    return found


def _last(network: nn.Module, layers: str, known: Sequence[str], field: str) -> list[str]:
    from torch import nn

    parts = _LAST.fullmatch(layers)
    assert parts is not None
    kinds = {"convs": (nn.Conv1d, nn.Conv2d), "linears": (nn.Linear,), "layers": (nn.Module,)}[parts[2]]
    fitting = [n for n in known if isinstance(network.get_submodule(n), kinds)]
    count = int(parts[1])
    if len(fitting) < count:
        raise SpecError(
            f"{field}.layers is '{layers}', but the network has only {len(fitting)} such layers; "
            f"write at most {len(fitting)}"
        )
    return fitting[-count:]
