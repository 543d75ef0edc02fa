"""Batches from memory."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.trainers.batches import Batches, in_order


@given(n=st.integers(1, 60), size=st.integers(1, 20), seed=st.integers(0, 9))
def test_an_epoch_holds_each_example_at_most_once_and_drops_at_most_one(n: int, size: int, seed: int) -> None:
    x = torch.arange(n).float().view(n, 1)
    batches = Batches(x, torch.arange(n), size)
    batches.seed = seed
    made = list(batches)
    assert len(made) == len(batches)
    labels = torch.cat([y for _, y in made]).tolist()
    assert len(set(labels)) == len(labels) >= n - (n > 1)
    assert all(torch.equal(some_x[:, 0].long(), some_y) for some_x, some_y in made)


def test_order_is_a_function_of_the_seed() -> None:
    batches = Batches(torch.zeros(30, 1), torch.arange(30), 30)
    orders = []
    for seed in (1, 2, 1):
        batches.seed = seed
        orders.append(next(iter(batches))[1].tolist())
    assert orders[0] == orders[2] != orders[1]


def test_evaluation_goes_through_all_examples_in_order() -> None:
    labels = torch.arange(10_000)
    parts = [y for _, y in in_order(torch.zeros(10_000, 3), labels)]
    assert torch.equal(torch.cat(parts), labels)
    assert len(parts) == 3
