"""Fitting to rows, by scikit-learn's transformers, what `inputs` applies without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._kernels import Array
from .inputs import ENCODERS, BooleanColumn, CategoryColumn, Columns, Encoder, NumberColumn, Pixels
from .table import Column, option, short

_FEW_CATEGORIES, _MOST_CATEGORIES = 20, 256
_PIXELS_AT_ONCE = 1 << 22


def fit_columns(columns: Sequence[Column], rows: Array) -> Columns:
    """What scikit-learn's transformers learn from these rows of columns.

    rows: (n,) indices. Raises ValueError for columns that cannot be an input, all of them in one message.
    """
    _check_usable(columns, rows)
    by_kind = {kind: [column for column in columns if column.kind == kind] for kind in ENCODERS}
    transformer = fitted_transformer([column for same in by_kind.values() for column in same], rows)
    parts = transformer.named_transformers_
    found: list[Encoder] = []
    if numbers := by_kind["number"]:
        imputer, scaler = parts["number"].named_steps.values()
        fitted = zip(numbers, imputer.statistics_, scaler.mean_, scaler.scale_, strict=True)
        for column, median, mean, scale in fitted:
            if not np.isfinite([median, mean, scale]).all():
                raise ValueError(f"{column.where}: its numbers are too large to be scaled")
            found.append(NumberColumn(column.name, float(median), float(mean), float(scale)))
    if booleans := by_kind["boolean"]:
        for column, usual in zip(booleans, parts["boolean"].statistics_, strict=True):
            found.append(BooleanColumn(column.name, float(usual)))
    if categories := by_kind["category"]:
        for column, texts in zip(categories, parts["category"].named_steps["encode"].categories_, strict=True):
            found.append(CategoryColumn(column.name, [str(text) for text in texts]))
    return Columns(found)


def fitted_transformer(columns: Sequence[Column], rows: Array) -> Any:
    """A `ColumnTransformer`, fitted to `raw_matrix` of these rows (n,); columns come ordered as ENCODERS are."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    steps = {
        "number": Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())]),
        "boolean": SimpleImputer(strategy="most_frequent"),
        "category": Pipeline(
            [
                ("impute", SimpleImputer(missing_values=None, strategy="constant", fill_value="")),
                ("encode", OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
            ]
        ),
    }
    places = {kind: [i for i, column in enumerate(columns) if column.kind == kind] for kind in steps}
    transformer = ColumnTransformer([(kind, step, places[kind]) for kind, step in steps.items() if places[kind]])
    with np.errstate(over="ignore", invalid="ignore"):  # a scale that is not finite, which `fit_columns` refuses
        return transformer.fit(raw_matrix(columns, rows))


def raw_matrix(columns: Sequence[Column], rows: Array) -> Array:
    """These rows (n, columns) as scikit-learn takes them: numbers, booleans as numbers, texts, what is missing."""
    plain = all(column.kind == "number" for column in columns)
    matrix = np.empty((len(rows), len(columns)), np.float64 if plain else object, order="F")
    for i, column in enumerate(columns):
        matrix[:, i] = getattr(column, {"number": "numbers", "boolean": "booleans", "category": "texts"}[column.kind])[
            rows
        ]
    return matrix


def _check_usable(columns: Sequence[Column], rows: Array) -> None:
    """Raise ValueError, which says how to leave them out, for columns that cannot be an input."""
    problems = {column.name: _problem(column, rows) for column in columns}
    wrong = {name: problem for name, problem in problems.items() if problem}
    if wrong:
        named = ", ".join(f"{short(name)} ({problem})" for name, problem in wrong.items())
        options = " ".join(option("drop", name) for name in wrong)
        raise ValueError(f"{columns[0].file}: no input for a network: {named}; leave out by {options}")


def _problem(column: Column, rows: Array) -> str:
    """Why a column cannot be an input of a network that learns from these rows; "" if it can."""
    if column.kind == "empty":
        return "no value"
    if column.missing[rows].all():
        return f"no value in the {len(rows)} rows to train on"
    if column.kind == "date":
        return "dates; or make numbers of them"
    if column.kind == "category" and not column.categorical:
        texts = len(set(column.texts[~column.missing]))
        if texts > max(_FEW_CATEGORIES, min(_MOST_CATEGORIES, len(column.values) // 2)):
            return f"{texts} different texts in {len(column.values)} rows"
    return ""


def fit_pixels(images: Array, rows: Array, kind: str, resize: bool) -> Pixels:
    """Means and standard deviations of the channels of these images, by scikit-learn's `StandardScaler`.

    images: (N, C, H, W) real numbers. rows: (n,) indices. kind, resize: of `Pixels`
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler()
    at_once = max(1, _PIXELS_AT_ONCE // images[0].size)
    for i in range(0, len(rows), at_once):
        some = images[rows[i : i + at_once]].astype(np.float64)
        scaler.partial_fit(some.transpose(0, 2, 3, 1).reshape(-1, images.shape[1]))
    return Pixels(kind, images.shape[1:], resize, scaler.mean_.tolist(), scaler.scale_.tolist())
