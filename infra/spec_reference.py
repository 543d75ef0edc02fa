"""Writes docs/spec.md, the reference of every key of a spec, from the JSON Schema of the settings.

python infra/spec_reference.py > docs/spec.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
# Every key of a spec

Written by `python infra/spec_reference.py > docs/spec.md` from the settings; a test holds them equal.
`ziggurat schema` prints the same as JSON Schema. Unknown keys are refused. A text may hold `${NAME}` or
`${NAME:default}` from the environment; `--set a.b=c` overrides a key (list items are numbered from 0).

A *choice* is a single value, a list (`[8, 16]`), `{values: [...]}`, or a range `{min, max, log, step}`;
`when:` names other choices and the value, the values or the `{min, max}` under which the choice exists.
"""
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "length ≥ {}",
    "minItems": "items ≥ {}",
    "maxItems": "items ≤ {}",
}
Schema = Mapping[str, Any]


class Reference:
    """The reference of one schema."""

    def __init__(self, schema: Schema) -> None:
        """Keep the schema and its definitions."""
        self.schema = schema
        self.definitions: Schema = schema.get("$defs", {})

    def text(self) -> str:
        """The whole page."""
        parts = [HEAD, "## Top level\n", self.table("", self.schema)]
        for key, field in self.schema["properties"].items():
            settings = list(self.settings(field))
            if settings:
                parts.append(f"## `{key}`\n")
                parts += [self.section(key, setting) for setting in settings]
        return "\n".join(part.rstrip() + "\n" for part in parts)

    def section(self, path: str, setting: Schema) -> str:
        """Keys of one setting under a path, with those of the settings inside it."""
        kind = setting.get("properties", {}).get("kind", {}).get("const")
        title = f"### `{path}` of kind `{kind}`\n\n" if kind else ""
        about = " ".join(str(setting.get("description", "")).split("\n\n")[0].split())
        return (
            f"{title}{about}\n\n{self.table(path, setting)}" if title or about else self.table(path, setting)
        )

    def table(self, path: str, setting: Schema) -> str:
        """Keys of a setting as a table."""
        rows = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
        rows += [
            f"| `{name}` | {self.values(field)} | {default(field, required=needed)} | {self.meaning(field)} |"
            for name, field, needed in self.fields(path, setting)
        ]
        return "\n".join(rows) + "\n"

    def fields(self, path: str, setting: Schema) -> Iterator[tuple[str, Schema, bool]]:
        """Keys with their dotted paths and whether they are required; inner settings follow their key."""
        for name, field in setting.get("properties", {}).items():
            here = f"{path}.{name}".strip(".")
            yield here, field, name in setting.get("required", ())
            # a launcher's own keys are explained once, under the run's
            if path and name != "launcher":
                for inner in self.settings(field):
                    kind = inner["properties"].get("kind", {}).get("const")
                    yield from self.fields(f"{here}({kind})" if kind else here, inner)

    def settings(self, field: Schema) -> Iterator[Schema]:
        """Settings that a field can hold, itself, as items or by names; choices, explained once, are none."""
        options = [*field.get("anyOf", ()), *field.get("oneOf", ())]
        inside = [field.get(inner) for inner in ("items", "additionalProperties")]
        options += [inner for inner in inside if isinstance(inner, Mapping)]
        for option in options:
            yield from self.settings(option)
        name = str(field.get("$ref", "")).rpartition("/")[2]
        found = self.definitions.get(name, {})
        if "properties" in found and name not in {"Values", "Range", "Between"}:
            yield found

    def values(self, field: Schema) -> str:
        """What may be given, with its bounds."""
        words = list(dict.fromkeys(self.kinds(field)))
        return " or ".join(words).replace("|", "\\|") or "any"

    def kinds(self, field: Schema) -> Iterator[str]:
        """Each type that a field can have."""
        if "const" in field:
            yield f"`{field['const']}`"
        elif "enum" in field:
            yield ", ".join(f"`{value}`" for value in field["enum"])
        elif "$ref" in field:
            yield from self.named(str(field["$ref"]).rpartition("/")[2])
        elif "anyOf" in field or "oneOf" in field:
            options = [*field.get("anyOf", ()), *field.get("oneOf", ())]
            short = any(str(o.get("$ref", "")).endswith(("/Values", "/Range")) for o in options)
            for option in options:
                # the short forms of a choice are explained with it
                if not short or "$ref" in option:
                    yield from self.kinds(option)
        else:
            yield self.plain(field)

    def named(self, name: str) -> Iterator[str]:
        """What a definition is called: a choice, an enumeration, a kind or a mapping."""
        found = self.definitions[name]
        if name in {"Values", "Range"}:
            yield "choice"
        elif "properties" not in found:
            yield from self.kinds(found)
        else:
            kind = found["properties"].get("kind", {}).get("const")
            yield f"kind `{kind}`" if kind else "mapping"

    def plain(self, field: Schema) -> str:
        """A type in words, with its bounds."""
        kind = str(field.get("type", "any"))
        if kind == "array":
            inner = self.values(field["items"]) if "items" in field else "any"
            kind = f"list of {inner}"
        elif kind == "object":
            item = field.get("additionalProperties")
            kind = f"mapping of names to {self.values(item)}" if isinstance(item, Mapping) else "mapping"
        bounds = [words.format(field[name]) for name, words in BOUNDS.items() if name in field]
        return " ".join([kind, ", ".join(bounds)]).strip()

    def meaning(self, field: Schema) -> str:
        """The description, or that of the setting the field holds."""
        inner = [str(s.get("description", "")) for s in self.settings(field)]
        text = field.get("description") or (
            inner[0] if len(inner) == 1 else "One of the kinds below." if inner else ""
        )
        return " ".join(str(text).split("\n\n")[0].split()).replace("|", "\\|")


def default(field: Schema, *, required: bool) -> str:
    """The default of a field; empty if pydantic makes it from settings of its own."""
    if required:
        return "required"
    if "default" not in field or isinstance(field["default"], dict):
        return ""
    return f"`{json.dumps(field['default'])}`"


def main() -> None:
    """Print the reference."""
    sys.path.insert(0, str(ROOT))
    from ziggurat import spec

    sys.stdout.write(Reference(spec.Spec.model_json_schema(by_alias=True)).text())


if __name__ == "__main__":
    main()
