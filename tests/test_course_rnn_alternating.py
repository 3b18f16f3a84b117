"""fastnn.courses.rnn_alternating: exact on every backend, and the course's formula step by step."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn as fn
from fastnn import courses
from fastnn._kernels import backends
from fastnn.courses import rnn_alternating


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("seed", [None, 1])
def test_it_is_exact(backend: str, seed: int | None) -> None:
    with fn.use_backend(backend):
        report = courses.reproduce("rnn-alternating", seed=seed)
    assert report.holds and len(report.found.checks) == len(rnn_alternating.LENGTHS) + 1, report.summary()
    steps = sum(rnn_alternating.LENGTHS) // 2 * rnn_alternating.SEQUENCES
    assert sum(report.found.metrics["answers"].values()) == steps


def test_the_sum_is_that_of_the_recurrence() -> None:
    rng = np.random.default_rng(0)
    x, h = rng.integers(-9, 10, (12, 5)), rng.integers(-9, 10, 5)
    sums = rnn_alternating.alternating(x, h)
    for t, step in enumerate(x):
        h = step - h
        if t % 2:
            assert (h == sums[t // 2]).all()


def test_a_check_that_is_off_fails() -> None:
    assert all(check.holds for check in rnn_alternating.checks({2: 0, 4: 0}, {0.0: 3, 0.5: 1, 1.0: 2}))
    wrong = rnn_alternating.checks({2: 0, 4: 1}, {0.0: 3, 0.5: 0, 1.0: 2})
    assert [check.holds for check in wrong] == [True, False, False]
