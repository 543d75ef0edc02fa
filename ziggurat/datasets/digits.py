"""Handwritten digits, 8 x 8 pixels, as they come with scikit-learn: 1,797 examples without any download.

Source: Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI repository (its test part).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from ziggurat.datasets import parts, verify
from ziggurat.datasets.parts import Arrays, Preparation, Split
from ziggurat.errors import SpecError
from ziggurat.protocols import Data, Signature
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor


class Digits(Setting):
    """Handwritten digits of scikit-learn; needs no files."""

    kind: Literal["digits"] = "digits"
    image: bool = Field(default=True, description="Examples are (1, 8, 8) if true, (64,) if false.")
    split: Split = Field(default_factory=Split, description="How examples are divided, class by class.")
    limit: int | None = Field(
        default=None, ge=50, description="Use a stratified subset of this many examples."
    )
    standardize: bool = Field(
        default=True,
        description="Shift and scale each channel (each feature of flat data) as training shows.",
    )

    def check(self) -> None:
        """Look whether scikit-learn is there."""
        if importlib.util.find_spec("sklearn") is None:
            raise SpecError(
                "data.kind is 'digits', which needs scikit-learn; install it with pip install scikit-learn"
            )

    def load(self) -> Data:
        """The training and validation part."""
        return parts.open_parts(self._arrays(), self._how())

    def load_test(self) -> tuple[Tensor, Tensor]:
        """The sealed part, prepared like the others."""
        return parts.sealed(self._arrays(), self._how())

    def signature(self) -> Signature:
        """Shape of an example and number of classes."""
        return Signature((1, 8, 8) if self.image else (64,), 10)

    def fingerprint(self) -> str:
        """Content hash of the sealed part."""
        return parts.fingerprint(self._arrays(), self._how())

    def _how(self) -> Preparation:
        return Preparation(self.split, self.limit, self.standardize)

    def _arrays(self) -> Arrays:
        self.check()
        table = _table()
        x = table[:, :64].astype(np.float32) / 16
        shaped = x.reshape(-1, 1, 8, 8) if self.image else x
        return Arrays(shaped, table[:, 64].astype(np.int64), origin="digits")


def _table() -> verify.Array:
    """(1797, 65) pixels 0 to 16 and the label."""
    found = importlib.util.find_spec("sklearn")
    folders = found.submodule_search_locations if found else None
    path = Path(next(iter(folders or [""]))) / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():  # importing scikit-learn takes a second and a half, in every worker
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])
