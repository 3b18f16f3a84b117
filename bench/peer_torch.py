"""PyTorch as a peer: each kernel by the operator that does the same and no more, each step in the usual training loop.

What is measured is the fastest of the honest forms: images in both memory formats, every number of threads up to the
limit, results written to given memory where the operator can do so itself, no autograd around single operators, each
implementation of the optimizer. PyTorch is typed as Any: it need not be installed where this is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import cycle, product
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastnn._kernels import Array

from .inputs import Call
from .peer import SEED, Form
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
    model = workload.build(_LAYERS)
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


def _training(
    workload: Workload, memory_format: Any, update: dict[str, bool], x: Array, labels: Array, epochs: int
) -> Callable[[], float]:
    """A whole training, in one form."""
    starts = range(0, len(x) - workload.batch + 1, workload.batch)
    data = [
        (_tensor(x[i : i + workload.batch], memory_format), torch.from_numpy(labels[i : i + workload.batch]))
        for i in starts
    ]
    loss_of = torch.nn.CrossEntropyLoss()

    def train() -> float:
        torch.manual_seed(SEED)
        model = workload.build(torch.nn).to(memory_format=memory_format)
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


class _Bert(torch.nn.Module):  # type: ignore[misc]
    """The states of BERT's tokens, under Hugging Face's keys, by the functions that its own model calls."""

    def __init__(self, words: int, E: int, layers: int, heads: int, width: int) -> None:
        super().__init__()
        nn, self.heads = torch.nn, heads

        def output(inputs: int) -> Any:
            return nn.ModuleDict({"dense": nn.Linear(inputs, E), "LayerNorm": nn.LayerNorm(E, 1e-12)})

        def layer() -> Any:
            projections = nn.ModuleDict({name: nn.Linear(E, E) for name in ("query", "key", "value")})
            attention = nn.ModuleDict({"self": projections, "output": output(E)})
            intermediate = nn.ModuleDict({"dense": nn.Linear(E, width)})
            return nn.ModuleDict({"attention": attention, "intermediate": intermediate, "output": output(width)})

        sizes = {"word": words, "position": 512, "token_type": 2}
        tables = {f"{name}_embeddings": nn.Embedding(size, E) for name, size in sizes.items()}
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": nn.LayerNorm(E, 1e-12)})
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer() for _ in range(layers))})

    def forward(self, ids: Tensor) -> Tensor:
        e = self.embeddings
        places, types = torch.arange(ids.shape[1]), torch.zeros_like(ids)
        x = e["word_embeddings"](ids) + e["token_type_embeddings"](types) + e["position_embeddings"](places)
        x = e["LayerNorm"](x)
        for layer in self.encoder["layer"]:
            attention, output = layer["attention"], layer["output"]
            q, key, value = (
                attention["self"][name](x).unflatten(2, (self.heads, -1)).transpose(1, 2)
                for name in ("query", "key", "value")
            )
            y = torch.nn.functional.scaled_dot_product_attention(q, key, value).transpose(1, 2).flatten(2)
            x = attention["output"]["LayerNorm"](attention["output"]["dense"](y) + x)
            h = torch.nn.functional.gelu(layer["intermediate"]["dense"](x))
            x = output["LayerNorm"](output["dense"](h) + x)
        return x


#: ``torch.nn``, and what is not in it.
_LAYERS = SimpleNamespace(**vars(torch.nn), BertModel=_Bert)


# --- kernels: from a call and a memory format to a function without arguments ----------------------------------------

Make = Callable[[Call, Any], Callable[[], Any]]


def _tensors(call: Call, memory_format: Any) -> list[Tensor]:
    return [None if a is None else _tensor(a, memory_format) for a in call.inputs]


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


def _averaging(call: Call) -> tuple[Any, ...]:
    """The arguments of average pooling after its input."""
    p = call.params
    sizes = (list(p[name]) for name in ("kernel_size", "stride", "padding"))
    return *sizes, p["ceil_mode"], p["count_include_pad"], p["divisor"] or None


def _pooled_image(call: Call, memory_format: Any) -> Tensor:
    """An image of the size of the gradient of a pooling's input."""
    shape, dtype = call.targets[0].shape, torch.from_numpy(call.targets[0]).dtype
    return torch.randn(shape, dtype=dtype).contiguous(memory_format=memory_format)


def _avg_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = _tensors(call, memory_format)
    how = _averaging(call)
    y = aten.avg_pool2d(x, *how)
    return lambda: aten.avg_pool2d.out(x, *how, out=y)


def _avg_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,) = _tensors(call, memory_format)
    x, how = _pooled_image(call, memory_format), _averaging(call)
    dx = torch.empty_like(x)
    return lambda: aten.avg_pool2d_backward.grad_input(dy, x, *how, grad_input=dx)


def _adaptive_avg_pool2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), size = _tensors(call, memory_format), [call.params["P"], call.params["Q"]]
    return lambda: torch.nn.functional.adaptive_avg_pool2d(x, size)


def _adaptive_avg_pool2d_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,) = _tensors(call, memory_format)
    x = _pooled_image(call, memory_format)
    return lambda: aten._adaptive_avg_pool2d_backward(dy, x)


def _channel_bias(call: Call, memory_format: Any) -> Callable[[], Any]:
    (bias,), y = _tensors(call, None), _tensor(call.targets[0])
    spread = bias[:, None, None].expand_as(y)
    return lambda: y.copy_(spread)


def _channel_bias_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy,), (dbias,) = _tensors(call, memory_format), _out(call)
    return lambda: torch.sum(dy, (0, 2, 3), out=dbias)


def _add(call: Call, memory_format: Any) -> Callable[[], Any]:
    (a, b), (y,) = _tensors(call, None), _out(call)
    if call.params["relu"]:
        return lambda: torch.add(a, b, out=y).relu_()
    return lambda: torch.add(a, b, out=y)


def _concatenate(call: Call, memory_format: Any) -> Callable[[], Any]:
    parts, (y,) = _tensors(call, None), _out(call)
    return lambda: torch.cat(parts, 1, out=y)


def _columns(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,) = _tensors(call, None), _out(call)
    part = x[:, call.params["start"] : call.params["start"] + call.params["count"]]
    return lambda: y.copy_(part)


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


def _attention(call: Call, memory_format: Any) -> Callable[[], Any]:
    q, key, value = _in_heads(call, call.inputs[:3])
    mask, causal = _attended(call, call.inputs[3])
    how = {"attn_mask": mask, "is_causal": causal, "dropout_p": call.params.get("p", 0.0)}
    attend = torch.nn.functional.scaled_dot_product_attention
    return lambda: attend(q, key, value, **how).transpose(1, 2).flatten(2)


def _attention_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    """By the operator behind `scaled_dot_product_attention`, given what its forward pass returned."""
    dy, q, key, value, y = _in_heads(call, [*call.inputs[:4], call.inputs[5]])
    mask, causal = _attended(call, call.inputs[4])
    added = None if mask is None else torch.zeros(mask.shape, dtype=q.dtype).masked_fill_(~mask, -torch.inf)
    sums = torch.from_numpy(call.inputs[6]).nan_to_num(neginf=torch.inf)  # of queries without keys, whose weights are 0
    given = dy, q, key, value, y, sums, 0.0, causal
    operator = aten._scaled_dot_product_flash_attention_for_cpu_backward
    return lambda: tuple(d.transpose(1, 2).flatten(2) for d in operator(*given, attn_mask=added))


def _attended(call: Call, mask: Any) -> tuple[Tensor | None, bool]:
    """PyTorch's mask, and whether it is causal: it takes one of both."""
    if mask is None:
        return None, bool(call.params["causal"])
    allowed = torch.from_numpy(mask)[:, None, None].expand(-1, 1, call.sizes["T"], -1)
    return (allowed.tril() if call.params["causal"] else allowed.contiguous()), False


def _in_heads(call: Call, arrays: Any) -> list[Tensor]:
    """(N, T, E) as (N, heads, T, E / heads)."""
    return [torch.from_numpy(a).unflatten(2, (call.params["heads"], -1)).transpose(1, 2) for a in arrays]


def _elementwise(function: Any, *names: str) -> Make:
    """An operator on one array, with its options by name, into given memory."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (x,), (y,) = _tensors(call, None), _out(call)
        options = [call.params[name] for name in names]
        return lambda: function(x, *options, out=y)

    return make


def _derivative(function: Any, *names: Any, **more: Any) -> Make:
    """An operator's backward one: of a gradient and what is kept, with options by name or by value."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (dy, kept), (dx,) = _tensors(call, None), _out(call)
        options = [call.params[name] if isinstance(name, str) else name for name in names]
        return lambda: function(dy, kept, *options, **more, grad_input=dx)

    return make


def _elu_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, x), (dx,), alpha = _tensors(call, None), _out(call), call.params["alpha"]
    return lambda: aten.elu_backward.grad_input(dy, alpha, 1, 1, False, x, grad_input=dx)


def _gelu(approximate: str) -> Make:
    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (x,), (y,) = _tensors(call, None), _out(call)
        return lambda: aten.gelu.out(x, approximate=approximate, out=y)

    return make


def _dropout(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = _tensor(call.inputs[0]), call.params["p"]
    return lambda: aten.native_dropout(x, p, True)


def _dropout2d(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = _tensor(call.inputs[0], memory_format), call.params["p"]
    return lambda: torch.feature_dropout(x, p, True)


def _embedding_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, index), (rows, padding) = _tensors(call, None), (call.params["num_embeddings"], call.params["padding_idx"])
    return lambda: aten.embedding_dense_backward(dy, index, rows, padding, False)


def _log_softmax(call: Call, memory_format: Any) -> Callable[[], Any]:
    (scores,), (logs,) = _tensors(call, None), _out(call)
    return lambda: aten._log_softmax.out(scores, 1, False, out=logs)


def _softmax_backward(function: Any, name: str) -> Make:
    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        (dy, y), (dscores,) = _tensors(call, None), _out(call)
        return lambda: function(dy, y, 1, y.dtype, **{name: dscores})

    return make


def _softmax(call: Call, memory_format: Any) -> Callable[[], Any]:
    (scores,), (probabilities,) = _tensors(call, None), _out(call)
    return lambda: aten._softmax.out(scores, 1, False, out=probabilities)


def _reduction(call: Call) -> tuple[int, list[Any]]:
    """aten's number of the reduction, none where samples have weights; these tensors of the call."""
    tensors = _tensors(call, None)
    return (0 if tensors[2] is not None else 1 if call.params["mean"] else 2), tensors


def _reduced(call: Call, losses: Tensor, sample_weight: Tensor | None, total: Any) -> Tensor:
    """The loss, from those of each row where samples have weights."""
    if sample_weight is None:
        return losses
    weighted = (losses.reshape(len(sample_weight), -1) * sample_weight[:, None]).sum()
    return weighted / total if call.params["mean"] else weighted


def _upstream(call: Call, scores: Tensor, sample_weight: Tensor | None, total: Any) -> Tensor:
    """The gradient of the loss by what the operator returns."""
    if sample_weight is None:
        return torch.ones((), dtype=scores.dtype)
    return sample_weight / total if call.params["mean"] else sample_weight


def _nll(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (logs, labels, sample_weight, weight) = _reduction(call)
    ignored = call.params["ignore_index"]

    def total_weight() -> Any:
        weights = sample_weight if weight is None else sample_weight * weight[labels]
        return weights[labels != ignored].sum()

    def loss_and_gradient(logs: Any = logs) -> Any:
        total = None if sample_weight is None else total_weight()
        loss, weights = aten.nll_loss_forward(logs, labels, weight, reduction, ignored)
        up = _upstream(call, logs, sample_weight, total)
        dlogs = aten.nll_loss_backward(up, logs, labels, weight, reduction, ignored, weights)
        return _reduced(call, loss, sample_weight, total), dlogs

    return loss_and_gradient


def _cross_entropy(call: Call, memory_format: Any) -> Callable[[], Any]:
    """Without smoothing, for which PyTorch has no operator."""
    scores, nll = _tensor(call.inputs[0]), _nll(call, memory_format)

    def loss_and_gradient() -> Any:
        logs = aten._log_softmax(scores, 1, False)
        loss, dlogs = nll(logs)  # type: ignore[call-arg]
        return loss, aten._log_softmax_backward_data(dlogs, logs, 1, scores.dtype)

    return loss_and_gradient


def _soft_cross_entropy(call: Call, memory_format: Any) -> Callable[[], Any]:
    _, (scores, target, sample_weight, weight) = _reduction(call)
    smoothing, K = call.params["label_smoothing"], call.sizes["K"]

    def loss_and_gradient() -> Any:
        logs, shares = aten._log_softmax(scores, 1, False), target
        if smoothing:
            shares = shares * (1 - smoothing) + smoothing / K
        if weight is not None:
            shares = shares * weight
        if sample_weight is not None:
            shares = shares * sample_weight[:, None]
        if call.params["mean"]:
            shares = shares / (len(scores) if sample_weight is None else sample_weight.sum())
        return -(shares * logs).sum(), aten._log_softmax_backward_data(-shares, logs, 1, scores.dtype)

    return loss_and_gradient


def _multi_margin(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (scores, labels, sample_weight, weight) = _reduction(call)
    how = call.params["p"], call.params["margin"], weight, reduction
    factor = 1 if call.params["class_mean"] else call.sizes["K"]

    def loss_and_gradient() -> Any:
        total = None if sample_weight is None else sample_weight.sum()
        loss = aten.multi_margin_loss(scores, labels, *how) * factor
        up = _upstream(call, scores, sample_weight, total) * factor
        dscores = aten.multi_margin_loss_backward(up, scores, labels, *how)
        return _reduced(call, loss, sample_weight, total), dscores

    return loss_and_gradient


def _pointwise(name: str, option: str | None = None, backward: bool = True) -> Make:
    """A loss of numbers, and its gradient by PyTorch's operator, if it has one."""

    def make(call: Call, memory_format: Any) -> Callable[[], Any]:
        reduction, (scores, target, sample_weight) = _reduction(call)
        how = (reduction,) if option is None else (reduction, call.params[option])
        operator, gradient = getattr(aten, name), getattr(aten, f"{name}_backward", None) if backward else None
        factor = call.params.get("factor", 1)
        numbers = scores.numel() // len(scores)

        def loss_and_gradient() -> Any:
            total = None if sample_weight is None else sample_weight.sum() * numbers
            loss = operator(scores, target, *how) * factor
            up = _upstream(call, scores, sample_weight, total) * factor
            if sample_weight is not None:
                up = up.reshape(-1, *[1] * (scores.dim() - 1)).expand_as(scores)
            elif gradient is None and call.params["mean"]:
                up = up / scores.numel()
            d = (scores - target).sgn_().mul_(up) if gradient is None else gradient(up, scores, target, *how)
            return _reduced(call, loss, sample_weight, total), d

        return loss_and_gradient

    return make


def _bce_with_logits(call: Call, memory_format: Any) -> Callable[[], Any]:
    reduction, (scores, target, sample_weight, weight, pos_weight) = _reduction(call)

    def loss_and_gradient() -> Any:
        total = None if sample_weight is None else sample_weight.sum() * scores.shape[1]
        loss = aten.binary_cross_entropy_with_logits(scores, target, weight, pos_weight, reduction)
        up = _upstream(call, scores, sample_weight, total)
        if sample_weight is not None:
            up = up[:, None]
        elif call.params["mean"]:
            up = up / scores.numel()
        if weight is not None:
            up = up * weight
        if pos_weight is None:
            d = torch.sigmoid(scores).sub_(target).mul_(up)
        else:
            d = (1 - target - (1 + (pos_weight - 1) * target) * torch.sigmoid(-scores)) * up
        return _reduced(call, loss, sample_weight, total), d

    return loss_and_gradient


def _counted(right: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
    right = right if among is None else right & among
    return right.sum(), right


def _count_correct(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, labels, among = _tensors(call, None)
    return lambda: _counted(scores.argmax(1) == labels, among)


def _count_agreeing(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, target, among = _tensors(call, None)
    return lambda: _counted(scores.argmax(1) == target.argmax(1), among)


def _count_signs(call: Call, memory_format: Any) -> Callable[[], Any]:
    scores, target, among = _tensors(call, None)
    return lambda: _counted(((scores > 0) == (target > 0.5)).flatten(1).all(1), among)


def _l2_penalty(call: Call, memory_format: Any) -> Callable[[], Any]:
    (param,), factor = _tensors(call, None), call.params["factor"]
    _, dparam = _out(call)
    return lambda: (torch.dot(param, param) * (0.5 * factor), torch.mul(param, factor, out=dparam))


def _scale(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,), factor = _tensors(call, None), _out(call), call.params["factor"]
    return lambda: torch.mul(x, factor, out=y)


def _update(call: Call) -> tuple[list[list[Tensor]], list[float], list[Tensor]]:
    """Parameter, gradient and state, each as PyTorch's list of one or none; the options; and the step to be taken."""
    *arrays, options, steps = call.inputs
    return [[] if a is None else [_tensor(a)] for a in arrays], options.tolist(), [torch.tensor(float(steps[0] + 1))]


def _sgd(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, momentum, dampening, weight_decay, nesterov, maximize), _ = _update(call)
    options = {
        "lr": lr,
        "momentum": momentum,
        "dampening": dampening,
        "weight_decay": weight_decay,
        "nesterov": bool(nesterov),
        "maximize": bool(maximize),
        "is_first_step": False,
    }
    return lambda: torch._fused_sgd_(*tensors, **options)


def _rmsprop(call: Call, memory_format: Any) -> Callable[[], Any]:
    rmsprop = import_module("torch.optim.rmsprop").rmsprop
    tensors, (lr, momentum, alpha, eps, weight_decay, maximize), step = _update(call)
    options = {
        "lr": lr,
        "momentum": momentum if tensors[4] else 0.0,
        "alpha": alpha,
        "eps": eps,
        "weight_decay": weight_decay,
        "centered": bool(tensors[3]),
        "maximize": bool(maximize),
        "foreach": True,
    }
    return lambda: rmsprop(*tensors, step, **options)


def _adagrad(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, lr_decay, weight_decay, eps, maximize), step = _update(call)
    options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps, "maximize": bool(maximize)}
    return lambda: torch._fused_adagrad_(*tensors, step, **options)


def _adam(call: Call, memory_format: Any) -> Callable[[], Any]:
    tensors, (lr, beta1, beta2, eps, weight_decay, decoupled, maximize, _), step = _update(call)
    options = {
        "lr": lr,
        "beta1": beta1,
        "beta2": beta2,
        "eps": eps,
        "weight_decay": weight_decay,
        "amsgrad": bool(tensors[4]),
        "maximize": bool(maximize),
    }
    update = torch._fused_adamw_ if decoupled else torch._fused_adam_
    return lambda: update(*tensors, step, **options)


def _power_sum(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, before = call.inputs[0], call.inputs[1]
    x, begin = _tensor(x), 0.0 if before is None else float(before[0])
    return lambda: torch.dot(x, x) + begin if begin else torch.dot(x, x)


def _clip_by_scale(call: Call, memory_format: Any) -> Callable[[], Any]:
    gradient, scale = _tensors(call, None)
    return lambda: gradient.mul_(scale)


def _clip_by_value(call: Call, memory_format: Any) -> Callable[[], Any]:
    (gradient,), limit = _tensors(call, None), call.params["limit"]
    return lambda: gradient.clamp_(-limit, limit)


def _gather_rows(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x, index), (y,) = _tensors(call, None), _out(call)
    return lambda: torch.index_select(x, 0, index, out=y)


def _copy(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = _tensors(call, None)
    to = torch.channels_last if call.params["channels_last"] else torch.contiguous_format
    return lambda: x.contiguous(memory_format=to)


def _crop(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, size, padding = _tensor(call.inputs[0], memory_format), call.params["size"], call.params["padding"]
    if "fill" not in call.params:  # the gradient's place, read as a crop of the padded gradient
        size = call.params["input_size"]
    (PH, PW), (down, across), numbers = padding, (2 * p + 1 for p in padding), torch.arange(len(x))

    def crop() -> Tensor:
        padded = torch.nn.functional.pad(x, (PW, PW, PH, PH))
        windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)
        return windows[numbers, :, torch.randint(down, (len(x),)), torch.randint(across, (len(x),))]

    return crop


def _random_flip(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = _tensor(call.inputs[0], memory_format), call.params["p"]
    return lambda: torch.where(torch.rand(len(x), 1, 1, 1) < p, x.flip(3), x)


def _cutout(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, (SH, SW), fill = _tensor(call.inputs[0], memory_format), call.params["size"], call.params["fill"]
    (N, _, H, W), rows, columns = x.shape, torch.arange(x.shape[2]), torch.arange(x.shape[3])

    def cutout() -> Tensor:
        h = rows - torch.randint(H, (N, 1)) + SH // 2
        w = columns - torch.randint(W, (N, 1)) + SW // 2
        inside = ((h >= 0) & (h < SH))[:, None, :, None] & ((w >= 0) & (w < SW))[:, None, None, :]
        return x.masked_fill(inside, fill)

    return cutout


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
    "avg_pool2d": _avg_pool2d,
    "avg_pool2d_backward": _avg_pool2d_backward,
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
    "adaptive_avg_pool2d_backward": _adaptive_avg_pool2d_backward,
    "channel_bias": _channel_bias,
    "channel_bias_backward": _channel_bias_backward,
    "add": _add,
    "concatenate": _concatenate,
    "columns": _columns,
    "relu": _relu,
    "relu_backward": _relu_backward,
    "leaky_relu": _elementwise(aten.leaky_relu.out, "negative_slope"),
    "leaky_relu_backward": _derivative(aten.leaky_relu_backward.grad_input, "negative_slope", False),
    "elu": _elementwise(aten.elu.out, "alpha"),
    "elu_backward": _elu_backward,
    "gelu": _gelu("none"),
    "gelu_backward": _derivative(aten.gelu_backward.grad_input, approximate="none"),
    "gelu_tanh": _gelu("tanh"),
    "gelu_tanh_backward": _derivative(aten.gelu_backward.grad_input, approximate="tanh"),
    "silu": _elementwise(aten.silu.out),
    "silu_backward": _derivative(aten.silu_backward.grad_input),
    "sigmoid": _elementwise(aten.sigmoid.out),
    "sigmoid_backward": _derivative(aten.sigmoid_backward.grad_input),
    "tanh": _elementwise(aten.tanh.out),
    "tanh_backward": _derivative(aten.tanh_backward.grad_input),
    "softplus": _elementwise(aten.softplus.out, "beta", "threshold"),
    "softplus_backward": _derivative(aten.softplus_backward.grad_input, "beta", "threshold"),
    "dropout": _dropout,
    "batch_norm_statistics": _batch_norm_statistics,
    "batch_norm_update": _batch_norm_update,
    "batch_norm": _batch_norm,
    "batch_norm_backward": _batch_norm_backward,
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "attention": _attention,
    "attention_backward": _attention_backward,
    "attention_dropout": _attention,
    "dropout2d": _dropout2d,
    "embedding_backward": _embedding_backward,
    "softmax": _softmax,
    "softmax_backward": _softmax_backward(aten._softmax_backward_data.out, "grad_input"),
    "log_softmax": _log_softmax,
    "log_softmax_backward": _softmax_backward(aten._log_softmax_backward_data.out, "out"),
    "cross_entropy": _cross_entropy,
    "soft_cross_entropy": _soft_cross_entropy,
    "nll": _nll,
    "multi_margin": _multi_margin,
    "count_correct": _count_correct,
    "count_agreeing": _count_agreeing,
    "mse": _pointwise("mse_loss"),
    "l1": _pointwise("l1_loss", backward=False),
    "huber": _pointwise("huber_loss", "delta"),
    "bce_with_logits": _bce_with_logits,
    "count_signs": _count_signs,
    "l2_penalty": _l2_penalty,
    "scale": _scale,
    "power_sum": _power_sum,
    "clip_by_scale": _clip_by_scale,
    "clip_by_value": _clip_by_value,
    "sgd": _sgd,
    "rmsprop": _rmsprop,
    "adagrad": _adagrad,
    "adam": _adam,
    "gather_rows": _gather_rows,
    "copy": _copy,
    "random_crop": _crop,
    "random_crop_backward": _crop,
    "random_flip": _random_flip,
    "cutout": _cutout,
}
