"""Validation errors in words: one line each, with the key's path, the value given and what is allowed.

What is allowed comes from the model's JSON Schema, so a new setting is explained without a line here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from ziggurat.errors import near

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError

SHOWN = 60
"""Characters of a value that are shown."""
_LOGIN = re.compile(r"(?<=://)[^/@\s]+@")

_NEEDED = {
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "list": "a list",
    "dict": "a mapping of keys",
    "model": "a mapping of keys",
    "finite_number": "a finite number",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}
Node = Mapping[str, Any]


def lines(
    error: ValidationError, model: type[BaseModel], plain: object, hide: Mapping[str, str] | None = None
) -> list[str]:
    """A line for each error of a validation, in the order of the model's keys.

    Args:
        error: What pydantic raised.
        model: The model that refused the values.
        plain: The values.
        hide: Texts that no line may repeat, each with what stands in its place.
    """
    root = model.model_json_schema(by_alias=True)
    found: dict[str, list[str]] = {}
    given: dict[str, object] = {}
    for whole in error.errors(include_url=False):
        # hidden before it is cut to length, or its beginning would show
        raw: Any = {**whole, "input": _without(whole["input"], hide or {})}
        path = _path(raw, plain)
        found.setdefault(path, []).append(_words(raw, root))
        given.setdefault(path, raw["input"])
    # alternatives of a union are one error, told where a value inside it is wrong if there is one
    inner = [p for p in found if not any(q != p and q.startswith((f"{p}.", f"{p}[")) and p for q in found)]
    said = [_joined(path, list(dict.fromkeys(found[path])), given[path]) for path in inner]
    return [_without(" ".join(line.split()), hide or {}) for line in said]


def _without(value: Any, hide: Mapping[str, str]) -> Any:  # noqa: ANN401 - plain YAML values
    """A value with what must not be shown replaced, wherever it is inside."""
    if isinstance(value, Mapping):
        return {k: _without(v, hide) for k, v in value.items()}
    if isinstance(value, list):
        return [_without(v, hide) for v in value]
    if isinstance(value, str):
        for text, name in hide.items():
            value = value.replace(text, name)
    return value


def shown(value: object) -> str:
    """A value as it stands in a message."""
    text = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else None
    text = text or _LOGIN.sub("(hidden)@", repr(value))
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _joined(path: str, said: Sequence[str], given: object) -> str:
    if len(said) > 1 and all(s.startswith("must be ") for s in said):
        what = " or ".join(s.removeprefix("must be ").partition(" (given")[0] for s in said)
        said = [f"must be {what} (given: {shown(given)})"]
    words = "; ".join(said)
    # a message that names a place inside says all of it
    return f"{path}: {words}" if path and not words.startswith(f"{path}[") else words


def _path(raw: Any, plain: object) -> str:  # noqa: ANN401 - pydantic's error dictionary
    """Where an error is, in the keys that the user wrote: pydantic's names of union members are left out."""
    here, path, place = plain, "", raw["loc"]
    for part, after in zip_longest(place, place[1:]):
        if isinstance(here, Mapping) and part in here and not _is_member(here, part, after):
            here, path = here[part], f"{path}.{part}"
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here, path = here[part], f"{path}[{part}]"
        elif part is place[-1] and after is None and raw["type"] in {"missing", "extra_forbidden"}:
            path = f"{path}.{part}"
    if raw["type"].startswith("union_tag"):
        path = f"{path}.{_discriminator(raw)}"
    return path.removeprefix(".")


def _is_member(here: Mapping[Any, Any], part: object, after: object) -> bool:
    """Whether a step names a member of a union, though it looks like a key: the next is a key beside it."""
    inside = here[part]
    section = isinstance(inside, Mapping) and (after in inside or here.get("kind") != part)
    return after in here and not section


def _discriminator(raw: Any) -> str:  # noqa: ANN401
    return str(raw.get("ctx", {}).get("discriminator", "kind")).strip("'")


def _words(raw: Any, root: Node) -> str:  # noqa: ANN401
    """What is wrong, without the path."""
    kind, place, given = str(raw["type"]), raw["loc"], shown(raw["input"])
    if kind == "extra_forbidden":
        known = near(place[-1], _node(root, place[:-1]).get("properties", {}), "see `ziggurat schema`")
        return f"unknown key (value {given}); remove it or write another; {known}"
    if kind == "missing":
        meaning = str(_node(root, place).get("description", "")).rstrip(".")
        return f"missing; give it ({meaning})" if meaning else "missing; give it"
    if kind.startswith("union_tag"):
        return _kind_words(raw, list(_node(root, place).get("discriminator", {}).get("mapping", {})))
    if kind == "invalid_key":
        return "a key must be text; put it in quotes"
    if kind in {"value_error", "assertion_error"}:
        message = str(raw["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        told = isinstance(raw["input"], dict | list) or str(raw["input"]) in message
        return message if told else f"{message} (given: {given})"
    return f"must be {_needed(raw)} (given: {given})"


def _kind_words(raw: Any, kinds: Sequence[str]) -> str:  # noqa: ANN401
    """An alternative that is not named, or not known."""
    if raw["type"] == "union_tag_not_found":
        return f"missing; give one of {', '.join(kinds)}"
    tag = raw["ctx"]["tag"]
    return f"unknown '{tag}'; known: {', '.join(kinds)}"


def _needed(raw: Any) -> str:  # noqa: ANN401
    """What a value must be, for pydantic's own rules."""
    kind, context = str(raw["type"]), raw.get("ctx", {})
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        return f"{words} {context[key]:g}"
    if kind in {"too_short", "too_long", "string_too_short", "string_too_long"}:
        what, unit = ("text", "characters") if kind.startswith("string") else ("a list", "items")
        low = context.get("min_length")
        bound = f"at most {context['max_length']}" if low is None else f"{low} or more"
        return f"{what} with {bound} {unit}"
    if kind in {"literal_error", "enum"}:
        return f"{context['expected']}"
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    if kind == "int_from_float":
        return "a whole number"
    family = next((f for f in sorted(_NEEDED, key=len, reverse=True) if kind.startswith(f)), None)
    return _NEEDED[family] if family else f"otherwise: {raw['msg']}"


def _node(root: Node, place: Sequence[Any]) -> Node:
    """The part of a JSON Schema behind pydantic's path; empty if there is none."""
    here: Node = _resolved(root, root)
    for part in place:
        here = _resolved(_inside(here, part, root), root)
    return here


def _resolved(node: Node, root: Node) -> Node:
    """Behind references, the `null` of an optional value, and the text that is short for a mapping."""
    while True:
        options = [o for o in node.get("anyOf", []) if o.get("type") != "null"]
        options = [o for o in options if "$ref" in o] or options if {"type": "string"} in options else options
        if "$ref" in node:
            own = {k: v for k, v in node.items() if k != "$ref"}
            node = {**root["$defs"][str(node["$ref"]).rpartition("/")[2]], **own}
        elif len(options) == 1:
            node = {**options[0], **{k: v for k, v in node.items() if k != "anyOf"}}
        else:
            return node


def _inside(node: Node, part: object, root: Node) -> Node:
    """One step down: into a property, an item, or an alternative by its tag or name."""
    if isinstance(part, int):
        lists = [o for o in (node, *node.get("anyOf", [])) if "items" in o]
        return lists[0]["items"] if lists else {}
    if part in node.get("properties", {}):
        return node["properties"][part]  # type: ignore[no-any-return]
    if part in node.get("discriminator", {}).get("mapping", {}):
        return {"$ref": node["discriminator"]["mapping"][part]}
    for option in (*node.get("oneOf", []), *node.get("anyOf", [])):
        behind = _resolved(option, root)
        if str(behind.get("title", "")).lower() == str(part).lower():
            return behind
    extra = node.get("additionalProperties")
    # a name without a place of its own is one of pydantic's inner steps
    return extra if isinstance(extra, dict) else node
