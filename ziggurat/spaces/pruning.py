"""Channels taken out of a network, with everything that depends on them.

Which channels go together is found by torch-pruning on a network without numbers; those of the smallest
weights go first. All layers are ranked before any of them changes, so that their order does not matter.

Source: Li et al. 2017, Pruning Filters for Efficient ConvNets, arXiv 1608.08710; Fang et al. 2023, DepGraph,
arXiv 2301.12900, for what depends on a channel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ziggurat.errors import SpecError
from ziggurat.imports import first_line

_FIELD = "space.prune.layers"


@dataclass(frozen=True)
class Cut:
    """What is taken out of one entry of the spec.

    Attributes:
        entry: Name of a layer or a block.
        layers: Names of the layers it stands for.
        ratio: Share of the channels that goes, below 1.
    """

    entry: str
    layers: Sequence[str]
    ratio: float


@dataclass(frozen=True)
class Part:
    """What of one module, or of one parameter outside of the usual modules, goes with some channels.

    Attributes:
        name: Of the module or the parameter.
        rule: torch-pruning's function that takes places out of such a module.
        dimension: Of a parameter, that loses places.
        places: Each place of the module with the channel that it goes with.
        loses: Whether it is a layer with weights that loses outputs.
    """

    name: str
    rule: Callable[[Any, list[int]], Any]
    dimension: int
    places: tuple[tuple[int, int], ...]
    loses: bool


@dataclass(frozen=True)
class Bundle:
    """A layer's channels with everything that goes with them.

    Attributes:
        channels: How many there are.
        parts: What goes with them, the layer itself included.
        grouped: Whether a convolution of groups that hold several channels is among that.
    """

    channels: int
    parts: tuple[Part, ...]
    grouped: bool

    @property
    def losers(self) -> list[str]:
        """Layers whose outputs lose channels."""
        return [p.name for p in self.parts if p.loses]


def bundles(network: nn.Module, example: Tensor) -> dict[str, Bundle]:
    """The channels of every convolution and linear layer that takes part in what a network computes.

    Args:
        network: On any device; its mode is restored.
        example: (1, *shape), on the network's device.

    Raises:
        SpecError: torch-pruning cannot follow the network.
    """
    modes = {m: m.training for m in network.modules()}
    try:
        with torch.enable_grad():
            graph = torch_pruning.DependencyGraph().build_dependency(network, example, verbose=False)
            layers = {n: m for n, m in network.named_modules() if isinstance(m, (_ConvNd, nn.Linear))}
            return {n: _bundle(graph, network, m) for n, m in layers.items() if m in graph.module2node}
    except Exception as error:
        raise SpecError(
            f"space.prune: torch-pruning cannot follow the network of space.function ({first_line(error)}); "
            "remove space.prune or make the network simpler"
        ) from error
    finally:
        for module, mode in modes.items():
            module.training = mode


def _bundle(graph: Any, network: nn.Module, layer: nn.Module) -> Bundle:  # noqa: ANN401 - without types
    names: dict[Any, str] = {module: name for name, module in network.named_modules()}
    names |= {parameter: name for name, parameter in network.named_parameters()}
    channels = range(graph.get_out_channels(layer))
    rule = graph.get_pruner_of_module(layer).prune_out_channels
    group = graph.get_pruning_group(layer, rule, list(channels))
    convs = [item.dep.layer for item in group if isinstance(item.dep.layer, _ConvNd)]
    parts = [
        Part(
            name=names[item.dep.target.module],
            rule=item.dep.handler,
            dimension=item.dep.target.pruning_dim,
            places=tuple(zip(item.idxs, item.root_idxs, strict=True)),
            loses=isinstance(item.dep.layer, (_ConvNd, nn.Linear))
            and graph.is_out_channel_pruning_fn(item.dep.handler),
        )
        for item in group
        if item.dep.target.module in names  # the others stand for functions, which have nothing to lose
    ]
    grouped = any(1 < c.groups < max(c.in_channels, c.out_channels) for c in convs)
    return Bundle(len(channels), tuple(parts), grouped)


def kept(channels: int, ratio: float, round_to: int) -> int:
    """How many of some channels stay: at least one, and a multiple of `round_to` unless all stay."""
    wanted = max(1, channels - math.floor(channels * ratio + 1e-9))
    return min(channels, math.ceil(wanted / round_to) * round_to)


def chosen(cuts: Sequence[Cut], found: Mapping[str, Bundle], head: str) -> list[tuple[Bundle, float]]:
    """What loses which share of its channels.

    A named layer does, and with it the layers whose outputs are added to its own. Of a block, those layers do
    that share their channels with nothing outside of it.

    Args:
        cuts: What is taken out of which layers; no layer twice.
        found: Channels by name of the layer.
        head: Name of the classifier, whose outputs stay.

    Raises:
        SpecError: A layer cannot lose channels.
    """
    plans: list[tuple[Bundle, float]] = []
    owners: dict[str, str] = {}
    for cut in cuts:
        mine = [found[name] for name in cut.layers if name in found]
        if cut.entry in cut.layers:
            _refuse(cut.entry, found, head)
        else:
            inside = [b for b in mine if set(b.losers) <= set(cut.layers)]
            mine = [b for b in inside if head not in b.losers and not b.grouped]
        if not mine:
            raise SpecError(
                f"{_FIELD}: no layer in '{cut.entry}' can lose channels: each shares them with layers "
                "outside of it, the classifier or a grouped convolution; name other blocks or layers"
            )
        for bundle in mine:
            if owners.get(bundle.losers[0]) == cut.entry:
                continue  # goes with another layer of the same block
            _claim(owners, cut.entry, bundle.losers)
            plans.append((bundle, cut.ratio))
    return plans


def _refuse(layer: str, found: Mapping[str, Bundle], head: str) -> None:
    """Refuse a layer that cannot lose channels."""
    if layer not in found:
        why = "takes no part in what the network computes"
    elif layer == head:
        why = "is the classifier, which keeps its outputs"
    elif head in found[layer].losers:
        why = f"shares its channels with the classifier '{head}', which keeps its outputs"
    elif found[layer].grouped:
        why = "shares its channels with a grouped convolution, which cannot lose single ones"
    else:
        return
    raise SpecError(f"{_FIELD}: '{layer}' {why}; name another layer")


def _claim(owners: dict[str, str], entry: str, losers: Sequence[str]) -> None:
    for name in losers:
        if owners.setdefault(name, entry) != entry:
            raise SpecError(
                f"{_FIELD}: '{owners[name]}' and '{entry}' share their channels, as layers do whose outputs "
                "are added or between which there is a depthwise convolution; name one of the two"
            )


def prune(network: nn.Module, plans: Sequence[tuple[Bundle, float]], *, norm: int, round_to: int) -> None:
    """Take channels out of a network, in place.

    Args:
        network: Of the shapes that the bundles were found on. On torch's meta device the first channels go.
        plans: What loses which share.
        norm: 1 or 2, of the weights of a channel.
        round_to: Of what the number of channels that stay is a multiple.
    """
    gone: dict[tuple[str, object], tuple[Part, set[int]]] = {}
    for bundle, ratio in plans:
        count = bundle.channels - kept(bundle.channels, ratio, round_to)
        least = set(_ranked(network, bundle, norm)[:count])
        for part in bundle.parts if least else ():
            places = gone.setdefault((part.name, part.rule), (part, set()))[1]
            places.update(place for place, channel in part.places if channel in least)
    for part, places in gone.values():
        _take(network, part, sorted(places))


def _ranked(network: nn.Module, bundle: Bundle, norm: int) -> list[int]:
    """Channels by the mean norm of their weights in the layers that lose them, the smallest first."""
    total = torch.zeros(bundle.channels)
    for part in bundle.parts:
        if not part.loses:
            continue
        layer = network.get_submodule(part.name)
        weight = layer.get_parameter("weight").detach()
        if weight.is_meta:
            return list(range(bundle.channels))
        weight = weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight
        norms = torch.linalg.vector_norm(weight.float().cpu().flatten(1), ord=norm, dim=1)
        places, channels = (torch.tensor(numbers) for numbers in zip(*part.places, strict=True))
        total.index_add_(0, channels, norms[places])
    return torch.argsort(total, stable=True).tolist()


def _take(network: nn.Module, part: Part, places: list[int]) -> None:
    owner, _, attribute = part.name.rpartition(".")
    try:
        target: Any = network.get_submodule(part.name)
    except AttributeError:  # a parameter, for which torch-pruning makes another
        target = network.get_parameter(part.name)
    part.rule.__self__.pruning_dim = part.dimension  # type: ignore[attr-defined]
    made = part.rule(target, places)
    if isinstance(target, nn.Parameter):
        setattr(network.get_submodule(owner), attribute, made)
