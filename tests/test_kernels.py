"""The contract of the kernel table: every backend computes what the reference does, and touches nothing else.

A backend may differ by ``tolerance * (1 + |expected|)``, the tolerance being the row's, and where that is 0 by nothing,
but for denormal numbers, which a backend may take as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_inputs import (
    ACTIVATIONS,
    LAYOUTS,
    SPECIAL,
    Guarded,
    Inputs,
    Sample,
    dtypes,
    guarded,
    laid_out,
    make,
    order_of,
    sample_id,
    shape_of,
    sprinkle,
    tolerance,
)

from fastnn._errors import DTypeError, ShapeError
from fastnn._kernels import TABLE, backends, get_num_threads, set_num_threads
from fastnn._kernels.kernel import REAL, Arg, Array, Backend, Kernel, using
from fastnn._kernels.reference.conv_pool import NOWHERE
from fastnn._kernels.table import window_count


def every_backend_here() -> dict[str, Backend]:
    """The reference, and the native kernels of every instruction set that this machine runs."""
    found = {"reference": backends()["reference"]}
    if "native" in backends():
        from fastnn._kernels.native import NativeBackend, _runtime

        found |= {f"native-{isa}": NativeBackend(isa) for isa in _runtime.runnable()}
    return found


BACKENDS = every_backend_here()

every_backend = pytest.mark.parametrize("backend", BACKENDS)
every_native = pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "reference"])
every_dtype = pytest.mark.parametrize("dtype", REAL)


def every_case(wanted: Callable[[Kernel, str], bool] = lambda kernel, dtype: True) -> pytest.MarkDecorator:
    """One test for each sample and dtype of the rows wanted."""
    return pytest.mark.parametrize(
        "name,sample,dtype",
        [
            pytest.param(kernel.name, sample, dtype, id=f"{kernel.name}-{sample_id(sample)}-{dtype}")
            for kernel in TABLE.values()
            for dtype in dtypes(kernel)
            if wanted(kernel, dtype)
            for sample in kernel.samples
        ],
    )


def call(backend: str, kernel: Kernel, inputs: Sequence[Array | None], params: Any, out: Any = None) -> tuple[Any, ...]:
    """The kernel's outputs on a backend; `out` is None or one target for each output."""
    if out is not None and len(kernel.outputs) == 1:
        (out,) = out
    with using(BACKENDS[backend]):
        result = kernel(*inputs, out=out, **params)
    if result is None and not kernel.outputs:
        return ()
    return result if isinstance(result, tuple) else (result,)


def reference(kernel: Kernel, inputs: Sequence[Array | None], params: Any) -> tuple[tuple[Array, ...], Inputs]:
    """The outputs as they should be, and the inputs as they should be afterwards."""
    copies = [None if a is None else a.copy() for a in inputs]
    return call("reference", kernel, copies, params), copies


def assert_close(what: str, found: Array, expected: Array, tolerance: float) -> None:
    """The same shape, dtype, NaNs and infinities, and else no further apart than the contract allows."""
    assert found.shape == expected.shape, what
    assert found.dtype == expected.dtype, what
    if found.dtype.name not in REAL:
        assert np.array_equal(found, expected), what
        return
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite], what)
    f, e = found[finite], expected[finite]
    with np.errstate(invalid="ignore"):  # found may be infinite where it should not be
        worst = np.max((np.abs(f - e) - np.finfo(found.dtype).tiny) / (1 + np.abs(e)), initial=0.0)
    assert worst <= tolerance, f"{what}: differs by {worst:.2g} of 1 + |expected|, more than {tolerance:.2g}"


def assert_outputs(
    what: str, kernel: Kernel, found: Sequence[Array | None], expected: Sequence[Array], allowed: float
) -> None:
    assert len(found) == len(kernel.outputs)
    for arg, f, e in zip(kernel.outputs, found, expected, strict=True):
        assert f is not None, f"{what}: no {arg.name}"
        if arg.dtype == "any":  # moved, not computed: the very bits
            assert (f.shape, f.dtype, f.tobytes()) == (e.shape, e.dtype, e.tobytes()), f"{what}: {arg.name}"
        else:
            assert_close(f"{what}: {arg.name}", f, e, allowed)


def assert_contract(backend: str, kernel: Kernel, inputs: Inputs, params: Any, dtype: str, layout: str) -> None:
    """One call on inputs in one layout: the reference's results, inputs as they were, nothing written around them."""
    guards = laid_out(kernel, inputs, params, layout)
    views = [None if g is None else g.view for g in guards]
    expected, after = reference(kernel, views, params)
    before = [None if g is None else g.whole.tobytes() for g in guards]
    found = call(backend, kernel, views, params)

    assert_outputs(layout, kernel, found, expected, tolerance(kernel, dtype))
    for arg, g, bytes_before, a in zip(kernel.inputs, guards, before, after, strict=True):
        if g is None or a is None:
            continue
        if arg.inout:
            assert_close(f"{layout}: {arg.name} afterwards", g.view, a, tolerance(kernel, dtype))
            g.assert_surroundings(f"{layout}: {arg.name}")
        else:
            assert g.whole.tobytes() == bytes_before, f"{layout}: {arg.name} has changed"
        for result in found:
            assert not np.shares_memory(result, g.whole), f"{layout}: the result lies in {arg.name}"


# --- every row, sample and dtype ------------------------------------------------------------------------------------


@every_backend
@every_case()
def test_result_in_every_layout(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype)
    for layout in (*LAYOUTS, "mixed"):
        assert_contract(backend, kernel, inputs, params, dtype, layout)


@every_backend
@every_case(lambda kernel, dtype: any(arg.optional for arg in kernel.inputs))
def test_optional_inputs(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=1)
    for i, arg in enumerate(kernel.inputs):
        if arg.optional:
            assert_contract(backend, kernel, [*inputs[:i], None, *inputs[i + 1 :]], params, dtype, "stored")


@every_native
@every_case(lambda kernel, dtype: kernel.name in SPECIAL and dtype in REAL)
def test_special_values(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=2)
    for share in (0.0, 0.02, 0.7):
        assert_contract(backend, kernel, sprinkle(kernel, inputs, share), params, dtype, "stored")


def new_targets(kernel: Kernel, sample: Sample, params: Any, dtype: str, layout: str) -> list[Guarded]:
    """Memory for each output, full of what must not survive."""

    def new(arg: Arg) -> Guarded:
        kind = dtype if arg.dtype in ("real", "any") else arg.dtype
        return guarded(shape_of(arg, sample), kind, layout, order_of(arg, params))

    return [new(arg) for arg in kernel.outputs]


@every_backend
@every_case(lambda kernel, dtype: bool(kernel.outputs))
def test_out_receives_the_result(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=3)
    expected, _ = reference(kernel, inputs, params)
    for layout, as_pair in product(LAYOUTS[:-1], (False, True)):
        targets = new_targets(kernel, sample, params, dtype, layout)
        out = [(g.view, False) if as_pair else g.view for g in targets]
        found = call(backend, kernel, [None if a is None else a.copy() for a in inputs], params, out)
        assert_outputs(layout, kernel, found, expected, tolerance(kernel, dtype))
        for arg, g, f in zip(kernel.outputs, targets, found, strict=True):
            assert f is g.view, f"{layout}: {arg.name} is another array than out"
            g.assert_surroundings(f"{layout}: {arg.name}")


@every_backend
@every_case(lambda kernel, dtype: bool(kernel.outputs) and kernel.name != "next_key" and dtype in REAL)
def test_out_is_added_to(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=4)
    results, _ = reference(kernel, inputs, params)
    addable = [arg.dtype != "uint16" for arg in kernel.outputs]  # a place in a window is nothing to add
    for layout in ("stored", "logical", "strided"):
        targets = new_targets(kernel, sample, params, dtype, layout)
        rng = np.random.default_rng(5)
        expected, out = [], []
        for g, result, add in zip(targets, results, addable, strict=True):
            if add:
                g.view[...] = rng.integers(-8, 9, g.view.shape)  # exact, and of the size of a result
            expected.append(g.view + result if add else result)
            out.append((g.view, add))
        found = call(backend, kernel, [None if a is None else a.copy() for a in inputs], params, out)
        for arg, g, f, e, r in zip(kernel.outputs, targets, found, expected, results, strict=True):
            assert f is g.view
            # The sum may have been begun with what was there, so its size counts too.
            size = 8 + float(np.nan_to_num(np.abs(r)).max(initial=0.0))
            extra = 4 * np.finfo(f.dtype).eps * size if tolerance(kernel, dtype) and f.dtype.name in REAL else 0.0
            assert_close(f"{layout}: {arg.name}", f, e, tolerance(kernel, dtype) + extra)
            g.assert_surroundings(f"{layout}: {arg.name}")


@every_backend
@every_case(lambda kernel, dtype: any(arg.optional for arg in kernel.outputs))
def test_outputs_left_out(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=6)
    expected, _ = reference(kernel, inputs, params)
    for out in product(*[(None, False) if arg.optional else (None,) for arg in kernel.outputs]):
        found = call(backend, kernel, [None if a is None else a.copy() for a in inputs], params, out)
        wanted = [target is None for target in out]
        assert [f is not None for f in found] == wanted
        for arg, f, e, there in zip(kernel.outputs, found, expected, wanted, strict=True):
            if there:
                assert_close(arg.name, f, e, tolerance(kernel, dtype))


@every_native
@every_case()
def test_same_call_gives_the_same_bits(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=7)
    first, *others = (
        [f.tobytes() for f in call(backend, kernel, [None if a is None else a.copy() for a in inputs], params)]
        for _ in range(3)
    )
    assert all(other == first for other in others)


FUSED = ("conv2d_max_pool2d", "conv2d_max_pool2d_backward_data", "conv2d_max_pool2d_backward_weights")

#: Large enough for every way in which a backend may cut its work, into blocks, into parts and among threads.
LARGE: tuple[tuple[tuple[str, ...], Sample], ...] = (
    (("linear", "linear_backward_data", "linear_backward_weights"), {"N": 200, "I": 300, "O": 150, "relu": False}),
    (("linear_backward_data", "linear_backward_weights"), {"N": 1100, "I": 300, "O": 150}),
    (("linear",), {"N": 200, "I": 1100, "O": 70, "relu": True}),
    (("linear",), {"N": 300, "I": 1100, "O": 70, "relu": True}),
    (("linear",), {"N": 260, "I": 19, "O": 73, "relu": False}),
    (("linear",), {"N": 150, "I": 900, "O": 20, "relu": True}),
    *(
        (
            ("conv2d", "conv2d_backward_data", "conv2d_backward_weights", *FUSED),
            sample | {"stride": (1, 1), "dilation": (1, 1), "relu": True, "pool_size": (2, 2)},
        )
        for sample in (
            {"N": 40, "C": 8, "H": 20, "W": 20, "O": 16, "KH": 3, "KW": 3, "padding": (0, 0), "groups": 1},
            {"N": 33, "C": 8, "H": 18, "W": 21, "O": 40, "KH": 3, "KW": 3, "padding": (1, 1), "groups": 1},
            {"N": 30, "C": 8, "H": 20, "W": 20, "O": 16, "KH": 3, "KW": 3, "padding": (1, 0), "groups": 2},
            {"N": 1, "C": 3, "H": 64, "W": 67, "O": 24, "KH": 5, "KW": 5, "padding": (2, 2), "groups": 1},
            {"N": 10, "C": 70, "H": 7, "W": 8, "O": 440, "KH": 3, "KW": 3, "padding": (1, 1), "groups": 1},
        )
    ),
    (
        ("max_pool2d", "max_pool2d_backward"),
        {
            **{"N": 20, "C": 33, "H": 25, "W": 24, "kernel_size": (3, 3), "stride": (2, 2)},
            **{"padding": (1, 1), "dilation": (1, 1), "ceil_mode": True},
        },
    ),
    (("relu", "relu_backward", "dropout", "copy"), {"shape": (50, 33, 13, 11), "p": 0.3, "channels_last": True}),
    (
        ("batch_norm_statistics", "batch_norm", "batch_norm_backward"),
        {"N": 20, "C": 70, "H": 13, "W": 11, "relu": True, "train": True, "eps": 1e-5},
    ),
    (
        ("batch_norm_statistics", "batch_norm", "batch_norm_backward"),
        {"N": 300, "C": 517, "H": 1, "W": 1, "relu": False, "train": True, "eps": 1e-5},
    ),
    (("layer_norm", "layer_norm_backward"), {"N": 300, "D": 390, "eps": 1e-5}),
    (
        (
            "softmax",
            "softmax_backward",
            "log_softmax",
            "log_softmax_backward",
            "cross_entropy",
            "soft_cross_entropy",
            "nll",
            "multi_margin",
            "count_correct",
            "count_agreeing",
        ),
        {
            **{"N": 2000, "K": 50, "S": 1000, "mean": True, "positions": 2, "ignore_index": 7, "label_smoothing": 0.1},
            **{"class_mean": True, "p": 1, "margin": 1.0},
        },
    ),
    (
        ("mse", "l1", "huber", "bce_with_logits", "count_signs"),
        {"N": 70, "shape": (30, 67), "D": 2010, "mean": True, "factor": 0.5, "delta": 1.0},
    ),
    (("l2_penalty", "scale"), {"n": 200_001, "shape": (300, 301), "factor": 0.5}),
    (("sgd", "rmsprop", "adagrad", "adam"), {"n": 200_001, "T": 4}),
    (("power_sum", "clip_by_scale", "clip_by_value"), {"n": 200_001, "norm_type": 2.0, "limit": 0.5}),
    (("gelu", "gelu_backward"), {"shape": (50, 33, 13, 11)}),  # of which the other activations differ by the formula
    (("dropout2d",), {"N": 40, "C": 33, "H": 20, "W": 11, "p": 0.3}),
    (("embedding_backward",), {"B": 700, "D": 300, "M": 90, "num_embeddings": 90, "padding_idx": 2}),
    (
        ("recurrence", "recurrence_backward"),
        {
            **{"A": 70, "B": 6, "N": 70, "H": 90, "G": 270, "S": 90, "K": 360},
            **{"cell": 3, "batch_first": True, "reverse": True},
        },
    ),
    (
        ("attention", "attention_backward"),
        {"N": 3, "T": 150, "S": 200, "E": 96, "A": 3, "heads": 3, "causal": False},
    ),
    (
        ("attention", "attention_backward", "attention_dropout", "attention_dropout_backward"),
        {"N": 2, "T": 150, "S": 150, "E": 80, "A": 2, "heads": 2, "causal": True, "p": 0.2},
    ),
    (
        ("linear_attention", "linear_attention_backward"),
        {"N": 2, "T": 200, "S": 200, "E": 160, "A": 2, "heads": 2, "causal": True},
    ),
    (
        ("mix_steps", "mix_steps_backward_data", "mix_steps_backward_weights"),
        {"N": 3, "S": 200, "E": 150, "R": 40, "M": 300, "max_length": 300, "length": 200},
    ),
    (("zero_padding",), {"N": 70, "T": 30, "E": 100}),
    (("gather_rows",), {"M": 1000, "B": 900, "shape": (13, 17)}),
    (
        ("avg_pool2d", "avg_pool2d_backward"),
        {
            **{"N": 20, "C": 33, "H": 25, "W": 24, "kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)},
            **{"dilation": (1, 1), "ceil_mode": True, "count_include_pad": False, "divisor": 0},
        },
    ),
    (
        ("adaptive_avg_pool2d", "adaptive_avg_pool2d_backward"),
        {"N": 3, "C": 70, "H": 90, "W": 80, "P": 7, "Q": 20},
    ),
    (("channel_bias", "channel_bias_backward"), {"N": 9, "C": 70, "H": 30, "W": 20}),
    (("add",), {"shape": (50, 33, 13, 11), "relu": True}),
    (("concatenate",), {"R": 900, "K0": 64, "K1": 100, "K2": 3, "K3": 90, "K": 257}),
    (("columns",), {"R": 2000, "K": 257, "B": 90, "start": 3, "count": 90}),
    (
        ("random_crop", "random_crop_backward"),
        {
            **{"N": 130, "C": 3, "H": 32, "W": 30, "size": (32, 30), "P": 32, "Q": 30},
            **{"padding": (4, 3), "fill": 0.5},
        },
    ),
    (("random_flip", "cutout"), {"N": 130, "C": 3, "H": 32, "W": 30, "p": 0.5, "size": (8, 9), "fill": 0.5}),
)


@every_native
@every_dtype
@pytest.mark.parametrize(
    "name,sample",
    [pytest.param(name, sample, id=f"{name}-{sample_id(sample)}") for names, sample in LARGE for name in names],
)
def test_large_sizes_on_any_number_of_threads(backend: str, name: str, sample: Sample, dtype: str) -> None:
    kernel = TABLE[name]
    inputs, params = make(kernel, sample, dtype, seed=8)
    expected, after = reference(kernel, inputs, params)
    before = get_num_threads()
    bits = set()
    try:
        for threads in (1, 2, 3):
            set_num_threads(threads)
            copies = [None if a is None else a.copy() for a in inputs]
            found = call(backend, kernel, copies, params)
            assert_outputs(f"{threads} threads", kernel, found, expected, tolerance(kernel, dtype))
            for a, copied in zip(after, copies, strict=True):
                if a is not None and copied is not None:
                    assert_close(f"{threads} threads, inputs", copied, a, tolerance(kernel, dtype))
            bits.add(b"".join(a.tobytes() for a in (*found, *copies) if a is not None))
    finally:
        set_num_threads(before)
    assert len(bits) == 1, "the bits depend on the number of threads"


# --- random shapes --------------------------------------------------------------------------------------------------

small = settings(max_examples=40, deadline=None)
layouts = st.sampled_from((*LAYOUTS, "mixed"))
reals = st.sampled_from(REAL)


def sizes(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


@st.composite
def windowed(draw: st.DrawFn) -> dict[str, Any]:
    """Image, kernel, stride, padding and dilation that go together, as a sample."""
    kernel = draw(st.tuples(sizes(1, 5), sizes(1, 5)))
    padding = draw(st.tuples(sizes(0, kernel[0] // 2), sizes(0, kernel[1] // 2)))
    dilation = draw(st.tuples(sizes(1, 3), sizes(1, 3)))
    least = [max(d, d * (k - 1) + 1 - 2 * p) for k, p, d in zip(kernel, padding, dilation, strict=True)]
    return {
        "N": draw(sizes(0, 5)),
        "H": draw(sizes(least[0], least[0] + 8)),
        "W": draw(sizes(least[1], least[1] + 8)),
        "kernel_size": kernel,
        "stride": draw(st.tuples(sizes(1, 4), sizes(1, 4))),
        "padding": padding,
        "dilation": dilation,
    }


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    groups = draw(st.sampled_from((1, 1, 1, 2, 3)))
    sample = draw(windowed())
    KH, KW = sample.pop("kernel_size")
    return sample | {
        "C": groups * draw(sizes(1, 9)),
        "O": groups * draw(sizes(1, 40)),
        "KH": KH,
        "KW": KW,
        "groups": groups,
        "relu": draw(st.booleans()),
    }


@st.composite
def fused_convolutions(draw: st.DrawFn) -> dict[str, Any]:
    sample = draw(convolutions())
    counts = (
        window_count(sample[size], sample[kernel], *(sample[name][i] for name in ("stride", "padding", "dilation")))
        for i, (size, kernel) in enumerate((("H", "KH"), ("W", "KW")))
    )
    return sample | {"pool_size": tuple(draw(sizes(1, min(count, 3))) for count in counts)}


@st.composite
def poolings(draw: st.DrawFn) -> dict[str, Any]:
    return draw(windowed()) | {"C": draw(sizes(1, 40)), "ceil_mode": draw(st.booleans())}


shapes = st.lists(sizes(0, 9), min_size=0, max_size=5).map(tuple)
images = st.tuples(sizes(0, 4), sizes(1, 20), sizes(1, 9), sizes(1, 9))


@every_backend
@small
@given(n=sizes(0, 70), i=sizes(0, 140), o=sizes(1, 140), dtype=reals, layout=layouts, seed=sizes(0, 99))
def test_linear_of_any_size(backend: str, n: int, i: int, o: int, dtype: str, layout: str, seed: int) -> None:
    for name in ("linear", "linear_backward_data", "linear_backward_weights"):
        inputs, params = make(TABLE[name], {"N": n, "I": i, "O": o, "relu": seed % 2 > 0}, dtype, seed)
        assert_contract(backend, TABLE[name], inputs, params, dtype, layout)


@every_backend
@small
@given(sample=convolutions(), dtype=reals, layout=layouts, seed=sizes(0, 99))
def test_conv2d_of_any_size(backend: str, sample: Sample, dtype: str, layout: str, seed: int) -> None:
    for name in ("conv2d", "conv2d_backward_data", "conv2d_backward_weights"):
        inputs, params = make(TABLE[name], sample, dtype, seed)
        assert_contract(backend, TABLE[name], inputs, params, dtype, layout)


@every_backend
@small
@given(sample=fused_convolutions(), dtype=reals, layout=layouts, seed=sizes(0, 99))
def test_conv2d_max_pool2d_of_any_size(backend: str, sample: Sample, dtype: str, layout: str, seed: int) -> None:
    for name in FUSED:
        inputs, params = make(TABLE[name], sample, dtype, seed)
        assert_contract(backend, TABLE[name], inputs, params, dtype, layout)


@every_backend
@small
@given(sample=fused_convolutions(), dtype=reals, share=st.sampled_from((0.0, 0.1)), seed=sizes(0, 99))
def test_fused_rows_give_the_bits_of_separate_ones(
    backend: str, sample: Sample, dtype: str, share: float, seed: int
) -> None:
    kernel = TABLE["conv2d_max_pool2d"]
    inputs, params = make(kernel, sample, dtype, seed)
    inputs = sprinkle(kernel, inputs, share) if share else inputs
    y, index = call(backend, kernel, inputs, params)

    how = {name: params[name] for name in ("stride", "padding", "dilation", "groups")}
    pool = POOL | {"kernel_size": params["pool_size"], "stride": params["pool_size"]}
    (conv,) = call(backend, TABLE["conv2d"], inputs, how | {"relu": False})
    largest, place = call(backend, TABLE["max_pool2d"], [conv], pool)
    (expected,) = call(backend, TABLE["relu"], [largest], {})
    assert y.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(index, np.where(largest <= 0, NOWHERE, place))
    (rectified,) = call(backend, TABLE["conv2d"], inputs, how | {"relu": True})
    assert rectified.tobytes() == call(backend, TABLE["relu"], [conv], {})[0].tobytes()


@every_backend
@small
@given(sample=poolings(), dtype=reals, layout=layouts, seed=sizes(0, 99))
def test_max_pool2d_of_any_size(backend: str, sample: Sample, dtype: str, layout: str, seed: int) -> None:
    kernel = TABLE["max_pool2d"]
    inputs, params = make(kernel, sample, dtype, seed)
    assert_contract(backend, kernel, inputs, params, dtype, layout)
    assert_contract(backend, kernel, sprinkle(kernel, inputs, 0.5), params, dtype, layout)
    kernel = TABLE["max_pool2d_backward"]
    inputs, params = make(kernel, sample, dtype, seed)
    assert_contract(backend, kernel, inputs, params, dtype, layout)


@every_backend
@small
@given(shape=images, p=st.sampled_from((0.0, 0.1, 0.5, 0.999, 1.0)), dtype=reals, layout=layouts, seed=sizes(0, 99))
def test_dropout_goes_by_logical_index(
    backend: str, shape: tuple[int, ...], p: float, dtype: str, layout: str, seed: int
) -> None:
    inputs, params = make(TABLE["dropout"], {"shape": shape, "p": p}, dtype, seed)
    for each in (layout, "channels_last"):
        assert_contract(backend, TABLE["dropout"], inputs, params, dtype, each)


@every_backend
@small
@given(shape=shapes, axes=st.randoms(use_true_random=False), dtype=st.sampled_from(("float64", "int16", "bool")))
def test_copy_of_any_view(backend: str, shape: tuple[int, ...], axes: Any, dtype: str) -> None:
    """Cut, turned around and transposed at random."""
    x = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    cut: Any = (..., *[slice(axes.choice((0, 1)), None, axes.choice((1, 2, 3))) for _ in shape])
    turned: Any = (..., *[slice(None, None, axes.choice((1, -1))) for _ in shape])
    x = x[cut][turned]
    x = x.transpose(axes.sample(range(x.ndim), x.ndim))
    for channels_last in {False, x.ndim == 4}:
        (y,) = call(backend, TABLE["copy"], [x], {"channels_last": channels_last})
        assert y.dtype == x.dtype and np.array_equal(y, x) and not np.shares_memory(y, x)


@every_backend
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint8"])
@pytest.mark.parametrize("shape", [(3, 40, 5, 7), (2, 3, 16, 16), (1, 64, 33, 2)])
def test_copy_into_an_array_that_may_overlap(backend: str, shape: tuple[int, ...], dtype: str) -> None:
    """Whether out lies apart from x, is x itself, is x seen in another order, or shares some of its memory."""
    size = int(np.prod(shape))
    memory = np.arange(2 * size).astype(dtype)
    x = memory[:size].reshape(shape)
    N, C, H, W = shape
    outs = [
        np.zeros(shape, dtype),
        np.moveaxis(np.zeros((N, H, W, C), dtype), -1, 1),
        np.moveaxis(memory[:size].reshape(N, H, W, C), -1, 1),
        memory[size // 2 : size // 2 + size].reshape(shape),
        x,
    ]
    for out, channels_last in product(outs, (False, True)):
        memory[...] = np.arange(2 * size).astype(dtype)
        before = x.copy()
        (y,) = call(backend, TABLE["copy"], [x], {"channels_last": channels_last}, [out])
        assert y is out and np.array_equal(y, before)


@every_backend
@small
@given(m=sizes(1, 30), b=sizes(0, 60), row=shapes, dtype=st.sampled_from(("float32", "uint8", "int64")), layout=layouts)
def test_gather_rows_of_any_shape(backend: str, m: int, b: int, row: tuple[int, ...], dtype: str, layout: str) -> None:
    inputs, params = make(TABLE["gather_rows"], {"M": m, "B": b, "shape": row}, dtype)
    assert_contract(backend, TABLE["gather_rows"], inputs, params, dtype, layout)


# --- single kernels -------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("momentum,nesterov", [(0.0, 0), (0.9, 0), (0.9, 1)])
def test_sgd_with_every_option(backend: str, dtype: str, momentum: float, nesterov: int) -> None:
    kernel = TABLE["sgd"]
    (param, grad, buffer, _, _), params = make(kernel, {"n": 53, "T": 2}, dtype)
    assert buffer is not None
    for dampening, weight_decay, started, maximize in product((0.0, 0.5), (0.0, 0.1), (0, 1), (0, 1)):
        hyper = np.array([0.1, momentum, dampening, weight_decay, nesterov, maximize])
        before = buffer if started else np.full_like(buffer, np.nan)  # what the first step must not look at
        inputs: Inputs = [param, grad, before, hyper, np.full(2, 4 * started)]
        assert_contract(backend, kernel, inputs, params, dtype, "stored")
        assert_contract(backend, kernel, [param, grad, None, *inputs[3:]], params, dtype, "stored")


ALONE = {"positions": 1, "ignore_index": -100}
PLAIN = {**ALONE, "mean": 1, "label_smoothing": 0.0}


@every_backend
@every_dtype
@pytest.mark.parametrize("mean", [False, True])
def test_losses_of_unknown_labels(backend: str, dtype: str, mean: bool) -> None:
    for kernel in (TABLE["cross_entropy"], TABLE["nll"]):
        sample = {"N": 5, "K": 4, "S": 5, "mean": mean, **ALONE, "label_smoothing": 0.0}
        (scores, _, *weights), params = make(kernel, sample, dtype)
        for label in (-1, 4, 2**62, -(2**63), ALONE["ignore_index"]):
            assert_contract(backend, kernel, [scores, np.array([0, label, 3, 1, 1]), *weights], params, dtype, "stored")


@every_backend
def test_next_key_counts_on(backend: str) -> None:
    state = np.array([7, 3, 2**64 - 2], np.uint64)
    steps = [call(backend, TABLE["next_key"], [state], {})[0].tolist() for _ in range(3)]
    assert steps == [[7, 3, 2**64 - 2], [7, 3, 2**64 - 1], [7, 3, 0]]


@every_backend
@every_dtype
def test_scores_without_a_softmax(backend: str, dtype: str) -> None:
    """A NaN or an infinity among the scores makes the whole row NaN, and no other row."""
    scores = np.array([[1, np.nan, 2], [np.nan, 1, 2], [1, 2, np.inf], [-np.inf] * 3, [1, 2, 3]], dtype)
    assert_contract(backend, TABLE["softmax"], [scores], {}, dtype, "stored")
    labels = np.array([0, 0, 0, 0, 0])
    assert_contract(backend, TABLE["cross_entropy"], [scores, labels, None, None], PLAIN | {"mean": 0}, dtype, "stored")
    (probabilities,) = call(backend, TABLE["softmax"], [scores], {})
    assert np.isnan(probabilities).all(axis=1).tolist() == [True, True, True, True, False]


@every_backend
@every_dtype
@pytest.mark.parametrize("least", [-80.0, -1.0, -1e-3])
def test_exponentials_are_exact_to_the_last_bits(backend: str, dtype: str, least: float) -> None:
    """exp(x) is within 1.1 units in the last place; the softmax and the ratio add a few roundings."""
    x = np.linspace(least, 0, 100_001)[::-1].astype(dtype)[None]
    (p,) = call(backend, TABLE["softmax"], [x], {})
    exact = np.exp(x.astype(np.longdouble))
    assert np.max(np.abs(p.astype(np.longdouble) / p[0, 0] / exact - 1)) < 3 * np.finfo(dtype).eps


@every_backend
@every_dtype
@pytest.mark.parametrize("K", [1, 10, 33, 1000])
def test_count_correct_of_ties_and_nans(backend: str, dtype: str, K: int) -> None:
    """Small whole numbers, so that many rows have several largest scores, some of them NaN; every kind of label."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 3, (200, K)).astype(dtype)
    scores[rng.random(scores.shape) < 0.5 / K] = np.nan
    labels = np.where(rng.random(200) < 0.7, scores.argmax(axis=1), rng.integers(-1, K + 1, 200))
    assert_contract(backend, TABLE["count_correct"], [scores, labels, None], ALONE, dtype, "stored")


@every_backend
@every_dtype
def test_elementwise_kernels_may_write_over_their_input(backend: str, dtype: str) -> None:
    for name in ("dropout", *(row for activation in ACTIVATIONS for row in (activation, f"{activation}_backward"))):
        inputs, params = make(TABLE[name], {**TABLE[name].samples[-1], "shape": (3, 40)}, dtype)
        expected, _ = reference(TABLE[name], inputs, params)
        found = call(backend, TABLE[name], inputs, params, [inputs[0]])
        assert found[0] is inputs[0]
        assert_outputs(name, TABLE[name], found, expected, tolerance(TABLE[name], dtype))


# --- errors ---------------------------------------------------------------------------------------------------------

CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
POOL = {
    "stride": (2, 2),
    "padding": (0, 0),
    "dilation": (1, 1),
    "kernel_size": (2, 2),
    "ceil_mode": False,
}


def zeros(*shape: int, dtype: Any = "float32") -> Array:
    return np.zeros(shape, dtype)


@every_backend
@pytest.mark.parametrize(
    "name,inputs,params,error,message",
    [
        (
            "linear",
            (zeros(2, 3), zeros(4, 5), None),
            {"relu": 0},
            ShapeError,
            r"expected weight of shape \(O=4, I=3\), got \(4, 5\)",
        ),
        (
            "linear",
            (zeros(2, 3, 1), zeros(4, 3), None),
            {"relu": 0},
            ShapeError,
            r"expected x of shape \(N, I\), got \(2, 3, 1\)",
        ),
        (
            "linear",
            (zeros(2, 3), zeros(4, 3), zeros(5)),
            {"relu": 0},
            ShapeError,
            r"expected bias of shape \(O=4\), got \(5,\)",
        ),
        (
            "linear",
            (zeros(2, 3), zeros(4, 3)),
            {"relu": 0},
            TypeError,
            r"linear takes \(x, weight, bias, relu=\), got 2 arrays",
        ),
        ("linear", (zeros(2, 3), None, None), {"relu": 0}, TypeError, "linear: weight is missing"),
        ("linear", (zeros(2, 3), zeros(4, 3), None), {"mean": 1}, TypeError, r"linear takes .* \['mean'\]"),
        (
            "linear",
            (zeros(2, 3), zeros(4, 3, dtype="float64"), None),
            {"relu": 0},
            DTypeError,
            "weight is float64, but .* float32",
        ),
        (
            "linear",
            (zeros(2, 3, dtype="int64"), zeros(4, 3), None),
            {"relu": 0},
            DTypeError,
            "x as float32 or float64, got int64",
        ),
        ("linear", (zeros(2, 3, dtype=">f4"), zeros(4, 3), None), {"relu": 0}, DTypeError, "x has foreign byte order"),
        (
            "cross_entropy",
            (zeros(2, 3), zeros(2, dtype="int32"), None, None),
            PLAIN,
            DTypeError,
            "labels as int64, got int32",
        ),
        (
            "cross_entropy",
            (zeros(2, 3), zeros(3, dtype="int64"), None, None),
            PLAIN,
            ShapeError,
            r"labels of shape \(N=2\)",
        ),
        (
            "cross_entropy",
            (zeros(3, 3), zeros(3, dtype="int64"), None, None),
            PLAIN | {"positions": 2},
            ShapeError,
            r"N = 2 · S, got N=3",
        ),
        (
            "count_correct",
            (zeros(4, 3), zeros(4, dtype="int64"), zeros(3, dtype="bool")),
            ALONE | {"positions": 2},
            ShapeError,
            r"N = 2 · S, got N=4 and S=3",
        ),
        ("relu_backward", (zeros(2, 6), zeros(2, 5)), {}, ShapeError, "relu_backward: expected y of shape"),
        ("relu_backward", (zeros(2, 6), zeros(3, 4)), {}, ShapeError, "relu_backward: expected y of shape"),
        (
            "sgd",
            (zeros(3), zeros(3), None, zeros(7, dtype="float64"), zeros(1, dtype="int64")),
            {},
            ShapeError,
            r"hyper of shape \(6\)",
        ),
        ("next_key", (zeros(2, dtype="uint64"),), {}, ShapeError, r"state of shape \(3\)"),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"relu": 0, "stride": (0, 1)},
            ShapeError,
            "at least 1",
        ),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"relu": 0, "dilation": (1, 0)},
            ShapeError,
            "at least 1",
        ),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"relu": 0, "padding": (-1, 0)},
            ShapeError,
            "at least 0",
        ),
        ("conv2d", (zeros(1, 2, 5, 5), zeros(4, 2, 0, 3), None), CONV | {"relu": 0}, ShapeError, "kernel size"),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 6, 3), None),
            CONV | {"relu": 0},
            ShapeError,
            "window of 6 does not fit into H=5",
        ),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"relu": 0, "dilation": (1, 3)},
            ShapeError,
            "window of 7",
        ),
        (
            "conv2d",
            (zeros(1, 2, 5, 5), zeros(4, 3, 3, 3), None),
            CONV | {"relu": 0},
            ShapeError,
            "expected 3 input channels",
        ),
        (
            "conv2d",
            (zeros(1, 4, 5, 5), zeros(3, 2, 3, 3), None),
            CONV | {"relu": 0, "groups": 2},
            ShapeError,
            "3 output channels",
        ),
        (
            "conv2d",
            (zeros(1, 4, 5, 5), zeros(3, 2, 3, 3), None),
            CONV | {"relu": 0, "groups": 0},
            ShapeError,
            "0 groups",
        ),
        ("conv2d", (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None), {}, TypeError, r"conv2d takes .* stride=, padding="),
        (
            "conv2d_backward_data",
            (zeros(1, 4, 3, 4), zeros(4, 2, 3, 3)),
            CONV | {"input_size": (5, 5)},
            ShapeError,
            "expected Q=3 for W=5, got Q=4",
        ),
        (
            "conv2d_backward_weights",
            (zeros(1, 4, 3, 3), zeros(1, 3, 5, 5)),
            CONV | {"kernel_size": (3, 3), "groups": 2},
            ShapeError,
            "3 input channels cannot be split into 2 groups",
        ),
        (
            "conv2d_max_pool2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"pool_size": (4, 2)},
            ShapeError,
            "window of 4 does not fit into P=3",
        ),
        (
            "conv2d_max_pool2d",
            (zeros(1, 2, 5, 5), zeros(4, 2, 3, 3), None),
            CONV | {"pool_size": (0, 2)},
            ShapeError,
            "from 1 to 65534 elements, got 0 x 2",
        ),
        (
            "conv2d_max_pool2d_backward_data",
            (zeros(1, 4, 2, 1), zeros(4, 2, 3, 3), zeros(1, 4, 2, 1, dtype="uint16")),
            CONV | {"pool_size": (2, 2), "input_size": (5, 5)},
            ShapeError,
            "expected YH=1 for P=3, got YH=2",
        ),
        ("max_pool2d", (zeros(1, 2, 5, 5),), POOL | {"padding": (0, 2)}, ShapeError, "more than half"),
        ("max_pool2d", (zeros(1, 2, 1, 5),), POOL, ShapeError, "window of 2 does not fit into H=1"),
        ("max_pool2d", (zeros(1, 2, 5, 5),), POOL | {"stride": (2, 0)}, ShapeError, "at least 1"),
        ("max_pool2d", (zeros(1, 2, 5, 5),), POOL | {"kernel_size": (0, 2)}, ShapeError, "at least 1"),
        (
            "max_pool2d",
            (zeros(1, 2, 999, 999),),
            POOL | {"kernel_size": (256, 256)},
            ShapeError,
            "at most 65535 elements",
        ),
        (
            "max_pool2d_backward",
            (zeros(1, 2, 2, 2), zeros(1, 2, 2, 2, dtype="uint16")),
            POOL | {"input_size": (6, 4)},
            ShapeError,
            "expected P=3 for H=6, got P=2",
        ),
        (
            "max_pool2d",
            (zeros(1, 1, 1, 5),),
            POOL | {"padding": (1, 0), "dilation": (2, 1)},
            ShapeError,
            "is nothing but padding",
        ),
        ("softmax", (zeros(2, 0),), {}, ShapeError, "K at least 1"),
        ("cross_entropy", (zeros(2, 0), zeros(2, dtype="int64"), None, None), PLAIN, ShapeError, "K at least 1"),
        ("dropout", (zeros(2), zeros(3, dtype="uint64")), {"p": 1.5}, ValueError, "p from 0 to 1"),
        ("dropout", (zeros(2), zeros(3, dtype="uint64")), {"p": float("nan")}, ValueError, "got nan"),
    ],
)
def test_wrong_calls(
    backend: str, name: str, inputs: tuple[Array | None, ...], params: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call(backend, TABLE[name], inputs, params)


@every_backend
@pytest.mark.parametrize("as_pair", [False, True])
def test_wrong_out(backend: str, as_pair: bool) -> None:
    read_only = zeros(2, 4)
    read_only.flags.writeable = False
    for out, error in (
        (zeros(2, 5), ShapeError),
        (zeros(4), ShapeError),  # NumPy would broadcast
        (zeros(1, 4), ShapeError),
        (zeros(2, 4, dtype="float64"), DTypeError),
        (zeros(2, 4, dtype="int32"), DTypeError),
        (read_only, ValueError),
        ([[0.0] * 4] * 2, TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error):
            call(
                backend,
                TABLE["linear"],
                [zeros(2, 3), zeros(4, 3), zeros(4)],
                {"relu": 0},
                [(out, True) if as_pair else out],
            )
