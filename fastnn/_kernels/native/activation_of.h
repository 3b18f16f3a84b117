/* Activations, for one type T (see tiles.h): the functions, their derivatives, and kernels that go through an array.
 *
 * x, y, dy are vectors; a and b are the row's parameters in all lanes. Results may lie where arguments do.
 */

INLINE V NAME(relu_of)(V x, V a, V b) { return NAME(positive)(x); }
INLINE V NAME(relu_backward_of)(V dy, V y, V a, V b) { return NAME(where_positive)(y, dy); }

INLINE V NAME(leaky_relu_of)(V x, V slope, V b) { return NAME(choose)(x > 0, x, x * slope); }
INLINE V NAME(leaky_relu_backward_of)(V dy, V x, V slope, V b) { return NAME(choose)(x > 0, dy, dy * slope); }

INLINE V NAME(elu_of)(V x, V alpha, V b) { return NAME(choose)(x > 0, x, alpha * NAME(expm1)(x)); }
INLINE V NAME(elu_backward_of)(V dy, V x, V alpha, V b) {
    return NAME(choose)(x > 0, dy, dy * (alpha * NAME(exp)(x)));
}

INLINE V NAME(gelu_of)(V x, V a, V b) {
    V e;
    return x * NAME(normal)(x, &e);
}
INLINE V NAME(gelu_backward_of)(V dy, V x, V a, V b) {
    V e;
    const V cdf = NAME(normal)(x, &e);
    return dy * (cdf + x * (e * (T)0.398942280401432678)); /* 1 / sqrt(2π) */
}

/* ½ (1 + tanh(u)) = sigmoid(2u), here with 2u = sqrt(8/π) (x + 0.044715 x³). */
INLINE V NAME(gelu_tanh_of)(V x, V a, V b) {
    const V twice_u = (T)1.59576912160573071 * (x + (T)0.044715 * (x * x * x));
    return x * NAME(sigmoid)(twice_u);
}
INLINE V NAME(gelu_tanh_backward_of)(V dy, V x, V a, V b) {
    const V twice_u = (T)1.59576912160573071 * (x + (T)0.044715 * (x * x * x)), s = NAME(sigmoid)(twice_u);
    return dy * (s + x * (s * (1 - s)) * ((T)1.59576912160573071 * (1 + (T)0.134145 * (x * x))));
}

INLINE V NAME(silu_of)(V x, V a, V b) { return x / (1 + NAME(exp)(-x)); }
INLINE V NAME(silu_backward_of)(V dy, V x, V a, V b) {
    const V s = NAME(sigmoid)(x);
    return dy * s * (1 + x * (1 - s));
}

INLINE V NAME(sigmoid_of)(V x, V a, V b) { return NAME(sigmoid)(x); }
INLINE V NAME(sigmoid_backward_of)(V dy, V y, V a, V b) { return dy * (y * (1 - y)); }

INLINE V NAME(tanh_of)(V x, V a, V b) { return NAME(tanh)(x); }
INLINE V NAME(tanh_backward_of)(V dy, V y, V a, V b) { return dy * (1 - y * y); }

INLINE V NAME(softplus_of)(V x, V beta, V threshold) {
    const V z = x * beta;
    return NAME(choose)(z > threshold, x, NAME(softplus)(z) / beta);
}
INLINE V NAME(softplus_backward_of)(V dy, V x, V beta, V threshold) {
    const V z = x * beta;
    return NAME(choose)(z > threshold, dy, dy * NAME(sigmoid)(z));
}

/* A kernel and its task: a function of what stands at one place of one array, or of two. `group` vectors are computed, then
 * all of them stored: where a function is short, loads and stores in turn take half as long again. */
#define WHOLE(p) NAME(load)(p)
#define PART(p) NAME(load_first)(p, m)
#define ONE(load, i) load(x + (i))
#define TWO(load, i) load(x + (i)), load(z + (i))
#define ELEMENTWISE(name, function, arrays, group)                                                      \
    static void NAME(name##_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {           \
        const ptrdiff_t at = task * RUN, n = c->n[0] - at < RUN ? c->n[0] - at : RUN;                   \
        const V a = NAME(all)((T)c->f[0]), b = NAME(all)((T)c->f[1]);                                   \
        const T *x = (const T *)c->p[1] + at;                                                           \
        const T *z __attribute__((unused)) = c->p[2] ? (const T *)c->p[2] + at : NULL;                  \
        T *y = (T *)first + at;                                                                         \
        ptrdiff_t i = 0;                                                                                \
        for (; i + group * VL <= n; i += group * VL) {                                                  \
            V v[group];                                                                                 \
            UNROLL for (int g = 0; g < group; g++) v[g] = function(arrays(WHOLE, i + g * VL), a, b);    \
            UNROLL for (int g = 0; g < group; g++) NAME(store)(y + i + g * VL, v[g]);                   \
        }                                                                                               \
        for (; i < n; i += VL) {                                                                        \
            const M m = NAME(first)(n - i < VL ? n - i : VL);                                           \
            NAME(store_first)(y + i, function(arrays(PART, i), a, b), m);                               \
        }                                                                                               \
    }                                                                                                   \
    static void NAME(name##_kernel)(void *first, const call_t *c) {                                     \
        parallel(NAME(name##_task), c, (c->n[0] + RUN - 1) / RUN, 0.1 * sizeof(T) * c->n[0]);           \
    }
#define PAIR(name, group)                          \
    ELEMENTWISE(name, NAME(name##_of), ONE, group) \
    ELEMENTWISE(name##_backward, NAME(name##_backward_of), TWO, group)

PAIR(relu, 4)
PAIR(leaky_relu, 4)
PAIR(elu, 1)
PAIR(gelu, 1)
PAIR(gelu_tanh, 1)
PAIR(silu, 1)
PAIR(sigmoid, 1)
PAIR(tanh, 1)
PAIR(softplus, 1)

/* A kernel on rows of scores (N, K), and its task: some rows, from `in` and `also` to `out`. */
#define BY_ROW(name, row)                                                                                   \
    static void NAME(name##_task)(void *first, const call_t *c, ptrdiff_t task, int thread) {               \
        const ptrdiff_t N = c->n[0], K = c->n[1], rows = ROWS(K);                                           \
        for (ptrdiff_t n = task * rows; n < N && n < (task + 1) * rows; n++) {                              \
            T *out = (T *)first + n * K;                                                                    \
            const T *in = (const T *)c->p[1] + n * K;                                                       \
            const T *also __attribute__((unused)) = c->p[2] ? (const T *)c->p[2] + n * K : NULL;            \
            row;                                                                                            \
        }                                                                                                   \
    }                                                                                                       \
    static void NAME(name##_kernel)(void *first, const call_t *c) {                                         \
        const ptrdiff_t N = c->n[0], K = c->n[1];                                                           \
        parallel(NAME(name##_task), c, (N + ROWS(K) - 1) / ROWS(K), N * (30 + 0.5 * K));                    \
    }
#define ROWS(K) (K < 8192 ? 8192 / K : 1)

BY_ROW(log_softmax, NAME(log_softmax_row)(out, in, K))
BY_ROW(softmax_backward, NAME(softmax_backward_row)(out, in, also, K))
BY_ROW(log_softmax_backward, NAME(log_softmax_backward_row)(out, in, also, K))

#undef WHOLE
#undef PART
#undef ONE
#undef TWO
#undef ELEMENTWISE
#undef PAIR
#undef BY_ROW
#undef ROWS
