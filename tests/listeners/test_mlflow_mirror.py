"""The mirror, against a real MLflow on SQLite and against a port where nobody listens."""

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.servers.answers import answering
from ziggurat.domain import RunStatus, TrialStatus
from ziggurat.events import RunStarted, StageFinished, TrialEnded
from ziggurat.listeners import Tracking, mlflow_client
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_client import Place
from ziggurat.listeners.mlflow_mirror import CURSOR, MlflowMirror

LONG_S = 60.0


@pytest.fixture
def nowhere() -> Place:
    """The address of a server that does not exist."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Place(f"http://user:hunter2@127.0.0.1:{port}", "toy")


def mirrored(place: Place, run_id: str) -> tuple[Any, dict[int, Any]]:
    """The parent and all children of a run, duplicates refused."""
    client = mlflow_client.connect(place)
    experiment = mlflow_client.experiment_id(client, place)
    found = client.search_runs([experiment], f"tags.`ziggurat.run_id` = '{run_id}'", max_results=1000)
    parents = [r for r in found if r.data.tags["ziggurat.kind"] == "run"]
    children = [r for r in found if r.data.tags["ziggurat.kind"] == "trial"]
    numbers = [int(r.data.tags["ziggurat.trial"]) for r in children]
    assert len(parents) == 1
    assert len(set(numbers)) == len(numbers)
    return parents[0], dict(zip(numbers, children, strict=True))


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    deadline, clock = time.monotonic() + LONG_S, threading.Event()
    while not condition():
        assert time.monotonic() < deadline
        clock.wait(0.02)


def search(run: Any, run_id: str, trials: int = 3) -> Any:
    """A run with some good trials and a failed one."""
    run.run_id = run_id
    run.begin()
    for number in range(trials):
        run.propose(number, parameters=500 - number)
        run.train(number, accuracy=0.8 + 0.01 * number)
    run.propose(trials)
    run.fail(trials)
    return run


def test_a_run_becomes_one_parent_and_a_flat_level_of_children(
    run: Any, place: Place, tmp_path: Path
) -> None:
    search(run, "flat").propose(4, stage="retrain")
    run.train(4, accuracy=0.95)
    run.end()
    mirror = MlflowMirror(Tracking(tags={"team": "a"}), place, tmp_path, About(run.objectives))
    run.feed(mirror)
    assert mirror.close(LONG_S) == 0
    parent, children = mirrored(place, "flat")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_val_accuracy"] == pytest.approx(0.82)
    assert parent.data.metrics["best_parameters"] == 498
    assert parent.data.tags["team"] == "a"
    assert {n: c.info.status for n, c in children.items()} == {
        0: "FINISHED",
        1: "FINISHED",
        2: "FINISHED",
        3: "FAILED",
        4: "FINISHED",
    }
    tags = children[4].data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert tags["ziggurat.stage"] == "retrain"
    assert tags["ziggurat.candidate"] == run.history.trials[4].candidate.key
    assert children[0].data.params == {"width": "8", "activation": "relu", "epochs": "3"}
    assert children[0].data.metrics["cost_usd"] == pytest.approx(0.01)
    assert "loss is NaN" in children[3].data.tags["ziggurat.failure"]


def test_a_curve_has_one_point_for_each_epoch(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "curve", 1)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    run.feed(mirror)
    mirror.close(LONG_S)
    child = mirrored(place, "curve")[1][0]
    curve = mlflow_client.connect(place).get_metric_history(child.info.run_id, "val_accuracy")
    assert [m.step for m in curve] == [1, 2, 3]


def test_after_a_crash_the_rest_is_mirrored_without_duplicates(
    run: Any, place: Place, tmp_path: Path
) -> None:
    search(run, "crash")
    first = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    for event in run.events[:14]:
        first(event, run.history)
    first.close(LONG_S)
    # the runs were made, but the note about the last of them never reached the disk
    cursor = json.loads((tmp_path / CURSOR).read_text())
    (tmp_path / CURSOR).write_text(json.dumps({**cursor, "mirrored": 3, "trials": {}}))
    before = len(run.events)
    run.add(RunStarted("toy", "0", "a" * 64, resumed=True))
    run.end()
    second = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    second.replay(run.events[:before])
    run.feed(second, since=before)
    assert second.close(LONG_S) == 0
    parent, children = mirrored(place, "crash")
    assert sorted(children) == [0, 1, 2, 3]
    assert parent.info.status == "FINISHED"
    curve = mlflow_client.connect(place).get_metric_history(children[0].info.run_id, "val_accuracy")
    assert [m.step for m in curve] == [1, 2, 3]


def test_a_lost_or_broken_cursor_costs_time_but_no_duplicates(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "lost")
    for content in ("", "{broken"):
        (tmp_path / CURSOR).write_text(content)
        mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
        mirror.replay(run.events)
        assert mirror.close(LONG_S) == 0
    assert sorted(mirrored(place, "lost")[1]) == [0, 1, 2, 3]


def test_what_is_mirrored_already_is_not_written_again(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "done")
    first = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    first.replay(run.events)
    first.close(LONG_S)
    # a mark that a second writing would remove
    client = mlflow_client.connect(place)
    child = mirrored(place, "done")[1][0].info.run_id
    client.set_tag(child, "ziggurat.status", "by hand")
    second = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    second.replay(run.events)
    second.log_artifacts(tmp_path)
    assert second.close(LONG_S) == 0
    assert client.get_run(child).data.tags["ziggurat.status"] == "by hand"


def test_an_interrupted_run_leaves_no_child_running_and_its_resumption_goes_on(
    run: Any, place: Place, tmp_path: Path
) -> None:
    run.run_id = "interrupted"
    run.begin()
    run.propose(0, rungs=2)
    run.train(0)
    run.end(RunStatus.INTERRUPTED)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    run.feed(mirror)
    mirror.close(LONG_S)
    parent, children = mirrored(place, "interrupted")
    assert (parent.info.status, children[0].info.status) == ("KILLED", "KILLED")
    before = len(run.events)
    run.begin(resumed=True)
    run.train(0, rung=1)
    again = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    again.replay(run.events[:before])
    run.feed(again, since=before)
    again.close(LONG_S)
    parent, children = mirrored(place, "interrupted")
    assert (parent.info.status, children[0].info.status) == ("RUNNING", "FINISHED")


def test_a_folder_is_copied_to_the_parent(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "report", 1)
    report = tmp_path / "report"
    report.mkdir()
    (report / "front.json").write_text("{}")
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    run.feed(mirror)
    mirror.log_artifacts(report)
    mirror.log_artifacts(tmp_path / "missing")
    assert mirror.close(LONG_S) == 0
    client = mlflow_client.connect(place)
    parent = mirrored(place, "report")[0].info.run_id
    assert [f.path for f in client.list_artifacts(parent, "report")] == ["report/front.json"]


def test_files_of_a_model_lie_with_the_run_of_its_trial(
    run: Any, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(run, "files", 1)
    card = tmp_path / "model_card.md"
    card.write_text("# a card")
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    run.feed(mirror)
    mirror.log_files(0, [card])
    mirror.log_files(77, [card])
    assert mirror.close(LONG_S) == 0
    child = mirrored(place, "files")[1][0].info.run_id
    found = mlflow_client.connect(place).list_artifacts(child, "export")
    assert [f.path for f in found] == ["export/model_card.md"]
    assert "trial 77 has no run" in caplog.text


def test_a_child_deleted_by_hand_does_not_hold_up_the_others(
    run: Any, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(run, "deleted", 1)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.hurry(on=True)
    run.feed(mirror)
    until(lambda: not mirror.pending)
    mlflow_client.connect(place).delete_run(mirrored(place, "deleted")[1][0].info.run_id)
    before = len(run.events)
    run.propose(5)
    run.train(5)
    run.add(TrialEnded(0, TrialStatus.STOPPED))
    with caplog.at_level(logging.WARNING, "ziggurat"):
        run.feed(mirror, since=before)
        assert mirror.close(LONG_S) == 0
    assert "does not take trial 0" in caplog.text
    assert sorted(mirrored(place, "deleted")[1]) == [1, 5]


def test_a_parent_deleted_by_hand_is_made_anew_with_everything(
    run: Any, place: Place, tmp_path: Path
) -> None:
    search(run, "orphans", 2)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.hurry(on=True)
    run.feed(mirror)
    until(lambda: not mirror.pending)
    client = mlflow_client.connect(place)
    before, gone = len(run.events), mirrored(place, "orphans")[0].info.run_id
    client.delete_run(gone)
    run.propose(7)
    run.train(7)
    run.end()
    run.feed(mirror, since=before)
    assert mirror.close(LONG_S) == 0
    parent, children = mirrored(place, "orphans")
    assert parent.info.run_id != gone
    assert {c.data.tags["mlflow.parentRunId"] for c in children.values()} == {parent.info.run_id}
    curve = client.get_metric_history(parent.info.run_id, "spent_usd")
    assert [m.step for m in curve][:2] == [0, 1]
    assert client.get_metric_history(parent.info.run_id, "best_val_accuracy")[0].step == 1


def test_an_unreachable_server_neither_blocks_nor_raises_and_is_told_once(
    run: Any, nowhere: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(run, "down", 20)
    with caplog.at_level(logging.WARNING, "ziggurat"):
        mirror = MlflowMirror(Tracking(), nowhere, tmp_path, About(run.objectives))
        begun = time.perf_counter()
        run.feed(mirror)
        assert (time.perf_counter() - begun) / len(run.events) < 0.001
        until(lambda: "cannot be written" in caplog.text)
        begun = time.perf_counter()
        assert mirror.close(0.5) == len(run.events)
        assert time.perf_counter() - begun < 2
    assert caplog.text.count("cannot be written") == 1
    assert f"{len(run.events)} events are not in" in caplog.text
    assert "hunter2" not in caplog.text
    assert not (tmp_path / CURSOR).exists()


def test_after_an_outage_everything_arrives_and_the_return_is_told(
    run: Any, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(run, "outage")
    file = Path(place.uri.removeprefix("sqlite:///"))
    copy = tmp_path / "later.db"
    moved = Place(f"sqlite:///{copy}", place.experiment, place.artifact_root)
    copy.mkdir()
    with caplog.at_level(logging.WARNING, "ziggurat"):
        mirror = MlflowMirror(Tracking(), moved, tmp_path, About(run.objectives))
        run.feed(mirror)
        until(lambda: "cannot be written" in caplog.text)
        copy.rmdir()
        shutil.copy(file, copy)
        assert mirror.close(LONG_S) == 0
    assert "can be written again" in caplog.text
    assert sorted(mirrored(moved, "outage")[1]) == [0, 1, 2, 3]


def test_who_is_on_the_front_is_kept_true_as_it_changes(run: Any, place: Place, tmp_path: Path) -> None:
    run.run_id = "front"
    run.begin()
    run.propose(0, parameters=500)
    run.train(0, accuracy=0.8)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.hurry(on=True)
    run.feed(mirror)
    until(lambda: not mirror.pending)
    assert mirrored(place, "front")[1][0].data.tags["ziggurat.front"] == "yes"
    before = len(run.events)
    run.propose(1, parameters=400)
    run.train(1, accuracy=0.9)
    run.feed(mirror, since=before)
    assert mirror.close(LONG_S) == 0
    client = mlflow_client.connect(place)
    found = client.search_runs(
        [mlflow_client.experiment_id(client, place)],
        "tags.ziggurat.run_id = 'front' and tags.ziggurat.front = 'yes'",
    )
    assert [r.data.tags["ziggurat.trial"] for r in found] == ["1"]


def test_the_parent_has_spec_datasets_and_parameters(run: Any, place: Place, tmp_path: Path) -> None:
    run.run_id = "whole"
    run.begin()
    facts = {"fingerprint": "53fd", "train": 420, "validation": 90, "shape": "64"}
    run.add(StageFinished("preflight", "ok", facts))
    run.propose(0, stage="retrain")
    run.train(0)
    run.end()
    about = About(
        run.objectives, spec="name: toy\n", settings={"search": {"trials": 3}}, dataset="digits", source={}
    )
    mirror = MlflowMirror(Tracking(), place, tmp_path, about)
    mirror.replay(run.events)
    assert mirror.close(LONG_S) == 0
    parent, children = mirrored(place, "whole")
    assert parent.data.params == {"search.trials": "3"}
    for one in (parent, children[0]):
        found = {i.dataset.name: (i.dataset.digest, i.tags[0].value) for i in one.inputs.dataset_inputs}
        assert found == {"digits train": ("53fd", "training"), "digits validation": ("53fd", "validation")}
    client = mlflow_client.connect(place)
    assert [f.path for f in client.list_artifacts(parent.info.run_id)] == ["spec.yaml"]
    assert children[0].info.run_name == "trial 0, seed 0"


def test_the_use_of_machines_is_written_while_they_work(run: Any, place: Place, tmp_path: Path) -> None:
    run.run_id = "usage"
    run.begin()
    run.propose(0)
    run.plan(0)
    mirror = MlflowMirror(Tracking(), place, tmp_path, About(run.objectives))
    mirror.hurry(on=True)
    run.feed(mirror)
    until(lambda: not mirror.pending)
    child = mirrored(place, "usage")[1][0].info.run_id
    client = mlflow_client.connect(place)

    def written() -> list[Any]:
        return list(client.get_metric_history(child, "system/cpu_utilization_percentage"))

    mirror.sample(run.clock + 30, {0: {"cpu_utilisation": 0.5}, 9: {"cpu_utilisation": 0.1}})
    until(lambda: bool(written()))
    assert [(m.value, m.step) for m in written()] == [(50.0, 30)]
    mirror.close(LONG_S)


def test_a_deleted_experiment_is_told_once_and_caught_up_with_when_it_is_restored(
    run: Any, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = Place(place.uri, "binned", place.artifact_root)
    search(run, "binned", 1)
    mirror = MlflowMirror(Tracking(), here, tmp_path, About(run.objectives))
    mirror.hurry(on=True)
    with caplog.at_level(logging.WARNING, "ziggurat"):
        run.feed(mirror)
        until(lambda: not mirror.pending)
        client = mlflow_client.connect(here)
        experiment = mlflow_client.experiment_id(client, here)
        client.delete_experiment(experiment)
        before = len(run.events)
        run.propose(5)
        run.train(5)
        run.feed(mirror, since=before)
        until(lambda: mirror.down)
        client.restore_experiment(experiment)
        assert mirror.close(LONG_S) == 0
    assert caplog.text.count("cannot be written") == 1
    assert "can be written again" in caplog.text
    assert sorted(mirrored(here, "binned")[1]) == [0, 1, 5]


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, {"error_code": "PERMISSION_DENIED", "message": "not yours"}, "not yours"),
        (429, {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slowly"}, "429"),
        (500, {"error_code": "INTERNAL_ERROR", "message": "oops"}, "500"),
        (200, b"<html><body>Welcome to nginx</body></html>", "valid JSON"),
        (404, b"<html><body>no such page</body></html>", "404"),
    ],
)
def test_a_server_that_refuses_is_told_in_one_line_and_the_run_goes_on(
    run: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int, body: Any, words: str
) -> None:
    search(run, "refused", 2)
    with answering(lambda *_: (status, body)) as server, caplog.at_level(logging.WARNING, "ziggurat"):
        there = Place(f"http://user:hunter2@127.0.0.1:{server.port}", "toy")
        mirror = MlflowMirror(Tracking(), there, tmp_path, About(run.objectives))
        mirror.hurry(on=True)
        run.feed(mirror)
        until(lambda: mirror.down)
        assert mirror.close(0.2) == len(run.events)
    told = [r.getMessage() for r in caplog.records if "cannot be written" in r.getMessage()]
    assert len(told) == 1
    assert words in told[0]
    assert "\n" not in told[0]
    assert "hunter2" not in caplog.text


def test_files_that_cannot_be_copied_do_not_hold_up_events(
    run: Any, place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "blocked").write_text("a file where artifacts should go")
    there = Place(place.uri, "blocked", (tmp_path / "blocked").as_uri())
    search(run, "blocked", 1).end()
    mirror = MlflowMirror(Tracking(), there, tmp_path, About(run.objectives, spec="name: toy\n"))
    mirror.hurry(on=True)
    with caplog.at_level(logging.WARNING, "ziggurat"):
        mirror.replay(run.events)
        mirror.log_artifacts(tmp_path)
        until(lambda: "takes no files" in caplog.text)
        assert not mirror.behind
        assert not mirror.down
        assert mirror.close(0.2) == 1
    assert sorted(mirrored(there, "blocked")[1]) == [0, 1]
    assert caplog.text.count("takes no files") == 1
    assert "1 files or folders are not in" in caplog.text
