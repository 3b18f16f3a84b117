"""What every data set is handed out as, of images or of texts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Images and labels, split into a training and a test part.

    x_train: (N, C, H, W) float32, without unit, 0 (dark) to about 1 (bright); C is 1 for grey values, 3 for red, green
        and blue
    y_train: (N,) int64, class numbers, indices into `class_names`; (N, 2) where an image shows two things
    x_test:  (M, C, H, W) float32
    y_test:  (M,) or (M, 2) int64
    class_names: one name per class
    note: what is missing, where a copy of a data set is not all of it
    origin: where the images come from, where there are several possibilities

    The arrays are C-contiguous, writable and belong to the caller.
    """

    x_train: npt.NDArray[np.float32]
    y_train: npt.NDArray[np.int64]
    x_test: npt.NDArray[np.float32]
    y_test: npt.NDArray[np.int64]
    class_names: tuple[str, ...]
    note: str = ""
    origin: str = ""

    def __repr__(self) -> str:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)[:4]}
        shapes = ", ".join(f"{name}: {array.dtype} {array.shape}" for name, array in arrays.items())
        return (
            "; ".join(filter(None, [f"Dataset({shapes}, {len(self.class_names)} classes", self.note, self.origin]))
            + ")"
        )


@dataclass(frozen=True, eq=False, repr=False)
class TextDataset:
    """Texts and labels, split into a training and a test part.

    x_train: N texts. y_train: (N,) int64, class numbers, indices into `class_names`
    x_test: M texts. y_test: (M,) int64
    class_names: one name per class
    """

    x_train: list[str]
    y_train: npt.NDArray[np.int64]
    x_test: list[str]
    y_test: npt.NDArray[np.int64]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        parts = f"x_train: {len(self.x_train)} texts, x_test: {len(self.x_test)} texts"
        return f"TextDataset({parts}, {len(self.class_names)} classes)"
