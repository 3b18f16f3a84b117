"""A training in progress: what `fit` does in each epoch, and what a checkpoint holds of it."""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np

from .callbacks import Callback
from .history import History
from .passes import Means, Metric, Pass
from .progress import Silent
from .resume import Checkpoint, check_kind, load_arrays, model_arrays
from .step import Step


class Run:
    """A training, as far as it has come."""

    def __init__(
        self,
        step: Step,
        training: Pass,
        validating: Pass | None,
        metrics: dict[str, Metric],
        hooks: list[Callback],
        rng: Any,
        shuffle: bool,
        show: Silent,
    ) -> None:
        """rng: NumPy's Generator, or what else has its `permutation` if no checkpoint is to be written."""
        self.step, self.training, self.validating, self.metrics = step, training, validating, metrics
        self.hooks, self.rng, self.shuffle, self.show = hooks, rng, shuffle, show
        self.listening = [hook for hook in hooks if type(hook).on_batch_end is not Callback.on_batch_end]
        self.checkpoints = [hook for hook in hooks if isinstance(hook, Checkpoint)]
        self.kind: dict[str, Any] = {}  #: what a run that goes on from its checkpoint must have in common with it
        self.history = History()
        self.updates = 0  #: batches of all epochs
        self.stopped = False
        self._means = Means(step.loss)  # of the epoch in progress
        self._random: Any = None  # the generator as it was when the epoch began
        self._seconds = 0.0  # of training in this epoch

    def train(self, epochs: int, saved: dict[str, Any] | None = None) -> History:
        """Train until there are so many epochs, a callback ends it, or Ctrl-C does, of which a warning tells.

        saved: the state of a run with which to go on.
        """
        model = self.step.model
        model.zero_grad()  # an earlier step may have been broken off half-way
        try:
            self.begin(saved)
            while self.history.epochs < epochs and not self.stopped:
                self.epoch(epochs)
        except KeyboardInterrupt:
            self._interrupted()
        finally:
            self.step.optimizer.ahead(0)
            self.show.close()
        for hook in self.hooks:
            hook.on_train_end(model, self.history)
        return self.history

    def _interrupted(self) -> None:
        self.history.interrupted = True
        self.history._drop_unfinished()
        self.step.model.zero_grad()  # a backward pass may have been broken off
        what = f"fit: interrupted after {self.history.epochs} epochs; the model keeps what it learned"
        warnings.warn(what, stacklevel=4)

    def begin(self, saved: dict[str, Any] | None) -> None:
        """Call the callbacks; go on where a checkpoint was written."""
        if saved is not None:
            self._load(saved)
        for hook in self.hooks:
            hook.on_train_begin(self.step.model, self.history)
        if saved is not None:
            for (_, hook), (_, state) in zip(self._remembering(), saved["callbacks"], strict=True):
                hook.load_state_dict(state)
            self.step.optimizer.load_state_dict(saved["optimizer"])  # the last: learning rates are as they were

    def epoch(self, epochs: int) -> None:
        """Train for an epoch, or for the rest of one, and measure it."""
        known = self.training.obstacle
        self._train()
        means, after = self._means.values(), self._validate()
        if self.training.obstacle != known:
            warnings.warn(f"fit: steps run from Python, which is slower: {self.training.obstacle}", stacklevel=4)
        self.history._add(means, after, self._seconds)
        if not np.isfinite(means["loss"]):
            warnings.warn(f"fit: the loss is {means['loss']}; a smaller learning rate may help", stacklevel=4)
        self.show.end({**means, **{f"val_{name}": value for name, value in after.items()}}, self._seconds)
        self._means, self._seconds = Means(self.step.loss), 0.0
        ends = [hook.on_epoch_end(self.step.model, self.history) for hook in self.hooks]  # every hook is called
        self.stopped = any(_is_true(end) for end in ends)
        last = self.stopped or self.history.epochs >= epochs
        for checkpoint in self.checkpoints:
            if last or checkpoint.due_after_epoch(self.history.epochs):
                checkpoint.write(self.state_dict())

    def _train(self) -> None:
        if self.checkpoints:
            self._random = self.rng.bit_generator.state
        samples = self.training.data.samples
        order = self.rng.permutation(samples) if self.shuffle and samples is not None else None
        start = time.perf_counter() - self._seconds
        number, count = self.history.epochs, self.training.count
        self.step.optimizer.ahead(1 if count is None else max(1, count - self._means.batches))
        self.show.begin(number + 1, count, self._means.batches)
        batches = self.training.batches(self._means, order, number, not self.listening, self._most)
        for done, value in batches:
            self.updates += done
            self._seconds = time.perf_counter() - start
            self.show.batches(done, self._means)
            for hook in self.listening:
                hook.on_batch_end(self.step.model, self._means.batches - 1, value)
            for checkpoint in self.checkpoints:
                if checkpoint.due(self.updates):
                    checkpoint.write(self.state_dict())
            if count is None:
                self.step.optimizer.ahead(1)

    def _most(self) -> int:
        """After how many batches more a checkpoint is due."""
        return min((checkpoint.batches_left(self.updates) for checkpoint in self.checkpoints), default=sys.maxsize)

    def _validate(self) -> dict[str, float]:
        if self.validating is None:
            return {}
        return self.validating.measured(self.step.model, self.metrics, self.history.epochs)

    def state_dict(self) -> dict[str, Any]:
        """All on which the rest of the run depends."""
        parameters = self.step.model.named_parameters()
        return {
            "kind": self.kind,
            "model": model_arrays(self.step.model),
            "frozen": [name for name, p in parameters if not p.requires_grad],
            "callbacks": [(name, hook.state_dict()) for name, hook in self._remembering()],  # schedules settle rates
            "optimizer": self.step.optimizer.state_dict(),
            "random": self.rng.bit_generator.state if self._means.batches == 0 else self._random,
            "means": self._means.state_dict(),
            "seconds": self._seconds,
            "updates": self.updates,
            "stopped": self.stopped,
            "history": self.history.as_dict(),
        }

    def _remembering(self) -> list[tuple[str, Callback]]:
        """The callbacks that have something to remember."""
        mine = (hook for hook in self.hooks if type(hook).state_dict is not Callback.state_dict)
        return [(type(hook).__name__, hook) for hook in mine]

    def _load(self, saved: dict[str, Any]) -> None:
        """All but what the callbacks and the optimizer remember."""
        check_kind(saved["kind"], self.kind)
        there, here = ([name for name, _ in found] for found in (saved["callbacks"], self._remembering()))
        check_kind({"callbacks": there}, {"callbacks": here})
        load_arrays(self.step.model, saved["model"])
        for name, p in self.step.model.named_parameters():
            if p.requires_grad == (name in saved["frozen"]):
                p.requires_grad = name not in saved["frozen"]
        self.rng.bit_generator.state = saved["random"]
        self._means.load_state_dict(saved["means"])
        self._seconds, self.updates, self.stopped = saved["seconds"], saved["updates"], saved["stopped"]
        self.history = History(**saved["history"])


def _is_true(result: Any) -> bool:
    """Whether a callback asks to stop: by True itself, not by whatever a one-line function happens to return."""
    return isinstance(result, bool | np.bool_) and bool(result)
