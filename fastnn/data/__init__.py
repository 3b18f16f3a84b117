"""Data sets as NumPy arrays: from a local folder, a cache or a download, always checksummed."""

from .cifar10 import cifar10
from .dataset import Dataset, TextDataset
from .digits import digits
from .fashion_mnist import fashion_mnist
from .imdb import imdb
from .mnist import mnist
from .two_digit_mnist import two_digit_mnist

__all__ = ["Dataset", "TextDataset", "cifar10", "digits", "fashion_mnist", "imdb", "mnist", "two_digit_mnist"]
