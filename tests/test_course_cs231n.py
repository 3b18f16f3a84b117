"""fastnn.courses.cs231n: what it is installed as, every layer by its gradients, update rules, networks, the Solver."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnn as fn
from fastnn.courses import cs231n
from fastnn.courses.cs231n import data_utils, fast_layers, fc_net, gradient_check, layers, optim, vis_utils
from fastnn.courses.cs231n.solver import Solver
from fastnn.data import Dataset
from fastnn.gradcheck import relative_error

RNG = np.random.RandomState(0)
CONV = {"stride": 2, "pad": 1}
POOL = {"pool_height": 3, "pool_width": 2, "stride": 2}


# --- install ----------------------------------------------------------------------------------------------------------


def test_import_lines_of_notebooks_work(installed: None) -> None:
    scope: dict[str, Any] = {}
    exec(
        "from nndl.fc_net import *\n"
        "from nndl.layers import *\n"
        "from nndl.layer_utils import affine_relu_forward, affine_relu_backward, conv_forward_fast\n"
        "from cs231n.data_utils import load_CIFAR10, get_CIFAR10_data\n"
        "from cs231n.gradient_check import eval_numerical_gradient, eval_numerical_gradient_array, grad_check_sparse\n"
        "from cs231n.solver import Solver\n"
        "from cs231n.vis_utils import visualize_grid\n"
        "from cs231n.fast_layers import max_pool_forward_fast, max_pool_backward_fast\n"
        "import nndl.optim, cs231n.optim\n",
        scope,
    )
    assert scope["TwoLayerNet"] is fc_net.TwoLayerNet and scope["Solver"] is Solver
    assert scope["affine_forward"] is layers.affine_forward and scope["nndl"].optim is optim
    assert layers.__spec__.name == "fastnn.courses.cs231n.layers"  # as it was: nothing of a module is changed
    cs231n.install()  # again
    assert sum(type(finder).__module__ == "fastnn.courses.cs231n" for finder in sys.meta_path) == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("nndl.nothing")


@pytest.mark.parametrize("name", cs231n.PACKAGES)
@pytest.mark.parametrize("imported", [False, True])
def test_another_package_of_the_name_is_not_shadowed(
    name: str, imported: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    finders = [*sys.meta_path]
    if imported:
        importlib.import_module(name)
    try:
        with pytest.raises(ImportError, match=f"another package '{name}', in .*{name}"):
            cs231n.install()
    finally:
        sys.modules.pop(name, None)
    assert sys.meta_path == finders


def test_a_folder_of_data_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> None:
    (tmp_path / "cs231n" / "datasets").mkdir(parents=True)  # where the frame's own scripts put the data
    monkeypatch.syspath_prepend(tmp_path)
    request.getfixturevalue("installed")
    assert importlib.import_module("cs231n.solver").Solver is Solver


def test_seeded_puts_the_random_state_back() -> None:
    before = np.random.get_state()[1].tolist()
    with cs231n.seeded(3):
        drawn = np.random.randn(4)
    np.testing.assert_array_equal(drawn, np.random.RandomState(3).randn(4))
    assert np.random.get_state()[1].tolist() == before


# --- layers -----------------------------------------------------------------------------------------------------------

BATCH_NORM = {"mode": "train", "eps": 1e-3}
DROPOUT = {"mode": "train", "p": 0.3, "seed": 7}
#: A layer's functions, its arrays and what comes after them.
LAYERS = {
    "affine": (layers.affine_forward, layers.affine_backward, [(4, 2, 3), (6, 5), (5,)], ()),
    "relu": (layers.relu_forward, layers.relu_backward, [(4, 5)], ()),
    "batchnorm": (layers.batchnorm_forward, layers.batchnorm_backward, [(6, 4), (4,), (4,)], (BATCH_NORM,)),
    "dropout": (layers.dropout_forward, layers.dropout_backward, [(7, 9)], (DROPOUT,)),
    "affine_relu": (
        fc_net.layer_utils.affine_relu_forward,
        fc_net.layer_utils.affine_relu_backward,
        [(4, 2, 3), (6, 5), (5,)],
        (),
    ),
    "conv": (
        fast_layers.conv_forward_fast,
        fast_layers.conv_backward_fast,
        [(2, 3, 7, 6), (4, 3, 3, 2), (4,)],
        (CONV,),
    ),
    "max_pool": (fast_layers.max_pool_forward_fast, fast_layers.max_pool_backward_fast, [(2, 3, 7, 6)], (POOL,)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients(name: str) -> None:
    forward, backward, shapes, more = LAYERS[name]
    arrays = [RNG.randn(*shape) for shape in shapes]
    out, cache = forward(*arrays, *more)
    dout = RNG.randn(*out.shape)
    found = backward(dout, cache)
    for array, gradient in zip(arrays, found if isinstance(found, tuple) else (found,), strict=True):
        numerical = gradient_check.eval_numerical_gradient_array(lambda _: forward(*arrays, *more)[0], array, dout)
        np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", LAYERS)
def test_dtypes(name: str) -> None:
    """float32 stays; mixed types become float64, also on the way back; whole numbers are numbers."""
    forward, backward, shapes, more = LAYERS[name]
    arrays = [RNG.randn(*shape).astype(np.float32) for shape in shapes]
    for wider in (np.float32, np.float64, np.int64):
        out, cache = forward(arrays[0].astype(wider), *arrays[1:], *more)
        found = backward(np.ones(out.shape, out.dtype), cache)
        for a in (out, *(found if isinstance(found, tuple) else (found,))):
            assert a.dtype == (np.float32 if wider == np.float32 else np.float64)


def test_affine_on_one_backend_and_the_other() -> None:
    x, w, b = RNG.randn(0, 2, 3), RNG.randn(6, 5), RNG.randn(5)
    for backend in ("reference", fn._kernels.active().name):
        with fn.use_backend(backend):
            for count in (0, 3):
                x = np.ones((count, 2, 3))
                out, cache = layers.affine_forward(x, w, b)
                np.testing.assert_allclose(out, x.reshape(count, 6) @ w + b, rtol=1e-12)
                assert [a.shape for a in layers.affine_backward(out, cache)] == [(count, 2, 3), (6, 5), (5,)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_batchnorm_keeps_running_statistics(dtype: type) -> None:
    param: dict[str, Any] = {"mode": "train"}
    gamma, beta, mean, var = np.ones(3, dtype), np.zeros(3, dtype), np.zeros(3), np.zeros(3)
    for _ in range(50):
        x = (RNG.randn(20, 3) * [1, 2, 3] + [4, 5, 6]).astype(dtype)
        out, _ = layers.batchnorm_forward(x, gamma, beta, param)
        np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
        mean, var = 0.9 * mean + 0.1 * x.mean(0), 0.9 * var + 0.1 * x.var(0)
    np.testing.assert_allclose(param["running_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(param["running_var"], var, rtol=1e-5)
    kept = {name: value.copy() for name, value in param.items() if name != "mode"}
    out, cache = layers.batchnorm_forward(x, gamma, beta, {**param, "mode": "test"})
    np.testing.assert_allclose(out, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layers.batchnorm_backward(out, cache)[0], out / np.sqrt(var + 1e-5), rtol=1e-4)
    assert all((param[name] == value).all() for name, value in kept.items())


def test_dropout_drops_so_many_and_scales_the_rest() -> None:
    x = np.ones((500, 500))
    with cs231n.seeded(0):
        first, cache = layers.dropout_forward(x, {"mode": "train", "p": 0.3})
        second, _ = layers.dropout_forward(x, {"mode": "train", "p": 0.3})
    assert abs((first == 0).mean() - 0.3) < 0.01 and abs(first.mean() - 1) < 0.01
    assert (first != second).any()
    np.testing.assert_array_equal(layers.dropout_backward(x, cache), first)
    out, cache = layers.dropout_forward(x, {"mode": "test", "p": 0.3})
    assert (out == x).all() and (layers.dropout_backward(x, cache) == x).all()


@pytest.mark.parametrize("forward", [layers.dropout_forward, lambda x, p: layers.batchnorm_forward(x, x[0], x[0], p)])
def test_a_mode_that_is_none_is_an_error(forward: Any) -> None:
    with pytest.raises(ValueError, match="expected mode 'train' or 'test', got 'eval'"):
        forward(np.ones((2, 3)), {"mode": "eval", "p": 0.5})


@pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
@pytest.mark.parametrize("label", [3, -1, -100])
def test_labels_that_are_no_class_are_an_error(loss: Any, label: int) -> None:
    with pytest.raises(ValueError, match=f"y: expected labels from 0 to 2, got {label}"):
        loss(np.zeros((2, 3)), [0, label])


@pytest.mark.parametrize("loss", [layers.svm_loss, layers.softmax_loss])
def test_losses(loss: Any) -> None:
    x, y = RNG.randn(7, 5), RNG.randint(5, size=7)
    value, dx = loss(x, y)
    assert isinstance(value, float)
    numerical = gradient_check.eval_numerical_gradient(lambda x: loss(x, y)[0], x, verbose=False)
    np.testing.assert_allclose(dx, numerical, atol=1e-8)
    margins = np.maximum(0, x - x[range(7), y][:, None] + 1)
    expected = {
        layers.svm_loss: (margins.sum() - 7) / 7,
        layers.softmax_loss: -np.log(np.exp(x[range(7), y]) / np.exp(x).sum(1)).mean(),
    }
    np.testing.assert_allclose(value, expected[loss], rtol=1e-12)


@pytest.mark.parametrize("param", [{"stride": 0, "pad": 1}, {"stride": 1, "pad": -1}])
def test_bad_convolutions(param: dict[str, int]) -> None:
    with pytest.raises(fn.ShapeError, match="conv_param"):
        fast_layers.conv_forward_fast(np.ones((1, 1, 4, 4)), np.ones((1, 1, 2, 2)), np.ones(1), param)
    with pytest.raises(fn.ShapeError, match="pool_param"):
        fast_layers.max_pool_forward_fast(np.ones((1, 1, 4, 4)), {**POOL, "stride": 0})


# --- update rules -----------------------------------------------------------------------------------------------------


def test_update_rules() -> None:
    w, dw, v, c = RNG.randn(4, 5), RNG.randn(4, 5), RNG.randn(4, 5), RNG.rand(4, 5)
    before = w.copy()

    following, _ = optim.sgd(w, dw, {"learning_rate": 0.1})
    np.testing.assert_allclose(following, w - 0.1 * dw, rtol=1e-12)

    following, config = optim.sgd_momentum(w, dw, {"learning_rate": 1e-3, "velocity": v})
    np.testing.assert_allclose(config["velocity"], 0.9 * v - 1e-3 * dw, rtol=1e-12)
    np.testing.assert_allclose(following, w + config["velocity"], rtol=1e-12)

    following, config = optim.rmsprop(w, dw, {"learning_rate": 1e-2, "cache": c})
    np.testing.assert_allclose(config["cache"], 0.99 * c + 0.01 * dw**2, rtol=1e-12)
    np.testing.assert_allclose(following, w - 1e-2 * dw / (np.sqrt(config["cache"]) + 1e-8), rtol=1e-12)

    following, config = optim.adam(w, dw, {"m": v, "v": c, "t": 5})
    m, s = 0.9 * v + 0.1 * dw, 0.999 * c + 0.001 * dw**2
    assert config["t"] == 6
    np.testing.assert_allclose(config["m"], m, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(config["v"], s, rtol=1e-12)
    change = 1e-3 * m / (1 - 0.9**6) / (np.sqrt(s / (1 - 0.999**6)) + 1e-8)
    np.testing.assert_allclose(following, w - change, rtol=1e-12)
    np.testing.assert_array_equal(w, before)


@pytest.mark.parametrize("name", optim.__all__)
def test_update_rules_begin_and_go_on(name: str) -> None:
    rule, target = getattr(optim, name), np.array([1.0, -2.0], np.float32)
    w, config = np.zeros(2, np.float32), {"learning_rate": 0.05}
    for _ in range(200):
        w, config = rule(w, w - target, config)
    assert w.dtype == np.float32
    np.testing.assert_allclose(w, target, atol=0.05)
    assert rule(w, w - target)[1]["learning_rate"] in (1e-2, 1e-3)


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_batchnorm", [False, True])
@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("reg", [0.0, 1.5])
def test_gradients_of_networks(use_batchnorm: bool, dropout: float, reg: float) -> None:
    with cs231n.seeded(2):
        how = {"use_batchnorm": use_batchnorm, "dropout": dropout, "reg": reg, "seed": 5}
        net = fc_net.FullyConnectedNet([8, 6], 12, 4, weight_scale=0.5, dtype=np.float64, **how)
    X, y = RNG.randn(7, 3, 2, 2), RNG.randint(4, size=7)
    _, gradients = net.loss(X, y)
    assert set(gradients) == set(net.params)
    for name, gradient in gradients.items():
        numerical = gradient_check.eval_numerical_gradient(lambda _: net.loss(X, y)[0], net.params[name], verbose=False)
        np.testing.assert_allclose(gradient, numerical, rtol=1e-5, atol=1e-7, err_msg=name)


def test_networks_are_drawn_first_layer_first() -> None:
    with cs231n.seeded(4):
        net = fc_net.TwoLayerNet(input_dim=5, hidden_dims=3, num_classes=2, weight_scale=0.1)
    rng = np.random.RandomState(4)
    np.testing.assert_array_equal(net.params["W1"], 0.1 * rng.randn(5, 3))
    np.testing.assert_array_equal(net.params["W2"], 0.1 * rng.randn(3, 2))
    assert list(net.params) == ["W1", "b1", "W2", "b2"]
    assert fc_net.FullyConnectedNet([3], 5).loss(np.ones((2, 5))).dtype == np.float32


def test_scores_are_those_of_the_test_mode() -> None:
    net = fc_net.FullyConnectedNet([50], 5, 3, dropout=0.5, use_batchnorm=True, weight_scale=1.0)
    X = RNG.randn(4, 5)
    np.testing.assert_array_equal(net.loss(X), net.loss(X))
    assert net.loss(X, np.zeros(4, int))[0] != net.loss(X, np.zeros(4, int))[0]


# --- Solver -----------------------------------------------------------------------------------------------------------


def blobs(count: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(count) % 3
    return RNG.randn(count, 4) + 4 * np.eye(3, 4)[y], y


@pytest.fixture
def separable() -> dict[str, np.ndarray]:
    """Three classes that are easily told apart."""
    parts = {"train": blobs(130), "val": blobs(60)}
    return {f"{name}_{part}": a for part, pair in parts.items() for name, a in zip("Xy", pair, strict=True)}


@pytest.mark.parametrize("rule", optim.__all__)
def test_solver(rule: str, separable: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    with cs231n.seeded(0):
        net = fc_net.TwoLayerNet(4, 20, 3, weight_scale=0.1)
        lr = {"sgd": 0.3, "sgd_momentum": 0.1, "rmsprop": 0.01, "adam": 0.02}[rule]
        how = {"update_rule": rule, "optim_config": {"learning_rate": lr}, "lr_decay": 0.9}
        solver = Solver(net, separable, **how, batch_size=25, num_epochs=4, print_every=10)
        solver.train()
    assert len(solver.loss_history) == 20
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 5
    assert solver.best_val_acc == max(solver.val_acc_history) > 0.85
    assert solver.check_accuracy(separable["X_val"], separable["y_val"]) == solver.best_val_acc
    assert solver.optim_configs["W1"]["learning_rate"] == pytest.approx(lr * 0.9**4)
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(")")[0] for line in printed[:3]] == ["(Iteration 1 / 20", "(Epoch 0 / 4", "(Epoch 1 / 4"]
    assert sum("Iteration" in line for line in printed) == 2


def test_solver_goes_on(separable: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]) -> None:
    with cs231n.seeded(5):
        net = fc_net.TwoLayerNet(4, 20, 3, weight_scale=0.1)
        solver = Solver(net, separable, optim_config={"learning_rate": 0.3}, batch_size=25, num_epochs=2)
        solver.train()
        best = {name: p.copy() for name, p in solver.best_params.items()}
        solver.optim_configs = {name: {"learning_rate": 10.0} for name in net.params}  # spoils what it goes on with
        solver.best_val_acc = 1.0
        solver.train()
    assert solver.epoch == 4 and len(solver.loss_history) == 20
    assert "(Epoch 4 / 4)" in capsys.readouterr().out
    for name, p in best.items():
        np.testing.assert_array_equal(solver.best_params[name], p)
        np.testing.assert_array_equal(net.params[name], p)


def test_params_may_be_replaced_by_another_dtype() -> None:
    net = fc_net.FullyConnectedNet([5], input_dim=4, num_classes=3, reg=0.5)
    x, y = RNG.randn(6, 4), RNG.randint(0, 3, 6)
    net.params["W1"] = RNG.randn(4, 5)
    loss, grads = net.loss(x, y)
    net.reg = 0.0
    bare, bare_grads = net.loss(x, y)
    penalty = sum(0.25 * float((net.params[name] ** 2).sum()) for name in ("W1", "W2"))
    assert loss - bare == pytest.approx(penalty, rel=1e-5)
    np.testing.assert_allclose(grads["W1"] - bare_grads["W1"], 0.5 * net.params["W1"], rtol=1e-4, atol=1e-6)


def test_solver_draws_as_the_course_does(separable: dict[str, np.ndarray]) -> None:
    seen = []

    class Net:
        params = {"w": np.zeros(1)}  # noqa: RUF012

        def loss(self, X: np.ndarray, y: np.ndarray | None = None) -> Any:
            if y is None:
                return np.eye(3)[np.zeros(len(X), int)]
            seen.append(X)
            return 1.0, {"w": np.ones(1)}

    with cs231n.seeded(6):
        Solver(Net(), separable, batch_size=65, num_epochs=1, num_train_samples=40, verbose=False).train()
    rng = np.random.RandomState(6)
    for i, X in enumerate(seen):
        np.testing.assert_array_equal(X, separable["X_train"][rng.choice(130, 65)])
        rng.choice(130, 40) if i == 0 else None
    assert len(seen) == 2


def test_unknown_rules_are_an_error(separable: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="adam, rmsprop, sgd, sgd_momentum, got 'SGD'"):
        Solver(fc_net.TwoLayerNet(4, 5, 3), separable, update_rule="SGD")
    with pytest.raises(ValueError, match="batch_size: expected a whole number of at least 1, got 0"):
        Solver(fc_net.TwoLayerNet(4, 5, 3), separable, batch_size=0)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_numerical_gradients_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    x = np.array([1.0, 2.0])
    gradient = gradient_check.eval_numerical_gradient(lambda x: (x**2).sum(), x)
    assert capsys.readouterr().out == f"{gradient}\n"
    gradient_check.grad_check_sparse(lambda x: (x**2).sum(), x, 2 * x, num_checks=3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(float(line.rpartition(" ")[2]) < 1e-8 for line in lines)
    assert x.tolist() == [1, 2] and relative_error(gradient, 2 * x) < 1e-8


def test_visualize_grid() -> None:
    images = RNG.randn(5, 4, 3, 3)
    images[4] = 7  # all alike
    grid = vis_utils.visualize_grid(images, ubound=10.0, padding=2)
    assert grid.shape == (3 * 4 + 2 * 2, 3 * 3 + 2 * 2, 3)
    assert grid[:4, :3].min() == 0 and grid[:4, :3].max() == pytest.approx(10)
    assert (grid[4:6] == 0).all() and (grid[6:10, 5:] == 0).all() and np.isfinite(grid).all()
    with pytest.raises(fn.ShapeError, match="expected images"):
        vis_utils.visualize_grid(images[0])


@pytest.fixture
def small_cifar(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """60 and 10 images of bytes; notes what it was asked for."""
    x = [RNG.randint(256, size=(count, 3, 32, 32)).astype(np.float32) for count in (60, 10)]
    data = Dataset(x[0], np.arange(60) % 10, x[1], np.arange(10), tuple("0123456789"))

    def cifar10(root: Any, *, divisor: float, download: bool = True) -> Dataset:
        assert (root, divisor) == (None, 1)
        return data

    monkeypatch.setattr(fn.data, "cifar10", cifar10)
    return data


def test_load_cifar10(small_cifar: Dataset) -> None:
    x, y, x_test, y_test = data_utils.load_CIFAR10("a folder/that is not here")
    assert x.dtype == np.float64 and x.flags.c_contiguous
    np.testing.assert_array_equal(x.transpose(0, 3, 1, 2), small_cifar.x_train)
    np.testing.assert_array_equal(x_test.transpose(0, 3, 1, 2), small_cifar.x_test)
    assert y is small_cifar.y_train and y_test is small_cifar.y_test


def test_get_cifar10_data(small_cifar: Dataset) -> None:
    data = data_utils.get_CIFAR10_data(40, 15, 5)
    assert list(data) == ["X_train", "y_train", "X_val", "y_val", "X_test", "y_test"]
    assert [len(a) for a in data.values()] == [40, 40, 15, 15, 5, 5]
    mean = small_cifar.x_train[:40].astype(np.float64).mean(0)
    np.testing.assert_array_equal(data["X_val"], small_cifar.x_train[40:55] - mean)
    np.testing.assert_array_equal(data["y_val"], small_cifar.y_train[40:55])
    plain = data_utils.get_CIFAR10_data(40, 15, 5, subtract_mean=False)
    np.testing.assert_array_equal(plain["X_test"], small_cifar.x_test[:5])
    with pytest.raises(ValueError, match="asked for 61 images, there are 60"):
        data_utils.get_CIFAR10_data(46, 15, 5)
