"""UCLA ECE C147, homework 3: a two-layer net on toy data, in float64.

The course's scores, loss, gradient errors and final training loss follow from its draws from `np.random`, which are
made here in its order, and from nothing else.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

import fastnn as fn
from fastnn._kernels import Array
from fastnn.gradcheck import relative_error

from . import Check, Found
from .cs231n import seeded
from .cs231n.neural_net import TwoLayerNet

SEED = 0  #: of the weights; the data have a seed of their own
DATA_SEED = 1
REG = 0.05
SCORES = (
    (-1.07260209, 0.05083871, -0.87253915),
    (-2.02778743, -0.10832494, -1.52641362),
    (-0.74225908, 0.15259725, -0.39578548),
    (-0.38172726, 0.10835902, -0.17328274),
    (-0.64417314, -0.18886813, -0.41106892),
)
GRADIENT_ERRORS = {"W1": "1.3e-09", "b1": "3.2e-09", "W2": "3.0e-10", "b2": "1.8e-10"}


def network(seed: int) -> TwoLayerNet:
    """4-10-3, the weights being the first draws after ``np.random.seed(seed)``."""
    np.random.seed(seed)
    return TwoLayerNet(4, 10, 3, std=0.1)


def toy_data() -> tuple[Array, Array]:
    """X (5, 4) float64 and labels y (5,)."""
    return 10 * np.random.RandomState(DATA_SEED).randn(5, 4), np.array([0, 1, 2, 2, 1])


def trained(seed: int, *, progress: bool | str = False) -> dict[str, list[float]]:
    """The histories of the course's training, of a network drawn anew; an epoch is one iteration."""
    X, y = toy_data()
    return network(seed).train(
        X,
        y,
        X,
        y,
        learning_rate=0.1,
        learning_rate_decay=0.95,
        reg=5e-6,
        num_iters=100,
        batch_size=5,
        progress=progress,
    )


def gradient_errors(net: TwoLayerNet, X: Array, y: Array) -> dict[str, float]:
    """The largest relative error of each parameter's gradient beside a numerical one."""
    _, gradients = net.loss(X, y, REG)
    numerical = {
        name: fn.numerical_gradient(lambda _: net.loss(X, y, REG)[0], values, eps=1e-5)
        for name, values in net.params.items()
    }
    return {name: relative_error(numerical[name], gradients[name]) for name in gradients}


def run(*, seed: int, out: Path | None = None, progress: bool = False) -> Found:
    """Scores, loss and gradients of one network, and the training of the next.

    seed: of the weights and batches, below 2**32. out: the folder for the picture.
    """
    X, y = toy_data()
    with seeded(seed):
        net = network(seed)
        history = trained(seed, progress="toy" if progress else False)
    scores = net.loss(X)
    metrics = {
        "scores": scores,
        "scores_difference": np.abs(scores - SCORES).sum(),
        "loss": net.loss(X, y, REG)[0],
        "gradient_errors": gradient_errors(net, X, y),
        "final_training_loss": history["loss_history"][-1],
    }
    pictures = {}
    if out is not None:
        curve = SimpleNamespace(loss=history["loss_history"])
        fn.plots.learning_curves(curve, out / "loss.png", metrics="loss", first=0, unit="iteration")
        pictures["loss.png"] = "Loss of the toy data over the iterations"
    if seed != SEED:
        return Found(metrics, [], [f"The course's figures belong to seed {SEED}: nothing is compared."], pictures)
    return Found(metrics, checks(metrics), pictures=pictures)


def checks(metrics: dict[str, Any]) -> list[Check]:
    """One for each of the course's figures."""
    errors = metrics["gradient_errors"]
    return [
        Check.below("scores, sum of differences", "3.4e-08", metrics["scores_difference"], 1e-7),
        Check.within("loss", 1.071696123862817, metrics["loss"], 1e-12),
        *(Check.below(f"gradient error, {name}", GRADIENT_ERRORS[name], errors[name], 1e-8) for name in errors),
        Check.within("final training loss", 0.020371427168192176, metrics["final_training_loss"], 1e-9),
    ]
