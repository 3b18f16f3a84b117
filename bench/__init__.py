"""Benchmarks: kernels, training steps, predictions and scaling; fastnn beside its peers and the machine itself.

``python -m bench`` measures all in turn, judges it by `targets.json` and draws charts; ``pytest bench`` collects
kernels and steps for pytest-benchmark. Each framework runs in a process of its own (`worker`), because the OpenMP
runtimes of two disturb each other.
"""
