"""Arrays in one NumPy file: examples and labels, with or without a test part. Pickled objects are refused."""

from __future__ import annotations

import zipfile
import zlib
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


class Npz(Setting):
    """A file written by numpy.savez: (n, features), (n, height, width) or (n, channels, height, width)."""

    kind: Literal["npz"] = "npz"
    path: str = Field(min_length=1, description="The file.")
    x: str = Field(default="x", min_length=1, description="Name of the examples; uint8 is divided by 255.")
    y: str = Field(default="y", min_length=1, description="Name of the labels, integers from 0.")
    x_test: str = Field(
        default="x_test",
        min_length=1,
        description="Name of the test examples; by default used if it is there.",
    )
    y_test: str = Field(
        default="y_test", min_length=1, description="Name of the test labels; by default used if it is there."
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
        """Look at the names, types and shapes in the file without reading its arrays."""
        shapes = self._headers()
        for x_name, y_name in [
            (self.x, self.y),
            *([(self.x_test, self.y_test)] if self._has_test(shapes) else []),
        ]:
            verify.check_shape(shapes[x_name], f"{self.path}, '{x_name}'")
            if shapes[y_name] != shapes[x_name][:1]:
                raise SpecError(
                    f"{self.path}: '{y_name}' has shape {shapes[y_name]}, but '{x_name}' has shape "
                    f"{shapes[x_name]}; give each example one label, shape ({shapes[x_name][0]},)"
                )

    def load(self) -> Data:
        """The training and validation part."""
        return parts.open_parts(self._arrays(), self._how())

    def load_test(self) -> tuple[Tensor, Tensor]:
        """The sealed part, prepared like the others."""
        return parts.sealed(self._arrays(), self._how())

    def signature(self) -> Signature:
        """Shape of an example and number of classes, from the header and the labels."""
        self.check()
        shape = self._headers()[self.x]
        y = verify.labels(self._read(self.y)[0], shape[0], f"{self.path}, '{self.y}'")
        return Signature(verify.example_shape(shape), verify.classes(y, f"{self.path}, '{self.y}'"))

    def fingerprint(self) -> str:
        """Content hash of the sealed part."""
        return parts.fingerprint(self._arrays(), self._how())

    def _how(self) -> Preparation:
        return Preparation(self.split, self.limit, self.standardize)

    def _arrays(self) -> Arrays:
        self.check()
        if not self._has_test(self._headers()):
            x, y = self._read(self.x, self.y)
            return Arrays(x, y, origin=self.path)
        x, y, x_test, y_test = self._read(self.x, self.y, self.x_test, self.y_test)
        return Arrays(x, y, (x_test, y_test), origin=self.path)

    def _has_test(self, names: dict[str, tuple[int, ...]]) -> bool:
        """Whether there is a test part; names given by the user must be there, the default ones need not."""
        missing = [name for name in (self.x_test, self.y_test) if name not in names]
        if missing == ["x_test", "y_test"]:
            return False
        if missing:
            raise _no_array(self.path, missing[0], list(names))
        return True

    def _headers(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all arrays by name, once `x` and `y` are among them."""
        shapes: dict[str, tuple[int, ...]] = {}
        try:
            with zipfile.ZipFile(Path(self.path).expanduser()) as archive:
                for member in archive.namelist():
                    name = member.removesuffix(".npy")
                    with archive.open(member) as stream:
                        version = np.lib.format.read_magic(stream)
                        header = np.lib.format.read_array_header_1_0
                        read = header if version == (1, 0) else np.lib.format.read_array_header_2_0
                        shape, _, dtype = read(stream)
                    if dtype.hasobject and name in (self.x, self.y, self.x_test, self.y_test):
                        raise SpecError(
                            f"{self.path}: '{name}' holds pickled Python objects, which are never loaded; "
                            "save an array of plain numbers"
                        )
                    shapes[name] = shape
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise _unreadable(self.path, error) from None
        for name in (self.x, self.y):
            if name not in shapes:
                raise _no_array(self.path, name, list(shapes))
        return shapes

    def _read(self, *names: str) -> list[verify.Array]:
        try:
            with np.load(Path(self.path).expanduser(), allow_pickle=False) as file:
                return [file[name] for name in names]
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
            raise _unreadable(self.path, error) from None


def _unreadable(path: str, error: Exception) -> SpecError:
    if isinstance(error, OSError):
        return SpecError(
            f"data.path is '{path}', which cannot be read ({error.strerror or error}); correct the path"
        )
    reason = str(error).splitlines()[0] if str(error) else "it ends too early"
    return SpecError(f"{path}: not a whole file of numpy.savez ({reason}); save it again with numpy.savez")


def _no_array(path: str, name: str, names: list[str]) -> SpecError:
    return SpecError(
        f"{path}: has no array '{name}', but {', '.join(names) or 'none at all'}; name the right ones in "
        "data.x, data.y, data.x_test and data.y_test"
    )
