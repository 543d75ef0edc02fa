"""What arrays must be like to serve as a dataset; all else gives one line that names cause and cure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ziggurat.errors import SpecError

if TYPE_CHECKING:
    from ziggurat.datasets.stratify import IntArray

Array = npt.NDArray[Any]


_GREY = 3
"""Dimensions of images without channels, (n, height, width)."""


_LARGEST = 1e15
"""Magnitude up to which sums of squares stay far within float32."""


def examples(x: Array, origin: str) -> Array:
    """Examples as (n, features) or (n, channels, height, width); (n, height, width) gets one channel.

    Raises:
        SpecError: Wrong dimensions, no numbers, or NaN, infinity or huge ones among them.
    """
    check_shape(x.shape, origin)
    if x.dtype.kind not in "buif":
        raise SpecError(f"{origin}: examples are of type {x.dtype}, allowed are real numbers; convert them")
    if x.dtype.kind == "f":
        bad = x.size - int(np.count_nonzero(np.isfinite(x)))
        if bad:
            raise SpecError(
                f"{origin}: {bad} of {x.size} numbers are NaN or infinite; replace or remove them"
            )
    if x.dtype != np.uint8:
        largest = max(abs(float(x.min())), abs(float(x.max())))
        if largest > _LARGEST:
            raise SpecError(
                f"{origin}: numbers go up to {largest:g}, allowed are up to {_LARGEST:g}; rescale them"
            )
    return x.reshape(len(x), *example_shape(x.shape))


def example_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one example in an array of that shape; (n, height, width) gets one channel."""
    features_or_channels = tuple(int(n) for n in shape[1:])
    return (1, *features_or_channels) if len(shape) == _GREY else features_or_channels


def check_shape(shape: tuple[int, ...], origin: str) -> None:
    """Hold the shape of all examples together against what a dataset may have.

    Raises:
        SpecError: Wrong dimensions, or one of them is 0.
    """
    if len(shape) not in (2, 3, 4):
        raise SpecError(
            f"{origin}: examples have shape {shape}, allowed are (n, features), (n, height, width) and "
            "(n, channels, height, width); reshape them"
        )
    if 0 in shape:
        raise SpecError(
            f"{origin}: examples have shape {shape}, which holds nothing; give at least one example"
        )


def labels(y: Array, count: int, origin: str, cure: str = "renumber them") -> IntArray:
    """Labels as (n,) int64, at least 0.

    Raises:
        SpecError: Wrong shape or number, no integers, or negative ones.
    """
    if y.ndim != 1:
        raise SpecError(f"{origin}: labels have shape {y.shape}, allowed is (n,); give one class number each")
    if y.dtype.kind not in "bui":
        raise SpecError(
            f"{origin}: labels are of type {y.dtype}, allowed are integers 0 to classes - 1; convert them, "
            "for example with y.astype('int64')"
        )
    if len(y) != count:
        raise SpecError(f"{origin}: {count} examples but {len(y)} labels; give each example one label")
    if y.dtype == np.uint64 and count and int(y.max()) >= 2**63:
        raise SpecError(
            f"{origin}: labels go up to {y.max()}, allowed are integers 0 to classes - 1; renumber them"
        )
    whole = y.astype(np.int64)
    if count and whole.min() < 0:
        raise SpecError(f"{origin}: labels go down to {whole.min()}, allowed are 0 to classes - 1; {cure}")
    return whole


def classes(y: IntArray, origin: str, cure: str = "renumber them") -> int:
    """Number of classes of labels that cover 0..C-1 without a gap.

    Raises:
        SpecError: A class in between has no example, or there is one class only.
    """
    found = np.unique(y)
    number = len(found)
    if int(found[-1]) != number - 1:
        missing = next(i for i, label in enumerate([*found, -1]) if i != label)
        raise SpecError(
            f"{origin}: labels lie between {found[0]} and {found[-1]}, but none is {missing}; allowed "
            f"are 0 to classes - 1 without a gap; {cure}"
        )
    if number == 1:
        raise SpecError(
            f"{origin}: all labels are {found[0]}; at least 2 classes are needed; give other data"
        )
    return number


def enough(y: IntArray, parts: int, origin: str) -> None:
    """Hold the size of the smallest class against the number of parts that need an example of it.

    Raises:
        SpecError: A class is too small.
    """
    sizes = np.bincount(y)
    least = int(sizes.argmin())
    if sizes[least] < parts:
        raise SpecError(
            f"{origin}: class {least} has {sizes[least]} example(s), but splitting needs "
            f"at least {parts} of each class; add examples or remove the class"
        )
