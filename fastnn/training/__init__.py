"""Training: data in batches, steps that are captured and replayed, callbacks, and runs that go on from a file."""

from .fitting import evaluate, fit

__all__ = ["evaluate", "fit"]
