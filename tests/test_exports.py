"""The files of a finished model: what they hold, how they compare with it, what is said of missing ones."""

import hashlib
from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ziggurat.exports import export
from ziggurat.protocols import Data, Signature


def data(train: int = 300, validation: int = 120) -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(train + validation, 6, generator=generator)
    y = (x[:, :3].argmax(1)).long()
    return Data(x[:train], y[:train], x[train:], y[train:], Signature((6,), 3))


def model() -> nn.Module:
    """Nearly the rule by which the labels were made."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.5))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(3, 6) + 0.3 * torch.randn(3, 6))
    return net.train()


SPLIT = -1.8
"""A number above which nearly all random examples are."""


class Made(nn.Module):
    """A model whose forward is a function."""

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x)


def accuracy(net, x, y):
    return float((net.eval()(x).argmax(1) == y).float().mean())


def test_a_model_is_written_with_its_weights_and_answers_alike_everywhere(tmp_path):
    given, net = data(), model()
    found, decided = export(net, given, tmp_path, 7)
    assert decided.verdict == "onnx and pt2"
    assert (decided.kind, decided.trial, decided.reason) == ("exported", 7, "")
    facts = decided.facts
    assert facts["onnx_file"] == "trials/00007/model.onnx"
    assert facts["onnx_agreement"] == 1.0
    assert 0 <= facts["onnx_difference"] < 1e-5
    assert facts["examples"] == 120
    wanted = accuracy(net, given.validation_x, given.validation_y)
    assert 0.6 < wanted < 1.0
    assert [(m.metric, m.value, m.samples) for m in found] == [("onnx_accuracy", pytest.approx(wanted), 120)]
    file = (tmp_path / "trials" / "00007" / "model.onnx").read_bytes()
    assert (len(file), hashlib.sha256(file).hexdigest()) == (facts["onnx_bytes"], facts["onnx_sha256"])
    session = onnxruntime.InferenceSession(file)
    x = given.validation_x[:1]
    answer = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    np.testing.assert_allclose(answer, net.eval()(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    loaded = torch.export.load(tmp_path / str(facts["pt2_file"])).module()
    torch.testing.assert_close(loaded(given.validation_x), net(given.validation_x))
    names = {p.name for p in (tmp_path / "trials" / "00007").iterdir()}
    assert names == {"model.onnx", "model.pt2"}


def test_in_8_bits_accuracy_is_measured_after_calibrating_on_training_examples(tmp_path):
    given, net = data(), model()
    found, decided = export(net, given, tmp_path, 0, int8=True)
    values = {m.metric: m.value for m in found}
    assert decided.verdict == "onnx and int8 and pt2"
    assert abs(values["int8_accuracy"] - values["onnx_accuracy"]) < 0.1
    assert decided.facts["int8_agreement"] > 0.9
    assert decided.facts["int8_sha256"] != decided.facts["onnx_sha256"]
    # ranges of another training part give another file
    far = Data(100 * given.train_x, given.train_y, given.validation_x, given.validation_y, given.signature)
    _, other = export(net, far, tmp_path, 1, int8=True)
    assert other.facts["int8_agreement"] < decided.facts["int8_agreement"]


def test_what_cannot_be_exported_is_named_and_the_rest_is_written(tmp_path):
    odd = Made(lambda x: torch.linalg.eigvals(x[:, :3, None] * x[:, None, :3]).real)
    found, decided = export(odd, data(), tmp_path, 0, int8=True)
    assert found == ()
    assert decided.verdict == "pt2"
    assert "linalg_eig" in decided.reason
    assert "onnx_file" not in decided.facts


def test_a_model_that_nothing_can_follow_fails_nothing(tmp_path):
    def by_value(x: Tensor) -> Tensor:
        # agrees with its trace on random examples only if the first number's sign is right
        return x[:, :3] * torch.tensor([[1.0 if row[0] > SPLIT else -1.0] for row in x.tolist()])

    found, decided = export(Made(by_value), data(), tmp_path, 0, int8=True)
    assert (found, decided.verdict) == ((), "nothing")
    assert "other answers on validation" in decided.reason
    assert "torch.export cannot follow the model" in decided.reason
    assert "\n" not in decided.reason
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
