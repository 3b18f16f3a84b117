# Elementwise functions and softmax: activation_of.h makes a kernel of each. All arrays of a call lie in the same order.

cdef extern from "tiles.h" nogil:
    enum:
        RUN
        ACTIVATIONS
    ctypedef struct activation_t:
        const char* name
        kernel_fn f32, f64
    activation_t* activations


def activation_kernels():
    return {activations[i].name.decode(): (<size_t>activations[i].f32, <size_t>activations[i].f64)
            for i in range(ACTIVATIONS)}
