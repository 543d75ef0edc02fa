"""Training a model of which a part is frozen and numbers are rounded: what the trainer may touch."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ziggurat.domain import Candidate, Fidelity, Job, JobKind
from ziggurat.protocols import Data, Signature
from ziggurat.spaces import Backbone
from ziggurat.spaces.quantised import Quantised
from ziggurat.trainers import Lightning

MODULE = """
from torch import nn


def network(signature):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, signature.classes),
    )
"""
SIGNATURE = Signature((1, 6, 6), 3)
FROZEN = {"unfrozen": 3, "prune_1": 0.25, "bits_1": 8, "bits_2": 4}
"""The blocks are 0, 1, 3, 4 and 9; the last three are trained."""


@pytest.fixture
def build(tmp_path, monkeypatch):
    name = f"partly_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    network = __import__(name).network(SIGNATURE)
    torch.manual_seed(8)
    network(torch.randn(32, 1, 6, 6))
    torch.save(network.state_dict(), "net.pt")
    space = Backbone.model_validate(
        {
            "function": f"{name}:network",
            "weights": "net.pt",
            "unfrozen": [3, 5],
            "prune": {"layers": ["3"], "ratio": [0, 0.25]},
            "quantise": {"layers": ["0", "3"]},
        }
    )

    def made(seed: int = 5) -> nn.Module:
        torch.manual_seed(seed)
        return space.build(Candidate(FROZEN), SIGNATURE)

    return made


def data() -> Data:
    rng = torch.Generator().manual_seed(1)
    y = torch.arange(57) % 3
    x = torch.randn((57, 1, 6, 6), generator=rng) + y.view(-1, 1, 1, 1)
    return Data(x[:37], y[:37], x[37:], y[37:], SIGNATURE)


def train(setting: Lightning, model: nn.Module, folder: Path, resume: Path | None = None, to_rung: int = 1):
    job = Job("k", JobKind.TRAIN, "search", ladder=(Fidelity(1), Fidelity(3)), to_rung=to_rung, seed=11)
    job = job if resume is None else replace(job, from_rung=0)
    return setting.train(model, job, data(), lambda _: None, folder, resume)


RANGES = {"low", "high", "seen"}
"""Of activations, which are observed in frozen blocks too."""
SETTINGS = [
    {"ema_decay": 0.9, "gradient_clip": 1.0, "weight_decay": 0.1},
    {"optimizer": {"name": "SGD", "arguments": {"momentum": 0.9}}, "weight_decay": 0.1},
    {"precision": "bf16-mixed", "ema_decay": 0.5},
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_frozen_parameters_and_statistics_stay_bit_for_bit_and_resuming_changes_nothing(
    build, tmp_path, changes
):
    setting = Lightning.model_validate({"batch_size": 8, "learning_rate": 0.01, **changes})
    start = build()
    before = {n: t.clone() for n, t in start.state_dict().items()}
    whole, resumed = build(), build(seed=6)
    one = train(setting, whole, tmp_path / "a")
    first = train(setting, build(), tmp_path / "b", to_rung=0)
    two = train(setting, resumed, tmp_path / "b", first.checkpoint)
    assert one.measurements == two.measurements
    frozen = ("network.0.", "network.1.")
    for checkpoint in (one.checkpoint, two.checkpoint):
        state = torch.load(checkpoint, weights_only=True)["state_dict"]
        prefixes = ["model.", *(["ema.module."] if setting.ema_decay else [])]
        for name, tensor in before.items():
            if name.rpartition(".")[2] not in RANGES:
                for prefix in prefixes:
                    same = torch.equal(state[prefix + name], tensor)
                    assert same == name.startswith(frozen), prefix + name
        assert not torch.equal(state["model.network.2.1.high"], before["network.2.1.high"])
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_optimizer_remembers_nothing_of_what_is_frozen(build, tmp_path):
    trained = train(Lightning(batch_size=8), build(), tmp_path, to_rung=0)
    state = torch.load(trained.checkpoint, weights_only=True)["optimizer_states"][0]
    # weight and bias of the second convolution, its norm and the classifier
    assert len(state["state"]) == len(state["param_groups"][0]["params"]) == 6


def test_evaluated_weights_fit_a_fresh_candidate_and_its_rounded_weights_have_few_levels(build, tmp_path):
    setting = Lightning(batch_size=8, ema_decay=0.9)
    trained = train(setting, build(), tmp_path)
    model = build(seed=9)
    found = {m.metric: m.value for m in setting.evaluate(model, trained.checkpoint, *validation())}
    wanted = {m.metric: m.value for m in trained.measurements}
    assert found["test_accuracy"] == wanted["val_accuracy"]
    layer = next(m for m in model.modules() if isinstance(m, Quantised) and m.bits == 4)
    assert layer.layer.out_channels == 9
    for row in layer.weight.flatten(1):
        assert len(row.unique()) <= 16
    shipped = model.deployed()
    x, y = validation()
    agree = (shipped(x).argmax(1) == model.eval()(x).argmax(1)).float().mean()
    assert agree >= 0.95
    assert len(y) == 20


def validation():
    return data().validation_x, data().validation_y
