"""fastnn.plots: what is drawn, that nothing is cut off or covered, and that files appear whole."""

from __future__ import annotations

import io
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
NAN = float("nan")
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


def test_every_accuracy_is_drawn_in_percent() -> None:
    run = SimpleNamespace(loss=[2.0, 1.0], val_upper_accuracy=[0.5, 0.75])
    (axes,) = plots.learning_curves(run, metrics="upper_accuracy").axes
    assert (axes.get_title(), axes.get_ylabel()) == ("Upper accuracy", "correct (%)")
    assert list(axes.lines[0].get_ydata()) == [50, 75]


def test_learning_curves_of_a_loss_without_accuracy() -> None:
    figure = plots.learning_curves(fn.History([3.0, 2.0], [], [0.1, 0.1]))
    assert [axes.get_title() for axes in figure.axes] == ["Loss"]


def test_learning_curves_without_an_epoch(tmp_path: Path) -> None:
    plots.learning_curves(fn.History(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_history_plots_itself(tmp_path: Path) -> None:
    assert len(history(2).plot(tmp_path / "a.png").axes) == 2
    assert os.listdir(tmp_path) == ["a.png"]
    assert [axes.get_title() for axes in history(2).plot(metrics="accuracy").axes] == ["Accuracy"]


RUNS = {f"lr {10.0**-i:g}, a rather long name": history(5 + i) for i in range(6)}


@pytest.mark.parametrize("count", [2, 6, 24, 60])
def test_learning_curves_of_many_runs(count: int) -> None:
    runs = {f"run {i} of a rather long name": history(30) for i in range(count)}
    figure = plots.learning_curves(runs)
    renderer, (loss, accuracy) = drawn(figure), figure.axes
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*runs, "training", "validation"]
    handles = [handle.get_color() for handle in legend.legend_handles[:count]]
    assert len({tuple(colour) for colour in handles}) == count
    for axes in (loss, accuracy):
        assert [line.get_color() for line in axes.lines] == [colour for colour in handles for _ in range(2)]
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--"] * count
        assert not legend.get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))
        assert axes.get_window_extent(renderer).width > 300  # the legend has not squeezed it
    page, box = figure.bbox, legend.get_window_extent(renderer)
    assert box.x0 >= page.x0 and box.x1 <= page.x1 and box.y0 >= page.y0 and box.y1 <= page.y1
    check_nothing_is_cut_off(figure, renderer)


def test_runs_of_different_lengths_share_an_axis() -> None:
    figure = plots.learning_curves(RUNS)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines[::2]] == [5, 6, 7, 8, 9, 10]
    assert figure.axes[0].get_xlim() == (0.5, 10.5)


def test_one_run_by_name_keeps_its_name() -> None:
    figure = plots.learning_curves({"only": history(3, validation=False)})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["only", "training"]
    assert plots.learning_curves({}).axes[0].texts[0].get_text() == "no complete epoch"


def test_any_metric_of_the_history() -> None:
    run = SimpleNamespace(loss=[2.0, 1.0], val_f1=[0.5, 0.6], accuracy=[])
    figure = plots.learning_curves(run, metrics=("f1", "loss", "recall"))
    f1, loss = figure.axes
    assert (f1.get_title(), loss.get_title()) == ("f1", "Loss")
    assert [line.get_label() for line in f1.lines] == ["validation"]
    np.testing.assert_array_equal(f1.lines[0].get_ydata(), [0.5, 0.6])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["training", "validation"]
    assert [axes.get_title() for axes in plots.learning_curves(run, metrics="f1").axes] == ["f1"]


FORMULAS = ("$5_$", r"$\frac$", "a$b_$^")


def test_names_are_no_formulas(tmp_path: Path) -> None:
    """Between dollars matplotlib reads mathematics, and fails on what is none."""
    run = SimpleNamespace(loss=[2.0, 1.0], **{"val_$x_$": [1.0, 2.0]})
    figure = plots.learning_curves({name: run for name in FORMULAS}, tmp_path / "a.svg", metrics=("$x_$", "loss"))
    drawn(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()][:3] == list(FORMULAS)
    assert figure.axes[0].get_title() == "$x_$"
    for names in (FORMULAS, ("$", "$$", "$_$"), ("$^", "$", "b")):  # long names are slanted
        figure = plots.confusion_matrix([0, 1, 2], [0, 1, 1], names, tmp_path / "a.png")
        drawn(figure)
        assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == list(names)
        figure = plots.worst_mistakes(np.zeros((1, 1, 2, 2)), [0], [[0.2, 0.8, 0]], names, path=tmp_path / "a.pdf")
        check_page(figure)
        assert f"predicted: {names[1]} (80.0%)\ntrue: {names[0]}" in figure.axes[0].texts[1].get_text()


def test_learning_curves_over_iterations() -> None:
    run = SimpleNamespace(accuracy=[0.1, 0.2, 0.3], val_accuracy=[0.1, 0.15])
    figure = plots.learning_curves(run, metrics="accuracy", every=245, first=0, unit="iteration")
    renderer, (axes,) = drawn(figure), figure.axes
    assert [line.get_xdata().tolist() for line in axes.lines] == [[0, 245, 490], [0, 245]]
    assert axes.get_xlabel() == "iteration" and axes.get_xlim() == (-122.5, 612.5)
    check_nothing_is_cut_off(figure, renderer)


# --- heat maps --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("0.001", "1e-05"), ("a rather long name of a row", "$x_$")])
@pytest.mark.parametrize("columns", [1, 4, 12])
def test_heat_map(names: tuple[str, ...], columns: int, tmp_path: Path) -> None:
    values = np.linspace(0.1, 0.517, 2 * columns).reshape(2, columns)
    values[1, 0] = 2
    how = {"title": "Accuracy", "xlabel": "penalty", "ylabel": "rate"}
    figure = plots.heat_map(values, names, range(columns), tmp_path / "a.png", **how)
    renderer, (axes,) = drawn(figure), figure.axes
    assert [text.get_text() for text in axes.texts] == [f"{value:.3f}" for value in values.ravel()]
    (frame,) = axes.patches
    assert frame.get_center().tolist() == [0, 1] and axes.texts[columns].get_color() == "white"
    assert [label.get_text() for label in tick_labels(axes.yaxis)] == list(names)
    for text in axes.texts:
        box, cell = text.get_window_extent(renderer), axes.get_window_extent(renderer)
        assert box.width < cell.width / columns and box.height < cell.height / 2
    check_apart(tick_labels(axes.xaxis), renderer)
    check_nothing_is_cut_off(figure, renderer)
    assert os.listdir(tmp_path) == ["a.png"]


def test_heat_map_of_what_is_not_finite() -> None:
    (axes,) = plots.heat_map([[np.nan, 3], [np.inf, -np.inf]], "ab", "cd", number="g").axes
    assert [text.get_text() for text in axes.texts] == ["nan", "3", "nan", "nan"]
    assert axes.patches[0].get_center().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[1, 2]], fn.ShapeError, r"2 rows and 2 columns, got \(1, 2\)"),
        ([1, 2], fn.ShapeError, r"got \(2,\)"),
        ([[1], [2, 3]], fn.ShapeError, "values"),
        ([["a", "b"]] * 2, fn.DTypeError, "real numbers"),
        ([[np.nan] * 2] * 2, ValueError, "finite"),
    ],
)
def test_heat_map_refuses(values: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plots.heat_map(values, "ab", "cd")


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


@pytest.mark.parametrize("normalize", ["true", "pred", "all"])
def test_confusion_matrix_of_shares(normalize: str) -> None:
    true, predicted = labels(10)
    figure = plots.confusion_matrix(true, predicted, CLOTHES, normalize=normalize)
    renderer, (axes,) = drawn(figure), figure.axes
    wanted = counts(true, predicted, labels=range(10), normalize=normalize)
    np.testing.assert_array_equal(axes.images[0].get_array(), wanted)
    assert [text.get_text() for text in axes.texts] == [f"{share:.2f}" for share in wanted.ravel()]
    assert "shares of" in axes.get_title()
    check_nothing_is_cut_off(figure, renderer)


def test_an_unknown_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="expected normalize None, 'true', 'pred' or 'all', got 'rows'"):
        plots.confusion_matrix([0], [0], "ab", normalize="rows")


def test_marks_without_a_name_and_units_with_dollars() -> None:
    for mark in ("", "_x"):
        plots.bars({"a": 1.0}, marks={"a": 2.0}, mark=mark)
    figure = plots.learning_curves(fn.History([1.0]), unit="$x^$")
    figure.savefig(io.BytesIO())


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


# --- bars -------------------------------------------------------------------------------------------------------------

ERRORS = {"base": 7.95, "batch 64": 6.85, "a variation with a rather long name": 10.96751, "lr .01": 0.0}


def test_bars_with_marks() -> None:
    figure = plots.bars(
        ERRORS, marks={"batch 64": 6.9, "base": 12.0}, mark="the course", xlabel="wrong (%)", title="Errors"
    )
    renderer, (axes,) = drawn(figure), figure.axes
    assert [bar.get_width() for bar in axes.patches] == [*ERRORS.values()]
    assert [label.get_text() for label in axes.get_yticklabels()] == [*ERRORS]
    tops = [bar.get_window_extent(renderer).y1 for bar in axes.patches]
    assert tops == sorted(tops, reverse=True)  # the first is on top
    ((base, batch),) = (lines.get_segments() for lines in axes.collections)
    assert base[:, 0].tolist() == [12.0, 12.0] and batch[:, 0].tolist() == [6.9, 6.9]
    for segment, row in ((base, 0), (batch, 1)):
        bar = axes.patches[row]
        assert segment[0, 1] < bar.get_y() and segment[1, 1] > bar.get_y() + bar.get_height()
    assert [text.get_text() for text in axes.texts] == ["7.95 (12)", "6.85 (6.9)", "10.97", "0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the course"]
    assert (axes.get_xlabel(), axes.get_title(loc="left")) == ("wrong (%)", "Errors")
    check_nothing_is_cut_off(figure, renderer)
    marks = axes.collections[0].get_window_extent(renderer)
    for text in axes.texts:
        box = text.get_window_extent(renderer)
        assert box.x1 <= axes.get_window_extent(renderer).x1
        assert not any(box.overlaps(bar.get_window_extent(renderer)) for bar in axes.patches)
    assert axes.texts[0].get_window_extent(renderer).x0 >= marks.x1  # behind its mark, too
    assert not figure.legends[0].get_window_extent(renderer).overlaps(axes.get_window_extent(renderer))


@pytest.mark.parametrize("count", [1, 2, 10, 40])
def test_bars_however_many(count: int) -> None:
    figure = plots.bars({f"bar {i}": 10.0**-i for i in range(count)})
    renderer, (axes,) = drawn(figure), figure.axes
    assert not figure.legends and len(axes.patches) == count
    check_nothing_is_cut_off(figure, renderer)
    check_apart(tick_labels(axes.yaxis), renderer)


def test_bars_of_what_is_not_finite_or_below_zero(tmp_path: Path) -> None:
    values = {"a": NAN, "b": -2.0, "$c$": 1.0}
    figure = plots.bars(values, tmp_path / "a.png", marks={"a": NAN, "b": float("inf"), "$c$": 0.5}, mark="$_$")
    drawn(figure)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [0, -2, 1]
    assert [text.get_text() for text in axes.texts] == ["nan", "-2", "1 (0.5)"]
    assert os.listdir(tmp_path) == ["a.png"]


def test_bars_refuses() -> None:
    with pytest.raises(ValueError, match="bars: expected at least one value"):
        plots.bars({})
    with pytest.raises(ValueError, match="bars: there are marks, but no values, of b, c"):
        plots.bars({"a": 1.0}, marks={"a": 1.0, "b": 2.0, "c": 3.0})


# --- pictures ---------------------------------------------------------------------------------------------------------


def check_page(figure: Any) -> None:
    """All pictures and texts are on the page, and no text covers a picture or another text."""
    renderer, (axes,) = drawn(figure), figure.axes
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    pictures = [image.get_window_extent(renderer) for image in axes.images]
    for box in boxes + pictures:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    everything = boxes + pictures
    for i, box in enumerate(everything):
        assert not any(box.overlaps(other) for other in everything[:i])


def shown(figure: Any) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


@pytest.mark.parametrize("shape", [(32, 1, 3, 3), (1, 1, 5, 2), (20, 3, 7, 7), (2, 3, 2, 9), (300, 1, 4, 4)])
def test_filters_of_a_convolution(shape: tuple[int, ...]) -> None:
    layer = fn.Conv2d(shape[1], shape[0], (shape[2], shape[3]))
    figure = plots.filters(layer)
    check_page(figure)
    weight = layer.weight.data
    for picture, w in zip(shown(figure), weight, strict=True):
        wanted = 0.5 + 0.5 * w / np.abs(w).max()
        np.testing.assert_allclose(picture, wanted[0] if shape[1] == 1 else wanted.transpose(1, 2, 0), atol=1e-6)
    assert f"{shape[0]} filters" in figure.axes[0].texts[0].get_text()
    for image in figure.axes[0].images:  # pixels are square
        left, right, bottom, top = image.get_extent()
        np.testing.assert_allclose((right - left) / (bottom - top), shape[3] / shape[2])


def test_filters_of_a_linear_layer_and_of_a_model() -> None:
    model = fn.Sequential(fn.Flatten(), fn.Linear(24, 5), fn.ReLU(), fn.Linear(5, 2))
    in_order, channels_last, grey = (
        plots.filters(model, image_shape=(3, 2, 4)),
        plots.filters(model[1], image_shape=(2, 4, 3), order="HWC"),
        plots.filters(np.asarray(model[1].weight), image_shape=(4, 6)),
    )
    w = model[1].weight.data
    scaled = 0.5 + 0.5 * w / np.abs(w).max(1, keepdims=True)
    np.testing.assert_allclose(shown(in_order), scaled.reshape(5, 3, 2, 4).transpose(0, 2, 3, 1), atol=1e-6)
    np.testing.assert_allclose(shown(channels_last), scaled.reshape(5, 2, 4, 3), atol=1e-6)
    np.testing.assert_allclose(shown(grey), scaled.reshape(5, 4, 6), atol=1e-6)
    assert in_order.axes[0].texts[0].get_text().startswith("1 (Linear): 5 filters, 2x4")


def test_a_filter_of_zeros_is_grey() -> None:
    assert (shown(plots.filters(np.zeros((1, 1, 2, 2))))[0] == 0.5).all()


@pytest.mark.parametrize(
    ("layer", "options", "error", "message"),
    [
        (fn.Conv2d(4, 2, 3), {}, fn.ShapeError, r"1 or 3 channels \(CHW\), got \(2, 4, 3, 3\)"),
        (fn.Linear(4, 2), {}, fn.ShapeError, r"expected \(N, C, H, W\), or an image_shape for it, got \(2, 4\)"),
        (fn.Linear(4, 2), {"image_shape": (2, 3)}, fn.ShapeError, r"of shape \(2, 3\), got \(2, 4\)"),
        (fn.Linear(4, 2), {"image_shape": (2, 2), "order": "WHC"}, ValueError, "order 'CHW' or 'HWC', got 'WHC'"),
        (fn.ReLU(), {}, ValueError, "ReLU has no weights"),
        (np.zeros((3, 1, 0, 3)), {}, fn.ShapeError, r"at least one pixel, got \(3, 1, 0, 3\)"),
        (np.zeros((3, 0)), {"image_shape": (2, 0)}, fn.ShapeError, r"at least one pixel, got \(3, 1, 2, 0\)"),
        ("text", {}, fn.DTypeError, "expected real numbers"),
    ],
)
def test_filters_refuses(layer: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plots.filters(layer, **options)


def judged(count: int = 200, classes: int = 10) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images (N, 1, 8, 6), their labels, and probabilities of which most are right."""
    rng = np.random.default_rng(0)
    true, _ = labels(classes, count)
    scores = rng.standard_normal((count, classes)) + 2 * np.eye(classes)[true]
    return rng.random((count, 1, 8, 6)), true, np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.mark.parametrize("names", ["0123456789", CLOTHES, LONG])
def test_worst_mistakes(names: Any) -> None:
    x, true, p = judged()
    figure = plots.worst_mistakes(x, true, p, names, 7)
    check_page(figure)
    wrong = [i for i in range(200) if p[i].argmax() != true[i]]
    worst = sorted(wrong, key=lambda i: p[i, true[i]])[:7]
    np.testing.assert_array_equal(shown(figure), x[worst, 0])
    title, *texts = [text.get_text() for text in figure.axes[0].texts]
    assert title == f"7 of {len(wrong)} mistakes among 200 samples"
    for text, i in zip(texts, worst, strict=True):
        guess = p[i].argmax()
        wanted = f"predicted: {names[guess]} ({p[i, guess]:.1%})\ntrue: {names[true[i]]} ({p[i, true[i]]:.1%})"
        assert text == wanted


def test_fewer_mistakes_than_wanted_and_none() -> None:
    x, true, p = judged()
    assert len(shown(plots.worst_mistakes(x, true, p, "0123456789", 1000))) == (p.argmax(1) != true).sum()
    figure = plots.worst_mistakes(x, p.argmax(1), p, "0123456789")
    check_page(figure)
    assert not shown(figure) and figure.axes[0].texts[0].get_text() == "0 of 0 mistakes among 200 samples"


def test_how_images_are_scaled() -> None:
    true, p = [0, 0], [[0.1, 0.9], [0.2, 0.8]]
    for x, wanted in (
        (np.array([[0, 255], [51, 102]], np.uint8), [[0, 1], [0.2, 0.4]]),
        (np.array([[0.0, 0.5], [0.2, 0.4]]), [[0, 0.5], [0.2, 0.4]]),
        (np.array([[-1.0, 3.0], [0.0, 1.0]]), [[0, 1], [0.25, 0.5]]),
        (np.array([[-1.0, 3.0], [np.nan, 1.0]]), [[0, 1], [np.nan, 0.5]]),
    ):
        figure = plots.worst_mistakes(x, true, p, "ab", image_shape=(1, 2))
        np.testing.assert_allclose(np.reshape(shown(figure), (2, 2)), wanted)
    colours = np.random.default_rng(0).random((2, 2, 1, 3))
    figure = plots.worst_mistakes(colours.reshape(2, -1), true, p, "ab", image_shape=(2, 1, 3), order="HWC")
    np.testing.assert_array_equal(shown(figure), colours)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"probabilities": np.ones((3, 2))},
            ValueError,
            "whose sum is 1, as of model.predict_proba",
        ),
        ({"probabilities": np.full((3, 2), np.nan)}, ValueError, "probabilities from 0 to 1"),
        ({"probabilities": np.ones((3, 3)) / 3}, fn.ShapeError, r"shape \(3, 2\), got \(3, 3\)"),
        ({"y_true": [0, 1]}, fn.ShapeError, r"expected labels \(3,\), got \(2,\)"),
        ({"y_true": [0, 1, 2]}, ValueError, "expected labels from 0 to 1, got 2"),
        ({"x": np.ones((3, 2, 4, 4))}, fn.ShapeError, "1 or 3 channels"),
    ],
)
def test_worst_mistakes_refuses(change: Any, error: type[Exception], message: str) -> None:
    good = {"x": np.ones((3, 1, 4, 4)), "y_true": [0, 1, 1], "probabilities": np.full((3, 2), 0.5), "class_names": "ab"}
    with pytest.raises(error, match=message):
        plots.worst_mistakes(**{**good, **change})


def test_pictures_are_written(tmp_path: Path) -> None:
    x, true, p = judged()
    plots.filters(fn.Conv2d(1, 4, 3), tmp_path / "a.png")
    plots.worst_mistakes(x, true, p, "0123456789", path=tmp_path / "b.png")
    assert sorted(os.listdir(tmp_path)) == ["a.png", "b.png"]


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
plots.filters([[1.0, 2.0]], image_shape=(1, 2))
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
        plots.figure.require()


def test_any_object_with_the_four_lists_will_do() -> None:
    plots.learning_curves(SimpleNamespace(loss=[1.0], accuracy=[], val_loss=[], val_accuracy=[]))


# --- log_log ----------------------------------------------------------------------------------------------------------


def test_log_log(tmp_path: Path) -> None:
    seconds = {"full": {256: 0.1, 512: 0.4, 1024: NAN}, "$linear$": {256: 0.2, 512: 0.0}}
    figure = plots.log_log({"time ($s$)": seconds, "bytes": {"full": {256: 9.0}}}, tmp_path / "a.png", xlabel="T")
    left, right = figure.axes
    assert [(list(line.get_xdata()), list(line.get_ydata())) for line in left.lines] == [
        ([256, 512], [0.1, 0.4]),
        ([256], [0.2]),
    ]
    assert right.lines[0].get_color() == left.lines[0].get_color() != left.lines[1].get_color()
    assert (left.get_xscale(), left.get_yscale(), left.get_xlabel()) == ("log", "log", "T")
    assert left.get_title() == "time ($s$)" and (tmp_path / "a.png").stat().st_size > 1000
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["full", "$linear$"]
    with pytest.raises(ValueError, match="log_log: expected at least one panel"):
        plots.log_log({})
