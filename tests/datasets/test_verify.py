import numpy as np
import pytest

from ziggurat.datasets import verify


@pytest.mark.parametrize(
    ("shape", "expected"), [((6, 4), (4,)), ((6, 4, 5), (1, 4, 5)), ((6, 2, 4, 5), (2, 4, 5))]
)
def test_only_images_without_channels_get_one(shape, expected):
    assert verify.example_shape(shape) == expected
    assert verify.examples(np.zeros(shape), "here").shape == (6, *expected)


@pytest.mark.parametrize("shape", [(6,), (6, 1, 2, 3, 4), ()])
def test_other_numbers_of_dimensions_are_refused(shape, one_line):
    one_line(lambda: verify.examples(np.zeros(shape), "here"), "here", str(shape), "reshape")


def test_empty_arrays_are_refused(one_line):
    one_line(lambda: verify.examples(np.zeros((0, 4)), "here"), "here", "at least one example")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_counted_and_refused(bad, one_line):
    x = np.zeros((5, 2), dtype=np.float32)
    x[3, 1] = bad
    one_line(lambda: verify.examples(x, "here"), "1 of 10 numbers are NaN or infinite", "replace")


def test_huge_numbers_are_refused_before_they_become_infinite(one_line):
    one_line(lambda: verify.examples(np.full((5, 2), -1e300), "here"), "1e+300", "rescale")


@pytest.mark.parametrize("x", [np.zeros((3, 2), dtype=complex), np.full((3, 2), "a")])
def test_examples_that_are_no_real_numbers_are_refused(x, one_line):
    one_line(lambda: verify.examples(x, "here"), "allowed are real numbers")


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros(3), ("float64", "astype")),
        (np.array(["a", "b", "c"]), ("allowed are integers",)),
        (np.zeros((3, 1), dtype=int), ("(3, 1)", "allowed is (n,)")),
        (np.zeros(4, dtype=int), ("3 examples but 4 labels",)),
        (np.array([0, -2, 1]), ("go down to -2", "renumber")),
        (np.array([0, 1, 2**63], dtype=np.uint64), ("go up to 9223372036854775808",)),
    ],
)
def test_labels_that_cannot_be_classes_are_refused(y, words, one_line):
    one_line(lambda: verify.labels(y, 3, "here"), "here", *words)


def test_labels_without_gap_are_counted():
    assert verify.classes(np.array([2, 0, 1, 1]), "here") == 3


@pytest.mark.parametrize(
    ("y", "words"),
    [
        ([1, 2, 3], ("between 1 and 3", "none is 0")),
        ([0, 1, 3], ("between 0 and 3", "none is 2")),
        ([0, 0], ("at least 2 classes",)),
        ([10**12, 0], ("none is 1",)),
    ],
)
def test_labels_with_a_gap_are_refused(y, words, one_line):
    one_line(lambda: verify.classes(np.array(y), "here"), "here", *words)


def test_class_with_too_few_examples_is_named(one_line):
    one_line(lambda: verify.enough(np.array([0, 0, 0, 1, 1]), 3, "here"), "class 1 has 2", "at least 3")
    verify.enough(np.array([0, 0, 1, 1]), 2, "here")
