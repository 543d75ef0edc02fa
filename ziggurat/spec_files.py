"""From a spec's text to plain values: YAML, variables of the environment, and overrides of the command line.

It knows nothing of what keys a spec may have; `ziggurat.spec` holds the values against its models.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ziggurat.errors import SpecError


class _Loader(yaml.SafeLoader):
    """YAML with the words of YAML 1.2 and without repeated keys.

    `1e-4` is a number, `no` and `2026-01-31` are text.
    """

    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - filled below, as PyYAML wants it


_FLOAT = (
    r"[-+]?(\.\d[\d_]*|\d[\d_]*\.[\d_]*)([eE][-+]?\d+)?|[-+]?\d[\d_]*[eE][-+]?\d+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+0123456789.")),
    ("merge", r"<<", ["<"]),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node)
        where = f"line {key_node.start_mark.line + 1}"
        if not isinstance(key, str | int | float | bool):
            raise SpecError(f"{where}: a key is a list or a mapping; write KEY: VALUE with a word as key")
        if key in seen:
            raise SpecError(f"{where}: key '{key}' is given twice; remove one of them")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}")
_HIDDEN_FROM = 5
"""Shorter values of variables are no secrets, and too likely to be part of something else in a message."""


def read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        SpecError: It cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpecError(
            f"{path}: cannot be read ({reason}); name a YAML file, or write one with `ziggurat init`"
        ) from None


def parse_yaml(text: str, origin: str) -> Any:  # noqa: ANN401 - YAML is any plain value
    """The plain values of a YAML text.

    Raises:
        SpecError: It is no YAML; the message names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise SpecError(f"{origin}:{where} not valid YAML ({error.problem}); correct the line") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(
            f"{origin}: not valid YAML ({str(error).splitlines()[0]}); correct the file"
        ) from None
    except RecursionError:
        raise SpecError(f"{origin}: nested too deeply; a spec has a few levels") from None
    except SpecError as error:
        raise SpecError(f"{origin}: {error}") from None


Leave = Callable[[str, str, Mapping[str, str]], bool]
"""Whether `${NAME}` at a path stays as it is, given the path, the name and the environment."""


_FOR_A_PROCESS = re.compile(r"(^|\.)environment\.[^.]+$")
"""Keys whose values are passed on as environment variables: text as it stands, 007 and true included."""


def expand(
    plain: Any,  # noqa: ANN401
    environment: Mapping[str, str],
    path: str = "",
    leave: Leave = lambda path, name, environment: False,  # noqa: ARG005
) -> Any:  # noqa: ANN401
    """Plain values with `${NAME}` and `${NAME:default}` replaced from the environment.

    A string that consists of one variable takes the type that YAML gives its value.

    Args:
        plain: Values as parsed.
        environment: Values of variables by name.
        path: Where in the spec the values are.
        leave: Which variables without a default are not the environment's.

    Raises:
        SpecError: A variable without a default is not set.
    """
    if isinstance(plain, dict):
        return {k: expand(v, environment, f"{path}.{k}".strip("."), leave) for k, v in plain.items()}
    if isinstance(plain, list):
        return [expand(v, environment, f"{path}[{i}]", leave) for i, v in enumerate(plain)]
    if not isinstance(plain, str):
        return plain

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if default is None and leave(path, name, environment):
            return match.group()
        if name in environment:
            return environment[name]
        if default is None:
            raise SpecError(
                f"{path}: environment variable {name} is not set; set it or write ${{{name}:default}}"
            )
        return default

    text = _VARIABLE.sub(value, plain)
    typed = _VARIABLE.fullmatch(plain) and text != plain and not _FOR_A_PROCESS.search(path)
    return _typed(text, path) if typed else text


def _typed(text: str, path: str) -> Any:  # noqa: ANN401
    """Numbers, true, false, null, [...] and {...} as YAML has them; everything else is text as it stands."""
    if not text:
        return text
    if text[0] in "[{":
        return parse_yaml(text, path)
    try:
        value = parse_yaml(text, path)
    except SpecError:
        return text
    return value if isinstance(value, bool | int | float) or text in {"null", "~"} else text


def values_to_hide(raw: Any, environment: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401
    """Values of variables that may be secret, each with what stands in its place in messages."""
    if isinstance(raw, dict):
        raw = list(raw.values())
    if isinstance(raw, list):
        return {k: v for item in raw for k, v in values_to_hide(item, environment).items()}
    names = [m.group(1) for m in _VARIABLE.finditer(raw)] if isinstance(raw, str) else []
    return {environment[n]: f"${{{n}}}" for n in names if len(environment.get(n, "")) >= _HIDDEN_FROM}


def override(plain: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Plain values with `a.b=c` assignments applied; `c` is YAML, list items are numbered from 0.

    Raises:
        SpecError: An assignment has no `=` or walks through something that is no mapping or list.
    """
    plain = copy.deepcopy(plain)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.split(".")
        if not equals or not all(keys):
            raise SpecError(f"--set {assignment}: write KEY.KEY=VALUE, such as search.trials=20")
        here: Any = plain
        for i, key in enumerate(keys[:-1]):
            here = _step(here, key, assignment, ".".join(keys[:i]))
        new = parse_yaml(text, f"--set {path}")
        if isinstance(here, list):
            here[_index(here, keys[-1], assignment)] = new
        elif isinstance(here, dict):
            here[keys[-1]] = new
        else:
            raise _no_inside(".".join(keys[:-1]), here, assignment)
    return plain


def _index(items: list[Any], key: str, assignment: str) -> int:
    if not key.isdecimal() or int(key) >= len(items):
        allowed = (
            f"a number from 0 to {len(items) - 1}"
            if items
            else "nothing, for the list is empty; set the list"
        )
        raise SpecError(f"--set {assignment}: '{key}' is an item of a list, which can be {allowed}")
    return int(key)


def _step(here: Any, key: str, assignment: str, path: str) -> Any:  # noqa: ANN401
    if isinstance(here, list):
        return here[_index(here, key, assignment)]
    if not isinstance(here, dict):
        raise _no_inside(path, here, assignment)
    if here.get(key) is None:
        here[key] = {}
    return here[key]


def _no_inside(path: str, value: object, assignment: str) -> SpecError:
    return SpecError(f"--set {assignment}: {path} is {value!r}, which has no keys inside; set {path} itself")
