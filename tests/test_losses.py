"""Every loss against PyTorch and scikit-learn, its gradients, its weights, captured steps, and the courses' figures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import needs_native
from loss_cases import LOSSES, WEIGHT, joint, soft

import fastnn as fn
from fastnn import losses
from fastnn._kernels import Array, backends
from fastnn._kernels.replay import Replayer
from fastnn.gradcheck import GradientError, gradcheck, relative_error
from fastnn.layers.layer import Backward
from fastnn.layers.recorded import caller
from fastnn.training.step import Step

every_backend = pytest.mark.parametrize("backend", list(backends()))
every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: Those of one array of scores.
CASES = {name: case for name, case in LOSSES.items() if not isinstance(case[2][0], tuple)}
every_case = pytest.mark.parametrize("case", CASES)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.asarray(rng(seed).standard_normal(shape))


def labels(*shape: int) -> Array:
    return rng(1).integers(0, 5, shape)


def answers(*shape: int) -> Array:
    return rng(1).integers(0, 2, shape).astype(float)


def drawn(case: str, dtype: str, samples: int | None = None) -> tuple[Any, Array, Array]:
    """The loss, scores and targets of a case."""
    make, _, shape, draw = CASES[case]
    samples = shape[0] if samples is None else samples
    target = draw(samples)
    converted = target.astype(dtype) if target.dtype.kind == "f" else target
    return make(), normal((samples, *shape[1:])).astype(dtype), converted


def theirs(case: str, dtype: str) -> Any:
    """PyTorch's loss."""
    torch = pytest.importorskip("torch")
    return CASES[case][1](torch.nn, lambda a: torch.tensor(a, dtype=getattr(torch, dtype)))


def assert_close(found: Any, expected: Any, dtype: str, what: str) -> None:
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


# --- against PyTorch --------------------------------------------------------------------------------------------------


@every_backend
@every_dtype
@every_case
@pytest.mark.parametrize("samples", [None, 0, 1])
def test_as_pytorch(case: str, dtype: str, backend: str, samples: int | None) -> None:
    torch = pytest.importorskip("torch")
    loss, scores, target = drawn(case, dtype, samples)
    t = torch.tensor(scores, requires_grad=True)
    expected = theirs(case, dtype)(t, torch.tensor(target))
    expected.backward()
    if isinstance(loss, fn.MultiMarginLoss) and samples == 0:  # PyTorch leaves the result uninitialised
        expected = t.sum() / (0 if loss.reduction == "mean" else 1)
    with fn.use_backend(backend):
        value, backward = loss.forward(scores, target)
        without, later = loss.forward(scores, target, need_grad=False)
        dscores = backward()
        np.testing.assert_array_equal(later(), dscores)
    assert isinstance(value, float)
    assert without == value or np.isnan(value)
    assert_close(value, expected.item(), dtype, "loss")
    assert dscores.dtype == dtype
    assert_close(dscores, t.grad.numpy(), dtype, "gradient")


@every_backend
@every_case
def test_sample_weights(case: str, backend: str) -> None:
    """Each sample's loss is multiplied by its weight; the mean divides by the weights that it adds up."""
    torch = pytest.importorskip("torch")
    loss, scores, target = drawn(case, "float64")
    weights = rng(2).random(len(scores)) + 0.5
    t = torch.tensor(scores, requires_grad=True)
    mean = loss.reduction == "mean"
    its = theirs(case, "float64")
    its.reduction = "none"
    each = its(t, torch.tensor(target))
    divisor = torch.ones_like(each)
    if mean and isinstance(loss, fn.CrossEntropyLoss | fn.NLLLoss) and target.dtype.kind == "i":
        of_class = np.ones(scores.shape[1]) if loss.weight is None else loss.weight
        divisor = torch.tensor(np.where(target == loss.ignore_index, 0, of_class[np.maximum(target, 0)]))
    v = torch.tensor(weights).reshape(-1, *[1] * (each.ndim - 1))
    expected = (v * each).sum() / ((v * divisor).sum() if mean else 1)
    expected.backward()
    with fn.use_backend(backend):
        value, backward = loss.forward(scores, target, sample_weight=weights)
        assert_close(value, expected.item(), "float64", "loss")
        assert_close(backward(), t.grad.numpy(), "float64", "gradient")
        ones, backward_of_ones = loss.forward(scores, target, sample_weight=np.ones(len(scores)))
        plain, plain_backward = loss.forward(scores, target)
    assert_close(ones, plain, "float64", "weights of 1")
    assert_close(backward_of_ones(), plain_backward(), "float64", "weights of 1")


@pytest.mark.parametrize("loss", [fn.CrossEntropyLoss(), fn.NLLLoss(WEIGHT)])
def test_a_batch_of_ignored_labels(loss: Any) -> None:
    value, backward = loss.forward(normal((3, 5)), np.full(3, -100))
    assert np.isnan(value)
    assert not backward().any()


def test_weights_of_samples_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, target, weights = normal((20, 5)), labels(20), rng(3).random(20)
    value, _ = fn.CrossEntropyLoss().forward(scores, target, sample_weight=weights)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert value == pytest.approx(metrics.log_loss(target, p, sample_weight=weights, labels=range(5)), rel=1e-12)
    value, _ = fn.MSELoss().forward(scores, normal((20, 5), 1), sample_weight=weights)
    assert value == pytest.approx(metrics.mean_squared_error(normal((20, 5), 1), scores, sample_weight=weights))


@every_case
def test_a_strided_gradient_or_score_changes_nothing(case: str) -> None:
    loss, scores, target = drawn(case, "float64")
    value, backward = loss.forward(scores, target)
    if scores.ndim == 4:
        last = np.ascontiguousarray(scores.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
        again, backward_again = loss.forward(last, target)
        assert_close(again, value, "float64", "channels last")
        assert_close(backward_again(), backward(), "float64", "channels last")
    wide = np.repeat(scores, 2, axis=-1)[..., ::2]
    again, backward_again = loss.forward(wide, target)
    assert again == value
    np.testing.assert_array_equal(backward_again(), backward())


# --- gradients --------------------------------------------------------------------------------------------------------


@every_backend
@every_case
def test_gradients_are_the_numerical_ones(case: str, backend: str) -> None:
    loss, scores, target = drawn(case, "float64")
    with fn.use_backend(backend):
        assert set(gradcheck(loss, scores, target)) == {"x"}


def test_gradcheck_finds_a_wrong_loss() -> None:
    class Wrong(fn.MSELoss):
        def forward(self, *arguments: Any, **options: Any) -> Any:
            value, backward = super().forward(*arguments, **options)
            return value, lambda: backward() * 1.01

    with pytest.raises(GradientError, match="gradient of x: 6 of 6"):
        gradcheck(Wrong(), normal((2, 3)), normal((2, 3), 1))
    with pytest.raises(fn.DTypeError, match="x is float32"):
        gradcheck(fn.MSELoss(), np.ones((2, 3), np.float32), np.ones((2, 3)))


# --- combined ---------------------------------------------------------------------------------------------------------


class Heads(fn.Layer):
    """Two linear layers side by side."""

    def __init__(self, inputs: int, *outputs: int, dtype: str = "float32") -> None:
        self.first, self.second = (fn.Linear(inputs, size, dtype=dtype) for size in outputs)

    def forward(self, x: Array, train: bool = False) -> tuple[Any, Backward]:
        scores, backwards = zip(*(layer.forward(x, train) for layer in (self.first, self.second)), strict=True)

        def backward(dy: tuple[Array, Array], need_dx: bool = True) -> Array | None:
            parts = [part(d, need_dx) for part, d in zip(backwards, dy, strict=True)]
            return parts[0] + parts[1] if need_dx else None

        return scores, backward


@every_backend
@every_dtype
def test_joint_loss(backend: str, dtype: str) -> None:
    scores = normal((6, 5)).astype(dtype), normal((6, 3), 1).astype(dtype)
    target, weights = (labels(6), answers(6, 3)), rng(4).random(6)
    with fn.use_backend(backend):
        for options in ({}, {"sample_weight": weights}):
            value, backward = joint().forward(scores, target, **options)
            parts = [loss.forward(s, t, **options) for loss, s, t in zip(joint().losses, scores, target, strict=True)]
            assert_close(value, 0.25 * parts[0][0] + 2 * parts[1][0], dtype, "loss")
            for found, (_, part), weight in zip(backward(), parts, (0.25, 2), strict=True):
                assert found.dtype == dtype
                assert_close(found, weight * part(), dtype, "gradient")


def test_joint_loss_of_two_digits() -> None:
    """½ (l₁ + l₂), from labels (N, 2)."""
    loss = fn.JointLoss((fn.CrossEntropyLoss(), fn.CrossEntropyLoss()), weights=(0.5, 0.5))
    scores, target = (normal((8, 5)), normal((8, 5), 1)), labels(8, 2)
    each = [fn.CrossEntropyLoss().forward(s, t)[0] for s, t in zip(scores, target.T, strict=True)]
    assert loss.forward(scores, target)[0] == pytest.approx(sum(each) / 2, rel=1e-12)
    right = [s.argmax(1) == t for s, t in zip(scores, target.T, strict=True)]
    targets = loss.as_targets(target, scores, 8, "y")
    assert [t.flags.c_contiguous for t in targets] == [True, True]
    assert loss.count_correct(scores, targets).tolist() == [int((right[0] & right[1]).sum())]


def test_gradients_of_joint_losses_and_penalties() -> None:
    scores, target = (normal((6, 5)), normal((6, 3), 1)), (labels(6), answers(6, 3))
    assert set(gradcheck(joint(), scores, target)) == {"x[0]", "x[1]"}
    model = Heads(4, 5, 3, dtype="float64")
    assert set(gradcheck(model, normal((6, 4)))) == {"x", "first.weight", "first.bias", "second.weight", "second.bias"}
    found = gradcheck(fn.L2Penalty(joint(), model, 0.3), scores, target)
    assert set(found) == {"x[0]", "x[1]", "first.weight", "second.weight"}
    loss = fn.L2Penalty(fn.MSELoss(), fn.Conv2d(2, 3, 3, dtype="float64"), 0.3, biases=True)
    assert set(gradcheck(loss, normal((6, 5)), normal((6, 5), 1))) == {"x", "weight", "bias"}


@every_backend
@every_dtype
def test_penalty(backend: str, dtype: str) -> None:
    model = fn.Sequential(fn.Conv2d(2, 3, 3, dtype=dtype), fn.Flatten(), fn.Linear(12, 5, dtype=dtype))
    x, y = normal((4, 2, 4, 4)).astype(dtype), labels(4)
    with fn.use_backend(backend):
        grads = []
        for loss in (fn.CrossEntropyLoss(), fn.L2Penalty(fn.CrossEntropyLoss(), model, 0.5)):
            model.zero_grad()
            scores, backward = model.forward(x, train=True)
            value, loss_backward = loss.forward(scores, y)
            backward(loss_backward())
            grads.append((value, {name: p.grad.copy() for name, p in model.named_parameters()}))
    (plain, without), (value, with_penalty) = grads
    weights = {name: p.data for name, p in model.named_parameters() if name.endswith("weight")}
    assert value == pytest.approx(plain + 0.25 * sum((w.astype(float) ** 2).sum() for w in weights.values()), rel=1e-6)
    for name, grad in with_penalty.items():
        assert_close(grad, without[name] + 0.5 * weights.get(name, np.zeros(1)), dtype, name)


def test_penalty_takes_the_steps_of_weight_decay() -> None:
    x, y = normal((40, 4)).astype("f"), labels(40)
    traces = []
    for penalty in (False, True):
        fn.manual_seed(0)
        model = fn.Sequential(fn.Linear(4, 9, bias=False), fn.ReLU(), fn.Linear(9, 5, bias=False))
        loss = fn.CrossEntropyLoss()
        optimizer = fn.SGD(lr=0.1, momentum=0.9, weight_decay=0 if penalty else 0.1)
        fn.fit(
            model, x, y, loss=fn.L2Penalty(loss, model, 0.1) if penalty else loss, optimizer=optimizer, epochs=3, seed=0
        )
        traces.append(model.state_dict())
    for name, value in traces[0].items():
        np.testing.assert_allclose(traces[1][name], value, rtol=1e-4, atol=1e-6)


def test_a_frozen_weight_is_penalized_without_a_gradient() -> None:
    layer = fn.Linear(3, 5, dtype="float64")
    layer.requires_grad_(False)
    loss = fn.L2Penalty(fn.CrossEntropyLoss(), layer, 1.0)
    value, backward = loss.forward(normal((4, 5)), labels(4))
    backward()
    plain = fn.CrossEntropyLoss().forward(normal((4, 5)), labels(4))[0]
    assert value == pytest.approx(plain + 0.5 * (layer.weight.data**2).sum())
    assert not layer.weight.grad.any()


# --- right answers ----------------------------------------------------------------------------------------------------


@every_backend
def test_count_correct(backend: str) -> None:
    scores, target = normal((50, 5)), np.where(rng(2).random(50) < 0.1, -100, labels(50))
    right = scores.argmax(1) == target
    with fn.use_backend(backend):
        for loss in (fn.CrossEntropyLoss(), fn.NLLLoss(), fn.MultiMarginLoss()):
            assert loss.count_correct(scores, target).tolist() == [right.sum()]
        table = soft((50, 5))
        expected = (scores.argmax(1) == table.argmax(1)).sum()
        assert fn.CrossEntropyLoss().count_correct(scores, table).tolist() == [expected]

        images, pixels = normal((9, 5, 2, 1)), labels(9, 2, 1)
        pixels[0] = images[0].argmax(0)
        pixels[1, 0], pixels[1, 1] = -100, images[1, :, 1].argmax(0)
        pixels[2] = -100
        hits = (images.argmax(1) == pixels) | (pixels == -100)
        expected = (hits.all(axis=(1, 2)) & ~(pixels == -100).all(axis=(1, 2))).sum()
        assert expected >= 2
        assert fn.CrossEntropyLoss().count_correct(images, pixels).tolist() == [expected]

        yes = answers(50, 2)
        expected = ((scores[:, :2] > 0) == (yes > 0.5)).all(1).sum()
        assert fn.BCEWithLogitsLoss().count_correct(scores[:, :2], yes).tolist() == [expected]
    for other in (fn.MSELoss(), fn.L1Loss(), fn.HuberLoss(), fn.L2Penalty(fn.MSELoss(), [], 0.1)):
        assert not hasattr(other, "count_correct")
    assert not hasattr(fn.JointLoss((fn.CrossEntropyLoss(), fn.MSELoss())), "count_correct")


# --- training ---------------------------------------------------------------------------------------------------------


def data(case: str, samples: int) -> tuple[Array, Array]:
    """x (N, 6) in float32, and targets for the scores (N, …) of `model_for`."""
    _, _, target = drawn(case, "float32", samples)
    return normal((samples, 6), 3).astype("f"), target


def model_for(case: str) -> fn.Sequential:
    shape = CASES[case][2][1:]
    fn.manual_seed(0)
    head = fn.Linear(6, int(np.prod(shape, dtype=int)))
    return fn.Sequential(fn.Linear(6, 6), fn.ReLU(), head, Shaped(shape))


class Shaped(fn.Layer):
    """Gives each sample a shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        y = x.reshape(len(x), *self.shape)
        return y, lambda dy, need_dx=True: fn._kernels.copy(dy, channels_last=False).reshape(x.shape)  # type: ignore[attr-defined]


@needs_native
@every_case
def test_captured_steps_have_the_bits_of_eager_ones(case: str) -> None:
    x, y = data(case, 24)
    optimizers = [fn.SGD(lr=0.05, momentum=0.9) for _ in range(2)]
    ours, other = model_for(case), model_for(case)
    loss = CASES[case][0]()
    step = fn.capture(ours, loss, optimizers[0], x[:8], y[:8])
    optimizers[1].bind(other.parameters())
    for i in (0, 8, 16):
        scores, backward = other.forward(x[i : i + 8], train=True)
        value, loss_backward = loss.forward(scores, y[i : i + 8])
        backward(loss_backward(), need_dx=False)
        optimizers[1].step()
        assert step(x[i : i + 8], y[i : i + 8]) == value
    for name, value in other.state_dict().items():
        assert ours.state_dict()[name].tobytes() == value.tobytes(), name


@needs_native
def test_captured_joint_loss_with_a_penalty() -> None:
    x, y = normal((24, 6)).astype("f"), (labels(24), answers(24, 3).astype("f"), rng(4).random(24).astype("f"))
    models = []
    for _ in range(2):
        fn.manual_seed(0)
        models.append(Heads(6, 5, 3))
    pairs = [(fn.L2Penalty(joint(), model, 0.01), fn.SGD(model.parameters(), lr=0.1)) for model in models]

    def body(model: fn.Layer, loss: Any, optimizer: Any) -> Callable[..., Any]:
        def step(x: Array, labels: Array, answers: Array, weights: Array) -> Any:
            scores, backward = model.forward(x, train=True)
            value, loss_backward = loss.compute(scores, (labels, answers), sample_weight=weights)
            count = loss.count_correct(scores, (labels, answers))
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            return value, count

        return step

    slots = [tuple(a[i : i + 8] for a in (x, *y)) for i in (0, 8, 16)]
    replayer = Replayer(body(models[0], *pairs[0]), Step(models[0], *pairs[0]), caller)
    replayer.prepare(slots[0], slots[1])
    assert replayer.obstacle is None
    for batch in slots:
        assert replayer.record(batch).call(batch) == body(models[1], *pairs[1])(*batch)[0][0]
    assert models[0].state_dict()["first.weight"].tobytes() == models[1].state_dict()["first.weight"].tobytes()


@needs_native
def test_a_copied_loss_is_captured_too() -> None:
    x, y = normal((8, 6)).astype("f"), labels(8)
    loss = copy.deepcopy(fn.CrossEntropyLoss(WEIGHT))
    loss.forward(x[:, :5], y)
    loss = copy.deepcopy(loss)
    model = fn.Sequential(fn.Linear(6, 5))
    expected = loss.forward(model(x), y)[0]
    assert fn.capture(model, loss, fn.SGD(lr=0.0), x, y)(x, y) == expected


@needs_native
def test_an_option_of_a_loss_inside_another_takes_effect() -> None:
    x, y = normal((8, 6)).astype("f"), labels(8)
    fn.manual_seed(0)
    model = fn.Sequential(fn.Linear(6, 5))
    loss = fn.L2Penalty(fn.CrossEntropyLoss(), model, 0.1)
    step = fn.capture(model, loss, fn.SGD(lr=0.0), x, y)
    expected = [loss.forward(model(x), y)[0]]
    assert step(x, y) == expected[0]
    for change in (
        lambda: setattr(loss, "factor", 0.2),
        lambda: setattr(loss.loss, "label_smoothing", 0.3),
        lambda: setattr(loss.loss, "weight", WEIGHT),
        lambda: setattr(loss.loss, "reduction", "sum"),
    ):
        change()
        expected.append(loss.forward(model(x), y)[0])
        assert step(x, y) == expected[-1]
    assert len(set(expected)) == len(expected)


@every_case
@every_backend
def test_fit_lowers_every_loss(case: str, backend: str) -> None:
    x, y = data(case, 24)
    with fn.use_backend(backend):
        model, loss = model_for(case), CASES[case][0]()
        if loss.reduction == "sum":
            x, y = x[:4], y[:4]
        history = fn.fit(
            model, x, y, loss=loss, optimizer=fn.SGD(lr=0.01), epochs=12, batch_size=8, validation_data=(x, y)
        )
        assert history.val_loss[-1] < history.val_loss[0]
        assert fn.evaluate(model, x, y, loss=loss)["loss"] == pytest.approx(history.val_loss[-1])
        assert ("accuracy" in fn.evaluate(model, x, y, loss=loss)) == hasattr(loss, "count_correct")


def test_targets_of_one_column_may_be_flat() -> None:
    x, y = normal((20, 3)).astype("f"), normal((20,), 1)
    model = fn.Linear(3, 1)
    expected = ((model(x)[:, 0] - y) ** 2).mean()
    for target in (y, y[:, None], y.tolist()):
        assert fn.evaluate(model, x, target, loss=fn.MSELoss())["loss"] == pytest.approx(expected, rel=1e-5)


# --- the courses' figures ---------------------------------------------------------------------------------------------


def tiny_scores() -> tuple[Array, Array]:
    """50 samples of 10 classes, as CS231n's notebook draws them."""
    drawn = rng(0)
    return 0.001 * drawn.standard_normal((50, 10)), drawn.integers(0, 10, 50)


@pytest.mark.parametrize(
    "loss,expected,spread,bound",
    [
        (fn.MultiMarginLoss(class_reduction="sum"), 9.0, 0.01, 1e-8),
        (fn.CrossEntropyLoss(), 2.3026, 0.001, 2e-8),
    ],
)
def test_svm_and_softmax_losses_of_cs231n(loss: Any, expected: float, spread: float, bound: float) -> None:
    scores, y = tiny_scores()
    value, backward = loss.forward(scores, y)
    assert value == pytest.approx(expected, abs=spread)
    numerical = fn.numerical_gradient(lambda s: loss.forward(s, y)[0], scores, eps=1e-5)
    assert relative_error(backward(), numerical) < bound


def test_svm_loss_is_the_sum_over_the_classes() -> None:
    scores, y = normal((6, 5)), labels(6)
    value, backward = fn.MultiMarginLoss(class_reduction="sum").forward(scores, y)
    mean, mean_backward = fn.MultiMarginLoss().forward(scores, y)
    assert value == pytest.approx(5 * mean)
    np.testing.assert_allclose(backward(), 5 * mean_backward(), rtol=1e-12)


def test_half_of_the_squared_error() -> None:
    scores, target = normal((6, 5)), normal((6, 5), 1)
    value, backward = fn.MSELoss(half=True).forward(scores, target)
    assert value == pytest.approx(0.5 * ((scores - target) ** 2).mean())
    np.testing.assert_allclose(backward(), (scores - target) / 30, rtol=1e-12)


@pytest.mark.parametrize("reg,expected", [(0.0, 3.47022435559539), (1.0, 26.594842695238583)])
def test_two_layer_net_of_cs231n(reg: float, expected: float) -> None:
    """Its loss on fixed numbers, ½ reg (‖W₁‖² + ‖W₂‖²) included, and the gradients."""
    N, D, H, C = 3, 5, 50, 7
    model = fn.Sequential(fn.Linear(D, H, dtype="float64"), fn.ReLU(), fn.Linear(H, C, dtype="float64"))
    model.load_state_dict(
        {
            "0.weight": np.linspace(-0.7, 0.3, D * H).reshape(D, H).T,
            "0.bias": np.linspace(-0.1, 0.9, H),
            "2.weight": np.linspace(-0.3, 0.4, H * C).reshape(H, C).T,
            "2.bias": np.linspace(-0.9, 0.1, C),
        }
    )
    x, y = np.linspace(-5.5, 4.5, N * D).reshape(D, N).T, np.array([0, 5, 1])
    loss = fn.L2Penalty(fn.CrossEntropyLoss(), model, reg)
    scores, backward = model.forward(x, train=True)
    value, loss_backward = loss.forward(scores, y)
    assert value == pytest.approx(expected, abs=1e-12)
    backward(loss_backward())
    for name, p in model.named_parameters():
        found = p.grad.copy()
        numerical = fn.numerical_gradient(lambda _: loss.forward(model(x), y)[0], p.data)
        np.testing.assert_allclose(found, numerical, rtol=1e-6, atol=1e-8, err_msg=name)


def test_two_layer_toy_of_ece_c147() -> None:
    """Scores and loss of the network 4-10-3 with weights and data from NumPy's seeds 0 and 1."""
    draw = np.random.RandomState(0)
    model = fn.Sequential(fn.Linear(4, 10, dtype="float64"), fn.ReLU(), fn.Linear(10, 3, dtype="float64"))
    for layer in (model[0], model[2]):
        layer.weight.data[...] = 0.1 * draw.randn(*layer.weight.shape)
        layer.bias.data[...] = 0
    x, y = 10 * np.random.RandomState(1).randn(5, 4), np.array([0, 1, 2, 2, 1])
    np.testing.assert_allclose(model(x)[0], [-1.07260209, 0.05083871, -0.87253915], atol=1e-7)
    loss = fn.L2Penalty(fn.CrossEntropyLoss(), model, 0.05)
    assert fn.evaluate(model, x, y, loss=loss)["loss"] == pytest.approx(1.071696123862817, abs=1e-12)


# --- errors -----------------------------------------------------------------------------------------------------------

S = normal((4, 5))
Y = np.array([0, 1, 2, 4])
BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "reduction": (
        lambda: fn.MSELoss(reduction="none"),
        ValueError,
        "MSELoss: expected reduction 'mean' or 'sum', got 'none'",
    ),
    "smoothing": (lambda: fn.CrossEntropyLoss(label_smoothing=1.5), ValueError, "label_smoothing from 0 to 1, got 1.5"),
    "weight": (
        lambda: fn.NLLLoss(np.ones((2, 2))),
        fn.ShapeError,
        r"NLLLoss: expected weight \(classes,\), got \(2, 2\)",
    ),
    "NaN": (lambda: fn.CrossEntropyLoss([1, np.nan]), ValueError, "CrossEntropyLoss: weight: expected finite numbers"),
    "p": (lambda: fn.MultiMarginLoss(3), ValueError, "MultiMarginLoss: expected p 1 or 2, got 3"),
    "margin": (lambda: fn.MultiMarginLoss(margin=np.inf), ValueError, "expected a finite margin, got inf"),
    "classes' reduction": (
        lambda: fn.MultiMarginLoss(class_reduction="no"),
        ValueError,
        "expected class_reduction 'mean' or 'sum', got 'no'",
    ),
    "delta": (lambda: fn.HuberLoss(delta=0), ValueError, "HuberLoss: expected a finite delta above 0, got 0"),
    "weights of other classes": (
        lambda: fn.CrossEntropyLoss([1, 2]).forward(S, Y),
        fn.ShapeError,
        r"CrossEntropyLoss: expected weight \(5,\), one for each class, got \(2,\)",
    ),
    "pos_weight": (
        lambda: fn.BCEWithLogitsLoss(pos_weight=np.ones(3)).forward(S, answers(4, 5)),
        fn.ShapeError,
        r"BCEWithLogitsLoss: expected pos_weight of shape \(5,\), got \(3,\)",
    ),
    "a label": (
        lambda: fn.NLLLoss().forward(S, Y + 1),
        ValueError,
        r"NLLLoss: expected labels from 0 to 4, got 5 \(sample 3\)",
    ),
    "a minus": (lambda: fn.MultiMarginLoss().forward(S, Y - 1), ValueError, r"from 0 to 4, got -1 \(sample 0\)"),
    "labels": (lambda: fn.CrossEntropyLoss().forward(S, Y[:3]), fn.ShapeError, r"expected labels \(4,\), got \(3,\)"),
    "real labels": (
        lambda: fn.NLLLoss().forward(S, Y / 2),
        fn.DTypeError,
        "NLLLoss: expected integer labels, got float64",
    ),
    "soft targets of a margin": (lambda: fn.MultiMarginLoss().forward(S, S), fn.DTypeError, "expected integer labels"),
    "soft targets": (
        lambda: fn.CrossEntropyLoss().forward(S, S[:, :3]),
        fn.ShapeError,
        r"CrossEntropyLoss: expected targets \(4, 5\), as the scores are, got \(4, 3\)",
    ),
    "scores": (
        lambda: fn.MultiMarginLoss().forward(normal((2, 5, 3)), Y),
        fn.ShapeError,
        r"MultiMarginLoss expected scores \(N, classes\), got \(2, 5, 3\)",
    ),
    "a row of scores": (
        lambda: fn.CrossEntropyLoss().forward(S[0], Y),
        fn.ShapeError,
        r"scores \(N, classes\) or .*got \(5,\)",
    ),
    "targets": (
        lambda: fn.MSELoss().forward(S, S[0]),
        fn.ShapeError,
        r"MSELoss: expected targets \(4, 5\), as the scores are, got \(5,\)",
    ),
    "text": (lambda: fn.L1Loss().forward(S, "no"), fn.DTypeError, "L1Loss: expected real numbers"),
    "no answer": (
        lambda: fn.BCEWithLogitsLoss().forward(S, S * 0 - 1),
        ValueError,
        r"targets from 0 to 1, got -1 \(sample 0\)",
    ),
    "sample_weight": (
        lambda: fn.MSELoss().forward(S, S, sample_weight=[1.0]),
        fn.ShapeError,
        r"MSELoss: sample_weight: expected \(4,\), .* got shape \(1,\)",
    ),
    "a negative sample_weight": (
        lambda: fn.MSELoss().forward(S, S, sample_weight=[1, 1, -1, 1]),
        ValueError,
        "MSELoss: sample_weight: expected finite numbers of at least 0",
    ),
    "a sample_weight of NaN": (
        lambda: fn.MSELoss().forward(S, S, sample_weight=[1, 1, np.nan, 1]),
        ValueError,
        "MSELoss: sample_weight: expected finite numbers of at least 0",
    ),
    "no heads": (lambda: fn.JointLoss(()), ValueError, "JointLoss: expected a loss for each head, got none"),
    "a class": (lambda: fn.JointLoss((fn.MSELoss,)), TypeError, "JointLoss: expected a loss such as"),  # type: ignore[arg-type]
    "heads' weights": (lambda: fn.JointLoss((fn.MSELoss(),), (1, 2)), ValueError, "expected 1 finite weights"),
    "heads' reductions": (
        lambda: fn.JointLoss((fn.MSELoss(), fn.MSELoss(reduction="sum"))),
        ValueError,
        "all means or all sums",
    ),
    "penalty inside": (
        lambda: fn.JointLoss((fn.L2Penalty(fn.MSELoss(), [], 1.0),)),
        TypeError,
        "a L2Penalty goes around it",
    ),
    "one head": (
        lambda: joint().forward(S, Y),
        fn.ShapeError,
        "expected a tuple of 2 scores, one for each head, got ndarray",
    ),
    "a head's labels": (
        lambda: joint().forward((S, S[:, :3]), (Y[:2], S[:, :3])),
        fn.ShapeError,
        r"JointLoss\[0\]: expected labels \(4,\), got \(2,\)",
    ),
    "heads of labels": (lambda: joint().forward((S, S), Y), fn.ShapeError, r"or labels \(4, 2\), got \(4,\)"),
    "three targets": (lambda: joint().forward((S, S), (Y, Y, Y)), fn.ShapeError, "a tuple of 2 targets.*got 3"),
    "factor": (lambda: fn.L2Penalty(fn.MSELoss(), [], -1.0), ValueError, "a finite factor of at least 0, got -1.0"),
    "penalized arrays": (lambda: fn.L2Penalty(fn.MSELoss(), [S], 1.0), TypeError, "parameters, got ndarray"),  # type: ignore[list-item]
    "penalty of a class": (lambda: fn.L2Penalty(fn.MSELoss, [], 1.0), TypeError, "expected a loss such as"),  # type: ignore[arg-type]
    "NaN among targets": (
        lambda: fn.evaluate(fn.Linear(5, 5, dtype="float64"), S, S * np.nan, loss=fn.MSELoss()),
        ValueError,
        "y: expected finite numbers, got NaN in sample 0",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_errors_name_what_was_expected(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_every_public_loss_is_tested() -> None:
    public = set(losses.__all__) - {"Loss"}
    assert public < set(fn.__all__)
    covered = {type(make()).__name__ for make, *_ in LOSSES.values()}
    assert public == covered
    assert all(getattr(fn, name).__doc__ for name in public)


# --- what weighs nothing ----------------------------------------------------------------------------------------------


@every_backend
@every_case
def test_samples_that_weigh_nothing_have_no_gradient(case: str, backend: str) -> None:
    loss, scores, target = drawn(case, "float64")
    with fn.use_backend(backend):
        value, backward = loss.forward(scores, target, sample_weight=np.zeros(len(scores)))
        assert not backward().any()
    assert np.isnan(value) if loss.reduction == "mean" else value == 0


def test_a_batch_that_weighs_nothing_changes_neither_weights_nor_means() -> None:
    x, y, weight = rng(0).random((97, 6)), rng(1).integers(0, 3, 97), np.ones(97)
    weight[rng(2).permutation(97)[:10]] = 0
    model = fn.Linear(6, 3)
    history = fn.fit(model, x, y, sample_weight=weight, epochs=40, seed=0)  # the last batch has one sample
    assert np.isfinite(history.loss).all()


@pytest.mark.parametrize(
    "loss", [fn.CrossEntropyLoss(), fn.CrossEntropyLoss([1, 20, 0.1]), fn.CrossEntropyLoss([0, 1, 1], ignore_index=1)]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_means_do_not_depend_on_the_batch_size(loss: Any, weighted: bool) -> None:
    x, y = rng(0).random((97, 6)), rng(1).integers(0, 3, 97)
    y[:32] = loss.ignore_index
    weight = rng(2).random(97) if weighted else None
    model = fn.Linear(6, 3, dtype="float64")
    found = [fn.evaluate(model, x, y, loss=loss, batch_size=n, sample_weight=weight)["loss"] for n in (1, 32, 97)]
    assert found == pytest.approx([found[-1]] * 3, rel=1e-12)
