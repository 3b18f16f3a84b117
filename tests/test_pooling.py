"""What the contract tests' small samples of pooling do not reach."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fn
from fastnn import _kernels as k


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, 2])
def test_a_gradient_written_past_the_cache_has_the_same_bits(count: int) -> None:
    """Of 16 MiB on and with rows of whole vectors it goes to memory at once; one that begins elsewhere does not."""
    N, C, P, Q = 2, 128, 64, 64
    how = {"stride": (2, 2), "padding": (0, 0), "ceil_mode": False, "count_include_pad": True, "divisor": 0}
    dy = np.random.default_rng(0).standard_normal((N, P, Q, C)).astype("float32").transpose(0, 3, 1, 2)
    found = []
    size = N * 4 * P * Q * C
    fn.set_num_threads(count)
    for start in (0, 1):
        flat = k.aligned_zeros(size + start, "float32")[start:]
        dx = flat.reshape(N, 2 * P, 2 * Q, C).transpose(0, 3, 1, 2)
        k.TABLE["avg_pool2d_backward"](dy, **how, kernel_size=(2, 2), input_size=(2 * P, 2 * Q), out=dx)
        found.append(dx)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], dy.repeat(2, 2).repeat(2, 3) / 4)
