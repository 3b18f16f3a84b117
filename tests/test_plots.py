"""fastnn.plots: what is drawn, that nothing is cut off or covered, and that files appear whole."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.metrics import confusion_matrix as counts

import fastnn as fn
from fastnn import plots

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
LONG = tuple(f"a class with a long name {i}" for i in range(10))


def history(epochs: int, validation: bool = True) -> fn.History:
    falling = [2.3 * 0.7**i for i in range(epochs)]
    rising = [1 - 0.9 * 0.7**i for i in range(epochs)]
    if not validation:
        return fn.History(falling, rising, [0.1] * epochs)
    return fn.History(falling, rising, [0.1] * epochs, [0.9 * v for v in falling], [0.99 * v for v in rising])


def labels(classes: int, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    true = rng.integers(0, classes, count)
    return true, np.where(rng.random(count) < 0.9, true, rng.integers(0, classes, count))


def drawn(figure: Any) -> Any:
    """The renderer, after the figure was laid out."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def tick_labels(axis: Any) -> list[Any]:
    """Those within the limits; the others are not drawn."""
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def check_nothing_is_cut_off(figure: Any, renderer: Any) -> None:
    page = figure.bbox
    for axes in figure.axes:
        for text in [
            axes.title,
            axes.xaxis.label,
            axes.yaxis.label,
            *tick_labels(axes.xaxis),
            *tick_labels(axes.yaxis),
        ]:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= page.x0 and box.y0 >= page.y0 and box.x1 <= page.x1 and box.y1 <= page.y1
            assert inside or not text.get_text(), f"{text.get_text()!r} at {box} leaves {page}"


def check_apart(texts: list[Any], renderer: Any) -> None:
    boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


# --- learning curves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("validation", [True, False])
@pytest.mark.parametrize("epochs", [1, 2, 10, 50, 1000])
def test_learning_curves(epochs: int, validation: bool) -> None:
    figure = plots.learning_curves(history(epochs, validation))
    renderer, (loss, accuracy) = drawn(figure), figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "validation"][: 1 + validation]
    for axes, wanted in ((loss, history(epochs).loss), (accuracy, [100 * a for a in history(epochs).accuracy])):
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(1, epochs + 1))
        np.testing.assert_allclose(axes.lines[0].get_ydata(), wanted)
        assert axes.get_xlabel() == "epoch" and axes.get_ylabel() and axes.get_title()
        shown = [label.get_text() for label in tick_labels(axes.xaxis)]
        assert shown and all(1 <= int(epoch) <= epochs for epoch in shown)
        check_apart(tick_labels(axes.xaxis), renderer)
        check_apart(tick_labels(axes.yaxis), renderer)
        legend = figure.legends[0].get_window_extent(renderer)
        assert not legend.overlaps(axes.get_window_extent(renderer))
        assert not legend.overlaps(axes.title.get_window_extent(renderer))
    check_nothing_is_cut_off(figure, renderer)


def test_a_single_epoch_is_visible() -> None:
    assert all(line.get_marker() == "o" for axes in plots.learning_curves(history(1)).axes for line in axes.lines)


def test_learning_curves_leave_out_what_is_not_finite() -> None:
    broken = history(3)
    broken.loss[1], broken.val_loss[2] = float("nan"), float("inf")
    loss = plots.learning_curves(broken).axes[0]
    assert np.isfinite(loss.lines[0].get_ydata()).tolist() == [True, False, True]
    assert np.isfinite(loss.get_ylim()).all()


def test_learning_curves_of_a_loss_without_accuracy() -> None:
    figure = plots.learning_curves(fn.History([3.0, 2.0], [], [0.1, 0.1]))
    assert [axes.get_title() for axes in figure.axes] == ["Loss"]


def test_learning_curves_without_an_epoch(tmp_path: Path) -> None:
    plots.learning_curves(fn.History(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_history_plots_itself(tmp_path: Path) -> None:
    assert len(history(2).plot(tmp_path / "a.png").axes) == 2
    assert os.listdir(tmp_path) == ["a.png"]


# --- confusion matrix -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["0123456789", CLOTHES, LONG, ("no", "yes"), [str(i) for i in range(60)]])
def test_confusion_matrix(names: Any) -> None:
    true, predicted = labels(len(names))
    figure = plots.confusion_matrix(true, predicted, names)
    renderer, (axes,) = drawn(figure), figure.axes
    wanted = counts(true, predicted, labels=range(len(names)))
    np.testing.assert_array_equal(axes.images[0].get_array(), wanted)
    assert [text.get_text() for text in axes.get_yticklabels()] == [str(name) for name in names]
    assert [text.get_text() for text in axes.get_xticklabels()] == [str(name) for name in names]
    right = int((true == predicted).sum())
    assert axes.get_title() == f"Accuracy {right / 5:.2f} % ({right} of 500)"
    if len(names) <= 50:
        assert [text.get_text() for text in axes.texts] == [str(count) for count in wanted.ravel()]
    check_nothing_is_cut_off(figure, renderer)
    check_apart(tick_labels(axes.yaxis), renderer)


def test_counts_fit_into_their_cells() -> None:
    true = np.repeat(np.arange(10), 20000)
    figure = plots.confusion_matrix(true, true, LONG)
    renderer, (axes,) = drawn(figure), figure.axes
    cell = axes.get_window_extent(renderer).width / 10
    assert all(text.get_window_extent(renderer).width < cell for text in axes.texts)


def test_classes_that_do_not_occur_are_shown() -> None:
    (axes,) = plots.confusion_matrix([0, 2], [0, 2], "abcd").axes
    assert axes.images[0].get_array().shape == (4, 4)


@pytest.mark.parametrize(
    ("true", "predicted", "error", "message"),
    [
        ([], [], fn.ShapeError, "at least one sample"),
        ([0, 1], [0], fn.ShapeError, r"expected labels \(2,\)"),
        ([[0, 1]], [[0, 1]], fn.ShapeError, "expected labels"),
        ([0, 2], [0, 1], ValueError, "from 0 to 1, got 2"),
        ([0, 1], [0, -1], ValueError, "from 0 to 1, got -1"),
        ([0.5], [0.5], fn.DTypeError, "integer"),
    ],
)
def test_confusion_matrix_refuses(true: Any, predicted: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plots.confusion_matrix(true, predicted, ("no", "yes"))


# --- files, and what is not touched -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begin"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"), ("a", b"\x89PNG")]
)
def test_the_ending_chooses_the_format(tmp_path: Path, name: str, begin: bytes) -> None:
    plots.learning_curves(history(2), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(begin)
    assert os.listdir(tmp_path) == [name]


def test_an_unknown_format_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="xyz"):
        plots.learning_curves(history(2), tmp_path / "a.xyz")
    assert os.listdir(tmp_path) == []


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"old")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        plots.learning_curves(history(2), tmp_path / "a.png")
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


def test_nothing_global_changes() -> None:
    script = """
import sys, matplotlib
def settings(): return {name: matplotlib.rcParams[name] for name in matplotlib.rcParams if name != "backend"}
before = settings()
from fastnn import History, plots
plots.learning_curves(History([1.0], [0.5], [0.1]))
assert "matplotlib.pyplot" not in sys.modules
plots.confusion_matrix([0, 1], [0, 1], "ab")
assert settings() == before  # without the backend, which to ask for is to choose
assert sys.modules["matplotlib.pyplot"].get_fignums() == []
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize(("missing", "extra"), [("matplotlib.figure", "plot"), ("sklearn.metrics", "sklearn")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, missing: str, extra: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf'pip install "fastnn\[{extra}\]"') as caught:
        plots.confusion_matrix([0], [0], "ab")
    assert "\n" not in str(caught.value)
    with pytest.raises(ImportError):
        plots.require()


def test_any_object_with_the_four_lists_will_do() -> None:
    plots.learning_curves(SimpleNamespace(loss=[1.0], accuracy=[], val_loss=[], val_accuracy=[]))
