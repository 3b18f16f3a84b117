"""Update rules: ``next_w, config = rule(w, dw, config)``, the config holding options, by their defaults if absent, and
state, (as w), put there by the first call. w is left alone, as is the state that was passed, which config replaces.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import _kernels as k
from ..._kernels import Array
from .layers import reals

Config = dict[str, Any]


def sgd(w: Any, dw: Any, config: Config | None = None) -> tuple[Array, Config]:
    """w - learning_rate (1e-2) · dw. w, dw: any shape."""
    w, dw, config = _begun(w, dw, config, learning_rate=1e-2)
    k.sgd(_flat(w), _flat(dw), None, _hyper(config["learning_rate"], 0, 0, 0, 0, 0), np.zeros(1, np.int64))
    return w, config


def sgd_momentum(w: Any, dw: Any, config: Config | None = None) -> tuple[Array, Config]:
    """w + v, v = momentum (.9) · v - learning_rate (1e-2) · dw being `velocity`. w, dw: any shape."""
    w, dw, config = _begun(w, dw, config, learning_rate=1e-2, momentum=0.9)
    velocity = _state(config, "velocity", w)
    change = k.scale(_flat(dw), factor=-config["learning_rate"])
    # The kernel's buffer has no learning rate in it and is subtracted; one of -1, and gradients that have theirs, make
    # it the velocity. It is at its second step, since at the first it would not look at the buffer.
    k.sgd(_flat(w), change, _flat(velocity), _hyper(-1, config["momentum"], 0, 0, 0, 0), np.ones(1, np.int64))
    return w, config


def rmsprop(w: Any, dw: Any, config: Config | None = None) -> tuple[Array, Config]:
    """w - learning_rate (1e-2) · dw / (√c + epsilon (1e-8)), c = decay_rate (.99) · c + (1 - decay_rate) · dw² being
    `cache` (Tieleman and Hinton 2012). w, dw: any shape.
    """
    w, dw, config = _begun(w, dw, config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    hyper = _hyper(config["learning_rate"], 0, config["decay_rate"], config["epsilon"], 0, 0)
    k.rmsprop(_flat(w), _flat(dw), _flat(_state(config, "cache", w)), None, None, hyper, np.zeros(1, np.int64))
    return w, config


def adam(w: Any, dw: Any, config: Config | None = None) -> tuple[Array, Config]:
    """Adam with bias correction (Kingma and Ba, arXiv:1412.6980, algorithm 1). w, dw: any shape.

    config: learning_rate (1e-3), beta1 (.9), beta2 (.999), epsilon (1e-8); m, v, and t, the number of steps taken.
    """
    w, dw, config = _begun(w, dw, config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    hyper = _hyper(*(config[name] for name in ("learning_rate", "beta1", "beta2", "epsilon")), 0, 0, 0, 1)
    steps = np.array([config["t"]], np.int64)
    k.adam(_flat(w), _flat(dw), *(_flat(_state(config, name, w)) for name in "mv"), None, hyper, steps)
    config["t"] = int(steps[0])
    return w, config


def _begun(w: Any, dw: Any, config: Config | None, **defaults: float) -> tuple[Array, Array, Config]:
    """A copy of w, dw, and the config with its defaults."""
    w, dw = reals(w, dw)
    config = {} if config is None else config
    for name, value in defaults.items():
        config.setdefault(name, value)
    return w.copy(order="C"), np.ascontiguousarray(dw), config


def _state(config: Config, name: str, w: Array) -> Array:
    """A copy of what config has under the name, zeros at first, which takes its place."""
    config[name] = np.array(config.get(name, np.zeros_like(w)), w.dtype, order="C")
    state: Array = config[name]
    return state


def _flat(a: Array) -> Array:
    """A view (n,), which kernels change in place."""
    return a.reshape(-1)


def _hyper(*options: float) -> Array:
    return np.array(options, np.float64)


__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]
