"""The commands, settings, files and links of docs/deploying.md exist."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

from tests.test_readme import blocks, commands, faults_of_ziggurat, targets, title, ziggurat
from ziggurat import spec as specs
from ziggurat.spec_files import expand

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs/deploying.md").read_text(encoding="utf-8")
COMMANDS = commands(TEXT)
COMPOSE = yaml.safe_load((ROOT / "infra/compose.yaml").read_text(encoding="utf-8"))
OF_THE_WORKER = COMPOSE["services"]["worker"]["environment"]
VARIABLES = {k: v for k, v in OF_THE_WORKER.items() if v and "$" not in v} | {
    "ALERT_URL": "json://127.0.0.1:9/x"
}
"""What compose.yaml gives the worker, and an address as .env may have one."""


@pytest.mark.parametrize("words", [w for w in COMMANDS if w[0] == "ziggurat"], ids=title)
def test_command_of_the_page_exists(words):
    assert faults_of_ziggurat(words[1:], ziggurat()) == []


def test_targets_and_services_of_the_page_exist():
    wanted = {w for words in COMMANDS if words[0] == "make" for w in words[1:]}
    assert wanted <= targets((ROOT / "Makefile").read_text())
    used = {words[words.index("exec") + 1] for words in COMMANDS if "exec" in words}
    assert used <= set(COMPOSE["services"])


@pytest.mark.parametrize("block", blocks(TEXT, "yaml"))
def test_settings_of_the_page_are_settings(block):
    raw = specs.read(ROOT / "examples/digits.yaml")[1]
    spec = specs.parse({**raw, **expand(yaml.safe_load(block), VARIABLES)}, "docs/deploying.md")
    assert spec.launcher.kind in TEXT


def test_the_example_of_the_server_is_a_spec_with_what_its_worker_knows(monkeypatch):
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    spec, _ = specs.read(ROOT / "infra/specs/digits.yaml")
    assert unquote(spec.store.url("RUN")) == "s3://runs/ziggurat/RUN?endpoint=http://store:8333"
    assert spec.tracking.uri == "http://mlflow:5000"


def test_files_and_links_of_the_page_lead_somewhere():
    named = set(re.findall(r"(?:infra|tests|examples)/[\w./-]+\w", TEXT))
    assert named
    assert [n for n in sorted(named) if not (ROOT / n).exists()] == []
    links = re.findall(r"\]\(([^)#\s:]+\.md)(?:#([\w-]+))?\)", TEXT)
    assert {link for link, _ in links} >= {
        "prefect.md",
        "alerts.md",
        "money.md",
        "launchers.md",
        "storage.md",
    }
    for link, part in links:
        text = (ROOT / "docs" / link).read_text(encoding="utf-8")
        heads = [h.lower().replace(" ", "-") for h in re.findall(r"^#+ ([\w ]+)$", text, re.MULTILINE)]
        assert not part or part in heads, f"{link}#{part}"


def test_every_place_of_the_table_has_its_part_and_says_what_was_tried():
    places = re.findall(r"^\| \[[^\]]+\]\(#([\w-]+)\)", TEXT, re.MULTILINE)
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    assert places == [part.splitlines()[0].lower().replace(" ", "-") for part in parts]
    assert [part.splitlines()[0] for part in parts if "**Tried:**" not in part] == []
