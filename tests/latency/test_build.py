"""Building a table: what is measured, how often, and what is left after a kill."""

import itertools
import json

import numpy as np
import pytest

from tests.latency.toy import SIGNATURE, Stand, Toy, quiet
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.latency import read
from ziggurat.latency.build import build, least, spread_out
from ziggurat.latency.part import Part
from ziggurat.latency.rounds import BLOCK, REFERENCE
from ziggurat.latency.subject import Subject
from ziggurat.latency.table import Entry
from ziggurat.latency.validate import validate

SPACE = Toy()
OPERATIONS = SPACE.all_operations(SIGNATURE)
MODELS = 10


def make(path, device, seed=0, models=MODELS):
    return build(Subject(device, SPACE, SIGNATURE, seed), path, models, quiet)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.json"


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """An undisturbed build: its table and what the device was asked."""
    device = Stand()
    return make(tmp_path_factory.mktemp("calm") / "table.json", device), device.asked


def test_every_operation_is_measured_once_and_some_models(path):
    device = Stand()
    table = make(path, device)
    assert set(table.entries) == {o.key for o in OPERATIONS}
    things = 1 + len(OPERATIONS)  # with the model that does nothing
    references = -(-things // BLOCK) + 1 + 1 + 1
    assert len(device.asked) == things + MODELS + references
    assert (table.quality.models, len(table.models)) == (MODELS, MODELS)
    assert read(path) == table
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]


def test_the_order_is_random_and_follows_from_the_seed(path):
    asked = []
    for seed in (0, 0, 1):
        device = Stand()
        make(path, device, seed)
        asked.append(device.asked)
    assert asked[0] == asked[1] != asked[2]
    known = [0.05 + o.shape[0] * int(dict(o.arguments).get("width", 3)) / 100 for o in OPERATIONS]
    assert asked[0][: len(known)] != known


@pytest.mark.parametrize("killed_after", [0, 7, 20])
def test_a_killed_build_goes_on_and_ends_as_an_uninterrupted_one(path, killed_after, calm):
    device = Stand(stop_after=killed_after)
    with pytest.raises(KeyboardInterrupt):
        make(path, device)
    assert not path.exists()
    again = Stand()
    table = make(path, again)
    other, asked = calm
    assert (table.entries, table.overhead, table.models) == (other.entries, other.overhead, other.models)
    # nothing but the reference is measured twice
    assert len(again.asked) <= len(asked) - killed_after + 2 + killed_after // BLOCK + 1
    assert not path.with_name("table.json.part").exists()


def test_a_torn_last_line_is_dropped(path):
    with pytest.raises(KeyboardInterrupt):
        make(path, Stand(stop_after=8))
    part = path.with_name("table.json.part")
    whole = part.read_bytes()
    part.write_bytes(whole[:-1])  # a whole entry, but who knows what was to follow
    with Part(path, json.loads(whole.splitlines()[0])) as taken:
        assert len(taken.rows) == 7
    assert part.read_bytes() == b"".join(whole.splitlines(keepends=True)[:-1])
    make(path, Stand())


def test_a_line_broken_in_the_middle_is_refused(path):
    with pytest.raises(KeyboardInterrupt):
        make(path, Stand(stop_after=8))
    part = path.with_name("table.json.part")
    lines = part.read_bytes().splitlines(keepends=True)
    part.write_bytes(b"".join([*lines[:3], b"{\n", *lines[4:]]))
    with pytest.raises(SpecError, match="line 4 is broken; remove the file"):
        make(path, Stand())


def test_a_build_does_not_go_on_for_another_device(path):
    with pytest.raises(KeyboardInterrupt):
        make(path, Stand(stop_after=8))
    before = path.with_name("table.json.part").read_bytes()
    with pytest.raises(SpecError, match="was begun with fingerprint"):
        make(path, Stand(marks={"cpu": "slide rule"}))
    assert path.with_name("table.json.part").read_bytes() == before


def test_what_is_noisy_is_measured_once_more_and_the_smaller_median_counts(path, calm):
    fifth = 5
    device = Stand(noise=lambda n: 0.5 if n == fifth else 0.01, disturb=lambda n: 1.5 if n == fifth else 1.0)
    assert make(path, device).entries == calm[0].entries
    assert len(device.asked) > len(calm[1])


def test_what_is_always_noisy_is_measured_twice_and_no_more(path):
    device = Stand(noise=lambda _: 0.5)
    make(path, device)
    things = 1 + len(OPERATIONS) + MODELS
    assert 2 * things <= len(device.asked) <= 2 * things + 10


def test_a_resumed_build_measures_nothing_a_third_time(path):
    with pytest.raises(KeyboardInterrupt):
        make(path, Stand(noise=lambda _: 0.5, stop_after=25))
    again = Stand(noise=lambda _: 0.5)
    make(path, again)
    things = 1 + len(OPERATIONS) + MODELS
    assert len(again.asked) + 25 <= 2 * things + 12


def test_operations_measured_while_the_machine_was_slow_are_measured_again(path, calm):
    # half as fast for the first block and the reference on both sides of it
    device = Stand(disturb=lambda n: 2.0 if n <= BLOCK + 1 else 1.0)
    assert make(path, device).entries == calm[0].entries


def test_the_references_beside_a_measurement_are_the_next_ones(path):
    with Part(path, {}) as part:
        for value, key in enumerate([REFERENCE, "a", REFERENCE, "b", "c", REFERENCE], start=1):
            part.add(key, Entry(float(value)))
        assert [e.p50_ms for e in part.beside("b", REFERENCE)] == [3.0, 6.0]
        part.add("b", Entry(2.0))
        assert [e.p50_ms for e in part.beside("b", REFERENCE)] == [6.0]


def every():
    """All architectures of the space."""
    for depth in (1, 2, 3):
        for widths in itertools.product(SPACE.widths, repeat=depth):
            yield Candidate({"depth": depth, **{f"width_{i}": w for i, w in enumerate(widths, start=1)}})


def test_models_for_the_fit_cover_the_range(calm):
    subject, table = Subject(Stand(), SPACE, SIGNATURE), calm[0]
    chosen = spread_out(subject, table, 6)
    values = np.sort(table.predict(SPACE, chosen, SIGNATURE)[0])
    whole = table.predict(SPACE, list(every()), SIGNATURE)[0]
    assert len({SPACE.operations(c, SIGNATURE) for c in chosen}) == 6
    assert (values[0], values[-1]) == pytest.approx((whole.min(), whole.max()))
    assert max(values[1:] / values[:-1]) < 3 * (values[-1] / values[0]) ** 0.2


def test_a_space_with_too_few_models_says_so(path):
    with pytest.raises(SpecError, match=r"only \d+ different models .* 40 are wanted"):
        make(path, Stand(), models=40)


def test_too_few_models_for_a_fit_are_refused():
    assert least(8) == 8
    with pytest.raises(SpecError, match="--models is 7, but a fit needs at least 8"):
        least(7)


def test_an_operation_that_gives_no_time_is_named(path):
    device = Stand(disturb=lambda n: 0.0 if n == 4 else 1.0)
    with pytest.raises(SpecError, match=r"operation '(layer|head) .*' cannot be measured: .* gives 0"):
        make(path, device)


def test_validation_uses_models_that_the_fit_has_not_seen(calm):
    table = calm[0]
    found = validate(Subject(Stand(), SPACE, SIGNATURE, 1), table, 12, quiet)
    fitted = {SPACE.operations(Candidate(m.choices), SIGNATURE) for m in table.models}
    assert not fitted & {SPACE.operations(c, SIGNATURE) for c in found.candidates}
    said = found.summary()
    assert (said["models"], said["kendall_tau"], said["spearman"]) == (12, pytest.approx(1), pytest.approx(1))
    assert said["median_error"] < 1e-6
    assert said["span"] == pytest.approx(found.measured_ms.max() / found.measured_ms.min())
    plain = json.loads(json.dumps(found.plain()))
    assert plain["rows"][0]["measured_ms"] == found.measured_ms[0]


def test_validation_finds_a_table_that_is_wrong(calm):
    table = calm[0]
    found = validate(Subject(Stand(disturb=lambda _: 1.25), SPACE, SIGNATURE, 1), table, 8, quiet)
    assert found.summary()["median_error"] == pytest.approx(0.2)
