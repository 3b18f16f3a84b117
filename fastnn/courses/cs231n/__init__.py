"""The modules that notebooks on the frame of Stanford's course CS231n import, on the compiled kernels."""
