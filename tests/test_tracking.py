"""`ziggurat promote` and `ziggurat run --from-mlflow`, on a real MLflow in SQLite."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows import cli, tracking
from tests import real
from tests.listeners.conftest import place as place  # noqa: PLC0414 - a fixture
from tests.listeners.test_mlflow_promotion import facts
from tests.listeners.test_mlflow_registry import register
from ziggurat import publishing, runs
from ziggurat import spec as specs
from ziggurat.contexts import make_context
from ziggurat.domain import RunStatus
from ziggurat.listeners import mlflow_client
from ziggurat.listeners.mlflow_client import Place

pytestmark = pytest.mark.slow
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command line; its exit code, and what it says on both streams."""

    def run(*words: str) -> tuple[int, str, str]:
        code = cli.guarded(lambda: cli.app([*words], prog_name="ziggurat", standalone_mode=False))
        said = capsys.readouterr()
        return int(code), said.out, said.err

    return run


def champion(place: Place, name: str) -> str | None:
    """The version that is champion."""
    aliases = mlflow_client.connect(place).get_registered_model(name).aliases
    found = aliases.get("champion")
    return None if found is None else str(found)


def test_a_version_that_passes_its_checks_becomes_champion(place: Place, command: Command) -> None:
    register(place, "first", facts())
    code, out, _ = command("promote", "first/1", "--uri", place.uri)
    assert code == 0
    assert "first/1 is 'champion' now" in out
    assert "test_accuracy 0.9 on 1000 examples, evaluated once" in out
    assert champion(place, "first") == "1"
    tags = mlflow_client.connect(place).get_model_version("first", "1").tags
    assert tags["ziggurat.replaced"] == "nothing"
    assert "ziggurat.forced" not in tags
    assert {c["name"] for c in json.loads(tags["ziggurat.promotion"])} >= {"sealed test", "limit", "champion"}


def test_a_refusal_names_every_reason_and_changes_nothing(place: Place, command: Command) -> None:
    register(place, "second", facts(0.9), replace(facts(0.85, latency=9.0), trial=2))
    command("promote", "second/1", "--uri", place.uri)
    client = mlflow_client.connect(place)
    before = dict(client.get_model_version("second", "2").tags)
    code, out, _ = command("promote", "second/2", "--uri", place.uri)
    assert code == 1
    assert "latency_p50_ms 9, the limit is 5" in out
    assert "against second/1: test_accuracy 0.85 against 0.9" in out
    assert "refused, and nothing was changed" in out
    assert champion(place, "second") == "1"
    assert dict(client.get_model_version("second", "2").tags) == before


def test_force_promotes_and_keeps_the_reason_with_what_had_failed(place: Place, command: Command) -> None:
    register(place, "third", facts(0.9), replace(facts(0.85), trial=2))
    command("promote", "third/1", "--uri", place.uri)
    code, _, _ = command("promote", "third/2", "--uri", place.uri, "--force", "the old one leaks")
    assert code == 0
    tags = mlflow_client.connect(place).get_model_version("third", "2").tags
    assert tags["ziggurat.forced"] == "the old one leaks (in spite of: champion)"
    assert tags["ziggurat.replaced"] == "third/1"


def test_the_result_is_data_if_wanted(place: Place, command: Command) -> None:
    register(place, "data", facts(evaluations=0))
    code, out, _ = command("promote", "data/1", "--uri", place.uri, "--json")
    told = json.loads(out)
    assert (code, told["promoted"], told["version"]) == (1, False, "data/1")
    assert [c["name"] for c in told["checks"] if not c["ok"]] == ["sealed test"]


def test_who_is_champion_already_stays_so(place: Place, command: Command) -> None:
    register(place, "again", facts())
    command("promote", "again/1", "--uri", place.uri)
    code, out, _ = command("promote", "again@champion", "--uri", place.uri)
    assert (code, out.strip()) == (0, "again/1 is 'champion' already")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none/1"], "model 'none' cannot be read"),
        (["nowhere"], "no run directory"),
        (["m/1", "--alias", "v3"], "--alias 'v3'"),
        (["m/1", "--alias", "a b"], "--alias 'a b'"),
        (["m/1", "--force", " "], "--force needs a reason"),
        (["m/1", "--uri", "/tmp/folder"], "--uri: uri '/tmp/folder' is a folder"),
        (["m/1", "--uri", "ftp://u:hunter2@h/x"], "--uri: uri starts with 'ftp:'"),
        (["m/1", "--runs-dir", "/nowhere"], "/nowhere/mlflow.db: there is none"),
    ],
)
def test_bad_input_is_one_line(place: Place, command: Command, words: list[str], told: str) -> None:
    if "--uri" not in words and "--runs-dir" not in words:
        words = [*words, "--uri", place.uri]
    code, out, err = command("promote", *words)
    assert code in {1, 2}
    assert out == ""
    assert told in err or "version 1 of a model 'none' cannot be read" in err
    assert len(err.splitlines()) == 1
    assert "hunter2" not in err


@pytest.fixture
def tracked(place: Place, tmp_path: Path) -> Any:
    """A run that MLflow has, with a secret in its spec; its directory, and its parent's identity."""
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    shutil.copy(place.uri.removeprefix("sqlite:///"), runs_dir / "mlflow.db")
    alerts = {"urls": ["json://user:hunter2@127.0.0.1:9/x"]}
    run = real.create(runs_dir, real.plain(tracking={"enabled": True}, alerts=alerts))
    run.finish(RunStatus.INTERRUPTED)
    mirror = publishing.mirror_of(run.folder, run.spec)
    assert mirror is not None
    mirror.replay(real.events(run.folder))
    assert mirror.close(60) == 0
    run.close()
    return run, json.loads((run.folder / "mlflow.json").read_text())["parent"]


def first(spec: specs.Spec, run: runs.Run) -> list[Any]:
    """The first proposals of a run."""
    proposer: Any = spec.search.proposer
    return [p.candidate for p in proposer.propose_batch(make_context(spec, run.history, "search"), 4)]


def test_a_run_is_repeated_with_the_same_spec_and_the_same_proposals(
    tracked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, parent = tracked
    monkeypatch.setenv("ZIGGURAT_ALERTS_URLS_0", "json://user:hunter2@127.0.0.1:9/x")
    runs_dir = tmp_path / "runs"
    with tracking.source(None, parent, None, runs_dir) as found:
        assert "hunter2" not in found.path.read_text()
        spec, raw = specs.read(found.path)
    assert spec.sha256() == before.spec.sha256()
    again = runs.create(spec, raw, runs_dir)
    tracking.note_origin(again, found)
    assert first(spec, again) == first(before.spec, before)
    decision = again.history.decision("repeated")
    assert decision is not None
    assert (decision.verdict, decision.facts["same_spec"]) == (parent, True)
    assert f"repeating {before.run_id} with the same spec" in capsys.readouterr().err
    again.finish(RunStatus.INTERRUPTED)
    mirror = publishing.mirror_of(again.folder, spec)
    assert mirror is not None
    mirror.replay(real.events(again.folder))
    assert mirror.close(60) == 0
    again.close()
    client = mlflow_client.connect(Place(f"sqlite:///{runs_dir}/mlflow.db", ""))
    made = json.loads((again.folder / "mlflow.json").read_text())["parent"]
    assert client.get_run(made).data.tags["ziggurat.repeated_from"] == parent


def test_a_secret_that_is_not_set_is_asked_for_by_its_name(
    tracked: Any, tmp_path: Path, command: Command
) -> None:
    code, _, err = command("run", "--from-mlflow", tracked[1], "--runs-dir", str(tmp_path / "runs"))
    assert code == 2
    assert (
        f"spec of MLflow run {tracked[1]}: alerts.urls[0]: environment variable ZIGGURAT_ALERTS_URLS_0" in err
    )


def test_an_override_makes_it_another_spec(
    tracked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIGGURAT_ALERTS_URLS_0", "json://127.0.0.1:9/x")
    with tracking.source(None, tracked[1], None, tmp_path / "runs") as found:
        spec, raw = specs.read(found.path, ["search.trials=5"])
    again = runs.create(spec, raw, tmp_path / "runs")
    tracking.note_origin(again, found)
    decision = again.history.decision("repeated")
    assert decision is not None
    assert decision.facts["same_spec"] is False
    again.close()


@pytest.mark.parametrize("words", [[], ["spec.yaml", "--from-mlflow", "a" * 32]])
def test_a_spec_and_a_run_are_two_ways_of_which_one_is_named(command: Command, words: list[str]) -> None:
    code, _, err = command("run", *words)
    assert code == 2
    assert "name either a SPEC or --from-mlflow RUN_ID" in err
