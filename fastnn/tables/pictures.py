"""Reading pictures from folders: one subfolder a class for training, any folder or file for prediction. Needs Pillow.

All pictures are grey if each of them is, else RGB; transparency is left out. They keep their size if they all have the
same, else a size must be chosen, to which each of them is resized (bilinear, its proportions not kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._kernels import Array
from ..data.files import reading
from .table import Column

_MODES = {"1": "L", "L": "L", "LA": "L", "P": "RGB", "PA": "RGB", "RGB": "RGB", "RGBA": "RGB", "CMYK": "RGB"}
_MOST_SIDE = 256  #: pixels; larger pictures are no input of a small network unless somebody wants them to be


class Size(NamedTuple):
    """In pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height} x {self.width}"


class Pictures(NamedTuple):
    """What a folder holds.

    images: (N, C, H, W) uint8, C being 1 for grey and 3 for RGB
    files: the name of each in the folder
    """

    images: Array
    files: list[str]


def read_classes(folder: Path, size: Size | None) -> tuple[Pictures, Column]:
    """The pictures in the subfolders of a folder, in the order of their names, and the subfolders' names as classes.

    size: None if all pictures have the same.
    Raises OSError for what is no picture, ValueError for a folder that is not so made, ImportError without Pillow.
    """
    classes = [entry for entry in _visible(folder) if entry.is_dir()]
    if len(classes) < 2:
        raise ValueError(f"{folder}: expected a subfolder of pictures for each of several classes, got {len(classes)}")
    if beside := [entry.name for entry in _visible(folder) if entry not in classes]:
        raise ValueError(f"{folder}: expected nothing but a subfolder for each class, got {beside[0]!r} as well")
    files = [(entry.name, file) for entry in classes for file in _visible(entry)]
    if empty := {entry.name for entry in classes} - {name for name, _ in files}:
        raise ValueError(f"{folder}: no picture of class {min(empty)!r}")
    labels = np.empty(len(files), object)
    labels[:] = [name for name, _ in files]
    paths = [file for _, file in files]
    pictures = _alike(folder, paths, size)
    mode = max(picture.mode for picture in pictures)  # "RGB" if there is one, else "L"
    return _together(folder, paths, pictures, mode), Column("class", labels, str(folder))


def read_pictures(path: Path, size: Size, channels: int, resize: bool) -> Pictures:
    """The pictures in a folder and its subfolders, or the one in a file, as a network takes them.

    resize: whether others than those of this size are resized to it, not refused; a grey network sees colours as grey.
    Raises as `read_classes` does.
    """
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not files:
        raise ValueError(f"{path}: no pictures")
    pictures = [_picture(file, size if resize else None) for file in files]
    for file, picture in zip(files, pictures, strict=True):
        if _size(picture) != size:
            raise ValueError(f"{file}: expected a picture of {size} pixels, as in training, got {_size(picture)}")
    return _together(path, files, pictures, "L" if channels == 1 else "RGB")


def _visible(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _size(picture: Any) -> Size:
    return Size(picture.height, picture.width)


def _alike(folder: Path, files: Sequence[Path], size: Size | None) -> list[Any]:
    """Pictures of one size, which is small if nobody has chosen it."""
    pictures: list[Any] = []
    for file in files:
        pictures.append(_picture(file, size))
        first, found = _size(pictures[0]), _size(pictures[-1])
        if max(found) > _MOST_SIDE and size is None:
            raise ValueError(f"{file}: {found} pixels, larger than {_MOST_SIDE}: choose a size for all by --size")
        if found != first:
            raise ValueError(
                f"{folder}: pictures of several sizes, {files[0].name!r} of {first} pixels and {file.name!r} of "
                f"{found}: choose one, to which all are resized, by --size"
            )
    return pictures


def _together(folder: Path, files: Sequence[Path], pictures: Sequence[Any], mode: str) -> Pictures:
    arrays = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    images = arrays[:, None] if mode == "L" else np.ascontiguousarray(arrays.transpose(0, 3, 1, 2))
    return Pictures(images, [str(file.relative_to(folder)) if file != folder else file.name for file in files])


def _picture(file: Path, size: Size | None) -> Any:
    """A picture of Pillow's, upright, resized if there is a size."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError("pictures need Pillow: pip install pillow") from error
    with reading(file, "no picture, or a damaged one"), Image.open(file) as opened:
        if opened.mode not in _MODES:
            raise ValueError(f"its pixels are of kind {opened.mode!r}; expected grey or colour of 8 bits")
        upright = ImageOps.exif_transpose(opened).convert(_MODES[opened.mode])
        return upright if size is None else upright.resize((size.width, size.height), Image.Resampling.BILINEAR)
