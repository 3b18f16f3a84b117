"""Kernels made of a user's own functions while the program runs: written as Python, compiled by Numba where it is there."""
