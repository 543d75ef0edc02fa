"""Reading and changing a real registry, and fetching specs from runs: MLflow on SQLite."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.listeners.test_mlflow_promotion import facts
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.events import to_plain
from ziggurat.listeners import Tracking, mlflow_client, mlflow_versions
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_mirror import MlflowMirror
from ziggurat.listeners.mlflow_registry import LARGEST_SPEC, Registry
from ziggurat.listeners.mlflow_versions import FACTS, LONGEST

pytestmark = pytest.mark.slow


def register(place: Place, name: str, *found: Any) -> None:
    """A model with these versions; each is facts, or the text of their tag."""
    client = mlflow_client.connect(place)
    client.create_registered_model(name)
    for one in found:
        text = one if isinstance(one, str) else json.dumps(to_plain(one))
        plain = (
            {} if isinstance(one, str) else {"ziggurat.run_id": one.run_id, "ziggurat.trial": str(one.trial)}
        )
        tags = {FACTS: text, "ziggurat.model_format": "pt2", **plain}
        client.create_model_version(name, "file:///nowhere/model", tags=tags)


def test_facts_come_back_from_tags_as_they_were(place: Place) -> None:
    register(place, "round", facts())
    assert Registry(place).version("round", "1").facts == facts()


def test_an_alias_moves_with_its_reasons_and_nothing_else_does(place: Place) -> None:
    register(place, "moving", facts(), replace(facts(), trial=2))
    registry = Registry(place)
    assert registry.holder("moving", "champion") is None
    registry.promote(registry.version("moving", "1"), "champion", {"ziggurat.forced": "because"})
    registry.promote(registry.version("moving", "2"), "champion", {})
    held = registry.holder("moving", "champion")
    assert held is not None
    assert held.shown == "moving/2"
    tags = mlflow_client.connect(place).get_model_version("moving", "1").tags
    assert tags["ziggurat.forced"] == "because"


def test_the_version_of_a_trial_is_found(place: Place) -> None:
    register(place, "trials", facts(run_id="a"), facts(run_id="b"))
    assert Registry(place).of_trial("trials", "b", 1).number == "2"
    with pytest.raises(ZigguratError, match=r"no version of 'trials' of trial 7 of b"):
        Registry(place).of_trial("trials", "b", 7)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run_id": 3}', "x" * (LONGEST + 1), "[" * 3000])
def test_facts_that_make_no_sense_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(ZigguratError, match="cannot be read") as caught:
        mlflow_versions.read({FACTS: text}, "version 1 of 'm'")
    assert "\n" not in str(caught.value)


def test_a_version_of_somebody_else_is_named(place: Place) -> None:
    client = mlflow_client.connect(place)
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere/model")
    with pytest.raises(ZigguratError, match=r"has no tag ziggurat\.facts"):
        Registry(place).version("foreign", "1")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda r: r.version("nosuch", "1"), "version 1 of a model 'nosuch' cannot be read"),
        (lambda r: r.version("it's", "x"), "cannot be read"),
        (lambda r: r.holder("nosuch", "champion"), "model 'nosuch' cannot be read"),
        (lambda r: r.origin("a" * 32, Path("/tmp")), "run 'aaaa"),
    ],
)
def test_what_is_not_there_is_one_line(place: Place, ask: Any, words: str) -> None:
    with pytest.raises(ZigguratError, match=words) as caught:
        ask(Registry(place))
    assert "\n" not in str(caught.value)


def test_looking_makes_no_database(tmp_path: Path) -> None:
    with pytest.raises(ZigguratError, match="cannot be opened"):
        Registry(Place(f"sqlite:///{tmp_path}/none.db", ""))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def parent(run: Any, place: Place, tmp_path: Path) -> Any:
    """A mirrored run with a spec among its artifacts; the identities of its parent and of a child."""
    run.run_id = tmp_path.name
    run.begin()
    run.propose(0)
    run.train(0)
    run.end()
    folder = tmp_path / "run"
    folder.mkdir()
    mirror = MlflowMirror(Tracking(), place, folder, About(run.objectives, spec="name: toy\n"))
    mirror.replay(run.events)
    assert mirror.close(60) == 0
    plain = json.loads((folder / "mlflow.json").read_text())
    return plain["parent"], plain["trials"]["0"]


def test_a_spec_is_fetched_by_the_parent_or_by_a_trial(parent: Any, place: Place, tmp_path: Path) -> None:
    for run in parent:
        folder = tmp_path / run
        folder.mkdir()
        found = Registry(place).origin(run, folder)
        assert (found.run, found.spec, found.run_id) == (parent[0], "name: toy\n", tmp_path.name)
        assert found.sha256 == "a" * 64


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "a b", "x" * 90, "-rf"])
def test_what_is_no_identity_of_a_run_is_not_asked_for(place: Place, name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="not an identity"):
        Registry(place).origin(name, tmp_path)


def test_a_run_of_somebody_else_has_no_spec(place: Place, tmp_path: Path) -> None:
    run = mlflow_client.connect(place).create_run("0").info.run_id
    with pytest.raises(SpecError, match="not made by Ziggurat"):
        Registry(place).origin(run, tmp_path)


def artifact(place: Place, run: str) -> Path:
    """Where the spec of a run lies."""
    uri = mlflow_client.connect(place).get_run(run).info.artifact_uri
    return Path(uri.removeprefix("file://")) / "spec.yaml"


def test_a_spec_that_is_too_large_or_gone_is_refused(parent: Any, place: Place, tmp_path: Path) -> None:
    path = artifact(place, parent[0])
    path.write_text("#" * (LARGEST_SPEC + 1))
    with pytest.raises(SpecError, match=r"1,000,001 bytes"):
        Registry(place).origin(parent[0], tmp_path)
    path.unlink()
    with pytest.raises(SpecError, match=r"no artifact spec.yaml"):
        Registry(place).origin(parent[0], tmp_path)


def test_a_folder_in_place_of_the_spec_is_refused(parent: Any, place: Place, tmp_path: Path) -> None:
    path = artifact(place, parent[0])
    path.unlink()
    path.mkdir()
    (path / "x").symlink_to("/etc/passwd")
    with pytest.raises(SpecError, match=r"no artifact spec.yaml"):
        Registry(place).origin(parent[0], tmp_path)
