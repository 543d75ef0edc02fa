"""What every kind of space must do; a new member of the union without defaults needs an example here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch.utils.flop_counter import FlopCounterMode

from ziggurat.choices import check, contains, sample
from ziggurat.errors import SpecError
from ziggurat.operations import Operation
from ziggurat.profilers.static import static_metrics, summed
from ziggurat.protocols import Signature
from ziggurat.spaces import AnySpace, Parameters, TableSpace

MEMBERS = [kind for kind in get_args(get_args(AnySpace)[0]) if kind not in {Parameters, TableSpace}]
KINDS = [kind.model_fields["kind"].default for kind in MEMBERS]
"""All but `table` and `parameters`, which have no models; their own files test them."""
DECOMPOSABLE = [
    kind for member, kind in zip(MEMBERS, KINDS, strict=True) if hasattr(member, "all_operations")
]
"""Spaces whose models are made of operations that can be measured one by one."""
ADDITIVE = [kind for member, kind in zip(MEMBERS, KINDS, strict=True) if getattr(member, "additive", False)]
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
        "mbconv": {"scaling": {"coefficient": [0, 1]}},
        "cell": {"widths": [4, 8], "repeats": 1},
        "python": {"function": f"{name}:make", "choices": {"width": {"min": 2, "max": 9}}},
        "backbone": {
            "function": f"{name}:make",
            "transfer": False,
            "choices": {"width": {"min": 2, "max": 9}},
            "prune": {"layers": ["1"], "ratio": [0, 0.5]},
            "quantise": {"layers": "last 2 layers"},
        },
    }
    return TypeAdapter(AnySpace).validate_python({"kind": request.param, **own.get(request.param, {})})


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


decomposable = pytest.mark.parametrize("space", DECOMPOSABLE, indirect=True)


@decomposable
@SEVERAL
@given(seed=st.integers(0, 10_000))
def test_operations_of_a_candidate_have_the_parameters_and_the_flops_of_what_runs(space, seed):
    candidate = sample(space.choices(), np.random.default_rng(seed))
    with torch.device("meta"):
        model = space.build(candidate, SIGNATURE)
        parts = [space.build_operation(o) for o in space.operations(candidate, SIGNATURE)]
        examples = [[torch.zeros(1, *o.shape)] * o.inputs for o in space.operations(candidate, SIGNATURE)]
    whole = ran(model, [torch.zeros(1, *SIGNATURE.shape, device="meta")])
    each = [ran(part, inputs) for part, inputs in zip(parts, examples, strict=True)]
    assert whole == (sum(p for p, _ in each), sum(f for _, f in each))


def ran(model, inputs):
    """Parameters of the layers that a forward pass goes through, and its FLOPs."""
    layers = set()
    for module in model.modules():
        module.register_forward_hook(lambda module, given, left: layers.add(module))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(*inputs)
    parameters = {p for layer in layers for p in layer.parameters(recurse=False)}
    return sum(p.numel() for p in parameters), counter.get_total_flops()


@pytest.mark.parametrize("space", ADDITIVE, indirect=True)
@settings(SEVERAL, max_examples=5)
@given(seed=st.integers(0, 10_000))
def test_static_metrics_of_an_additive_space_are_sums_over_operations(space, seed):
    candidate = sample(space.choices(), np.random.default_rng(seed))
    whole = static_metrics(lambda: space.build(candidate, SIGNATURE), SIGNATURE.shape)
    operations = space.operations(candidate, SIGNATURE)
    assert (
        summed([static_metrics(lambda o=o: space.build_operation(o), o.shape) for o in operations]) == whole
    )


@decomposable
@SEVERAL
@given(seed=st.integers(0, 10_000))
def test_operations_of_a_candidate_are_among_all_operations(space, seed, all_operations):
    candidate = sample(space.choices(), np.random.default_rng(seed))
    found = space.operations(candidate, SIGNATURE)
    assert found
    assert all_operations.issuperset(found)


@pytest.fixture
def all_operations(space):
    listed = space.all_operations(SIGNATURE)
    assert len(listed) == len(set(listed)) == len({o.key for o in listed})
    return set(listed)


@decomposable
def test_every_operation_runs_at_its_stated_shape(space, all_operations):
    listed = sorted(all_operations, key=lambda o: o.key)
    picked = np.random.default_rng(0).permutation(len(listed))[:60]
    for operation in (listed[i] for i in picked):
        part = space.build_operation(operation).eval()
        left = part(*(torch.rand(1, *operation.shape) for _ in range(operation.inputs)))
        assert left.isfinite().all(), operation.key


@decomposable
def test_candidates_that_differ_in_hyperparameters_have_the_same_operations(space):
    candidate = sample(space.choices(), np.random.default_rng(3))
    other = type(candidate)({**candidate.choices, "learning_rate": 0.00123, "batch_size": 1})
    assert space.operations(candidate, SIGNATURE) == space.operations(other, SIGNATURE)


@decomposable
def test_unknown_operation_is_refused_in_one_line(space):
    with pytest.raises(SpecError, match="no_such_thing 1x2x3") as caught:
        space.build_operation(Operation("no_such_thing", (1, 2, 3)))
    assert "\n" not in str(caught.value)


def test_operations_are_listed_without_torch():
    script = (
        "import json, sys\n"
        "import numpy as np\n"
        "from pydantic import TypeAdapter\n"
        "from ziggurat.choices import sample\n"
        "from ziggurat.protocols import Signature\n"
        "from ziggurat.spaces import AnySpace\n"
        "for kind in json.loads(sys.argv[1]):\n"
        "    space = TypeAdapter(AnySpace).validate_python({'kind': kind})\n"
        "    signature = Signature((2, 6, 7), 4)\n"
        "    candidate = sample(space.choices(), np.random.default_rng(0))\n"
        "    assert space.operations(candidate, signature) and space.all_operations(signature)\n"
        "assert 'torch' not in sys.modules\n"
    )
    root = Path(__file__).parents[2]
    run = [sys.executable, "-c", script, json.dumps(DECOMPOSABLE)]
    done = subprocess.run(run, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
