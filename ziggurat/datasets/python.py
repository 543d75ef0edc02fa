"""Data from a function of the user's own, for everything that no file format covers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, JsonValue

from ziggurat.datasets import parts, verify
from ziggurat.datasets.parts import Arrays, Preparation, Split
from ziggurat.errors import SpecError
from ziggurat.imports import FunctionName, accepts, first_line, import_function
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

    from ziggurat.protocols import Data, Signature


class PythonDataset(Setting):
    """What a function returns: `(x, y)` or `(x, y, x_test, y_test)`, as NumPy arrays or tensors.

    The function is called by every worker, so it must return the same data each time.
    """

    kind: Literal["python"] = "python"
    function: FunctionName = Field(
        description="module:function, on sys.path or in the working directory; it returns arrays or tensors."
    )
    arguments: dict[str, JsonValue] = Field(
        default_factory=dict, description="Passed to the function by name."
    )
    split: Split = Field(default_factory=Split, description="How examples are divided, class by class.")
    limit: int | None = Field(
        default=None, ge=50, description="Use a stratified subset of this many examples of x."
    )
    standardize: bool = Field(
        default=True,
        description="Shift and scale each channel (each feature of flat data) as training shows.",
    )

    def check(self) -> None:
        """Look whether the function is there and takes the arguments; it is not called."""
        function = import_function(self.function, "data.function")
        if not accepts(function, **self.arguments):
            given = ", ".join(self.arguments) or "none"
            raise SpecError(
                f"data.arguments are {given}, which do not fit the parameters of '{self.function}'; "
                "name exactly the arguments that it takes"
            )

    def load(self) -> Data:
        """The training and validation part."""
        return parts.open_parts(self._arrays(), self._how())

    def load_test(self) -> tuple[Tensor, Tensor]:
        """The sealed part, prepared like the others."""
        return parts.sealed(self._arrays(), self._how())

    def signature(self) -> Signature:
        """Shape of an example and number of classes; calls the function."""
        return parts.signature(self._arrays())

    def fingerprint(self) -> str:
        """Content hash of the sealed part; calls the function."""
        return parts.fingerprint(self._arrays(), self._how())

    def _how(self) -> Preparation:
        return Preparation(self.split, self.limit, self.standardize)

    def _arrays(self) -> Arrays:
        self.check()
        try:
            returned = import_function(self.function, "data.function")(**self.arguments)
        except MemoryError:
            raise
        except Exception as error:
            raise SpecError(
                f"data.function '{self.function}' raised {first_line(error)}; fix the function"
            ) from error
        if not isinstance(returned, (tuple, list)) or len(returned) not in (2, 4):
            size = f" of {len(returned)}" if isinstance(returned, (tuple, list)) else ""
            raise SpecError(
                f"data.function '{self.function}' returned a {type(returned).__name__}{size}; return (x, y) "
                "or (x, y, x_test, y_test)"
            )
        arrays = [
            self._array(item, name)
            for item, name in zip(returned, ("x", "y", "x_test", "y_test"), strict=False)
        ]
        x, y, *own = arrays
        return Arrays(x, y, (own[0], own[1]) if own else None, origin=f"data.function '{self.function}'")

    def _array(self, item: object, name: str) -> verify.Array:
        import torch

        if isinstance(item, torch.Tensor):
            plain = item.detach().cpu()
            return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
        if not isinstance(item, np.ndarray):
            raise SpecError(
                f"data.function '{self.function}' returned {name} as {type(item).__name__}; "
                "return NumPy arrays or tensors"
            )
        return item
