"""Shares of a batch among the processes that train one model together."""

import pytest
import torch
from torch.nn import functional

from ziggurat.trainers.batches import Batches
from ziggurat.trainers.team import Shares, Team


def shares(examples: int, batch: int, size: int) -> list[list[tuple]]:
    """What each process gets of every batch; an example is its own number."""
    x, y = torch.arange(examples, dtype=torch.float32)[:, None], torch.arange(examples)
    made = [Shares(x, y, batch, Team(rank, size)) for rank in range(size)]
    for one in made:
        one.seed = 3
    return list(zip(*made, strict=True))


@pytest.mark.parametrize(
    ("examples", "batch", "size"), [(12, 4, 2), (13, 5, 2), (50, 7, 3), (10, 4, 4), (9, 8, 2)]
)
def test_shares_are_the_batches_of_one_process_each_example_once(examples, batch, size):
    x, y = torch.arange(examples, dtype=torch.float32)[:, None], torch.arange(examples)
    alone = Batches(x, y, batch)
    alone.seed = 3
    found = shares(examples, batch, size)
    assert len(found) == len(alone)
    for (_, expected), parts in zip(alone, found, strict=True):
        real = torch.cat([part_y[w > 0] for _, part_y, w, _ in parts])
        assert sorted(real.tolist()) == sorted(expected.tolist())
        assert {count for *_, count in parts} == {len(expected)}
        for part_x, part_y, w, _ in parts:
            assert torch.equal(part_x[:, 0].long(), part_y)
            assert len(w) == len(part_y) >= min(2, len(expected))


@pytest.mark.parametrize(("examples", "batch", "size"), [(13, 5, 2), (11, 4, 3)])
def test_the_mean_over_processes_of_weighted_losses_is_the_loss_of_the_batch(examples, batch, size):
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(examples, 4, generator=generator), torch.arange(examples) % 4
    for parts in shares(examples, batch, size):
        rows = torch.cat([part_y[w > 0] for _, part_y, w, _ in parts])
        whole = functional.cross_entropy(logits[rows], labels[rows])
        losses = [
            (functional.cross_entropy(logits[y], labels[y], reduction="none") * w).sum()
            for _, y, w, _ in parts
        ]
        torch.testing.assert_close(torch.stack(losses).mean(), whole)


def test_a_process_alone_exchanges_nothing():
    team = Team.here()
    model = torch.nn.Linear(2, 2)
    assert (team, type(team.batches(torch.zeros(2, 2), torch.zeros(2), 1))) == (Team(), Batches)
    assert team.spread(model) is model
    assert team.agreed(True, torch.device("cpu"))
    assert team.total(torch.ones(1)).item() == 1
