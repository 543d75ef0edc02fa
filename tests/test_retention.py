"""What is removed of a run's checkpoints, and above all what is not."""

import logging
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ACCURACY, Story
from ziggurat import retention
from ziggurat.domain import (
    Candidate,
    Failure,
    FailureKind,
    Fidelity,
    JobKind,
    Measurement,
    Parent,
    Proposal,
    Recipe,
    TrialStatus,
)
from ziggurat.events import (
    SegmentFinished,
    SegmentPlanned,
    StageFinished,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.exports import FILES
from ziggurat.plan.draft import other_job, train_job
from ziggurat.retention import Rules, Sweeper, kind_of, needless, space_used
from ziggurat.stores import DirectoryStore, StoreError

RULES = Rules(objective=ACCURACY)
PBT = Rules(objective=ACCURACY, handed_on=True)


def path(number, rung):
    return f"trials/{number:05d}/rung-{rung}.ckpt"


def partial(number):
    return f"trials/{number:05d}/partial.ckpt"


def all_of(story):
    """Everything that its trials could have left."""
    return [
        f(n) for n in story.history.trials for f in (partial, *(lambda n, r=r: path(n, r) for r in range(3)))
    ]


def climbed(story, *accuracies, parent=None):
    """A new trial that has reached as many rungs as there are accuracies."""
    number = story.propose(Proposal(Candidate({"width": len(story.history.trials) + 4}), parent=parent))
    for accuracy in accuracies:
        if story.trial(number).status is TrialStatus.UNDECIDED:
            story.verdict(number, "continue")
        story.finish(number, val_accuracy=accuracy)
    return number


def kept(story, rules=RULES):
    everything = all_of(story)
    return sorted(set(everything) - set(needless(everything, story.history, rules)))


def test_last_and_best_of_a_finished_trial_are_kept():
    story = Story()
    climbed(story, 0.7, 0.9, 0.8)
    assert kept(story) == [path(0, 1), path(0, 2)]
    climbed(story, 0.7, 0.8, 0.9)
    assert kept(story) == [path(0, 1), path(0, 2), path(1, 2)]


def test_the_higher_of_equal_rungs_is_the_best():
    story = Story()
    climbed(story, 0.9, 0.9, 0.8)
    assert kept(story) == [path(0, 1), path(0, 2)]


def test_without_an_objective_the_last_is_kept():
    story = Story()
    climbed(story, 0.7, 0.9, 0.8)
    assert kept(story, Rules()) == [path(0, 2)]


def test_what_a_living_trial_may_be_writing_is_left_alone():
    story = Story()
    climbed(story, 0.7, 0.8)
    assert kept(story) == [partial(0), path(0, 1), path(0, 2)]
    story.verdict(0, "continue")
    story.add(SegmentPlanned(train_job(story.history, story.trial(0), 2), 1.0, 0.0))
    assert kept(story) == [partial(0), path(0, 1), path(0, 2)]


def test_nothing_of_a_stopped_or_failed_trial_is_kept():
    story = Story()
    climbed(story, 0.7, 0.8)
    story.verdict(0, "stop")
    climbed(story, 0.7)
    story.verdict(1, "continue")
    story.fail(1)
    climbed(story)
    story.add(TrialEnded(2, TrialStatus.REJECTED, reason="too large"))
    assert kept(story) == []


def test_paused_trial_can_be_promoted():
    story = Story()
    climbed(story, 0.7)
    story.verdict(0, "pause")
    assert path(0, 0) in kept(story)


def test_parent_is_kept_as_long_as_its_child_lives():
    story = Story()
    climbed(story, 0.7, 0.6)
    child = climbed(story, parent=Parent(0, 0))
    story.verdict(0, "stop")
    assert path(0, 0) in kept(story)
    story.finish(child, val_accuracy=0.9)
    assert [k for k in kept(story) if "00000" in k] == [path(0, 0)]
    story.verdict(child, "stop")
    assert kept(story) == []


def test_population_may_copy_any_trial_at_any_rung_until_the_search_is_over():
    story = Story()
    climbed(story, 0.7, 0.8, 0.9)
    climbed(story, 0.5)
    story.verdict(1, "stop")
    climbed(story, 0.5)
    story.verdict(2, "continue")
    story.fail(2)
    assert kept(story, PBT) == [path(0, 0), path(0, 1), path(0, 2), path(1, 0)]
    story.add(StageFinished("search", "stopped_by_budget"))
    assert path(1, 0) in kept(story, PBT)
    story.add(StageFinished("search", "ok"))
    assert kept(story, PBT) == [path(0, 2)]


def test_checkpoint_of_a_segment_that_is_open_is_kept():
    story = Story()
    climbed(story, 0.7)
    story.add(SegmentPlanned(other_job(story.history, story.trial(0), JobKind.EVALUATE), 1.0, 0.0))
    story.add(TrialEnded(0, TrialStatus.FAILED))
    assert path(0, 0) in kept(story)


def test_retrained_models_are_kept_whole():
    story = Story(stage="retrain")
    climbed(story, 0.7, 0.8, 0.9)
    climbed(story, 0.7)
    story.verdict(1, "stop")
    assert kept(story) == sorted(all_of(story))


def test_all_is_kept_if_that_is_wanted():
    story = Story()
    climbed(story, 0.7)
    story.verdict(0, "stop")
    assert kept(story, Rules(keep="all")) == sorted(all_of(story))


@pytest.mark.parametrize(
    "key",
    ["spec.yaml", "journal.jsonl", "trials/00000/00000-train-0-0.json", "trials/00000/model.onnx",
     "trials/00000/logs/x.log", "trials/00009/rung-0.ckpt", "rung-0.ckpt", "trials/00000/rung-0.ckpt.json",
     "trials/00000/output/checkpoint/x", "other/trials/00000/rung-0.ckpt", "trials/00000/rung-x.ckpt"],
)  # fmt: skip
def test_what_is_no_checkpoint_of_a_known_trial_stays(key):
    story = Story()
    climbed(story, 0.7)
    story.verdict(0, "stop")
    assert needless([key, path(0, 0)], story.history, RULES) == [path(0, 0)]


def test_archives_and_working_folders_of_scripts_are_checkpoints_as_well():
    story = Story()
    climbed(story, 0.7)
    keys = ["trials/00000/rung-0.tar", "trials/00000/partial.tar", "trials/00000/checkpoint/a/b.pt"]
    assert needless(keys[1:], story.history, RULES) == keys[2:]
    story.verdict(0, "stop")
    assert needless(keys, story.history, RULES) == keys


class Tale:
    """A search whose files are removed as it goes on; it asks for them as the engine does."""

    def __init__(self, rules):
        self.story = Story(ladder=(Fidelity(1), Fidelity(3), Fidelity(9), Fidelity(27)))
        self.rules, self.files, self.over = rules, set(), False

    def trials(self, *statuses):
        return [t for t in self.story.history.trials.values() if t.status in statuses]

    def step(self, action, pick):
        """One thing happens, if it can."""
        things = getattr(self, f"for_{action}")()
        if things:
            getattr(self, action)(things[pick % len(things)], pick)

    def for_propose(self):
        return [] if self.over else [None]

    def propose(self, _, pick):
        self.story.propose(Proposal(Candidate({"width": len(self.story.history.trials)})))

    def for_copy(self):
        return self.parents() if self.rules.handed_on and not self.over else []

    def copy(self, parent, pick):
        assert self.story.history.checkpoint_at(parent) in self.files
        self.story.propose(Proposal(Candidate({"width": len(self.story.history.trials)}), parent=parent))

    def for_start(self):
        return self.trials(TrialStatus.WAITING, TrialStatus.READY)

    def start(self, trial, pick):
        job = train_job(self.story.history, trial, trial.rung + 1)
        assert job.checkpoint is None or job.checkpoint in self.files
        self.story.add(SegmentPlanned(job, 1.0, 0.0))

    def opened(self):
        return [s.job for s in self.story.history.open_segments.values()]

    for_finish = for_preempt = for_fail = for_write = opened

    def finish(self, job, pick):
        checkpoint = path(job.trial, job.to_rung)
        self.files.add(checkpoint)
        accuracy = Measurement("val_accuracy", (pick % 7) / 7, step=job.ladder[job.to_rung].epochs)
        self.end(job, measurements=(accuracy,), checkpoint=checkpoint)

    def preempt(self, job, pick):
        if pick % 3:
            self.write(job, pick)
        failure = Failure(FailureKind.PREEMPTED, "told to")
        self.end(job, failure=failure, checkpoint=partial(job.trial) if pick % 3 else None, retry=True)

    def fail(self, job, pick):
        failure = Failure(FailureKind.DIVERGED, "told to")
        self.end(job, failure=failure)
        self.story.add(TrialEnded(job.trial, TrialStatus.FAILED, failure=failure))

    def end(self, job, **told):
        self.story.add(SegmentFinished(job.key, job.trial, 1.0, 0.0, **told))

    def write(self, job, pick):
        self.files.add(partial(job.trial))

    def for_judge(self):
        return self.trials(TrialStatus.UNDECIDED)

    def judge(self, trial, pick):
        self.story.verdict(trial.number, ("continue", "pause", "stop")[pick % 3])

    def for_rejudge(self):
        return self.trials(TrialStatus.PAUSED)

    def rejudge(self, trial, pick):
        self.story.verdict(trial.number, ("continue", "stop")[pick % 2])

    def for_close(self):
        moving = (TrialStatus.WAITING, TrialStatus.READY, TrialStatus.RUNNING, TrialStatus.UNDECIDED)
        return [] if self.over or self.trials(*moving) or not self.story.history.trials else [None]

    def close(self, _, pick):
        for trial in self.trials(TrialStatus.PAUSED):
            self.story.add(TrialEnded(trial.number, TrialStatus.STOPPED))
        self.story.add(StageFinished("search", "ok"))
        self.over = True

    def parents(self):
        lost = {TrialStatus.FAILED, TrialStatus.REJECTED}
        return [
            Parent(t.number, rung)
            for t in self.story.history.trials.values()
            if t.status not in lost
            for rung in t.results
            if rung < t.top_rung
        ]

    def sweep(self):
        gone = needless(sorted(self.files), self.story.history, self.rules)
        self.files -= set(gone)

    def check(self):
        """Everything that a later step can ask for is there."""
        history = self.story.history
        for trial in history.trials.values():
            if trial.status not in retention.DROPPED and trial.checkpoint:
                assert trial.checkpoint in self.files
        for segment in history.open_segments.values():
            assert segment.job.checkpoint is None or segment.job.checkpoint in self.files
        if self.rules.handed_on and not self.over:
            assert {history.checkpoint_at(p) for p in self.parents()} <= self.files


ACTIONS = [
    "propose", "copy", "start", "start", "start", "finish", "finish", "finish", "preempt", "fail", "write",
    "judge", "judge", "rejudge", "close",
]  # fmt: skip


@given(st.booleans(), st.integers(0, 2**32))
def test_nothing_is_removed_that_a_later_step_can_ask_for(handed_on, seed):
    tale, rng = Tale(Rules(objective=ACCURACY, handed_on=handed_on)), random.Random(seed)
    for _ in range(150):
        tale.step(rng.choice(ACTIONS), rng.randrange(1000))
        if rng.random() < 0.5:
            tale.sweep()
        tale.check()
    tale.sweep()
    busy = {job.trial for job in tale.opened()}
    history = tale.story.history
    dropped = {t.number for t in history.trials.values() if t.status in retention.DROPPED} - busy
    if not handed_on:
        assert not [key for key in tale.files if int(key.split("/")[1]) in dropped]


@pytest.fixture
def here(tmp_path):
    """A run directory and a store of the same run, and what puts a file into both."""
    store = DirectoryStore(path=tmp_path / "store").open("run")
    folder = tmp_path / "run"

    def put(key, size=100):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(b"x" * size)
        store.upload(folder / key, key)

    return folder, store, put


def left(folder, store):
    keys = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert [e.key for e in store.entries()] == keys
    return keys


def test_sweep_removes_from_the_folder_and_the_store_and_tells_how_much(here):
    folder, store, put = here
    story = Story()
    climbed(story, 0.7, 0.8)
    climbed(story, 0.7)
    for key in (*all_of(story)[1:], "trials/00000/00000-train-0-0.json", "spec.yaml"):
        put(key)
    story.verdict(1, "stop")
    stay = [path(0, 1), path(0, 2), "spec.yaml", "trials/00000/00000-train-0-0.json"]
    freed = Sweeper(folder, store, RULES).sweep(story.history)
    assert left(folder, store) == sorted(stay)
    assert freed == 2 * 100 * 5
    assert Sweeper(folder, store, RULES).sweep(story.history) == 0


def test_sweeper_looks_again_only_where_something_has_changed(here):
    folder, store, put = here
    story, asked = Story(), []

    class Watched:
        def __getattr__(self, name):
            return getattr(store, name)

        def entries(self, prefix=""):
            asked.append(prefix)
            return store.entries(prefix)

    sweeper = Sweeper(folder, Watched(), RULES)
    climbed(story, 0.7)
    put(path(0, 0))
    assert sweeper.sweep(story.history) == 0
    assert asked == []
    story.verdict(0, "continue")
    story.finish(0, val_accuracy=0.8)
    put(path(0, 1))
    assert sweeper.sweep(story.history) == 200
    assert sweeper.sweep(story.history) == 0
    assert asked == ["trials/00000/"]
    story.verdict(0, "stop")
    assert sweeper.sweep(story.history) == 200
    assert left(folder, store) == []
    for _ in range(30):
        story.verdict(climbed(story, 0.5), "stop")
        put(path(len(story.history.trials) - 1, 0))
    assert sweeper.sweep(story.history) == 30 * 200
    assert asked == ["trials/00000/"] * 2 + ["trials/"]


def test_store_that_cannot_be_reached_is_told_and_tried_again(here, caplog):
    folder, store, put = here
    story, broken = Story(), [True]
    climbed(story, 0.7)
    put(path(0, 0))
    story.verdict(0, "stop")

    class Broken:
        def __getattr__(self, name):
            return getattr(store, name)

        def delete(self, keys):
            if broken:
                raise StoreError("store: access denied")
            store.delete(keys)

    sweeper = Sweeper(folder, Broken(), RULES)
    with caplog.at_level(logging.WARNING):
        assert sweeper.sweep(story.history) == 100
    assert "could not be removed (store: access denied)" in caplog.text
    broken.clear()
    assert sweeper.sweep(story.history) == 100
    assert left(folder, store) == []


def test_all_is_left_if_that_is_wanted(here):
    folder, store, put = here
    story = Story()
    climbed(story, 0.7)
    put(path(0, 0))
    story.verdict(0, "stop")
    assert Sweeper(folder, store, Rules(keep="all")).sweep(story.history) == 0
    assert left(folder, store) == [path(0, 0)]


def test_space_used_is_told_by_kind(here):
    folder, store, put = here
    sizes = {
        "trials/00000/rung-0.ckpt": 1,
        "trials/00000/partial.tar": 2,
        "trials/00000/checkpoint/a.pt": 4,
        "trials/00000/model-int8.onnx": 8,
        "trials/00000/model.pt2": 16,
        "journal.jsonl": 32,
        "journal/00000001.jsonl": 64,
        "logs/worker-0.log": 128,
        "trials/00000/logs/key.log": 256,
        "spec.yaml": 512,
        "trials/00000/00000-train-0-0.json": 1024,
    }
    for key, size in sizes.items():
        put(key, size)
    wanted = {"checkpoints": 7, "exports": 24, "journal": 96, "logs": 384, "other": 1536}
    assert space_used(folder) == wanted
    assert space_used(store) == wanted
    assert space_used(folder / "nothing") == dict.fromkeys(wanted, 0)


def test_names_that_the_product_writes_are_known():
    assert {kind_of(f"trials/00000/{name}") for name in FILES.values()} == {"exports"}
    assert kind_of("trials/00000/partial.ckpt") == "checkpoints"
    assert kind_of("trials/123456/rung-12.ckpt") == "checkpoints"


def test_trials_of_other_stages_are_seen_to_as_well():
    story = Story()
    story.add(StageStarted("validate"))
    story.add(
        TrialProposed(0, 0, "validate", Candidate({"width": 4}), 0, (Fidelity(1),), recipe=Recipe.SEARCH)
    )
    story.finish(0, val_accuracy=0.5)
    assert kept(story) == [path(0, 0)]
