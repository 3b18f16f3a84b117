"""Kernels made of a user's own functions while the program runs: Python that Numba compiles if it is there."""
