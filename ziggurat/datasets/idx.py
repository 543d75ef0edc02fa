"""Any directory of IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST and their like, gzipped or not.

Files are found by their usual names. Pixels stay as they lie in the file; EMNIST's are transposed there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.datasets import idx_format, parts, verify
from ziggurat.datasets.parts import Arrays, Preparation, Split
from ziggurat.errors import SpecError
from ziggurat.protocols import Data, Signature
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from torch import Tensor

_NAME = re.compile(
    r"(?P<prefix>(?:.*[-_.])?)(?P<part>train|t10k|test)[-_.](?P<what>images|labels)"
    r"[-_.]idx\d[-_.]ubyte(\.gz)?"
)
_Files = dict[str, Path]
"""Files by role: train-images, train-labels, test-images, test-labels."""


class Idx(Setting):
    """A directory of IDX files; the t10k or test files, where there are any, are the sealed test part."""

    kind: Literal["idx"] = "idx"
    directory: str = Field(min_length=1, description="Where files such as train-images-idx3-ubyte.gz lie.")
    prefix: str = Field(default="", description="What the names begin with, such as emnist-letters.")
    label_offset: int = Field(
        default=0, description="Subtracted from every label; 1 for EMNIST letters, which count from 1."
    )
    split: Split = Field(default_factory=Split, description="How examples are divided, class by class.")
    limit: int | None = Field(
        default=None,
        ge=50,
        description="Use a stratified subset of this many examples of the training files.",
    )
    standardize: bool = Field(
        default=True,
        description="Shift and scale each channel (each feature of flat data) as training shows.",
    )

    def check(self) -> None:
        """Look at all headers and at the labels of the training files."""
        self.signature()
        files = self._files()
        if "test-images" in files:
            self._counts(files, "test")

    def load(self) -> Data:
        """The training and validation part."""
        return parts.open_parts(self._arrays(), self._how())

    def load_test(self) -> tuple[Tensor, Tensor]:
        """The sealed part, prepared like the others."""
        return parts.sealed(self._arrays(), self._how())

    def signature(self) -> Signature:
        """Shape of an example and number of classes, from the header and the labels."""
        files = self._files()
        shape = self._counts(files, "train")
        origin = str(files["train-labels"])
        y = verify.labels(self._labels(files["train-labels"]), shape[0], origin, self._cure())
        classes = verify.classes(y, origin, self._cure())
        return Signature(verify.example_shape(shape), classes)

    def fingerprint(self) -> str:
        """Content hash of the sealed part."""
        return parts.fingerprint(self._arrays(), self._how())

    def _how(self) -> Preparation:
        return Preparation(self.split, self.limit, self.standardize)

    def _cure(self) -> str:
        return f"data.label_offset is {self.label_offset}; set it to the smallest label or renumber them"

    def _arrays(self) -> Arrays:
        files = self._files()
        for part in {name.partition("-")[0] for name in files}:
            self._counts(files, part)
        test = None
        if "test-images" in files:
            test = (idx_format.read(files["test-images"]), self._labels(files["test-labels"]))
        x, y = idx_format.read(files["train-images"]), self._labels(files["train-labels"])
        return Arrays(x, y, test, origin=self.directory, cure=self._cure())

    def _labels(self, path: Path) -> verify.Array:
        y = idx_format.read(path)
        # bytes would wrap around below 0
        return y.astype("int64") - self.label_offset if y.dtype.kind in "ui" else y

    def _counts(self, files: _Files, part: str) -> tuple[int, ...]:
        """Shape of a part's images, once they are as many as the labels."""
        images, labels = files[f"{part}-images"], files[f"{part}-labels"]
        shape = idx_format.read_header(images).shape
        verify.check_shape(shape, str(images))
        counted = idx_format.read_header(labels).shape
        if len(counted) != 1 or counted[0] != shape[0]:
            raise SpecError(
                f"{labels}: holds labels of shape {counted}, but {images.name} holds {shape[0]} images; "
                f"allowed is ({shape[0]},), give files that belong together"
            )
        return shape

    def _files(self) -> _Files:
        folder = Path(self.directory).expanduser()
        try:
            names = sorted(path.name for path in folder.iterdir() if path.is_file())
        except OSError as error:
            raise SpecError(
                f"data.directory is '{self.directory}', which cannot be read ({error.strerror}); "
                "give a directory with IDX files"
            ) from None
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        wanted = self.prefix.rstrip("-_.")
        files: _Files = {}
        for match in matches:
            if match["prefix"].rstrip("-_.") == wanted:
                part = "train" if match["part"] == "train" else "test"
                # names are sorted, so a plain file comes before its gzipped twin and is the one that is read
                files.setdefault(f"{part}-{match['what']}", folder / match[0])
        self._complete(files, sorted({match["prefix"].rstrip("-_.") for match in matches}))
        return files

    def _complete(self, files: _Files, prefixes: list[str]) -> None:
        missing = [n for n in ("train-images", "train-labels") if n not in files]
        if ("test-images" in files) != ("test-labels" in files):
            missing.append("test-labels" if "test-images" in files else "test-images")
        if not missing:
            return
        others = [p or "(none)" for p in prefixes if p != self.prefix.rstrip("-_.")]
        cure = (
            f"set data.prefix to one of {', '.join(others)}"
            if others
            else f"put {missing[0]}-idx*-ubyte[.gz] there"
        )
        raise SpecError(
            f"data.directory is '{self.directory}', which has no {' and no '.join(missing)} file for prefix "
            f"'{self.prefix}'; {cure}"
        )
