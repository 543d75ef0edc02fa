import pytest
import torch

from ziggurat.spaces import bounds, mbconv
from ziggurat.spaces.layers import ACTIVATIONS, DropPath


def test_branch_passes_unchanged_at_rate_zero_and_in_eval():
    x = torch.randn(4, 3)
    assert DropPath().train()(x) is x
    assert DropPath(0.9).eval()(x) is x


def test_whole_examples_are_dropped_and_the_others_scaled_up():
    torch.manual_seed(0)
    layer = DropPath()
    layer.rate = 0.25
    y = layer.train()(torch.ones(4000, 2, 3, 3)).flatten(1)
    assert torch.equal(y.amin(1), y.amax(1))
    assert sorted(set(y[:, 0].tolist())) == [0.0, pytest.approx(4 / 3)]
    assert float(y.mean()) == pytest.approx(1, abs=0.05)


def test_rate_one_drops_everything_without_dividing_by_zero():
    layer = DropPath(1.0)
    assert layer.train()(torch.ones(8, 2)).tolist() == torch.zeros(8, 2).tolist()


def test_every_activation_that_settings_allow_exists():
    assert {*bounds.ACTIVATION_NAMES, *mbconv.ACTIVATION_NAMES} == set(ACTIVATIONS)
