"""What a call of a kernel has to do: floating-point operations and bytes."""

from __future__ import annotations

from .inputs import Call


def flops(call: Call) -> int:
    """Floating-point operations of a call, a product and its sum being two; 0 for rows that only move memory.

    Only useful ones count: products with a convolution's padding do not, so skipping them earns nothing.
    """
    d, name = call.sizes, call.kernel.name
    if name.startswith("attention"):
        products = 5 if name.endswith("_backward") else 2
        return products * 2 * d["N"] * d["E"] * _attended(call)
    if name.startswith("linear_attention"):  # from every key and to every query, by a matrix of a head's numbers
        keys, queries = (3, 2) if name.endswith("_backward") else (1, 1)
        D: int = d["E"] // call.params["heads"]
        return 2 * d["N"] * (keys * d["S"] + queries * d["T"]) * d["E"] * D
    if name.startswith("mix_steps"):
        return 2 * d["N"] * d["R"] * d["S"] * d["E"]
    if name.startswith("linear"):
        return 2 * d["N"] * d["I"] * d["O"]
    if name.startswith("conv2d"):
        return 2 * d["N"] * d["O"] * d["I"] * _taps(d, "H", "P") * _taps(d, "W", "Q")
    return 0


def _attended(call: Call) -> int:
    """How many pairs of a query and a key there are that go together."""
    T, S = call.sizes["T"], call.sizes["S"]
    return sum(min(t + 1, S) for t in range(T)) if call.params["causal"] else T * S


def _taps(d: dict[str, int], axis: str, out: str) -> int:
    """Along one axis, how many pairs of an output and a tap of its window lie inside the image."""
    return sum(
        0 <= p * d["S" + axis] - d["P" + axis] + tap * d["D" + axis] < d[axis]
        for p in range(d[out])
        for tap in range(d["K" + axis])
    )


#: What a row cannot but read twice: dx takes sums over all of dy and x.
TWICE = {"batch_norm_backward": ("dy", "x")}


def bytes_moved(call: Call) -> int:
    """Bytes that a call reads and writes, every array once, those changed in place and those of `TWICE` twice."""
    twice = TWICE.get(call.kernel.name, ())
    again = (
        a.nbytes
        for arg, a in zip(call.kernel.inputs, call.inputs, strict=True)
        if a is not None and (arg.inout or arg.name in twice)
    )
    moved: int = footprint(call) + sum(again)
    return moved


def footprint(call: Call) -> int:
    """Bytes of the working set of a call: every array once, whether it is read, written or both.

    A row that selects counts what it selects: `gather_rows` reads as much as it writes.
    """
    total: int = sum(a.nbytes for a in call.targets)
    for arg, a in zip(call.kernel.inputs, call.inputs, strict=True):
        if a is None:
            continue
        selects = call.kernel.name == "gather_rows" and arg.name == "x"
        total += call.targets[0].nbytes if selects else a.nbytes
    return total


def calls_in(seconds: float, call: Call) -> int:
    """About how often a kernel of moderate speed can be called in so many seconds: from 1 to 1000 times."""
    once = max(flops(call) / 5e10, bytes_moved(call) / 2e10, 1e-7)
    return min(1000, max(1, round(seconds / once)))
