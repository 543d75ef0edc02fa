"""Jobs done in the controller's own process: what an answer holds, and which errors are answers."""

from tests import real, tabular
from tests.support import Story
from ziggurat import spec
from ziggurat.domain import FailureKind, Job, JobKind
from ziggurat.inprocess import performer


def given(folder, **changes):
    """A function that answers jobs of a run of a table, and a story of the run."""
    files = tabular.schedules(folder)
    settings = {
        "name": "table",
        "space": {"kind": "table", "accuracy": files["accuracy"]},
        "objectives": [{"metric": "val_accuracy", "reference": 0.5}],
        "fidelities": [{"epochs": 4}, {"epochs": 20}],
        "validate": {"enabled": False},
        "retrain": {"enabled": False},
        "search": {"trainer": {"kind": "table"}, "trials": 9, "searcher": {"kind": "random"}},
        "launcher": {"kind": "simulated"},
        **changes,
    }
    run = real.create(folder / "runs", settings)
    run.close()
    story = Story(ladder=spec.parse(settings, "test").ladder())
    return performer(run.folder, story.history), story, run.spec.space.table


def test_a_training_is_answered_with_its_result_and_how_long_it_would_take(tmp_path):
    perform, story, table = given(tmp_path)
    number = story.propose(table.candidates[7])
    answer = perform(story.start(number))
    assert (answer.done, answer.failure) == (True, None)
    assert answer.seconds == table.seconds[4][7]
    values = {m.metric: m.value for m in answer.measurements}
    assert values == {"val_accuracy": table.scores[4][7], "parameters": table.static["parameters"][7]}


def test_proposals_follow_the_history_as_it_grows_without_reading_the_journal(tmp_path):
    perform, story, _ = given(tmp_path)
    job = Job("service-propose", JobKind.PROPOSE, "search", count=1)
    (first,) = perform(job).payload
    assert (first["trial"], first["seen"]) == (0, story.history.length)
    story.propose(real.train("0").candidate)
    (second,) = perform(job).payload
    assert (second["trial"], second["seen"]) == (1, story.history.length)


def test_what_a_user_can_mend_is_an_answer(tmp_path):
    perform, story, table = given(tmp_path, fidelities=[{"epochs": 3}])
    answer = perform(story.start(story.propose(table.candidates[0])))
    assert answer.failure is not None
    assert answer.failure.kind is FailureKind.USER_ERROR
    assert "epochs 3 is not in the table" in answer.failure.text
