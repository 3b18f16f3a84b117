"""What moves numbers: copies, look-ups, augmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..inputs import Call
from .tensors import Make, Tensor, aten, out, tensor, tensors, torch


def _concatenate(call: Call, memory_format: Any) -> Callable[[], Any]:
    parts, (y,) = tensors(call, None), out(call)
    return lambda: torch.cat(parts, 1, out=y)


def _columns(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,), (y,) = tensors(call, None), out(call)
    part = x[:, call.params["start"] : call.params["start"] + call.params["count"]]
    return lambda: y.copy_(part)


def _embedding_backward(call: Call, memory_format: Any) -> Callable[[], Any]:
    (dy, index), (rows, padding) = tensors(call, None), (call.params["num_embeddings"], call.params["padding_idx"])
    return lambda: aten.embedding_dense_backward(dy, index, rows, padding, False)


def _gather_rows(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x, index), (y,) = tensors(call, None), out(call)
    return lambda: torch.index_select(x, 0, index, out=y)


def _copy(call: Call, memory_format: Any) -> Callable[[], Any]:
    (x,) = tensors(call, None)
    to = torch.channels_last if call.params["channels_last"] else torch.contiguous_format
    return lambda: x.contiguous(memory_format=to)


def _crop(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, size, padding = tensor(call.inputs[0], memory_format), call.params["size"], call.params["padding"]
    if "fill" not in call.params:  # the gradient's place, read as a crop of the padded gradient
        size = call.params["input_size"]
    (PH, PW), (down, across), numbers = padding, (2 * p + 1 for p in padding), torch.arange(len(x))

    def crop() -> Tensor:
        padded = torch.nn.functional.pad(x, (PW, PW, PH, PH))
        windows = padded.unfold(2, size[0], 1).unfold(3, size[1], 1)
        return windows[numbers, :, torch.randint(down, (len(x),)), torch.randint(across, (len(x),))]

    return crop


def _random_flip(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, p = tensor(call.inputs[0], memory_format), call.params["p"]
    return lambda: torch.where(torch.rand(len(x), 1, 1, 1) < p, x.flip(3), x)


def _cutout(call: Call, memory_format: Any) -> Callable[[], Any]:
    x, (SH, SW), fill = tensor(call.inputs[0], memory_format), call.params["size"], call.params["fill"]
    (N, _, H, W), rows, columns = x.shape, torch.arange(x.shape[2]), torch.arange(x.shape[3])

    def cutout() -> Tensor:
        h = rows - torch.randint(H, (N, 1)) + SH // 2
        w = columns - torch.randint(W, (N, 1)) + SW // 2
        inside = ((h >= 0) & (h < SH))[:, None, :, None] & ((w >= 0) & (w < SW))[:, None, None, :]
        return x.masked_fill(inside, fill)

    return cutout


KERNELS: dict[str, Make] = {
    "concatenate": _concatenate,
    "columns": _columns,
    "embedding_backward": _embedding_backward,
    "gather_rows": _gather_rows,
    "copy": _copy,
    "random_crop": _crop,
    "random_crop_backward": _crop,
    "random_flip": _random_flip,
    "cutout": _cutout,
}
