"""PyTorch as a peer: each kernel by the operator that does the same and no more, each step in the usual training loop.

What is measured is the fastest of the honest forms: images in both memory formats, every number of threads up to the
limit, results written to given memory where the operator can do so itself, no autograd around single operators, each
implementation of the optimizer. PyTorch is typed as Any: it need not be installed where this is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import cycle, product
from typing import Any

import numpy as np

from fastnn._kernels import Array

from .inputs import Call
from .peer import Form
from .workloads import Workload, batches, weights

torch: Any = import_module("torch")
aten: Any = torch.ops.aten
Tensor = Any
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
        images = "H" in call.sizes
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


def connect(backend: str, threads: int) -> TorchPeer:
    """The peer of this module."""
    return TorchPeer(threads)


def _formats(workload: Workload) -> dict[str, Any]:
    return FORMATS if len(workload.input) == 3 else {"": torch.contiguous_format}


def _model(workload: Workload, memory_format: Any) -> Any:
    """The model with the weights that all peers begin with."""
    model = workload.build(torch.nn)
    values = weights({name: tuple(p.shape) for name, p in model.named_parameters()})
    model.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()}, strict=False)
    return model.to(memory_format=memory_format) if memory_format is torch.channels_last else model


def _step(workload: Workload, memory_format: Any, update: dict[str, bool]) -> Callable[[], Tensor]:
    """A training step on the next batch, in one form."""
    model = _model(workload, memory_format)
    optimizer = getattr(torch.optim, workload.optimizer)(model.parameters(), **workload.options, **update)
    loss_of = torch.nn.CrossEntropyLoss()
    data = cycle([(_tensor(x, memory_format), torch.from_numpy(labels)) for x, labels in batches(workload)])

    def step() -> Tensor:
        x, labels = next(data)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(model(x), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _prediction(workload: Workload, memory_format: Any, compiled: bool) -> Callable[[], Tensor]:
    """The scores of the next batch, from the module itself or from its frozen and optimized trace."""
    images = [_tensor(x, memory_format) for x, _ in batches(workload)]
    model = _model(workload, memory_format).eval()
    if compiled:
        model = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(model, images[0])))
    data = cycle(images)
    return lambda: model(next(data))


def _tensor(a: Array, memory_format: Any = None) -> Tensor:
    """The array as a tensor, sharing its memory unless images lie otherwise than the format says."""
    t = torch.from_numpy(a)
    return t.contiguous(memory_format=memory_format) if memory_format is not None and a.ndim == 4 else t


# --- kernels: from a call and a memory format to a function without arguments ----------------------------------------

Make = Callable[[Call, Any], Callable[[], Any]]


def _tensors(call: Call, memory_format: Any) -> list[Tensor]:
    return [_tensor(a, memory_format) for a in call.inputs]


def _out(call: Call) -> list[Tensor]:
    return [torch.from_numpy(a) for a in call.targets]


def _linear(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, weight, bias = _tensors(call, memory_format)
    (y,), transposed = _out(call), weight.t()
    return lambda: torch.addmm(bias, x, transposed, out=y)


def _linear_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, weight = _tensors(call, memory_format)
    (dx,) = _out(call)
    return lambda: torch.mm(dy, weight, out=dx)


def _linear_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x = _tensors(call, memory_format)
    (dweight, dbias), transposed = _out(call), dy.t()
    return lambda: (torch.mm(transposed, x, out=dweight), torch.sum(dy, 0, out=dbias))


def _geometry(call: Call) -> tuple[Any, ...]:
    """The arguments of a convolution after its tensors."""
    p = call.params
    return list(p["stride"]), list(p["padding"]), list(p["dilation"]), False, [0, 0], p["groups"]


def _conv2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, weight, bias = _tensors(call, memory_format)
    how = _geometry(call)
    if call.params.get("relu"):
        return lambda: aten.convolution(x, weight, bias, *how).relu_()
    return lambda: aten.convolution(x, weight, bias, *how)


def _conv2d_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, weight = _tensors(call, memory_format)
    x = torch.empty(call.targets[0].shape, dtype=dy.dtype).contiguous(memory_format=memory_format)
    how, wanted = _geometry(call), [True, False, False]
    return lambda: aten.convolution_backward(dy, x, weight, None, *how, wanted)


def _conv2d_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x = _tensors(call, memory_format)
    weight = _tensor(np.zeros_like(call.targets[0]), memory_format)
    how, wanted, channels = _geometry(call), [False, True, True], [call.sizes["O"]]
    return lambda: aten.convolution_backward(dy, x, weight, channels, *how, wanted)


def _pool_size(call: Call) -> tuple[Any, ...]:
    """The arguments, after its input, of max pooling that a convolution is fused with."""
    size = list(call.params["pool_size"])
    return size, size, [0, 0], [1, 1], False


def _conv2d_max_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    conv, pool = _conv2d(call, memory_format), _pool_size(call)
    return lambda: aten.max_pool2d_with_indices(conv().relu_(), *pool)


def _unpool(call: Call, memory_format: Any) -> tuple[Callable[[], Tensor], Tensor]:
    """From the pooled gradient to that of the convolution; the convolution's other input."""
    dy, other, _ = _tensors(call, memory_format)
    shape = (call.sizes["N"], call.sizes["O"], *_conv_size(call))
    y = torch.randn(shape, dtype=dy.dtype).contiguous(memory_format=memory_format).relu_()
    pool = _pool_size(call)
    index = aten.max_pool2d_with_indices(y, *pool)[1]

    def unpool() -> Tensor:
        return aten.threshold_backward(aten.max_pool2d_with_indices_backward(dy, y, *pool, index), y, 0)

    return unpool, other


def _conv_size(call: Call) -> tuple[int, int]:
    """Height and width of the convolution's output, of which the pooling may drop a rest."""
    d = call.sizes
    return (
        (d["H"] + 2 * d["PH"] - d["DH"] * (d["KH"] - 1) - 1) // d["SH"] + 1,
        (d["W"] + 2 * d["PW"] - d["DW"] * (d["KW"] - 1) - 1) // d["SW"] + 1,
    )


def _conv2d_max_pool2d_backward_data(call: Call, memory_format: Any) -> Callable[[], Any]:
    unpool, weight = _unpool(call, memory_format)
    x = torch.empty(call.targets[0].shape, dtype=weight.dtype).contiguous(memory_format=memory_format)
    how, wanted = _geometry(call), [True, False, False]
    return lambda: aten.convolution_backward(unpool(), x, weight, None, *how, wanted)


def _conv2d_max_pool2d_backward_weights(call: Call, memory_format: Any) -> Callable[[], Any]:
    unpool, x = _unpool(call, memory_format)
    weight = _tensor(np.zeros_like(call.targets[0]), memory_format)
    how, wanted, channels = _geometry(call), [False, True, True], [call.sizes["O"]]
    return lambda: aten.convolution_backward(unpool(), x, weight, channels, *how, wanted)


def _windows(call: Call) -> tuple[Any, ...]:
    """The arguments of max pooling after its input."""
    p = call.params
    return *(list(p[name]) for name in ("kernel_size", "stride", "padding", "dilation")), p["ceil_mode"]


def _max_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = _tensors(call, memory_format)
    how = _windows(call)
    y, index = aten.max_pool2d_with_indices(x, *how)
    return lambda: aten.max_pool2d_with_indices.out(x, *how, out=y, indices=index)


def _max_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy = _tensor(call.inputs[0], memory_format)
    x = torch.randn(call.targets[0].shape, dtype=dy.dtype).contiguous(memory_format=memory_format)
    how = _windows(call)
    index, dx = aten.max_pool2d_with_indices(x, *how)[1], torch.empty_like(x)
    return lambda: aten.max_pool2d_with_indices_backward.grad_input(dy, x, *how, index, grad_input=dx)


def _relu(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,) = _tensors(call, None), _out(call)
    return lambda: torch.clamp_min(x, 0, out=y)


def _relu_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, y), (dx,) = _tensors(call, None), _out(call)
    return lambda: aten.threshold_backward.grad_input(dy, y, 0, grad_input=dx)


def _batch_norm_statistics(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = _tensors(call, memory_format)
    return lambda: torch.var_mean(x, (0, 2, 3), correction=0)[::-1]


def _batch_norm_update(call: Call, memory_format: Any) -> Callable[[], Any]:
    running_mean, running_var, _, mean, var = _tensors(call, None)
    momentum = call.params["momentum"]
    return lambda: (running_mean.lerp_(mean, momentum), running_var.lerp_(var, momentum))


def _batch_norm(call: Call, memory_format: Any) -> Callable[[], Any]:
    inputs, eps = _tensors(call, memory_format), call.params["eps"]
    if call.params["relu"]:
        return lambda: aten.native_batch_norm(*inputs, False, 0.1, eps)[0].relu_()
    return lambda: aten.native_batch_norm(*inputs, False, 0.1, eps)


def _batch_norm_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x, weight, _, mean, var = _tensors(call, memory_format)
    p, rstd = call.params, torch.rsqrt(var + call.params["eps"])
    statistics = (None, None, mean, rstd) if p["train"] else (mean, var, None, None)
    how, y = (*statistics, p["train"], p["eps"], [True, True, True]), x.clone()
    if p["relu"]:
        return lambda: aten.native_batch_norm_backward(aten.threshold_backward(dy, y, 0), x, weight, *how)
    return lambda: aten.native_batch_norm_backward(dy, x, weight, *how)


def _layer_norm(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x, weight, bias), eps = _tensors(call, None), call.params["eps"]
    return lambda: aten.native_layer_norm(x, [call.sizes["D"]], weight, bias, eps)[0]


def _layer_norm_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    dy, x, weight, mean, rstd = _tensors(call, None)
    shape, wanted = [call.sizes["D"]], [True, True, True]
    rows = mean[:, None], rstd[:, None]
    bias = torch.zeros_like(weight)
    return lambda: aten.native_layer_norm_backward(dy, x, shape, *rows, weight, bias, wanted)


def _dropout(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = _tensor(call.inputs[0]), call.params["p"]
    return lambda: aten.native_dropout(x, p, True)


def _softmax(call: Call, memory_format: Any) -> Callable[[], Any]:
    (scores,), (probabilities,) = _tensors(call, None), _out(call)
    return lambda: aten._softmax.out(scores, 1, False, out=probabilities)


def _cross_entropy(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, labels = _tensors(call, None)
    reduction, one = 1 if call.params["mean"] else 2, torch.ones((), dtype=scores.dtype)

    def loss_and_gradient() -> Any:
        logs = aten._log_softmax(scores, 1, False)
        loss, total = aten.nll_loss_forward(logs, labels, None, reduction, -100)
        dlogs = aten.nll_loss_backward(one, logs, labels, None, reduction, -100, total)
        return loss, aten._log_softmax_backward_data(dlogs, logs, 1, scores.dtype)

    return loss_and_gradient


def _count_correct(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, labels = _tensors(call, None)
    return lambda: (scores.argmax(1) == labels).sum()


def _sgd(call: Call, memory_format: Any) -> Callable[[], Any]:
    param, grad, buffer = ([_tensor(a)] for a in call.inputs[:3])
    lr, momentum, dampening, weight_decay, nesterov, maximize = call.inputs[3].tolist()
    options = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": bool(nesterov),
        "maximize": bool(maximize),
        "is_first_step": False,
    }
    return lambda: torch._fused_sgd_(param, grad, buffer, **options)


def _gather_rows(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x, index), (y,) = _tensors(call, None), _out(call)
    return lambda: torch.index_select(x, 0, index, out=y)


def _copy(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = _tensors(call, None)
    to = torch.channels_last if call.params["channels_last"] else torch.contiguous_format
    return lambda: x.contiguous(memory_format=to)


KERNELS: dict[str, Make] = {
    "linear": _linear,
    "linear_backward_data": _linear_backward_data,
    "linear_backward_weights": _linear_backward_weights,
    "conv2d": _conv2d,
    "conv2d_backward_data": _conv2d_backward_data,
    "conv2d_backward_weights": _conv2d_backward_weights,
    "conv2d_max_pool2d": _conv2d_max_pool2d,
    "conv2d_max_pool2d_backward_data": _conv2d_max_pool2d_backward_data,
    "conv2d_max_pool2d_backward_weights": _conv2d_max_pool2d_backward_weights,
    "max_pool2d": _max_pool2d,
    "max_pool2d_backward": _max_pool2d_backward,
    "relu": _relu,
    "relu_backward": _relu_backward,
    "dropout": _dropout,
    "batch_norm_statistics": _batch_norm_statistics,
    "batch_norm_update": _batch_norm_update,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "softmax": _softmax,
    "cross_entropy": _cross_entropy,
    "count_correct": _count_correct,
    "sgd": _sgd,
    "gather_rows": _gather_rows,
    "copy": _copy,
}
