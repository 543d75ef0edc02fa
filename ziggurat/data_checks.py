"""What the preflight finds out about the parts of a dataset: sizes, classes, and copies across the parts.

The sealed part is opened to look for copies of its examples in the other parts; its labels are not looked at,
and nothing is judged by it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

    from ziggurat.checks import Findings
    from ziggurat.jobs import Desk

FEW = 100
"""Validation examples below which accuracies are mostly luck."""
COPIES = 0.01
"""Share of copies from which on it is worth a word."""
TOO_MANY = 0.5
"""Share of copies at which a part no longer tells anything."""
UNLIKE = 0.1
"""By how much, in total variation, classes may be spread otherwise in validation than in training."""
LARGEST = 1_000_000_000
"""Bytes of examples that are looked through for copies."""
CURE = "remove the copies from the source, or split it by what they have in common"


@dataclass(frozen=True)
class Copies:
    """Examples of one part that are in another one as well, number for number."""

    part: str
    other: str
    count: int
    of: int

    @property
    def share(self) -> float:
        """Their share of the part."""
        return self.count / max(1, self.of)

    @property
    def text(self) -> str:
        """The finding in words."""
        return f"{self.count:,} of {self.of:,} {self.part} examples ({self.share:.1%}) are {self.other} too"


def check_splits(desk: Desk, found: Findings) -> None:
    """Whether training, validation and test part are large enough, alike and apart from each other."""
    data = desk.data
    sizes(len(data.validation_y), data.signature.classes, found)
    classes(data.train_y.numpy(), data.validation_y.numpy(), data.signature.classes, found)
    held = data.train_x.nbytes + data.validation_x.nbytes
    if held > LARGEST:
        text = f"{held / 1e9:.1f} GB of examples were not looked through for copies across the parts"
        found.good("splits", text)
        return
    test = desk.spec.data.load_test()[0]
    train, validation, sealed = (rows(x) for x in (data.train_x, data.validation_x, test))
    shared = [
        overlap("validation", validation, "training", train),
        overlap("test", sealed, "training", train),
        overlap("test", sealed, "validation", validation),
    ]
    judge_copies(shared, found)
    again = len(train) - len(set(train))
    twice = f", {again:,} training examples occur more than once" if again else ""
    parts = f"{len(train):,} training, {len(validation):,} validation, {len(sealed):,} sealed examples"
    apart = "without copies" if not any(each.count for each in shared) else "with copies"
    found.good("splits", f"{parts} {apart} across them{twice}")


def sizes(validation: int, classes: int, found: Findings) -> None:
    """Whether the validation part tells candidates apart."""
    error = math.sqrt(0.25 / max(1, validation))
    if validation < max(FEW, classes):
        found.warn(
            "splits",
            f"{validation} validation examples: two equal candidates differ by {math.sqrt(2) * error:.0%} "
            "accuracy by luck alone",
            "raise data.split.validation or data.limit",
        )


def classes(
    train: npt.NDArray[np.int64], validation: npt.NDArray[np.int64], count: int, found: Findings
) -> None:
    """Whether every class is in both parts, about as often."""
    shares = [np.bincount(y, minlength=count) / max(1, len(y)) for y in (train, validation)]
    for part, share in zip(("training", "validation"), shares, strict=True):
        missing = np.flatnonzero(share == 0)
        if len(missing):
            text = f"{len(missing)} of {count} classes are missing in the {part} part, first {missing[0]}"
            found.warn("splits", text, "give every class examples in every part")
            return
    apart = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if apart > UNLIKE:
        text = f"classes are spread otherwise in validation than in training, by {apart:.0%} of the examples"
        found.warn("splits", text, "check how the source divides its parts")
    else:
        found.good("splits", f"all {count} classes in both parts, spread alike within {apart:.1%}")


def rows(x: Tensor) -> list[bytes]:
    """A hash of every example."""
    flat = np.ascontiguousarray(x.reshape(len(x), -1).numpy())
    return [hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in flat]


def overlap(part: str, ours: Sequence[bytes], other: str, theirs: Sequence[bytes]) -> Copies:
    """Examples of a part that another part has as well."""
    there = set(theirs)
    return Copies(part, other, sum(row in there for row in ours), len(ours))


def judge_copies(copies: Sequence[Copies], found: Findings) -> None:
    """Parts with much in common make every result better than it is."""
    from ziggurat.checks import Check

    for each in copies:
        if each.share >= COPIES:
            told = f"{each.text}, so results look better than they are"
            found.checks.append(Check("splits", False if each.share > TOO_MANY else None, told, CURE))
