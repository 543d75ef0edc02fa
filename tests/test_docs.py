"""The reference of the spec is what the settings say, and names every key of the JSON Schema."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ziggurat import spec

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = (ROOT / "docs/spec.md").read_text(encoding="utf-8")
SAID_ONCE = {"Values", "Range", "Between"}
"""Shapes of a choice; the page explains them in words."""


def keys():
    """Every key of every setting in the JSON Schema, with the name of its setting."""
    schema = spec.schema()
    settings = {"Spec": schema, **schema["$defs"]}
    return [(name, key) for name, found in settings.items() for key in found.get("properties", {})]


@pytest.mark.parametrize(("setting", "key"), [k for k in keys() if k[0] not in SAID_ONCE])
def test_key_of_the_schema_is_in_the_reference(setting, key):
    assert re.search(rf"^\| `(?:[\w.()]+\.)?{re.escape(key)}` \|", REFERENCE, re.MULTILINE), (
        f"{setting}.{key}"
    )


@pytest.mark.parametrize("key", sorted({key for name, key in keys() if name in SAID_ONCE}))
def test_key_of_a_choice_is_explained(key):
    assert re.search(rf"\b{key}\b", REFERENCE.split("## Top level")[0])


def test_reference_is_what_the_settings_say_now():
    argv = [sys.executable, str(ROOT / "infra/spec_reference.py")]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == REFERENCE, "write it anew: python infra/spec_reference.py > docs/spec.md"


def test_every_kind_has_a_section():
    schema = spec.schema()
    kinds = {
        d["properties"]["kind"]["const"]
        for d in schema["$defs"].values()
        if "kind" in d.get("properties", {})
    }
    assert kinds
    assert {k for k in kinds if not re.search(rf"kind `{k}`|\({k}\)", REFERENCE)} == set()
