"""The space of measured candidates, its trainer, and what a spec must say to use them."""

import pytest
from pydantic import TypeAdapter, ValidationError

from tests import tabular
from ziggurat import runs, spec
from ziggurat.choices import check, contains, sample
from ziggurat.domain import Candidate, FailureKind, Fidelity, Job, JobKind
from ziggurat.errors import SpecError
from ziggurat.protocols import Signature
from ziggurat.runs import Interrupted
from ziggurat.session import Session
from ziggurat.spaces import AnySpace, TableSpace
from ziggurat.stages import preflight
from ziggurat.stages import search as search_stage
from ziggurat.trainers import TableTrainer


@pytest.fixture
def space(tmp_path) -> TableSpace:
    files = tabular.schedules(tmp_path)
    plain = {"kind": "table", **files, "costs": {"board": files.pop("cost")}}
    plain.pop("cost")
    return TypeAdapter(AnySpace).validate_python(plain)


def segment(space, low: int, high: int, candidate=None) -> Job:
    ladder = (Fidelity(4), Fidelity(20), Fidelity(21))
    chosen = candidate or space.table.candidates[5]
    return Job("j", JobKind.TRAIN, "search", candidate=chosen, ladder=ladder, from_rung=low, to_rung=high)


def plain(space, **changes):
    return {
        "name": "replayed",
        "space": space.model_dump(mode="json"),
        "objectives": [
            {"metric": "val_accuracy", "reference": 0.5},
            {"metric": "board", "reference": 20},
        ],
        "fidelities": [{"epochs": 4}, {"epochs": 20}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "search": {"trainer": {"kind": "table"}, "trials": 10},
        "launcher": {"kind": "simulated"},
        **changes,
    }


def test_any_drawn_candidate_has_a_row(space):
    import numpy as np

    check(space.choices())
    for seed in range(20):
        candidate = sample(space.choices(), np.random.default_rng(seed))
        assert contains(space.choices(), candidate)
        assert candidate in space.table.rows


def test_a_segment_gives_the_score_of_the_table_and_its_seconds(space):
    found = TableTrainer().replay(space.table, segment(space, -1, 0))
    (score,) = found.measurements
    assert (score.metric, score.step) == ("val_accuracy", 4)
    assert score.value == pytest.approx(tabular.SHORT[5] / 100)
    assert found.seconds == pytest.approx(space.table.seconds[4][5])


def test_epochs_that_the_table_does_not_have_are_refused(space):
    with pytest.raises(SpecError, match="epochs 21 is not in the table; it has 4, 20"):
        TableTrainer().replay(space.table, segment(space, 1, 2))


def test_a_candidate_without_a_row_is_a_failed_trial(space):
    found = TableTrainer().replay(space.table, segment(space, -1, 0, Candidate({"edge_0": "large"})))
    assert found.failure is not None
    assert found.failure.kind is FailureKind.USER_ERROR


def test_a_table_has_no_models(space):
    with pytest.raises(SpecError, match="no models to build"):
        space.build(space.table.candidates[0], Signature((1,), 2))


def test_a_spec_of_a_table_is_whole(space):
    found = spec.parse(plain(space), "spec")
    assert not found.resumable
    assert found.space == space


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"launcher": {"kind": "local"}}, "set launcher as well"),
        ({"search": {"trials": 10}}, "set search.trainer as well"),
        ({"retrain": {"enabled": True}}, "set validate.enabled and retrain.enabled to false"),
        ({"search": {"trainer": {"kind": "table"}, "trials": 82}}, "has only 81 candidates"),
        ({"objectives": [{"metric": "val_accuracy", "reference": 0.5}, {"metric": "bord", "reference": 1}]},
         "did you mean board?"),
        ({"search": {"trainer": {"kind": "table"}, "trials": 9, "strategy": {"kind": "frontier"},
                     "searcher": {"kind": "random"}}}, "remove searcher, or strategy"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_said_in_one_line(space, changes, words):
    with pytest.raises(SpecError) as error:
        spec.parse(plain(space, **changes), "spec")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_without_scores_is_refused():
    with pytest.raises(ValidationError, match="a table needs one of accuracy, curves, fidelities"):
        TableSpace()


def test_a_spec_with_a_joint_strategy_survives_its_own_plain_form(space):
    chosen = {"trainer": {"kind": "table"}, "trials": 9, "strategy": {"kind": "frontier"}}
    first = spec.parse(plain(space, search=chosen), "spec")
    assert spec.parse(first.plain(), "again") == first


def test_a_run_of_a_table_goes_through_all_stages_and_on_after_an_interruption(space, tmp_path):
    chosen = {"trainer": {"kind": "table"}, "trials": 30, "strategy": {"kind": "frontier"}, "workers": 3}
    given = spec.parse(plain(space, search=chosen, tracking={"enabled": False}), "spec")
    run = runs.create(given, {}, tmp_path / "runs")
    session = Session(run, None)
    preflight(session.engine)
    halt = run.history.length + 40

    def stop(event, _):
        if event.seq > halt:
            run.stop.set()

    run.listeners.append(stop)
    with pytest.raises(Interrupted):
        search_stage(session.engine)
    session.close()
    told = [s.job.key for s in run.history.segments.values()]

    again = runs.open_run(run.folder)
    session = Session(again, None)
    search_stage(session.engine)
    session.write_report(session.status())
    session.close()
    history = again.history
    assert [s.job.key for s in history.segments.values()][: len(told)] == told
    ends = [s.finished_utc for s in history.segments.values() if s.end is not None]
    assert max(ends) > min(ends) > 0
    assert any(t.rung == t.top_rung for t in history.of_stage("search"))
    assert (run.folder / "report" / "index.html").exists()
