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

from ziggurat.domain import RunStatus, TrialStatus
from ziggurat.events import RunStarted, TrialEnded
from ziggurat.listeners import Tracking, mlflow_client
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
    mirror = MlflowMirror(Tracking(tags={"team": "a"}), place, tmp_path, run.objectives)
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
    assert children[0].data.params == {"width": "8", "activation": "relu", "seed": "0"}
    assert children[0].data.metrics["cost_usd"] == pytest.approx(0.01)
    assert "loss is NaN" in children[3].data.tags["ziggurat.failure"]


def test_a_curve_has_one_point_for_each_epoch(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "curve", 1)
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
    run.feed(mirror)
    mirror.close(LONG_S)
    child = mirrored(place, "curve")[1][0]
    curve = mlflow_client.connect(place).get_metric_history(child.info.run_id, "val_accuracy")
    assert [m.step for m in curve] == [1, 2, 3]


def test_after_a_crash_the_rest_is_mirrored_without_duplicates(
    run: Any, place: Place, tmp_path: Path
) -> None:
    search(run, "crash")
    first = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
    for event in run.events[:14]:
        first(event, run.history)
    first.close(LONG_S)
    # the runs were made, but the note about the last of them never reached the disk
    cursor = json.loads((tmp_path / CURSOR).read_text())
    (tmp_path / CURSOR).write_text(json.dumps({**cursor, "mirrored": 3, "trials": {}}))
    before = len(run.events)
    run.add(RunStarted("toy", "0", "a" * 64, resumed=True))
    run.end()
    second = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
        mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
        mirror.replay(run.events)
        assert mirror.close(LONG_S) == 0
    assert sorted(mirrored(place, "lost")[1]) == [0, 1, 2, 3]


def test_what_is_mirrored_already_is_not_written_again(run: Any, place: Place, tmp_path: Path) -> None:
    search(run, "done")
    first = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
    first.replay(run.events)
    first.close(LONG_S)
    # a mark that a second writing would remove
    client = mlflow_client.connect(place)
    child = mirrored(place, "done")[1][0].info.run_id
    client.set_tag(child, "ziggurat.status", "by hand")
    second = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
    run.feed(mirror)
    mirror.close(LONG_S)
    parent, children = mirrored(place, "interrupted")
    assert (parent.info.status, children[0].info.status) == ("KILLED", "KILLED")
    before = len(run.events)
    run.begin(resumed=True)
    run.train(0, rung=1)
    again = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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
    mirror = MlflowMirror(Tracking(), place, tmp_path, run.objectives)
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


def test_an_unreachable_server_neither_blocks_nor_raises_and_is_told_once(
    run: Any, nowhere: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    search(run, "down", 20)
    with caplog.at_level(logging.WARNING, "ziggurat"):
        mirror = MlflowMirror(Tracking(), nowhere, tmp_path, run.objectives)
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
        mirror = MlflowMirror(Tracking(), moved, tmp_path, run.objectives)
        run.feed(mirror)
        until(lambda: "cannot be written" in caplog.text)
        copy.rmdir()
        shutil.copy(file, copy)
        assert mirror.close(LONG_S) == 0
    assert "can be written again" in caplog.text
    assert sorted(mirrored(moved, "outage")[1]) == [0, 1, 2, 3]
