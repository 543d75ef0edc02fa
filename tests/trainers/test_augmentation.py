"""Changes to training examples, on images whose pixels can be told apart."""

import pytest
import torch

from ziggurat.trainers import Augmentation
from ziggurat.trainers.augmentation import augment, cutout, flip, shift


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def images(n: int = 50) -> torch.Tensor:
    return torch.arange(1, 2 * 12 + 1).float().view(1, 2, 3, 4).repeat(n, 1, 1, 1)


def test_a_shift_moves_whole_examples_and_lets_zeros_in() -> None:
    x = images()
    padded = torch.nn.functional.pad(x[0], (1, 1, 1, 1))
    allowed = [padded[:, r : r + 3, c : c + 4] for r in range(3) for c in range(3)]
    seen = {next(i for i, a in enumerate(allowed) if torch.equal(a, moved)) for moved in shift(x, 1)}
    assert seen == set(range(9))


def test_a_flip_mirrors_about_half_of_the_examples() -> None:
    x = images()
    changed = flip(x)
    mirrored = sum(torch.equal(one, x[0].flip(2)) for one in changed)
    untouched = sum(torch.equal(one, x[0]) for one in changed)
    assert mirrored + untouched == 50
    assert 15 <= mirrored <= 35


def test_cutout_hides_one_square_in_all_channels() -> None:
    for one in cutout(images(), 2):
        hidden = one == 0
        assert torch.equal(hidden[0], hidden[1])
        rows, columns = hidden[0].any(1).sum(), hidden[0].any(0).sum()
        assert hidden[0].sum() == rows * columns
        assert 1 <= rows <= 2
        assert 1 <= columns <= 2


def test_flat_examples_get_noise_only() -> None:
    x = torch.ones(6, 4)
    assert torch.equal(augment(x, Augmentation(shift=1, flip=True, cutout=2)), x)
    noisy = augment(torch.ones(1000, 4), Augmentation(noise=0.5))
    assert noisy.std().item() == pytest.approx(0.5, rel=0.1)


def test_the_batch_itself_is_left_alone() -> None:
    x = images()
    before = x.clone()
    changed = augment(x, Augmentation(shift=1, flip=True, noise=0.1, cutout=1))
    assert torch.equal(x, before)
    assert not torch.equal(changed, x)
    assert not Augmentation().active
