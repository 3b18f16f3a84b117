"""Data sets as NumPy arrays: from a local folder, a cache or a download, always checksummed."""

from fastnn.data.dataset import Dataset
from fastnn.data.digits import digits
from fastnn.data.mnist import mnist

__all__ = ["Dataset", "digits", "mnist"]
