/* Register tiles and vector rows in float (…_f32) and double (…_f64), compiled once for each instruction set. */
#ifndef FASTNN_TILES_H
#define FASTNN_TILES_H
#include "call.h"
#include <stddef.h>

#if defined(__AVX512F__) || defined(__aarch64__)
#define OUTER_VECTORS 4 /* widest tile, in vectors */
#define DOT_COLS 5
static const int outer_rows[] = {14, 14, 9, 6}; /* tallest tile of each width: accumulators and operands fill the registers */
#else
#define OUTER_VECTORS 2
#define DOT_COLS 2
static const int outer_rows[] = {12, 6};
#endif

#define LOW_ROWS 6 /* tiles up to here have an address for each row, so that their rows may lie anywhere */

/* An outer product: see tiles_of.h. The rows of A and C come in runs, in which they lie ai and ci apart, and the runs in images: runs
 * lie aj and cj apart, images an and cn.
 * Results begin with the bias (NULL: 0) or, if `add` says so, with what is there. Without tb the depth is 1 and the rows of
 * B follow each other from tap to tap. */
typedef struct {
    ptrdiff_t rows, run, runs, cols, depth, taps; /* run: rows of one; runs: of one image */
    const ptrdiff_t *ta, *tb;
    ptrdiff_t ai, aj, an, ak, bk, ci, cj, cn;
    int add, relu;
} grid_t;

#define RUN 16384 /* numbers of one task on a row of them */

/* Set by the runtime when it connects this instruction set to the thread pool. */
static parallel_fn parallel;

#define T float
#define IT int32_t
#define NAME(x) x##_f32
#include "vec.h"
#include "pack_of.h"
#include "tiles_of.h"
#include "rows_of.h"
#include "conv_of.h"
#include "avg_pool_of.h"
#include "branches_of.h"
#include "math_of.h"
#include "scores_of.h"
#include "norm_of.h"
#include "losses_of.h"
#include "optim_of.h"
#include "activation_of.h"
#include "recurrence_of.h"
#include "attention_of.h"
#include "linear_attention_of.h"
#include "vec_end.h"

#define FLOAT64
#define T double
#define IT int64_t
#define NAME(x) x##_f64
#include "vec.h"
#include "pack_of.h"
#include "tiles_of.h"
#include "rows_of.h"
#include "conv_of.h"
#include "avg_pool_of.h"
#include "branches_of.h"
#include "math_of.h"
#include "scores_of.h"
#include "norm_of.h"
#include "losses_of.h"
#include "optim_of.h"
#include "activation_of.h"
#include "recurrence_of.h"
#include "attention_of.h"
#include "linear_attention_of.h"
#include "vec_end.h"
#undef FLOAT64

#include "philox.h"

/* The rows that activation_of.h makes. */
#define ROW(name) {#name, name##_kernel_f32, name##_kernel_f64}
typedef struct {
    const char *name;
    kernel_fn f32, f64;
} activation_t;
static const activation_t activations[] = {
    ROW(relu),          ROW(leaky_relu),          ROW(elu),          ROW(gelu),
    ROW(relu_backward), ROW(leaky_relu_backward), ROW(elu_backward), ROW(gelu_backward),
    ROW(silu),          ROW(sigmoid),             ROW(tanh),         ROW(gelu_tanh),
    ROW(silu_backward), ROW(sigmoid_backward),    ROW(tanh_backward), ROW(gelu_tanh_backward),
    ROW(softplus),      ROW(softmax_backward),    ROW(log_softmax),
    ROW(softplus_backward), ROW(log_softmax_backward),
};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };
#undef ROW

#endif
