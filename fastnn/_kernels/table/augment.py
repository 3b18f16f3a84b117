"""Random changes of images: crop, flip and cutout. What happens to an image depends on the key and its index alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..._errors import ShapeError
from ..kernel import Dims, Kernel, array, image

_KEY = array("key", "3", dtype="uint64", host=True)


def _windows(d: Dims, p: Mapping[str, Any]) -> None:
    d["P"], d["Q"] = p["size"]
    room = [d[axis] + 2 * padding - size for axis, padding, size in zip("HW", p["padding"], p["size"], strict=True)]
    if min(*p["size"], *(padding + 1 for padding in p["padding"]), *(r + 1 for r in room)) < 1:
        raise ShapeError(
            f"random_crop: no window of {p['size']} in images of {(d['H'], d['W'])} with padding {p['padding']}"
        )


def _windows_backward(d: Dims, p: Mapping[str, Any]) -> None:
    d["H"], d["W"] = p["input_size"]
    _windows(d, p)


def _probability(d: Dims, p: Mapping[str, Any]) -> None:
    if not 0 <= p["p"] <= 1:
        raise ValueError(f"random_flip: expected p from 0 to 1, got {p['p']}")


def _square(d: Dims, p: Mapping[str, Any]) -> None:
    if min(p["size"]) < 0:
        raise ShapeError(f"cutout: expected a size of at least 0, got {p['size']}")


_CROPS = tuple(
    {"N": n, "C": c, "H": h, "W": w, "size": size, "P": size[0], "Q": size[1], "padding": padding, "fill": fill}
    for n, c, h, w, size, padding, fill in (
        (1, 1, 3, 3, (3, 3), (0, 0), 0.0),
        (5, 3, 8, 9, (8, 9), (2, 1), 0.0),
        (9, 17, 5, 4, (3, 6), (1, 2), -0.1),
        (6, 1, 7, 5, (4, 4), (0, 0), 0.0),
        (0, 3, 4, 4, (4, 4), (1, 1), 1.0),
    )
)
_IMAGES = tuple(
    {"N": n, "C": c, "H": h, "W": w, "p": p, "size": size, "fill": fill}
    for n, c, h, w, p, size, fill in (
        (1, 1, 2, 2, 1.0, (1, 1), 0.0),
        (9, 3, 5, 7, 0.5, (2, 3), 0.1),
        (5, 17, 4, 6, 0.3, (6, 1), 0.0),
        (3, 1, 6, 35, 0.0, (0, 4), 0.0),
        (0, 3, 4, 4, 0.5, (2, 2), 0.0),
    )
)

_X = image("x", "N C H W")
_ANY_KEY = replace(_KEY, optional=True)
_CROP_SIZES = tuple("NCHWPQ")

ROWS = (
    Kernel(
        "random_crop",
        inputs=(_X, _ANY_KEY),
        outputs=(image("y", "N C P Q"),),
        sizes=_CROP_SIZES,
        ints=("size", "padding"),
        floats=("fill",),
        derive=_windows,
        samples=_CROPS,
    ),
    Kernel(
        "random_crop_backward",
        inputs=(image("dy", "N C P Q"), _ANY_KEY),
        outputs=(image("dx", "N C H W"),),
        sizes=_CROP_SIZES,
        ints=("size", "padding", "input_size"),
        derive=_windows_backward,
        samples=_CROPS,
    ),
    Kernel(
        "random_flip",
        inputs=(_X, _KEY),
        outputs=(image("y", "N C H W"),),
        sizes=tuple("NCHW"),
        floats=("p",),
        derive=_probability,
        samples=_IMAGES,
    ),
    Kernel(
        "cutout",
        inputs=(_X, _KEY),
        outputs=(image("y", "N C H W"),),
        sizes=tuple("NCHW"),
        ints=("size",),
        floats=("fill",),
        derive=_square,
        samples=_IMAGES,
    ),
)
