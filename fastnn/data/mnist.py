"""MNIST: handwritten digits by Y. LeCun, C. Cortes and C. J. C. Burges."""

from __future__ import annotations

import os

from .dataset import Dataset
from .files import FileSet, KnownFile
from .idx_images import read_images

FILES = FileSet(
    "mnist",
    (
        KnownFile(
            "train-images-idx3-ubyte.gz", 9912422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        KnownFile(
            "train-labels-idx1-ubyte.gz", 28881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        KnownFile(
            "t10k-images-idx3-ubyte.gz", 1648877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        KnownFile(
            "t10k-labels-idx1-ubyte.gz", 4542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "http://yann.lecun.com/exdb/mnist/",  # without TLS: the checksums vouch for the content
    ),
)
CLASS_NAMES = tuple("0123456789")


def mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    divisor: float = 255.0,
    download: bool = True,
    verify: bool = True,
) -> Dataset:
    """60000 training and 10000 test images of shape (1, 28, 28), float32, byte / divisor; labels 0..9, int64.

    root: the folder that holds the four files; None searches `$FASTNN_DATA/mnist`, then the cache,
        then downloads into the cache (11.6 MB; `FASTNN_MIRROR` names a server that is tried first)
    divisor: 255 scales to 0..1, as PyTorch does; the course MITx 6.86x divides by 256
    download: False never uses the network
    verify: False accepts other files of the same format and names, of any number and size of images;
        format, counts and labels are checked all the same

    Raises DataError, an OSError, which names the file and what is wrong with it; ValueError for a bad divisor.
    """
    return read_images(FILES, CLASS_NAMES, root, divisor=divisor, download=download, verify=verify)
