"""scikit-learn as a peer: ``MLPClassifier.partial_fit``, its own way to train on a batch at hand.

Its checks of every batch are part of its step, except those for NaN, which its documented setting ``assume_finite``
leaves out. It has no convolution and no dropout. scikit-learn is typed as Any: it need not be installed where this is
checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import cycle
from typing import Any

from fastnn._kernels import Array

from .inputs import Call
from .peer import Form
from .workloads import Workload, batches, weights

sklearn: Any = import_module("sklearn")
MLPClassifier: Any = import_module("sklearn.neural_network").MLPClassifier
threadpoolctl: Any = import_module("threadpoolctl")
CLASSES = [*range(10)]


class SklearnPeer:
    """scikit-learn; its matrix products are NumPy's and SciPy's, with at most `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def about(self) -> dict[str, str]:
        """scikit-learn's version."""
        return {"sklearn": sklearn.__version__}

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        threadpoolctl.threadpool_limits(threads)

    def kernel_forms(self, call: Call) -> list[Form]:
        """None: it has no kernels of its own."""
        return []

    def step_forms(self, workload: Workload) -> list[Form]:
        """``partial_fit``, with every number of threads."""
        if _sizes(workload) is None or workload.optimizer != "SGD" or set(workload.options) != {"lr"}:
            return []
        return [self._form("partial_fit", threads, _step(workload)) for threads in range(1, self.threads + 1)]

    def prediction_forms(self, workload: Workload) -> list[Form]:
        """``predict`` and ``predict_proba``."""
        if _sizes(workload) is None:
            return []
        model = _model(workload)
        return [
            self._form(way, threads, _asked(getattr(model, way), workload))
            for way in ("predict", "predict_proba")
            for threads in range(1, self.threads + 1)
        ]

    def training_forms(self, workload: Workload, x: Array, labels: Array, epochs: int) -> list[Form]:
        """None: whole trainings are compared with PyTorch's alone."""
        return []

    def _form(self, name: str, threads: int, call: Callable[[], Any]) -> Form:
        return Form(name, threads, call, partial(sklearn.config_context, assume_finite=True))


def connect(backend: str, threads: int) -> SklearnPeer:
    """The peer of this module."""
    return SklearnPeer(threads)


def _sizes(workload: Workload) -> list[int] | None:
    """The widths of the layers, if it is a plain network of Linear and ReLU."""
    widths = [layer[2] for layer in workload.layers[::2] if layer[0] == "Linear"]
    plain = [("Linear", i, o) for i, o in zip([*workload.input, *widths], widths, strict=False)]
    activations = [("ReLU",)] * (len(widths) - 1)
    expected = [layer for pair in zip(plain, [*activations, None], strict=False) for layer in pair if layer]
    return widths if list(workload.layers) == expected else None


def _model(workload: Workload) -> Any:
    """The classifier with the weights that all peers begin with; a first batch makes it allocate them."""
    hidden = (_sizes(workload) or [])[:-1]
    model = MLPClassifier(
        hidden,
        solver="sgd",
        alpha=0.0,
        batch_size=workload.batch,
        learning_rate_init=workload.options["lr"],
        momentum=0.0,
        shuffle=False,
    )
    x, labels = batches(workload)[0]
    model.partial_fit(x, labels, classes=CLASSES)
    values = weights(workload.parameter_shapes())
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        w[...], b[...] = values[f"{2 * i}.weight"].T, values[f"{2 * i}.bias"]
    return model


def _step(workload: Workload) -> Callable[[], float]:
    model, data = _model(workload), cycle(batches(workload))

    def step() -> float:
        x, labels = next(data)
        model.partial_fit(x, labels)
        return float(model.loss_)

    return step


def _asked(way: Callable[[Any], Any], workload: Workload) -> Callable[[], Any]:
    data = cycle([x for x, _ in batches(workload)])
    return lambda: way(next(data))
