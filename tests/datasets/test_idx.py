import gzip
import struct

import numpy as np
import pytest
import torch

from ziggurat.datasets import Idx, idx_format


def dataset(folder, **more):
    return Idx(directory=str(folder), **more)


def test_directory_like_mnist_gives_three_parts(idx_folder, toy_arrays):
    found = dataset(idx_folder, standardize=False)
    found.check()
    data, (test_x, test_y) = found.load(), found.load_test()
    assert data.signature == found.signature()
    assert data.signature.shape == (1, 5, 4)
    assert data.signature.classes == 3
    assert [len(data.train_y), len(data.validation_y), len(test_y)] == [99, 21, 30]
    x, y = toy_arrays(30, seed=1)
    assert np.allclose(test_x[:, 0].numpy() * 255, x)
    assert np.array_equal(test_y.numpy(), y)
    # the first pixel tells the label, so images and labels still belong together
    assert torch.allclose(data.train_x[:, 0, 0, 0] * 255, 50.0 * data.train_y)


def test_without_test_files_the_test_part_is_split_off(idx_folder):
    for path in idx_folder.glob("t10k*"):
        path.unlink()
    assert len(dataset(idx_folder).load_test()[1]) == 18


@pytest.mark.parametrize(
    "names",
    [
        ("train-images.idx3-ubyte", "train-labels.idx1-ubyte"),
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte.gz"),
        ("emnist-mnist-train-images-idx3-ubyte.gz", "emnist-mnist-train-labels-idx1-ubyte.gz"),
    ],
)
def test_usual_names_are_found(tmp_path, write_idx, toy_arrays, names):
    for name, array in zip(names, toy_arrays(), strict=True):
        write_idx(tmp_path / name, array, zipped=name.endswith("gz"))
    prefix = "emnist-mnist" if names[0].startswith("e") else ""
    assert dataset(tmp_path, prefix=prefix).signature().classes == 3


def test_labels_from_one_need_an_offset(tmp_path, write_idx, toy_arrays, one_line):
    x, y = toy_arrays()
    write_idx(tmp_path / "train-images-idx3-ubyte", x)
    write_idx(tmp_path / "train-labels-idx1-ubyte", y + 1)
    one_line(dataset(tmp_path).check, "train-labels", "none is 0", "data.label_offset is 0")
    one_line(dataset(tmp_path).load, "none is 0", "data.label_offset is 0")
    one_line(dataset(tmp_path, label_offset=2).check, "go down to -1", "data.label_offset is 2")
    assert dataset(tmp_path, label_offset=1).signature().classes == 3


def test_several_prefixes_are_listed_when_none_is_chosen(tmp_path, write_idx, toy_arrays, one_line):
    for prefix in ("emnist-letters-", "emnist-digits-"):
        write_idx(tmp_path / f"{prefix}train-images-idx3-ubyte", toy_arrays()[0])
        write_idx(tmp_path / f"{prefix}train-labels-idx1-ubyte", toy_arrays()[1])
    one_line(dataset(tmp_path).check, "set data.prefix to one of emnist-digits, emnist-letters")
    dataset(tmp_path, prefix="emnist-letters-").check()


@pytest.mark.parametrize("code", ["i2", "i4", "f4", "f8"])
def test_numbers_of_other_types_are_read_in_network_order(tmp_path, write_idx, code):
    array = np.array([[1, 2], [300, -4]], dtype=code)
    read = idx_format.read(write_idx(tmp_path / "a", array))
    assert read.dtype == np.dtype(code)
    assert read.tolist() == array.tolist()


def test_missing_directory_is_named(tmp_path, one_line):
    one_line(dataset(tmp_path / "nowhere").check, "data.directory", "nowhere", "No such file")


@pytest.mark.parametrize("missing", ["train-images", "train-labels", "t10k-images", "t10k-labels"])
def test_missing_file_is_named(idx_folder, missing, one_line):
    next(idx_folder.glob(f"{missing}*")).unlink()
    one_line(dataset(idx_folder).check, missing.replace("t10k", "test"), str(idx_folder))


def test_file_cut_off_is_noticed_by_the_check(idx_folder, one_line):
    path = idx_folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    one_line(dataset(idx_folder).check, str(path), "promises 120 bytes", "113 follow")


def test_gzipped_file_cut_off_is_noticed_when_loaded(idx_folder, one_line):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-100])
    one_line(dataset(idx_folder).load, str(path), "damaged or cut off")


def test_gzipped_file_with_too_few_numbers_is_noticed(idx_folder, one_line):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    one_line(dataset(idx_folder).load, str(path), "promises 2400 bytes", "2399 follow")


def test_damaged_gzip_content_is_noticed(idx_folder, one_line):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    one_line(dataset(idx_folder).load, str(path), "get the file again")


def test_name_that_lies_about_gzip_is_noticed(idx_folder, one_line):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.decompress(path.read_bytes()))
    one_line(dataset(idx_folder).check, str(path), "not gzipped", "remove .gz")
    labels = idx_folder / "train-labels-idx1-ubyte"
    path.write_bytes(gzip.compress(path.read_bytes()))
    labels.write_bytes(gzip.compress(labels.read_bytes()))
    one_line(dataset(idx_folder).check, str(labels), "add .gz")


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x00", b"\x00\x01\x08\x01", b"\x00\x00\x07\x01", b"\x89PNG\r\n"]
)
def test_file_that_is_no_idx_is_refused(idx_folder, content, one_line):
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(content)
    one_line(dataset(idx_folder).check, "train-labels-idx1-ubyte", "an IDX file begins with")


def test_header_cut_off_is_refused(idx_folder, one_line):
    (idx_folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">BBBBH", 0, 0, 8, 1, 5))
    one_line(dataset(idx_folder).check, "within its header")


def test_labels_must_be_as_many_as_images(idx_folder, write_idx, toy_arrays, one_line):
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", toy_arrays(29)[1])
    one_line(dataset(idx_folder).check, "t10k-labels", "(29,)", "30 images")
    one_line(dataset(idx_folder).load, "(29,)", "30 images")


def test_labels_that_are_no_integers_are_refused(idx_folder, write_idx, one_line):
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.zeros(120, dtype="f4"))
    one_line(dataset(idx_folder).check, "float32", "integers")


def test_image_file_with_one_dimension_is_refused(idx_folder, write_idx, one_line):
    (idx_folder / "train-images-idx3-ubyte.gz").unlink()
    write_idx(idx_folder / "train-images-idx3-ubyte", np.zeros(120, dtype="u1"))
    one_line(dataset(idx_folder).check, "shape (120,)")
