"""The notebooks of UCLA ECE C147's homework 3, cell by cell, on `fastnn.courses.cs231n`: every figure that they print.

The document, two notebooks printed to PDF and converted to text, lies beside the data sets where there is a copy; none
of it is here. Notebook magics are left out; what the conversion did to the code is undone by rule (`mended`). It lost
these cells or parts of cells, which therefore cannot run; code in `LOST` prints the figures that they did:

- two-layer network: 1 (imports), 7 (check of gradients), 8 (training on toy data), 10 (training), 12 (plots);
- fully connected networks: the end of 5 (ReLU, what is compared and printed), the end of 9 (losses and check of
  gradients of the network), the cell of the Solver (an exercise), the beginning of the check of FullyConnectedNet; and
  of the cell that learns 50 images by heart the closing brackets. The document has no output of the last three.
"""

from __future__ import annotations

import ast
import contextlib
import io
import keyword
import re
import textwrap
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnn.courses import cs231n

MARK = re.compile(r"(?:# )?\[(\d*)\]: ?")
OUTPUT = re.compile(
    r"[A-Za-z][\w ]*: +[\d(]|\[+-?\d\S*\d "
)  #: how a line of output begins that might be taken for code
FIGURE = re.compile(r"([A-Za-z0-9][\w ]*):(?: loss)?\s+(\d+\.\d+(?:e[+-]?\d+)?)")

IMPORTS = """
import numpy as np
import matplotlib.pyplot as plt
from cs231n.gradient_check import eval_numerical_gradient

def rel_error(x, y):
    return np.max(np.abs(x - y) / np.maximum(1e-8, np.abs(x) + np.abs(y)))
"""

#: What stands in for lost code after a cell, by notebook and cell.
LOST = {
    ("two-layer", "6"): """
_, grads = net.loss(X, y, reg=0.05)
for name in grads:
    numerical = eval_numerical_gradient(lambda _: net.loss(X, y, reg=0.05)[0], net.params[name], verbose=False)
    print(f"{name} max relative error: {rel_error(numerical, grads[name])}")
net = init_toy_model()
stats = net.train(X, y, X, y, learning_rate=1e-1, reg=5e-6, num_iters=100, verbose=False)
print("Final training loss: ", stats["loss_history"][-1])
""",
    ("two-layer", "9"): """
input_size, hidden_size, num_classes = 32 * 32 * 3, 50, 10
net = TwoLayerNet(input_size, hidden_size, num_classes)
stats = net.train(X_train, y_train, X_val, y_val, num_iters=1000, batch_size=200, learning_rate=1e-4,
                  learning_rate_decay=0.95, reg=0.25, verbose=True)
print("Validation accuracy: ", (net.predict(X_val) == y_val).mean())
subopt_net = net
""",
    ("fully-connected", "5"): """
print(f"difference: {rel_error(out, np.maximum(x, 0).round(8))}")
""",
    ("fully-connected", "9"): """
assert abs(loss - 3.47022435559539) < 1e-10
model.reg = 1.0
assert abs(model.loss(X, y)[0] - 26.594842695238583) < 1e-10
for model.reg in (0.0, 0.7):
    _, grads = model.loss(X, y)
    for name in grads:
        numerical = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False)
        print(f"{name} relative error: {rel_error(numerical, grads[name])}")
solver = Solver(TwoLayerNet(hidden_dims=200), data, optim_config={"learning_rate": 1e-3}, num_epochs=1, verbose=False)
solver.train()
assert solver.best_val_acc >= 0.4
""",
    ("fully-connected", "first without a number"): """
for reg in (0, 3.14):
    X, y = np.random.randn(2, 15), np.random.randint(10, size=2)
    model = FullyConnectedNet([20, 30], input_dim=15, reg=reg, weight_scale=5e-2, dtype=np.float64)
    loss, grads = model.loss(X, y)
    for name in grads:
        numerical = eval_numerical_gradient(lambda _: model.loss(X, y)[0], model.params[name], verbose=False)
        assert rel_error(numerical, grads[name]) < 1e-4
""",
    ("fully-connected", "second without a number"): """
small_data = {**data, "X_train": data["X_train"][:num_train], "y_train": data["y_train"][:num_train]}
model = FullyConnectedNet([100, 100], weight_scale=1e-2, dtype=np.float64)
solver = Solver(model, small_data, print_every=10, num_epochs=20, batch_size=25, update_rule="sgd",
                optim_config={"learning_rate": 1e-2}, verbose=False)
solver.train()
assert solver.train_acc_history[-1] == 1.0
""",
}

#: How far a figure may be from the document's, by notebook, cell and label.
TOLERANCES = {
    ("two-layer", "4", "Difference between your scores and correct scores"): 1e-13,
    ("two-layer", "5", "Difference between your loss and correct loss"): 1e-12,
    ("two-layer", "6", "Final training loss"): 1e-9,
    **{("two-layer", "9", "1000"): 1e-9, ("two-layer", "9", "Validation accuracy"): 0.0},
    ("two-layer", "13", "Max Val Acc"): 0.002,
    ("two-layer", "15", "Test accuracy"): 0.002,
    ("fully-connected", "3", "difference"): 1e-14,
    ("fully-connected", "5", "difference"): 1e-14,
    ("fully-connected", "8", "loss"): 0.01,
}
#: Gradient errors, which for random inputs are other ones at each run, only have to stay below these, by cell.
BOUNDS = {
    ("two-layer", "6"): 1e-8,
    ("fully-connected", "4"): 1e-7,
    ("fully-connected", "6"): 1e-10,
    ("fully-connected", "7"): 1e-7,
    ("fully-connected", "8"): 2e-8,
    ("fully-connected", "9"): 1e-6,
}


class Cell(NamedTuple):
    """The pieces of a cell's code, as the document has them, and the text from the code to the next cell."""

    number: str
    code: list[str]
    text: list[str]


# --- the document -----------------------------------------------------------------------------------------------------


def cells(document: str) -> list[Cell]:
    """The cells of a notebook, in order. A piece without a mark belongs to the code that it directly follows."""
    found: list[Cell] = [Cell("none", [], [])]
    unnumbered = iter(["first without a number", "second without a number", "last", "empty"])
    parts = re.split(r"^```\n?", document, flags=re.MULTILINE)
    for i, part in enumerate(parts):
        fenced, follows = i % 2 == 1, i > 1 and not parts[i - 1].strip() and bool(found[-1].code)
        lines = part.splitlines()
        for line in lines:
            mark = MARK.match(line)
            if mark and (fenced or line.startswith("#")):
                found.append(Cell(mark[1] or next(unnumbered), [line[mark.end() :]], []))
                follows = True
            elif fenced and follows:
                found[-1].code[-1] += "\n" + line
            else:
                found[-1].text.append(line)
        if fenced and follows:
            found[-1].code.append("")  # where the next piece begins
    return [split(cell) for cell in found[1:]]


def split(cell: Cell) -> Cell:
    """The cell with those lines in its text that are output; of a piece, code is as much as is valid."""
    code, text = [], []
    for piece in cell.code:
        lines = piece.splitlines()
        end = next((i for i, line in enumerate(lines) if OUTPUT.match(line.strip())), len(lines))
        valid = next((n for n in range(end, 0, -1) if mended(lines[:n]) is not None), 0)
        code.append(mended(lines[:valid]) or "")
        text += lines[valid:]
    return Cell(cell.number, code, text + cell.text)


def mended(lines: list[str]) -> str | None:
    """Code, less magics and what the conversion did to it; None if that is not valid."""
    code = "\n".join(lines).replace("\\_", "_").replace("</pre>", "")
    code = re.sub(r"(?:(?<=,)[ _u]*)?\s*(?:→|\\rightarrow|\\to)\s*", "", code)  # a line that was too long for the page
    code = re.sub(r"(?<=\):\n)(?:\s+[A-Z]\w* \w+ .*\n(?:\s+[a-z].*\n)*)", "", code)  # a docstring without its quotes
    code = re.sub(r"^ *_+ #\n.*?^ *# -+ #$", "", code, flags=re.MULTILINE | re.DOTALL)  # comments without their marks
    code = re.sub(r"^ *[%#].*$", "", code, flags=re.MULTILINE)  # magics; comments, which do not keep to the indentation
    first, _, rest = code.partition("\n")
    code = first + "\n" + textwrap.dedent(rest)
    try:
        code = with_underscores(code)
        ast.parse(code)
    except (SyntaxError, tokenize.TokenError):
        return None
    return code


def with_underscores(code: str) -> str:
    """Two names with a space between them are one, whose underscore was lost."""
    lines = code.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    for token, following in pairwise(tokens):
        names = [t.string for t in (token, following) if t.type == tokenize.NAME and not keyword.iskeyword(t.string)]
        if len(names) == 2 and token.end[0] == following.start[0]:
            row, column = token.end
            lines[row - 1] = lines[row - 1][:column] + "_" + lines[row - 1][column + 1 :]
    return "\n".join(lines)


def figures(text: str) -> dict[str, list[float]]:
    """The numbers after a label and a colon, by label."""
    found: dict[str, list[float]] = {}
    for label, number in FIGURE.findall(text):
        found.setdefault(label.strip(), []).append(float(number))
    return found


# --- running it -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def document(real_data: Path) -> tuple[str, str]:
    """Both notebooks."""
    found = sorted((real_data.parent / "courses").glob("003*.txt"))
    if not found:
        pytest.skip("there is no copy of the notebooks beside the data sets")
    two_layer, heading, fully_connected = found[0].read_text(encoding="utf-8").partition("\nFC nets\n")
    assert heading
    return two_layer, fully_connected


@pytest.fixture
def scope(installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """The names of a notebook, which runs without a screen, in an empty folder."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    with cs231n.seeded(0):
        yield {}
    plt.close("all")


def run(code: str, scope: dict[str, Any]) -> str:
    """What a cell prints; as in a notebook, the value of an expression at its end is shown."""
    tree, last = ast.parse(code), None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "<cell>", "exec"), scope)
        value = eval(compile(last, "<cell>", "eval"), scope) if last else None
        if value is not None:
            print(value)
    return printed.getvalue()


def compare(notebook: str, cell: Cell, printed: str) -> int:
    """Every figure printed beside the document's, and how many there are."""
    ours, theirs = figures(printed), figures("\n".join(cell.text))
    where = (notebook, cell.number)
    assert {label: len(values) for label, values in ours.items()} == {
        label: len(values) for label, values in theirs.items()
    }, where
    for label, values in ours.items():
        if label.endswith("error"):
            assert max(values) <= BOUNDS[where], (where, label, values)
        else:
            np.testing.assert_allclose(values, theirs[label], rtol=0, atol=TOLERANCES[(*where, label)], err_msg=label)
    return sum(map(len, ours.values()))


def run_all(notebook: str, found: list[Cell], scope: dict[str, Any]) -> int:
    """Run the cells and what stands in for lost ones; returns how many labelled figures were compared."""
    count = 0
    for cell in found:
        printed = "".join(run(code, scope) for code in cell.code if code)
        shown = [re.sub(r"\s+", " ", line).strip() for line in printed.splitlines()]
        if not figures(printed):  # shapes, a lone number, a list
            text = re.sub(r"\s+", " ", "\n".join(cell.text))
            assert all(line in text for line in shown), (notebook, cell.number, printed)
        printed += run(LOST.get((notebook, cell.number), ""), scope)
        count += compare(notebook, cell, printed)
    return count


def test_the_two_layer_notebook_on_toy_data(document: tuple[str, str], scope: dict[str, Any]) -> None:
    found = cells(document[0])
    assert " ".join(cell.number for cell in found) == "2 3 4 5 6 9 11 13 14 15"
    run(IMPORTS, scope)
    assert run_all("two-layer", found[:5], scope) == 7


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_two_layer_notebook(document: tuple[str, str], scope: dict[str, Any]) -> None:
    run(IMPORTS, scope)
    assert run_all("two-layer", cells(document[0]), scope) == 20
    assert scope["best_hyper_params"] == (5000, 1e-3, 0.35)


@pytest.mark.timeout(1200)
def test_the_fully_connected_notebook(document: tuple[str, str], scope: dict[str, Any]) -> None:
    found = cells(document[1])
    assert [cell.number for cell in found][:9] == [str(number) for number in range(1, 10)]
    assert run_all("fully-connected", found, scope) == 21
