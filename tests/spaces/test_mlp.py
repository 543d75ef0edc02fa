import pytest
from pydantic import ValidationError
from torch import nn

from ziggurat.choices import Between
from ziggurat.domain import Candidate
from ziggurat.protocols import Signature
from ziggurat.spaces import Mlp

CHOSEN = {"depth": 2, "width_1": 16, "width_2": 32, "dropout": 0.1, "activation": "tanh", "norm": "none"}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_a_small_network_are_as_counted_by_hand():
    model = Mlp().build(Candidate(CHOSEN), Signature((8, 8), 10))
    assert parameters(model) == 64 * 16 + 16 + 16 * 32 + 32 + 32 * 10 + 10


def test_batch_norm_takes_the_place_of_the_bias():
    model = Mlp().build(Candidate(CHOSEN | {"norm": "batch"}), Signature((64,), 10))
    assert parameters(model) == 64 * 16 + 2 * 16 + 16 * 32 + 2 * 32 + 32 * 10 + 10


def test_layers_are_those_chosen():
    model = Mlp().build(Candidate(CHOSEN | {"norm": "batch"}), Signature((64,), 10))
    kinds = [type(layer) for layer in model]
    block = [nn.Linear, nn.BatchNorm1d, nn.Tanh, nn.Dropout]
    assert kinds == [nn.Flatten, *block, *block, nn.Linear]
    assert model[4].p == 0.1
    plain = Mlp().build(Candidate(CHOSEN | {"dropout": 0.0}), Signature((64,), 10))
    assert not any(isinstance(layer, nn.Dropout) for layer in plain)


def test_choices_stand_in_the_order_architecture_then_hyperparameters():
    space = Mlp.model_validate({"depth": {"min": 1, "max": 2}, "hyperparameters": {"momentum": [0.0, 0.9]}})
    assert list(space.choices()) == [
        "depth",
        "width_1",
        "width_2",
        "dropout",
        "activation",
        "norm",
        "momentum",
    ]


def test_choices_of_a_layer_are_made_for_each_layer_that_exists_and_the_others_once():
    space = Mlp.model_validate({"depth": {"min": 1, "max": 2}, "per_layer": ["dropout", "norm"]})
    choices = space.choices()
    assert list(choices)[:7] == ["depth", "width", "dropout_1", "dropout_2", "activation", "norm_1", "norm_2"]
    assert not choices["dropout_1"].when
    assert choices["dropout_2"].when == choices["norm_2"].when == {"depth": Between(min=2)}


def test_layers_differ_in_what_is_chosen_for_each():
    space = Mlp.model_validate({"depth": 2, "per_layer": ["dropout", "activation", "norm"]})
    chosen = {"depth": 2, "width": 16, "dropout_1": 0.0, "dropout_2": 0.3, "activation_1": "tanh"}
    chosen |= {"activation_2": "silu", "norm_1": "batch", "norm_2": "none"}
    model = space.build(Candidate(chosen), Signature((64,), 10))
    first, second = [nn.Linear, nn.BatchNorm1d, nn.Tanh], [nn.Linear, nn.SiLU, nn.Dropout]
    assert [type(layer) for layer in model] == [nn.Flatten, *first, *second, nn.Linear]
    assert [layer.bias is not None for layer in model if isinstance(layer, nn.Linear)] == [False, True, True]
    assert model[6].p == 0.3
    assert parameters(model) == 64 * 16 + 2 * 16 + 16 * 16 + 16 + 16 * 10 + 10


def test_single_depth_needs_no_conditions():
    choices = Mlp.model_validate({"depth": 3, "width": [8, 16]}).choices()
    assert not any(choice.when for choice in choices.values())
    assert choices["width_3"].values == [8, 16]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"depth": {"min": 0, "max": 3}}, "depth can be anything from 0 to 3"),
        ({"depth": {"min": 1.0, "max": 3.0}}, "depth can be"),
        ({"depth": [1, 50]}, "allowed are integers from 1 to 20"),
        ({"width": [16, 32.5]}, "width can be"),
        ({"dropout": [0.0, 1.0]}, "dropout can be"),
        ({"activation": ["relu", "swish"]}, "allowed are relu, gelu, tanh, silu"),
        ({"norm": ["layer"]}, "allowed are none, batch"),
        ({"norm": {"values": ["batch"], "when": {"depth": 2}}}, "norm has the condition"),
        ({"hyperparameters": {"width_1": [1]}}, "'width_1' is a choice of the architecture and"),
        (
            {"hyperparameters": {"learning_rate": {"min": -1.0, "max": 1.0}}},
            "hyperparameters.learning_rate can be",
        ),
        ({"widths": [1]}, "Extra inputs"),
        ({"per_layer": ["depth"]}, "Input should be 'width', 'dropout', 'activation' or 'norm'"),
        (
            {"per_layer": ["dropout"], "dropout": {"values": [0.1], "when": {"depth": 2}}},
            "dropout has the condition",
        ),
        ({"width": []}, "at least 1 item"),
    ],
)
def test_impossible_choices_are_refused_when_the_spec_is_read(given, words):
    with pytest.raises(ValidationError, match=words):
        Mlp.model_validate(given)
