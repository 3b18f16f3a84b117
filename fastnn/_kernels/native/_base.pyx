# The kernels for one instruction set: setup.py compiles this file with its flags.
include "kernels.pxi"
