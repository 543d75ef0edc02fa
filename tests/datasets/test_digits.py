import numpy as np
import torch
from sklearn.datasets import load_digits

from ziggurat.datasets import Digits


def test_pixels_and_labels_are_those_of_scikit_learn():
    digits = Digits(image=False, standardize=False)
    data, (test_x, test_y) = digits.load(), digits.load_test()
    x = torch.cat([data.train_x, data.validation_x, test_x]).numpy()
    y = torch.cat([data.train_y, data.validation_y, test_y]).numpy()
    bunch = load_digits()
    ours = np.column_stack([x * 16, y])
    theirs = np.column_stack([bunch.data, bunch.target])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


def test_flat_and_image_shapes_hold_the_same_examples():
    flat, image = Digits(image=False), Digits()
    assert flat.signature().shape == (64,)
    assert image.signature().shape == (1, 8, 8)
    assert flat.fingerprint() == image.fingerprint()
    plain = [d.model_copy(update={"standardize": False}).load().train_x.flatten(1) for d in (flat, image)]
    assert torch.equal(*plain)
