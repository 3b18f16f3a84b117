"""Benchmarks: the rows of the kernel table and whole training steps, fastnn beside its peers.

``pytest bench`` measures kernels and steps with pytest-benchmark; ``python -m bench`` compares steps in turn and draws
charts. Each framework runs in a process of its own (`worker`), because the OpenMP runtimes of two disturb each other.
"""
