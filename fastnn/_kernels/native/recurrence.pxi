# Recurrent layers, one direction of one: recurrence_of.h makes the kernels.

cdef extern from "tiles.h" nogil:
    void recurrence_kernel_f32(void*, const call_t*)
    void recurrence_kernel_f64(void*, const call_t*)
    void recurrence_backward_kernel_f32(void*, const call_t*)
    void recurrence_backward_kernel_f64(void*, const call_t*)


def recurrence_kernels():
    return {
        "recurrence": (<size_t>&recurrence_kernel_f32, <size_t>&recurrence_kernel_f64),
        "recurrence_backward": (<size_t>&recurrence_backward_kernel_f32, <size_t>&recurrence_backward_kernel_f64),
    }
