import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ziggurat.datasets import Split, chance, parts, shrunk, subset
from ziggurat.datasets.parts import Arrays, Preparation
from ziggurat.protocols import Data, Signature


def how(*, limit=None, standardize=False, **split):
    return Preparation(Split(**split), limit, standardize)


def numbered(count=200, classes=2, **more):
    """Examples that hold their own number, so that a part shows which ones it got."""
    return Arrays(
        np.arange(count * 2, dtype=np.float64).reshape(count, 2), np.arange(count) % classes, **more
    )


def plain(labels, features=None, seed=0, classes=None):
    y = torch.tensor(labels)
    x = torch.arange(len(y), dtype=torch.float32)[:, None] if features is None else features
    return Data(x, y, x[:4], y[:4], Signature((1,), classes or int(y.max()) + 1), seed)


def test_fractions_must_sum_to_one():
    with pytest.raises(ValidationError, match=r"train \+ validation \+ test is 0.9, it must be 1"):
        Split(train=0.6)
    Split(train=0.7 + 5e-7)


def test_the_three_parts_share_no_example_and_lose_none():
    arrays = numbered()
    data, (test_x, _) = parts.open_parts(arrays, how()), parts.sealed(arrays, how())
    numbers = torch.cat([data.train_x, data.validation_x, test_x])[:, 0].tolist()
    assert sorted(numbers) == [2.0 * i for i in range(200)]


def test_nothing_of_the_test_part_lies_behind_the_tensors_handed_out():
    data = parts.open_parts(numbered(), how())
    for tensor in (data.train_x, data.train_y, data.validation_x, data.validation_y):
        assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_same_seed_gives_the_same_parts_and_another_seed_others():
    first, again, other = (parts.open_parts(numbered(), how(seed=s)).train_x for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_types_are_what_training_expects():
    data = parts.open_parts(numbered(), how(standardize=True))
    assert (data.train_x.dtype, data.train_y.dtype) == (torch.float32, torch.int64)
    assert data.signature == Signature((2,), 2)


def test_standardisation_uses_the_training_part_alone():
    x = np.random.default_rng(0).normal(5, 3, (200, 4))
    arrays = Arrays(x, np.arange(200) % 2)
    raw, data = parts.open_parts(arrays, how()), parts.open_parts(arrays, how(standardize=True))
    test_raw, test = parts.sealed(arrays, how())[0], parts.sealed(arrays, how(standardize=True))[0]
    mean, deviation = raw.train_x.mean(0), raw.train_x.std(0, correction=0)
    assert torch.allclose(data.train_x, (raw.train_x - mean) / deviation, atol=1e-5)
    assert torch.allclose(data.validation_x, (raw.validation_x - mean) / deviation, atol=1e-5)
    assert torch.allclose(test, (test_raw - mean) / deviation, atol=1e-5)


def test_images_are_standardised_by_channel():
    x = np.random.default_rng(0).normal(0, 1, (100, 2, 3, 3)) * np.array([1, 50])[:, None, None] + 7
    data = parts.open_parts(Arrays(x, np.arange(100) % 2), how(standardize=True))
    assert torch.allclose(data.train_x.mean((0, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(data.train_x.std((0, 2, 3), correction=0), torch.ones(2), atol=1e-5)


def test_constant_feature_becomes_zero_and_a_tiny_one_does_not():
    x = np.random.default_rng(0).normal(0, 1e-9, (100, 3))
    x[:, 1] = 123.456
    data = parts.open_parts(Arrays(x, np.arange(100) % 2), how(standardize=True))
    assert data.train_x[:, 1].abs().max() < 1e-3
    assert float(data.train_x[:, 0].std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_bytes_are_divided_by_255_and_other_integers_are_not():
    x = np.tile(np.array([[0, 255]], dtype=np.uint8), (60, 1))
    assert parts.open_parts(Arrays(x, np.arange(60) % 2), how()).train_x[0].tolist() == [0.0, 1.0]
    assert parts.open_parts(Arrays(x.astype(int), np.arange(60) % 2), how()).train_x[0].tolist() == [
        0.0,
        255.0,
    ]


def test_source_with_a_test_part_keeps_it_whole_and_splits_the_rest_in_two():
    test = (np.full((10, 2), -1.0), np.arange(10) % 2)
    arrays = numbered(100, test=test)
    data = parts.open_parts(arrays, how(train=0.6, validation=0.2, test=0.2))
    assert [len(data.train_y), len(data.validation_y)] == [74, 26]  # 12.5 of 50 in each class, rounded up
    x, y = parts.sealed(arrays, how(limit=50))
    assert x.tolist() == test[0].tolist()
    assert y.tolist() == test[1].tolist()


def test_limit_cuts_the_pool_before_it_is_split():
    arrays = numbered(200)
    data, (test_x, _) = parts.open_parts(arrays, how(limit=60)), parts.sealed(arrays, how(limit=60))
    assert len(data.train_y) + len(data.validation_y) + len(test_x) == 60
    assert torch.bincount(data.train_y).tolist() == [20, 20]


def test_fingerprint_follows_the_sealed_examples_and_nothing_else():
    base = parts.fingerprint(numbered(), how())
    assert len(base) == 16
    assert int(base, 16) >= 0
    assert parts.fingerprint(numbered(), how(standardize=True)) == base
    assert parts.fingerprint(numbered(), how(train=0.5, validation=0.35)) == base
    assert parts.fingerprint(numbered(), how(seed=1)) != base
    assert parts.fingerprint(numbered(), how(limit=100)) != base
    assert parts.fingerprint(numbered(202), how()) != base
    arrays = numbered()
    assert parts.fingerprint(replace(arrays, x=arrays.x + 1), how()) != base
    own = {"test": (np.zeros((4, 2)), np.array([0, 1, 0, 1]))}
    assert parts.fingerprint(numbered(**own), how(seed=1)) == parts.fingerprint(numbered(**own), how())


@settings(max_examples=40, deadline=None)
@given(low=st.floats(0.01, 1), high=st.floats(0.01, 1), seed=st.integers(0, 3))
def test_smaller_subset_lies_in_the_larger_and_keeps_every_class(low, high, seed):
    low, high = sorted((low, high))
    data = plain([i % 3 if i < 90 else 3 for i in range(92)], seed=seed)
    few, many = subset(data, low), subset(data, high)
    assert set(few.train_x[:, 0].tolist()) <= set(many.train_x[:, 0].tolist())
    assert set(few.train_y.tolist()) == {0, 1, 2, 3}
    assert torch.equal(few.validation_x, data.validation_x)
    assert torch.equal(few.train_y, data.train_y[few.train_x[:, 0].long()])


def test_subset_of_a_third_has_a_third_of_each_class():
    data = plain([0] * 30 + [1] * 60)
    assert torch.bincount(subset(data, 1 / 3).train_y).tolist() == [10, 20]
    assert subset(data, 1.0) is data


def test_subset_depends_on_the_seed():
    first, second = (subset(plain([0, 1] * 50, seed=s), 0.2).train_x.tolist() for s in (0, 1))
    assert first != second


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.1, math.nan])
def test_impossible_fraction_is_refused(fraction):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        subset(plain([0, 1]), fraction)


def test_chance_is_the_share_of_the_commonest_training_class_in_validation():
    y = torch.tensor([0, 1, 1, 1])
    x = torch.zeros(4, 1)
    data = Data(x, y, x, torch.tensor([1, 0, 0, 2]), Signature((1,), 3))
    assert chance(data) == {"val_accuracy": 0.25, "val_loss": math.log(3), "train_loss": math.log(3)}


def test_no_test_fraction_without_an_own_test_part_is_refused(one_line):
    nothing = how(train=0.8, validation=0.2, test=0.0)
    one_line(lambda: parts.open_parts(numbered(), nothing), "data.split.test is 0", "set it above 0")


def test_limit_below_the_number_of_parts_of_all_classes_is_refused(one_line):
    arrays = numbered(400, classes=20)
    one_line(lambda: parts.open_parts(arrays, how(limit=50)), "data.limit is 50", "raise it to at least 60")


def test_own_test_part_must_fit_the_training_part(one_line):
    wide = numbered(test=(np.zeros((4, 3)), np.array([0, 1, 0, 1])))
    one_line(lambda: parts.open_parts(wide, how()), "test part", "(3,)", "(2,)")
    unknown = numbered(test=(np.zeros((4, 2)), np.array([0, 1, 0, 2])))
    one_line(lambda: parts.open_parts(unknown, how()), "labels go up to 2", "those for training to 1")


def test_smaller_images_have_means_of_their_pixels_in_training_and_validation():
    x = torch.arange(32.0).reshape(2, 1, 4, 4)
    data = Data(x, torch.tensor([0, 1]), x[:1] + 1, torch.tensor([0]), Signature((1, 4, 4), 2))
    small = shrunk(data, 0.5)
    assert small.train_x[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert small.validation_x.tolist() == (small.train_x[:1] + 1).tolist()
    assert (small.signature, small.train_y.tolist()) == (data.signature, [0, 1])
    assert shrunk(data, 1.0) is data
    assert shrunk(data, 0.01).train_x.shape == (2, 1, 1, 1)
