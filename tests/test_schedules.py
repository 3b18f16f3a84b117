"""Schedules against PyTorch's, number by number; as callbacks of `fit`, by epoch and by batch; and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import needs_native

import fastnn as fn
from fastnn.optim import Optimizer

RNG = np.random.default_rng(5)
X = RNG.standard_normal((95, 12)).astype(np.float32)
Y = RNG.integers(0, 5, 95)

Makes = Callable[[Any, Any], Any]

#: From the module of the schedules and an optimizer to a schedule.
CASES: dict[str, Makes] = {
    "StepLR": lambda s, o: s.StepLR(o, 3, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [9, 2, 5, 5], gamma=0.3),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.9),
    "LinearLR": lambda s, o: s.LinearLR(o),
    "LinearLR down": lambda s, o: s.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=10),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 8, eta_min=0.001),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda epoch: 1 / (1 + epoch)),
    "LambdaLR by group": lambda s, o: s.LambdaLR(o, [lambda epoch: 0.9**epoch, lambda epoch: 1 + epoch]),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=30),
    "OneCycleLR linear": lambda s, o: s.OneCycleLR(
        o, [0.5, 0.1], epochs=6, steps_per_epoch=5, pct_start=0.4, anneal_strategy="linear", div_factor=10
    ),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(
        o, 0.5, 30, three_phase=True, base_momentum=0.7, max_momentum=[0.8, 0.9], final_div_factor=100
    ),
    "OneCycleLR of the rate alone": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=31, cycle_momentum=False),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 10), s.StepLR(o, 3)], [4, 15]
    ),
}


def parameters() -> tuple[fn.Parameter, fn.Parameter]:
    return fn.Parameter(np.ones(3)), fn.Parameter(np.ones(2))


def optimizer_with_groups(name: str = "SGD", **options: Any) -> Optimizer:
    p, q = parameters()
    made: Optimizer = getattr(fn, name)([{"params": [p]}, {"params": [q], "lr": 0.02}], lr=0.1, **options)
    return made


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_by_hand_as_pytorchs(case: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    options = {} if name == "Adam" else {"momentum": 0.9}
    ours = optimizer_with_groups(name, **options)
    p, q = (torch.nn.Parameter(torch.ones(n)) for n in (3, 2))
    its = getattr(torch.optim, name)([{"params": [p]}, {"params": [q], "lr": 0.02}], lr=0.1, **options)
    mine, expected = CASES[case](fn, ours), CASES[case](torch.optim.lr_scheduler, its)
    for _ in range(30):
        np.testing.assert_allclose(mine.get_last_lr(), expected.get_last_lr(), rtol=1e-12, atol=1e-15)
        for group, other in zip(ours.param_groups, its.param_groups, strict=True):
            np.testing.assert_allclose(group["lr"], other["lr"], rtol=1e-12, atol=1e-15)
            for option in ("momentum", "betas"):
                if option in group:
                    np.testing.assert_allclose(group[option], other[option], rtol=1e-12)
        for each in (ours, its):
            each.step()
        mine.step()
        expected.step()


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("cooldown", [0, 3])
def test_plateau_as_pytorchs(mode: str, threshold_mode: str, cooldown: int) -> None:
    torch = pytest.importorskip("torch")
    options = {"factor": 0.5, "patience": 2, "threshold": 0.05, "min_lr": [0.01, 0.001]}
    options |= {"mode": mode, "threshold_mode": threshold_mode, "cooldown": cooldown}
    ours = optimizer_with_groups()
    p, q = (torch.nn.Parameter(torch.ones(n)) for n in (3, 2))
    its = torch.optim.SGD([{"params": [p]}, {"params": [q], "lr": 0.02}], lr=0.1)
    mine, expected = (
        fn.ReduceLROnPlateau(ours, **options),
        torch.optim.lr_scheduler.ReduceLROnPlateau(its, **options),
    )
    metrics = np.random.default_rng(0).uniform(1, 2, 60)
    metrics[:20] = np.linspace(2, 1, 20) if mode == "min" else np.linspace(1, 2, 20)
    metrics[25] = np.nan
    for metric in metrics:
        mine.step(metric)
        expected.step(metric)
        assert mine.get_last_lr() == [group["lr"] for group in its.param_groups]
    assert mine.get_last_lr() != [0.1, 0.02]


def test_an_optimizer_without_parameters_gets_its_rate_when_it_has_some() -> None:
    optimizer = fn.SGD(lr=0.3)
    schedule = fn.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    assert schedule.get_last_lr() == []
    optimizer.bind(parameters())
    assert schedule.get_last_lr() == [0.15]
    schedule.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_last_epoch_begins_later() -> None:
    optimizer = optimizer_with_groups()
    assert fn.ExponentialLR(optimizer, 0.5, last_epoch=1).get_last_lr() == [0.025, 0.005]


# --- in fit -----------------------------------------------------------------------------------------------------------


class Rates(fn.Callback):
    """Notes the rate after each epoch."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.seen = optimizer, []

    def on_epoch_end(self, model: fn.Layer, history: fn.History) -> None:
        self.seen.append(self.optimizer.param_groups[0]["lr"])


class Slow(fn.Callback):
    """A callback for each batch, so that nothing is replayed."""

    def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
        pass


class Counting(fn.Layer):
    """Counts how often it is called from Python."""

    def __init__(self) -> None:
        self.calls = [0]

    def forward(self, x: Any, train: bool = False) -> Any:
        self.calls[0] += 1
        return x, lambda dy, need_dx=True: dy


def mlp(*more: fn.Layer) -> fn.Sequential:
    fn.manual_seed(4)
    return fn.Sequential(fn.Linear(12, 7), *more, fn.ReLU(), fn.Linear(7, 5))


def assert_same(a: fn.Layer, b: fn.Layer) -> None:
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.data.tobytes() == q.data.tobytes()


def test_by_epoch() -> None:
    optimizer = fn.SGD(lr=0.4)
    rates = Rates(optimizer)
    fn.fit(mlp(), X, Y, epochs=4, optimizer=optimizer, callbacks=[fn.StepLR(optimizer, 2, 0.5), rates])
    assert rates.seen == [0.4, 0.2, 0.2, 0.1]


BY_BATCH: dict[str, Callable[[Optimizer], fn.Schedule]] = {
    "OneCycleLR": lambda o: fn.OneCycleLR(o, 0.2, total_steps=40),
    "CosineAnnealingLR": lambda o: fn.CosineAnnealingLR(o, 40, interval="batch"),
    "SequentialLR": lambda o: fn.SequentialLR(
        o, [fn.LinearLR(o, 0.1, total_iters=10), fn.ExponentialLR(o, 0.95)], [10], interval="batch"
    ),
}


@pytest.mark.parametrize("case", BY_BATCH)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_by_batch_as_the_loop(case: str, name: str) -> None:
    """Also with a smaller batch at the end of an epoch, and with groups that have rates of their own."""
    loop, fitted, slow = mlp(), mlp(), mlp()

    def made(model: fn.Sequential) -> Optimizer:
        groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.01}]
        options = {"momentum": 0.9} if name == "SGD" else {}
        optimizer: Optimizer = getattr(fn, name)(groups, lr=0.05, clip_norm=0.5, **options)
        return optimizer

    optimizer = made(loop)
    schedule = BY_BATCH[case](optimizer)
    for _ in range(4):
        for at in range(0, len(X), 10):
            scores, backward = loop.forward(X[at : at + 10], train=True)
            _, loss_backward = fn.CrossEntropyLoss().forward(scores, Y[at : at + 10])
            backward(loss_backward(), need_dx=False)
            optimizer.step()
            schedule.step()
    for model, more in ((fitted, []), (slow, [Slow()])):
        other = made(model)
        callback, rates = BY_BATCH[case](other), Rates(other)
        options = {"batch_size": 10, "epochs": 4, "shuffle": False, "optimizer": other}
        fn.fit(model, X, Y, callbacks=[callback, rates, *more], **options)
        assert_same(model, loop)
        assert callback.last_epoch == schedule.last_epoch == 40
        assert callback.get_last_lr() == schedule.get_last_lr()
        assert other.param_groups[1]["lr"] == schedule.get_last_lr()[1]
        assert rates.seen[-1] == schedule.get_last_lr()[0]
        assert other.pacer is None


@needs_native
def test_by_batch_is_replayed() -> None:
    counting = Counting()
    optimizer = fn.Adam()
    schedule = fn.OneCycleLR(optimizer, 0.1, epochs=10, steps_per_epoch=6)
    fn.fit(mlp(counting), X[:90], Y[:90], batch_size=15, epochs=10, seed=0, optimizer=optimizer, callbacks=[schedule])
    assert counting.calls[0] == 1 + 2  # the check of the data, a step to record and one to verify
    assert schedule.last_epoch == 60


@needs_native
def test_by_hand_in_a_captured_loop() -> None:
    a, b = mlp(), mlp()
    one, other = (fn.SGD(model.parameters(), lr=0.1, momentum=0.9) for model in (a, b))
    step = fn.capture(b, fn.CrossEntropyLoss(), other, X[:20], Y[:20])
    schedules = [fn.OneCycleLR(optimizer, 0.5, total_steps=12) for optimizer in (one, other)]
    for i in range(12):
        x, y = X[5 * i : 5 * i + 20], Y[5 * i : 5 * i + 20]
        scores, backward = a.forward(x, train=True)
        loss, loss_backward = fn.CrossEntropyLoss().forward(scores, y)
        backward(loss_backward(), need_dx=False)
        one.step()
        assert step(x, y) == loss
        record = step._last
        for schedule in schedules:
            schedule.step()
        assert record.holds  # what a schedule changes does not make it doubtful
        assert_same(a, b)


def test_steps_by_hand_after_fit_take_the_groups_options() -> None:
    model = mlp()
    optimizer = fn.SGD(lr=0.1)
    fn.fit(model, X, Y, epochs=1, optimizer=optimizer, callbacks=[fn.ExponentialLR(optimizer, 0.5, interval="batch")])
    optimizer.param_groups[0]["lr"] = 0.25
    bias = model[2].bias
    before = bias.data.copy()
    bias.grad[...], bias.used = 1, True
    optimizer.step()
    np.testing.assert_allclose(before - bias.data, 0.25, rtol=1e-5)


def test_plateau_by_the_history() -> None:
    optimizer = fn.SGD(lr=1e-20)  # nothing gets better
    schedule = fn.ReduceLROnPlateau(optimizer, patience=1, factor=0.5, eps=0)
    fn.fit(mlp(), X, Y, epochs=5, optimizer=optimizer, callbacks=[schedule], validation_data=(X, Y))
    assert optimizer.param_groups[0]["lr"] == 2.5e-21
    with pytest.raises(ValueError, match=r"^ReduceLROnPlateau: no 'val_loss' in the history"):
        optimizer = fn.SGD()
        fn.fit(mlp(), X, Y, epochs=1, optimizer=optimizer, callbacks=[fn.ReduceLROnPlateau(optimizer)])
    with pytest.raises(KeyError, match="no 'other_loss', but loss, seconds"):
        fn.ReduceLROnPlateau(optimizer, monitor="other_loss").on_epoch_end(mlp(), fn.History([1.0], seconds=[1.0]))


def test_what_is_better_on_a_plateau_goes_by_the_metrics_name() -> None:
    optimizer = fn.SGD(mlp().parameters(), lr=1)
    schedule = fn.ReduceLROnPlateau(optimizer, patience=0, monitor="val_accuracy")
    history = fn.History(val_accuracy=[0.5])
    for history.val_accuracy[0] in (0.5, 0.6, 0.7):
        schedule.on_epoch_end(mlp(), history)
    assert schedule.mode == "max" and optimizer.param_groups[0]["lr"] == 1
    assert fn.ReduceLROnPlateau(optimizer).mode == "min"
    with pytest.raises(ValueError, match=r"^ReduceLROnPlateau: expected mode 'min' or 'max' for 'val_f1'"):
        fn.ReduceLROnPlateau(optimizer, monitor="val_f1")


# --- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_from_a_state(case: str) -> None:
    first, second = optimizer_with_groups(momentum=0.9), optimizer_with_groups(momentum=0.9)
    schedule, resumed = CASES[case](fn, first), CASES[case](fn, second)
    for _ in range(7):
        schedule.step()
    state = json.loads(json.dumps(schedule.state_dict()))
    resumed.load_state_dict(state)
    for _ in range(10):
        assert resumed.get_last_lr() == schedule.get_last_lr()
        assert [group["momentum"] for group in second.param_groups] == [
            group["momentum"] for group in first.param_groups
        ]
        schedule.step()
        resumed.step()


def test_a_plateau_goes_on_from_a_state() -> None:
    first, second = optimizer_with_groups(), optimizer_with_groups()
    schedule, resumed = (fn.ReduceLROnPlateau(o, patience=2, cooldown=1) for o in (first, second))
    assert json.loads(json.dumps(schedule.state_dict()))["best"] is None
    metrics = (3.0, 2.0, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5, 2.5)
    for metric in metrics[:4]:
        schedule.step(metric)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    for metric in metrics[4:]:
        schedule.step(metric)
        resumed.step(metric)
        assert resumed.get_last_lr() == schedule.get_last_lr()
        assert resumed.state_dict() == schedule.state_dict()
    assert schedule.get_last_lr() != [0.1, 0.02]


def test_a_state_in_the_middle_of_an_epoch_counts_its_batches() -> None:
    states: list[Any] = []

    class Saving(fn.Callback):
        def on_batch_end(self, model: fn.Layer, batch: int, loss: float) -> None:
            states.append((schedule.state_dict(), optimizer.state_dict()["param_groups"][0]["lr"]))

    optimizer = fn.SGD(lr=0.5)
    schedule = fn.ExponentialLR(optimizer, 0.5, interval="batch")
    fn.fit(mlp(), X, Y, batch_size=30, epochs=2, optimizer=optimizer, callbacks=[schedule, Saving()])
    assert [state["last_epoch"] for state, _ in states] == list(range(1, 9))
    assert [lr for _, lr in states] == [0.5 * 0.5**n for n in range(1, 9)]


def test_the_initial_rate_is_part_of_the_optimizers_state() -> None:
    first, second = optimizer_with_groups(), optimizer_with_groups()
    schedule = fn.ExponentialLR(first, 0.5)
    schedule.step()
    second.load_state_dict(first.state_dict())
    assert fn.ExponentialLR(second, 0.5, last_epoch=0).get_last_lr() == schedule.get_last_lr() == [0.05, 0.01]


BAD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "optimizer": (lambda: fn.StepLR(fn.SGD, 3), TypeError, "StepLR: expected an optimizer"),  # type: ignore[arg-type]
    "interval": (
        lambda: fn.StepLR(fn.SGD(), 3, interval="day"),
        ValueError,
        "StepLR: expected interval 'epoch' or 'batch'",
    ),
    "step_size": (lambda: fn.StepLR(fn.SGD(), 0), ValueError, "StepLR: expected step_size of at least 1, got 0"),
    "T_max": (lambda: fn.CosineAnnealingLR(fn.SGD(), 0), ValueError, "CosineAnnealingLR: expected T_max"),
    "start_factor": (lambda: fn.LinearLR(fn.SGD(), 0.0), ValueError, "LinearLR: expected start_factor"),
    "total_iters": (lambda: fn.LinearLR(fn.SGD(), total_iters=0), ValueError, "LinearLR: expected total_iters"),
    "no steps": (lambda: fn.OneCycleLR(fn.SGD(), 1.0), ValueError, "OneCycleLR: expected total_steps, or epochs and"),
    "share": (
        lambda: fn.OneCycleLR(fn.SGD(), 1.0, 5, pct_start=2),
        ValueError,
        "OneCycleLR: expected at least one step",
    ),
    "anneal": (
        lambda: fn.OneCycleLR(fn.SGD(), 1.0, 5, anneal_strategy="up"),
        ValueError,
        "OneCycleLR: expected anneal",
    ),
    "no momentum": (lambda: fn.OneCycleLR(fn.Adagrad(), 1.0, 5), ValueError, "OneCycleLR: Adagrad has no momentum"),
    "groups": (
        lambda: fn.OneCycleLR(optimizer_with_groups(), [1.0], 5),
        ValueError,
        "OneCycleLR: expected max_lr of 2 groups, got 1",
    ),
    "milestones": (
        lambda: fn.SequentialLR(o := fn.SGD(), [fn.StepLR(o, 1)], [3]),
        ValueError,
        "SequentialLR: expected schedules and ascending milestones",
    ),
    "other optimizer": (
        lambda: fn.SequentialLR(fn.SGD(), [fn.StepLR(fn.SGD(), 1)], []),
        ValueError,
        "SequentialLR: StepLR is of another optimizer",
    ),
    "plateau in a sequence": (
        lambda: fn.SequentialLR(o := fn.SGD(), [fn.ReduceLROnPlateau(o)], []),  # type: ignore[list-item]
        TypeError,
        "SequentialLR: expected schedules of the learning rate alone, got ReduceLROnPlateau",
    ),
    "factor": (
        lambda: fn.ReduceLROnPlateau(fn.SGD(), factor=1),
        ValueError,
        "ReduceLROnPlateau: expected factor below 1",
    ),
    "mode": (lambda: fn.ReduceLROnPlateau(fn.SGD(), "up"), ValueError, "ReduceLROnPlateau: expected mode"),
    "plateau's": (lambda: fn.ReduceLROnPlateau(None), TypeError, "ReduceLROnPlateau: expected an opt"),  # type: ignore[arg-type]
    "unbound": (
        lambda: fn.fit(mlp(), X, Y, epochs=1, callbacks=[fn.StepLR(fn.SGD(), 1)]),
        ValueError,
        "StepLR: its optimizer has no parameters",
    ),
    "two": (
        lambda: fn.fit(
            mlp(), X, Y, optimizer=(o := fn.SGD()), callbacks=[fn.ExponentialLR(o, 0.5, interval="batch") for _ in "12"]
        ),
        ValueError,
        "ExponentialLR: the optimizer has another schedule by batch",
    ),
    "over": (
        lambda: fn.fit(mlp(), X, Y, optimizer=(o := fn.SGD()), callbacks=[fn.OneCycleLR(o, 0.1, 5)]),
        ValueError,
        "OneCycleLR: it ends after 5 steps",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refused(case: str) -> None:
    call, error, message = BAD[case]
    with pytest.raises(error, match=f"^{message}"):
        call()


def test_a_schedule_that_raises_leaves_the_optimizer_free() -> None:
    x, y = np.random.default_rng(0).random((97, 6)), np.arange(97) % 3
    model = fn.Linear(6, 3)
    optimizer = fn.SGD(model.parameters(), lr=0.1, momentum=0.9)
    schedule = fn.OneCycleLR(optimizer, 0.1, total_steps=6)  # an epoch has four batches
    with pytest.raises(ValueError, match="step"):
        fn.fit(model, x, y, optimizer=optimizer, callbacks=[schedule], epochs=3)
    assert schedule.last_epoch == 4 and optimizer.pacer is None
    fn.fit(model, x, y, optimizer=optimizer, epochs=1)


def test_a_schedule_of_another_models_optimizer_is_refused() -> None:
    x, y = np.random.default_rng(0).random((20, 6)), np.arange(20) % 3
    models = fn.Linear(6, 3), fn.Linear(6, 3)
    one, other = (fn.SGD(model.parameters(), lr=0.1) for model in models)
    for interval in ("epoch", "batch"):
        schedule = fn.ExponentialLR(one, 0.5, interval=interval)
        with pytest.raises(ValueError, match="ExponentialLR: its optimizer has parameters of another model"):
            fn.fit(models[1], x, y, optimizer=other, callbacks=[schedule], epochs=1)
    assert one.pacer is None
