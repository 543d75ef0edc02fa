"""Early blocks of a network that are not trained."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ziggurat.errors import SpecError, near

if TYPE_CHECKING:
    from torch import nn


def blocks_of(network: nn.Module, names: Sequence[str] | None) -> list[str]:
    """The blocks in order: those named, else the children that hold weights.

    Raises:
        SpecError: A name is unknown, or stands for a part of another block or for nothing to train.
    """
    if names is None:
        return [name for name, child in network.named_children() if any(True for _ in child.parameters())]
    known = [name for name, _ in network.named_modules() if name]
    for index, name in enumerate(names):
        if name not in known:
            raise SpecError(f"space.blocks: the network has no '{name}'; {near(name, known)}")
        if not any(True for _ in network.get_submodule(name).parameters()):
            raise SpecError(f"space.blocks: '{name}' has nothing to train; leave it out")
        within = [o for o in names[:index] if name.startswith(f"{o}.") or o.startswith(f"{name}.")]
        if within:
            raise SpecError(f"space.blocks: '{within[0]}' and '{name}' overlap; name one of the two")
    return list(names)


def freeze(
    network: nn.Module, names: Sequence[str] | None, count: int, *, fresh: Collection[str]
) -> list[nn.Module]:
    """Take the gradients from everything but the last blocks, unless all blocks are trained.

    Args:
        network: Changed in place.
        names: Blocks in order; None for the children that hold weights.
        count: How many of the last blocks are trained.
        fresh: Names of tensors that hold no trained weights.

    Returns:
        The modules that are to stay in evaluation mode.

    Raises:
        SpecError: There are fewer blocks, or a part that would be frozen holds no trained weights.
    """
    blocks = blocks_of(network, names)
    if count > len(blocks):
        raise SpecError(
            f"space.unfrozen can be {count}, but the network has {len(blocks)} blocks "
            f"({', '.join(blocks)}); lower it to at most {len(blocks)}, or name others under space.blocks"
        )
    if count == len(blocks):
        return []
    trained = blocks[-count:]
    for name, parameter in network.named_parameters():
        if _inside(name, trained):
            continue
        if name in fresh:
            raise SpecError(
                f"space.unfrozen can be {count}, which freezes '{name}', but the file has no weights for "
                "that; raise unfrozen, or give such weights"
            )
        parameter.requires_grad = False
    return [
        module
        for name, module in network.named_modules()
        if name and not _inside(f"{name}.", trained) and not any(t.startswith(f"{name}.") for t in trained)
    ]


def _inside(name: str, blocks: Sequence[str]) -> bool:
    return any(name.startswith(f"{block}.") for block in blocks)
