"""PyTorch as a peer: each kernel by the operator that does the same and no more, each step in the usual training loop.

What is measured is the fastest of the honest forms: images in both memory formats, every number of threads up to the
limit, results written to given memory where the operator can do so itself, no autograd around single operators, each
implementation of the optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, product
from typing import Any

from fastnn._kernels import Array

from .inputs import Call
from .peer import SEED, Form
from .torch_kernels import KERNELS
from .torch_kernels.tensors import Tensor, tensor, torch
from .torch_layers import LAYERS
from .workloads import Workload, batches, weights

FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}
UPDATES = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}


class TorchPeer:
    """PyTorch on a CPU, with at most `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def about(self) -> dict[str, str]:
        """PyTorch's version and the instruction set of its own kernels."""
        return {"torch": torch.__version__, "torch capability": torch.backends.cpu.get_cpu_capability()}

    def use_threads(self, threads: int) -> None:
        """Compute with so many threads from now on."""
        torch.set_num_threads(threads)

    def kernel_forms(self, call: Call) -> list[Form]:
        """One form for each memory format that makes a difference and each number of threads."""
        make = KERNELS.get(call.kernel.name)
        if make is None:
            return []
        images = "W" in call.sizes
        return [
            Form(name, threads, make(call, FORMATS[name] if images else None), torch.inference_mode)
            for name in (FORMATS if images else [""])
            for threads in range(1, self.threads + 1)
        ]

    def step_forms(self, workload: Workload) -> list[Form]:
        """Every memory format, implementation of the optimizer and number of threads."""
        formats = _formats(workload)
        return [
            Form(", ".join(filter(None, (name, update))), threads, _step(workload, formats[name], UPDATES[update]))
            for name, update, threads in product(formats, UPDATES, range(1, self.threads + 1))
        ]

    def prediction_forms(self, workload: Workload) -> list[Form]:
        """Every memory format, eager and traced, and number of threads."""
        formats = _formats(workload)
        return [
            Form(
                ", ".join(filter(None, (how, name))),
                threads,
                _prediction(workload, formats[name], how == "traced"),
                torch.inference_mode,
            )
            for name, how, threads in product(formats, ("eager", "traced"), range(1, self.threads + 1))
        ]

    def training_forms(self, workload: Workload, x: Array, labels: Array, epochs: int) -> list[Form]:
        """The usual loop over ready-made batches; every memory format, implementation of the optimizer, and threads."""
        formats = _formats(workload)
        return [
            Form(
                ", ".join(filter(None, (name, update))),
                threads,
                _training(workload, formats[name], UPDATES[update], x, labels, epochs),
            )
            for name, update, threads in product(formats, UPDATES, range(1, self.threads + 1))
        ]


def connect(backend: str, threads: int) -> TorchPeer:
    """The peer of this module."""
    return TorchPeer(threads)


def _formats(workload: Workload) -> dict[str, Any]:
    return FORMATS if len(workload.input) == 3 else {"": torch.contiguous_format}


def _model(workload: Workload, memory_format: Any) -> Any:
    """The model with the weights that all peers begin with."""
    model = workload.build(LAYERS)
    values = weights({name: tuple(p.shape) for name, p in model.named_parameters()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)
    return model.to(memory_format=memory_format) if memory_format is torch.channels_last else model


def _step(workload: Workload, memory_format: Any, update: dict[str, bool]) -> Callable[[], Tensor]:
    """A training step on the next batch, in one form."""
    model = _model(workload, memory_format)
    optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), **workload.options, **update)
    loss_of = torch.nn.CrossEntropyLoss()
    data = cycle([(tensor(x, memory_format), torch.from_numpy(labels)) for x, labels in batches(workload)])

    def step() -> Tensor:
        x, labels = next(data)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _training(
    workload: Workload, memory_format: Any, update: dict[str, bool], x: Array, labels: Array, epochs: int
) -> Callable[[], float]:
    """A whole training, in one form."""
    starts = range(0, len(x) - workload.batch + 1, workload.batch)
    data = [
        (tensor(x[i : i + workload.batch], memory_format), torch.from_numpy(labels[i : i + workload.batch]))
        for i in starts
    ]
    loss_of = torch.nn.CrossEntropyLoss()

    def train() -> float:
        torch.manual_seed(SEED)
        model = workload.build(LAYERS).to(memory_format=memory_format)
        optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), **workload.options, **update)
        for _ in range(epochs):
            total = torch.zeros(())
            for batch, wanted in data:
                optimizer.zero_grad(set_to_none=True)
                loss = loss_of(model(batch), wanted)
                loss.backward()
                optimizer.step()
                total += loss.detach()
        return float(total) / len(data)

    return train


def _prediction(workload: Workload, memory_format: Any, compiled: bool) -> Callable[[], Tensor]:
    """The scores of the next batch, from the module itself or from its frozen and optimized trace."""
    images = [tensor(x, memory_format) for x, _ in batches(workload)]
    model = _model(workload, memory_format).eval()
    if compiled:
        model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, images[0])))
    data = cycle(images)
    return lambda: model(next(data))
