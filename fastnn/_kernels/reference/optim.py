"""Optimizer steps, in place."""

from __future__ import annotations

from ..kernel import Array


def sgd(param: Array, grad: Array, buffer: Array | None, hyper: Array, steps: Array) -> tuple[()]:
    """Stochastic gradient descent with momentum, by the formula in PyTorch's documentation of torch.optim.SGD.

    param: (n,), changed; grad: (n,); buffer: (n,), changed, the momentum, or None for none;
    hyper: (6,) float64, being lr, momentum, dampening, weight_decay, and as 0 or 1 nesterov and maximize.
    steps: (T,) int64, how many steps the buffer's parameters have taken, all as many; one more afterwards.
    """
    lr, momentum, dampening, weight_decay, nesterov, maximize = hyper.tolist()  # floats take on param's dtype
    g = (-grad if maximize else grad) + weight_decay * param
    if buffer is not None:
        buffer[...] = momentum * buffer + (1 - dampening) * g if steps[0] else g
        steps += 1
        g = g + momentum * buffer if nesterov else buffer
    param -= lr * g
    return ()
