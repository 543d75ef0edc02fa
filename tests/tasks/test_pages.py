"""What Prefect's pages show of a run."""

import pytest

from tasks import pages
from tests.searched import searched, settings
from ziggurat.domain import RunStatus
from ziggurat.events import Decided, StageStarted


@pytest.fixture
def run(tmp_path):
    taken = searched(tmp_path, retrain=settings())
    yield taken
    taken.close()


def test_keys_of_two_runs_differ_and_are_what_prefect_takes():
    key = pages.key_of("Small_spec.v2-20260101-000000-abcdef01", "front")
    assert key == "front-small-spec-v2-20260101-000000-abcdef01"
    assert key != pages.key_of("Small_spec.v2-20260101-000000-abcdef02", "front")


def test_the_front_shows_metrics_and_what_a_trial_is_made_of(run):
    rows = {row["trial"]: row for row in pages.front_rows(run.spec, run.history)}
    assert set(rows) == {0, 1, 2}
    assert rows[1] == {"trial": 1, "val_accuracy": "0.95", "parameters": "2000", "width": "2"}


def test_the_stages_show_their_cost_so_far_and_to_come(run):
    rows = {row["stage"]: row for row in pages.stage_rows(run.spec, run.history)}
    assert rows["search"]["state"] == "ok"
    assert rows["search"]["spent USD"] == "0.4"
    assert rows["search"]["to come USD"] == ""
    assert float(rows["retrain"]["to come USD"]) > 0
    assert rows["all"]["spent USD"] == "0.4"


def test_progress_grows_with_stages_and_trials_and_ends_at_100(run):
    before = pages.percent(run.spec, run.history)
    run.record([StageStarted("retrain")])
    assert before == pages.percent(run.spec, run.history) == 60.0
    run.finish(RunStatus.COMPLETED)
    assert pages.percent(run.spec, run.history) == 100.0


def test_a_search_that_goes_on_counts_its_ended_trials(tmp_path):
    taken = searched(tmp_path, ended=False)
    assert pages.percent(taken.spec, taken.history) == 40.0, "4 of 6 trials of a stage that is worth 60"
    taken.close()


def test_the_outcome_names_the_run_directory_and_how_to_go_on(run):
    run.record([Decided("approval", "wanted", reason="Retrain 2 of 4?")])
    text = pages.outcome_text(run.spec, run.history, "runs/x")
    assert "Retrain 2 of 4?" in text
    assert "resume" not in text
    run.finish(RunStatus.INTERRUPTED, "stopped")
    assert "ziggurat resume runs/x" in pages.outcome_text(run.spec, run.history, "runs/x")
