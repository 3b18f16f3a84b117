"""Optimizer steps, in place, by the formulas in PyTorch's documentation of torch.optim.

In all of them param: (n,), changed, and grad: (n,); state: (n,), changed; hyper: float64, the options in the order in
which the function unpacks them, switches as 0 or 1; steps: (T,) int64, how many steps these parameters have taken, all
as many; one more afterwards.
"""

from __future__ import annotations

import numpy as np

from ..kernel import Array


def sgd(param: Array, grad: Array, buffer: Array | None, hyper: Array, steps: Array) -> tuple[()]:
    """Stochastic gradient descent with momentum.

    buffer: the momentum, or None for none, and then no steps are counted. hyper: (6,).
    """
    lr, momentum, dampening, weight_decay, nesterov, maximize = hyper.tolist()  # floats take on param's dtype
    g = (-grad if maximize else grad) + weight_decay * param
    if buffer is not None:
        buffer[...] = momentum * buffer + (1 - dampening) * g if steps[0] else g
        steps += 1
        g = g + momentum * buffer if nesterov else buffer
    param -= lr * g
    return ()


def rmsprop(
    param: Array,
    grad: Array,
    square_avg: Array,
    grad_avg: Array | None,
    buffer: Array | None,
    hyper: Array,
    steps: Array,
) -> tuple[()]:
    """RMSprop: Tieleman and Hinton, "Neural networks for machine learning", lecture 6.5, 2012.

    grad_avg: for the centered variant (Graves, arXiv:1308.0850, equations 38 to 45), or None; buffer: the momentum, or
    None. hyper: (6,).
    """
    lr, momentum, alpha, eps, weight_decay, maximize = hyper.tolist()
    g = _descent(param, grad, weight_decay, maximize)
    square_avg[...] = alpha * square_avg + (1 - alpha) * g * g
    variance = square_avg
    if grad_avg is not None:
        grad_avg += (1 - alpha) * (g - grad_avg)
        variance = square_avg - grad_avg * grad_avg
    g = g / (np.sqrt(variance) + eps)
    if buffer is not None:
        buffer[...] = g = momentum * buffer + g
    param -= lr * g
    steps += 1
    return ()


def adagrad(param: Array, grad: Array, sum: Array, hyper: Array, steps: Array) -> tuple[()]:
    """Adagrad: Duchi, Hazan, Singer, "Adaptive subgradient methods", JMLR 12, 2011.

    sum: of squares. hyper: (5,).
    """
    lr, lr_decay, weight_decay, eps, maximize = hyper.tolist()
    g = _descent(param, grad, weight_decay, maximize)
    sum += g * g
    param -= lr / (1 + float(steps[0]) * lr_decay) * (g / (np.sqrt(sum) + eps))
    steps += 1
    return ()


def adam(
    param: Array,
    grad: Array,
    exp_avg: Array,
    exp_avg_sq: Array,
    max_exp_avg_sq: Array | None,
    hyper: Array,
    steps: Array,
) -> tuple[()]:
    """Adam (Kingma and Ba, arXiv:1412.6980, algorithm 1), and AdamW (Loshchilov and Hutter, arXiv:1711.05101) where
    `decoupled`.

    max_exp_avg_sq: for AMSGrad (Reddi, Kale, Kumar, arXiv:1904.09237, algorithm 2), or None. hyper: (8,).
    """
    lr, beta1, beta2, eps, weight_decay, decoupled, maximize, bias_correction = hyper.tolist()
    step = float(steps[0]) + 1
    correction1, correction2 = (1 - beta1**step, 1 - beta2**step) if bias_correction else (1.0, 1.0)
    g = _descent(param, grad, 0 if decoupled else weight_decay, maximize)
    exp_avg += (1 - beta1) * (g - exp_avg)
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * g * g
    square = exp_avg_sq
    if max_exp_avg_sq is not None:
        square = np.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    if decoupled:
        param *= 1 - lr * weight_decay
    param -= lr / correction1 * (exp_avg / (np.sqrt(square) / correction2**0.5 + eps))
    steps += 1
    return ()


def _descent(param: Array, grad: Array, weight_decay: float, maximize: float) -> Array:
    """The gradient that goes down, with that of ½ · weight_decay · param²."""
    g = -grad if maximize else grad
    return g + weight_decay * param if weight_decay else g


def next_rates(plan: Array, position: Array, hyper: Array) -> tuple[()]:
    """The next of the steps planned takes its first options from the plan; after the last one, it is the last again.

    plan: (S, R) float64, position: (1,) int64, raised by one, hyper: (M,) float64, of which the first R are changed.
    """
    hyper[: plan.shape[1]] = plan[min(int(position[0]), len(plan) - 1)]
    position += 1
    return ()
