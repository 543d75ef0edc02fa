import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    kind = array.dtype.str[1:]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, CODES[kind], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def toy(count=120, classes=3, shape=(5, 4), seed=0):
    """Bytes in which the label can be seen, and labels that take turns."""
    rng = np.random.default_rng(seed)
    y = (np.arange(count) % classes).astype(np.uint8)
    x = rng.integers(0, 100, (count, *shape)).astype(np.uint8)
    x.reshape(count, -1)[:, 0] = 50 * y
    return x, y


@pytest.fixture
def toy_arrays():
    return toy


@pytest.fixture
def write_idx():
    def write(path: Path, array, *, zipped=False):
        content = idx_bytes(array)
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
        return path

    return write


@pytest.fixture
def idx_folder(tmp_path, write_idx):
    """A directory like MNIST's, small: 120 for training, 30 for testing."""
    for part, count, seed in [("train", 120, 0), ("t10k", 30, 1)]:
        x, y = toy(count, seed=seed)
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", x, zipped=True)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", y)
    return tmp_path


@pytest.fixture
def one_line():
    """Run something that must fail with one line that holds the given words."""

    def expect(action, *words):
        from ziggurat.errors import SpecError

        with pytest.raises(SpecError) as caught:
            action()
        text = str(caught.value)
        assert "\n" not in text
        for word in words:
            assert word in text
        return text

    return expect
