/* Updates and the clipping of gradients, for one type T (see tiles.h). */

#ifndef FASTNN_OPTIONS
#define FASTNN_OPTIONS
/* As the optimizers write them: see the rows of the table. */
typedef struct { double lr, momentum, dampening, weight_decay, nesterov, maximize; } sgd_options;
typedef struct { double lr, momentum, alpha, eps, weight_decay, maximize; } rmsprop_options;
typedef struct { double lr, lr_decay, weight_decay, eps, maximize; } adagrad_options;
typedef struct { double lr, beta1, beta2, eps, weight_decay, decoupled, maximize, bias_correction; } adam_options;

/* total + x, or for the largest one the larger of them, NaN beating all. */
static inline double gathered(double total, double x, int largest) {
    return !largest ? total + x : x > total || x != x ? x : total;
}
#endif

NOINLINE void NAME(sgd_row)(T *restrict w, const T *restrict grad, T *restrict buffer, const sgd_options *o, int64_t steps,
                            ptrdiff_t n) {
    const T lr = o->lr, momentum = o->momentum, decay = o->weight_decay, sign = o->maximize ? -1 : 1;
    T undamped = 1 - o->dampening;
    if (buffer && !steps) { /* the first step takes the gradient whole, whatever the buffer held */
        memset(buffer, 0, n * sizeof(T));
        undamped = 1;
    }
    if (!buffer)
        for (ptrdiff_t i = 0; i < n; i++) w[i] -= lr * (sign * grad[i] + decay * w[i]);
    else if (o->nesterov)
        for (ptrdiff_t i = 0; i < n; i++) {
            const T g = sign * grad[i] + decay * w[i];
            buffer[i] = momentum * buffer[i] + undamped * g;
            w[i] -= lr * (g + momentum * buffer[i]);
        }
    else
        for (ptrdiff_t i = 0; i < n; i++) {
            const T g = sign * grad[i] + decay * w[i];
            buffer[i] = momentum * buffer[i] + undamped * g;
            w[i] -= lr * buffer[i];
        }
}

/* The square root, from the processor's estimate by Newton's steps where that takes half the time of its own root. */
INLINE V NAME(root)(V x) {
#if defined(__AVX512F__)
#ifdef FLOAT64
    V inverse = (V)_mm512_rsqrt14_pd((__m512d)x);
    inverse *= (T)1.5 - (T)0.5 * (x * inverse) * inverse;
#else
    const V inverse = (V)_mm512_rsqrt14_ps((__m512)x);
#endif
    const V about = x * inverse;
    return NAME(choose)((x == 0) | (x == INFINITY), x, about + (T)0.5 * about * (1 - about * inverse));
#else
    V y;
    UNROLL for (int i = 0; i < LANES; i++) y[i] = sizeof(T) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return y;
#endif
}

/* What an update does with a gradient before all else; without decay, a weight that is infinite must not make it NaN. */
typedef struct { T sign, decay; } NAME(descent_t);
INLINE V NAME(descent)(V w, V grad, NAME(descent_t) d) {
    const V g = d.sign * grad;
    return d.decay == 0 ? g : g + d.decay * w;
}

typedef struct { NAME(descent_t) descent; T lr, momentum, alpha, rest, eps; } NAME(rmsprop_t);

INLINE void NAME(rmsprop_some)(T *w, const T *grad, T *square, T *mean, T *buffer, NAME(rmsprop_t) c, ptrdiff_t n) {
    const V weight = NAME(some)(w, n);
    V g = NAME(descent)(weight, NAME(some)(grad, n), c.descent);
    V variance = c.alpha * NAME(some)(square, n) + c.rest * g * g;
    NAME(put)(square, variance, n);
    if (mean) {
        V m = NAME(some)(mean, n);
        m += c.rest * (g - m);
        NAME(put)(mean, m, n);
        variance -= m * m;
    }
    g /= NAME(root)(variance) + c.eps;
    if (buffer) {
        g += c.momentum * NAME(some)(buffer, n);
        NAME(put)(buffer, g, n);
    }
    NAME(put)(w, weight - c.lr * g, n);
}

NOINLINE void NAME(rmsprop_row)(T *w, const T *grad, T *square, T *mean, T *buffer, const rmsprop_options *o, ptrdiff_t n) {
    const NAME(rmsprop_t) c = {{o->maximize ? -1 : 1, o->weight_decay}, o->lr, o->momentum, o->alpha, 1 - o->alpha, o->eps};
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        NAME(rmsprop_some)(w + i, grad + i, square + i, mean ? mean + i : NULL, buffer ? buffer + i : NULL, c, VL);
    if (i < n)
        NAME(rmsprop_some)(w + i, grad + i, square + i, mean ? mean + i : NULL, buffer ? buffer + i : NULL, c, n - i);
}

typedef struct { NAME(descent_t) descent; T rate, eps; } NAME(adagrad_t);

INLINE void NAME(adagrad_some)(T *w, const T *grad, T *sum, NAME(adagrad_t) c, ptrdiff_t n) {
    const V weight = NAME(some)(w, n), g = NAME(descent)(weight, NAME(some)(grad, n), c.descent);
    const V squares = NAME(some)(sum, n) + g * g;
    NAME(put)(sum, squares, n);
    NAME(put)(w, weight - c.rate * (g / (NAME(root)(squares) + c.eps)), n);
}

NOINLINE void NAME(adagrad_row)(T *w, const T *grad, T *sum, const adagrad_options *o, int64_t steps, ptrdiff_t n) {
    const NAME(adagrad_t) c = {{o->maximize ? -1 : 1, o->weight_decay}, o->lr / (1 + steps * o->lr_decay), o->eps};
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL) NAME(adagrad_some)(w + i, grad + i, sum + i, c, VL);
    if (i < n) NAME(adagrad_some)(w + i, grad + i, sum + i, c, n - i);
}

typedef struct { NAME(descent_t) descent; T rest1, beta2, rest2, corrects, eps, keep, rate; } NAME(adam_t);

INLINE void NAME(adam_some)(T *w, const T *grad, T *mean, T *square, T *most, NAME(adam_t) c, ptrdiff_t n) {
    const V weight = NAME(some)(w, n), g = NAME(descent)(weight, NAME(some)(grad, n), c.descent);
    V m = NAME(some)(mean, n), variance = c.beta2 * NAME(some)(square, n) + c.rest2 * g * g;
    m += c.rest1 * (g - m);
    NAME(put)(mean, m, n);
    NAME(put)(square, variance, n);
    if (most) {
        const V before = NAME(some)(most, n);
        variance = NAME(choose)((variance > before) | (variance != variance), variance, before);
        NAME(put)(most, variance, n);
    }
    NAME(put)(w, c.keep * weight - c.rate * (m / (NAME(root)(variance) * c.corrects + c.eps)), n);
}

NOINLINE void NAME(adam_row)(T *w, const T *grad, T *mean, T *square, T *most, const adam_options *o, int64_t steps,
                             ptrdiff_t n) {
    const double step = steps + 1, shrink = o->decoupled ? o->lr * o->weight_decay : 0;
    const double correction1 = o->bias_correction ? 1 - pow(o->beta1, step) : 1;
    const double correction2 = o->bias_correction ? 1 - pow(o->beta2, step) : 1;
    const NAME(adam_t) c = {
        {o->maximize ? -1 : 1, o->decoupled ? 0 : o->weight_decay},
        1 - o->beta1, o->beta2, 1 - o->beta2, 1 / sqrt(correction2), o->eps, 1 - shrink, o->lr / correction1,
    };
    ptrdiff_t i = 0;
    for (; i + VL <= n; i += VL)
        NAME(adam_some)(w + i, grad + i, mean + i, square + i, most ? most + i : NULL, c, VL);
    if (i < n) NAME(adam_some)(w + i, grad + i, mean + i, square + i, most ? most + i : NULL, c, n - i);
}

/* --- clipping --------------------------------------------------------------------------------------------------------- */

typedef int64_t NAME(wide_ints) __attribute__((vector_size(VBYTES)));
typedef T NAME(narrow) __attribute__((vector_size(VBYTES * sizeof(T) / 8), aligned(sizeof(T)), may_alias));
#define WL (VBYTES / 8)

INLINE NAME(doubles) NAME(to_doubles)(const T *x) {
#if defined(__AVX512F__) && !defined(FLOAT64)
    return (NAME(doubles))_mm512_cvtps_pd(_mm256_loadu_ps(x)); /* GCC 12 converts by halves */
#else
    return __builtin_convertvector(*(const NAME(narrow) *)x, NAME(doubles));
#endif
}

INLINE NAME(doubles) NAME(wide_choose)(NAME(wide_ints) which, NAME(doubles) yes, NAME(doubles) no) {
    return (NAME(doubles))(((NAME(wide_ints))yes & which) | ((NAME(wide_ints))no & ~which));
}

INLINE NAME(doubles) NAME(gathered)(NAME(doubles) total, NAME(doubles) x, int largest) {
    return largest ? NAME(wide_choose)((x > total) | (x != x), x, total) : total + x;
}

INLINE double NAME(power_sum_of)(const T *x, ptrdiff_t n, double p) {
    const int largest = p == INFINITY;
    NAME(doubles) totals[4] = {{0}, {0}, {0}, {0}};
    double total = 0;
    ptrdiff_t i = 0;
    for (; i + 4 * WL <= n; i += 4 * WL)
        UNROLL for (int k = 0; k < 4; k++) {
            NAME(doubles) v = NAME(to_doubles)(x + i + k * WL);
            if (p == 2) v *= v;
            else v = (NAME(doubles))((NAME(wide_ints))v & INT64_MAX);
            if (p != 2 && p != 1 && !largest)
                for (int lane = 0; lane < WL; lane++) v[lane] = pow(v[lane], p);
            totals[k] = NAME(gathered)(totals[k], v, largest);
        }
    const NAME(doubles) all = NAME(gathered)(NAME(gathered)(totals[0], totals[1], largest),
                                          NAME(gathered)(totals[2], totals[3], largest), largest);
    for (int lane = 0; lane < WL; lane++) total = gathered(total, all[lane], largest);
    for (; i < n; i++) {
        const double v = fabs((double)x[i]);
        total = gathered(total, p == 2 ? v * v : p == 1 || largest ? v : pow(v, p), largest);
    }
    return total;
}

/* The sum of |x|^p, or for an infinite p the largest |x|. */
NOINLINE double NAME(power_sum_row)(const T *x, ptrdiff_t n, double p) {
    return p == 2 ? NAME(power_sum_of)(x, n, 2) : p == 1 ? NAME(power_sum_of)(x, n, 1)
         : p == INFINITY ? NAME(power_sum_of)(x, n, INFINITY) : NAME(power_sum_of)(x, n, p);
}
#undef WL

NOINLINE void NAME(clip_row)(T *x, T limit, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}
