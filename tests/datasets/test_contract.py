"""What every kind of dataset must do; a new member of the union needs an example here."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from ziggurat.datasets import AnyDataset, External, subset

KINDS = [k.model_fields["kind"].default for k in get_args(get_args(AnyDataset)[0]) if k is not External]
"""All but `external`, of which nothing is loaded; its own file tests it."""


@pytest.fixture(params=KINDS)
def dataset(request, tmp_path, monkeypatch, idx_folder, toy_arrays):
    x, y = toy_arrays()
    np.savez(tmp_path / "toy.npz", x=x, y=y)
    name = f"toy_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(
        "import numpy\n\ndef make():\n    f = numpy.load('toy.npz')\n    return f['x'], f['y']\n"
    )
    monkeypatch.chdir(tmp_path)
    own = {
        "digits": {},
        "idx": {"directory": str(idx_folder)},
        "npz": {"path": str(tmp_path / "toy.npz")},
        "python": {"function": f"{name}:make"},
    }[request.param]
    return TypeAdapter(AnyDataset).validate_python({"kind": request.param, "limit": 100, **own})


def test_dataset_keeps_the_contract(dataset):
    dataset.check()
    data, (test_x, test_y) = dataset.load(), dataset.load_test()
    shape, classes = dataset.signature().shape, dataset.signature().classes
    assert data.signature == dataset.signature()
    assert data.seed == dataset.split.seed
    for x, y in [(data.train_x, data.train_y), (data.validation_x, data.validation_y), (test_x, test_y)]:
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert x.shape == (len(y), *shape)
        assert set(y.tolist()) == set(range(classes))
        assert torch.isfinite(x).all()
    assert torch.equal(dataset.load().train_x, data.train_x)
    assert torch.equal(dataset.load_test()[0], test_x)
    assert dataset.fingerprint() == dataset.fingerprint()
    assert len(subset(data, 0.5).train_y) < len(data.train_y)


def test_dataset_survives_its_own_yaml(dataset):
    again = TypeAdapter(AnyDataset).validate_python(dataset.model_dump(mode="json", by_alias=True))
    assert again == dataset
    assert again.fingerprint() == dataset.fingerprint()


def test_reading_settings_imports_no_heavy_library():
    code = (
        "import sys, ziggurat.datasets, ziggurat.spaces\n"
        "print(sorted({'torch', 'sklearn', 'scipy', 'lightning'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
