import pytest
import torch
from pydantic import ValidationError

from ziggurat.datasets import PythonDataset

MODULE = """
import numpy as np
import torch

y = np.arange(90) % 3
x = np.random.default_rng(0).normal(size=(90, 4))


def arrays(scale=1.0):
    return x * scale, y


def tensors():
    return torch.tensor(x), torch.tensor(y), torch.tensor(x[:9]).bfloat16(), torch.tensor(y[:9])


def lists():
    return [[1.0, 2.0]] * 90, [0, 1, 2] * 30


def three():
    return x, y, x


def raising():
    raise RuntimeError("no disk\\nmore")
"""


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    name = f"own_data_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return lambda function, **more: PythonDataset(function=f"{name}:{function}", **more)


def test_function_in_the_working_directory_gives_the_data(dataset):
    found = dataset("arrays", arguments={"scale": 2.0}, standardize=False)
    found.check()
    assert found.signature() == found.load().signature
    assert len(found.load().train_y) == 60  # 4.5 of 30 in each class go to either other part, rounded up
    plain = dataset("arrays", standardize=False).load()
    assert torch.allclose(found.load().train_x, 2 * plain.train_x)


def test_tensors_with_a_test_part_are_understood(dataset):
    assert dataset("tensors").load_test()[0].shape == (9, 4)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("lists", ("x as list", "NumPy arrays or tensors")),
        ("three", ("tuple of 3", "(x, y, x_test, y_test)")),
        ("raising", ("raised RuntimeError: no disk; fix",)),
        ("nothing", ("has no 'nothing'",)),
        ("x", ("is a ndarray, not a function",)),
    ],
)
def test_function_that_gives_no_data_is_named(dataset, function, words, one_line):
    one_line(dataset(function).load, f":{function}", *words)


def test_arguments_that_do_not_fit_are_refused_by_the_check(dataset, one_line):
    one_line(dataset("arrays", arguments={"size": 1}).check, "data.arguments are size", ":arrays")


@pytest.mark.parametrize("name", ["module", "a.b", "a:b:c", "rm -rf /:x", ":f", "a:"])
def test_name_must_read_module_colon_function(name):
    with pytest.raises(ValidationError, match="it must read module:function"):
        PythonDataset(function=name)
