"""Layers inside layers: names that meet, attributes of containers' subclasses, copies, branches on indices."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from conftest import needs_native

import fastnn as fn
from fastnn._kernels import Array
from fastnn.layers.layer import Backward

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((64, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 64)


class Counter(fn.Layer):
    """Counts its calls by NumPy, which a replay would not do."""

    def __init__(self, counts: bool) -> None:
        self.calls, self.counts = np.zeros(1), counts

    def forward(self, x: Array, train: bool = False) -> tuple[Array, Backward]:
        if self.counts:
            self.calls += 1
        return x, lambda dy, need_dx=True: dy if need_dx else None


@needs_native
def test_layers_of_the_same_name_are_each_watched() -> None:
    model = fn.Sequential(*(fn.Sequential(Counter(counts), fn.Linear(3, 3)) for counts in (True, False)))
    with pytest.warns(UserWarning, match="is changed, but not by a kernel"):
        fn.fit(model, ROWS, LABELS, epochs=2, batch_size=4)
    assert model[0][0].calls[0] >= 32  # type: ignore[index]
    with pytest.raises(fn.CaptureError, match="is changed, but not by a kernel"):
        fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), ROWS, LABELS)


class WithHead(fn.Sequential):
    """A chain and a layer of its own behind it."""

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers)
        self.head = fn.Linear(3, 3)

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        h, below = super().forward(x, train)
        y, above = self.head.forward(h, train)
        return y, lambda dy, need_dx=True: below(above(dy), need_dx=need_dx)


def test_attributes_of_a_subclass_of_a_container_are_found() -> None:
    model = WithHead(fn.Linear(3, 3))
    before = model.head.weight.data.copy()
    assert list(model.state_dict()) == ["0.weight", "0.bias", "head.weight", "head.bias"]
    fn.fit(model, ROWS, LABELS, epochs=1)
    assert not np.array_equal(before, model.head.weight.data)


class Doubled(fn.Sequential):
    """Not what a chain computes."""

    def forward(self, x: Any, train: bool = False) -> tuple[Any, Backward]:
        y, backward = self[0].forward(x, train)
        return self[1].forward(2 * y, train)[0], backward


def test_only_chains_are_folded() -> None:
    model = fn.Sequential(Doubled(fn.Linear(3, 3), fn.BatchNorm1d(3)), fn.Linear(3, 3), fn.BatchNorm1d(3))
    model.forward(3 * ROWS + 1, True)
    folded = fn.fold_batch_norm(model)
    assert [type(layer) for layer in folded.modules()].count(fn.BatchNorm1d) == 1
    np.testing.assert_allclose(folded(ROWS), model(ROWS), rtol=1e-4, atol=1e-5)


def tokens(mode: str) -> fn.Sequential:
    branches = fn.Parallel(fn.Embedding(10, 4), fn.Embedding(5, 4), mode=mode, dim=-1)
    return fn.Sequential(branches, fn.Flatten(), fn.Linear(16 if mode == "concatenate" else 8, 2))


@pytest.mark.parametrize("mode", ["sum", "concatenate"])
def test_branches_on_indices(mode: str) -> None:
    model, x, y = tokens(mode), np.array([[0, 1], [2, 4], [3, 3]]), np.array([0, 1, 0])
    assert model.vocabulary == 5
    for _ in range(3):
        model.scores(x)
    with pytest.raises(ValueError, match="indices from 0 to 4, got 5"):
        model.scores(x + 3)
    scores, backward = model.forward(x, train=True)
    assert backward(fn.CrossEntropyLoss().forward(scores, y)[1]()) is None


@needs_native
def test_a_captured_step_checks_indices() -> None:
    model, x, y = tokens("sum"), np.array([[0, 1], [2, 4], [3, 3]]), np.array([0, 1, 0])
    step = fn.capture(model, fn.CrossEntropyLoss(), fn.SGD(lr=0.1), x, y)
    with pytest.raises(ValueError, match="indices from 0 to 4, got 5"):
        step(x + 3, y)
    assert all(np.isfinite(p.data).all() for p in model.parameters())


def test_copies_of_layers_with_random_bits_keep_what_else_they_have() -> None:
    class Scheduled(fn.Dropout):
        def __init__(self, rates: list[float]) -> None:
            super().__init__(rates[0])
            self.rates, self.extra = rates, fn.Linear(2, 2)

    model = fn.Sequential({"drop": Scheduled([0.2, 0.4])})
    copied = copy.deepcopy(model)[0]
    assert copied.label == "drop (Scheduled)" and copied.p == 0.2 and copied.rates == [0.2, 0.4]  # type: ignore
    assert np.array_equal(copied.extra.weight.data, model[0].extra.weight.data)  # type: ignore[attr-defined]
    assert not np.array_equal(copied.state, model[0].state)  # type: ignore[attr-defined]


def test_scores_are_never_the_callers_memory() -> None:
    for model in (fn.Sequential(fn.Flatten(), fn.Dropout()), fn.Parallel(fn.Identity(), fn.Identity(), mode="tuple")):
        found = model.scores(ROWS)
        heads = found if isinstance(found, tuple) else (found,)
        assert not any(np.may_share_memory(head, ROWS) for head in heads)
        assert len(heads) == 1 or not np.may_share_memory(*heads)
