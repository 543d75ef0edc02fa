"""What every kind of space must do; a new member of the union needs an example here."""

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from ziggurat.choices import check, contains, sample
from ziggurat.protocols import Signature
from ziggurat.spaces import AnySpace, TableSpace

MEMBERS = [kind for kind in get_args(get_args(AnySpace)[0]) if kind is not TableSpace]
KINDS = [kind.model_fields["kind"].default for kind in MEMBERS]
"""All but `table`, which has measurements in place of models; its own file tests it."""
SIGNATURE = Signature((2, 6, 7), 4)
SEVERAL = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=KINDS)
def space(request, tmp_path, monkeypatch):
    name = f"toy_space_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n\ndef make(choices, signature):\n"
        "    width = choices['width']\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(84, width), nn.Linear(width, 4))\n"
    )
    monkeypatch.chdir(tmp_path)
    own = {
        "mlp": {},
        "cnn": {},
        "python": {"function": f"{name}:make", "choices": {"width": {"min": 2, "max": 9}}},
    }
    return TypeAdapter(AnySpace).validate_python({"kind": request.param, **own[request.param]})


@SEVERAL
@given(seed=st.integers(0, 10_000))
def test_any_candidate_builds_a_classifier_that_answers_for_a_single_example(space, seed):
    candidate = sample(space.choices(), np.random.default_rng(seed))
    assert contains(space.choices(), candidate)
    model = space.build(candidate, SIGNATURE)
    assert model.eval()(torch.zeros(1, *SIGNATURE.shape)).shape == (1, SIGNATURE.classes)
    assert model.train()(torch.randn(3, *SIGNATURE.shape)).isfinite().all()


@SEVERAL
@given(seed=st.integers(0, 10_000))
def test_model_on_the_meta_device_has_the_same_parameters_and_no_memory(space, seed):
    candidate = sample(space.choices(), np.random.default_rng(seed))
    with torch.device("meta"):
        empty = space.build(candidate, SIGNATURE)
    real = space.build(candidate, SIGNATURE)
    assert all(p.is_meta for p in empty.parameters())
    assert [p.shape for p in empty.parameters()] == [p.shape for p in real.parameters()]


def test_same_seed_gives_the_same_weights_and_another_seed_others(space):
    candidate = sample(space.choices(), np.random.default_rng(0))
    weights = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        weights.append(torch.cat([p.flatten() for p in space.build(candidate, SIGNATURE).parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_choices_are_well_formed_and_the_check_passes(space):
    check(space.choices())
    space.check(SIGNATURE)


def test_space_survives_its_own_yaml(space):
    again = TypeAdapter(AnySpace).validate_python(space.model_dump(mode="json", by_alias=True))
    assert again == space
    assert list(again.choices()) == list(space.choices())
