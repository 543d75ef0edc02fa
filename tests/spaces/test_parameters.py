"""Parameters of a script: usual shapes of choices, no models, and which of them leave the model as it is."""

import subprocess
import sys

import numpy as np
import pytest
from pydantic import ValidationError

from ziggurat.choices import contains, sample
from ziggurat.domain import Candidate
from ziggurat.errors import SpecError
from ziggurat.protocols import Signature
from ziggurat.spaces import Parameters

CHOICES = {
    "lr": {"min": 1e-4, "max": 1e-1, "log": True},
    "layers": {"min": 1, "max": 3},
    "width": [16, 32, 64],
    "decay": {"min": 0.1, "max": 0.5, "step": 0.1, "when": {"layers": {"min": 2}}},
    "nesterov": [True, False],
}


def space(**given):
    return Parameters.model_validate({"kind": "parameters", "choices": CHOICES, **given})


def test_choices_are_those_declared_in_their_order():
    assert list(space().choices()) == list(CHOICES)
    for seed in range(20):
        candidate = sample(space().choices(), np.random.default_rng(seed))
        assert contains(space().choices(), candidate)
        assert ("decay" in candidate.choices) == (candidate.choices["layers"] >= 2)


def test_hyperparameters_are_those_choices_that_are_named():
    found = space(hyperparameters=["lr", "decay"])
    assert list(found.hyperparameters) == ["lr", "decay"]
    assert found.hyperparameters["lr"] == found.choices()["lr"]
    assert space().hyperparameters == {}


def test_space_survives_its_own_yaml():
    given = space(hyperparameters=["lr"])
    assert Parameters.model_validate(given.model_dump(mode="json", by_alias=True)) == given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"hyperparameters": ["lrr"]}, "'lrr' is no choice of the space; did you mean lr?"),
        ({"hyperparameters": ["lr", "lr"]}, "name 'lr' twice"),
        ({"hyperparameters": {"lr": {"min": 1, "max": 2}}}, "declare lr under choices and write [lr]"),
        ({"choices": {}}, "declare at least one choice"),
        ({"choices": {"a": {"values": [1], "when": {"b": 1}}}}, "'a' depends on 'b'"),
    ],
)
def test_bad_input_is_refused_with_what_to_do(given, words):
    with pytest.raises(ValidationError) as caught:
        space(**given)
    assert words in str(caught.value)


def test_there_is_nothing_to_build():
    space().check(Signature((4,), 2))
    with pytest.raises(SpecError, match="no models to build") as caught:
        space().build(Candidate({"lr": 0.1}), Signature((4,), 2))
    assert "\n" not in str(caught.value)


def test_reading_it_imports_no_torch():
    code = "import sys, ziggurat.spaces.parameters\nprint('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
