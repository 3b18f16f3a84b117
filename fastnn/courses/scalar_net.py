"""MITx 6.86x, "Machine Learning with Python", project 3: a network of six neurons, in numbers one can follow by hand.

Two inputs, three ReLU neurons, a sum: every weight starts at 1, and the hidden neurons' biases, which are trained too,
at 0. Ten passes over four points, one point at a time, descend ½(y - ŷ)². The course prints what the network then says
of five points; nothing here is random, so that its digits are the goal.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fastnn as fn

from . import Check, Found, completed

SEED = 0  # of nothing: there are no draws
EPOCHS = 10
POINTS = (((2, 1), 10), ((3, 3), 21), ((4, 5), 32), ((6, 6), 42))
PREDICTIONS = {
    (1, 1): 7.038453196038151,
    (2, 2): 14.042814826755537,
    (3, 3): 21.047176457472922,
    (5, 5): 35.055899718907696,
    (10, 10): 70.07770787249461,
}


def network() -> fn.Sequential:
    """Points (N, 2) to numbers (N, 1), float64."""
    model = fn.Sequential(fn.Linear(2, 3, dtype="float64"), fn.ReLU(), fn.Linear(3, 1, bias=False, dtype="float64"))
    for name, parameter in model.named_parameters():
        fn.init.constant_(parameter, 1 if name.endswith("weight") else 0)
    return model


def run(*, seed: int, out: Path | None = None, epochs: int = EPOCHS, progress: bool = False) -> Found:
    """Train for `epochs`, at least 1, then predict.

    seed: without effect
    out: the folder for the model and the picture
    """
    model = network()
    history = fn.fit(
        model,
        np.array([point for point, _ in POINTS], np.float64),
        np.array([[y] for _, y in POINTS], np.float64),
        loss=fn.MSELoss(half=True),
        optimizer=fn.SGD(lr=0.001),
        batch_size=1,
        epochs=epochs,
        shuffle=False,
        progress=progress and "scalar net",
    )
    completed(history)
    predictions = model(np.array([*PREDICTIONS], np.float64))[:, 0]
    found = {point: float(y) for point, y in zip(PREDICTIONS, predictions, strict=True)}
    slope = relu_slope_at_zero()
    metrics = {
        "epochs": epochs,
        "training_loss": history.loss,
        "predictions": {str(point): y for point, y in found.items()},
        "relu_slope_at_zero": slope,
    }
    return Found(metrics, checks(epochs, found, slope), pictures={} if out is None else write(out, model, history))


def relu_slope_at_zero() -> float:
    """What `ReLU` multiplies a gradient by where its input is 0."""
    _, backward = fn.ReLU().forward(np.zeros((1, 1)), train=True)
    return float(backward(np.ones((1, 1))).item())


def write(out: Path, model: fn.Sequential, history: fn.History) -> dict[str, str]:
    """The model, and a picture of its training; returns what the picture shows."""
    fn.save(model, out / "model.safetensors")
    fn.plots.learning_curves(history, out / "learning_curve.png", metrics="loss")
    return {"learning_curve.png": "Loss over the epochs: the mean of the four points, each before its own update"}


def checks(epochs: int, predictions: dict[tuple[int, int], float], slope: float) -> list[Check]:
    """The slope always; the predictions after ten epochs, for which the course states them."""
    found = [Check("ReLU'(0)", "0", slope, "= 0", slope == 0)]
    if epochs == EPOCHS:
        found += [
            Check.within(f"prediction at {point}", figure, predictions[point], 1e-12)
            for point, figure in PREDICTIONS.items()
        ]
    return found
