import pytest
from pydantic import ValidationError
from torch import nn

from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.protocols import Signature
from ziggurat.spaces import PythonSpace

MODULE = """
from torch import nn


def one(choices):
    assert sorted(choices) == ["width"], choices
    return nn.Linear(4, choices["width"])


def two(choices, signature):
    return nn.Linear(signature.shape[0], signature.classes)


def three(choices, signature, more):
    return nn.Identity()


def nothing(choices):
    return "a model"


def raising(choices):
    raise KeyError("widht")
"""
SIGNATURE = Signature((4,), 3)


@pytest.fixture
def space(tmp_path, monkeypatch):
    name = f"own_space_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return lambda function: PythonSpace.model_validate(
        {
            "function": f"{name}:{function}",
            "choices": {"width": [5, 6], "norm": {"values": [True], "when": {"width": 6}}},
        }
    )


def build(space):
    return space.build(Candidate({"width": 5, "learning_rate": 0.1, "batch_size": 32}), SIGNATURE)


def test_function_of_one_argument_gets_the_active_architecture_choices_alone(space):
    assert build(space("one")).out_features == 5


def test_function_of_two_arguments_gets_the_signature_too(space):
    model = build(space("two"))
    assert isinstance(model, nn.Linear)
    assert (model.in_features, model.out_features) == (4, 3)


def test_choices_are_followed_by_hyperparameters(space):
    assert list(space("one").choices()) == ["width", "norm", "learning_rate", "batch_size"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("three", "cannot be called with (choices) or (choices, signature)"),
        ("nothing", "returned a str for {'width': 5}; return an nn.Module"),
        ("raising", "raised KeyError: 'widht' for {'width': 5}; fix"),
        ("absent", "has no 'absent'"),
    ],
)
def test_function_that_builds_no_model_gives_one_line(space, function, words):
    with pytest.raises(SpecError) as caught:
        build(space(function))
    assert words in str(caught.value)
    assert f":{function}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_check_looks_without_calling(space):
    space("raising").check(SIGNATURE)
    for function in ("three", "absent"):
        with pytest.raises(SpecError, match=r"space\.function"):
            space(function).check(SIGNATURE)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"function": "a:b", "choices": {}}, "the space is empty; declare at least one choice"),
        ({"function": "a:b"}, "choices"),
        ({"function": "a.b", "choices": {"x": [1]}}, "must read module:function"),
        ({"function": "a:b", "choices": {"learning_rate": [1]}}, "'learning_rate' is a choice of the arch"),
        ({"function": "a:b", "choices": {"x": {"values": [1], "when": {"y": 1}}}}, "depends on 'y'"),
    ],
)
def test_impossible_declarations_are_refused_when_the_spec_is_read(given, words):
    with pytest.raises(ValidationError, match=words):
        PythonSpace.model_validate(given)
