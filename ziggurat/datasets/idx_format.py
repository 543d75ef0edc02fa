"""The IDX format of MNIST, plain or gzipped: a header of big-endian sizes, then the numbers.

Source: LeCun, Cortes and Burges 1998, The MNIST database, section "File formats".
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from ziggurat.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ziggurat.datasets.verify import Array

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""Third byte of a file and numpy's name of the type."""


_MAGIC_BYTES = 4


@dataclass(frozen=True)
class Header:
    """What a file says about itself; `bytes` is the length of the header."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    bytes: int


def read_header(path: Path) -> Header:
    """Type and shape of the array in a file, without reading it all.

    The length of a plain file is held against its header; that of a gzipped one only `read` can tell.

    Raises:
        SpecError: The file cannot be read or is no IDX file, or is shorter or longer than it says.
    """
    with _opened(path) as stream:
        header = _header(stream, path)
    if path.suffix != ".gz":
        _same_length(path, header, path.stat().st_size - header.bytes)
    return header


def read(path: Path) -> Array:
    """The array in a file, in the byte order of this machine.

    Raises:
        SpecError: As for `read_header`.
    """
    with _opened(path) as stream:
        header = _header(stream, path)
        content = stream.read()
    _same_length(path, header, len(content))
    array = np.frombuffer(content, dtype=header.dtype).reshape(header.shape)
    return array.astype(header.dtype.newbyteorder("="), copy=False)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with path.open("rb") as file:
            if path.suffix != ".gz":
                yield file
                return
            if file.read(2) != b"\x1f\x8b":
                raise SpecError(
                    f"{path}: the name ends in .gz, but the content is not gzipped; remove .gz from the name"
                )
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast("BinaryIO", unpacked)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SpecError(
            f"{path}: the gzipped content is damaged or cut off ({error}); get the file again"
        ) from None
    except OSError as error:
        raise SpecError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and permissions"
        ) from None


def _header(stream: BinaryIO, path: Path) -> Header:
    magic = stream.read(_MAGIC_BYTES)
    if len(magic) < _MAGIC_BYTES or magic[:2] != b"\x00\x00" or magic[2] not in TYPES or magic[3] == 0:
        hint = (
            "it is gzipped, add .gz to its name"
            if magic[:2] == b"\x1f\x8b"
            else "give an IDX file such as MNIST's"
        )
        raise SpecError(
            f"{path}: begins with 0x{magic.hex() or '00 (empty)'}, but an IDX file begins with 0x0000, a "
            f"type (08 for bytes) and the number of dimensions; {hint}"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise SpecError(f"{path}: cut off within its header; get the file again")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    return Header(np.dtype(TYPES[magic[2]]), shape, 4 + 4 * magic[3])


def _same_length(path: Path, header: Header, found: int) -> None:
    wanted = math.prod(header.shape) * header.dtype.itemsize
    if found != wanted:
        raise SpecError(
            f"{path}: its header promises {wanted} bytes for shape {header.shape}, but {found} follow; "
            "the file is cut off or damaged, get it again"
        )
