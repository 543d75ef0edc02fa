"""Datasets by kind; `AnyDataset` is the `data` key of a spec."""

from typing import Annotated

from pydantic import Field

from ziggurat.datasets.digits import Digits
from ziggurat.datasets.external import External
from ziggurat.datasets.idx import Idx
from ziggurat.datasets.npz import Npz
from ziggurat.datasets.parts import Dataset, Split, chance, shrunk, subset
from ziggurat.datasets.python import PythonDataset

AnyDataset = Annotated[Digits | External | Idx | Npz | PythonDataset, Field(discriminator="kind")]
"""One dataset, told apart by `kind`."""

__all__ = [
    "AnyDataset",
    "Dataset",
    "Digits",
    "External",
    "Idx",
    "Npz",
    "PythonDataset",
    "Split",
    "chance",
    "shrunk",
    "subset",
]
