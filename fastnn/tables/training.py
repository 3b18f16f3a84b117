"""Training a network on a file: from its rows to a predictor, a report and pictures in a folder."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastnn as fn

from .. import _kernels as k
from .. import plots
from .._files import StrPath
from .._kernels import Array
from .._machine import machine
from .._output import write_json
from .inputs import Columns, Pixels
from .metrics import baseline_of, class_report, measured
from .networks import network
from .predictor import Predictor
from .settings import Settings
from .source import Source, read_source
from .splitting import Parts, split
from .table import Table
from .target import Classes, Target, encode_classes, encode_numbers, task_of

REPORT, CURVE = "report.json", "learning_curve.png"
_PICTURES = {"classification": "confusion_matrix.png", "regression": "predicted_vs_true.png"}


def prepare(path: StrPath, settings: Settings | None = None) -> Prepared:
    """All that comes before the training: nothing is written, and whatever is wrong with the file is found.

    path: a CSV, Parquet or .npz file, or a folder with a subfolder of pictures for each class
    Raises OSError, ValueError or ImportError, whose message names the file and says what is wrong or to be installed.
    """
    plots.figure.require()
    settings = settings or Settings()
    start = time.perf_counter()
    source = read_source(Path(path), settings)
    spec = settings.model or ("mlp" if isinstance(source.inputs, Table) else "cnn")
    if spec != "mlp" and settings.hidden != Settings.hidden:
        raise ValueError(f"--hidden is for --model mlp, not for {spec}")
    if task_of(source.target, settings.task) == "classification":
        target: Target
        target, y = encode_classes(source.target)
        parts = split(source.rows, y, settings, source.target.file)
    else:
        parts = split(len(source.target.numbers), None, settings, source.target.file)
        target, y = encode_numbers(source.target, parts.training)
    inputs, x = source.fitted(parts.training, settings)
    fn.manual_seed(settings.seed)
    options: dict[str, Any] = {"batch_norm": settings.batch_norm, "dropout": settings.dropout}
    model = network(spec, inputs.shape, target.outputs, hidden=settings.hidden, **options)
    predictor = Predictor(model, inputs, target)
    return Prepared(source, settings, spec, parts, x, y, predictor, time.perf_counter() - start)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Rows as a network takes them, and the network, which has learned nothing yet.

    x: (N, …) float32. y: (N,) int64 classes, or float64 numbers, standardised
    seconds: how long reading took
    """

    source: Source
    settings: Settings
    spec: str
    parts: Parts
    x: Array
    y: Array
    predictor: Predictor
    seconds: float

    def train(self, progress: bool = False) -> Trained:
        """Train by Adam until the validation loss has not become smaller for a while; the best epoch's weights count.

        After Ctrl-C, what was learned by then counts. Raises ValueError if the loss is not finite in any epoch, and
        KeyboardInterrupt if there was no whole one.
        """
        settings, (training, validation, _) = self.settings, self.parts
        stop = fn.EarlyStopping("val_loss", patience=settings.patience, restore_best=True)
        start = time.perf_counter()
        history = fn.fit(
            self.predictor.model,
            self.x[training],
            self.y[training],
            loss=self.predictor.target.loss,
            optimizer=fn.Adam(lr=settings.lr),
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            drop_last=self._one_is_left(),
            validation_data=(self.x[validation], self.y[validation]),
            callbacks=[stop],
            seed=settings.seed,
            progress=progress,
        )
        if history.interrupted and not history.epochs:
            raise KeyboardInterrupt
        if not math.isfinite(stop.best):
            raise ValueError(f"{self.source.file}: the training diverged: try an --lr of less than {settings.lr:g}")
        return Trained(self, history, stop.epoch, time.perf_counter() - start)

    def _one_is_left(self) -> bool:
        """Whether the last batch would be a single row, of which a BatchNorm knows no variance."""
        normalised = any(isinstance(layer, fn.BatchNorm1d | fn.BatchNorm2d) for layer in self.predictor.model.modules())
        count, batch_size = len(self.parts.training), self.settings.batch_size
        return normalised and count > batch_size and count % batch_size == 1


class Trained:
    """A network that has learned, and how well it does on rows that had no part in that.

    history: of its training. report: what is found, JSON values by name
    """

    def __init__(self, prepared: Prepared, history: fn.History, best_epoch: int, seconds: float) -> None:
        """best_epoch: counted from 1, whose weights the model has. seconds: of training, validation included"""
        self.prepared, self.history = prepared, history
        predictor, test = prepared.predictor, prepared.parts.test
        self.predictions = predictor.decide(prepared.x[test])
        self.truth = self._truth("test")
        baseline, what = baseline_of(predictor.target, self._truth("training"), len(test))
        self.report: dict[str, Any] = {
            "file": str(prepared.source.file),
            "task": predictor.target.task,
            "rows": prepared.source.rows,
            "target": _target_facts(predictor.target, prepared),
            "inputs": _input_facts(predictor.inputs, prepared.source),
            "parts": prepared.parts.sizes(),
            "model": {"spec": prepared.spec, "parameters": sum(p.size for p in predictor.model.parameters())},
            "settings": dict(vars(prepared.settings)),
            "training": {"epochs": history.epochs, "best_epoch": best_epoch, "interrupted": history.interrupted},
            "test": {
                "network": measured(predictor.target, self.truth, self.predictions),
                "baseline": measured(predictor.target, self.truth, baseline),
            },
            "baseline": what,
            "classes": class_report(predictor.target, self.truth, self.predictions),
            "seconds": {"reading": prepared.seconds, "training": seconds},
            "threads": fn.get_num_threads(),
            "isa": k.isa(),
            "machine": machine(),
            "history": history.as_dict(),
        }

    def _truth(self, part: str) -> Array:
        """The target of a part's rows: classes (n,) int64, or numbers as they are in the file."""
        rows = getattr(self.prepared.parts, part)
        is_class = isinstance(self.prepared.predictor.target, Classes)
        found: Array = (self.prepared.y if is_class else self.prepared.source.target.numbers)[rows]
        return found

    def save(self, folder: StrPath) -> list[Path]:
        """Write model, preprocessing, pictures and report into a folder that is there; returns their paths."""
        out = Path(folder)
        target = self.prepared.predictor.target
        picture = out / _PICTURES[target.task]
        for name in _PICTURES.values():
            if name != picture.name:
                (out / name).unlink(missing_ok=True)  # of an earlier training for another task
        files = [*self.prepared.predictor.save(out), out / CURVE, picture, out / REPORT]
        plots.learning_curves(self.history, out / CURVE)
        if isinstance(target, Classes):
            predicted = [target.names.index(name) for name in self.predictions.values]
            plots.confusion_matrix(self.truth, predicted, target.names, picture)
        else:
            plots.prediction_error(self.truth, self.predictions.values, picture, name=target.name)
        self.report["files"] = [str(file) for file in files]
        write_json(out / REPORT, self.report)
        return files


def _target_facts(target: Target, prepared: Prepared) -> dict[str, Any]:
    """Name, and how many samples each class has; or of what size the numbers are."""
    if isinstance(target, Classes):
        counts = {name: int((prepared.y == i).sum()) for i, name in enumerate(target.names)}
        return {"name": target.name, "classes": counts}
    values = prepared.source.target.numbers
    return {"name": target.name, "least": values.min(), "mean": values.mean(), "most": values.max()}


def _input_facts(inputs: Columns | Pixels, source: Source) -> dict[str, Any]:
    """Columns by what they hold, and how many of their values are missing; or the shape of images."""
    if isinstance(inputs, Pixels):
        return {"kind": inputs.kind, "shape": inputs.shape, "resized": inputs.resize}
    columns = [{"name": c.name, "kind": c.kind, "width": c.width} for c in inputs.columns]
    table: Any = source.inputs
    for facts, column in zip(columns, table.select([c.name for c in inputs.columns]), strict=True):
        facts["missing"] = int(column.missing.sum())
    return {"kind": inputs.kind, "columns": columns}
