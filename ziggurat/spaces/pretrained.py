"""Weights that a network begins with: read from a file, matched by name and shape, and put in.

The classifier may be one for other classes; it then begins afresh.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ziggurat.errors import SpecError
from ziggurat.imports import first_line

_COUNTER = "num_batches_tracked"
_AVERAGED = "ema."
_FIELD = "space.weights"


@dataclass(frozen=True)
class Loaded:
    """What came out of a file.

    Attributes:
        taken: Names of the tensors of the network that the file holds in the same shape.
        fresh: Names of those that it does not.
    """

    taken: frozenset[str]
    fresh: tuple[str, ...]


def load(network: nn.Module, path: Path, head: str, *, partial: bool) -> Loaded:
    """Put the weights of a file into a network.

    Args:
        network: On the CPU.
        path: Written by `torch.save`: a state dict, or a mapping that holds one as `state_dict`.
        head: Name of the classifier, whose weights may be missing or of another shape.
        partial: Other tensors may be missing too, or of another shape, as long as any fits.

    Raises:
        SpecError: The file cannot be read, or does not fit.
    """
    own = network.state_dict()
    held = _stripped(_read(path), own)
    taken = {n: t for n, t in held.items() if n in own and own[n].shape == t.shape}
    fresh = [n for n in own if n not in taken and not n.endswith(_COUNTER)]
    body = [n for n in taken if not _within(n, head) and not n.endswith(_COUNTER)]
    if not body:
        raise SpecError(
            f"{_FIELD}: {path} holds {len(held)} tensors, such as {_some(held)}, and none fits the network of"
            f" space.function, which has {_some(own)}; give weights of it, or set transfer: false"
        )
    if not partial:
        _strict(path, held, own, head)
    network.load_state_dict(taken, strict=False)
    return Loaded(frozenset(taken), tuple(fresh))


def replace_head(network: nn.Module, head: str, classes: int) -> str | None:
    """Give the classifier as many outputs as there are classes; what has been done, None if nothing."""
    old = network.get_submodule(head)
    weight = old.get_parameter("weight")
    outputs = len(weight)
    if outputs == classes:
        return None
    place, bias = weight.device, old.bias is not None
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Linear(old.in_features, classes, bias=bias, device=place)
    elif isinstance(old, (nn.Conv1d, nn.Conv2d)) and old.groups == 1:
        new = type(old)(
            old.in_channels,
            classes,
            old.kernel_size,  # type: ignore[arg-type]
            old.stride,  # type: ignore[arg-type]
            old.padding,  # type: ignore[arg-type]
            bias=bias,
            device=place,
        )
    else:
        raise SpecError(
            f"space.function: the last layer '{head}' gives {outputs} numbers, the data have {classes} "
            "classes, and it cannot be replaced; let the last layer be a linear one"
        )
    network.set_submodule(head, new)
    return f"the classifier '{head}' gave {outputs} numbers and is replaced by one for {classes} classes"


def _within(name: str, module: str) -> bool:
    return name.startswith(f"{module}.")


def _strict(path: Path, held: Mapping[str, Tensor], own: Mapping[str, Tensor], head: str) -> None:
    """Refuse a file that differs from the network beyond the classifier."""
    other = [n for n in held if n not in own and not _within(n, head)]
    missing = [n for n in own if n not in held and not _within(n, head) and not n.endswith(_COUNTER)]
    wrong = [n for n in own if n in held and own[n].shape != held[n].shape and not _within(n, head)]
    if wrong:
        name = wrong[0]
        raise SpecError(
            f"{_FIELD}: in {path}, '{name}' has shape {tuple(held[name].shape)}, but in the network of "
            f"space.function {tuple(own[name].shape)} ({len(wrong)} tensors differ); give weights of this "
            "network, or declare under space.choices what may differ"
        )
    if missing or other:
        what = f"lacks '{missing[0]}'" if missing else f"has '{other[0]}', which the network has not"
        raise SpecError(
            f"{_FIELD}: {path} {what} ({len(missing)} tensors missing, {len(other)} too many); give weights "
            "of the network of space.function, or declare under space.choices what may differ"
        )


def _stripped(held: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the prefix that fits most of a network's names; averaged ones before plain ones."""
    counts: dict[str, int] = {"": 0}
    names = set(own)
    for name in held:
        parts = name.split(".")
        for cut in range(len(parts)):
            if ".".join(parts[cut:]) in names:
                prefix = "".join(f"{p}." for p in parts[:cut])
                counts[prefix] = counts.get(prefix, 0) + 1
    best = max(counts, key=lambda p: (counts[p], p.startswith(_AVERAGED), -len(p)))
    return {n.removeprefix(best): t for n, t in held.items() if n.startswith(best)}


def _some(tensors: Mapping[str, Tensor]) -> str:
    return ", ".join(list(tensors)[:2]) or "none"


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        stamp = path.stat()
    except OSError as error:
        raise SpecError(
            f"{_FIELD}: {path} cannot be read ({error.strerror}), looked for in {Path.cwd()}; "
            "name a file of weights, or set transfer: false"
        ) from None
    return _kept(path.absolute(), stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=2)
def _kept(path: Path, changed: int, size: int) -> Mapping[str, Tensor]:
    """The tensors of a file; read once in a process unless it changes."""
    del changed, size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the format of a file that is refused anyhow
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever the reading of a broken file raises
        reason = first_line(error)[:160]
        raise SpecError(
            f"{_FIELD}: {path} is no file of weights that can be read safely ({reason}); write it by "
            "torch.save(model.state_dict(), FILE)"
        ) from None
    inner = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(inner, Mapping):
        raise SpecError(
            f"{_FIELD}: {path} holds a {type(content).__name__}, not a state dict; write it by "
            "torch.save(model.state_dict(), FILE)"
        )
    found = {str(n): t for n, t in inner.items() if isinstance(t, Tensor)}
    if not found:
        raise SpecError(
            f"{_FIELD}: {path} holds no tensors by name; write it by torch.save(model.state_dict(), FILE)"
        )
    return found
