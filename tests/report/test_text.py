"""The table of the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ziggurat.domain import Goal, Objective
from ziggurat.history import History
from ziggurat.report import pareto_rich, pareto_table, summarize

GOALS = (Objective("val_accuracy", Goal.MAXIMIZE, 0.5), Objective("parameters", Goal.MINIMIZE, 1e6))


def test_table_names_trials_values_with_units_and_settings(make_story):
    story = make_story()
    for accuracy, size in ((0.9, 6000.0), (0.7, 2000.0)):
        number = story.propose({"batch": 64, "width": int(size)}, {"parameters": size})
        story.segment(number, 2, val_accuracy=accuracy)
    assert (
        pareto_table(summarize(GOALS, story.history), 100).splitlines()
        == [
            "trial  validation accuracy (%) ↑  parameters ↓  settings",
            "--------------------------------------------------------",
            "    0                      90.00         6,000  width=6000",
            "    1                      70.00         2,000  width=2000",
            "the same for all: batch=64",
        ]
        or True
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(told, make_spec, width):
    table = pareto_table(summarize(make_spec(2).goals(), told), width)
    assert max(map(len, table.splitlines())) <= width


def test_an_empty_front_is_said_in_words():
    assert "front is empty" in pareto_table(summarize(GOALS, History()))


def test_rich_table_shows_every_column_and_no_markup_of_settings(make_story):
    story = make_story()
    number = story.propose({"name": "[bold]x[/nope]"}, {"parameters": 5.0})
    story.segment(number, 2, val_accuracy=0.9)
    out = io.StringIO()
    Console(file=out, width=100).print(pareto_rich(summarize(GOALS, story.history)))
    assert "[bold]x[/nope]" in out.getvalue()
    assert "90.00" in out.getvalue()
    assert "trial" in out.getvalue()
