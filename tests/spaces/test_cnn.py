import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.protocols import Signature
from ziggurat.searchers.fresh import every
from ziggurat.spaces import Cnn
from ziggurat.spaces.layers import DropPath

CHOSEN = {
    "depth": 2,
    "channels_1": 8,
    "channels_2": 16,
    "kernel": 3,
    "skip": False,
    "pooling": "max",
    "activation": "relu",
    "dropout": 0.2,
}


def build(shape=(1, 8, 8), space=None, **chosen):
    return (space or Cnn()).build(Candidate(CHOSEN | chosen), Signature(shape, 10))


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_a_small_network_are_as_counted_by_hand():
    blocks = 1 * 8 * 9 + 2 * 8 + 8 * 16 * 9 + 2 * 16
    assert parameters(build()) == blocks + 16 * 10 + 10


def test_skip_connection_costs_a_projection_only_where_channels_change():
    assert parameters(build(skip=True)) - parameters(build()) == 1 * 8 + 2 * 8 + 8 * 16 + 2 * 16
    same = {"channels_1": 8, "channels_2": 8}
    assert parameters(build((8, 8, 8), skip=True, **same)) == parameters(build((8, 8, 8), **same))


def test_only_residual_branches_can_be_dropped():
    assert not [m for m in build().modules() if isinstance(m, DropPath)]
    paths = [m for m in build(skip=True).modules() if isinstance(m, DropPath)]
    assert [p.rate for p in paths] == [0.0, 0.0]


def test_block_whose_branch_is_dropped_is_its_shortcut():
    block = build((8, 8, 8), skip=True, channels_1=8, pooling="none")[0].train()
    block.drop_path.rate = 1.0
    x = torch.rand(2, 8, 8, 8)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 9), (3, 9, 2), (1, 7, 5)])
def test_map_never_falls_below_one_pixel(shape):
    deep = {f"channels_{i}": 4 for i in range(1, 5)}
    model = build(shape, depth=4, **deep).eval()
    assert model(torch.zeros(1, *shape)).shape == (1, 10)
    pools = [m for m in model.modules() if isinstance(m, nn.MaxPool2d)]
    assert len(pools) == min(shape[1:]).bit_length() - 1


@pytest.mark.parametrize(("pooling", "kind"), [("max", nn.MaxPool2d), ("avg", nn.AvgPool2d)])
def test_pooling_is_the_one_chosen(pooling, kind):
    assert sum(isinstance(m, kind) for m in build(pooling=pooling).modules()) == 2
    assert not any(isinstance(m, kind) for m in build(pooling="none").modules())


def test_choices_named_in_per_block_are_made_for_each_block():
    space = Cnn.model_validate({"depth": {"min": 1, "max": 2}, "per_block": ["channels", "kernel", "skip"]})
    assert list(space.choices())[:8] == [
        "depth",
        "channels_1",
        "channels_2",
        "kernel_1",
        "kernel_2",
        "skip_1",
        "skip_2",
        "pooling",
    ]
    chosen = {k: v for k, v in CHOSEN.items() if k not in ("kernel", "skip")}
    chosen |= {"kernel_1": 5, "kernel_2": 3, "skip_1": True, "skip_2": False}
    model = space.build(Candidate(chosen), Signature((1, 8, 8), 10))
    kernels = [m.kernel_size[0] for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert kernels == [5, 1, 3]


@pytest.mark.parametrize("shape", [(64,), (8, 8), (1, 2, 3, 4)])
def test_data_that_are_no_images_are_refused(shape):
    signature = Signature(shape, 10)
    for action in (
        lambda: build(shape),
        lambda: Cnn().check(signature),
        lambda: Cnn().operations(Candidate(CHOSEN), signature),
    ):
        with pytest.raises(SpecError, match=r"space.kind is 'cnn'.*use space.kind mlp") as caught:
            action()
        assert "\n" not in str(caught.value)
        assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kernel": [3, 4]}, "kernel can be one of"),
        ({"kernel": {"min": 3, "max": 5}}, "kernel can be anything from 3 to 5"),
        ({"skip": [0, 1]}, "allowed are false, true"),
        ({"pooling": ["min"]}, "allowed are none, max, avg"),
        ({"channels": [0]}, "channels can be"),
        ({"per_block": ["dropout"]}, "per_block"),
        ({"skip": {"values": [True], "when": {"depth": 2}}}, "skip has the condition"),
        ({"dropout": {"min": 0.0, "max": 1.0}}, "dropout can be"),
    ],
)
def test_impossible_choices_are_refused_when_the_spec_is_read(given, words):
    with pytest.raises(ValidationError, match=words):
        Cnn.model_validate(given)


@pytest.mark.parametrize(
    "per_block", [[], ["channels"], ["kernel", "pooling"], ["channels", "skip", "pooling"]]
)
def test_operations_of_all_candidates_together_are_all_operations(per_block):
    space = Cnn.model_validate(
        {
            "depth": [1, 3],
            "channels": [4, 6],
            "kernel": [3, 5] if "kernel" in per_block else 3,
            "pooling": ["none", "max"],
            "activation": ["relu", "tanh"],
            "dropout": [0.0, 0.5],
            "per_block": per_block,
            "hyperparameters": {},
        }
    )
    signature = Signature((3, 9, 9), 4)
    found = {o for c in every(space.choices()) for o in space.operations(c, signature)}
    listed = space.all_operations(signature)
    assert set(listed) == found
    assert len(listed) == len(found)


def test_keys_of_operations_can_be_read():
    found = Cnn().operations(Candidate(CHOSEN), Signature((1, 3, 2), 10))
    assert [o.key for o in found] == [
        'block 1x3x2 channels=8 kernel=3 skip=false pooling="max" activation="relu"',
        'block 8x1x1 channels=16 kernel=3 skip=false pooling="none" activation="relu"',
        "head 16x1x1 classes=10",
    ]


def test_listing_without_end_is_refused():
    wide = Cnn.model_validate({"channels": {"min": 1, "max": 60_000}})
    with pytest.raises(SpecError, match="space 'cnn' has more than 50000 operations"):
        wide.all_operations(Signature((1, 8, 8), 10))
