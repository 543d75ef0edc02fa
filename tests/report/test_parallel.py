"""Rows and lines of the parallel coordinates, by hand."""

from __future__ import annotations

import pytest

from ziggurat.choices import Range, Values
from ziggurat.domain import Goal, Objective
from ziggurat.report import parallel

ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, 0.5)
SIZE = Objective("parameters", Goal.MINIMIZE, 100.0)
CHOICES = {
    "depth": Range(min=1, max=2),
    "width_2": Values(values=[8, 16], when={"depth": 2}),
    "norm": Values(values=["none", "batch"]),
    "fixed": Values(values=[1]),
    "lr": Range(min=0.001, max=0.1, log=True),
}


def trials(story, rows):
    for candidate, accuracy, size in rows:
        number = story.propose(candidate, {"parameters": size})
        story.segment(number, 2, val_accuracy=accuracy)
    return story.history.of_stage("search")


@pytest.fixture
def three(make_story):
    return trials(
        make_story(),
        [
            ({"depth": 1, "norm": "none", "fixed": 1, "lr": 0.001}, 0.5, 10.0),
            ({"depth": 2, "width_2": 16, "norm": "batch", "fixed": 1, "lr": 0.1}, 0.9, 30.0),
            ({"depth": 2, "width_2": 8, "norm": "none", "fixed": 1, "lr": 0.01}, 0.7, 20.0),
        ],
    )


def test_rows_are_the_choices_that_differ_and_then_the_objectives(three):
    rows = parallel.rows(CHOICES, three, (ACCURACY, SIZE))
    assert [r.name for r in rows] == ["depth", "width_2", "norm", "lr", "Validation accuracy", "Parameters"]


def test_the_better_end_of_an_objective_is_on_the_right(three):
    *_, accuracy, size = parallel.rows(CHOICES, three, (ACCURACY, SIZE))
    assert [accuracy.at(t) for t in three] == pytest.approx([0.0, 1.0, 0.5])
    assert [size.at(t) for t in three] == pytest.approx([1.0, 0.0, 0.5])
    assert accuracy.marks[0] == (0.0, "50.0 %")


def test_what_a_trial_does_not_have_lies_left_of_the_row(three):
    rows = parallel.rows(CHOICES, three, (ACCURACY,))
    chart = parallel.parallel(rows, three, [three[0]], ACCURACY)
    front = next(t for t in chart["data"] if t.get("name") == "The front")
    assert front["x"][1] < 0
    assert front["customdata"] == ["0"] * 6


def test_listed_values_are_all_named_and_ranges_by_their_ends(three):
    rows = {r.name: r for r in parallel.rows(CHOICES, three, (ACCURACY,))}
    assert [text for _, text in rows["width_2"].marks] == ["8", "16"]
    assert [(round(at, 6), text) for at, text in rows["lr"].marks] == [
        (0, "0.001"),
        (0.5, "0.01"),
        (1, "0.1"),
    ]


def test_lines_are_thinned_evenly_and_the_ends_stay(make_story):
    many = trials(make_story(), [({"depth": 1, "lr": i / 1e4}, i / 1000, 1.0) for i in range(1, 600)])
    kept = parallel.thinned(many, ACCURACY)
    assert len(kept) == parallel.AT_MOST
    assert (kept[0].value("val_accuracy"), kept[-1].value("val_accuracy")) == (0.599, 0.001)
    bold = parallel.spread(kept)
    assert (len(bold), bold[0], bold[-1]) == (parallel.BOLD, kept[0], kept[-1])


def test_a_value_outside_of_the_space_is_as_if_it_were_missing(make_story):
    odd = trials(make_story(), [({"norm": "layer"}, 0.5, 1.0), ({"norm": "none"}, 0.6, 2.0)])
    norm = parallel.rows(CHOICES, odd, (ACCURACY,))[0]
    assert [norm.at(t) for t in odd] == [None, 0.25]


def test_each_trial_is_one_line_and_the_front_is_not_drawn_twice(three):
    rows = parallel.rows(CHOICES, three, (ACCURACY,))
    chart = parallel.parallel(rows, three, three[:1], ACCURACY)
    others = [t for t in chart["data"] if t.get("opacity") == 0.4]
    assert sum(t["x"].count(None) for t in others) == 2
    front = next(t for t in chart["data"] if t.get("name") == "The front")
    assert front["x"].count(None) == 1
