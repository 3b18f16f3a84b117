"""Every layer beside PyTorch's. A line here puts a layer through all that tests ask of layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch_graphs import attention, bert, last, linear_attention, low_rank_attention, parallel, residual, sequence

import fastnn as fn
from fastnn._kernels import Array, backends
from fastnn.layers.layer import Backward

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: Name, ours, PyTorch's (as a constructor of torch.nn), and the shape of x, or, where it holds no reals, x itself.
Case = tuple[Callable[..., fn.Layer], Callable[[Any], Any], Any]
TOKENS = np.array([[1, 0, 4], [4, 4, 2]])
SMALL_BERT = {
    **{"vocab_size": 5, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7},
    **{
        "max_position_embeddings": 4,
        "pad_token_id": None,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
CASES: dict[str, Case] = {
    "linear": (lambda **d: fn.Linear(7, 5, **d), lambda nn: nn.Linear(7, 5), (4, 7)),
    "linear without bias": (
        lambda **d: fn.Linear(7, 5, bias=False, **d),
        lambda nn: nn.Linear(7, 5, bias=False),
        (4, 7),
    ),
    "linear on sequences": (lambda **d: fn.Linear(3, 2, **d), lambda nn: nn.Linear(3, 2), (2, 5, 3)),
    "linear on one vector": (lambda **d: fn.Linear(3, 2, **d), lambda nn: nn.Linear(3, 2), (3,)),
    "linear, no samples": (lambda **d: fn.Linear(3, 2, **d), lambda nn: nn.Linear(3, 2), (0, 3)),
    "conv": (lambda **d: fn.Conv2d(3, 8, 3, **d), lambda nn: nn.Conv2d(3, 8, 3), (2, 3, 9, 10)),
    "conv without bias": (
        lambda **d: fn.Conv2d(1, 33, (2, 3), bias=False, **d),
        lambda nn: nn.Conv2d(1, 33, (2, 3), bias=False),
        (3, 1, 6, 7),
    ),
    "conv with everything": (
        lambda **d: fn.Conv2d(4, 6, (3, 2), (2, 1), (2, 1), (1, 2), 2, **d),
        lambda nn: nn.Conv2d(4, 6, (3, 2), (2, 1), (2, 1), (1, 2), 2),
        (2, 4, 7, 8),
    ),
    "depthwise conv": (
        lambda **d: fn.Conv2d(4, 8, 3, padding=1, groups=4, **d),
        lambda nn: nn.Conv2d(4, 8, 3, padding=1, groups=4),
        (2, 4, 5, 5),
    ),
    "conv of a padded point": (
        lambda **d: fn.Conv2d(2, 3, 3, padding=1, **d),
        lambda nn: nn.Conv2d(2, 3, 3, padding=1),
        (2, 2, 1, 1),
    ),
    "conv, no samples": (lambda **d: fn.Conv2d(2, 3, 3, **d), lambda nn: nn.Conv2d(2, 3, 3), (0, 2, 4, 4)),
    "max pool": (lambda **d: fn.MaxPool2d(2), lambda nn: nn.MaxPool2d(2), (2, 3, 7, 6)),
    "max pool with everything": (
        lambda **d: fn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
        lambda nn: nn.MaxPool2d((3, 2), (2, 1), (1, 0), (1, 2), ceil_mode=True),
        (2, 3, 8, 7),
    ),
    "overlapping max pool": (lambda **d: fn.MaxPool2d(3, 1, 1), lambda nn: nn.MaxPool2d(3, 1, 1), (2, 17, 5, 5)),
    "relu": (lambda **d: fn.ReLU(), lambda nn: nn.ReLU(), (3, 5, 2)),
    "relu of images": (lambda **d: fn.ReLU(), lambda nn: nn.ReLU(), (2, 3, 4, 5)),
    "flatten": (lambda **d: fn.Flatten(), lambda nn: nn.Flatten(), (2, 3, 4, 5)),
    "flatten some": (lambda **d: fn.Flatten(0, -2), lambda nn: nn.Flatten(0, -2), (2, 3, 4, 5)),
    "dropout of nothing": (lambda **d: fn.Dropout(0), lambda nn: nn.Dropout(0), (4, 5)),
    "mlp": (
        lambda **d: fn.Sequential(fn.Linear(6, 9, **d), fn.ReLU(), fn.Linear(9, 4, **d)),
        lambda nn: nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4)),
        (5, 6),
    ),
    "cnn": (
        lambda **d: fn.Sequential(
            fn.Conv2d(2, 5, 3, **d), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Linear(45, 4, **d)
        ),
        lambda nn: nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(45, 4)),
        (3, 2, 8, 9),
    ),
    "cnn of many forms": (
        lambda **d: fn.Sequential(
            *(fn.Conv2d(2, 5, 3, padding=1, **d), fn.ReLU(), fn.Conv2d(5, 20, 3, **d), fn.ReLU()),
            *(fn.MaxPool2d((2, 3)), fn.Conv2d(20, 3, 1, **d), fn.ReLU(), fn.MaxPool2d(2, 1), fn.MaxPool2d(1)),
        ),
        lambda nn: nn.Sequential(
            *(nn.Conv2d(2, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 20, 3), nn.ReLU()),
            *(nn.MaxPool2d((2, 3)), nn.Conv2d(20, 3, 1), nn.ReLU(), nn.MaxPool2d(2, 1), nn.MaxPool2d(1)),
        ),
        (3, 2, 9, 13),
    ),
    "nested": (
        lambda **d: fn.Sequential(fn.Sequential(fn.Linear(4, 4, **d), fn.ReLU()), fn.Sequential(fn.Linear(4, 2, **d))),
        lambda nn: nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Sequential(nn.Linear(4, 2))),
        (3, 4),
    ),
    "avg pool": (lambda **d: fn.AvgPool2d(2), lambda nn: nn.AvgPool2d(2), (2, 3, 7, 6)),
    "avg pool with everything": (
        lambda **d: fn.AvgPool2d((3, 2), (2, 3), (1, 1), True, False),
        lambda nn: nn.AvgPool2d((3, 2), (2, 3), (1, 1), True, False),
        (2, 3, 8, 7),
    ),
    "avg pool beyond the padding": (
        lambda **d: fn.AvgPool2d(3, 2, 1, ceil_mode=True),
        lambda nn: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
        (2, 17, 6, 8),
    ),
    "sums of windows": (
        lambda **d: fn.AvgPool2d(3, 1, 1, divisor_override=1),
        lambda nn: nn.AvgPool2d(3, 1, 1, divisor_override=1),
        (2, 3, 5, 5),
    ),
    "global avg pool": (lambda **d: fn.AdaptiveAvgPool2d(1), lambda nn: nn.AdaptiveAvgPool2d(1), (2, 17, 5, 6)),
    "adaptive avg pool": (
        lambda **d: fn.AdaptiveAvgPool2d((3, None)),
        lambda nn: nn.AdaptiveAvgPool2d((3, None)),
        (2, 3, 7, 5),
    ),
    "adaptive avg pool that enlarges": (
        lambda **d: fn.AdaptiveAvgPool2d((7, 4)),
        lambda nn: nn.AdaptiveAvgPool2d((7, 4)),
        (2, 3, 3, 6),
    ),
    "transposed conv": (
        lambda **d: fn.ConvTranspose2d(3, 8, 3, **d),
        lambda nn: nn.ConvTranspose2d(3, 8, 3),
        (2, 3, 5, 6),
    ),
    "transposed conv with everything": (
        lambda **d: fn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (2, 1), (1, 2), 2, True, (1, 2), **d),
        lambda nn: nn.ConvTranspose2d(4, 6, (3, 2), (2, 3), (2, 1), (1, 2), 2, True, (1, 2)),
        (2, 4, 4, 5),
    ),
    "transposed conv without bias": (
        lambda **d: fn.ConvTranspose2d(2, 3, 2, 2, bias=False, **d),
        lambda nn: nn.ConvTranspose2d(2, 3, 2, 2, bias=False),
        (2, 2, 4, 4),
    ),
    "transposed conv, no samples": (
        lambda **d: fn.ConvTranspose2d(2, 3, 2, 2, **d),
        lambda nn: nn.ConvTranspose2d(2, 3, 2, 2),
        (0, 2, 4, 4),
    ),
    "residual": (
        lambda **d: fn.Residual(fn.Sequential(fn.Linear(5, 7, **d), fn.ReLU(), fn.Linear(7, 5, **d))),
        lambda nn: residual(nn, nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 5))),
        (3, 5),
    ),
    "residual block": (
        lambda **d: fn.Residual(
            fn.Sequential(fn.Conv2d(3, 6, 3, 2, 1, **d), fn.ReLU(), fn.Conv2d(6, 6, 3, padding=1, **d)),
            fn.Conv2d(3, 6, 1, 2, **d),
            fn.ReLU(),
        ),
        lambda nn: residual(
            nn,
            nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1)),
            nn.Conv2d(3, 6, 1, 2),
            nn.ReLU(),
        ),
        (2, 3, 7, 6),
    ),
    "residual with another activation": (
        lambda **d: fn.Residual(fn.Linear(4, 6, **d), fn.Linear(4, 6, **d), fn.Linear(6, 2, **d)),
        lambda nn: residual(nn, nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)),
        (3, 4),
    ),
    "sum of branches": (
        lambda **d: fn.Parallel(fn.Linear(4, 3, **d), fn.Linear(4, 3, **d), fn.Linear(4, 3, **d)),
        lambda nn: parallel(nn, nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(4, 3)),
        (5, 4),
    ),
    "rows side by side": (
        lambda **d: fn.Parallel(*(fn.Linear(4, n, **d) for n in (1, 3, 17, 2, 5)), mode="concatenate"),
        lambda nn: parallel(nn, *(nn.Linear(4, n) for n in (1, 3, 17, 2, 5)), mode="concatenate"),
        (5, 4),
    ),
    "channels side by side": (
        lambda **d: fn.Parallel(
            fn.Conv2d(3, 5, 1, **d), fn.Conv2d(3, 18, 3, padding=1, **d), fn.MaxPool2d(3, 1, 1), mode="concatenate"
        ),
        lambda nn: parallel(
            nn, nn.Conv2d(3, 5, 1), nn.Conv2d(3, 18, 3, padding=1), nn.MaxPool2d(3, 1, 1), mode="concatenate"
        ),
        (2, 3, 6, 5),
    ),
    "images side by side": (
        lambda **d: fn.Parallel(fn.Conv2d(3, 2, 1, **d), fn.Conv2d(3, 2, (1, 2), **d), mode="concatenate", dim=-1),
        lambda nn: parallel(nn, nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, (1, 2)), mode="concatenate", dim=-1),
        (2, 3, 4, 5),
    ),
    "one branch": (
        lambda **d: fn.Parallel(fn.Linear(4, 3, **d), mode="concatenate"),
        lambda nn: parallel(nn, nn.Linear(4, 3), mode="concatenate"),
        (5, 4),
    ),
    # What they draw is in test_augment.py.
    "random crop of all": (lambda **d: fn.RandomCrop((4, 5)), lambda nn: nn.Identity(), (2, 3, 4, 5)),
    "random shift of nothing": (lambda **d: fn.RandomShift(0), lambda nn: nn.Identity(), (2, 3, 4, 5)),
    "random flip of none": (lambda **d: fn.RandomHorizontalFlip(0), lambda nn: nn.Identity(), (2, 3, 4, 5)),
    "cutout of nothing": (lambda **d: fn.Cutout(0), lambda nn: nn.Identity(), (2, 3, 4, 5)),
    "batch norm": (lambda **d: fn.BatchNorm1d(5, **d), lambda nn: nn.BatchNorm1d(5), (4, 5)),
    "batch norm with everything": (
        lambda **d: fn.BatchNorm1d(5, 1e-3, 0.3, False, False, **d),
        lambda nn: nn.BatchNorm1d(5, 1e-3, 0.3, False, False),
        (4, 5),
    ),
    "batch norm, cumulative": (
        lambda **d: fn.BatchNorm1d(5, momentum=None, **d),
        lambda nn: nn.BatchNorm1d(5, momentum=None),
        (4, 5),
    ),
    "batch norm of sequences": (lambda **d: fn.BatchNorm1d(3, **d), lambda nn: nn.BatchNorm1d(3), (2, 3, 7)),
    "batch norm, no samples": (lambda **d: fn.BatchNorm1d(3, **d), lambda nn: nn.BatchNorm1d(3), (0, 3)),
    "batch norm of images": (lambda **d: fn.BatchNorm2d(17, **d), lambda nn: nn.BatchNorm2d(17), (2, 17, 5, 4)),
    "layer norm": (lambda **d: fn.LayerNorm(5, **d), lambda nn: nn.LayerNorm(5), (4, 5)),
    "layer norm of several axes": (
        lambda **d: fn.LayerNorm((3, 5), 1e-3, **d),
        lambda nn: nn.LayerNorm((3, 5), 1e-3),
        (2, 2, 3, 5),
    ),
    "layer norm without bias": (
        lambda **d: fn.LayerNorm([7], bias=False, **d),
        lambda nn: nn.LayerNorm([7], bias=False),
        (2, 3, 7),
    ),
    "layer norm without weight": (
        lambda **d: fn.LayerNorm(7, elementwise_affine=False, **d),
        lambda nn: nn.LayerNorm(7, elementwise_affine=False),
        (1, 7),
    ),
    "layer norm, no samples": (lambda **d: fn.LayerNorm(3, **d), lambda nn: nn.LayerNorm(3), (0, 3)),
    "normalised mlp": (
        lambda **d: fn.Sequential(
            *(fn.Linear(6, 9, **d), fn.BatchNorm1d(9, **d), fn.ReLU(), fn.Linear(9, 4, **d), fn.ReLU()),
            *(fn.BatchNorm1d(4, **d), fn.LayerNorm(4, **d)),
        ),
        lambda nn: nn.Sequential(
            *(nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4), nn.ReLU()),
            *(nn.BatchNorm1d(4), nn.LayerNorm(4)),
        ),
        (5, 6),
    ),
    "normalised cnn": (
        lambda **d: fn.Sequential(
            *(fn.Conv2d(2, 5, 3, bias=False, **d), fn.BatchNorm2d(5, **d), fn.ReLU(), fn.MaxPool2d(2)),
            *(fn.Flatten(), fn.Linear(45, 4, **d)),
        ),
        lambda nn: nn.Sequential(
            *(nn.Conv2d(2, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(45, 4)),
        ),
        (3, 2, 8, 9),
    ),
    "leaky relu": (lambda **d: fn.LeakyReLU(0.2), lambda nn: nn.LeakyReLU(0.2), (3, 5, 2)),
    "elu": (lambda **d: fn.ELU(0.7), lambda nn: nn.ELU(0.7), (2, 3, 4, 5)),
    "gelu": (lambda **d: fn.GELU(), lambda nn: nn.GELU(), (7, 9)),
    "gelu by tanh": (lambda **d: fn.GELU("tanh"), lambda nn: nn.GELU("tanh"), (7, 9)),
    "silu": (lambda **d: fn.SiLU(), lambda nn: nn.SiLU(), (7, 9)),
    "sigmoid": (lambda **d: fn.Sigmoid(), lambda nn: nn.Sigmoid(), (2, 3, 4, 5)),
    "tanh": (lambda **d: fn.Tanh(), lambda nn: nn.Tanh(), (3, 5, 2)),
    "softplus": (lambda **d: fn.Softplus(), lambda nn: nn.Softplus(), (7, 9)),
    "softplus with a threshold": (lambda **d: fn.Softplus(2, 1), lambda nn: nn.Softplus(2, 1), (7, 9)),
    "softmax": (lambda **d: fn.Softmax(-1), lambda nn: nn.Softmax(-1), (4, 7)),
    "softmax of one vector": (lambda **d: fn.Softmax(0), lambda nn: nn.Softmax(0), (5,)),
    "softmax over channels": (lambda **d: fn.Softmax(1), lambda nn: nn.Softmax(1), (2, 5, 3, 4)),
    "log softmax": (lambda **d: fn.LogSoftmax(2), lambda nn: nn.LogSoftmax(2), (2, 3, 5)),
    "log softmax over samples": (lambda **d: fn.LogSoftmax(-2), lambda nn: nn.LogSoftmax(-2), (3, 5)),
    "identity": (lambda **d: fn.Identity(), lambda nn: nn.Identity(), (3, 4)),
    "unflatten": (lambda **d: fn.Unflatten(1, (3, 2, 2)), lambda nn: nn.Unflatten(1, (3, 2, 2)), (2, 12)),
    "unflatten the last": (lambda **d: fn.Unflatten(-1, (2, -1)), lambda nn: nn.Unflatten(-1, (2, -1)), (2, 3, 8)),
    "dropout of no channel": (lambda **d: fn.Dropout2d(0), lambda nn: nn.Dropout2d(0), (2, 3, 4, 5)),
    "embedding": (lambda **d: fn.Embedding(5, 3, **d), lambda nn: nn.Embedding(5, 3), TOKENS),
    "embedding with padding": (lambda **d: fn.Embedding(5, 3, -2, **d), lambda nn: nn.Embedding(5, 3, -2), TOKENS),
    "embedding, no samples": (lambda **d: fn.Embedding(5, 3, **d), lambda nn: nn.Embedding(5, 3), TOKENS[:0]),
    "rnn": (lambda **d: fn.RNN(3, 5, returns="sequence", **d), lambda nn: sequence(nn.RNN(3, 5)), (4, 3, 3)),
    "rnn of relus, stacked": (
        lambda **d: fn.RNN(3, 17, 2, "relu", False, True, returns="sequence", **d),
        lambda nn: sequence(nn.RNN(3, 17, 2, "relu", False, True)),
        (2, 3, 3),
    ),
    "gru": (lambda **d: fn.GRU(3, 4, returns="sequence", **d), lambda nn: sequence(nn.GRU(3, 4)), (3, 2, 3)),
    "gru with everything": (
        lambda **d: fn.GRU(3, 4, 2, True, True, 0.0, True, returns="last", **d),
        lambda nn: last(nn.GRU(3, 4, 2, True, True, 0.0, True)),
        (2, 3, 3),
    ),
    "gru, one step of no sequence": (
        lambda **d: fn.GRU(3, 4, batch_first=True, returns="sequence", **d),
        lambda nn: sequence(nn.GRU(3, 4, batch_first=True)),
        (0, 1, 3),
    ),
    "lstm": (lambda **d: fn.LSTM(3, 4, returns="sequence", **d), lambda nn: sequence(nn.LSTM(3, 4)), (3, 2, 3)),
    "lstm with everything": (
        lambda **d: fn.LSTM(3, 4, 2, True, True, 0.0, True, returns="last", **d),
        lambda nn: last(nn.LSTM(3, 4, 2, True, True, 0.0, True)),
        (2, 3, 3),
    ),
    "bert": (
        lambda **d: fn.BertModel(**SMALL_BERT, add_pooling_layer=False, **d),
        lambda nn: bert(**SMALL_BERT, add_pooling_layer=False),
        TOKENS,
    ),
    "network of tokens": (
        lambda **d: fn.Sequential(fn.Embedding(5, 4, **d), fn.Flatten(), fn.Tanh(), fn.Linear(12, 2, **d)),
        lambda nn: nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Tanh(), nn.Linear(12, 2)),
        TOKENS,
    ),
    "attention": (
        lambda **d: fn.MultiheadAttention(6, 2, batch_first=True, **d),
        lambda nn: attention(nn, 6, 2, batch_first=True),
        (2, 5, 6),
    ),
    "attention, steps first, without bias": (
        lambda **d: fn.MultiheadAttention(6, 3, bias=False, **d),
        lambda nn: attention(nn, 6, 3, bias=False),
        (4, 3, 6),
    ),
    "causal attention": (
        lambda **d: fn.MultiheadAttention(8, 1, batch_first=True, is_causal=True, **d),
        lambda nn: attention(nn, 8, 1, batch_first=True, causal=True),
        (2, 7, 8),
    ),
    "attention, no samples": (
        lambda **d: fn.MultiheadAttention(4, 2, batch_first=True, **d),
        lambda nn: attention(nn, 4, 2, batch_first=True),
        (0, 3, 4),
    ),
    "linear attention": (
        lambda **d: fn.LinearAttention(6, 2, **d),
        lambda nn: linear_attention(nn, 6, 2),
        (2, 5, 6),
    ),
    "causal linear attention": (
        lambda **d: fn.LinearAttention(6, 2, causal=True, **d),
        lambda nn: linear_attention(nn, 6, 2, True),
        (2, 5, 6),
    ),
    "low-rank attention": (
        lambda **d: fn.LowRankAttention(6, 2, 7, 3, **d),
        lambda nn: low_rank_attention(nn, 6, 2, 7, 3),
        (2, 5, 6),
    ),
    "transformer layer": (
        lambda **d: fn.TransformerEncoderLayer(6, 2, 9, 0, batch_first=True, **d),
        lambda nn: nn.TransformerEncoderLayer(6, 2, 9, 0, batch_first=True),
        (2, 5, 6),
    ),
    "transformer layer with everything": (
        lambda **d: fn.TransformerEncoderLayer(6, 3, 9, 0.0, "gelu", 1e-3, False, True, False, **d),
        lambda nn: nn.TransformerEncoderLayer(6, 3, 9, 0.0, "gelu", 1e-3, False, True, False),
        (4, 3, 6),
    ),
}
every_case = pytest.mark.parametrize("case", CASES)


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    values: Array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return values


def drawn(x: Any, dtype: str = "float64", seed: int = 0) -> Array:
    """A case's input: random numbers of its shape, or its whole numbers in a random order."""
    return random(x, dtype, seed) if isinstance(x, tuple) else np.random.default_rng(seed).permuted(x)


def gradients(layer: fn.Layer) -> dict[str, Array]:
    return {name: p.grad.copy() for name, p in layer.named_parameters()}


def assert_close(found: Array | None, expected: Array, dtype: str, what: str) -> None:
    """To 1e-10 in float64 and about 1e-5 in float32, beside 1 + |expected|."""
    assert found is not None and found.shape == expected.shape and found.dtype == dtype, what
    tolerance = 2e-5 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def assert_as_torch(ours: fn.Layer, theirs: Any, x: Array) -> None:
    """Equal keys; and, with PyTorch's weights, equal outputs and gradients."""
    torch = pytest.importorskip("torch")
    dtype = x.dtype.name if x.dtype.kind == "f" else ours.dtype
    theirs = theirs.to(getattr(torch, dtype)).train()
    state = {key: value.numpy() for key, value in theirs.state_dict().items()}
    assert list(ours.state_dict()) == list(state)
    ours.load_state_dict(state)

    tx = torch.from_numpy(x.copy()).requires_grad_(x.dtype.kind == "f")
    ty = theirs(tx)
    dy = random(tuple(ty.shape), dtype, seed=1)
    ty.backward(torch.from_numpy(dy))

    y, backward = ours.forward(x, train=True)
    dx = backward(dy)
    assert_close(y, ty.detach().numpy(), dtype, "y")
    if tx.requires_grad:
        assert_close(dx, tx.grad.numpy(), dtype, "dx")
    else:
        assert dx is None
    for name, p in theirs.named_parameters():
        assert_close(gradients(ours)[name], p.grad.numpy(), dtype, name)
    for name, buffer in theirs.named_buffers():
        if name in state:  # not what PyTorch makes anew each time
            assert_close(ours.state_dict()[name], buffer.numpy(), buffer.numpy().dtype.name, name)
    assert_close(ours(x), theirs.eval()(tx).detach().numpy(), dtype, "y, evaluated")


class Spy(fn.Layer):
    """Passes everything on and notes down its backward calls."""

    def __init__(self) -> None:
        self.calls: list[bool] = []

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            self.calls.append(need_dx)
            return dy if need_dx else None

        return x, backward
