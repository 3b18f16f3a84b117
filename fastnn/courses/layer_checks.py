"""UCLA ECE C147, homework 3, on CS231n's frame: layers, losses and a two-layer network beside known values.

The course prints outputs for fixed inputs, and the largest relative errors of gradients beside numerical ones (central
differences, h = 1e-5) for random inputs, which it does not seed: here they are drawn from the seed. Its losses of the
two-layer network are lost in the document; those here are its frame's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fastnn as fn
from fastnn._kernels import Array
from fastnn.gradcheck import relative_error

from . import Check, Found
from .cs231n import seeded
from .cs231n.fc_net import TwoLayerNet
from .cs231n.layer_utils import affine_relu_backward, affine_relu_forward
from .cs231n.layers import affine_backward, affine_forward, relu_backward, relu_forward, softmax_loss, svm_loss

SEED = 0
H = 1e-5
HALF_A_DIGIT = 5.001e-9  #: of outputs printed with eight decimals

AFFINE = ((1.49834967, 1.70660132, 1.91485297), (3.25553199, 3.5141327, 3.77273342))
SCORES = (
    (11.53165108, 12.2917344, 13.05181771, 13.81190102, 14.57198434, 15.33206765, 16.09215096),
    (12.05769098, 12.74614105, 13.43459113, 14.1230412, 14.81149128, 15.49994135, 16.18839143),
    (12.58373087, 13.20054771, 13.81736455, 14.43418138, 15.05099822, 15.66781506, 16.2846319),
)
LOSSES = {0.0: 3.47022435559539, 1.0: 26.594842695238583}  #: of the two-layer network, by its regularisation


class Error(NamedTuple):
    """The course's error of a gradient, as it prints it, and what ours has to stay below."""

    course: str
    bound: float


ERRORS = {
    "affine dx": Error("7.6e-11", 1e-7),
    "affine dw": Error("5.7e-11", 1e-7),
    "affine db": Error("1.3e-11", 1e-7),
    "ReLU dx": Error("3.3e-12", 1e-10),
    "affine-ReLU dx": Error("4.2e-11", 1e-7),
    "affine-ReLU dw": Error("1.1e-10", 1e-7),
    "affine-ReLU db": Error("7.8e-12", 1e-7),
    "SVM dx": Error("1.4e-09", 1e-8),
    "softmax dx": Error("8.5e-09", 2e-8),
    "TwoLayerNet reg 0 W1": Error("1.8e-08", 1e-7),
    "TwoLayerNet reg 0 W2": Error("3.2e-10", 1e-7),
    "TwoLayerNet reg 0 b1": Error("9.8e-09", 1e-7),
    "TwoLayerNet reg 0 b2": Error("4.3e-10", 1e-7),
    "TwoLayerNet reg 0.7 W1": Error("2.5e-07", 1e-6),
    "TwoLayerNet reg 0.7 W2": Error("8.0e-08", 1e-6),
    "TwoLayerNet reg 0.7 b1": Error("1.6e-08", 1e-6),
    "TwoLayerNet reg 0.7 b2": Error("9.1e-10", 1e-6),
}


def run(*, seed: int, out: Path | None = None, progress: bool = False) -> Found:
    """All checks, in a second.

    seed: of the random inputs and weights, below 2**32. out, progress: there is nothing to write and to wait for.
    """
    rng = np.random.RandomState(seed)
    losses, errors = loss_checks(rng)
    with seeded(seed):
        net, x, y = two_layer_net()
    metrics = {
        **fixed_outputs(),
        **losses,
        "two_layer_net_scores": net.loss(x),
        "two_layer_net_losses": {str(reg): net_loss(net, x, y, reg) for reg in LOSSES},
        "gradient_errors": {**layer_errors(rng), **errors, **net_errors(net, x, y)},
    }
    return Found(metrics, checks(metrics))


def fixed_outputs() -> dict[str, Any]:
    """Outputs for the course's fixed inputs, and what it prints of them: the relative error of the printed outputs."""
    x, w = np.linspace(-0.1, 0.5, 240).reshape(2, 4, 5, 6), np.linspace(-0.2, 0.3, 360).reshape(120, 3)
    affine, _ = affine_forward(x, w, np.linspace(-0.3, 0.1, 3))
    points = np.linspace(-0.5, 0.5, 12).reshape(3, 4)
    relu, _ = relu_forward(points)
    return {
        "affine": affine,
        "affine_error": relative_error(affine, np.array(AFFINE)),
        "relu": relu,
        "relu_error": relative_error(relu, np.maximum(points, 0).round(8)),
    }


def layer_errors(rng: np.random.RandomState) -> dict[str, float]:
    """The errors of the layers' gradients for random inputs and random upstream gradients."""
    affine = {"x": rng.randn(10, 2, 3), "w": rng.randn(6, 5), "b": rng.randn(5)}
    both = {"x": rng.randn(2, 3, 4), "w": rng.randn(12, 10), "b": rng.randn(10)}
    return {
        **gradient_errors("affine", affine_forward, affine_backward, affine, rng),
        **gradient_errors("ReLU", relu_forward, relu_backward, {"x": rng.randn(10, 10)}, rng),
        **gradient_errors("affine-ReLU", affine_relu_forward, affine_relu_backward, both, rng),
    }


def gradient_errors(
    name: str,
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[..., Any],
    inputs: dict[str, Array],
    rng: np.random.RandomState,
) -> dict[str, float]:
    """The error of a layer's gradient of each input."""
    out, cache = forward(**inputs)
    dout = rng.randn(*out.shape)
    found = backward(dout, cache)
    gradients = found if isinstance(found, tuple) else (found,)
    return {
        f"{name} d{key}": relative_error(fn.numerical_gradient(lambda _: forward(**inputs)[0], a, dout, H), gradient)
        for (key, a), gradient in zip(inputs.items(), gradients, strict=True)
    }


def loss_checks(rng: np.random.RandomState) -> tuple[dict[str, float], dict[str, float]]:
    """Both losses of 50 samples with scores near 0 for 10 classes, and the errors of their gradients."""
    x, y = 0.001 * rng.randn(50, 10), rng.randint(10, size=50)
    (svm, svm_dx), (softmax, softmax_dx) = svm_loss(x, y), softmax_loss(x, y)
    return {"svm_loss": svm, "softmax_loss": softmax}, {
        "SVM dx": relative_error(fn.numerical_gradient(lambda _: svm_loss(x, y)[0], x, eps=H), svm_dx),
        "softmax dx": relative_error(fn.numerical_gradient(lambda _: softmax_loss(x, y)[0], x, eps=H), softmax_dx),
    }


def two_layer_net() -> tuple[TwoLayerNet, Array, Array]:
    """A 5-50-7 network with the course's weights, which rise evenly, its inputs (3, 5) and labels."""
    net = TwoLayerNet(input_dim=5, hidden_dims=50, num_classes=7, weight_scale=1e-2)
    ends = {"W1": (-0.7, 0.3), "b1": (-0.1, 0.9), "W2": (-0.3, 0.4), "b2": (-0.9, 0.1)}
    for name, (first, last) in ends.items():
        net.params[name] = np.linspace(first, last, net.params[name].size).reshape(net.params[name].shape)
    return net, np.linspace(-5.5, 4.5, 15).reshape(5, 3).T.copy(), np.array([0, 5, 1])


def net_loss(net: TwoLayerNet, x: Array, y: Array, reg: float) -> float:
    """The network's loss with this regularisation."""
    net.reg = reg
    return float(net.loss(x, y)[0])


def net_errors(net: TwoLayerNet, x: Array, y: Array) -> dict[str, float]:
    """The errors of the network's gradients, without and with regularisation."""
    errors = {}
    for reg in (0.0, 0.7):
        net.reg = reg
        _, gradients = net.loss(x, y)
        for name in sorted(gradients):
            numerical = fn.numerical_gradient(lambda _: net.loss(x, y)[0], net.params[name], eps=H)
            errors[f"TwoLayerNet reg {reg:g} {name}"] = relative_error(numerical, gradients[name])
    return errors


def checks(metrics: dict[str, Any]) -> list[Check]:
    """One for each figure of the course."""
    outputs = {"affine": (AFFINE, "affine"), "TwoLayerNet scores": (SCORES, "two_layer_net_scores")}
    found = [
        Check.below(
            f"{what}, from the outputs printed", "8 decimals", np.abs(metrics[key] - printed).max(), HALF_A_DIGIT
        )
        for what, (printed, key) in outputs.items()
    ]
    found += [
        Check.within("affine, difference", 9.769849468192957e-10, metrics["affine_error"], 1e-14),
        Check.within("ReLU, difference", 4.999999798022158e-08, metrics["relu_error"], 1e-14),
        Check.within("SVM loss", 9.00074739665796, metrics["svm_loss"], 0.01, around=9.0),
        Check.within("softmax loss", 2.3026602945555674, metrics["softmax_loss"], 0.001, around=2.303),
    ]
    for reg, loss in LOSSES.items():
        ours = metrics["two_layer_net_losses"][str(reg)]
        check = Check.within(f"TwoLayerNet loss, reg {reg:g}", loss, ours, 1e-12)
        found.append(replace(check, course=f"lost; {loss!r} by its frame"))
    for name, (course, bound) in ERRORS.items():
        found.append(Check.below(f"gradient error, {name}", course, metrics["gradient_errors"][name], bound))
    return found
