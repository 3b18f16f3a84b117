"""Scikit-learn's 8x8 digits: small, bundled with scikit-learn, so that no network is needed."""

from __future__ import annotations

import numpy as np

from .dataset import Dataset


def digits(test_size: float = 0.2, seed: int = 0) -> Dataset:
    """The 1797 handwritten digits of `sklearn.datasets.load_digits`, split with `train_test_split`.

    test_size: fraction of the images for the test part; each class has the same share in both parts
    seed: seed of the split

    Returns images of shape (N, 1, 8, 8), float32, pixels 0..16 scaled to 0..1.
    Raises ImportError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError('digits() needs scikit-learn: pip install "fastnn[sklearn]"') from error

    bunch = load_digits()
    x = (bunch.images[:, None] / 16).astype(np.float32)
    y = bunch.target.astype(np.int64)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=test_size, random_state=seed, stratify=y)
    return Dataset(x_train, y_train, x_test, y_test, tuple(str(name) for name in bunch.target_names))
