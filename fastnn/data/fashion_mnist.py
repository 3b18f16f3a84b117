"""Fashion-MNIST: articles of clothing by H. Xiao, K. Rasul and R. Vollgraf (2017), in the format of MNIST."""

from __future__ import annotations

import os

from .dataset import Dataset
from .files import FileSet, KnownFile
from .idx_images import read_images

# The twins are archives of the very same images that another gzip wrote.
FILES = FileSet(
    "fashion-mnist",
    (
        KnownFile(
            "train-images-idx3-ubyte.gz",
            26421880,
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ("f46450982819e161325683178a5324fc64e606fb3758c65c6ca7dcc91aa489fd",),
        ),
        KnownFile(
            "train-labels-idx1-ubyte.gz", 29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        KnownFile(
            "t10k-images-idx3-ubyte.gz",
            4422102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ("55ec2dd7358c56fba81678bf2cd00a44de07bae64c342921600298a2b5eb517d",),
        ),
        KnownFile(
            "t10k-labels-idx1-ubyte.gz", 5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    ),
    (
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",  # without TLS: the checksums vouch for it
    ),
)
CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def fashion_mnist(
    root: str | os.PathLike[str] | None = None,
    *,
    divisor: float = 255.0,
    download: bool = True,
    verify: bool = True,
) -> Dataset:
    """60000 training and 10000 test images of shape (1, 28, 28), float32, byte / divisor; labels 0..9, int64.

    root: the folder that holds the four files; None searches `$FASTNN_DATA/fashion-mnist`, then the cache,
        then downloads into the cache (30.9 MB; `FASTNN_MIRROR` names a server that is tried first)
    divisor, download, verify, errors: as of `mnist`
    """
    return read_images(FILES, CLASS_NAMES, root, divisor=divisor, download=download, verify=verify)
