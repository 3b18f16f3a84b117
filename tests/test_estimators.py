"""Estimators: the same networks as scikit-learn's, what they have beside it, and all of its tools around them."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import fastnn as fn

pytest.importorskip("sklearn")

import joblib
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.estimators import MLPClassifier, MLPRegressor, NetClassifier, NetRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PEERS = {MLPClassifier: sklearn.neural_network.MLPClassifier, MLPRegressor: sklearn.neural_network.MLPRegressor}
OURS = ("dropout", "batch_norm", "class_weight", "callbacks")

SINCE_1_7 = "sample_weight" in inspect.signature(PEERS[MLPClassifier].fit).parameters

X, DIGIT = load_digits(return_X_y=True)
X, DIGIT = X[:330] / 16, DIGIT[:330]
SMALL: dict[str, Any] = {"hidden_layer_sizes": (12, 7), "max_iter": 6, "random_state": 3}
WEIGHTS = np.random.default_rng(0).uniform(0.1, 2, len(X))
TABLE = np.stack([DIGIT > 4, DIGIT % 2 == 0, DIGIT == 3], axis=1).astype(int)
TARGETS = {"digits": DIGIT, "two": DIGIT > 4, "words": np.array([f"no {d}" for d in DIGIT]), "table": TABLE}
SOLVERS: tuple[dict[str, Any], ...] = (
    {},
    {"alpha": 1.0, "batch_size": 50, "activation": "tanh", "beta_1": 0.8, "epsilon": 1e-4},
    {"shuffle": False, "activation": "logistic"},
    {"early_stopping": True, "activation": "identity"},
    {"solver": "sgd", "learning_rate_init": 0.1, "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1, "nesterovs_momentum": False},
    {"solver": "sgd", "momentum": 0.0, "early_stopping": True, "tol": 0.5, "n_iter_no_change": 2, "max_iter": 9},
    {"solver": "lbfgs"},
)


def both(kind: type, **how: Any) -> tuple[Any, Any]:
    how = {**SMALL, **how}
    return kind(**how), PEERS[kind](**how)


def check_same(ours: Any, theirs: Any, exactly_reported: bool = True) -> None:
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    for name in ("n_iter_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "t_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    near = 1e-9 if exactly_reported else 1e-3  # see test_what_is_reported_of_weighted_samples
    np.testing.assert_allclose(ours.loss_, theirs.loss_, rtol=near)
    if theirs.solver != "lbfgs":
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=near)
        assert (ours.best_loss_ is None) == (theirs.best_loss_ is None)
        assert ours.validation_scores_ == (
            None if theirs.validation_scores_ is None else pytest.approx(theirs.validation_scores_)
        )
        assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_)


@pytest.mark.parametrize("how", SOLVERS, ids=lambda how: "-".join(map(str, how.values())) or "adam")
@pytest.mark.parametrize("target", TARGETS)
def test_a_classifier_is_scikit_learns(how: dict[str, Any], target: str) -> None:
    if target == "words" and how.get("early_stopping") and not SINCE_1_7:
        pytest.skip("before 1.7 scikit-learn's early stopping cannot score labels that are strings")
    ours, theirs = (net.fit(X, TARGETS[target]) for net in both(MLPClassifier, **how))
    check_same(ours, theirs)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    for ask in ("predict_proba", "predict_log_proba"):
        np.testing.assert_allclose(getattr(ours, ask)(X), getattr(theirs, ask)(X), rtol=1e-7, atol=1e-9)
    assert ours.score(X, TARGETS[target]) == theirs.score(X, TARGETS[target])


@pytest.mark.parametrize("how", SOLVERS, ids=lambda how: "-".join(map(str, how.values())) or "adam")
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regressor_is_scikit_learns(how: dict[str, Any], outputs: int) -> None:
    y = X[:, :20] @ np.random.default_rng(1).standard_normal((20, outputs)) if outputs > 1 else X[:, 20] * X[:, 30]
    if how.get("solver") == "lbfgs" and outputs > 1:  # theirs has the gradient of another function than its loss
        ours, theirs = (net.fit(X, y) for net in both(MLPRegressor, **{**how, "max_iter": 100}))
        assert ours.score(X, y) > theirs.score(X, y) - 0.01
        return
    ours, theirs = (net.fit(X, y) for net in both(MLPRegressor, **how))
    check_same(ours, theirs)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-7, atol=1e-9)


@pytest.mark.skipif(not SINCE_1_7, reason="scikit-learn's has the loss since 1.7")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_poisson(solver: str) -> None:
    y = np.random.default_rng(1).poisson(1 + 4 * X[:, [20, 30]])
    ours, theirs = (net.fit(X, y) for net in both(MLPRegressor, loss="poisson", solver=solver))
    check_same(ours, theirs)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-7)
    with pytest.raises(ValueError, match="MLPRegressor: expected y of at least 0 for loss='poisson', got -1"):
        ours.fit(X, y - 1)


takes_weights = pytest.mark.skipif(not SINCE_1_7, reason="scikit-learn's takes sample_weight since 1.7")


@takes_weights
@pytest.mark.parametrize("how", SOLVERS, ids=lambda how: "-".join(map(str, how.values())) or "adam")
def test_weighted_samples(how: dict[str, Any]) -> None:
    ours, theirs = (net.fit(X, DIGIT, sample_weight=WEIGHTS) for net in both(MLPClassifier, **how))
    check_same(ours, theirs, exactly_reported=how.get("solver") == "lbfgs")


@takes_weights
def test_what_is_reported_of_weighted_samples() -> None:
    """L2's term is over the mean weight in every batch, where scikit-learn has that of the batch; the step has, too."""
    ours, theirs = (net.fit(X, DIGIT, WEIGHTS) for net in both(MLPClassifier, alpha=0.0))
    check_same(ours, theirs)


def test_float32_is_trained_in_float32() -> None:
    x = X.astype("f")
    ours, theirs = (net.fit(x, DIGIT) for net in both(MLPClassifier))
    assert ours.coefs_[0].dtype == ours.predict_proba(x).dtype == np.float32
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert MLPClassifier(**SMALL).fit((16 * X).astype(int), DIGIT).coefs_[0].dtype == np.float64


@pytest.mark.parametrize("kind", PEERS)
def test_all_its_parameters_with_its_defaults(kind: type) -> None:
    ours, theirs = (inspect.signature(k).parameters for k in (kind, PEERS[kind]))
    assert {name: p.default for name, p in theirs.items()}.items() <= {n: p.default for n, p in ours.items()}.items()
    assert {name: p.kind for name, p in theirs.items()}.items() <= {n: p.kind for n, p in ours.items()}.items()
    assert set(ours) - set(theirs) - {"loss"} <= set(OURS)


EXAMPLE = """
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split

X, y = make_classification(n_samples=100, random_state=1)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=1)
clf = MLPClassifier(random_state=1, max_iter=300).fit(X_train, y_train)
probabilities = clf.predict_proba(X_test[:1])
predicted = clf.predict(X_test[:5, :])
score = clf.score(X_test, y_test)
"""


def test_only_the_import_changes() -> None:
    results = []
    for module in ("sklearn.neural_network", "fastnn.estimators"):
        names: dict[str, Any] = {}
        exec(f"from {module} import MLPClassifier\n{EXAMPLE}", names)
        results.append([names[name] for name in ("probabilities", "predicted", "score")])
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("kind", PEERS)
def test_training_goes_on(kind: type) -> None:
    """By partial_fit, batch after batch, even through pickle, and by warm_start."""
    y = DIGIT if kind is MLPClassifier else X[:, 20]
    first = {"classes": np.arange(12)} if kind is MLPClassifier else {}
    for how in ({}, {"solver": "sgd", "learning_rate": "invscaling"}):
        ours, theirs = both(kind, **how)
        for start in (0, 100, 200):
            rows = slice(start, start + 100)
            for net in (ours, theirs):
                net.partial_fit(X[rows], y[rows], **({} if start else first))
            check_same(ours, theirs)
            ours = pickle.loads(pickle.dumps(ours))
    ours, theirs = both(kind, warm_start=True, max_iter=3)
    for _ in range(2):
        check_same(ours.fit(X, y), theirs.fit(X, y))
    assert len(ours.loss_curve_) == 6
    for net in (ours, theirs):  # with the optimizer of fit
        net.partial_fit(X, y)
    check_same(ours, theirs)


def test_what_is_watched_may_change_from_fit_to_fit() -> None:
    net = MLPClassifier(**SMALL, warm_start=True).fit(X, DIGIT)
    net.set_params(early_stopping=True).fit(X, DIGIT)
    assert len(net.validation_scores_) == SMALL["max_iter"] and net.best_loss_ is None
    net.set_params(early_stopping=False).partial_fit(X, DIGIT)
    assert net.validation_scores_ is None and net.best_loss_ == net.loss_


def test_the_best_of_all_fits_that_went_on_comes_back() -> None:
    """Where a later fit is worse; scikit-learn's best weights are then those that the later fit has changed."""
    net = MLPClassifier(**{**SMALL, "max_iter": 20}, early_stopping=True, warm_start=True).fit(X, DIGIT)
    best, epochs = net.predict_proba(X), net.n_iter_
    net.set_params(shuffle=False, learning_rate_init=10.0).fit(X, np.roll(DIGIT, 1))
    assert max(net.validation_scores_[epochs:]) < net.best_validation_score_
    np.testing.assert_array_equal(net.predict_proba(X), best)


def test_no_optimizer_goes_on_where_there_is_none() -> None:
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPClassifier(solver="lbfgs").partial_fit(X, DIGIT)
    with pytest.raises(ValueError, match="MLPClassifier: partial_fit does not support early_stopping=True"):
        MLPClassifier(early_stopping=True).partial_fit(X, DIGIT, classes=np.arange(10))
    with pytest.raises(ValueError, match="MLPClassifier: expected classes, all of them, in the first call"):
        MLPClassifier().partial_fit(X, DIGIT)
    net = MLPClassifier(**SMALL).partial_fit(X[:50], DIGIT[:50] % 3, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="expected y with the classes"):
        net.partial_fit(X[:50], DIGIT[:50])
    with pytest.raises(ValueError, match="expected classes"):
        net.partial_fit(X[:50], DIGIT[:50] % 3, classes=[0, 1])


def test_it_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(ConvergenceWarning, match="MLPClassifier: max_iter=2 reached"):
        MLPClassifier(max_iter=2, early_stopping=True, verbose=True).fit(X, DIGIT)
    told = capsys.readouterr().out
    assert "Iteration 2, loss = " in told and "Validation score: " in told
    with pytest.warns(ConvergenceWarning, match="lbfgs did not converge after 3 iterations"):
        MLPClassifier(max_iter=3, solver="lbfgs").fit(X, DIGIT)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"alpha": -1}, "expected alpha as a number of at least 0, got -1"),
        ({"solver": "newton"}, "expected solver as one of 'lbfgs', 'sgd', 'adam', got 'newton'"),
        ({"batch_size": 0}, "expected batch_size as a whole number of at least 1, or 'auto', got 0"),
        ({"learning_rate_init": 0.0}, "expected learning_rate_init as a number above 0, got 0.0"),
        ({"dropout": 1.0}, "expected dropout as a number of at least 0 and below 1, got 1.0"),
        ({"shuffle": "yes"}, "expected shuffle as True or False, got 'yes'"),
        ({"hidden_layer_sizes": (5, 0)}, "hidden_layer_sizes must be > 0"),
        ({"solver": "lbfgs", "dropout": 0.5}, "dropout, batch_norm and callbacks need solver 'adam' or 'sgd'"),
        ({"early_stopping": True, "validation_fraction": 0.001}, "fewer than 2 samples to validate by"),
    ],
)
def test_what_makes_no_sense_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPClassifier(**how).fit(X, DIGIT)


@pytest.mark.filterwarnings("ignore:fit. the loss is")
def test_a_training_that_diverges() -> None:
    with pytest.raises(ValueError, match="MLPRegressor: weights are not finite after training"):
        MLPRegressor(activation="identity", solver="sgd", learning_rate_init=10, max_iter=50).fit(100 * X, X[:, 20])


# --- what scikit-learn's have not -------------------------------------------------------------------------------------


def test_dropout_and_batch_norm() -> None:
    how = {**SMALL, "hidden_layer_sizes": (40,), "max_iter": 30}
    plain, dropped = (MLPClassifier(**how, dropout=p).fit(X, DIGIT) for p in (0.0, 0.5))
    assert dropped.loss_ > plain.loss_
    again = MLPClassifier(**how, dropout=0.5).fit(X, DIGIT)
    assert again.loss_curve_ == dropped.loss_curve_
    kinds = [
        type(layer).__name__ for layer in MLPClassifier(**how, dropout=0.1, batch_norm=True).fit(X, DIGIT).network_
    ]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    normalised = MLPClassifier(**how, batch_norm=True, batch_size=47).fit(X, DIGIT)  # 330 = 7 · 47 + 1
    assert normalised.score(X, DIGIT) > plain.score(X, DIGIT)
    assert pickle.loads(pickle.dumps(normalised)).score(X, DIGIT) == normalised.score(X, DIGIT)


def test_class_weight() -> None:
    rare = DIGIT == 8
    found = {}
    for weight in (None, "balanced", {True: 9.0}):
        found[str(weight)] = MLPClassifier(**SMALL, class_weight=weight).fit(X, rare).predict_proba(X)[:, 1].mean()
    assert found["None"] < found["{True: 9.0}"] < 1 and found["None"] < found["balanced"]
    by_hand = MLPClassifier(**SMALL).fit(X, rare, sample_weight=np.where(rare, 9.0, 1.0))
    assert found["{True: 9.0}"] == by_hand.predict_proba(X)[:, 1].mean()
    with pytest.raises(ValueError, match="'balanced' needs all labels"):
        MLPClassifier(class_weight="balanced").partial_fit(X, rare, classes=[False, True])


def test_callbacks_and_validation_loss() -> None:
    seen = []
    how = {**SMALL, "max_iter": 50, "early_stopping": True}
    net = MLPClassifier(**how, callbacks=[lambda model, history: seen.append(history.val_loss[-1]) or len(seen) == 4])
    net.fit(X, DIGIT)
    assert net.n_iter_ == 4 and net.validation_loss_curve_ == seen
    assert net.validation_loss_curve_[-1] < net.validation_loss_curve_[0]
    assert MLPClassifier(**SMALL).fit(X, DIGIT).validation_loss_curve_ is None
    with pytest.raises(ValueError, match="callbacks: a Checkpoint is for"):
        MLPClassifier(callbacks=[fn.Checkpoint("run.safetensors")]).fit(X, DIGIT)


def test_weights_are_views() -> None:
    net = MLPClassifier(**SMALL).fit(X, DIGIT)
    net.coefs_[0][...] = 0
    net.intercepts_[0][...] = 0
    assert np.ptp(net.predict_proba(X), axis=0).max() == 0


# --- any model --------------------------------------------------------------------------------------------------------


def perceptron(shape: tuple[int, ...], outputs: int, hidden: int = 32) -> fn.Layer:
    return fn.Sequential(fn.Linear(*shape, hidden), fn.ReLU(), fn.Linear(hidden, outputs))


def convolutions(shape: tuple[int, ...], outputs: int) -> fn.Layer:
    assert shape == (1, 8, 8)
    return fn.Sequential(fn.Conv2d(1, 8, 3), fn.ReLU(), fn.MaxPool2d(2), fn.Flatten(), fn.Linear(72, outputs))


ADAM = partial(fn.Adam, lr=0.01)


def test_a_net_of_images() -> None:
    images, words = X.reshape(-1, 1, 8, 8), TARGETS["words"]
    net = NetClassifier(convolutions, optimizer=fn.Adam(lr=0.01), epochs=12, random_state=0)
    assert cross_val_score(net, images, words, cv=3).mean() > 0.85
    net.fit(images, words)
    again = clone(net).fit(images, words)
    np.testing.assert_array_equal(net.predict_proba(images), again.predict_proba(images))
    np.testing.assert_array_equal(net.predict_proba(images), pickle.loads(pickle.dumps(net)).predict_proba(images))
    assert net.sample_shape_ == (1, 8, 8) and net.n_outputs_ == 10 and net.n_iter_ == 12 == net.history_.epochs
    with pytest.raises(
        fn.ShapeError, match=r"NetClassifier: expected X \(N, 1, 8, 8\), as in fit, got \(330, 1, 4, 16\)"
    ):
        net.predict(images.reshape(-1, 1, 4, 16))


def test_a_net_of_tables_and_of_several_numbers() -> None:
    net = NetClassifier(perceptron, optimizer=ADAM, epochs=20, random_state=0).fit(X, TABLE)
    assert net.predict(X).shape == TABLE.shape and net.score(X, TABLE) > 0.8
    assert net.predict_proba(X).max() <= 1
    y = np.stack([X[:, 20] * X[:, 30], X[:, 42]], axis=1)
    numbers = NetRegressor(perceptron, optimizer=ADAM, epochs=40, random_state=0)
    assert numbers.fit(X, y).score(X, y) > 0.9 and numbers.predict(X).shape == y.shape
    assert numbers.fit(X, y[:, 0]).predict(X).shape == (len(X),)


def test_a_net_with_a_schedule_and_a_part_held_out() -> None:
    rates = []

    def callbacks(optimizer: fn.Optimizer) -> list[Any]:
        watch = lambda model, history: rates.append(optimizer.param_groups[0]["lr"])  # noqa: E731
        return [watch, fn.StepLR(optimizer, 2), fn.EarlyStopping(patience=3)]

    net = NetClassifier(
        perceptron, optimizer=ADAM, epochs=5, callbacks=callbacks, validation_fraction=0.2, random_state=0
    )
    net.fit(X, DIGIT, sample_weight=WEIGHTS)
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001])
    assert len(net.validation_loss_curve_) == len(net.loss_curve_) == 5


def test_a_net_goes_on() -> None:
    one = NetRegressor(perceptron, optimizer=ADAM, epochs=2, warm_start=True, random_state=0)
    y = X[:, 20]
    losses = [one.fit(X, y).loss_curve_[-1] for _ in range(3)]
    assert all(later < earlier for earlier, later in pairwise(losses)) and len(one.loss_curve_) == 6
    kept, pickled = (NetClassifier(perceptron, optimizer=ADAM, random_state=0) for _ in range(2))
    for start in (0, 150):
        rows = slice(start, start + 150)
        kept.partial_fit(X[rows], DIGIT[rows], classes=np.arange(10))
        pickled = pickle.loads(pickle.dumps(pickled.partial_fit(X[rows], DIGIT[rows], classes=np.arange(10))))
    np.testing.assert_array_equal(kept.predict_proba(X), pickled.predict_proba(X))


def test_a_model_is_copied_and_others_draws_go_on() -> None:
    fn.manual_seed(5)
    model = perceptron((64,), 10)
    before = [p.data.copy() for p in model.parameters()]
    drawn = fn.Linear(3, 3).weight.data
    fn.manual_seed(5)
    perceptron((64,), 10)
    net = NetClassifier(model, random_state=0).fit(X, DIGIT)
    NetClassifier(perceptron, random_state=0).fit(X, DIGIT)
    assert all(np.array_equal(a, p.data) for a, p in zip(before, model.parameters(), strict=True))
    assert not np.array_equal(before[0], next(iter(net.network_.parameters())).data)
    np.testing.assert_array_equal(fn.Linear(3, 3).weight.data, drawn)


def test_a_net_needs_a_model() -> None:
    with pytest.raises(TypeError, match="NetClassifier: expected a model, or a function"):
        NetClassifier(fn.Linear).fit(X, DIGIT)
    with pytest.raises(TypeError, match="model: expected a layer or model, got int"):
        NetClassifier(lambda shape, outputs: 3).fit(X, DIGIT)
    with pytest.raises(TypeError, match="NetClassifier: expected an optimizer without parameters"):
        NetClassifier(perceptron, optimizer=3).fit(X, DIGIT)
    with pytest.raises(ValueError, match="NetRegressor: epochs: expected a whole number of at least 1, got 0"):
        NetRegressor(perceptron, epochs=0).fit(X, DIGIT)


# --- scikit-learn's tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array"])
def test_sparse_data(kind: str) -> None:
    x = getattr(scipy.sparse, kind)(X)
    for how in ({}, {"solver": "lbfgs"}, {"early_stopping": True}):
        dense, sparse = (MLPClassifier(**SMALL, **how).fit(data, DIGIT) for data in (X, x))
        np.testing.assert_allclose(sparse.predict_proba(x), dense.predict_proba(X), rtol=1e-9)
    net = NetClassifier(perceptron, random_state=0, epochs=2)
    np.testing.assert_allclose(net.fit(x, DIGIT).predict_proba(X), net.fit(X, DIGIT).predict_proba(x), rtol=1e-5)
    table = MLPClassifier(**SMALL).fit(X, scipy.sparse.csr_matrix(TABLE)).predict(X)
    assert scipy.sparse.issparse(table) and table.shape == TABLE.shape


def test_data_frames() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    for net in (MLPClassifier(**SMALL), NetClassifier(perceptron)):
        net.fit(frame, pandas.Series(TARGETS["words"]))
        assert list(net.feature_names_in_) == list(frame)
        with pytest.raises(ValueError, match="feature names"):
            net.predict(frame[list(frame)[::-1]])


def test_pipelines_searches_calibration_and_importance() -> None:
    x, y = load_wine(return_X_y=True)
    pipe = make_pipeline(StandardScaler(), MLPClassifier((8,), learning_rate_init=0.03, max_iter=40, random_state=0))
    search = GridSearchCV(pipe, {"mlpclassifier__dropout": [0, 0.2], "mlpclassifier__alpha": [1e-4, 1]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.93
    calibrated = CalibratedClassifierCV(pipe, cv=3).fit(x, y)
    assert calibrated.score(x, y) > 0.95
    proline = permutation_importance(pipe.fit(x, y), x, y, n_repeats=3, random_state=0).importances_mean
    assert proline.shape == (13,) and proline.max() > 0.01
    nets = GridSearchCV(
        NetClassifier(perceptron, epochs=15, random_state=0),
        {"model": [perceptron, partial(perceptron, hidden=8)], "optimizer": [fn.Adam(lr=0.01), fn.SGD(lr=0.05)]},
        cv=3,
    )
    assert nets.fit(StandardScaler().fit_transform(x), y).best_score_ > 0.93


def _threads(_: int) -> int:
    return fn.get_num_threads()


def test_workers_share_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FASTNN_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    most = max(1, joblib.cpu_count() // 2)
    assert max(joblib.Parallel(n_jobs=2)(joblib.delayed(_threads)(i) for i in range(4))) <= most
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(_threads)(i) for i in range(2)) == [1, 1]
        grid = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).fit(X, DIGIT)
    alone = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, DIGIT)
    assert list(grid.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])


def test_a_search_on_threads() -> None:
    searches = []
    for jobs in (1, 2):
        with joblib.parallel_config("threading"):
            nets = NetClassifier(perceptron, epochs=2, random_state=0)
            found = GridSearchCV(nets, {"batch_size": [16, 32]}, cv=3, n_jobs=jobs).fit(X, DIGIT)
            more = GridSearchCV(MLPClassifier(**SMALL), {"alpha": [1e-4, 1e-2]}, cv=3, n_jobs=jobs).fit(X, DIGIT)
        searches.append([list(search.cv_results_["mean_test_score"]) for search in (found, more)])
    assert searches[0] == searches[1]


def test_on_plain_numpy() -> None:
    with fn.use_backend("reference"):
        ours, theirs = (net.fit(X, DIGIT) for net in both(MLPClassifier, early_stopping=True, max_iter=3))
    check_same(ours, theirs)


@pytest.mark.slow
def test_a_search_on_dask() -> None:
    distributed = pytest.importorskip("distributed")
    grid = {"alpha": [1e-4, 1e-2, 1], "hidden_layer_sizes": [(8,), (16,)]}
    search = GridSearchCV(MLPClassifier(max_iter=20, random_state=0), grid, cv=3)
    alone = clone(search).fit(X, DIGIT)
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client, joblib.parallel_config("dask"):
        search.fit(X, DIGIT)
        assert set(client.run(fn.get_num_threads).values()) == {1}
        assert len(client.run(os.getpid)) == 2
    assert list(search.cv_results_["mean_test_score"]) == list(alone.cv_results_["mean_test_score"])
    assert search.best_params_ == alone.best_params_


def test_fastnn_by_itself_imports_no_scikit_learn() -> None:
    code = "import sys, fastnn; assert not {'sklearn', 'scipy'} & set(sys.modules); fastnn.estimators.MLPClassifier"
    subprocess.run([sys.executable, "-c", code], check=True)
    code = "import sys; sys.modules['sklearn'] = None; import fastnn; fastnn.estimators"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'fastnn.estimators needs scikit-learn: pip install "fastnn[sklearn]"' in found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("load", [load_digits, load_breast_cancer, load_wine, load_diabetes])
def test_scores_are_scikit_learns(load: Any) -> None:
    """With the same parameters, of five folds, not worse by more than a standard error."""
    x, y = load(return_X_y=True)
    kind = MLPRegressor if load is load_diabetes else MLPClassifier
    ours, theirs = (
        cross_val_score(make_pipeline(StandardScaler(), net(random_state=0)), x, y, cv=5) for net in (kind, PEERS[kind])
    )
    assert ours.mean() >= theirs.mean() - theirs.std(ddof=1) / np.sqrt(5)


def test_another_choice_begins_with_its_own_optimizer() -> None:
    for first, second in (("adam", "sgd"), ("sgd", "adam")):
        ours = MLPClassifier(**{**SMALL, "solver": first}).partial_fit(X, DIGIT, classes=np.unique(DIGIT))
        other = pickle.loads(pickle.dumps(ours)).set_params(solver=second, learning_rate_init=0.01)
        for _ in range(5):
            other.partial_fit(X, DIGIT)
        assert type(other._optimizer).__name__.lower() == second
        assert other.loss_curve_[-1] < other.loss_curve_[1] < other.loss_curve_[0]
    net = NetClassifier(lambda shape, outputs: fn.Linear(64, outputs), epochs=1, warm_start=True).fit(X, DIGIT)
    kept = net._optimizer
    assert net.fit(X, DIGIT)._optimizer is kept
    assert isinstance(net.set_params(optimizer=fn.Adam()).fit(X, DIGIT)._optimizer, fn.Adam)


def test_weights_of_a_network_may_be_set() -> None:
    ours = MLPClassifier(**SMALL).fit(X, DIGIT)
    ours.coefs_[0] = np.zeros_like(ours.coefs_[0])
    assert not ours.coefs_[0].any()
    ours.intercepts_ = [np.ones_like(b) for b in ours.intercepts_]
    assert all((b == 1).all() for b in ours.intercepts_)
    with pytest.raises(fn.ShapeError, match=r"expected an array of shape \(64, 12\), got \(12, 64\)"):
        ours.coefs_[0] = np.zeros((12, 64))


def test_what_no_sample_could_teach() -> None:
    for estimator in (MLPClassifier(**SMALL, class_weight=dict.fromkeys(range(10), 0)), MLPClassifier(**SMALL)):
        weights = np.zeros(len(X)) if estimator.class_weight is None else None
        with pytest.raises(ValueError, match="weight"):
            estimator.fit(X, DIGIT, sample_weight=weights)
    with pytest.raises(fn.ShapeError, match="NetClassifier: expected 10 scores for a sample, the model returns 12"):
        NetClassifier(lambda shape, outputs: fn.Linear(64, 12), epochs=1).fit(X, DIGIT)
