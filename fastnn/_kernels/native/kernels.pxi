# All native kernels, compiled once for each instruction set by the .pyx files that include this one.
include "common.pxi"
include "linear.pxi"
include "conv.pxi"
include "max_pool.pxi"
include "avg_pool.pxi"
include "activation.pxi"
include "branches.pxi"
include "dropout.pxi"
include "attention.pxi"
include "linear_attention.pxi"
include "norm.pxi"
include "embedding.pxi"
include "recurrence.pxi"
include "loss.pxi"
include "pointwise.pxi"
include "clip.pxi"
include "optim.pxi"
include "custom.pxi"
include "layout.pxi"
include "augment.pxi"

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
        **linear_kernels(),
        **conv_kernels(),
        **max_pool_kernels(),
        **avg_pool_kernels(),
        **activation_kernels(),
        **branches_kernels(),
        **dropout_kernels(),
        **attention_kernels(),
        **linear_attention_kernels(),
        **norm_kernels(),
        **embedding_kernels(),
        **recurrence_kernels(),
        **loss_kernels(),
        **pointwise_kernels(),
        **clip_kernels(),
        **optim_kernels(),
        **custom_kernels(),
        **layout_kernels(),
        **augment_kernels(),
    }


def macros():
    """The instruction sets that the compiler was told to use, for the test that each table is what its name says."""
    return compiled_macros().decode().split()


def connect(size_t parallel_address):
    """Make the kernels of this table run their tasks by the function at this address (`pool_parallel`)."""
    global parallel
    parallel = <parallel_fn>parallel_address
