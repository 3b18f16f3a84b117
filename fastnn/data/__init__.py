"""Data sets as NumPy arrays: from a local folder, a cache or a download, always checksummed."""

from fastnn.data.cifar10 import cifar10
from fastnn.data.dataset import Dataset
from fastnn.data.digits import digits
from fastnn.data.fashion_mnist import fashion_mnist
from fastnn.data.mnist import mnist

__all__ = ["Dataset", "cifar10", "digits", "fashion_mnist", "mnist"]
