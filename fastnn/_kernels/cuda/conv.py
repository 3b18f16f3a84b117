"""Convolutions, as products of matrices that are never stored: of what windows see, and filters.

A block makes a tile of a product, a thread RM × RN of its numbers. The slices of both factors lie in shared memory,
gathered straight from images and filters as they are stored, channels innermost; what no window sees counts as 0. A
gradient by weights, whose sums go over all pixels of a batch, is made in parts, cut by the shapes alone, that are then
added up in order. Each of the three products also goes with max pooling, see `conv_pool`.

In the products m counts pixels, k goes over a window and the channels of a group; blockIdx.z has the group.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, int64

from .columns import added, column_sums, first_row
from .launch import SIMULATED, device, kernel, over
from .scratch import scratch
from .sums import nothing, or_else

Pair = tuple[int, int]
Sizes = dict[str, int]

TX, TY = (2, 2) if SIMULATED else (16, 16)  #: threads of a block, along columns and rows of its tile
RM, RN = (2, 1) if SIMULATED else (4, 4)  #: rows and columns of the tile that a thread has
DEPTH = 2 if SIMULATED else 16  #: inner indices at a time; divides THREADS
BLOCKS = 4 if SIMULATED else 512  #: on which a gradient by weights is spread, about
SHORTEST = 4 if SIMULATED else 256  #: pixels of one of its parts, at least
ROWS, COLUMNS, THREADS = TY * RM, TX * RN, TX * TY  #: ROWS divides THREADS
ROWS_1, COLUMNS_1 = ROWS + 1, COLUMNS + 1  # in shared memory, so that a column's numbers lie in different banks
ROW_STEP, DEPTH_STEP = THREADS // DEPTH, THREADS // ROWS
A_SIZE, B_SIZE = DEPTH * ROWS, DEPTH * COLUMNS
OUTSIDE = -(1 << 40)  # a row of pixels that no image has
NOWHERE = 65535  #: the place of a maximum that is not above 0

_SIZES = "UniTuple(int64, 18)"  #: see `sizes_of`


def sizes_of(dims: Sizes, stride: Pair, padding: Pair, dilation: Pair, pool: Pair = (1, 1)) -> tuple[int, ...]:
    """What kernels get: N C H W O I KH KW P Q, then stride, padding, dilation and pool size."""
    return *(dims[s] for s in ("N", "C", "H", "W", "O", "I", "KH", "KW", "P", "Q")), *stride, *padding, *dilation, *pool


@device
def _clear(sums: Any, zero: Any) -> Any:
    for i in range(RM):
        for j in range(RN):
            sums[i, j] = zero


@device
def _multiply(sums: Any, a: Any, b: Any) -> Any:
    """A thread's numbers of the product of two tiles that all threads have filled; then they may be filled again."""
    tx, ty = cuda.threadIdx.x % TX, cuda.threadIdx.x // TX
    cuda.syncthreads()
    for k in range(DEPTH):
        for i in range(RM):
            for j in range(RN):
                sums[i, j] += a[k, ty + i * TY] * b[k, tx + j * TX]
    cuda.syncthreads()


@device
def _gradient(
    dy: Any, index: Any, image: int, p: Any, q: Any, o: int, outs: int, Q: int, MH: int, MW: int, pooled: bool
) -> Any:
    """The gradient of a convolution's output at pixel (p, q) of an image whose outputs begin at row `image`."""
    if not pooled:
        return dy[(image + p * Q + q) * outs + o]
    at = (image + p // MH * (Q // MW) + q // MW) * outs + o
    return dy[at] if index[at] == p % MH * MW + q % MW else dy.dtype.type(0)


def forward_kernel(pooled: bool) -> Any:
    """Rows are pixels of the result, the inner index is (kh, kw, i), columns are output channels.

    With pooling the product is made for each place in the pooling's windows, and of all the largest number is kept.
    """

    @kernel(f"T[::1], uint16[::1], T[::1], T[::1], T[::1], {_SIZES}, boolean, boolean, boolean")
    def forward(
        y: Any,
        index: Any,
        x: Any,
        weight: Any,
        bias: Any,
        sizes: tuple[int, ...],
        has_bias: bool,
        relu: bool,
        wants_index: bool,
    ) -> None:
        N, C, H, W, O, I, KH, KW, P, Q, SH, SW, PH, PW, DH, DW, MH, MW = sizes  # noqa: E741
        T = x.dtype.type
        a = cuda.shared.array((DEPTH, ROWS_1), x.dtype)
        b = cuda.shared.array((DEPTH, COLUMNS_1), x.dtype)
        pixels = cuda.shared.array((3, ROWS), int64)
        sums = cuda.local.array((RM, RN), x.dtype)
        best = cuda.local.array((RM, RN), x.dtype)
        places = cuda.local.array((RM, RN), int64)
        t, group, outs = cuda.threadIdx.x, cuda.blockIdx.z, O // (C // I)
        m0, o0, K = cuda.blockIdx.x * int64(ROWS), cuda.blockIdx.y * COLUMNS, KH * KW * I
        YH, YW = P // MH, Q // MW
        for r in range(t, ROWS, THREADS):
            m = m0 + r
            pixels[0, r] = m // (YH * YW) * H * W
            pixels[1, r] = m // YW % YH * MH * SH - PH if m < N * YH * YW else OUTSIDE
            pixels[2, r] = m % YW * MW * SW - PW
        cuda.syncthreads()
        for tap in range(MH * MW if pooled else 1):
            _clear(sums, T(0))
            for k0 in range(0, K, DEPTH):
                k = k0 + t % DEPTH
                dh, dw = tap // MW * SH + k // (KW * I) * DH, tap % MW * SW + k // I % KW * DW
                for r in range(t // DEPTH, ROWS, ROW_STEP):
                    h, w = pixels[1, r] + dh, pixels[2, r] + dw
                    seen = k < K and 0 <= h < H and 0 <= w < W
                    at = (pixels[0, r] + h * W + w) * C + group * I + k % I
                    a[t % DEPTH, r] = x[at] if seen else T(0)
                for e in range(t, B_SIZE, THREADS):
                    k, o = k0 + e // COLUMNS, o0 + e % COLUMNS
                    b[e // COLUMNS, e % COLUMNS] = weight[k * O + group * outs + o] if k < K and o < outs else T(0)
                _multiply(sums, a, b)
            for i in range(RM):
                for j in range(RN):
                    o = o0 + t % TX + j * TX
                    value = sums[i, j] + (bias[group * outs + o] if has_bias and o < outs else T(0))
                    if pooled:
                        if tap == 0 or value > best[i, j] or value != value:  # a NaN wins over all before it
                            best[i, j] = value
                            places[i, j] = tap
                    else:
                        best[i, j] = T(0) if relu and value <= T(0) else value
        for i in range(RM):
            for j in range(RN):
                m, o = m0 + t // TX + i * TY, o0 + t % TX + j * TX
                if m < N * YH * YW and o < outs:
                    if pooled:
                        positive = not best[i, j] <= T(0)
                        y[m * O + group * outs + o] = best[i, j] if positive else T(0)
                        if wants_index:
                            index[m * O + group * outs + o] = places[i, j] if positive else NOWHERE
                    else:
                        y[m * O + group * outs + o] = best[i, j]

    return forward


def backward_data_kernel(pooled: bool) -> Any:
    """Rows are pixels of the images, the inner index is (kh, kw, o), columns are input channels."""

    @kernel(f"T[::1], T[::1], T[::1], uint16[::1], {_SIZES}")
    def backward_data(dx: Any, dy: Any, weight: Any, index: Any, sizes: tuple[int, ...]) -> None:
        N, C, H, W, O, I, KH, KW, P, Q, SH, SW, PH, PW, DH, DW, MH, MW = sizes  # noqa: E741
        T = dy.dtype.type
        a = cuda.shared.array((DEPTH, ROWS_1), dy.dtype)
        b = cuda.shared.array((DEPTH, COLUMNS_1), dy.dtype)
        pixels = cuda.shared.array((3, ROWS), int64)
        sums = cuda.local.array((RM, RN), dy.dtype)
        t, group, outs = cuda.threadIdx.x, cuda.blockIdx.z, O // (C // I)
        m0, i0, K = cuda.blockIdx.x * int64(ROWS), cuda.blockIdx.y * COLUMNS, KH * KW * outs
        image_size = P // MH * (Q // MW)
        for r in range(t, ROWS, THREADS):
            m = m0 + r
            pixels[0, r] = m // (H * W) * image_size
            pixels[1, r] = m // W % H + PH if m < N * H * W else OUTSIDE
            pixels[2, r] = m % W + PW
        cuda.syncthreads()
        _clear(sums, T(0))
        for k0 in range(0, K, DEPTH):
            k = k0 + t % DEPTH
            tap, o = k // outs, group * outs + k % outs
            for r in range(t // DEPTH, ROWS, ROW_STEP):
                top, left = pixels[1, r] - tap // KW * DH, pixels[2, r] - tap % KW * DW
                p, q = top // SH if SH > 1 else top, left // SW if SW > 1 else left
                seen = k < K and 0 <= p < P and 0 <= q < Q and p * SH == top and q * SW == left
                a[t % DEPTH, r] = _gradient(dy, index, pixels[0, r], p, q, o, O, Q, MH, MW, pooled) if seen else T(0)
            for c in range(t // DEPTH, COLUMNS, ROW_STEP):
                seen = k < K and i0 + c < I
                b[t % DEPTH, c] = weight[(tap * I + i0 + c) * O + o] if seen else T(0)
            _multiply(sums, a, b)
        for i in range(RM):
            for j in range(RN):
                m, c = m0 + t // TX + i * TY, i0 + t % TX + j * TX
                if m < N * H * W and c < I:
                    dx[m * C + group * I + c] = sums[i, j]

    return backward_data


def backward_weights_kernel(pooled: bool) -> Any:
    """Rows are (kh, kw, i), the inner index is a pixel of the result, columns are output channels.

    blockIdx.x has the part of the pixels, blockIdx.y the tile.
    """

    @kernel(f"T[::1], T[::1], T[::1], uint16[::1], {_SIZES}")
    def backward_weights(parts: Any, dy: Any, x: Any, index: Any, sizes: tuple[int, ...]) -> None:
        N, C, H, W, O, I, KH, KW, P, Q, SH, SW, PH, PW, DH, DW, MH, MW = sizes  # noqa: E741
        T = dy.dtype.type
        a = cuda.shared.array((DEPTH, ROWS_1), dy.dtype)
        b = cuda.shared.array((DEPTH, COLUMNS_1), dy.dtype)
        pixels = cuda.shared.array((3, DEPTH), int64)
        sums = cuda.local.array((RM, RN), dy.dtype)
        t, part, group, outs = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockIdx.z, O // (C // I)
        K, across = KH * KW * I, (outs + COLUMNS - 1) // COLUMNS
        k0, o0 = cuda.blockIdx.y // across * ROWS, cuda.blockIdx.y % across * COLUMNS
        k = k0 + t % ROWS
        dh, dw, c = k // (KW * I) * DH - PH, k // I % KW * DW - PW, group * I + k % I
        image_size = P // MH * (Q // MW)
        end = first_row(N * P * Q, part + 1, cuda.gridDim.x)
        _clear(sums, T(0))
        for m0 in range(first_row(N * P * Q, part, cuda.gridDim.x), end, DEPTH):
            for s in range(t, DEPTH, THREADS):
                m = m0 + s
                pixels[0, s] = m // (P * Q) if m < end else -1
                pixels[1, s] = m // Q % P
                pixels[2, s] = m % Q
            cuda.syncthreads()
            for s in range(t // ROWS, DEPTH, DEPTH_STEP):
                h, w = pixels[1, s] * SH + dh, pixels[2, s] * SW + dw
                seen = k < K and pixels[0, s] >= 0 and 0 <= h < H and 0 <= w < W
                a[s, t % ROWS] = x[((pixels[0, s] * H + h) * W + w) * C + c] if seen else T(0)
            for e in range(t, B_SIZE, THREADS):
                s, o = e // COLUMNS, o0 + e % COLUMNS
                first, p, q = pixels[0, s] * image_size, pixels[1, s], pixels[2, s]
                seen = pixels[0, s] >= 0 and o < outs
                b[s, e % COLUMNS] = (
                    _gradient(dy, index, first, p, q, group * outs + o, O, Q, MH, MW, pooled) if seen else T(0)
                )
            _multiply(sums, a, b)
        for i in range(RM):
            for j in range(RN):
                k, o = k0 + t // TX + i * TY, o0 + t % TX + j * TX
                if k < K and o < outs:
                    parts[(part * K + k) * O + group * outs + o] = sums[i, j]

    return backward_weights


_forward, _backward_data, _backward_weights = (
    make(False) for make in (forward_kernel, backward_data_kernel, backward_weights_kernel)
)


def grid(rows: int, columns: int, groups: int) -> tuple[int, int, int]:
    """Tiles along rows and along columns, and groups."""
    return -(-rows // ROWS), -(-columns // COLUMNS), groups


def weights_by_parts(kernel: Any, dweight: Any, dy: Any, x: Any, index: Any, sizes: tuple[int, ...]) -> None:
    """Launch a gradient by weights, and add up its parts."""
    N, C, _, _, O, I, KH, KW, P, Q = sizes[:10]  # noqa: E741
    groups, K = C // I, KH * KW * I
    down, across, _ = grid(K, O // groups, groups)
    parts = max(1, min(BLOCKS // (down * across * groups), N * P * Q // SHORTEST))
    if parts == 1:
        kernel[(1, down * across, groups), THREADS](dweight, dy, x, index, sizes)
        return
    with scratch(dy.dtype, parts * K * O) as (sums,):
        kernel[(parts, down * across, groups), THREADS](sums, dy, x, index, sizes)
        added(dweight, sums, parts)


def conv2d(
    y: Any,
    x: Any,
    weight: Any,
    bias: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    relu: bool,
    dims: Sizes,
) -> None:
    """Each output is the weighted sum of its window, then ReLU if asked for."""
    sizes = sizes_of(dims, stride, padding, dilation)
    blocks = grid(dims["N"] * dims["P"] * dims["Q"], dims["O"] // groups, groups)
    if blocks[0]:
        args = nothing("uint16"), x, weight, or_else(bias, x), sizes, bias is not None, bool(relu), False
        _forward[blocks, THREADS](y, *args)


def conv2d_backward_data(
    dx: Any,
    dy: Any,
    weight: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    input_size: Pair,
    dims: Sizes,
) -> None:
    """Each pixel gathers, tap by tap, from the windows that saw it."""
    sizes = sizes_of(dims, stride, padding, dilation)
    blocks = grid(dims["N"] * dims["H"] * dims["W"], dims["I"], groups)
    if blocks[0]:
        _backward_data[blocks, THREADS](dx, dy, weight, nothing("uint16"), sizes)


def conv2d_backward_weights(
    dweight: Any,
    dbias: Any,
    dy: Any,
    x: Any,
    *,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    kernel_size: Pair,
    dims: Sizes,
) -> None:
    """Each weight's gradient is the product of what it saw and the output's gradient, summed over all windows."""
    if dweight is not None:
        sizes = sizes_of(dims, stride, padding, dilation)
        weights_by_parts(_backward_weights, dweight, dy, x, nothing("uint16"), sizes)
    if dbias is not None:
        column_sums(dbias, dy, dims["N"] * dims["P"] * dims["Q"], dims["O"])


@kernel("T[::1], T[::1], int64, int64")
def _channel_bias(y: Any, bias: Any, n: int, C: int) -> None:
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        y[i] = bias[i % C]


def channel_bias(y: Any, bias: Any, *, N: int, H: int, W: int, dims: Sizes) -> None:
    """Images that have a channel's bias everywhere."""
    over(_channel_bias, y.size, y, bias, y.size, dims["C"])


def channel_bias_backward(dbias: Any, dy: Any, *, dims: Sizes) -> None:
    """The sum over images and pixels."""
    column_sums(dbias, dy, dims["N"] * dims["H"] * dims["W"], dims["C"])
