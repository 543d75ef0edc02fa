"""The commands and settings in docs/prefect.md exist."""

from pathlib import Path

import pytest
import yaml

from tests.test_readme import blocks, commands, faults_of_ziggurat, title, ziggurat
from ziggurat import spec as specs

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/prefect.md").read_text(encoding="utf-8")
DEPLOYMENTS = yaml.safe_load((ROOT / "deployments/prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("words", [w for w in commands(TEXT) if w[0] == "ziggurat"], ids=title)
def test_command_of_the_page_exists(words):
    assert faults_of_ziggurat(words[1:], ziggurat()) == []


def test_every_deployment_is_in_the_table_and_none_besides():
    named = {line.split("`")[1] for line in TEXT.splitlines() if line.startswith("| `ziggurat/")}
    assert named == {f"ziggurat/{d['name']}" for d in DEPLOYMENTS}


@pytest.mark.parametrize("block", blocks(TEXT, "yaml"))
def test_settings_of_the_page_are_settings(block):
    raw = specs.read(ROOT / "examples/digits.yaml")[1]
    assert specs.parse({**raw, **yaml.safe_load(block)}, "page").retrain.approval.wanted
