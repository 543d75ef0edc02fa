"""The Ax searcher: what it learns from, what it asks, and that asking pays."""

import importlib.util
import logging
import math

import numpy as np
import pytest

from flows import cli
from tests.support import ACCURACY, PARAMETERS, Story, search
from ziggurat import choices as space
from ziggurat import pareto, runs
from ziggurat import spec as specs
from ziggurat.domain import Candidate, FailureKind, Fidelity, Goal, Objective
from ziggurat.errors import SpecError
from ziggurat.searchers import AxSearcher, Sobol, evidence

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
PLANE = {
    "x": space.Range(min=0.0, max=1.0),
    "y": space.Range(min=0.0, max=1.0),
    "fixed": space.Values(values=[3]),
}
TWO_RUNGS = (Fidelity(1), Fidelity(3))
WIDE = {f"x{i:02}": space.Range(min=0.0, max=1.0) for i in range(24)}
LATENCY = Objective("latency_ms", Goal.MINIMIZE, reference=80.0)
THROUGHPUT = Objective("throughput", Goal.MAXIMIZE, reference=1.0)
FULL = "search.searcher={kind: ax, saas: full}"
SPEC = """\
name: test
space: {kind: mlp, width: {min: 4, max: 64}}
objectives: [{metric: val_accuracy, reference: 0.1}]
fidelities: [{epochs: 1}]
"""


@pytest.fixture
def _hasty(monkeypatch):
    """The optimiser of the acquisition need not find good points, only answer."""
    from ziggurat.searchers import ax_client

    small = {"num_restarts": 1, "raw_samples": 4, "options": {"maxiter": 2}}
    monkeypatch.setattr(ax_client, "OPTIMIZER", small)


@pytest.fixture
def _bare(monkeypatch):
    """An installation without the extra."""
    find = importlib.util.find_spec
    hidden = {"jax", "numpyro"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n in hidden else find(n, *a))


def at(x: float, y: float = 0.5) -> Candidate:
    return Candidate({"x": x, "y": y, "fixed": 3})


def told(count: int, upper: int = 0) -> Story:
    """A story of `count` trials with results at the lowest rung, the first `upper` also at the next."""
    story = Story(ladder=TWO_RUNGS)
    for i in range(count):
        number = story.propose(at(i / 100), {"parameters": 100.0 + i})
        story.finish(number, val_accuracy=0.3 + 0.01 * i)
        story.verdict(number, "pause")
        if i < upper:
            story.finish(number, val_accuracy=0.6 + 0.01 * i)
    return story


def gather(story: Story, **changes) -> evidence.Evidence:
    return evidence.gather(story.context(choices=PLANE, ladder=TWO_RUNGS, **changes))


@pytest.mark.parametrize(("upper", "rung", "results"), [(0, 0, 12), (7, 0, 12), (8, 1, 8)])
def test_the_highest_rung_with_eight_results_is_modelled(upper, rung, results):
    seen = gather(told(12, upper))
    assert (seen.rung, len(seen.results)) == (rung, results)


def test_results_are_losses_at_the_modelled_rung_over_the_free_choices():
    seen = gather(told(9, 8))
    assert seen.axes == (0, 1)
    assert seen.dimensions == 3
    point, losses = seen.results[2]
    assert point == pytest.approx((0.02, 0.5))
    assert losses == pytest.approx((-0.62, 102.0))


def test_trials_under_way_are_pending_and_paused_ones_are_left_out():
    story = told(10, 8)
    waiting, running = story.propose(at(0.7)), story.propose(at(0.8))
    story.start(running)
    failed = story.propose(at(0.9))
    story.fail(failed, FailureKind.LOST)
    story.start(8)
    assert set(gather(story).pending) == {waiting, running, 8}


def test_a_result_with_an_unknown_objective_is_left_out():
    story = told(4)
    story.finish(story.propose(at(0.5)), val_accuracy=0.5)
    story.finish(story.propose(at(0.6), {"parameters": 1.0}), val_accuracy=math.nan)
    assert set(gather(story).results) == {0, 1, 2, 3}


def test_an_objective_in_which_nothing_differs_is_not_modelled():
    constant = Objective("flops", Goal.MINIMIZE, reference=2.0)
    story = Story(ladder=TWO_RUNGS)
    for i in range(5):
        number = story.propose(at(i / 10), {"flops": 1.0})
        story.finish(number, val_accuracy=0.1 * i)
    assert gather(story, objectives=(ACCURACY, constant)).objectives == (ACCURACY,)


@pytest.mark.parametrize(("trials", "first"), [(6, 4), (12, 4), (15, 5), (40, 6), (1000, 6)])
def test_the_first_points_are_at_most_a_third_of_the_trials(trials, first):
    assert AxSearcher().first_points(Story().context(choices=PLANE, trials=trials)) == first
    assert AxSearcher(initial=20).first_points(Story().context(choices=PLANE, trials=trials)) == 20


def test_the_first_points_are_those_of_the_sobol_searcher():
    ours = search(AxSearcher(initial=8), 8, lambda _: {"val_accuracy": 0.5}, choices=PLANE)
    theirs = search(Sobol(), 8, lambda _: {"val_accuracy": 0.5}, choices=PLANE)
    assert [t.candidate for t in ours.history.trials.values()] == [
        t.candidate for t in theirs.history.trials.values()
    ]


def test_too_few_results_are_said_in_the_origin():
    story = Story(ladder=TWO_RUNGS)
    for i in range(8):
        story.fail(story.propose(at(i / 10)))
    found = AxSearcher(initial=6).propose(story.context(choices=PLANE, ladder=TWO_RUNGS))
    assert found is not None
    assert found.origin == "sobol (0 results, 3 needed)"


def test_thresholds_are_the_tighter_of_reference_and_limit():
    from ziggurat.searchers.ax_client import thresholds

    tight = Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=500.0)
    loose = Objective("val_accuracy", Goal.MAXIMIZE, reference=0.5, limit=0.4)
    assert thresholds((loose, tight)) == ["loss0 <= -0.5", "loss1 <= 500.0"]
    assert thresholds((loose,)) == []


def test_a_client_that_follows_equals_one_that_is_built_anew():
    from ziggurat.searchers.ax_client import Mirror, Style

    story = told(6)
    waiting = story.propose(at(0.7), {"parameters": 50.0})
    gone = story.propose(at(0.8), {"parameters": 60.0})
    before = gather(story)
    mirror = Mirror(before, Style())
    mirror.follow(before)
    assert set(mirror.pending) == {waiting, gone}
    story.finish(waiting, val_accuracy=0.7)
    story.fail(gone)
    late = story.propose(at(0.9), {"parameters": 70.0})
    after = gather(story)
    assert mirror.agrees(after)
    mirror.follow(after)
    assert mirror.completed == dict(after.results)
    assert set(mirror.pending) == {late}
    statuses = [t.status.name for t in mirror.client._experiment.trials.values()]
    assert statuses == ["COMPLETED"] * 7 + ["FAILED", "RUNNING"]


def test_a_client_of_another_history_is_not_used():
    from ziggurat.searchers.ax_client import Mirror, Style

    seen = gather(told(6))
    mirror = Mirror(seen, Style())
    mirror.follow(seen)
    other = Story(ladder=TWO_RUNGS)
    for i in range(6):
        other.finish(other.propose(at(i / 100), {"parameters": 100.0 + i}), val_accuracy=0.9)
    assert not mirror.agrees(gather(other))
    assert not mirror.agrees(gather(told(3)))


def test_a_failure_of_ax_gives_a_random_candidate_and_a_line_in_the_log(monkeypatch, caplog):
    from ziggurat.searchers import ax_client

    monkeypatch.setattr(ax_client.Client, "get_next_trials", lambda *_, **__: 1 / 0)
    story = told(8)
    with caplog.at_level(logging.WARNING):
        found = AxSearcher(initial=4).propose_batch(story.context(choices=PLANE, ladder=TWO_RUNGS), 3)
    assert [p.origin for p in found] == ["fallback"] * 3
    assert "Ax failed (ZeroDivisionError" in caplog.text


def outcome(candidate: Candidate) -> dict[str, float]:
    """Accuracy has a ridge, the size grows along it: a front with known ends."""
    x, y = float(candidate.choices["x"]), float(candidate.choices["y"])
    return {"val_accuracy": 0.95 - 0.7 * math.exp(-4 * x) - 2.0 * (y - 0.8 + 0.3 * x) ** 2}


def size(candidates: list[Candidate]) -> list[dict[str, float]]:
    return [{"parameters": 100.0 + 900.0 * float(c.choices["x"]) ** 2} for c in candidates]


def volume(story: Story) -> float:
    objectives = (ACCURACY, PARAMETERS)
    losses = np.array([t.losses(objectives) for t in story.history.trials.values()])
    return pareto.hypervolume(losses, [o.loss(o.reference) for o in objectives])


def test_ax_beats_sobol_at_equal_budget():
    changes = {"choices": PLANE, "static": size, "objectives": (ACCURACY, PARAMETERS)}
    ours = search(AxSearcher(initial=8, batch=4), 16, outcome, **changes)
    origins = [t.note for t in ours.history.trials.values()]
    assert origins[:8] == ["sobol"] * 8
    assert origins.count("qlognehvi") >= 6
    theirs = [search(Sobol(scramble_seed=s), 16, outcome, **changes) for s in range(5)]
    assert volume(ours) > max(volume(t) for t in theirs)


def test_a_resumed_search_asks_the_model_again():
    from ziggurat.searchers import ax_client

    story = told(8)
    context = {"choices": PLANE, "ladder": TWO_RUNGS}
    ax_client._MIRRORS.clear()
    first = AxSearcher(initial=4).propose(story.context(**context))
    ax_client._MIRRORS.clear()
    again = AxSearcher(initial=4).propose(story.context(**context))
    assert first == again
    assert first is not None
    assert first.origin in {"qlognehvi", "mutation"}
    assert first.candidate not in {t.candidate for t in story.history.trials.values()}


def proposed(searcher: AxSearcher, story: Story, count: int, **changes) -> list[Candidate]:
    """A batch of the model, every one of it valid and new."""
    context = story.context(**changes)
    batch = searcher.propose_batch(context, count)
    found = [p.candidate for p in batch]
    assert {p.origin for p in batch} <= {"qlognehvi", "qlognei", "mutation"}
    assert all(space.contains(context.choices, c) for c in found)
    assert len({*found, *(t.candidate for t in story.history.trials.values())}) == len(found) + len(
        story.history.trials
    )
    return found


@pytest.mark.parametrize("options", [{"method": "quality"}, {"saas": "map"}], ids=str)
def test_every_method_and_prior_answers(options):
    context = {"choices": PLANE, "ladder": TWO_RUNGS}
    plain = proposed(AxSearcher(initial=4), told(8), 2, **context)
    assert len(plain) == 2
    other = proposed(AxSearcher(initial=4, **options), told(8), 2, **context)
    assert len(other) == 2
    assert other != plain  # another model, or another effort, and not the kept client of the first


def wide(count: int, metrics=lambda x: {"val_accuracy": 0.9 - 0.5 * (x[3] - 0.3) ** 2}) -> Story:
    """A story in 24 dimensions of which one decides the accuracy and another the size."""
    story, rng = Story(ladder=(Fidelity(1),)), np.random.default_rng(1000)
    for x in rng.random((count, 24)):
        candidate = space.from_unit(WIDE, x)
        story.finish(story.propose(candidate, {"parameters": 100 + 900 * x[7]}), **metrics(x))
    return story


@pytest.mark.parametrize("saas", ["off", "map"])
@pytest.mark.usefixtures("_hasty")
def test_a_batch_of_sixteen_in_24_dimensions_is_new_and_different(saas):
    changes = {"choices": WIDE, "ladder": (Fidelity(1),)}
    found = proposed(AxSearcher(initial=20, batch=16, saas=saas), wide(24), 16, **changes)
    assert len(set(found)) == 16


def test_a_sparse_prior_finds_the_two_choices_that_matter():
    changes = {"choices": WIDE, "ladder": (Fidelity(1),)}
    found = proposed(AxSearcher(initial=20, saas="map"), wide(32), 2, **changes)
    assert all(abs(float(c.choices["x03"]) - 0.3) < 0.15 for c in found), [c.choices["x03"] for c in found]
    assert all(float(c.choices["x07"]) < 0.1 for c in found), [c.choices["x07"] for c in found]


@pytest.mark.usefixtures("_hasty")
def test_four_objectives_are_modelled_with_a_sparse_prior():
    def metrics(x):
        return {"val_accuracy": 0.9 - 0.5 * x[3], "latency_ms": 10 + 50 * x[5], "throughput": 2 + x[9]}

    goals = (ACCURACY, PARAMETERS, LATENCY, THROUGHPUT)
    changes = {"choices": WIDE, "ladder": (Fidelity(1),), "objectives": goals}
    searcher = AxSearcher(initial=8, saas="map")
    assert len(proposed(searcher, wide(12, metrics), 2, **changes)) == 2


@pytest.mark.usefixtures("_hasty")
def test_the_model_is_asked_even_if_nothing_is_better_than_the_references_yet():
    strict = (ACCURACY, Objective("parameters", Goal.MINIMIZE, reference=1.0))
    context = {"choices": PLANE, "ladder": TWO_RUNGS, "objectives": strict}
    assert proposed(AxSearcher(initial=4), told(8), 1, **context)


@pytest.mark.usefixtures("_bare")
def test_only_the_full_prior_needs_the_extra():
    AxSearcher(saas="map", method="quality").check()
    with pytest.raises(SpecError, match=r"'full' needs jax and numpyro.*saas: map") as told_so:
        AxSearcher(saas="full").check()
    assert "\n" not in str(told_so.value)


@pytest.mark.usefixtures("_bare")
def test_without_the_extra_nothing_is_started(tmp_path, capsys):
    path = tmp_path / "spec.yaml"
    path.write_text(SPEC)
    with pytest.raises(SpecError, match="needs jax and numpyro"):
        runs.create(*specs.read(path, [FULL]), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    code = cli.guarded(lambda: cli.app(["validate", str(path), "--set", FULL], standalone_mode=False))
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert "search.searcher.saas: 'full' needs" in said


@pytest.mark.usefixtures("_bare")
def test_a_search_resumed_without_the_extra_says_so_instead_of_drawing_at_random():
    story = told(8).context(choices=PLANE, ladder=TWO_RUNGS)
    with pytest.raises(SpecError, match="needs jax and numpyro"):
        AxSearcher(initial=4, saas="full").propose(story)


@pytest.mark.slow
@pytest.mark.usefixtures("_hasty")
def test_the_full_prior_answers_with_the_extra():
    pytest.importorskip("numpyro", reason='the extra is not installed: pip install -e ".[saas]"')
    changes = {"choices": WIDE, "ladder": (Fidelity(1),)}
    assert len(proposed(AxSearcher(initial=8, saas="full"), wide(24), 2, **changes)) == 2
