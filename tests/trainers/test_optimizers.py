"""Optimisers and schedules by name: which can be used, and how the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.domain import Fidelity, Job, JobKind
from ziggurat.errors import SpecError
from ziggurat.trainers import Lightning
from ziggurat.trainers.optimizers import horizon, optimizers, schedules, steps_per_epoch


@pytest.mark.parametrize("name", sorted(set(optimizers()) - {"SparseAdam", "Muon"}))
def test_every_optimizer_for_dense_gradients_can_be_used(name: str) -> None:
    Lightning(optimizer={"name": name}).check()


@pytest.mark.parametrize("name", sorted(set(optimizers()) & {"SparseAdam", "Muon"}))
def test_an_optimizer_that_cannot_train_a_layer_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=f"trainer.optimizer: {name} cannot be used"):
        Lightning(optimizer={"name": name}).check()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"optimizer": {"name": "adamw2"}}, "trainer.optimizer.name is 'adamw2'.*did you mean AdamW"),
        ({"optimizer": {"name": "Zzz"}}, "known: .*AdamW.*SGD"),
        (
            {"optimizer": {"arguments": {"betass": [0.9, 0.99]}}},
            "AdamW takes no 'betass'; did you mean betas",
        ),
        ({"optimizer": {"arguments": {"lr": 0.1}}}, "give trainer.learning_rate instead"),
        ({"optimizer": {"arguments": {"betas": [0.9, 2.0]}}}, "AdamW cannot be used .*Invalid beta"),
        ({"schedule": {"name": "CosineAnealingLR"}}, "did you mean CosineAnnealingLR"),
        ({"schedule": {"name": "LambdaLR"}}, "trainer.schedule.name is 'LambdaLR', which is unknown"),
        ({"schedule": {"name": "StepLR"}}, "StepLR needs 'step_size'"),
        ({"schedule": {"name": "OneCycleLR", "arguments": {"pct": 0.1}}}, "did you mean pct_start"),
        ({"schedule": {"name": "constant", "arguments": {"gamma": 0.1}}}, "constant takes no 'gamma'"),
        ({"optimizer": {"name": "Rprop"}, "schedule": {"name": "OneCycleLR"}}, "OneCycleLR cannot be used"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(setting: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as raised:
        Lightning.model_validate(setting).check()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", "ReduceLROnPlateau"])
def test_warm_up_before_a_schedule_that_cannot_follow_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot follow a warm-up"):
        Lightning(schedule={"name": name, "warmup_epochs": 1})


def test_defaults_and_a_horizon_given_by_the_user_are_usable() -> None:
    Lightning().check()
    Lightning(schedule={"name": "CosineAnnealingLR", "arguments": {"T_max": 5}}).check()
    Lightning(schedule={"name": "OneCycleLR", "arguments": {"epochs": 5, "steps_per_epoch": 4}}).check()
    Lightning(schedule={"name": "constant", "warmup_epochs": 1}).check()
    assert "LRScheduler" not in schedules()


@pytest.mark.parametrize(
    ("examples", "batch", "steps"), [(10, 5, 2), (11, 5, 2), (12, 5, 3), (1, 5, 1), (3, 5, 1), (5, 1, 5)]
)
def test_last_batch_counts_unless_it_is_a_single_example(examples: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(examples, batch) == steps


LADDER = (Fidelity(2, 0.25), Fidelity(4, 0.5), Fidelity(10, 1.0))


def test_horizon_adds_up_rungs_on_their_own_data() -> None:
    job = Job("k", JobKind.TRAIN, "search", ladder=LADDER, to_rung=0)
    assert (
        horizon(job, 25, 10) == 2 * 3 + 2 * 5 + 6 * 10
    )  # 25 of 100 examples: 3 batches of 25, 5 of 50, 10 of 100


def test_horizon_of_a_straight_training_uses_the_data_of_its_rung_throughout() -> None:
    job = Job("k", JobKind.TRAIN, "search", ladder=LADDER, to_rung=2)
    assert horizon(job, 100, 10) == 10 * 10


@given(
    n=st.integers(1, 500),
    batch=st.integers(1, 64),
    epochs=st.lists(st.integers(1, 9), min_size=1, max_size=4),
)
def test_horizon_on_all_data_is_epochs_times_batches(n: int, batch: int, epochs: list[int]) -> None:
    ladder = tuple(Fidelity(sum(epochs[: i + 1])) for i in range(len(epochs)))
    for rung in range(len(ladder)):
        job = Job("k", JobKind.TRAIN, "search", ladder=ladder, to_rung=rung)
        assert horizon(job, n, batch) == sum(epochs) * steps_per_epoch(n, batch)
