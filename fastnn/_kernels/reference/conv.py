"""Two-dimensional convolution, which is, as in PyTorch, a cross-correlation."""

from __future__ import annotations

import numpy as np

from ..kernel import Array
from .activation import relu as rectified

Pair = tuple[int, int]


def windows(x: Array, kernel_size: Pair, stride: Pair, dilation: Pair) -> Array:
    """Every window of a padded batch of images, as a view that can be written through.

    x: (N, C, H, W).
    Returns (N, C, P, Q, KH, KW): element [..., p, q, h, w] is x[..., p * SH + h * DH, q * SW + w * DW].
    """
    (KH, KW), (SH, SW), (DH, DW) = kernel_size, stride, dilation
    span = (DH * (KH - 1) + 1, DW * (KW - 1) + 1)
    every = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3), writeable=True)
    return every[:, :, ::SH, ::SW, ::DH, ::DW]


def pad(x: Array, padding: Pair) -> Array:
    """x: (N, C, H, W) with zeros around each image."""
    PH, PW = padding
    return np.pad(x, ((0, 0), (0, 0), (PH, PH), (PW, PW)))


def crop(x: Array, padding: Pair, size: Pair) -> Array:
    """The images of the given size inside their padding."""
    (PH, PW), (H, W) = padding, size
    return x[:, :, PH : PH + H, PW : PW + W]


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool = False,
) -> Array:
    """Each output is the weighted sum of its window, over the input channels of its group, then ReLU if asked for.

    x: (N, C, H, W), weight: (O, C / groups, KH, KW), bias: (O,) or None. Returns y: (N, O, P, Q).
    """
    seen = windows(pad(x, padding), weight.shape[2:], stride, dilation)
    y = np.concatenate(
        [
            np.einsum("ncpqhw,ochw->nopq", seen_g, weight_g, optimize=True)
            for seen_g, weight_g in zip(np.split(seen, groups, axis=1), np.split(weight, groups), strict=True)
        ],
        axis=1,
    )
    y = y if bias is None else y + bias[:, None, None]
    return rectified(y) if relu else y


def conv2d_backward_data(
    dy: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, input_size: Pair
) -> Array:
    """Each tap of a window sends the output's gradient, times its weight, back to the pixel that it saw.

    dy: (N, O, P, Q), weight: (O, C / groups, KH, KW). Returns dx: (N, C, H, W).
    """
    N, C, kernel_size = len(dy), weight.shape[1] * groups, weight.shape[2:]
    dx = pad(np.zeros((N, C, *input_size), dy.dtype), padding)
    seen = windows(dx, kernel_size, stride, dilation)
    for dx_g, dy_g, weight_g in zip(
        np.split(seen, groups, axis=1), np.split(dy, groups, axis=1), np.split(weight, groups), strict=True
    ):
        for h, w in np.ndindex(kernel_size):  # at one tap, no two windows see the same pixel, so += adds once to each
            dx_g[..., h, w] += np.einsum("nopq,oc->ncpq", dy_g, weight_g[:, :, h, w], optimize=True)
    return crop(dx, padding, input_size)


def conv2d_backward_weights(
    dy: Array, x: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int, kernel_size: Pair
) -> tuple[Array, Array]:
    """Each weight's gradient is the product of what it saw and the output's gradient, summed over all windows.

    dy: (N, O, P, Q), x: (N, C, H, W). Returns dweight: (O, C / groups, KH, KW), dbias: (O,).
    """
    seen = windows(pad(x, padding), kernel_size, stride, dilation)
    dweight = np.concatenate(
        [
            np.einsum("nopq,ncpqhw->ochw", dy_g, seen_g, optimize=True)
            for dy_g, seen_g in zip(np.split(dy, groups, axis=1), np.split(seen, groups, axis=1), strict=True)
        ]
    )
    return dweight, dy.sum(axis=(0, 2, 3))


def channel_bias(bias: Array, N: int, H: int, W: int) -> Array:
    """Images that have a channel's bias everywhere, to which a transposed convolution adds.

    bias: (C,). Returns y: (N, C, H, W).
    """
    return np.tile(bias[:, None, None], (N, 1, H, W))


def channel_bias_backward(dy: Array) -> Array:
    """dy: (N, C, H, W). Returns dbias: (C,), the sum over images and pixels."""
    dbias: Array = dy.sum(axis=(0, 2, 3))
    return dbias
