"""What all CUDA kernels share: how they are defined and launched, and sums over a block.

Kernels go through their work in strides of the whole grid, ``for i in range(cuda.grid(1), n, cuda.gridsize(1))``, so
that any grid computes all of it. On Numba's simulator (NUMBA_ENABLE_CUDASIM=1), where each CUDA thread is a Python
thread, grids and tiles are therefore small; nothing else differs there but `block_sum`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import config, cuda

config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # at every launch of a small grid, which small networks are full of

SIMULATED = bool(config.ENABLE_CUDASIM)
#: Whether blocks, grids and tiles are small: on the simulator, unless a test asks for those that a GPU gets.
SMALL = SIMULATED and os.environ.get("FASTNN_CUDASIM") != "full"
WARP = 32
BLOCK = 4 if SMALL else 256  #: threads of a block in kernels over one index; a power of two
MOST_BLOCKS = 2 if SMALL else 4096
MOST_TILES = 1 if SMALL else 65535  #: blocks along a side of a grid of tiles; no GPU takes more
PARTS = 2 if SMALL else 256  #: blocks of the first of two passes of a sum, at most; see `parts`


class Defined(NamedTuple):
    """A kernel and the types of its arguments, for tests that compile all of them without a GPU."""

    function: Callable[..., None]  #: as it was written
    signatures: tuple[str, ...]


#: Every CUDA kernel there is.
KERNELS: list[Defined] = []


def kernel(*signatures: str, registers: int | None = None) -> Callable[[Callable[..., None]], Any]:
    """Make a CUDA kernel of a function: ``@kernel("T[::1], T[::1], int64")``, T being float32 and float64.

    It is compiled when it is first launched, for the types it then gets; a signature is what tests compile it for.
    registers: how many of them a thread may have, so that more blocks have room; None for any.
    """
    options = {} if SIMULATED else {"max_registers": registers}

    def define(function: Callable[..., None]) -> Any:
        expanded = (re.sub(r"\bT\b", real, s) for s in signatures for real in ("float32", "float64"))
        KERNELS.append(Defined(function, tuple(dict.fromkeys(f"void({s})" for s in expanded))))
        return cuda.jit(function, **options)

    return define


def device(function: Callable[..., Any]) -> Any:
    """Make a function that kernels can call."""
    return cuda.jit(device=True)(function)


def check_device() -> None:
    """Raise RuntimeError, which says what was looked for, unless there is a GPU (or the simulator of one)."""
    if cuda.is_available():
        return
    error = cuda.cuda_error()
    if error is None:
        raise RuntimeError(
            "device 'cuda': NVIDIA's driver is there, but not the compiler NVVM; that of CUDA 13 comes by "
            'pip install "fastnn[cuda]", that of CUDA 12, for older drivers, by pip install "fastnn[cuda12]"'
        )
    reason = " ".join(str(error).split()).rstrip(".: ")
    raise RuntimeError(
        "device 'cuda': no NVIDIA GPU can be used here. Looked for: NVIDIA's driver (libcuda, nvcuda.dll), and a GPU "
        f"that it and CUDA_VISIBLE_DEVICES show. Numba says: {reason}. The same model runs on device 'cpu'"
    )


def over(kernel: Any, n: int, *args: Any, blocks: int = MOST_BLOCKS) -> None:
    """Launch a kernel over n numbers, in blocks of BLOCK threads; nothing for none. `args` are all its arguments."""
    if n:
        kernel[min(blocks, -(-n // BLOCK)), BLOCK](*args)


def tiles(kernel: Any, rows: int, columns: int, size: int, *args: Any) -> None:
    """Launch a kernel over the tiles of a matrix, in blocks of size × size threads: x along a row, y down a column."""
    if rows and columns:
        grid = min(MOST_TILES, -(-columns // size)), min(MOST_TILES, -(-rows // size))
        kernel[grid, (size, size)](*args)


def parts(n: int) -> int:
    """In how many partial sums n numbers are added up: by n alone, so that the bits are the same each time."""
    return max(1, min(PARTS, -(-n // BLOCK)))


if SIMULATED:

    @device
    def block_sum(value: float) -> float:
        """The sum of all threads' values, in float64, at thread 0; every thread of a block of BLOCK has to call it."""
        shared = cuda.shared.array(BLOCK, "float64")
        shared[cuda.threadIdx.x] = value
        cuda.syncthreads()
        total = 0.0
        if cuda.threadIdx.x == 0:
            for i in range(BLOCK):
                total += shared[i]
        cuda.syncthreads()  # before another sum uses the same memory
        return total

else:
    WARPS = BLOCK // WARP  # the size of shared memory must be one number

    @device
    def block_sum(value: float) -> float:
        """The sum of all threads' values, in float64, at thread 0; every thread of a block of BLOCK has to call it."""
        shared = cuda.shared.array(WARPS, "float64")
        lane, warp = cuda.threadIdx.x % WARP, cuda.threadIdx.x // WARP
        total = float(value)
        distance = WARP // 2
        while distance:
            total += cuda.shfl_down_sync(0xFFFFFFFF, total, distance)
            distance //= 2
        if lane == 0:
            shared[warp] = total
        cuda.syncthreads()
        total = 0.0
        if cuda.threadIdx.x == 0:
            for i in range(WARPS):
                total += shared[i]
        cuda.syncthreads()  # before another sum uses the same memory
        return total
