"""What users meet of alerts on the command line: `doctor --alerts` and `watch`, and their words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from flows import cli
from tests import bad, real
from tests.real import ROOT, until
from tests.servers.mailbox import Hook, Mailbox
from ziggurat import lease

SILENCE_S = 15.0


def command(*argv: str) -> int:
    """The exit code of a command in this process."""
    return cli.guarded(lambda: cli.app([*argv], prog_name="ziggurat", standalone_mode=False))


def written(folder: Path, alerts: dict[str, Any], **changes: Any) -> str:
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(real.plain(alerts=alerts, **changes)))
    return str(path)


def test_doctor_sends_a_test_to_every_channel(
    tmp_path: Path,
    hook: Hook,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    spec = written(tmp_path, {"channels": {"ops": "${HOOK}"}, "urls": [mailbox.url]})
    assert command("doctor", "--alerts", spec) == cli.Exit.OK
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "alerts.urls[0] (scheme 'mailto'): arrived",
        "alerts.channels.ops (scheme 'json'): arrived",
    ]
    assert hook.titles == mailbox.titles == ["[small] Test of alerts"]


def test_doctor_names_the_channel_that_does_not_work_and_fails(
    tmp_path: Path, hook: Hook, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    hook.refusals = 100
    spec = written(tmp_path, {"channels": {"ops": "${HOOK}"}})
    assert command("doctor", "--alerts", spec) == cli.Exit.FAILED
    said = capsys.readouterr()
    assert "alerts.channels.ops (scheme 'json'): did NOT arrive" in said.out
    assert "hunter2" not in said.out + said.err
    assert command("doctor", "--alerts", spec, "--json") == cli.Exit.FAILED
    assert json.loads(capsys.readouterr().out) == {"ops": False}


@pytest.mark.parametrize(
    ("alerts", "words"),
    [
        ({}, ["names no channel", "alerts.channels"]),
        ({"channels": {"ops": "nonsense://hunter2"}}, ["alerts.channels.ops.url", "'nonsense'"]),
        ({"channels": {"ops": {"uri": "x"}}}, ["alerts.channels.ops.uri", "did you mean url?"]),
        ({"channels": {"ops": "${NOT_SET}"}}, ["NOT_SET is not set"]),
    ],
)
def test_doctor_says_in_a_line_what_is_wrong_with_the_channels(
    tmp_path: Path, alerts: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("doctor", "--alerts", written(tmp_path, alerts)) == cli.Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert "hunter2" not in said
    bad.hold(" ".join(bad.lines(said)), *words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], ["nowhere", "no such directory"]),
        ([".", "--every", "0"], ["--every", "greater than or equal to 1"]),
        ([".", "--url", "slackk://hunter2"], ["--url[0]", "'slackk'"]),
        ([".", "--url", "${NOT_SET}"], ["--url[0]", "NOT_SET is not set"]),
        (["s3://", "--once"], ["cannot be the name of a bucket"]),
    ],
)
def test_watch_says_in_a_line_what_is_wrong_with_its_arguments(
    argv: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("watch", *argv) == cli.Exit.BAD_INPUT
    said = capsys.readouterr().err
    assert "hunter2" not in said
    bad.hold(bad.lines(said)[0], *words)


def dead_run(folder: Path, url: str) -> Path:
    """A run whose controller has ended without finishing it."""
    run = real.create(folder / "runs", real.plain(alerts={"urls": [url]}))
    run.close()
    return run.folder


def test_watch_once_tells_lists_and_fails_if_a_run_is_dead(
    tmp_path: Path, hook: Hook, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = dead_run(tmp_path, hook.url)
    place = str(tmp_path / "runs")
    assert command("watch", place, "--once") == cli.Exit.FAILED
    assert capsys.readouterr().out.split()[:2] == [folder.name, "silent"]
    assert hook.titles == [f"[{folder.name}] The controller has ended without finishing the run"]
    assert command("watch", place, "--once", "--json") == cli.Exit.FAILED
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["run"], row["state"], row["pid"]) == (folder.name, "silent", os.getpid())
    assert len(hook.messages) == 1, "told once"


def test_watch_once_is_content_where_nothing_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("watch", str(tmp_path), "--once") == cli.Exit.OK
    assert "holds no run" in capsys.readouterr().out


LIVELY = {
    "data": {"kind": "digits", "image": False},
    "fidelities": [{"epochs": 40}],
    "search": {"searcher": {"kind": "sobol"}, "trials": 200, "workers": 1},
    "retrain": {"enabled": False},
}


@contextmanager
def started(*argv: str, folder: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command in a process of its own, which is ended if it has not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *argv],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def driven(folder: Path) -> Path:
    """The run directory, once its search trains."""

    def training() -> Path | None:
        found = [p for p in folder.glob("runs/*/journal.jsonl") if '"segment_started"' in p.read_text()]
        return found[0].parent if found else None

    deadline = time.monotonic() + 200
    while (found := training()) is None:
        assert time.monotonic() < deadline, "the search does not begin"
        time.sleep(0.2)
    return found


@pytest.mark.soak
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_real_run_that_is_killed_or_stopped_is_told_within_the_promised_time(
    tmp_path: Path, hook: Hook, how: signal.Signals
) -> None:
    alerts = {"channels": {"ops": "${HOOK}"}, "rules": {"controller_crashed": {"silence_s": SILENCE_S}}}
    written(tmp_path, alerts, **LIVELY)
    (tmp_path / "runs").mkdir()
    with (
        started("run", "spec.yaml", folder=tmp_path, HOOK=hook.url) as run,
        started("watch", "runs", "--every", "3", folder=tmp_path, HOOK=hook.url) as watch,
    ):
        folder = driven(tmp_path)
        titles = [title for title in hook.titles if "silent" in title]
        assert titles == []
        run.send_signal(how)
        begun = time.time()
        hook.wait_for(lambda messages: any("silent" in m.title for m in messages))
        alarm = next(m for m in hook.messages if "silent" in m.title)
        assert alarm.title == f"[{folder.name}] The controller is silent"
        assert alarm.utc - begun < SILENCE_S + 1
        if how == signal.SIGSTOP:
            run.send_signal(signal.SIGCONT)
            hook.wait_for(lambda messages: any("RESOLVED" in m.title for m in messages))
            return
        run.wait()
        with started("resume", folder=tmp_path, HOOK=hook.url) as again:
            hook.wait_for(lambda messages: any("RESOLVED" in m.title for m in messages))
            journal = folder / "journal.jsonl"
            until(lambda: journal.read_text().count('"resumed":true'))
            assert psutil.Process(again.pid).is_running()
            again.send_signal(signal.SIGTERM)
            again.communicate(timeout=120)
        assert "controller_crashed" not in journal.read_text(), "the watcher has told it"
        assert lease.from_bytes((folder / "lease.json").read_bytes()).status == "interrupted"
        watch.send_signal(signal.SIGTERM)
        said = watch.communicate(timeout=60)[0]
        assert watch.returncode == 0, said
        assert "alarm delivered to ops" in said
        assert "recovery delivered to ops" in said
        assert "hunter2" not in said
