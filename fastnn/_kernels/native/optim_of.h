/* Updates and the clipping of gradients, for one type T (see tiles.h). */

#ifndef FASTNN_OPTIONS
#define FASTNN_OPTIONS
/* As the optimizers write them: see the rows of the table. */
typedef struct { double lr, momentum, dampening, weight_decay, nesterov, maximize; } sgd_options;
typedef struct { double lr, momentum, alpha, eps, weight_decay, maximize; } rmsprop_options;
typedef struct { double lr, lr_decay, weight_decay, eps, maximize; } adagrad_options;
typedef struct { double lr, beta1, beta2, eps, weight_decay, decoupled, maximize, bias_correction; } adam_options;
#endif

#ifdef FLOAT64
#define SQRT __builtin_sqrt
#else
#define SQRT __builtin_sqrtf
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

/* The gradient that goes down, with that of the weight decay; without one, a weight that is infinite must not make it NaN. */
INLINE T NAME(descent)(T w, T grad, T sign, T decay) {
    const T g = sign * grad;
    return decay == 0 ? g : g + decay * w;
}

NOINLINE void NAME(rmsprop_row)(T *restrict w, const T *restrict grad, T *restrict square, T *restrict mean, T *restrict buffer,
                                const rmsprop_options *o, ptrdiff_t n) {
    const T lr = o->lr, momentum = o->momentum, alpha = o->alpha, rest = 1 - o->alpha, eps = o->eps;
    const T decay = o->weight_decay, sign = o->maximize ? -1 : 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        T g = NAME(descent)(w[i], grad[i], sign, decay);
        T variance = square[i] = alpha * square[i] + rest * g * g;
        if (mean) {
            mean[i] += rest * (g - mean[i]);
            variance -= mean[i] * mean[i];
        }
        g /= SQRT(variance) + eps;
        if (buffer) g = buffer[i] = momentum * buffer[i] + g;
        w[i] -= lr * g;
    }
}

NOINLINE void NAME(adagrad_row)(T *restrict w, const T *restrict grad, T *restrict sum, const adagrad_options *o, int64_t steps,
                                ptrdiff_t n) {
    const T rate = o->lr / (1 + steps * o->lr_decay), eps = o->eps, decay = o->weight_decay, sign = o->maximize ? -1 : 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        const T g = NAME(descent)(w[i], grad[i], sign, decay);
        sum[i] += g * g;
        w[i] -= rate * (g / (SQRT(sum[i]) + eps));
    }
}

NOINLINE void NAME(adam_row)(T *restrict w, const T *restrict grad, T *restrict mean, T *restrict square, T *restrict most,
                             const adam_options *o, int64_t steps, ptrdiff_t n) {
    const double step = steps + 1, shrink = o->decoupled ? o->lr * o->weight_decay : 0;
    const double correction1 = o->bias_correction ? 1 - pow(o->beta1, step) : 1;
    const double correction2 = o->bias_correction ? 1 - pow(o->beta2, step) : 1;
    const T rate = o->lr / correction1, corrects = 1 / sqrt(correction2), eps = o->eps, keep = 1 - shrink;
    const T rest1 = 1 - o->beta1, beta2 = o->beta2, rest2 = 1 - o->beta2;
    const T decay = o->decoupled ? 0 : o->weight_decay, sign = o->maximize ? -1 : 1;
    for (ptrdiff_t i = 0; i < n; i++) {
        const T g = NAME(descent)(w[i], grad[i], sign, decay);
        mean[i] += rest1 * (g - mean[i]);
        T variance = square[i] = beta2 * square[i] + rest2 * g * g;
        if (most) variance = most[i] = variance > most[i] || variance != variance ? variance : most[i];
        w[i] = keep * w[i] - rate * (mean[i] / (SQRT(variance) * corrects + eps));
    }
}

#undef SQRT

/* --- clipping --------------------------------------------------------------------------------------------------------- */

typedef double NAME(wide) __attribute__((vector_size(VBYTES)));
typedef int64_t NAME(wide_ints) __attribute__((vector_size(VBYTES)));
typedef T NAME(narrow) __attribute__((vector_size(VBYTES * sizeof(T) / 8), aligned(sizeof(T)), may_alias));
#define WL (VBYTES / 8)

INLINE NAME(wide) NAME(wide_choose)(NAME(wide_ints) which, NAME(wide) yes, NAME(wide) no) {
    return (NAME(wide))(((NAME(wide_ints))yes & which) | ((NAME(wide_ints))no & ~which));
}

/* total + x, or for the largest one the larger of them, NaN beating all. */
INLINE NAME(wide) NAME(gathered)(NAME(wide) total, NAME(wide) x, int largest) {
    return largest ? NAME(wide_choose)((x > total) | (x != x), x, total) : total + x;
}

INLINE double NAME(power_sum_of)(const T *x, ptrdiff_t n, double p) {
    const int largest = p == INFINITY;
    NAME(wide) totals[4] = {{0}, {0}, {0}, {0}}, all;
    double total = 0;
    for (ptrdiff_t i = 0; i < n; i += 4 * WL)
        UNROLL for (int k = 0; k < 4; k++) {
            const ptrdiff_t at = i + k * WL;
            T some[WL] = {0};
            if (n - at < WL && n > at) memcpy(some, x + at, (n - at) * sizeof(T));
            const T *from = n - at < WL ? some : x + at;
            NAME(wide) v = __builtin_convertvector(*(const NAME(narrow) *)from, NAME(wide));
            if (p == 2) v *= v;
            else {
                v = (NAME(wide))((NAME(wide_ints))v & INT64_MAX);
                if (p != 1 && !largest)
                    for (int lane = 0; lane < WL; lane++) v[lane] = pow(v[lane], p);
            }
            totals[k] = NAME(gathered)(totals[k], v, largest);
        }
    all = NAME(gathered)(NAME(gathered)(totals[0], totals[1], largest), NAME(gathered)(totals[2], totals[3], largest), largest);
    for (int lane = 0; lane < WL; lane++)
        total = !largest ? total + all[lane] : all[lane] > total || all[lane] != all[lane] ? all[lane] : total;
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
