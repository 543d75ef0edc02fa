"""What is found out about a user's network by running it: once for each way in which it can be built.

The network that is run has shapes but no numbers, where it can be built without; so neither weights nor time
are spent on candidates that differ in channels and bits alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from ziggurat.spaces import named, pretrained
from ziggurat.spaces.called import network_from, run
from ziggurat.spaces.pruning import Bundle, bundles
from ziggurat.spaces.rounding import Trace, trace

if TYPE_CHECKING:
    from ziggurat.domain import Value
    from ziggurat.protocols import Signature

T = TypeVar("T")
_KEPT = 256
_traces: dict[object, Trace] = {}
_bundles: dict[object, dict[str, Bundle]] = {}


def trace_of(function: str, picked: Mapping[str, Value] | None, signature: Signature) -> Trace:
    """Which modules run after which, in the network that a function makes of some choices."""
    return _found(_traces, trace, function, picked, signature)


def bundles_of(function: str, picked: Mapping[str, Value] | None, signature: Signature) -> dict[str, Bundle]:
    """Which channels go together, in the network that a function makes of some choices."""
    return _found(_bundles, bundles, function, picked, signature)


def _found(
    kept: dict[object, T],
    look: Callable[[nn.Module, Tensor], T],
    function: str,
    picked: Mapping[str, Value] | None,
    signature: Signature,
) -> T:
    key = (function, None if picked is None else tuple(sorted(picked.items())), signature)
    if key not in kept:
        if len(kept) >= _KEPT:
            kept.clear()
        try:
            kept[key] = _looked("meta", look, function, picked, signature)
        except Exception:  # noqa: BLE001 - it needs numbers; whatever is really wrong fails below as well
            kept[key] = _looked("cpu", look, function, picked, signature)
    return kept[key]


def _looked(
    device: str,
    look: Callable[[nn.Module, Tensor], T],
    function: str,
    picked: Mapping[str, Value] | None,
    signature: Signature,
) -> T:
    with torch.random.fork_rng(devices=[]), torch.device(device):
        network = network_from(function, picked, signature)
        pretrained.replace_head(network, named.head_of(network), signature.classes)
        example = torch.zeros(1, *signature.shape)
        with torch.no_grad():
            run(function, network.eval(), example)
        return look(network, example)
