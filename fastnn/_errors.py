"""The errors that fastnn raises on bad input; each is also the built-in error that a caller would expect.

`is_refusal` tells them from those of a program that is wrong.
"""

from __future__ import annotations

import traceback
from pathlib import Path


class ShapeError(ValueError):
    """An array's shape is not what a layer or kernel expects."""


class DTypeError(TypeError):
    """An array's dtype is not what a layer or kernel expects."""


def is_refusal(error: Exception) -> bool:
    """Whether the input is at fault and not the program, whose errors keep their traceback.

    At fault are files; extras that are not installed, whose ImportError is one of ours and so names no module; and
    values that fastnn itself refuses, by a `raise` of its own.
    """
    if isinstance(error, OSError):
        return True
    if isinstance(error, ImportError):
        return error.name is None
    if not isinstance(error, TypeError | ValueError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    return Path(last.filename).is_relative_to(Path(__file__).parent) and (last.line or "").startswith("raise ")
