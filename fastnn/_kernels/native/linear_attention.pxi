# Attention in time that grows with the length of the sequence only: linear_attention_of.h has the kernels.

cdef extern from "tiles.h" nogil:
    void linear_attention_f32(void*, const call_t*)
    void linear_attention_f64(void*, const call_t*)
    void linear_attention_backward_f32(void*, const call_t*)
    void linear_attention_backward_f64(void*, const call_t*)
    void mix_steps_f32(void*, const call_t*)
    void mix_steps_f64(void*, const call_t*)
    void mix_steps_backward_data_f32(void*, const call_t*)
    void mix_steps_backward_data_f64(void*, const call_t*)
    void mix_steps_backward_weights_f32(void*, const call_t*)
    void mix_steps_backward_weights_f64(void*, const call_t*)


def linear_attention_kernels():
    return {
        "linear_attention": (<size_t>&linear_attention_f32, <size_t>&linear_attention_f64),
        "linear_attention_backward": (<size_t>&linear_attention_backward_f32, <size_t>&linear_attention_backward_f64),
        "mix_steps": (<size_t>&mix_steps_f32, <size_t>&mix_steps_f64),
        "mix_steps_backward_data": (<size_t>&mix_steps_backward_data_f32, <size_t>&mix_steps_backward_data_f64),
        "mix_steps_backward_weights": (<size_t>&mix_steps_backward_weights_f32, <size_t>&mix_steps_backward_weights_f64),
    }
