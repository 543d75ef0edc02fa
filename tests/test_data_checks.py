"""Parts of a dataset that are too small, unlike each other or not apart."""

import numpy as np
import pytest
import torch

from tests.real import plain
from ziggurat import spec
from ziggurat.checks import Findings
from ziggurat.data_checks import Copies, check_splits, classes, judge_copies, overlap, rows, sizes
from ziggurat.jobs import Desk


def told(found):
    return [(c.ok, c.text, c.cure) for c in found.checks]


@pytest.mark.parametrize(("count", "warned"), [(99, True), (100, False)])
def test_few_validation_examples_are_a_warning(count, warned):
    found = Findings()
    sizes(count, 10, found)
    assert bool(found.checks) is warned
    if warned:
        ((ok, text, cure),) = told(found)
        assert ok is None
        assert "99 validation examples: two equal candidates differ by 7% accuracy by luck" in text
        assert cure == "raise data.split.validation or data.limit"


def test_a_class_that_a_part_lacks_is_told():
    found = Findings()
    classes(np.array([0, 1, 2]), np.array([0, 1]), 3, found)
    ((ok, text, cure),) = told(found)
    assert (ok, text) == (None, "1 of 3 classes are missing in the validation part, first 2")
    assert cure


def test_classes_that_are_spread_otherwise_are_told():
    found = Findings()
    classes(np.array([0] * 5 + [1] * 5), np.array([0] * 8 + [1] * 2), 2, found)
    classes(np.array([0] * 5 + [1] * 5), np.array([0] * 11 + [1] * 9), 2, found)
    assert [c.ok for c in found.checks] == [None, True]
    assert "by 30% of the examples" in found.checks[0].text


def test_copies_are_found_number_by_number():
    x = torch.arange(12.0).reshape(4, 3)
    near = x.clone()
    near[0, 0] += 1e-6
    assert overlap("validation", rows(x[:2]), "training", rows(x[1:])).count == 1
    assert overlap("validation", rows(near[:1]), "training", rows(x)).count == 0


@pytest.mark.parametrize(("count", "verdict"), [(0, []), (1, [None]), (50, [None]), (51, [False])])
def test_copies_are_a_warning_and_half_of_a_part_is_too_many(count, verdict):
    found = Findings()
    judge_copies([Copies("test", "training", count, 100)], found)
    assert [c.ok for c in found.checks] == verdict
    if verdict:
        assert found.checks[0].text.startswith(f"{count} of 100 test examples ({count}.0%) are training too")
        assert found.checks[0].cure.startswith("remove the copies")


def desk(tmp_path, **data):
    """A desk on a dataset."""
    told = Desk(tmp_path, "service")
    told.__dict__["spec"] = spec.parse(plain(data=data), "test")
    return told


def test_the_digits_are_apart(tmp_path):
    found = Findings()
    check_splits(desk(tmp_path, kind="digits", image=False), found)
    assert [c.ok for c in found.checks] == [True, True]
    assert found.checks[-1].text.startswith(
        "1,259 training, 269 validation, 269 sealed examples without copies"
    )


def test_a_source_that_repeats_itself_fails(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    x = np.random.default_rng(0).random((300, 4), dtype=np.float32)\n"
        "    return np.tile(x, (4, 1)), np.tile(np.arange(300) % 3, 4)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    found = Findings()
    check_splits(desk(tmp_path, kind="python", function="twice:load"), found)
    assert found.failed
    assert "validation examples" in found.checks[1].text
