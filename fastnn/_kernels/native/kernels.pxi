# All native kernels, compiled once for each instruction set by the .pyx files that include this one.
include "common.pxi"
include "linear.pxi"
include "conv.pxi"
include "max_pool.pxi"
include "activation.pxi"
include "dropout.pxi"
include "loss.pxi"
include "optim.pxi"
include "layout.pxi"

cdef extern from *:
    """
    static const char *compiled_macros(void) {
        return ""
    #ifdef __SSE2__
            "sse2 "
    #endif
    #ifdef __AVX2__
            "avx2 "
    #endif
    #ifdef __FMA__
            "fma "
    #endif
    #ifdef __AVX512F__
            "avx512f "
    #endif
        ;
    }
    """
    const char* compiled_macros() nogil


def kernels():
    """Addresses of the kernels by name, each for (float32, float64); the same one where the type does not matter."""
    return {
        "linear": (<size_t>linear[float], <size_t>linear[double]),
        "linear_backward_data": (<size_t>linear_backward_data[float], <size_t>linear_backward_data[double]),
        "linear_backward_weights": (<size_t>linear_backward_weights[float], <size_t>linear_backward_weights[double]),
        "conv2d": (<size_t>conv2d[float], <size_t>conv2d[double]),
        "conv2d_backward_data": (<size_t>conv2d_backward_data[float], <size_t>conv2d_backward_data[double]),
        "conv2d_backward_weights": (<size_t>conv2d_backward_weights[float], <size_t>conv2d_backward_weights[double]),
        "conv2d_max_pool2d": (<size_t>conv2d_max_pool2d[float], <size_t>conv2d_max_pool2d[double]),
        "conv2d_max_pool2d_backward_data": (
            <size_t>conv2d_max_pool2d_backward_data[float], <size_t>conv2d_max_pool2d_backward_data[double]
        ),
        "conv2d_max_pool2d_backward_weights": (
            <size_t>conv2d_max_pool2d_backward_weights[float], <size_t>conv2d_max_pool2d_backward_weights[double]
        ),
        "max_pool2d": (<size_t>max_pool2d[float], <size_t>max_pool2d[double]),
        "max_pool2d_backward": (<size_t>max_pool2d_backward[float], <size_t>max_pool2d_backward[double]),
        "relu": (<size_t>relu[float], <size_t>relu[double]),
        "relu_backward": (<size_t>relu_backward[float], <size_t>relu_backward[double]),
        "next_key": (<size_t>next_key, <size_t>next_key),
        "dropout": (<size_t>dropout[float], <size_t>dropout[double]),
        "softmax": (<size_t>softmax[float], <size_t>softmax[double]),
        "cross_entropy": (<size_t>cross_entropy[float], <size_t>cross_entropy[double]),
        "count_correct": (<size_t>count_correct[float], <size_t>count_correct[double]),
        "sgd": (<size_t>sgd[float], <size_t>sgd[double]),
        "gather_rows": (<size_t>gather_rows, <size_t>gather_rows),
        "copy": (<size_t>copy, <size_t>copy),
    }


def macros():
    """The instruction sets that the compiler was told to use, for the test that each table is what its name says."""
    return compiled_macros().decode().split()


def connect(size_t parallel_address):
    """Make the kernels of this table run their tasks by the function at this address (`pool_parallel`)."""
    global parallel
    parallel = <parallel_fn>parallel_address
