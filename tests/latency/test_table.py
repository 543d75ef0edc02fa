"""A latency table: what it predicts, and what it refuses."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from tests.latency.toy import CALL_MS, EACH_MS, SIGNATURE, SLOPE, Stand, Toy, cost_of, model_ms, quiet
from ziggurat import choices
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.latency import LatencyTable, decomposable, read, usable
from ziggurat.latency.build import build
from ziggurat.latency.subject import Subject
from ziggurat.protocols import Signature
from ziggurat.spaces import Mlp

SPACE = Toy()
TWO = Candidate({"depth": 2, "width_1": 8, "width_2": 4, "learning_rate": 0.1})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("latency") / "table.json"
    build(Subject(Stand(), SPACE, SIGNATURE), path, 12, quiet)
    return path


@pytest.fixture
def path(made, tmp_path):
    """A copy that a test may spoil."""
    copy = tmp_path / "table.json"
    copy.write_bytes(made.read_bytes())
    return copy


def spoil(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(path, device=None, space=SPACE, signature=SIGNATURE, **more):
    with pytest.raises(SpecError) as caught:
        usable(path, device or Stand(), space, signature, **more)
    text = str(caught.value)
    assert "\n" not in text
    assert f"ziggurat profile SPEC --table {path}" in text
    assert text.startswith(str(path))
    return text


def test_a_model_is_predicted_from_the_sum_of_its_operations(path):
    table = usable(path, Stand(), SPACE, SIGNATURE)
    # 4 x 8, 8 x 4 and 4 x 3 weights, a hundredth of a millisecond for each: 0.76 ms
    values, error = table.predict(SPACE, [TWO], SIGNATURE)
    assert values.tolist() == pytest.approx([0.05 + 0.9 * 0.76 + 3 * 0.02])
    assert error < 1e-6


def test_each_operation_is_known_without_what_a_call_takes(path):
    table = read(path)
    assert table.fixed_ms == pytest.approx(0.05)
    for operation in SPACE.all_operations(SIGNATURE):
        assert table.net_ms(operation) == pytest.approx(cost_of(operation))


def test_the_fit_finds_the_overhead_of_whole_models(path):
    found = read(path).overhead
    assert (found.constant_ms, found.each_ms) == pytest.approx((CALL_MS, EACH_MS))
    assert found.slopes == pytest.approx({"layer": SLOPE, "head": SLOPE})


def test_many_candidates_are_predicted_at_once_as_one_by_one(path):
    table, rng = read(path), np.random.default_rng(0)
    drawn = [choices.sample(SPACE.choices(), rng) for _ in range(50)]
    values, _ = table.predict(SPACE, drawn, SIGNATURE)
    assert values.shape == (50,)
    assert values.tolist() == pytest.approx([model_ms(SPACE, c) for c in drawn])
    assert [table.predict(SPACE, [c], SIGNATURE)[0][0] for c in drawn] == pytest.approx(values.tolist())


def test_a_prediction_costs_far_less_than_a_measurement(path):
    table, rng = read(path), np.random.default_rng(0)
    drawn = [choices.sample(SPACE.choices(), rng) for _ in range(2000)]
    began = time.process_time()
    table.predict(SPACE, drawn, SIGNATURE)
    assert (time.process_time() - began) / 2000 < 0.2e-3


def test_a_measurement_by_the_table_has_its_error_as_spread_and_no_samples(path):
    table = read(path)
    table = replace(table, quality=replace(table.quality, error=0.04))
    found = table.measurement(SPACE, TWO, SIGNATURE)
    assert (found.metric, found.unit, found.device) == ("latency_p50_ms", "ms", "stand")
    assert found.spread == pytest.approx(0.04 * found.value)
    assert (found.samples, found.predicted) == (None, True)


def test_hyperparameters_change_neither_space_nor_prediction(path):
    other = Toy(hyperparameters={})
    assert usable(path, Stand(), other, SIGNATURE) == read(path)


def test_a_table_survives_its_file(made):
    table = read(made)
    again = made.with_name("again.json")
    table.write(again)
    assert read(again) == table
    assert [p.name for p in made.parent.iterdir() if p.name.startswith(".")] == []


def test_an_absent_file_is_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "it is not JSON"),
        ("[]", "its format is None"),
        ('{"format": 99}', "its format is 99"),
        ('{"format": 1}', "a broken latency table, created_utc: field required"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, content, reason):
    path = tmp_path / "table.json"
    path.write_text(content)
    assert reason in refusal(path)


def test_a_table_with_impossible_times_is_refused(path):
    entries = json.loads(path.read_text())["entries"]
    spoil(path, entries={**entries, "head 4 classes=3 inputs=2": {"p50_ms": -1.0}})
    assert "no positive numbers" in refusal(path)


def test_a_table_of_another_device_names_what_differs_and_both_values(path):
    text = refusal(path, Stand(marks={"cpu": "slide rule", "threads": "1"}))
    assert "cpu was 'abacus', here it is 'slide rule'" in text
    assert "gpu was 'nothing', here it is 'big'" in refusal(
        path, Stand(marks={"cpu": "abacus", "threads": "1", "gpu": "big"})
    )


def test_the_device_is_named_in_the_command_that_builds_it_anew(path):
    assert refusal(path, Stand(marks={})).endswith(f"--table {path} --device stand`")
    assert refusal(path, Stand(name="local", marks={})).endswith(f"--table {path}`")


def test_hardware_behind_a_launcher_is_not_compared_with_this_machine(path):
    elsewhere = Stand(marks={})
    elsewhere.launcher = object()
    assert usable(path, elsewhere, SPACE, SIGNATURE).device == "stand"


def test_a_table_by_another_version_is_refused(path):
    spoil(path, version="0.0.1")
    assert "made by version 0.0.1 of ziggurat" in refusal(path)


def test_a_table_of_another_space_names_what_differs(path):
    assert "space.widths was '[4, 8, 16]', the spec has '[4, 8]'" in refusal(path, space=Toy(widths=(4, 8)))
    assert "data.classes was '3', the spec has '5'" in refusal(path, signature=Signature((4,), 5))


def test_a_table_without_some_operation_is_refused(path):
    entries = json.loads(path.read_text())["entries"]
    del entries["layer 8 width=16"]
    spoil(path, entries=entries)
    assert "incomplete: 1 operations are missing, such as 'layer 8 width=16'" in refusal(path)
    wide = Candidate({"depth": 2, "width_1": 8, "width_2": 16})
    with pytest.raises(SpecError, match="lacks operation 'layer 8 width=16'"):
        read(path).predict(SPACE, [wide], SIGNATURE)


def test_an_old_table_is_refused_and_its_age_is_told(path):
    table = read(path)
    days = 86_400
    usable(path, Stand(), SPACE, SIGNATURE, utc=table.created_utc + 89 * days)
    text = refusal(path, utc=table.created_utc + 91 * days)
    assert "is 91 days old, 90 are allowed" in text
    assert "days in the future" in refusal(path, utc=table.created_utc - 3 * days)
    assert "12 operations" in table.told(table.created_utc + 2 * days)
    assert "2 days old" in table.told(table.created_utc + 2 * days)


def test_a_space_without_operations_is_refused(path):
    with pytest.raises(SpecError, match=r"space.kind 'mlp' cannot be taken apart.*use mbconv, cell or cnn"):
        decomposable(Mlp())
    with pytest.raises(SpecError, match="cannot be taken apart"):
        LatencyTable.predict(read(path), Mlp(), [TWO], SIGNATURE)
