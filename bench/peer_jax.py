"""JAX as a peer: each step compiled by XLA, called one by one and as a whole block under ``lax.scan``.

What is measured is the fastest of the honest forms: images and weights in both layouts, all cores or one, parameters
donated, waiting for results only at the end of a block. The batches lie ready on the device. Pooling is the maximum
over a reshaped array: with ``reduce_window`` and its gradient a CNN's step took half as long again. JAX is typed as
Any: it need not be installed where this is checked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import cycle, product
from typing import Any

import numpy as np

from fastnn._kernels import Array

from .inputs import Call
from .peer import Form
from .workloads import Workload, batches, weights

jax: Any = import_module("jax")
jnp: Any = import_module("jax.numpy")
lax: Any = jax.lax

Tree = Any
LAYOUTS = {"NHWC": (0, 2, 3, 1), "NCHW": (0, 1, 2, 3)}
TRANSPOSED = "weights (in, out)"  #: a form of networks without images; the others' are (out, in)
LAYERS = {"Linear", "Conv2d", "ReLU", "MaxPool2d", "Flatten", "Dropout"}
OPTIONS = {"lr", "momentum", "nesterov"}  #: of SGD


class JaxPeer:
    """JAX on a CPU, on as many cores as `threads`."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def about(self) -> dict[str, str]:
        """JAX's version."""
        return {"jax": jax.__version__}

    def use_threads(self, threads: int) -> None:
        """Nothing: the number is compiled in."""

    def kernel_forms(self, call: Call) -> list[Form]:
        """None: it compiles whole functions."""
        return []

    def step_forms(self, workload: Workload) -> list[Form]:
        """Step by step in every layout, and scanned: in a loop XLA's convolutions take 7 to 20 times as long, so loops
        with convolutions are unrolled, which takes ten seconds to compile and is done for the better layout only."""
        if not _able(workload) or workload.optimizer != "SGD" or not set(workload.options) <= OPTIONS:
            return []
        return [
            Form(
                ", ".join(filter(None, (name, layout))), threads, make(workload, layout, threads), steps=workload.count
            )
            for layout, threads in product(_layouts(workload), self._threads())
            for name, make in (("jit", _queued), ("scan", _scanned))
            if (name, layout) != ("scan", "NCHW")
        ]

    def prediction_forms(self, workload: Workload) -> list[Form]:
        """Every layout."""
        if not _able(workload):
            return []
        return [
            Form(", ".join(filter(None, ("jit", layout))), threads, _prediction(workload, layout, threads))
            for layout, threads in product(_layouts(workload), self._threads())
        ]

    def training_forms(self, workload: Workload, x: Array, labels: Array, epochs: int) -> list[Form]:
        """None: whole trainings are compared with PyTorch's alone."""
        return []

    def _threads(self) -> Sequence[int]:
        return range(1, 2) if self.threads == 1 else (1, self.threads)


def connect(backend: str, threads: int) -> JaxPeer:
    """The peer of this module. XLA makes its threads by the cores that it may use when it first computes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    jax.config.update("jax_platforms", "cpu")
    return JaxPeer(threads)


# --- the network ------------------------------------------------------------------------------------------------------


def _able(workload: Workload) -> bool:
    return {name for name, *_ in workload.layers} <= LAYERS


def _layouts(workload: Workload) -> Sequence[str]:
    return [*LAYOUTS] if len(workload.input) == 3 else ["", TRANSPOSED]


def _forward(layers: Any, layout: str, params: Tree, x: Any, key: Any) -> Any:
    """The scores. x: (N, …) in the layout."""
    for i, (name, *args) in enumerate(layers):
        if name == "Linear":
            weight = params[f"{i}.weight"]
            x = x @ (weight if layout == TRANSPOSED else weight.T) + params[f"{i}.bias"]
        elif name == "Conv2d":
            how = (layout, "OIHW", layout)
            y = lax.conv_general_dilated(x, params[f"{i}.weight"], (1, 1), "VALID", dimension_numbers=how)
            x = y + params[f"{i}.bias"].reshape(-1, *(1,) * (2 if layout == "NCHW" else 0))
        elif name == "ReLU":
            x = jnp.maximum(x, 0)
        elif name == "MaxPool2d":
            x = _max_pool(x, args[0], 1 if layout == "NHWC" else 2)
        elif name == "Flatten":
            x = (x.transpose(0, 3, 1, 2) if layout == "NHWC" else x).reshape(len(x), -1)
        elif name == "Dropout":
            x = x if key is None else jnp.where(jax.random.bernoulli(key, 1 - args[0], x.shape), x / (1 - args[0]), 0)
    return x


def _max_pool(x: Any, size: int, axis: int) -> Any:
    """Maxima of windows that do not overlap, of images whose rows are `axis`. Equal maxima share the gradient; those of
    zeros that ReLU left get none."""
    P, Q = (n // size for n in x.shape[axis : axis + 2])
    x = lax.slice_in_dim(lax.slice_in_dim(x, 0, P * size, axis=axis), 0, Q * size, axis=axis + 1)
    return x.reshape(*x.shape[:axis], P, size, Q, size, *x.shape[axis + 2 :]).max((axis + 1, axis + 3))


# --- steps ------------------------------------------------------------------------------------------------------------


def _train(workload: Workload, layout: str, state: Tree, batch: Any) -> tuple[Tree, Any]:
    """A training step: from (parameters, momentum, key) and (x, labels) to the state after it and the mean loss."""
    params, buffers, key = state
    drops = any(name == "Dropout" for name, *_ in workload.layers)
    key, now = jax.random.split(key) if drops else (key, None)

    def mean_loss(params: Tree) -> Any:
        x, labels = batch
        logs = jax.nn.log_softmax(_forward(workload.layers, layout, params, x, now))
        return -jnp.take_along_axis(logs, labels[:, None], 1).mean()

    loss, grads = jax.value_and_grad(mean_loss)(params)
    sgd = workload.options
    lr, momentum = sgd["lr"], sgd.get("momentum", 0.0)
    if momentum:
        buffers = jax.tree.map(lambda b, g: momentum * b + g, buffers, grads)
        grads = jax.tree.map(lambda b, g: g + momentum * b, buffers, grads) if sgd.get("nesterov") else buffers
    return (jax.tree.map(lambda p, g: p - lr * g, params, grads), buffers, key), loss


def _start(workload: Workload, layout: str) -> Tree:
    """Parameters, momentum and a key."""
    values = weights(workload.parameter_shapes())
    params = {name: jnp.asarray(value.T.copy() if layout == TRANSPOSED else value) for name, value in values.items()}
    buffers = jax.tree.map(jnp.zeros_like, params) if workload.options.get("momentum") else {}
    return params, buffers, jax.random.key(0)


def _data(workload: Workload, layout: str) -> list[tuple[Any, Any]]:
    """The batches, images in the layout of the form."""
    order = LAYOUTS.get(layout)
    return [
        (jnp.asarray(np.ascontiguousarray(x.transpose(order) if order else x)), jnp.asarray(labels, jnp.int32))
        for x, labels in batches(workload)
    ]


def _compiled(function: Any, threads: int, donate: tuple[int, ...] = ()) -> Any:
    return jax.jit(function, donate_argnums=donate, compiler_options={"xla_cpu_multi_thread_eigen": threads > 1})


def _queued(workload: Workload, layout: str, threads: int) -> Callable[[], Any]:
    """A block of steps, each a call."""
    step = _compiled(partial(_train, workload, layout), threads, donate=(0,))
    state, data = _start(workload, layout), _data(workload, layout)

    def block() -> Any:
        nonlocal state
        losses = []
        for batch in data:
            state, loss = step(state, batch)
            losses.append(loss)
        jax.block_until_ready((state, losses))
        return np.mean(losses)

    return block


def _scanned(workload: Workload, layout: str, threads: int) -> Callable[[], Any]:
    """A block of steps in one call."""
    steps = partial(lax.scan, partial(_train, workload, layout), unroll=layout in LAYOUTS)
    block_of = _compiled(lambda state, data: steps(state, data), threads, donate=(0,))
    state, data = _start(workload, layout), jax.tree.map(lambda *a: jnp.stack(a), *_data(workload, layout))

    def block() -> Any:
        nonlocal state
        state, losses = block_of(state, data)
        return np.mean(jax.block_until_ready((state, losses))[1])

    return block


def _prediction(workload: Workload, layout: str, threads: int) -> Callable[[], Any]:
    scores = _compiled(lambda params, x: _forward(workload.layers, layout, params, x, None), threads)
    params, data = _start(workload, layout)[0], cycle([x for x, _ in _data(workload, layout)])
    return lambda: jax.block_until_ready(scores(params, next(data)))
