"""Controllers that are killed, and what those who come after them find, repeat and pay."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.real import ROOT, create, events, front, plain, session, until, whole
from ziggurat import processes, runs, stages
from ziggurat.domain import FailureKind, JobKind
from ziggurat.errors import RunBusyError
from ziggurat.events import SegmentFinished, SegmentPlanned, SegmentStarted, TrialProposed
from ziggurat.history import History, fold
from ziggurat.launchers.results import result_path

pytestmark = pytest.mark.slow

SETTINGS = plain(
    data={"kind": "digits", "image": False},
    fidelities=[{"epochs": 2}, {"epochs": 6}],
    search={"searcher": {"kind": "sobol"}, "trials": 8, "workers": 2},
    retrain={"k": 2, "seeds": 1, "epochs": 4, "segment_epochs": 2},
)
# with these settings a search finds the same however many work at it, and workers are slow to start
ALONE = SETTINGS | {"search": SETTINGS["search"] | {"workers": 1}}
DRIVER = """
import sys
from pathlib import Path
from tests.real import session, whole
from ziggurat import runs

with session(runs.open_run(Path(sys.argv[1]))) as here:
    whole(here)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    with session(create(tmp_path_factory.mktemp("undisturbed"), SETTINGS)) as here:
        whole(here)
        return here.run.folder


def fresh(folder):
    """A run directory without a journal."""
    (folder / "trials").mkdir(parents=True)
    (folder / "spec.yaml").write_text(yaml.safe_dump(ALONE, sort_keys=False), encoding="utf-8")
    return folder


def drive(folder):
    """A controller in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines_with(folder, text):
    path = folder / "journal.jsonl"
    return path.read_text().count(text) if path.exists() else 0


def await_lines(folder, text, count):
    until(lambda: lines_with(folder, text) >= count)


def paid(history):
    """Finished segments by what they did."""
    ends = [s for s in history.segments.values() if s.end is not None and s.end.failure is None]
    return Counter((s.job.trial, s.job.kind, s.job.to_rung, s.job.device) for s in ends)


def cut(source, target, last):
    """A copy of a run whose journal ends with its event number `last`; one worker goes on with it."""
    shutil.copytree(source, target)
    spec = target / "spec.yaml"
    spec.write_text(spec.read_text().replace("workers: 2", "workers: 1"), encoding="utf-8")
    path = target / "journal.jsonl"
    text = path.read_text().splitlines(keepends=True)
    # an event belongs to its run, and the run to its directory
    path.write_text("".join(text[: last + 1]))
    return target


def test_a_killed_controller_leaves_no_worker_and_its_successors_finish_as_if_nothing_had_been(
    undisturbed, tmp_path
):
    folder = fresh(tmp_path / undisturbed.name)
    for text, count in [('"segment_finished"', 6), ('"stage":"retrain"', 3)]:
        wanted = max(count, lines_with(folder, text) + 1)
        controller = drive(folder)
        await_lines(folder, text, wanted)
        if count == 6:
            with pytest.raises(RunBusyError, match="is driven by process"):
                runs.open_run(folder)
        controller.send_signal(signal.SIGKILL)
        controller.wait()
        until(lambda: not processes.marked(f"{folder}::"))
    with session(runs.open_run(folder)) as here:
        whole(here)
    history, wanted = fold(events(folder)), fold(events(undisturbed))
    assert {name: end.verdict for name, end in history.stages.items()} == dict.fromkeys(
        history.stages, "ok"
    ) | {"validate": "skipped"}
    assert paid(history) == paid(wanted)
    assert set(paid(history).values()) == {1}
    assert not history.open_segments
    assert front(history) == front(wanted)
    assert [t.candidate for t in history.of_stage("search")] == [
        t.candidate for t in wanted.of_stage("search")
    ]
    for metric in ("val_accuracy", "val_loss", "train_loss", "flops"):  # the same to the last digit
        values = [[t.value(metric) for t in h.of_stage("search")] for h in (history, wanted)]
        assert values[0] == values[1], metric
    losses = [[t.value("val_loss") for t in h.of_stage("retrain")] for h in (history, wanted)]
    assert losses[0] == losses[1]
    assert len([d for d in history.decisions if d.kind == "unsealed"]) == 1
    assert {s.end.failure.kind for s in history.segments.values() if s.end.failure} <= {FailureKind.PREEMPTED}


def two_open(log):
    """Two trainings that are open at once, and the event that planned the second."""
    history = History()
    for event in log:
        history.apply(event)
        training = [key for key, s in history.open_segments.items() if s.job.kind is JobKind.TRAIN]
        if isinstance(event.body, SegmentPlanned) and len(training) == 2:
            return *training, event.seq
    raise AssertionError("no two trainings at once")


def test_what_a_dead_controller_left_is_taken_in_and_what_it_did_not_finish_is_tried_again(
    undisturbed, tmp_path
):
    log = events(undisturbed)
    left, lost, at = two_open(log)
    folder = cut(undisturbed, tmp_path / undisturbed.name, at)
    result_path(folder, lost).unlink()
    with session(runs.open_run(folder)) as here:
        history = here.run.history
        end = history.segments[left].end
        original = next(e.body for e in log if isinstance(e.body, SegmentFinished) and e.body.job == left)
        assert (end.failure, end.checkpoint) == (None, original.checkpoint)
        assert end.measurements == original.measurements
        assert 0 < end.seconds <= original.seconds + 0.1  # the controller saw the end a moment later
        end = history.segments[lost].end
        assert (end.failure.kind, end.retry) == (FailureKind.PREEMPTED, True)
        assert end.seconds >= 0
        assert history.trials[history.segments[lost].job.trial].attempt == 0
        # the journal ends before the results do: what follows is taken in as well, not repeated
        stages.search(here.engine)
        again = history.segments[lost.removesuffix("0") + "1"]
        assert again.end.failure is None
        before = fold(log[: at + 1]).segments
        trained = [s for s in history.segments.values() if s.job.kind is JobKind.TRAIN]
        assert len(trained) == 17
        after = {s.job.key: s.handle for s in trained if s.job.key not in before}
        assert [key for key, handle in after.items() if handle != "found"] == [again.job.key]
        assert front(history) == front(fold(log))


def test_a_result_of_another_candidate_is_not_taken_in(undisturbed, tmp_path):
    log = events(undisturbed)
    first = next(e for e in log if isinstance(e.body, SegmentStarted) and "-train-" in e.body.job)
    folder = cut(undisturbed, tmp_path / undisturbed.name, first.seq)
    path = result_path(folder, first.body.job)
    plain_ = json.loads(path.read_text())
    path.write_text(json.dumps({**plain_, "job": {**plain_["job"], "seed": plain_["job"]["seed"] + 1}}))
    with session(runs.open_run(folder)) as here:
        assert here.run.history.segments[first.body.job].end.failure.kind is FailureKind.PREEMPTED


def test_a_torn_last_line_is_dropped_and_the_run_goes_on(undisturbed, tmp_path):
    last = max(
        e.seq for e in events(undisturbed) if isinstance(e.body, TrialProposed) and e.body.stage == "search"
    )
    folder = cut(undisturbed, tmp_path / undisturbed.name, last)
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"v":1,"seq":')
    run = runs.open_run(folder)
    assert run.history.length == last + 2
    run.close()
    assert [e.seq for e in events(folder)] == list(range(last + 2))


def test_a_stopped_run_is_interrupted_and_goes_on_from_its_checkpoints(undisturbed, tmp_path):
    run = create(tmp_path, ALONE)
    folder = Path(run.folder)

    def stop(event, history):
        if isinstance(event.body, SegmentFinished) and len(history.segments) >= 4:
            run.stop.set()

    with session(run) as here:
        run.listeners.append(stop)
        with pytest.raises(runs.Interrupted):
            stages.search(here.engine)
        assert not run.history.open_segments
    with session(runs.open_run(folder)) as here:
        stages.search(here.engine)
        assert front(here.run.history) == front(fold(events(undisturbed)))
