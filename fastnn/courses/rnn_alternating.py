"""Deep Learning, assignment 3: a scalar recurrence that ends in an alternating sum.

h_t = x_t - h_{t-1} and y_t = sigmoid(1000 h_t), for whole numbers x and h_0: after an even number of steps, y says
whether x_{2n} - x_{2n-1} + ... - x_1 + h_0 is above 0 (1), below (0) or 0 (1/2), all three of them exactly. The
recurrence is an `RNN` without a nonlinearity, whose weights are 1 and -1; nothing is trained.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn as fn
from fastnn._kernels import Array

from . import Check, Found

SEED = 0
LENGTHS = (2, 4, 10, 100, 1000)
SEQUENCES = 64  #: of each length
LARGEST = 9  #: of the whole numbers, from its negative on


def network() -> tuple[fn.RNN, fn.Sequential]:
    """The recurrence, x (T, N, 1) to all h (T, N, 1) and the last (1, N, 1), and its read-out, h to y; float64."""
    recurrence = fn.RNN(1, 1, nonlinearity="identity", bias=False, dtype="float64")
    read_out = fn.Sequential(fn.Linear(1, 1, bias=False, dtype="float64"), fn.Sigmoid())
    recurrence.load_state_dict({"weight_ih_l0": [[1]], "weight_hh_l0": [[-1]]})
    read_out.load_state_dict({"0.weight": [[1000]]})
    return recurrence, read_out


def alternating(x: Array, h0: Array) -> Array:
    """x_{2n} - x_{2n-1} + ... - x_1 + h_0 for each n, of x (T, N) and h0 (N,): (T / 2, N)."""
    sums: Array = h0 + np.cumsum(x[1::2] - x[::2], axis=0)
    return sums


def run(*, seed: int, out: Path | None = None, progress: bool = False) -> Found:
    """Every even step of random sequences beside the alternating sum.

    seed: of the sequences. out, progress: there is nothing to write and to wait for.
    """
    rng = np.random.default_rng(seed)
    recurrence, read_out = network()
    wrong: dict[int, int] = {}
    answers = {0.0: 0, 0.5: 0, 1.0: 0}
    for length in LENGTHS:
        x, h0 = (rng.integers(-LARGEST, LARGEST + 1, shape) for shape in ((length, SEQUENCES), SEQUENCES))
        begin = h0.astype(np.float64).reshape(1, SEQUENCES, 1)
        (h, _), _ = recurrence.forward(x.astype(np.float64)[..., None], h0=begin)
        y, sums = read_out(h)[1::2, :, 0], alternating(x, h0)
        expected = (1 + np.sign(sums)) / 2
        wrong[length] = int(((h[1::2, :, 0] != sums) | (y != expected)).sum())
        for answer in answers:
            answers[answer] += int((y == answer).sum())
    metrics = {
        "wrong": {str(length): count for length, count in wrong.items()},
        "answers": {str(answer): count for answer, count in answers.items()},
    }
    return Found(metrics, checks(wrong, answers))


def checks(wrong: dict[int, int], answers: dict[float, int]) -> list[Check]:
    """That nothing is wrong at any length, and that each answer was to be given."""
    found = [
        Check(f"even steps of length {n} that are wrong", "0", count, "= 0", count == 0) for n, count in wrong.items()
    ]
    fewest = min(answers.values())
    return [*found, Check("times that the rarest answer is given", "–", fewest, "≥ 1", fewest >= 1)]
