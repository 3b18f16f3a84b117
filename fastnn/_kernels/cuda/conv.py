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
from .launch import SMALL, device, kernel, over
from .scratch import scratch
from .sums import nothing, or_else

Pair = tuple[int, int]
Sizes = dict[str, int]

TX, TY = (2, 2) if SMALL else (16, 16)  #: threads of a block, along columns and rows of its tile
RM, RN = (2, 1) if SMALL else (4, 4)  #: rows and columns of the tile that a thread has
DEPTH = 2 if SMALL else 16  #: inner indices at a time; divides THREADS
REGISTERS = 128  #: of a thread, so that a multiprocessor has room for two blocks
BLOCKS = 4 if SMALL else 512  #: on which a gradient by weights is spread, about
SHORTEST = 4 if SMALL else 256  #: pixels of one of its parts, at least
ROWS, COLUMNS, THREADS = TY * RM, TX * RN, TX * TY  #: ROWS divides THREADS
ROWS_1, COLUMNS_1 = ROWS + 1, COLUMNS + 1  # in shared memory, so that a column's numbers lie in different banks
ROW_STEP, DEPTH_STEP = THREADS // DEPTH, THREADS // ROWS
B_SIZE = DEPTH * COLUMNS
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


@kernel(f"T[::1], uint16[::1], T[::1], T[::1], T[::1], {_SIZES}, boolean, boolean, boolean", registers=REGISTERS)
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
    """Rows are pixels of the result, the inner index is (kh, kw, i), columns are output channels.

    With pooling the product is made for each place in the pooling's windows, and y keeps the largest number so far.
    """
    N, C, H, W, O, I, KH, KW, P, Q, SH, SW, PH, PW, DH, DW, MH, MW = sizes  # noqa: E741
    T = x.dtype.type
    a = cuda.shared.array((DEPTH, ROWS_1), x.dtype)
    b = cuda.shared.array((DEPTH, COLUMNS_1), x.dtype)
    pixels = cuda.shared.array((3, ROWS), int64)
    sums = cuda.local.array((RM, RN), x.dtype)
    t, group, outs = cuda.threadIdx.x, cuda.blockIdx.z, O // (C // I)
    m0, o0, K = cuda.blockIdx.x * int64(ROWS), cuda.blockIdx.y * COLUMNS, KH * KW * I
    YH, YW = P // MH, Q // MW
    for r in range(t, ROWS, THREADS):
        m = m0 + r
        pixels[0, r] = m // (YH * YW) * H * W
        pixels[1, r] = m // YW % YH * MH * SH - PH if m < N * YH * YW else OUTSIDE
        pixels[2, r] = m % YW * MW * SW - PW
    cuda.syncthreads()
    for tap in range(MH * MW):
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
                m, o = m0 + t // TX + i * TY, o0 + t % TX + j * TX
                if m < N * YH * YW and o < outs:
                    at, place = m * O + group * outs + o, tap
                    value = sums[i, j] + (bias[group * outs + o] if has_bias else T(0))
                    if tap > 0 and not (value > y[at] or value != value):  # a NaN wins over all before it
                        value = y[at]
                        place = index[at] if wants_index else tap
                    if relu and tap == MH * MW - 1 and value <= T(0):
                        value, place = T(0), NOWHERE
                    y[at] = value
                    if wants_index:
                        index[at] = place


@kernel(f"T[::1], T[::1], T[::1], uint16[::1], {_SIZES}, boolean", registers=REGISTERS)
def backward_data(dx: Any, dy: Any, weight: Any, index: Any, sizes: tuple[int, ...], pooled: bool) -> None:
    """Rows are pixels of the images, the inner index is (kh, kw, o), columns are input channels."""
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


@kernel(f"T[::1], T[::1], T[::1], uint16[::1], {_SIZES}, boolean", registers=REGISTERS)
def backward_weights(parts: Any, dy: Any, x: Any, index: Any, sizes: tuple[int, ...], pooled: bool) -> None:
    """Rows are (kh, kw, i), the inner index is a pixel of the result, columns are output channels.

    blockIdx.x has the part of the pixels, blockIdx.y the tile.
    """
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


def _tiles(rows: int, columns: int, groups: int) -> tuple[int, int, int]:
    """How many tiles lie along rows and along columns, and for how many groups."""
    return -(-rows // ROWS), -(-columns // COLUMNS), groups


def launch_forward(y: Any, index: Any, x: Any, weight: Any, bias: Any, sizes: tuple[int, ...], relu: bool) -> None:
    """y of a convolution, pooled if `sizes` say so; index: where the maxima are, or None."""
    N, C, _, _, O, I, _, _, P, Q = sizes[:10]  # noqa: E741
    blocks = _tiles(N * (P // sizes[-2]) * (Q // sizes[-1]), O * I // C, C // I)
    if blocks[0]:
        arrays = y, or_else(index, nothing("uint16")), x, weight, or_else(bias, x)
        forward[blocks, THREADS](*arrays, sizes, bias is not None, relu, index is not None)


def launch_backward_data(dx: Any, dy: Any, weight: Any, index: Any, sizes: tuple[int, ...]) -> None:
    """dx of a convolution; index: where the maxima are if it was pooled, else None."""
    N, C, H, W, _, I = sizes[:6]  # noqa: E741
    blocks = _tiles(N * H * W, I, C // I)
    if blocks[0]:
        arrays = dx, dy, weight, or_else(index, nothing("uint16"))
        backward_data[blocks, THREADS](*arrays, sizes, index is not None)


def launch_backward_weights(dweight: Any, dy: Any, x: Any, index: Any, sizes: tuple[int, ...]) -> None:
    """dweight of a convolution, by parts; index: where the maxima are if it was pooled, else None."""
    N, C, _, _, O, I, KH, KW, P, Q = sizes[:10]  # noqa: E741
    down, across, groups = _tiles(KH * KW * I, O * I // C, C // I)
    parts = max(1, min(BLOCKS // (down * across * groups), N * P * Q // SHORTEST))
    args = dy, x, or_else(index, nothing("uint16")), sizes, index is not None
    if parts == 1:
        backward_weights[(1, down * across, groups), THREADS](dweight, *args)
        return
    with scratch(dy.dtype, parts * dweight.size) as (sums,):
        backward_weights[(parts, down * across, groups), THREADS](sums, *args)
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
    launch_forward(y, None, x, weight, bias, sizes_of(dims, stride, padding, dilation), bool(relu))


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
    launch_backward_data(dx, dy, weight, None, sizes_of(dims, stride, padding, dilation))


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
        launch_backward_weights(dweight, dy, x, None, sizes_of(dims, stride, padding, dilation))
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
