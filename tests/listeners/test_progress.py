"""Progress views: plain lines, and the live view on a pseudo terminal."""

import io
import logging
import os
import pty
import re
import sys
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from ziggurat.domain import Goal, Objective
from ziggurat.events import Alert, Decided
from ziggurat.listeners.progress import Plain, progress
from ziggurat.listeners.progress_live import Live, draw
from ziggurat.listeners.progress_picture import Picture
from ziggurat.listeners.progress_words import Outline, clock, number, usd


@pytest.fixture
def outline(run: Any) -> Outline:
    return Outline(run.objectives, 40, 2, 1.0, "runs/toy-1", ("preflight", "search", "report"))


def fill(run: Any, trials: int = 8) -> None:
    run.begin()
    for i in range(trials):
        run.propose(i, rungs=2, parameters=500 + i)
        run.train(i, accuracy=0.5 + 0.01 * i)
        run.add(Decided("stopper", "pause" if i % 2 else "continue", i, 0, reason="rank"))
        if i % 2 == 0:
            run.train(i, rung=1, accuracy=0.6 + 0.01 * i)


def test_plain_writes_a_line_for_each_notable_event(run: Any, outline: Outline) -> None:
    fill(run, 2)
    run.propose(2)
    run.fail(2)
    run.add(Alert("budget_warning", "warning", "80% of the budget is spent"))
    run.end()
    stream = io.StringIO()
    run.feed(Plain(stream, outline))
    assert stream.getvalue().splitlines() == [
        "[   0:00] run toy-1 started in runs/toy-1",
        "[   0:00] stage search started",
        "[   0:10] trial 0 reached rung 0 of 1: val_accuracy 0.5, parameters 500 [10.0 s]",
        "[   0:10] trial 0 goes on to rung 1",
        "[   0:20] trial 0 reached rung 1 of 1: val_accuracy 0.6, parameters 500 [10.0 s]",
        "[   0:30] trial 1 reached rung 0 of 1: val_accuracy 0.51, parameters 501 [10.0 s]",
        "[   0:30] trial 1 paused at rung 0 (rank)",
        "[   0:31] trial 2: train failed (diverged: loss is NaN after epoch 2)",
        "[   0:31] trial 2 failed (diverged: loss is NaN after epoch 2)",
        "[   0:31] WARNING: 80% of the budget is spent",
        "[   0:31] stage search finished after 0:31, $0.0310 spent",
        "[   0:31] run completed, $0.0310 spent",
    ]


def test_a_closed_stream_does_not_end_the_run(run: Any, outline: Outline) -> None:
    fill(run, 1)
    stream = io.StringIO()
    stream.close()
    run.feed(Plain(stream, outline))


def test_only_a_terminal_gets_the_live_view(outline: Outline) -> None:
    assert isinstance(progress(io.StringIO(), outline), Plain)


def shown(picture: Picture, now_utc: float) -> str:
    console = Console(record=True, width=100, file=io.StringIO())
    console.print(draw(picture, now_utc))
    return console.export_text()


def test_the_live_view_shows_stages_counts_money_workers_and_the_front(run: Any, outline: Outline) -> None:
    fill(run)
    run.propose(8)
    run.plan(8)
    picture = Picture(outline)
    run.feed(picture.apply)
    text = shown(picture, run.clock + 5)
    assert "toy-1  running  2:05  runs/toy-1" in text
    assert "▸ search" in text
    assert "8/40" in text
    assert "4 completed" in text
    assert "4 paused" in text
    assert "$0.1200 of $1.00" in text
    assert "1/2 busy" in text
    assert "front of 4 trials" in text
    assert re.search(r"6 +0\.66 +506", text)


def test_the_front_holds_exactly_the_non_dominated_trials(run: Any, outline: Outline) -> None:
    run.begin()
    for i, (accuracy, parameters) in enumerate(
        [(0.8, 500), (0.7, 600), (0.9, 700), (0.9, 650), (0.6, 100), (0.9, 680)]
    ):
        run.propose(i, parameters=parameters)
        run.train(i, accuracy=accuracy)
    picture = Picture(outline)
    run.feed(picture.apply)
    assert [t.number for t in picture.front] == [3, 0, 4]


def test_a_trial_beyond_a_hard_limit_is_not_on_the_front(run: Any, outline: Outline) -> None:
    tight = (run.objectives[0], Objective("parameters", Goal.MINIMIZE, 10_000, limit=400))
    run.begin()
    run.propose(0, parameters=500)
    run.train(0)
    picture = Picture(replace(outline, objectives=tight))
    run.feed(picture.apply)
    assert picture.front == []


def test_a_view_that_joins_late_shows_the_same(run: Any, outline: Outline) -> None:
    fill(run)
    early, late = Picture(outline), Picture(outline)
    run.feed(early.apply)
    run.feed(late.apply, since=len(run.events) - 1)
    early.recent.clear()
    late.recent.clear()
    assert shown(early, run.clock) == shown(late, run.clock)


def test_an_event_costs_less_than_a_millisecond(run: Any, outline: Outline) -> None:
    fill(run, 200)
    for listener in (Plain(io.StringIO(), outline), Picture(outline).apply):
        begun = time.process_time()
        run.feed(listener)
        assert (time.process_time() - begun) / len(run.events) < 0.001


def test_on_a_terminal_prints_and_logs_survive_and_the_terminal_is_given_back(
    run: Any, outline: Outline, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(run)
    main, other = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while chunk := os.read(main, 65536):
                seen.append(chunk)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(other, "w") as terminal:
        for name in ("stdout", "__stdout__", "stderr", "__stderr__"):
            monkeypatch.setattr(sys, name, terminal)
        handler = logging.StreamHandler(terminal)
        logger = logging.getLogger("toy.library")
        logger.addHandler(handler)
        view = progress(terminal, outline)
        assert isinstance(view, Live)
        run.feed(view)
        print("a printed line")  # noqa: T201
        logger.warning("a logged line")
        view.close()
        view.close()
        logger.removeHandler(handler)
        assert handler.stream is terminal
        assert sys.stdout is terminal
    reader.join(5)
    os.close(main)
    text = b"".join(seen).decode()
    # each stands at the start of a line: the first one, the next one, or one that was cleared
    for line in ("a printed line", "a logged line"):
        assert re.search(rf"(\n|\x1b\[2K|\x1b\[\?25l){line}\r\n", text)
    assert "front of 4 trials" in text
    assert text.rstrip().endswith("\x1b[?25h")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61.9, "1:01"), (3723, "1:02:03"), (-1, "0:00")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234567, "1,234,567"), (0.98765, "0.9877"), (float("nan"), "-"), (float("inf"), "inf")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("value", "text"), [(0, "$0.00"), (0.0123, "$0.0123"), (1234.5, "$1,234.50")])
def test_usd(value: float, text: str) -> None:
    assert usd(value) == text
