import numpy as np
import pytest

from ziggurat.datasets import Npz


@pytest.fixture
def saved(tmp_path, toy_arrays):
    def save(**arrays):
        x, y = toy_arrays()
        path = tmp_path / "data.npz"
        np.savez(path, **({"x": x, "y": y} | arrays))
        return path

    return save


def dataset(path, **more):
    return Npz(path=str(path), **more)


def test_examples_and_labels_are_split(saved):
    found = dataset(saved())
    found.check()
    assert len(found.load().train_y) == 84
    assert len(found.load_test()[1]) == 18
    assert found.signature() == found.load().signature


def test_test_arrays_are_used_where_the_file_holds_them(saved, toy_arrays):
    x, y = toy_arrays(9, seed=5)
    found = dataset(saved(x_test=x, y_test=y))
    assert np.allclose(found.model_copy(update={"standardize": False}).load_test()[0][:, 0] * 255, x)
    named = dataset(saved(a=x, b=y), x_test="a", y_test="b")
    assert len(named.load_test()[1]) == 9


def test_other_names_can_be_given(saved, toy_arrays):
    x, y = toy_arrays(classes=4)
    assert dataset(saved(pixels=x, kind=y), x="pixels", y="kind").signature().classes == 4


def test_missing_name_lists_those_that_exist(saved, one_line):
    one_line(dataset(saved(), x="images").check, "no array 'images'", "x, y", "data.x")
    one_line(dataset(saved(), y_test="labels").check, "no array")
    one_line(dataset(saved(y_test=np.zeros(3))).check, "no array 'x_test'")


def test_missing_file_is_named(tmp_path, one_line):
    one_line(dataset(tmp_path / "none.npz").check, "data.path", "none.npz", "No such file")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nothing", b"hello"])
def test_file_that_is_no_archive_is_refused(tmp_path, content, one_line):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    for action in (dataset(path).check, dataset(path).load):
        one_line(action, str(path), "numpy.savez")


def test_file_cut_off_is_refused(saved, one_line):
    path = saved()
    path.write_bytes(path.read_bytes()[:-200])
    one_line(dataset(path).load, str(path), "save it again")


def test_damaged_array_is_refused(saved, one_line):
    path = saved()
    content = bytearray(path.read_bytes())
    content[1000] ^= 0xFF
    path.write_bytes(bytes(content))
    one_line(dataset(path).load, str(path), "save it again")


def test_pickled_objects_are_never_loaded(saved, one_line):
    path = saved(x=np.array([{"a": 1}] * 120, dtype=object))
    one_line(dataset(path).check, "'x'", "pickled Python objects", "never loaded")
    one_line(dataset(path).load, "'x'", "pickled Python objects")


def test_labels_must_be_as_many_as_examples(saved, one_line):
    one_line(dataset(saved(y=np.zeros(7, dtype=int))).check, "'y' has shape (7,)", "(120,)")


def test_labels_that_are_no_integers_are_refused(saved, one_line):
    one_line(dataset(saved(y=np.zeros(120))).load, "float64", "astype")


def test_wrong_dimensions_are_refused(saved, one_line):
    one_line(dataset(saved(x=np.zeros(120))).check, "'x'", "(120,)", "reshape")
