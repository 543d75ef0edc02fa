"""Searching with a user's script: which parts of a spec fit one another, and what is known of such a run."""

from pathlib import Path

import pytest

from tests import scripts
from tests.support import Story
from ziggurat import scripted, spec
from ziggurat.contexts import Rates, measuring, start_and_rate
from ziggurat.domain import Candidate, Fidelity, Goal, JobKind, Measurement, Objective, Recipe
from ziggurat.errors import SpecError
from ziggurat.estimate import estimate
from ziggurat.history import History
from ziggurat.stages.subset import facts_of

HERE = Path("train.py")
CNN = {"kind": "cnn", "hyperparameters": {"x": {"min": 0.0, "max": 1.0}}}
SHAPED = {"kind": "external", "shape": [1, 8, 8], "classes": 10}
GAIN = {"kind": "penalty", "metric": "reward", "cost": "latency_p50_ms", "target": 2, "weight": 1}
ARCH = ["train.sh", "${arch_file}", "epochs=${epochs}"]


def parsed(**changes):
    return spec.parse(scripts.plain(HERE, **changes), "test")


def search(trainer=None, **changes):
    return {**scripts.plain(HERE)["search"], **({"trainer": trainer} if trainer else {}), **changes}


def refused(*words, **changes):
    with pytest.raises(SpecError) as caught:
        parsed(**changes)
    text = str(caught.value)
    assert "\n" not in text
    assert [word for word in words if word not in text] == [], text


def test_data_are_external_where_nothing_is_said():
    assert parsed().data.kind == "external"
    assert parsed(search=search({"kind": "script", **{**scripts.trainer(HERE)}})).data.fingerprint() == ""


def test_a_script_that_cannot_resume_has_its_trials_stopped_unless_told_otherwise():
    once = scripts.trainer(HERE, resumes=False)
    found = parsed(search=search(once))
    assert found.search.stopper.type == "stopping"
    assert not found.resumable
    stopper = {"kind": "asha", "type": "promotion"}
    assert parsed(search=search(once, stopper=stopper)).search.stopper.type == "promotion"
    assert parsed().search.stopper.type == "promotion"
    assert parsed().resumable


def test_metrics_are_those_that_script_space_and_profile_command_give():
    bare = parsed().metrics
    assert (bare.learned, bare.costs) == (("reward",), ())
    profiled = parsed(search=search(scripts.trainer(HERE, profile=scripts.profiling(HERE)))).metrics
    assert {"latency_p50_ms", "parameters", "energy_mj"} <= set(profiled.measured)
    assert profiled.static == ()
    told = {"command": ["p"], "metrics": {"board_ms": "stdout"}}
    assert parsed(search=search(scripts.trainer(HERE, profile=told))).metrics.costs == ("board_ms",)
    built = parsed(space=CNN, data=SHAPED, search=search(scripts.trainer(HERE, command=ARCH))).metrics
    assert built.static == ("parameters", "flops", "model_size_mb")
    assert "latency_p50_ms" in built.measured


def test_directions_are_the_objectives_and_known_metrics_keep_theirs():
    metrics = {"reward": "stdout", "val_loss": "stdout", "regret": "stdout"}
    found = parsed(
        search=search(scripts.trainer(HERE, metrics=metrics)),
        objectives=[
            {"metric": "reward", "goal": "maximize", "reference": -5, "limit": -9},
            {"metric": "regret", "goal": "minimize", "reference": 1e9},
            {"metric": "val_loss", "reference": 3},
        ],
    )
    assert [o.goal for o in found.goals()] == [Goal.MAXIMIZE, Goal.MINIMIZE, Goal.MINIMIZE]
    assert found.judged().metric == "reward"


def test_a_metric_derived_of_a_scripts_own_has_the_direction_that_is_given():
    found = parsed(
        search=search(scripts.trainer(HERE, profile=scripts.profiling(HERE))),
        derived={
            "gain": {
                "kind": "penalty",
                "metric": "reward",
                "cost": "latency_p50_ms",
                "target": 2,
                "weight": 1,
            }
        },
        objectives=[{"metric": "gain", "goal": "maximize", "reference": -50}],
    )
    assert found.goal("gain") is Goal.MAXIMIZE
    assert found.learned().metric == "reward"


REWARD = {"metric": "reward", "reference": 1}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objectives": [REWARD]}, ("goal of reward is missing", "goal: maximize or goal: minimize")),
        (
            {"objectives": [{**REWARD, "goal": "maximize"}, {"metric": "latency_p50_ms", "reference": 1}]},
            ("objectives[1].metric: nothing tells 'latency_p50_ms'", "search.trainer.profile"),
        ),
        (
            {"objectives": [{"metric": "rewart", "goal": "maximize", "reference": 1}]},
            ("nothing tells 'rewart'", "search.trainer.metrics", "did you mean reward?"),
        ),
        ({"search": {"trials": 3}}, ("space.kind 'parameters' has no models", "'lightning'", "script")),
        ({"data": {"kind": "digits"}}, ("own data", "'digits'", "set data.kind to external")),
        ({"data": {"kind": "external", "chance": {"acc": 0.1}}}, ("no metric 'acc'", "known: reward")),
        ({"space": CNN}, ("space.kind 'cnn' builds models", "shape: [1, 8, 8]")),
        ({"search": search({"kind": "table"})}, ("set space and launcher as well",)),
        (
            {"search": search(strategy={"kind": "pbt", "population": 4}, stopper={"kind": "never"})},
            ("search.strategy 'pbt'", "resume"),
        ),
        ({"retrain": {"trainer": {"kind": "lightning"}}}, ("retrain.trainer.kind", "or neither")),
        (
            {"retrain": {"trainer": {"kind": "script", "command": ["a", "${args}"]}}},
            ("retrain.trainer.metrics has no 'reward'",),
        ),
        (
            {"retrain": {"segment_epochs": 2}, "search": search(scripts.trainer(HERE, resumes=False))},
            ("retrain.segment_epochs", "cannot resume"),
        ),
        (
            {"search": search(scripts.trainer(HERE, command=["a", "${args}", "${epoch}"]))},
            ("search.trainer.command: ${epoch}", "did you mean epochs"),
        ),
        (
            {"devices": [{"table": "t.json"}]},
            ("'local' has a latency table", "'parameters' has no models", "remove table"),
        ),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(changes, words):
    once = scripts.trainer(HERE, resumes=False)
    if "strategy" in changes.get("search", {}):
        changes = {**changes, "search": {**changes["search"], "trainer": once}}
    refused(*words, **changes)


def test_a_launcher_gives_a_script_more_time_to_end_than_the_script_gets():
    own = scripts.trainer(HERE, grace_s=20)
    refused("launcher.grace_s is 10, search.trainer.grace_s 20", "raise it by", search=search(own))
    refused("launcher.grace_s is 20,", search=search(own), launcher={"grace_s": 20})
    refused("search.trainer.grace_s 5", launcher={"kind": "torchx", "scheduler": "slurm", "grace_s": 5})
    assert parsed(search=search(own), launcher={"grace_s": 21})
    assert parsed(launcher={"kind": "torchx", "scheduler": "slurm"})
    retrain = {"k": 1, "launcher": {"grace_s": 4}}
    refused("retrain.launcher.grace_s is 4, search.trainer.grace_s 5", retrain=retrain)
    refused("launcher.grace_s is 10, retrain.trainer.grace_s 20", retrain={"k": 1, "trainer": own})
    assert parsed(retrain={**retrain, "enabled": False})


def test_external_data_are_refused_without_a_script():
    refused("data.kind 'external'", "'lightning'", space={"kind": "mlp"}, data=SHAPED, search={"trials": 3},
            objectives=[{"metric": "val_accuracy", "reference": 0.1}])  # fmt: skip


def test_a_profile_command_that_needs_a_checkpoint_serves_no_objective():
    command = {"command": ["p", "${checkpoint_dir}"]}
    late = search(scripts.trainer(HERE, profile=command))
    assert parsed(search=late).metrics.measured
    objectives = [{**REWARD, "goal": "maximize"}, {"metric": "latency_p50_ms", "reference": 1}]
    refused("latency_p50_ms before training", "${checkpoint_dir}", search=late, objectives=objectives)


def test_what_follows_training_is_what_commands_can_tell():
    bare = parsed()
    assert scripted.kinds_after(bare) == ()
    assert scripted.devices(bare, Recipe.RETRAIN) == []
    assert [u.split(" (")[0] for u in scripted.unchecked(bare)][:2] == [
        "the sealed test part",
        "latency, memory and energy",
    ]
    given = scripts.trainer(HERE, profile=scripts.profiling(HERE), test=scripts.testing(HERE))
    whole = parsed(search=search(given))
    assert scripted.kinds_after(whole) == (JobKind.EVALUATE,)
    assert scripted.devices(whole, Recipe.RETRAIN) == ["local"]
    assert len(scripted.unchecked(whole)) == 1
    assert scripted.test_fingerprint(whole)
    assert not scripted.test_fingerprint(bare)
    built = parsed(space=CNN, data=SHAPED, search=search(scripts.trainer(HERE, command=ARCH)))
    assert scripted.devices(built, Recipe.SEARCH) == ["local"]
    objectives = [{"metric": "val_accuracy", "reference": 0.1}]
    classic = parsed(space={"kind": "mlp"}, search={"trials": 3}, objectives=objectives)
    assert scripted.kinds_after(classic) == (JobKind.EVALUATE, JobKind.EXPORT)
    assert scripted.unchecked(classic) == []
    assert scripted.shortcomings(classic) == []


def test_retraining_of_a_script_that_cannot_resume_is_one_segment():
    assert parsed().full_ladder() == (Fidelity(2), Fidelity(4))
    assert parsed(search=search(scripts.trainer(HERE, resumes=False))).full_ladder() == (Fidelity(4),)


def test_probes_use_a_fraction_of_the_data_only_if_the_command_does():
    settings = {"enabled": True, "candidates": 3, "subset": 0.25}
    plain = parsed(validate=settings)
    assert scripted.probe(plain) == Fidelity(1, 1.0)
    assert "${data_fraction}" in scripted.shortcomings(plain)[0]
    command = [*scripts.trainer(HERE)["command"], "part=${data_fraction}"]
    able = parsed(validate=settings, search=search(scripts.trainer(HERE, command=command)))
    assert scripted.probe(able) == Fidelity(1, 0.25)
    assert scripted.shortcomings(able) == []


def test_a_command_without_epochs_is_said_to_train_every_rung_alike():
    command = ["a", "${args}"]
    found = scripted.shortcomings(parsed(search=search(scripts.trainer(HERE, command=command, resume=[]))))
    assert any("${epochs}" in text and "same whole training" in text for text in found)
    assert any("cannot resume" in text for text in found)


def test_seconds_of_a_start_and_of_an_epoch_are_told_apart():
    start, rate = start_and_rate([1, 2, 6], [3.0, 3.5, 5.5])
    assert (start, rate) == (pytest.approx(2.5), pytest.approx(0.5))
    assert start_and_rate([2, 2], [3.0, 4.0]) is None
    falling = start_and_rate([1, 3], [4.0, 2.0])
    assert falling is not None
    assert falling[1] == 0
    through = start_and_rate([1, 3], [0.1, 3.0])
    assert through is not None
    assert through[0] == 0


def test_forecasts_of_a_script_count_every_start():
    story = Story(ladder=(Fidelity(1), Fidelity(5)))
    for seconds in ((3.0, 5.0), (3.0, 5.0)):
        number = story.propose(Candidate({"x": float(len(story.history.trials))}))
        for took in seconds:
            job = story.start(number)
            found = (Measurement("reward", 1.0, step=1),)
            from ziggurat.events import SegmentFinished

            story.add(SegmentFinished(job.key, number, took, 0.0, measurements=found))
            if job.to_rung == 0:
                story.verdict(number, "continue")
    # a segment of 1 epoch takes 3 s, one of 4 epochs takes 5 s: 7/3 s to start and 2/3 s an epoch
    rates = Rates(story.history, starts=True)
    assert rates.seconds(10, 2) == pytest.approx(2 * 7 / 3 + 10 * 2 / 3)
    assert Rates(story.history).seconds(10, 2) == pytest.approx(10 * Rates(story.history).typical)
    found = parsed()
    assert measuring(found, story.history, JobKind.EVALUATE).seconds == pytest.approx(7 / 3)
    row = {r.stage: r for r in estimate(found, story.history)}["retrain"]
    assert row.seconds == pytest.approx(4 * 7 / 3 + 8 * 2 / 3)


def test_every_promotion_of_a_script_that_cannot_resume_is_forecast_as_a_whole_training():
    history = History()
    once = scripts.trainer(HERE, resumes=False)
    stopper = {"kind": "never"}
    found = [estimate(parsed(search=search(t, stopper=stopper)), history)[0] for t in (None, once)]
    assert found[1].seconds / found[0].seconds == pytest.approx((1 + 3) / 3)


def test_probes_of_a_minimised_metric_are_judged_by_its_direction():
    story = Story(ladder=(Fidelity(1),), stage="validate")
    for x, values in ((0, (4.0, 4.2)), (1, (1.0, 1.2))):
        for value in values:
            story.finish(story.propose(Candidate({"x": x})), loss=value)
    falling, nan = Objective("loss", Goal.MINIMIZE, 9.0), float("nan")
    trials = story.history.of_stage("validate")
    facts = facts_of(trials, falling, nan, 0.0)
    assert (facts.best, facts.failed_share) == (1.0, 0.0)
    assert facts.signal > facts.noise
    assert facts.learns(falling)
    assert facts_of(trials, falling, 2.0, 0.0).learns(falling)
    assert not facts_of(trials, falling, 0.5, 0.0).learns(falling)
    assert not facts_of(trials, Objective("loss", Goal.MAXIMIZE, 0.0), 5.0, 0.0).learns(
        Objective("loss", Goal.MAXIMIZE, 0.0)
    )
    assert not facts_of([], falling, nan, 0.0).learns(falling)
