"""Where the choices of a space stand in its setting: one key of YAML may make many choices of candidates.

`width` of an mlp makes `width_1`, `width_2`, ...; `operations` of a cell make a choice for every edge.
Whoever changes a space as people write it changes keys, and has to look at all choices that come of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ziggurat.choices import Choices, Range, Values
from ziggurat.domain import Candidate, Value

if TYPE_CHECKING:
    from ziggurat.spaces import AnySpace
    from ziggurat.spaces.mbconv import Mbconv

Path = tuple[str | int, ...]
Plain = dict[str, Any]
DECLARED = ("choices", "hyperparameters")
"""Keys that hold choices by names of the user's own."""
_STAGE = ("width", "depth", "stride", "kernel", "expansion", "squeeze_excite")
_OPERATION = re.compile(r"edge_\d+_\d+|\w+_(first|second)")


@dataclass(frozen=True)
class Place:
    """A key of a space's section with what may be chosen there.

    Attributes:
        path: Of the key, within the section.
        choice: What may be chosen.
        names: Of the choices of candidates that come of it.
    """

    path: Path
    choice: Values | Range
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """The key as people write it."""
        return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in self.path).removeprefix(".")

    def values(self, candidate: Candidate) -> list[Value]:
        """What a candidate has of it; nothing where it does not exist for it."""
        return [candidate.choices[n] for n in self.names if n in candidate.choices]


def places(setting: AnySpace) -> list[Place]:
    """All keys of a space that candidates choose from, in order; a choice that no key can narrow has none."""
    known = setting.choices()
    find: Callable[[Any], Iterator[tuple[Path, Values | Range, str]]] = _KINDS[setting.kind]
    found = [
        Place(path, choice, tuple(name for name in known if re.fullmatch(pattern, name)))
        for path, choice, pattern in find(setting)
    ]
    taken = {n for p in found for n in p.names}
    declared = {} if setting.kind in {"parameters", "table"} else setting.hyperparameters
    found += [Place(("hyperparameters", n), choice, (n,)) for n, choice in declared.items() if n not in taken]
    return [p for p in found if p.names]


def _fields(*names: str) -> Callable[[Any], Iterator[tuple[Path, Values | Range, str]]]:
    """Keys of these names, each a choice by itself or one for each level."""

    def find(setting: Any) -> Iterator[tuple[Path, Values | Range, str]]:  # noqa: ANN401 - any space
        for name in names:
            yield (name,), getattr(setting, name), rf"{name}(_\d+)?"

    return find


def _declared(setting: Any) -> Iterator[tuple[Path, Values | Range, str]]:  # noqa: ANN401 - several spaces
    for name, choice in setting.declared.items():
        yield ("choices", name), choice, re.escape(name)


def _backbone(setting: Any) -> Iterator[tuple[Path, Values | Range, str]]:  # noqa: ANN401 - see above
    yield from _declared(setting)
    if setting.unfrozen is not None:
        yield ("unfrozen",), setting.unfrozen, "unfrozen"
    if setting.prune is not None:
        yield ("prune", "ratio"), setting.prune.ratio, r"prune_\d+"
    if setting.quantise is not None:
        yield ("quantise", "bits"), setting.quantise.bits, r"bits_\d+"


def _mbconv(setting: Mbconv) -> Iterator[tuple[Path, Values | Range, str]]:
    for name in ("stem", "stem_stride", "head", "activation", "dropout"):
        yield (name,), getattr(setting, name), name
    yield ("scaling", "coefficient"), setting.scaling.coefficient, "coefficient"
    for place, stage in enumerate(setting.stages):
        for name in _STAGE:
            yield ("stages", place, name), getattr(stage, name), rf"{name}_{place + 1}(_\d+)?"


def _cell(setting: Any) -> Iterator[tuple[Path, Values | Range, str]]:  # noqa: ANN401 - see above
    yield ("operations",), Values(values=list(setting.names)), _OPERATION.pattern


def _table(setting: Any) -> Iterator[tuple[Path, Values | Range, str]]:  # noqa: ANN401 - see above
    for name, choice in setting.choices().items():
        yield ("only", name), choice, re.escape(name)


_KINDS: Mapping[str, Callable[[Any], Iterator[tuple[Path, Values | Range, str]]]] = {
    "mlp": _fields("depth", "width", "dropout", "activation", "norm"),
    "cnn": _fields("depth", "channels", "kernel", "skip", "pooling", "activation", "dropout"),
    "cell": _cell,
    "mbconv": _mbconv,
    "backbone": _backbone,
    "parameters": _declared,
    "python": _declared,
    "table": _table,
}
"""For each kind of space, its keys with a pattern of the names of the choices that come of them."""


def written(choice: Values | Range) -> Any:  # noqa: ANN401 - plain YAML
    """A choice as people write it."""
    when = {"when": choice.model_dump(mode="json")["when"]} if choice.when else {}
    if isinstance(choice, Values):
        return {"values": list(choice.values), **when} if when else list(choice.values)
    step = {} if choice.step is None else {"step": choice.step}
    return {"min": choice.min, "max": choice.max, **({"log": True} if choice.log else {}), **step, **when}


def replaced(section: Plain, path: Path, value: Any) -> Plain:  # noqa: ANN401 - plain YAML
    """A section with another value at a path; None takes the key out."""
    first, *rest = path
    below = section.get(str(first)) if isinstance(first, str) else None
    if not rest:
        kept = {k: v for k, v in section.items() if k != first}
        return kept if value is None else {**section, str(first): value}
    if isinstance(below, list):
        place = int(rest[0])
        changed = [replaced(v, tuple(rest[1:]), value) if i == place else v for i, v in enumerate(below)]
        return {**section, str(first): changed}
    return {**section, str(first): replaced(dict(below or {}), tuple(rest), value)}


def never(choices: Choices) -> set[str]:
    """Choices whose condition can no longer hold."""
    gone: set[str] = set()
    for name, choice in choices.items():
        if any(other in gone or not _possible(choices[other], choice, other) for other in choice.when):
            gone.add(name)
    return gone


def _possible(other: Values | Range, choice: Values | Range, name: str) -> bool:
    """Whether another choice can still have a value under which a choice exists."""
    wanted = choice.when[name]
    if isinstance(other, Values):
        ends = list(other.values)
        if isinstance(wanted, (list, bool, int, float, str)):
            return any(v in (wanted if isinstance(wanted, list) else [wanted]) for v in ends)
        return any(wanted.holds(v) for v in ends)
    if isinstance(wanted, (list, bool, int, float, str)):
        listed = wanted if isinstance(wanted, list) else [wanted]
        return any(not isinstance(v, (bool, str)) and other.min <= v <= other.max for v in listed)
    low = other.min if wanted.min is None else wanted.min
    high = other.max if wanted.max is None else wanted.max
    return low <= other.max and high >= other.min
