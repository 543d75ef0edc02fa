"""The ends of a space, and what the largest candidate takes of a worker's memory."""

import math

import pytest
import torch
from torch import nn

from tests.real import plain, python_space, use_models
from tests.support import CHOICES, parameters_of
from ziggurat import choices, spec
from ziggurat.checks import Findings
from ziggurat.errors import SpecError
from ziggurat.jobs import Desk
from ziggurat.space_checks import (
    LIBRARIES_MB,
    check_extremes,
    check_memory,
    check_resolutions,
    check_space,
    extremes,
    kept_bytes,
    room_mb,
)


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch):
    """However busy the machine is, there is time."""
    monkeypatch.setattr("ziggurat.space_checks.EXTREMES_S", 100.0)


def desk(tmp_path, **changes):
    """A desk with a spec."""
    told = Desk(tmp_path, "service")
    told.__dict__["spec"] = spec.parse(plain(**changes), "test")
    return told


def test_the_ends_of_a_space_are_found_choice_by_choice():
    least, most = extremes(CHOICES, parameters_of, lambda: False)
    assert (parameters_of(least), parameters_of(most)) == (40.0, 640.0 + 64.0)
    assert "second" not in least.choices
    assert most.choices["depth"] > 1  # without it there is no second


def test_without_time_there_are_no_ends():
    assert extremes(CHOICES, lambda _: math.nan, lambda: False) is None
    some = extremes(CHOICES, parameters_of, lambda: True)
    assert some is not None
    assert some[0] == some[1] == choices.from_unit(CHOICES, [0.5] * len(CHOICES))


def test_what_a_model_keeps_for_the_way_back_is_counted_once():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    # the input (2 x 4), the output of the first activation (2 x 8, kept by two layers) and the result (2 x 3)
    assert kept_bytes(model, torch.zeros(2, 4)) == 4 * (8 + 16 + 6)


def test_the_digits_can_be_trained_from_end_to_end(tmp_path):
    found, place = Findings(), desk(tmp_path)
    check_space(place, found)
    reached = check_extremes(place, found)
    check_memory(place, found, reached)
    assert [(c.name, c.ok) for c in found.checks] == [("space", True), ("space", True), ("memory", True)]
    assert reached.least < reached.most
    assert found.facts["memory_mb"] > LIBRARIES_MB


def test_models_that_take_no_smaller_images_fail(tmp_path):
    image = {"kind": "digits", "image": True}
    found = Findings()
    check_resolutions(desk(tmp_path, data=image, space={"kind": "cnn", "pooling": ["max"]}), found, [0.5])
    check_resolutions(desk(tmp_path, data=image, space={"kind": "cnn", "depth": [1]}), found, [0.5])
    check_resolutions(desk(tmp_path, data=image), found, [0.5])
    assert [c.ok for c in found.checks] == [None, True, False]
    assert found.checks[1].text == "12 of 12 sampled candidates take images of 4x4"
    assert found.checks[2].text.startswith("0 of 12 sampled candidates take images of 4x4, others fail (")
    assert found.checks[2].cure.startswith("raise resolution or leave it out")
    with pytest.raises(SpecError, match=r"examples of shape \(64,\) are no images"):
        check_resolutions(desk(tmp_path), found, [0.5])


def test_an_end_of_the_space_that_cannot_be_trained_is_told(tmp_path, monkeypatch):
    use_models(tmp_path, monkeypatch)
    monkeypatch.syspath_prepend(str(tmp_path))
    place, found = desk(tmp_path, space=python_space(width=[4, 16], mode=["raise"])), Findings()
    assert check_extremes(place, found) is None
    ((ok, text, cure),) = [(c.ok, c.text, c.cure) for c in found.checks]
    assert ok is None
    assert text.startswith("the smallest candidate fails (batch_size=32, ")
    assert "the user's own words" in text
    assert cure.startswith("narrow the choices")


@pytest.mark.parametrize(
    ("limit", "ok", "words"), [(256, False, "even the smallest"), (450, None, "largest")]
)
def test_a_worker_with_too_little_memory_is_told(tmp_path, monkeypatch, limit, ok, words):
    wide = plain()["space"] | {"width": [4, 1024], "depth": [2]}
    place = desk(tmp_path, space=wide, launcher={"kind": "local", "memory_limit_mb": limit})
    monkeypatch.setattr("ziggurat.space_checks.LIBRARIES_MB", 440.0)
    found = Findings()
    check_memory(place, found, check_extremes(place, found))
    check = found.checks[-1]
    assert (check.name, check.ok) == ("memory", ok)
    assert words in check.text
    assert "launcher.memory_limit_mb" in check.text
    assert check.cure.startswith("lower the largest choices or batch_size")


def test_machines_that_nobody_can_see_are_not_judged(tmp_path):
    batch = {"kind": "aws_batch", "queue": "spot", "job_definition": "train", "region": "eu-central-1"}
    store = {"kind": "s3", "bucket": "bucket"}
    known = {**batch, "resources": {"memory_mb": 2000}}
    assert room_mb(desk(tmp_path, launcher=batch, store=store))[0] is None
    assert room_mb(desk(tmp_path, launcher=known, store=store)) == (2000.0, "launcher.resources.memory_mb")
