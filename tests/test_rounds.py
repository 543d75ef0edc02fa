"""A search in rounds: what they inherit, where they begin, and what comes first in them."""

import json

import pytest

from tests import real, tabular
from ziggurat import choices, rounds, runs
from ziggurat import spec as specs
from ziggurat.answers import eligible
from ziggurat.contexts import make_context
from ziggurat.domain import RunStatus
from ziggurat.engine import Engine
from ziggurat.errors import SpecError
from ziggurat.events import Decided, Event, StageFinished, TrialProposed, body_from_plain
from ziggurat.history import History
from ziggurat.proposing import Proposals
from ziggurat.round_settings import unfold
from ziggurat.stages import search

SOBOL, RANDOM = {"kind": "sobol"}, {"kind": "random"}


def settings(folder, *listed, **changes):
    """A search of a table in rounds."""
    folder.mkdir(exist_ok=True)
    files = tabular.schedules(folder)
    return {
        "name": "table",
        "space": {"kind": "table", "accuracy": files["accuracy"]},
        "objectives": [{"metric": "val_accuracy", "reference": 0.5}],
        "fidelities": [{"epochs": 4}, {"epochs": 20}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "tracking": {"enabled": False},
        "search": list(listed),
        "launcher": {"kind": "simulated", "usd_per_hour": 1.0},
        **changes,
    }


COARSE = {"name": "coarse", "trainer": {"kind": "table"}, "trials": 9, "searcher": RANDOM, "workers": 2}


def spec_of(folder, *listed, **changes):
    return specs.parse(settings(folder, *listed, **changes), "test")


def played(folder, *listed, **changes):
    """The run of such a search, driven to its end."""
    run = real.create(folder / "runs", settings(folder, *listed, **changes))
    engine = Engine(run)
    try:
        search(engine)
    finally:
        engine.close()
        run.close()
    return run


def origins(run):
    """How the trials of the last round came about, by its journal."""
    bodies = [event.body for event in real.events(run.folder)]
    return [b.origin for b in bodies if isinstance(b, TrialProposed) and b.stage == "search"]


def test_a_round_is_as_the_one_before_it_in_all_that_it_does_not_say(tmp_path):
    short = [{"epochs": 4}]
    spec = spec_of(tmp_path, {**COARSE, "fidelities": short}, {"name": "fine", "trials": 7}, {"trials": 5})
    assert spec.searching == ("coarse", "fine", "search")
    views = [spec.at(stage) for stage in spec.searching]
    assert [v.search.trials for v in views] == [9, 7, 5]
    assert [v.search.searcher.kind for v in views] == ["random"] * 3
    assert [[f.epochs for f in v.fidelities] for v in views] == [[4], [4, 20], [4, 20]]
    assert spec.at("retrain") is spec


def test_a_strategy_takes_the_place_of_searcher_and_stopper_and_the_other_way_round(tmp_path):
    frontier = {"strategy": {"kind": "frontier"}}
    spec = spec_of(tmp_path, COARSE, {"name": "both", **frontier}, {"searcher": SOBOL})
    assert [s.strategy is None for s in (*spec.rounds, spec.search)] == [True, False, True]


def test_rounds_without_names_are_numbered_and_the_last_may_bring_the_ladder(tmp_path):
    plain = settings(tmp_path, {**COARSE, "fidelities": [{"epochs": 4}]}, {"fidelities": [{"epochs": 20}]})
    del plain["fidelities"], plain["search"][0]["name"]
    spec = specs.parse(plain, "test")
    assert [r.name for r in spec.rounds] == ["round-1"]
    assert [f.epochs for f in spec.fidelities] == [20]


def test_a_list_of_one_round_is_a_search(tmp_path):
    one = {k: v for k, v in COARSE.items() if k != "name"}
    assert spec_of(tmp_path, COARSE) == specs.parse({**settings(tmp_path), "search": one}, "test")


def test_what_was_taken_apart_stays_as_it_is(tmp_path):
    spec = spec_of(tmp_path, COARSE, {"trials": 5})
    assert specs.parse(spec.plain(), "test") == spec
    assert unfold(unfold(settings(tmp_path, COARSE, {}))) == unfold(settings(tmp_path, COARSE, {}))


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"name": "search"}, "a round is named 'search', which is taken"),
        ({"name": "coarse"}, "a round is named 'coarse', which is taken"),
        ({"workers": 3}, "round 'coarse': workers differs"),
        ({"baseline": 3}, "round 'fine': baseline is 3"),
        ({"name": "Fine!"}, "rounds[1].name: must be text of the form"),
        ({"trials": 10**6}, "rounds[1].trials: must be at most 100000"),
        ({"trials": 400}, "round 'fine': search.trials is 400, but space 'table' has only 81 candidates"),
        ({"trails": 4}, "rounds[1].trails: unknown key"),
        ({"fidelities": [{"epochs": 20}, {"epochs": 4}]}, "round 'fine': epochs are [20, 4]"),
        ({"strategy": {"kind": "pbt", "population": 4}}, "pbt"),
    ],
)
def test_rounds_that_do_not_go_together_are_one_line(tmp_path, second, words):
    last = {"name": "last", "workers": second.get("workers", 2), "baseline": 0, "trials": 5}
    with pytest.raises(SpecError) as error:
        spec_of(tmp_path, COARSE, {"name": "fine", **second}, last)
    assert words in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_both_spellings_at_once_are_refused(tmp_path):
    with pytest.raises(SpecError, match="search is a list of rounds, and rounds is given as well"):
        spec_of(tmp_path, COARSE, {}, rounds=[])


def test_a_round_begins_with_the_best_of_the_one_before_and_the_answer_is_the_last_ones(tmp_path):
    run = played(tmp_path, {**COARSE, "fidelities": [{"epochs": 4}]}, {"trials": 6, "again": 2})
    history, goals = run.history, run.spec.goals()
    coarse, last = history.of_stage("coarse"), history.of_stage("search")
    assert (len(coarse), len(last)) == (9, 6)
    best = sorted(coarse, key=lambda t: -t.value("val_accuracy"))[:2]
    assert {t.candidate for t in last[:2]} >= {best[0].candidate}
    assert origins(run)[0] == f"trial {best[0].number} of coarse"
    assert [" of coarse" in origin for origin in origins(run)] == [True, True, False, False, False, False]
    assert {len(t.ladder) for t in coarse} == {1}
    assert {t.number for t in eligible(history, goals)} == {t.number for t in last}
    assert list(history.stages) == ["coarse", "search"]
    (decision,) = [d for d in history.decisions if d.kind == "narrowed"]
    assert (decision.facts["stage"], decision.verdict) == ("search", "same")
    assert decision.reason


def test_a_round_may_begin_with_nothing_of_the_one_before(tmp_path):
    run = played(tmp_path, COARSE, {"trials": 4, "again": 0, "narrow": False})
    assert run.history.decision("narrowed") is None
    assert set(origins(run)) == {"random"}


def test_a_run_that_was_left_between_rounds_goes_on_with_the_next(tmp_path):
    first = real.create(tmp_path / "runs", settings(tmp_path, COARSE, {"trials": 6}))
    engine = Engine(first)

    def stop(event, _):
        if isinstance(event.body, StageFinished):
            first.stop.set()

    first.listeners.append(stop)
    with pytest.raises(runs.Interrupted):
        search(engine)
    engine.close()
    first.finish(RunStatus.INTERRUPTED)
    first.close()
    assert list(first.history.stages) == ["coarse", "search"]
    again = runs.open_run(first.folder)
    engine = Engine(again)
    search(engine)
    engine.close()
    again.close()
    assert [len(again.history.of_stage(s)) for s in ("coarse", "search")] == [9, 6]
    whole = played(tmp_path / "runs", COARSE, {"trials": 6})
    found, wanted = ([t.candidate for t in r.history.of_stage("search")] for r in (again, whole))
    assert found == wanted


NARROWER = {"kind": "mlp", "depth": {"min": 1, "max": 2}, "width": [8, 16]}


def narrowed(stage):
    """A spec of two rounds, and a history in which the space of the second was narrowed."""
    plain = {
        "name": "m",
        "space": {"kind": "mlp", "depth": {"min": 1, "max": 3}, "width": [4, 8, 16, 32]},
        "objectives": [{"metric": "val_accuracy", "reference": 0.5}],
        "fidelities": [{"epochs": 1}],
        "search": [{"name": "coarse", "trials": 4, "searcher": RANDOM}, {"trials": 4}],
    }
    history = History()
    facts = {"stage": stage, "kept": 0.2, "space": json.dumps(NARROWER)}
    history.apply(Event(0, 1.0, "r", Decided("narrowed", "narrower", facts=facts)))
    return specs.parse(plain, "test"), history


def test_a_narrower_space_holds_for_its_round_and_no_other():
    spec, history = narrowed("search")
    assert make_context(spec, history, "coarse").choices == spec.space.choices()
    inner = make_context(spec, history, "search").choices
    assert inner == rounds.space_of(spec, history, "search").choices()
    assert (inner["depth"].max, inner["width_1"].values) == (2, [8, 16])


def test_candidates_of_a_round_are_proposed_from_its_narrower_space(tmp_path):
    spec, history = narrowed("search")
    inner = rounds.space_of(spec, history, "search").choices()
    job = real.train("0")
    asked = type(job)("service-propose", kind=real.JobKind.PROPOSE, stage="search", count=4)
    plain = Proposals(tmp_path, history).answer(spec, asked, lambda _: ())
    candidates = [body_from_plain(p).candidate for p in plain]
    assert len(candidates) == 4
    assert all(choices.contains(inner, c) for c in candidates)


def test_a_round_leaves_the_later_ones_their_money(tmp_path):
    few = {"trials": 30, "fidelities": [{"epochs": 20}]}
    free = played(tmp_path / "free", {**COARSE, **few}, {"trials": 30, "narrow": False})
    both = [sum(t.cost_usd for t in free.history.of_stage(s)) for s in ("coarse", "search")]
    limit = 0.75 * sum(both)
    run = played(
        tmp_path / "tight", {**COARSE, **few}, {"trials": 30, "narrow": False}, budget={"limit_usd": limit}
    )
    spent = [sum(t.cost_usd for t in run.history.of_stage(s)) for s in ("coarse", "search")]
    assert sum(spent) <= limit
    assert min(spent) > limit / 4
    coarse = run.history.stages["coarse"]
    assert coarse is not None
    assert coarse.verdict == "stopped_by_budget"
