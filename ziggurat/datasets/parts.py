"""From raw arrays to the parts of a dataset, the same for every kind.

Training and validation are handed out together; the sealed test part only by `sealed`, which nothing but the
last stage calls. Scaling and standardisation use what the training part shows, for all parts.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from ziggurat.datasets import scaling, stratify, verify
from ziggurat.datasets.stratify import IntArray
from ziggurat.datasets.verify import Array
from ziggurat.errors import SpecError
from ziggurat.protocols import Data, Signature
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


_ROUNDING = 1e-6
"""By how much fractions may miss their sum."""


class Split(Setting):
    """How examples are divided, class by class."""

    train: float = Field(default=0.7, gt=0, lt=1, description="Fraction for training.")
    validation: float = Field(default=0.15, gt=0, lt=1, description="Fraction for validation.")
    test: float = Field(
        default=0.15,
        ge=0,
        lt=1,
        description="Fraction that stays sealed to the end; ignored where the data has its own test part.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Decides which examples go where.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.train + self.validation + self.test
        if abs(total - 1) > _ROUNDING:
            raise ValueError(
                f"train + validation + test is {total:.6g}, it must be 1; change one of the fractions"
            )
        return self


class Dataset(Protocol):
    """What every kind of dataset can do."""

    @property
    def split(self) -> Split:
        """How it is divided."""

    def check(self) -> None:
        """Look, cheaply, whether it can be loaded; SpecError otherwise."""

    def load(self) -> Data:
        """The training and validation part; nothing of the test part is reachable from it."""

    def load_test(self) -> tuple[Tensor, Tensor]:
        """The sealed part, (n, *shape) float32 and (n,) int64, prepared like the others."""

    def signature(self) -> Signature:
        """Shape of an example and number of classes."""

    def fingerprint(self) -> str:
        """Content hash of the sealed part, 16 hexadecimal digits: the same examples give the same one."""


@dataclass(frozen=True)
class Arrays:
    """A dataset as its source gives it.

    Attributes:
        x: (n, *shape) numbers: the pool for training and validation, and for the test if it has no own part.
        y: (n,) labels.
        test: Examples and labels of the source's own test part.
        origin: Where it comes from, for messages.
        cure: What to do, in messages, about labels that do not cover 0 to classes - 1.
    """

    x: Array
    y: Array
    test: tuple[Array, Array] | None = None
    origin: str = "data"
    cure: str = "renumber them"


@dataclass(frozen=True)
class Preparation:
    """The settings that all kinds share."""

    split: Split
    limit: int | None
    standardize: bool


@dataclass(frozen=True)
class _Pool:
    """Verified arrays and the positions of the parts in `x`; `sealed_x` and `sealed_y` are the test part."""

    x: Array
    y: IntArray
    train: IntArray
    validation: IntArray
    sealed_x: Array
    sealed_y: IntArray
    classes: int


def open_parts(arrays: Arrays, how: Preparation) -> Data:
    """The training and validation part as tensors.

    Raises:
        SpecError: The arrays cannot serve as a dataset.
    """
    import torch

    pool = _pool(arrays, how)
    train_x, validation_x = scaling.floats(pool.x[pool.train]), scaling.floats(pool.x[pool.validation])
    if how.standardize:
        scaling.standardize(train_x, validation_x)
    return Data(
        train_x=torch.from_numpy(train_x),
        train_y=torch.from_numpy(pool.y[pool.train]),
        validation_x=torch.from_numpy(validation_x),
        validation_y=torch.from_numpy(pool.y[pool.validation]),
        signature=Signature(tuple(int(n) for n in train_x.shape[1:]), pool.classes),
        seed=how.split.seed,
    )


def sealed(arrays: Arrays, how: Preparation) -> tuple[Tensor, Tensor]:
    """The test part as tensors, standardised by what the training part shows.

    Raises:
        SpecError: The arrays cannot serve as a dataset.
    """
    import torch

    pool = _pool(arrays, how)
    x = scaling.floats(pool.sealed_x)
    if how.standardize:
        scaling.standardize(scaling.floats(pool.x[pool.train]), x)
    return torch.from_numpy(x), torch.from_numpy(pool.sealed_y.copy())


def fingerprint(arrays: Arrays, how: Preparation) -> str:
    """Content hash of the sealed part before any scaling, 16 hexadecimal digits.

    It depends on the split, the seed and the limit exactly as far as these decide which examples are sealed,
    so looks at one test part are counted together whatever else a spec changes.
    """
    pool = _pool(arrays, how)
    digest = hashlib.sha256()
    digest.update(np.ascontiguousarray(pool.sealed_y).tobytes())
    digest.update(str(pool.sealed_x.dtype).encode())
    digest.update(np.ascontiguousarray(pool.sealed_x).tobytes())
    return digest.hexdigest()[:16]


def signature(arrays: Arrays) -> Signature:
    """Shape of an example and number of classes.

    Raises:
        SpecError: The arrays cannot serve as a dataset.
    """
    x = verify.examples(arrays.x, arrays.origin)
    y = verify.labels(arrays.y, len(x), arrays.origin, arrays.cure)
    return Signature(tuple(int(n) for n in x.shape[1:]), verify.classes(y, arrays.origin, arrays.cure))


def subset(data: Data, fraction: float) -> Data:
    """The data with a stratified fraction of its training part.

    A smaller fraction is contained in a larger one, every class keeps at least one example, and the split's
    seed alone decides which. Validation stays whole.

    Args:
        data: Training and validation part.
        fraction: Above 0, at most 1.

    Raises:
        ValueError: The fraction is outside its bounds.
    """
    import torch

    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, it must be above 0 and at most 1")
    if fraction == 1:
        return data
    shuffled = stratify.orders(data.train_y.numpy(), data.seed)
    counts = stratify.fraction_counts([len(group) for group in shuffled], fraction)
    chosen = torch.from_numpy(stratify.first_of_each(shuffled, counts))
    return replace(data, train_x=data.train_x[chosen], train_y=data.train_y[chosen])


def shrunk(data: Data, resolution: float) -> Data:
    """The data with smaller images, of training and validation alike; the signature stays as it is.

    Each pixel is the mean of those it stands for. What is built for the signature must take images of any
    size, as a network does that pools over all of them in the end.

    Args:
        data: Training and validation part.
        resolution: Share of the edges that is left, above 0 and at most 1.

    Raises:
        SpecError: The examples are no images.
    """
    if resolution == 1:
        return data
    from torch.nn.functional import interpolate

    shape = data.signature.shape
    if len(shape) != 3:  # noqa: PLR2004 - channels, height, width
        raise SpecError(
            f"resolution is {resolution:g}, but examples of shape {shape} are no images; leave it out"
        )
    size = tuple(max(1, round(edge * resolution)) for edge in shape[1:])
    train_x, validation_x = (interpolate(x, size, mode="area") for x in (data.train_x, data.validation_x))
    return replace(data, train_x=train_x, validation_x=validation_x)


def chance(data: Data) -> Mapping[str, float]:
    """What a model without any skill reaches, by metric.

    Accuracy is the share, on validation, of the class that is most frequent in training; the losses are those
    of equal probabilities, in nats.
    """
    import torch

    commonest = int(torch.bincount(data.train_y, minlength=data.signature.classes).argmax())
    loss = math.log(data.signature.classes)
    accuracy = float((data.validation_y == commonest).float().mean())
    return {"val_accuracy": accuracy, "val_loss": loss, "train_loss": loss}


def _pool(arrays: Arrays, how: Preparation) -> _Pool:
    origin = arrays.origin
    x = verify.examples(arrays.x, origin)
    y = verify.labels(arrays.y, len(x), origin, arrays.cure)
    classes = verify.classes(y, origin, arrays.cure)
    own = None if arrays.test is None else _own_test(arrays, x.shape[1:], classes)
    if own is None and how.split.test == 0:
        raise SpecError(
            f"data.split.test is 0, but {origin} has no test part of its own; set it above 0, such as 0.15"
        )
    parts = 2 if own else 3
    verify.enough(y, parts, origin)
    kept = _limited(y, how, parts, origin)
    fractions = (how.split.train, how.split.validation, 0.0 if own else how.split.test)
    train, validation, test = (kept[part] for part in stratify.split(y[kept], fractions, how.split.seed))
    sealed_x, sealed_y = own or (x[test], y[test])
    return _Pool(x, y, train, validation, sealed_x, sealed_y, classes)


def _own_test(arrays: Arrays, shape: tuple[int, ...], classes: int) -> tuple[Array, IntArray]:
    assert arrays.test is not None
    origin = f"{arrays.origin}, test part"
    x = verify.examples(arrays.test[0], origin)
    y = verify.labels(arrays.test[1], len(x), origin, arrays.cure)
    if x.shape[1:] != shape:
        raise SpecError(
            f"{origin}: examples have shape {x.shape[1:]}, those for training {shape}; make them equal"
        )
    if int(y.max()) >= classes:
        raise SpecError(
            f"{origin}: labels go up to {y.max()}, those for training to {classes - 1}; {arrays.cure} or add "
            "training examples of every class"
        )
    return x, y


def _limited(y: IntArray, how: Preparation, parts: int, origin: str) -> IntArray:
    if how.limit is None or how.limit >= len(y):
        return np.arange(len(y))
    shuffled = stratify.orders(y, how.split.seed)
    if how.limit < parts * len(shuffled):
        raise SpecError(
            f"data.limit is {how.limit}, but {len(shuffled)} classes in {origin} need {parts} examples each; "
            f"raise it to at least {parts * len(shuffled)}"
        )
    counts = stratify.limit_counts([len(group) for group in shuffled], how.limit, parts)
    return stratify.first_of_each(shuffled, counts)
