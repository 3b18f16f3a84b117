"""Normalisation: running statistics, accuracy, buffers in files and records, and folding for inference."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn as fn
from fastnn import _kernels as k
from fastnn._kernels import Array, backends
from fastnn.layers.layer import Backward

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
BUFFERS = ["running_mean", "running_var", "num_batches_tracked"]


def random(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> Array:
    values: Array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    return values


def mlp(**d: Any) -> fn.Sequential:
    """Chains in either order, fused and not, with dropout."""
    return fn.Sequential(
        *(fn.Linear(12, 20, **d), fn.BatchNorm1d(20, **d), fn.ReLU(), fn.Dropout(0.5)),
        *(fn.Linear(20, 9, **d), fn.ReLU(), fn.BatchNorm1d(9, momentum=None, **d), fn.LayerNorm(9, **d)),
        fn.Linear(9, 5, **d),
    )


def cnn(**d: Any) -> fn.Sequential:
    return fn.Sequential(
        *(fn.Conv2d(3, 5, 3, bias=False, **d), fn.BatchNorm2d(5, **d), fn.ReLU(), fn.MaxPool2d(2)),
        fn.Sequential(fn.Conv2d(5, 4, 2, **d), fn.Sequential(fn.BatchNorm2d(4, affine=False, **d), fn.ReLU())),
        *(fn.Flatten(), fn.Linear(16, 6, **d), fn.BatchNorm1d(6, **d)),
    )


def trained(model: fn.Sequential, x: Array) -> fn.Sequential:
    """The model with running statistics and weights like those after some training."""
    for p in model.parameters():
        p.data[...] += random(p.shape, seed=3) / 4
    for i in range(3):
        model.forward(x + 0.5 * i, train=True)
    return model


# --- running statistics -----------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("momentum", [0.1, None, 0.0, 1.0])
@pytest.mark.parametrize("shape", [(6, 5), (3, 5, 4), (2, 5, 3, 4)], ids=str)
def test_running_statistics_are_pytorchs(
    shape: tuple[int, ...], momentum: float | None, dtype: str, backend: str
) -> None:
    torch = pytest.importorskip("torch")
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    ours = getattr(fn, kind)(5, momentum=momentum, dtype=dtype)
    theirs = getattr(torch.nn, kind)(5, momentum=momentum).to(getattr(torch, dtype))
    tolerance = 1e-5 if dtype == "float32" else 1e-13
    with fn.use_backend(backend):
        for i in range(4):
            x = random(shape, dtype, seed=i) * (1 + i) + i
            ours.forward(x, train=True)
            theirs(torch.from_numpy(x))
            for name in BUFFERS:
                np.testing.assert_allclose(
                    ours.state_dict()[name], theirs.state_dict()[name].numpy(), tolerance, tolerance
                )
        y = ours(x)
    np.testing.assert_allclose(y, theirs.eval()(torch.from_numpy(x)).detach().numpy(), tolerance, tolerance)
    assert ours.state_dict()["num_batches_tracked"].dtype == np.int64


@every_backend
def test_biased_variance(backend: str) -> None:
    x, norm = random((4, 3)), fn.BatchNorm1d(3, momentum=0.25, biased_variance=True, dtype="float64")
    with fn.use_backend(backend):
        norm.forward(x, train=True)
    np.testing.assert_allclose(norm.running_var, 0.75 + 0.25 * x.var(0), 1e-13)


@every_backend
def test_evaluation_uses_and_keeps_running_statistics(backend: str) -> None:
    torch = pytest.importorskip("torch")
    ours, theirs, x = fn.BatchNorm1d(3, dtype="float64"), torch.nn.BatchNorm1d(3).double().eval(), random((5, 3))
    state = {"weight": random((3,), seed=1), "bias": random((3,), seed=2), "running_mean": random((3,), seed=3)}
    state |= {"running_var": random((3,), seed=4) ** 2, "num_batches_tracked": np.array(7)}
    ours.load_state_dict(state)
    theirs.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    tx = torch.from_numpy(x.copy()).requires_grad_()
    ty = theirs(tx)
    dy = random((5, 3), seed=5)
    ty.backward(torch.from_numpy(dy))
    with fn.use_backend(backend):
        y, backward = ours.forward(x, train=False)
        dx = backward(dy)
    np.testing.assert_allclose(y, ty.detach().numpy(), 1e-12)
    np.testing.assert_allclose(dx, tx.grad.numpy(), 1e-12)
    assert ours.weight is not None and ours.bias is not None
    np.testing.assert_allclose(ours.weight.grad, theirs.weight.grad.numpy(), 1e-12)
    np.testing.assert_allclose(ours.bias.grad, theirs.bias.grad.numpy(), 1e-12)
    for name in BUFFERS:
        np.testing.assert_array_equal(ours.state_dict()[name], state[name])
    assert ours(x[:1]).shape == (1, 3)


@every_backend
def test_a_batch_of_no_samples_teaches_nothing(backend: str) -> None:
    norm = fn.BatchNorm1d(3)
    with fn.use_backend(backend):
        assert norm.forward(np.zeros((0, 3), "float32"), train=True)[0].shape == (0, 3)
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked == 1
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


@every_dtype
@pytest.mark.parametrize("mean", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("how", ["plain", "sorted", "outlier first", "drift"])
@pytest.mark.parametrize("shape", [(128, 70, 1, 1), (20, 3, 16, 17)], ids=str)
def test_statistics_are_accurate_far_from_zero(shape: tuple[int, ...], how: str, mean: float, dtype: str) -> None:
    x = random(shape)
    if how == "sorted":
        x.sort(0)
    elif how == "outlier first":
        x[0, :, 0, 0] = 1000
    elif how == "drift":
        x += np.linspace(0, 1000, len(x))[:, None, None, None]
    x = (x + mean).astype(dtype)
    exact = x.astype(np.longdouble)
    average, var = k.batch_norm_statistics(x)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(average, exact.mean((0, 2, 3)), 4 * eps, 4 * eps * exact.std())
    np.testing.assert_allclose(var, exact.var((0, 2, 3)), 16 * eps)


# --- buffers ----------------------------------------------------------------------------------------------------------


def test_buffers_have_pytorchs_keys_in_its_order() -> None:
    model = fn.Sequential({"a": fn.Linear(2, 3), "b": fn.BatchNorm1d(3), "c": fn.BatchNorm1d(3, affine=False)})
    names = [f"{layer}.{name}" for layer in "bc" for name in BUFFERS]
    assert [name for name, _ in model.named_buffers()] == names
    assert [name for name, _ in model.named_buffers("m")] == [f"m.{name}" for name in names]
    own = ["a.weight", "a.bias", "b.weight", "b.bias"]
    assert list(model.state_dict()) == own + names
    assert [name for name, _ in model.named_parameters()] == own
    assert list(fn.BatchNorm1d(3, track_running_stats=False).named_buffers()) == []


def test_loading_fills_buffers_in_place() -> None:
    norm, other = fn.BatchNorm1d(3), fn.BatchNorm1d(3, dtype="float64")
    before = dict(norm.named_buffers())
    other.forward(random((5, 3)), train=True)
    norm.load_state_dict(other.state_dict())
    for name, buffer in norm.named_buffers():
        assert buffer is before[name]
        np.testing.assert_array_equal(buffer, other.state_dict()[name].astype(buffer.dtype))
    with pytest.raises(KeyError, match="running_var"):
        norm.load_state_dict({name: a for name, a in other.state_dict().items() if name != "running_var"})
    with pytest.raises(fn.ShapeError, match=r"running_mean of shape \(3,\), got \(4,\)"):
        norm.load_state_dict({**other.state_dict(), "running_mean": np.zeros(4)})


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"]
)
def test_copies_have_buffers_of_their_own(copied: Callable[[fn.Layer], fn.Layer]) -> None:
    x = random((4, 3, 9, 8), "float32")
    model = trained(cnn(), x)
    before, other = model.state_dict(), copied(model)
    np.testing.assert_array_equal(other(x), model(x))
    other.forward(x + 1, train=True)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert (other.state_dict()["1.running_mean"] != before["1.running_mean"]).all()


@every_dtype
def test_files_hold_buffers(dtype: str, tmp_path: Path) -> None:
    x = random((4, 3, 9, 8), dtype)
    model = trained(cnn(dtype=dtype), x)
    fn.save(model, tmp_path / "m")
    loaded = fn.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.state_dict()["1.num_batches_tracked"] == 3
    assert fn.load(tmp_path / "m", cnn(dtype=dtype))(x).tobytes() == model(x).tobytes()


def test_pytorch_reads_buffers_and_writes_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    norm, theirs = fn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    norm.forward(random((4, 3, 2, 2), "float32"), train=True)
    fn.save(norm, tmp_path / "ours")
    theirs.load_state_dict(safetensors.load_file(tmp_path / "ours"))
    theirs(torch.randn(4, 3, 2, 2))
    safetensors.save_file(theirs.state_dict(), tmp_path / "theirs")
    fn.load(tmp_path / "theirs", norm)
    for name, values in theirs.state_dict().items():
        np.testing.assert_array_equal(norm.state_dict()[name], values.numpy())


def test_a_normalisation_used_twice_stays_one_in_a_file(tmp_path: Path) -> None:
    norm = fn.BatchNorm1d(3)
    fn.save(fn.Sequential(norm, fn.ReLU(), norm), tmp_path / "m")
    loaded = fn.load(tmp_path / "m")
    assert isinstance(loaded, fn.Sequential)
    loaded.forward(random((4, 3), "float32"), train=True)
    state = loaded.state_dict()
    assert state["0.num_batches_tracked"] == state["2.num_batches_tracked"] == 2
    np.testing.assert_array_equal(state["0.running_mean"], state["2.running_mean"])


# --- captured ---------------------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("make,shape,classes", [(mlp, (24, 12), 5), (cnn, (8, 3, 9, 8), 6)], ids=["mlp", "cnn"])
def test_a_captured_step_has_the_bits_of_the_loop(
    make: Callable[..., fn.Sequential], shape: tuple[int, ...], classes: int, dtype: str
) -> None:
    def state(captured: bool) -> list[bytes]:
        fn.manual_seed(0)
        model, loss = make(dtype=dtype), fn.CrossEntropyLoss()
        optimizer = fn.SGD(model.parameters(), lr=0.1, momentum=0.9)
        labels, losses, step = np.arange(shape[0]) % classes, [], None
        for i in range(6):
            x = random(shape, dtype, seed=i)
            if captured:
                step = step or fn.capture(model, loss, optimizer, x, labels)
                losses.append(step(x, labels))
                continue
            scores, backward = model.forward(x, train=True)
            mean, loss_backward = loss.forward(scores, labels)
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            losses.append(mean)
        return [np.array(losses).tobytes(), model(x).tobytes(), *(a.tobytes() for a in model.state_dict().values())]

    assert state(True) == state(False)


def test_fit_is_captured_and_validation_replayed() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((200, 12)), rng.integers(0, 5, 200)

    class Python(fn.Layer):
        """Makes a model run from Python."""

        replays = False

        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            return x, lambda dy, need_dx=True: dy if need_dx else None

    histories = []
    for more in ([], [Python()]):
        fn.manual_seed(0)
        model = fn.Sequential(*mlp(), *more)
        histories.append(fn.fit(model, x, y, epochs=3, batch_size=20, validation_data=(x[:50], y[:50]), seed=0))
    assert histories[0].loss == histories[1].loss
    assert histories[0].val_loss == histories[1].val_loss


def test_predictions_follow_the_running_statistics() -> None:
    norm, x = fn.BatchNorm1d(3), random((4, 3), "float32")
    for _ in range(3):
        np.testing.assert_array_equal(norm.scores(x), norm(x))
    norm.forward(x + 3, train=True)
    np.testing.assert_array_equal(norm.scores(x), norm(x))
    norm.load_state_dict(fn.BatchNorm1d(3).state_dict())
    np.testing.assert_array_equal(norm.scores(x), norm(x))


def test_statistics_that_numpy_changes_are_found() -> None:
    class Wrong(fn.BatchNorm1d):
        def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
            assert self.running_mean is not None
            self.running_mean += 1
            return super().forward(x, train)

    model = fn.Sequential(Wrong(12), fn.Linear(12, 5))
    x, labels = random((24, 12), "float32"), np.arange(24) % 5
    with pytest.raises(fn.CaptureError, match="Wrong"):
        fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x, labels)


# --- with the ReLU after it -------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(40, 33), (5, 17, 4), (6, 20, 11, 10)], ids=str)
def test_with_its_relu_the_bits_are_the_same(shape: tuple[int, ...], train: bool, dtype: str, backend: str) -> None:
    norms = [(fn.BatchNorm2d if len(shape) == 4 else fn.BatchNorm1d)(shape[1], dtype=dtype) for _ in range(2)]
    relu, x, dy = fn.ReLU(), random(shape, dtype), random(shape, dtype, seed=1)
    x[0] = np.nan if not train else x[0]
    with fn.use_backend(backend):
        for norm in norms:
            for i, p in enumerate(norm.parameters()):
                p.data[...] += random(p.shape, seed=i + 2)
        y, backward = fn.Sequential(norms[0], relu).forward(x, train)
        dx = backward(dy)
        z, norm_backward = norms[1].forward(x, train)
        z, relu_backward = relu.forward(z, train)
        dz = norm_backward(relu_backward(dy))
    assert y.tobytes() == z.tobytes()
    assert dx.tobytes() == dz.tobytes()
    for a, b in zip(norms[0].parameters(), norms[1].parameters(), strict=True):
        assert a.grad.tobytes() == b.grad.tobytes()


# --- folded -----------------------------------------------------------------------------------------------------------


@every_dtype
@pytest.mark.parametrize("make,shape", [(mlp, (24, 12)), (cnn, (8, 3, 9, 8))], ids=["mlp", "cnn"])
def test_a_folded_model_predicts_alike(make: Callable[..., fn.Sequential], shape: tuple[int, ...], dtype: str) -> None:
    x = random(shape, dtype)
    model = trained(make(dtype=dtype), x)
    before = model.state_dict()
    folded = fn.fold_batch_norm(model)
    expected = model(x)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(folded(x), expected, tolerance, tolerance * np.abs(expected).max())
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def kinds(model: fn.Layer) -> list[str]:
    return [type(layer).__name__ for layer in model.modules() if not layer.is_container]


def test_what_is_folded(tmp_path: Path) -> None:
    folded = fn.fold_batch_norm(cnn())
    assert kinds(folded) == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU", "Flatten", "Linear"]
    assert list(folded.state_dict()) == [f"{i}.{name}" for i in ("0", "3.0", "5") for name in ("weight", "bias")]
    fn.save(folded, tmp_path / "m")
    assert kinds(fn.load(tmp_path / "m")) == kinds(folded)
    assert kinds(fn.fold_batch_norm(mlp())).count("BatchNorm1d") == 1
    named = fn.Sequential({"fc": fn.Linear(2, 3), "norm": fn.BatchNorm1d(3), "relu": fn.ReLU()})
    assert [name for name, _ in fn.fold_batch_norm(named).named_children()] == ["fc", "relu"]
    assert kinds(fn.fold_batch_norm(fn.Linear(2, 2))) == ["Linear"]


def test_what_is_not_folded() -> None:
    class Other(fn.Linear):
        """May compute anything."""

    linear, norm = fn.Linear(3, 3), fn.BatchNorm1d(3)
    tied = [fn.Linear(3, 3), fn.Linear(3, 3)]
    tied[1].weight = tied[0].weight
    for model in (
        fn.Sequential(linear, fn.BatchNorm1d(3), linear),
        fn.Sequential(fn.Linear(3, 3), norm, fn.Linear(3, 3), norm),
        fn.Sequential(tied[0], fn.BatchNorm1d(3), tied[1]),
        fn.Sequential(Other(3, 3), fn.BatchNorm1d(3)),
        fn.Sequential(fn.Linear(3, 3), fn.ReLU(), fn.BatchNorm1d(3)),
        fn.Sequential(fn.Linear(3, 3), fn.BatchNorm1d(3, track_running_stats=False)),
        fn.Sequential(fn.Linear(3, 4), fn.BatchNorm1d(3)),
    ):
        assert kinds(fn.fold_batch_norm(model)) == kinds(model)


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "one value per channel": (
        lambda: fn.Sequential({"norm": fn.BatchNorm1d(3)}).forward(np.zeros((1, 3), "float32"), train=True),
        ValueError,
        r"norm \(BatchNorm1d\): expected more than 1 value per channel in training, got \(1, 3\)",
    ),
    "one value without running statistics": (
        lambda: fn.BatchNorm2d(3, track_running_stats=False)(np.zeros((1, 3, 1, 1), "float32")),
        ValueError,
        "more than 1 value per channel",
    ),
    "channels": (
        lambda: fn.BatchNorm1d(3)(random((4, 5), "float32")),
        fn.ShapeError,
        r"BatchNorm1d: expected \(N, 3\), got",
    ),
    "sequences": (lambda: fn.BatchNorm1d(3)(random((4, 5, 3), "float32")), fn.ShapeError, r"expected \(N, 3, L\), got"),
    "images": (lambda: fn.BatchNorm2d(3)(random((4, 3), "float32")), fn.ShapeError, r"expected \(N, 3, H, W\), got"),
    "dtype": (lambda: fn.BatchNorm1d(3)(random((4, 3))), fn.DTypeError, "expected float32, got float64"),
    "dtype of buffers": (
        lambda: fn.BatchNorm1d(3, affine=False)(random((4, 3))),
        fn.DTypeError,
        "BatchNorm1d: expected float32, got float64",
    ),
    "no array": (lambda: fn.BatchNorm1d(3)([[1.0]]), fn.DTypeError, "expected a NumPy array, got list"),
    "features": (lambda: fn.BatchNorm1d(0), fn.ShapeError, "num_features"),
    "eps": (lambda: fn.BatchNorm2d(3, -1.0), ValueError, "BatchNorm2d: expected eps of at least 0"),
    "momentum": (lambda: fn.BatchNorm1d(3, momentum=2), ValueError, "momentum from 0 to 1, or None, got 2"),
    "dtype of weights": (lambda: fn.BatchNorm1d(3, dtype="int32"), fn.DTypeError, "int32"),
    "no axes": (lambda: fn.LayerNorm(()), fn.ShapeError, "at least one dimension"),
    "axes": (lambda: fn.LayerNorm((3, 0)), fn.ShapeError, "normalized_shape"),
    "last axes": (lambda: fn.LayerNorm((2, 3))(random((5, 3, 2), "float32")), fn.ShapeError, r"\(..., 2, 3\), got"),
    "eps of layers": (lambda: fn.LayerNorm(3, float("nan")), ValueError, "eps"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case: str) -> None:
    call, kind, message = ERRORS[case]
    with pytest.raises(kind, match=message):
        call()


def test_defaults_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    for name in ("BatchNorm1d", "BatchNorm2d", "LayerNorm"):
        ours, theirs = getattr(fn, name)(3).config(), getattr(torch.nn, name)(3)
        for key in ours.keys() - {"dtype", "biased_variance", "bias"}:
            assert ours[key] == getattr(theirs, key), key


@given(st.integers(2, 40), st.integers(1, 40), st.integers(1, 3), st.sampled_from(["float32", "float64"]))
@settings(max_examples=40, deadline=None)
def test_any_shape_is_as_the_reference_has_it(N: int, C: int, H: int, dtype: str) -> None:
    x, dy = random((N, C, H, 2), dtype), random((N, C, H, 2), dtype, seed=1)
    found = []
    for backend in backends():
        with fn.use_backend(backend):
            norm = fn.BatchNorm2d(C, dtype=dtype)
            y, backward = norm.forward(x, train=True)
            found.append([y, backward(dy), *(p.grad.copy() for p in norm.parameters())])
    for a, b in zip(*(found[0], found[-1]), strict=True):
        tolerance = 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(a, b, tolerance, tolerance)
