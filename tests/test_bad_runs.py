"""Bad input that only a run finds out: data, models, limits, a full disk, two controllers, a torn journal."""

import os
import resource
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from flows import cli
from tests import bad, real
from ziggurat import runs
from ziggurat.errors import RunBusyError
from ziggurat.events import SegmentFinished
from ziggurat.inspection import Check, inspect
from ziggurat.jobs import Desk
from ziggurat.journal import read_events
from ziggurat.stages.preflight import line as line_of

ROOT = Path(__file__).resolve().parents[1]
ACCURACY = {"metric": "val_accuracy", "reference": 0.1}
MODULE = """
import torch
from torch import nn

thing = 3


def breaks(choices):
    raise ValueError("no such luck")


def number(choices):
    return 3


def narrow(choices):
    return nn.Linear(7, 10)


def undefined(choices):
    model = nn.Linear(64, 10)
    nn.init.constant_(model.weight, float("nan"))
    return model


def greedy(one, two, three):
    return None


def lists():
    return [1, 2], [0, 1]
"""
PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with a user's module, bad_models."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "bad_models.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield folder


def complaints(home: Path, **changes: Any) -> list[str]:
    """The failed checks of a preflight, done at a worker's desk in this process."""
    run = real.create(home / "runs", real.plain(**changes))
    try:
        found = inspect(Desk(run.folder, "service"), 3)
    finally:
        run.close()
        run.remove()
    return [line_of(check) for check in (Check(**c) for c in found["checks"]) if check.ok is False]


def space(function: str) -> dict[str, Any]:
    choices = {"kind": "python", "function": function, "choices": {"width": [8, 16]}}
    return {"space": {**choices, "hyperparameters": {"learning_rate": {"min": 0.01, "max": 0.03}}}}


def trainer(**changes: Any) -> dict[str, Any]:
    return {"search": {**real.plain()["search"], "trainer": {"kind": "lightning", **changes}}}


def limit(metric: str, value: float) -> dict[str, Any]:
    return {"objectives": [ACCURACY, {"metric": metric, "reference": 3000, "limit": value}]}


FOUND = {
    "no candidate is small enough": (
        limit("parameters", 10),
        "none of 1000",
        "parameters 10",
        "from 310",
        "raise",
    ),
    "no candidate is fast enough": (
        limit("latency_p50_ms", 1e-6),
        "none of 1000",
        "latency_p50_ms 1e-06",
        "the best",
    ),
    "no candidate is frugal enough": (
        limit("peak_memory_mb", 1e-6),
        "none of 1000",
        "peak_memory_mb",
        "widen",
    ),
    "no module": (space("bad_nowhere:build"), "space.function", "'bad_nowhere:build'", "correct the name"),
    "no function": (space("bad_models:build"), "space.function", "'bad_models:build'", "define it there"),
    "no function but a number": (space("bad_models:thing"), "space.function", "int", "name a function"),
    "a function of three": (space("bad_models:greedy"), "space.function", "(choices)", "let it take"),
    "a function that breaks": (
        space("bad_models:breaks"),
        "space:",
        "12 of 12",
        "ValueError: no such luck",
        "fix",
    ),
    "a function that builds a number": (space("bad_models:number"), "space:", "a int", "return an nn.Module"),
    "a model for other data": (
        space("bad_models:narrow"),
        "space:",
        "12 of 12",
        "cannot be multiplied",
        "(64,)",
    ),
    "a model that is not finite": (space("bad_models:undefined"), "space:", "not finite", "initialised"),
    "images wanted": ({"space": {"kind": "cnn"}}, "space.kind is 'cnn'", "(64,)", "data.image: true"),
    "an unknown optimiser": (
        trainer(optimizer={"name": "Adm"}),
        "search.trainer.optimizer.name is 'Adm'",
        "did you mean Adam",
    ),
    "an unknown argument": (
        trainer(optimizer={"arguments": {"betta": 1}}),
        "search.trainer.optimizer.arguments",
        "'betta'",
        "did you mean betas",
    ),
    "an argument that is a field": (
        trainer(optimizer={"arguments": {"lr": 1}}),
        "'lr'",
        "give search.trainer.learning_rate instead",
    ),
    "an unknown schedule": (
        trainer(schedule={"name": "Cosine"}),
        "search.trainer.schedule.name is 'Cosine'",
        "CosineAnnealingLR",
    ),
    "an unknown optimiser of the full recipe": (
        {"retrain": {"k": 1, "trainer": {"kind": "lightning", "optimizer": {"name": "Adm"}}}},
        "retrain.trainer.optimizer.name is 'Adm'",
    ),
    "a GPU that is absent": ({"devices": [{"device": "cuda:99"}]}, "devices", "'cuda:99'", "use device: cpu"),
    "no such folder": (
        {"data": {"kind": "idx", "directory": "nowhere"}},
        "data.directory is 'nowhere'",
        "No such",
    ),
    "no such file": (
        {"data": {"kind": "npz", "path": "nowhere.npz"}},
        "data.path is 'nowhere.npz'",
        "correct",
    ),
    "no data function": (
        {"data": {"kind": "python", "function": "bad_models:x"}},
        "data.function",
        "define it",
    ),
    "a data function that returns lists": (
        {"data": {"kind": "python", "function": "bad_models:lists"}},
        "data.function 'bad_models:lists'",
        "x as list",
        "return NumPy arrays or tensors",
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_preflight_finds_it_and_says_so_in_one_line(case: str, home: Path) -> None:
    changes, *words = FOUND[case]
    (line,) = complaints(home, **changes)
    bad.hold(line, *words)
    assert "\n" not in line


def test_every_failed_check_of_a_preflight_has_its_line(home: Path) -> None:
    changes = {
        **trainer(optimizer={"name": "Adm"}),
        "devices": [{"device": "cuda:99"}],
        **space("bad_models:x"),
    }
    found = complaints(home, **changes)
    assert len(found) == 3
    for line, word in zip(found, ("space.function", "search.trainer", "devices"), strict=True):
        assert word in line


def idx(folder: Path, labels: np.ndarray, *, cut: int = 0, start: bytes = b"\0\0") -> Mapping[str, Any]:
    """An IDX directory of 4 x 4 images, with labels; its images can be cut short or begin otherwise."""
    folder.mkdir()
    images = np.zeros((len(labels), 4, 4), np.uint8)
    content = start + struct.pack(">2B3I", 8, 3, *images.shape) + images.tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(content[: len(content) - cut])
    header = struct.pack(">4BI", 0, 0, 8, 1, len(labels))
    (folder / "train-labels-idx1-ubyte").write_bytes(header + labels.astype(np.uint8).tobytes())
    return {"kind": "idx", "directory": str(folder)}


def npz(path: Path, labels: np.ndarray, **changes: np.ndarray) -> Mapping[str, Any]:
    """A file of 8 numbers an example, with labels; changes replace or add arrays."""
    x = np.random.default_rng(0).random((len(labels), 8))
    np.savez(path, **{"x": x, "y": labels, **changes})
    return {"kind": "npz", "path": str(path)}


FIVE = np.arange(100) % 5
FILES: dict[str, tuple[Callable[[Path], Mapping[str, Any]], tuple[str, ...]]] = {
    "images that are something else": (
        lambda p: idx(p / "d", FIVE, start=b"hi"),
        ("idx3", "0x6869", "give an IDX file"),
    ),
    "images cut short": (lambda p: idx(p / "d", FIVE, cut=7), ("idx3", "1600 bytes", "1593", "get it again")),
    "labels from a hundred": (
        lambda p: idx(p / "d", FIVE + 100),
        ("100 and 104", "0 to classes - 1", "label_offset"),
    ),
    "labels below zero": (lambda p: npz(p / "a.npz", FIVE - 1), ("a.npz", "down to -1", "renumber")),
    "labels that are fractions": (lambda p: npz(p / "a.npz", FIVE / 5), ("a.npz", "float64", "convert them")),
    "one class": (lambda p: npz(p / "a.npz", FIVE * 0), ("a.npz", "at least 2 classes", "give other data")),
    "other names": (lambda p: npz(p / "a.npz", FIVE, x=FIVE[:9]), ("a.npz", "(9,)")),
    "objects of Python": (
        lambda p: npz(p / "a.npz", FIVE, x=np.array([{}] * 100, dtype=object)),
        ("a.npz", "'x'", "never loaded", "plain numbers"),
    ),
    "numbers that are none": (
        lambda p: npz(p / "a.npz", FIVE, x=np.full((100, 8), np.nan)),
        ("a.npz", "800 of 800", "replace or remove them"),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_unusable_data_are_named_with_their_file(case: str, home: Path, tmp_path: Path) -> None:
    make, words = FILES[case]
    (line,) = complaints(home, data=make(tmp_path))
    bad.hold(line, str(tmp_path), *words)


def started(tmp_path: Path) -> Path:
    """The directory of a run with a few events, which nobody drives."""
    run = real.create(tmp_path / "runs", real.plain())
    run.check_stop()
    for _ in range(3):
        run.finish(runs.RunStatus.INTERRUPTED, "for the test")
    run.close()
    return run.folder


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """The lines of a command in this process that ends with exit code 2."""
    capsys.readouterr()
    code = cli.guarded(lambda: cli.app(list(argv), prog_name="ziggurat", standalone_mode=False))
    said = capsys.readouterr()
    assert code == cli.Exit.BAD_INPUT, said.err or said.out
    return bad.lines(said.err)


def test_second_controller_is_refused_and_the_first_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = started(tmp_path)
    code = (
        "import sys; from pathlib import Path; from ziggurat import runs\n"
        "run = runs.open_run(Path(sys.argv[1])); print('taken', flush=True)\n"
        "sys.stdin.read(); run.finish(runs.RunStatus.INTERRUPTED); run.close()"
    )
    argv = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "taken\n"
        before = (folder / "journal.jsonl").read_bytes()
        (line,) = refused(capsys, "resume", str(folder))
        bad.hold(line, str(folder), f"process {first.pid}", "wait for it or stop it")
        with pytest.raises(RunBusyError):
            runs.open_run(folder)
        assert (folder / "journal.jsonl").read_bytes() == before
        assert cli.guarded(lambda: cli.app(["status", str(folder)], standalone_mode=False)) == cli.Exit.OK
        first.communicate("", timeout=PATIENCE_S)
    assert first.returncode == 0
    assert len(list(read_events(folder / "journal.jsonl"))) == 6, (
        "taken by the first once, and finished by it"
    )


@pytest.mark.parametrize(
    "line",
    [
        b"not json\n",
        b'{"v": 1}\n',
        b"\xff\xfe\n",
        b"\n",
        b'{"v":1,"seq":9,"utc":0,"run_id":"x","type":"?"}\n',
    ],
)
def test_corrupt_line_in_the_middle_of_a_journal_is_named_and_kept(
    line: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = started(tmp_path)
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], line, *lines[2:]]))
    before = path.read_bytes()
    for command in ("resume", "status", "trials", "pareto", "report"):
        (said,) = refused(capsys, command, str(folder))
        bad.hold(said, str(path), "line 3", "restore the file from a copy")
    assert path.read_bytes() == before
    assert not (folder / "report").exists()


def test_missing_line_of_a_journal_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = started(tmp_path)
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:1], *lines[2:]]))
    (said,) = refused(capsys, "resume", str(folder))
    bad.hold(said, str(path), "line 2", "sequence number 2, expected 1")


def test_journal_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = started(tmp_path)
    (folder / "journal.jsonl").unlink()
    (folder / "journal.jsonl").mkdir()
    for command in ("status", "resume", "report"):
        (said,) = refused(capsys, command, str(folder))
        bad.hold(said, str(folder / "journal.jsonl"), "directory")


def test_spec_of_a_run_that_was_spoilt_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = started(tmp_path)
    plain = yaml.safe_load((folder / "spec.yaml").read_text())
    (folder / "spec.yaml").write_text(yaml.safe_dump({**plain, "seed": "x"}))
    for command in ("status", "resume"):
        (said,) = refused(capsys, command, str(folder))
        bad.hold(said, str(folder / "spec.yaml"), "seed", "'x'")


def test_run_that_cannot_be_created_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk: no file of the process may grow beyond some bytes."""
    code = (
        "import resource, sys; from flows import cli\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500)); sys.exit(cli.main())"
    )
    argv = [
        sys.executable,
        "-c",
        code,
        "run",
        str(ROOT / "examples/digits.yaml"),
        "--runs-dir",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == cli.Exit.BAD_INPUT
    (line,) = bad.lines(done.stderr)
    bad.hold(line, f"--runs-dir {tmp_path}/runs", "cannot be written", "File too large")
    assert list(tmp_path.iterdir()) == []


def test_journal_that_cannot_grow_keeps_what_it_had(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from ziggurat import errors, runs\n"
        "run = runs.open_run(Path(sys.argv[1])); size = (run.folder / 'journal.jsonl').stat().st_size + 10\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "try: run.finish(runs.RunStatus.FAILED, 'x' * 1000)\n"
        "except errors.JournalError as error: print(error)\n"
    )
    folder = started(tmp_path)
    argv = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert "cannot be written (No space left on device); free some space, then resume" in done.stdout, (
        done.stderr
    )
    events = [event for event, _ in read_events(folder / "journal.jsonl")]
    assert [e.seq for e in events] == [0, 1, 2, 3, 4]
    assert (folder / "journal.jsonl").read_bytes().endswith(b"\n")


def command(*argv: str, folder: Path) -> subprocess.Popen[str]:
    """The real command, with its embedded Prefect server; all share a home, so its database is made once."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole = [sys.executable, "-m", "flows.cli", *argv]
    return subprocess.Popen(
        whole, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.soak
def test_run_that_fails_its_preflight_is_removed(tmp_path: Path) -> None:
    changes = {**limit("parameters", 10), "search": {"trials": 3, "workers": 1}}
    settings = real.plain(**changes, tracking={}, alerts={"urls": ["nonsense"]})
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(settings))
    process = command("run", "spec.yaml", "--runs-dir", "runs", folder=tmp_path)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == cli.Exit.BAD_INPUT, said
    found = bad.lines("\n".join(text for text in said.splitlines() if not text.startswith("[")))
    assert len(found) == 2
    bad.hold(found[0], "alerts.urls[0]", "write it as its service demands")
    bad.hold(found[1], "parameters 10", "none of 1000", "raise the limit or widen the space")
    assert [p.name for p in tmp_path.iterdir()] == ["spec.yaml"], "no run, no MLflow database"


@pytest.mark.slow
def test_preflight_command_says_what_fails_and_creates_nothing(tmp_path: Path) -> None:
    settings = real.plain(data={"kind": "idx", "directory": "nowhere"})
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(settings))
    process = command("preflight", "spec.yaml", folder=tmp_path)
    out, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == cli.Exit.BAD_INPUT, said
    assert "Traceback" not in out + said
    (line,) = [text for text in out.splitlines() if text.startswith("FAIL")]
    bad.hold(line, "data.directory is 'nowhere'", "give a directory with IDX files")
    assert [p.name for p in tmp_path.iterdir()] == ["spec.yaml"]


@pytest.mark.soak
def test_run_on_a_full_disk_ends_in_one_line_and_resumes_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = {"searcher": {"kind": "sobol"}, "trials": 3, "workers": 1}
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(real.plain(search=search)))
    process = command("run", "spec.yaml", "--runs-dir", "runs", folder=tmp_path)
    journal = until_searching(tmp_path / "runs", process)
    # the journal's disk is full: the controller's files cannot grow beyond what they are
    size = journal.stat().st_size
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == cli.Exit.BAD_INPUT, said
    (line,) = bad.lines("\n".join(text for text in said.splitlines() if not text.startswith("[")))
    bad.hold(line, str(journal), "cannot be written", "free some space, then resume")
    kept = journal.read_bytes()
    assert kept.endswith(b"\n")
    real.until(lambda: not any(is_of(p, journal.parent) for p in psutil.process_iter()))

    # there is space again, as this process has no such limit: all stages, without another server
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with real.session(runs.open_run(journal.parent)) as here:
        real.whole(here)
        assert here.run.history.status is runs.RunStatus.COMPLETED
    assert journal.read_bytes().startswith(kept), "what was paid for is still there"
    ends = [e.body for e in real.events(journal.parent) if isinstance(e.body, SegmentFinished)]
    finished = [end.job for end in ends]
    assert len(finished) == len(set(finished))


def is_of(process: psutil.Process, folder: Path) -> bool:
    """Whether a living process was started for a run directory."""
    try:
        return str(folder) in " ".join(process.cmdline())
    except psutil.Error:
        return False


def until_searching(folder: Path, process: subprocess.Popen[str]) -> Path:
    """The journal of the only run in a directory, once its search has finished a segment."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        for path in folder.glob("*/journal.jsonl"):
            if b'"segment_finished"' in path.read_bytes():
                return path
        time.sleep(0.02)
    process.kill()
    pytest.fail("the search has finished no segment")
