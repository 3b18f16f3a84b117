"""``python -m bench gpu``: what an NVIDIA GPU computes, beside the CPU; and its training steps, beside PyTorch's on it.

Three parts: the contract of all CUDA kernels (``pytest -m gpu tests/test_cuda.py``); the losses of twenty steps of
courses' networks, on random images of their sizes; the steps that have targets, of networks that fastnn has on a GPU.
PyTorch's step is the fastest of its forms, in float32 throughout as fastnn's is, so without TF32.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fn
from fastnn import _kernels as k
from fastnn.courses import fashion_best, fashion_fnn, mnist_cnn
from fastnn.training.step import Step

from .peers import OURS
from .report import Verdict, aligned
from .rounds import Comparison, Figure, in_turn
from .workloads import GRU, WORKLOADS, Workload, batches, weights

NO_GPU = 2  #: exit status where there is none
STEPS = 20  #: of a trace
MOST = 1e-4  #: how far a loss of a trace may be from the CPU's, beside 1 + its size
WARM_UP = 5  #: steps before those that count, in which kernels are compiled


def obstacle() -> str | None:
    """Why nothing can be measured here; None where it can."""
    try:
        k.check_device("cuda")
    except (ImportError, RuntimeError) as error:
        return str(error)
    from fastnn._kernels.cuda.launch import SIMULATED

    return "NUMBA_ENABLE_CUDASIM=1 is set: Numba simulates a GPU" if SIMULATED else None


def name() -> str:
    """What the GPU is called."""
    from numba import cuda

    found = cuda.get_current_device().name
    return found.decode() if isinstance(found, bytes) else str(found)


def contract() -> bool:
    """Whether all tests that need a GPU pass; pytest's output goes where this program's goes."""
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(root / "tests" / "test_cuda.py")]
    return subprocess.run(command, cwd=root, check=False).returncode == 0


# --- losses beside the CPU's ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """The losses of the first steps of a network, on the CPU and on the GPU."""

    network: str
    cpu: list[float]
    gpu: list[float]

    @property
    def difference(self) -> float:
        """The largest, beside 1 + the CPU's loss."""
        cpu, gpu = np.array(self.cpu), np.array(self.gpu)
        return float(np.max(np.abs(gpu - cpu) / (1 + np.abs(cpu))))


def _two_layers() -> fn.Sequential:
    """The two-layer network of the course on CIFAR-10."""
    return fn.Sequential(fn.Flatten(), fn.Linear(3072, 200), fn.ReLU(), fn.Linear(200, 10))


#: Networks of courses, with the shape of their images.
NETWORKS: dict[str, tuple[Callable[[], fn.Sequential], tuple[int, ...]]] = {
    "mnist-cnn": (mnist_cnn.network, (1, 28, 28)),
    "fashion-fnn": (lambda: fashion_fnn.network(fashion_fnn.REPORTED), (784,)),
    "fashion-best": (fashion_best.network, (1, 28, 28)),
    "cifar, two layers": (_two_layers, (3, 32, 32)),
}


def trace(
    network: str, make: Callable[[], fn.Layer], shape: Sequence[int], steps: int = STEPS, batch: int = 32
) -> Trace:
    """The losses of a network on both devices, from the same weights, on the same batches, with the same dropout."""
    rng = np.random.default_rng(0)
    x = [rng.standard_normal((batch, *shape)).astype(np.float32) for _ in range(steps)]
    y = [rng.integers(0, 10, batch) for _ in range(steps)]

    def losses(device: str) -> list[float]:
        fn.manual_seed(0)
        model = make().to(device)
        step = Step(model, fn.CrossEntropyLoss(), fn.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True))
        return [float(step(*(fn.to_device(a, device) for a in slots))[0][0]) for slots in zip(x, y, strict=True)]

    return Trace(network, losses("cpu"), losses("cuda"))


def traces_table(traces: Sequence[Trace]) -> str:
    """One line for each network."""
    lines = [("losses", "steps", "last, CPU", "last, GPU", "difference")]
    lines += [
        (t.network, str(len(t.cpu)), f"{t.cpu[-1]:.5f}", f"{t.gpu[-1]:.5f}", f"{t.difference:.1e}") for t in traces
    ]
    return aligned(lines, right={1, 2, 3, 4})


def of_traces(traces: Sequence[Trace]) -> list[Verdict]:
    """Verdicts on them."""
    found = [(f"losses of {t.network}, GPU beside CPU", t.difference) for t in traces]
    return [Verdict(what, f"{difference:.1e}", f"≤ {MOST}", difference <= MOST) for what, difference in found]


# --- steps beside PyTorch's -------------------------------------------------------------------------------------------


def workloads() -> list[Workload]:
    """The steps that have targets, but for those of networks that have no CUDA kernels."""
    return [workload for workload in WORKLOADS.values() if workload is not GRU]


def torch_obstacle() -> str | None:
    """Why PyTorch is not measured; None where it is."""
    if find_spec("torch") is None:
        return "PyTorch is not installed"
    import torch

    return (
        None if torch.cuda.is_available() else f"PyTorch {torch.__version__} finds no GPU (torch.cuda.is_available())"
    )


def compare(workload: Workload, rounds: int, steps: int, beside_torch: bool) -> Comparison:
    """Blocks of steps in turn, each until the GPU is done."""
    forms: dict[str, dict[str, Callable[[int], float]]] = {OURS: {"": _block(*_ours(workload))}}
    if beside_torch:
        forms["torch"] = _torch_forms(workload)
    trial = {peer: {form: 1e6 * block(steps) for form, block in found.items()} for peer, found in forms.items()}
    best = {peer: min(us, key=lambda form: us[form]) for peer, us in trial.items()}
    measures = {peer: (lambda peer=peer: forms[peer][best[peer]](steps)) for peer in forms}
    seconds = in_turn(measures, rounds)
    figures = {peer: Figure(best[peer], [1e6 * s for s in seconds[peer]], trial[peer]) for peer in forms}
    return Comparison(workload.name, 1, figures)


def _block(step: Callable[[], Any], value: Callable[[Any], float]) -> Callable[[int], float]:
    """A function that measures so many steps, in seconds of one; to read the last loss is to wait for all of them."""
    for _ in range(WARM_UP):
        value(step())

    def block(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps - 1):
            step()
        loss = value(step())
        seconds = time.perf_counter() - start
        if not np.isfinite(loss):
            raise ArithmeticError(f"the loss came to {loss}")
        return seconds / steps

    return block


def _ours(workload: Workload) -> tuple[Callable[[], Any], Callable[[Any], float]]:
    model = workload.build(fn)
    values = weights({key: p.shape for key, p in model.named_parameters()})
    model.load_state_dict(values, strict=False)
    optimizer = getattr(fn, workload.optimizer)(model.to("cuda").parameters(), **workload.options)
    step = Step(model, fn.CrossEntropyLoss(), optimizer, count=False)
    data = cycle([tuple(fn.to_device(a, "cuda") for a in batch) for batch in batches(workload)])
    return (lambda: step(*next(data))), (lambda results: float(results[0][0]))


def _torch_forms(workload: Workload) -> dict[str, Callable[[int], float]]:
    """The usual training loop, in both memory formats of images and with each implementation of the optimizer."""
    import torch

    from .peer_torch import FORMATS, UPDATES
    from .torch_layers import LAYERS

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    formats = FORMATS if len(workload.input) == 3 else {"": torch.contiguous_format}

    def loop(memory_format: Any, update: dict[str, bool]) -> Callable[[], Any]:
        model = workload.build(LAYERS)
        values = weights({key: tuple(p.shape) for key, p in model.named_parameters()})
        model.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=False)
        model = model.to("cuda", memory_format=memory_format)
        optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), **workload.options, **update)
        loss_of = torch.nn.CrossEntropyLoss()
        data = cycle(
            [
                (torch.from_numpy(x).to("cuda", memory_format=memory_format), torch.from_numpy(labels).to("cuda"))
                for x, labels in batches(workload)
            ]
        )

        def step() -> Any:
            x, labels = next(data)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(model(x), labels)
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step

    return {
        ", ".join(filter(None, (name, update))): _block(loop(formats[name], UPDATES[update]), float)
        for name, update in product(formats, UPDATES)
    }
