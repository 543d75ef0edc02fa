"""Data that only the user's script reads: nothing is loaded here, and as much is known as the spec says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn, Self

from pydantic import Field, model_validator

from ziggurat.datasets.parts import Split
from ziggurat.errors import SpecError
from ziggurat.protocols import Signature
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

    from ziggurat.protocols import Data

WHOLE = 16_000_000
"""Bytes up to which all of a file goes into the fingerprint; of a larger one, its size and both ends do."""
END = 1_000_000
"""Bytes of each end."""
FILES = 10_000
"""Files whose content is looked at; of the others, names and sizes are."""


class External(Setting):
    """What a trainer of kind `script` trains on, wherever that is."""

    kind: Literal["external"] = "external"
    path: str | None = Field(
        default=None,
        min_length=1,
        description="A file or folder of the data, whose content tells looks at one test part from looks at "
        "another's; it is not read otherwise.",
    )
    shape: tuple[int, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=3,
        description="Shape of an example, [features] or [channels, height, width]; needed by a space that "
        "builds models.",
    )
    classes: int | None = Field(
        default=None, ge=2, le=1_000_000, description="Number of classes; needed where `shape` is."
    )
    chance: dict[str, float] = Field(
        default_factory=dict,
        description="What a model without any skill reaches, by metric of the script.",
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.shape is None) != (self.classes is None):
            given, other = ("shape", "classes") if self.classes is None else ("classes", "shape")
            raise ValueError(f"{given} is given without {other}; give both, or neither")
        if self.shape is not None and (len(self.shape) == 2 or min(self.shape) < 1):  # noqa: PLR2004
            raise ValueError(
                f"shape is {list(self.shape)}, it must be [features] or [channels, height, width], all "
                "above 0; change it"
            )
        return self

    @property
    def split(self) -> Split:
        """The script divides its data itself."""
        return Split()

    @property
    def told(self) -> bool:
        """Whether it is known what a model takes and gives."""
        return self.shape is not None

    def check(self) -> None:
        """Look whether the path is there, if one is named.

        Raises:
            SpecError: It is not.
        """
        if self.path is not None and not Path(self.path).expanduser().exists():
            raise SpecError(f"data.path is '{self.path}', which is not there; correct the path")

    def load(self) -> Data:
        """Nothing can be loaded.

        Raises:
            SpecError: Always.
        """
        self._refuse()

    def load_test(self) -> tuple[Tensor, Tensor]:
        """Nothing can be loaded.

        Raises:
            SpecError: Always.
        """
        self._refuse()

    def signature(self) -> Signature:
        """Shape of an example and number of classes, as the spec tells them.

        Raises:
            SpecError: It does not.
        """
        if self.shape is None or self.classes is None:
            raise SpecError(
                "data.shape and data.classes are missing, without which no model can be built; give them, "
                "such as shape: [1, 8, 8] and classes: 10"
            )
        return Signature(self.shape, self.classes)

    def fingerprint(self) -> str:
        """Content hash of what lies under the path, 16 hexadecimal digits; empty without a path.

        Raises:
            SpecError: The path is not there, or cannot be read.
        """
        if self.path is None:
            return ""
        self.check()
        root = Path(self.path).expanduser()
        digest = hashlib.sha256()
        try:
            for number, path in enumerate(_files(root)):
                name = path.relative_to(root).as_posix()
                digest.update(f"{name}\0{path.stat().st_size}\0".encode(errors="surrogateescape"))
                for part in _content(path) if number < FILES else ():
                    digest.update(part)
        except OSError as error:
            raise SpecError(
                f"data.path is '{self.path}', of which {error.filename} cannot be read ({error.strerror}); "
                "make it readable"
            ) from None
        return digest.hexdigest()[:16]

    def _refuse(self) -> NoReturn:
        raise SpecError(
            "data.kind 'external' is read by the user's script alone; use data that can be loaded here "
            "(digits, idx, npz, python), or set search.trainer.kind to script"
        )


def _files(root: Path) -> Iterator[Path]:
    """The file itself, or all files below a folder, in the order of their paths."""
    if root.is_file():
        yield root
        return
    yield from sorted(p for p in root.rglob("*") if p.is_file())


def _content(path: Path) -> Iterator[bytes]:
    """All of a file, or both ends of a large one."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE:
            while part := file.read(END):
                yield part
            return
        yield file.read(END)
        file.seek(-END, 2)
        yield file.read(END)
