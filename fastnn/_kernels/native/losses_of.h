/* Losses, for one type T (see tiles.h): what rows of scores add to softmax, and losses that compare number by number.
 * Sums are kept in double; a gradient is left out where its place is NULL. */

#ifndef FASTNN_LOSS_KINDS
#define FASTNN_LOSS_KINDS
enum { MSE, L1, HUBER, BCE, GIVEN };
#endif

#ifdef FLOAT64
#define WIDE 1 /* vectors of doubles that a vector becomes */
#else
#define WIDE 2
#endif

typedef double NAME(widened) __attribute__((vector_size(VBYTES * WIDE)));
typedef struct { /* as one vector it would be kept in memory */
    NAME(doubles) part[WIDE];
} NAME(wide);

INLINE void NAME(add_wide)(NAME(wide) * sum, V v) {
    union {
        NAME(widened) whole;
        NAME(doubles) part[WIDE];
    } u = {__builtin_convertvector(v, NAME(widened))};
    UNROLL for (int i = 0; i < WIDE; i++) sum->part[i] += u.part[i];
}

INLINE double NAME(wide_total)(const NAME(wide) * sum) {
    NAME(doubles) all = sum->part[0];
    UNROLL for (int i = 1; i < WIDE; i++) all += sum->part[i];
    double total = 0;
    UNROLL for (int i = 0; i < VBYTES / 8; i++) total += all[i];
    return total;
}

/* A row's shares a = w (rest target + even), where w and target are 1 and 0 if NULL, and `first`, that of its label.
 * Returns sum(a (top - scores)) without `first`; *mass is sum(a) with it, and d, before softmax(scores), is
 * scale (*mass softmax(scores) - a) without `first`. */
NOINLINE double NAME(shares_row)(T *d, const T *scores, const T *target, const T *w, T top, T first, T rest, T even, T scale,
                                 T *mass, ptrdiff_t K) {
    NAME(wide) cost = {{{0}}}, sum = {{{0}}};
    for (ptrdiff_t k = 0; k < K; k += VL) {
        const ptrdiff_t n = K - k;
        V a = NAME(all)(even);
        if (target) a += rest * NAME(some)(target + k, n);
        if (w) a *= NAME(some)(w + k, n);
        const V c = a * (top - NAME(some)(scores + k, n));
        const NAME(ints) here = NAME(among)(n);
        NAME(add_wide)(&sum, (V)((NAME(ints))a & here));
        NAME(add_wide)(&cost, (V)((NAME(ints))c & here));
    }
    *mass = (T)(NAME(wide_total)(&sum) + first);
    for (ptrdiff_t k = 0; d && k < K; k += VL) {
        const ptrdiff_t n = K - k;
        V a = NAME(all)(even);
        if (target) a += rest * NAME(some)(target + k, n);
        if (w) a *= NAME(some)(w + k, n);
        NAME(put)(d + k, scale * (*mass * NAME(some)(d + k, n) - a), n);
    }
    return NAME(wide_total)(&cost);
}

/* Sum over k but the label of max(0, margin - scores[label] + scores[k])^p, p being 1 or 2, and `scale` times its gradient. */
NOINLINE double NAME(margin_row)(T *d, const T *scores, ptrdiff_t label, T margin, int p, T scale, ptrdiff_t K) {
    const T base = margin - scores[label];
    NAME(wide) sum = {{{0}}}, slopes = {{{0}}};
    for (ptrdiff_t k = 0; k < K; k += VL) {
        const ptrdiff_t n = K - k;
        const V z = base + NAME(some)(scores + k, n);
        NAME(ints) above = (z > 0) & NAME(among)(n);
        if (k <= label && label < k + VL) above &= ~(NAME(among)(label - k + 1) & ~NAME(among)(label - k));
        const V over = (V)((NAME(ints))z & above);
        NAME(add_wide)(&sum, p == 1 ? over : over * over);
        if (!d) continue;
        const V slope = scale * (p == 1 ? (V)((NAME(ints))NAME(all)(1) & above) : (T)2 * over);
        NAME(add_wide)(&slopes, slope);
        NAME(put)(d + k, slope, n);
    }
    if (d) d[label] = (T)-NAME(wide_total)(&slopes);
    return NAME(wide_total)(&sum);
}

/* --- number by number ------------------------------------------------------------------------------------------------- */

/* The loss of scores x against targets t, and its slope; `a` is a factor, delta, or none; q weighs positive targets.
 * Or x and t are loss and slope themselves. */
INLINE V NAME(loss_of)(const int kind, V x, V t, V q, T a, V *slope) {
    if (kind == BCE) {
        const V tail = NAME(exp)(-NAME(magnitude)(x)), share = (T)1 + (q - (T)1) * t;
        *slope = (T)1 - t - share * (NAME(choose)(x >= 0, tail, NAME(all)(1)) / ((T)1 + tail));
        return ((T)1 - t) * x + share * (NAME(log1p)(tail) + NAME(positive)(-x));
    }
    if (kind == GIVEN) {
        *slope = t;
        return x;
    }
    const V e = x - t, size = NAME(magnitude)(e);
    if (kind == MSE) {
        *slope = 2 * a * e;
        return a * (e * e);
    }
    if (kind == L1) {
        const V sign = NAME(choose)(e < 0, NAME(all)(-1), NAME(all)(1));
        *slope = NAME(choose)((e < 0) | (e > 0), sign, e);
        return size;
    }
    const NAME(ints) small = size < a;
    *slope = NAME(choose)(e >= a, NAME(all)(a), NAME(choose)(e <= -a, NAME(all)(-a), e));
    return NAME(choose)(small, (T)0.5 * (e * e), a * (size - (T)0.5 * a));
}

INLINE double NAME(losses_of)(const int kind, T *d, const T *x, const T *t, const T *w, const T *q, T a, T one, T scale,
                              ptrdiff_t count) {
    NAME(wide) sum = {{{0}}};
    for (ptrdiff_t i = 0; i < count; i += VL) {
        const ptrdiff_t n = count - i;
        const V ones = NAME(all)(1), v = one * (w ? NAME(some)(w + i, n) : ones);
        V slope, loss = NAME(loss_of)(kind, NAME(some)(x + i, n), NAME(some)(t + i, n),
                                      q ? NAME(some)(q + i, n) : ones, a, &slope);
        loss *= v;
        if (n < VL) loss = (V)((NAME(ints))loss & NAME(among)(n));
        NAME(add_wide)(&sum, loss);
        if (d) NAME(put)(d + i, v * scale * slope, n);
    }
    return NAME(wide_total)(&sum);
}

/* Sum of one w loss(x, t), and d = scale one w slope; w and q are ones where NULL. */
NOINLINE double NAME(loss_row)(int kind, T *d, const T *x, const T *t, const T *w, const T *q, T a, T one, T scale, ptrdiff_t n) {
    switch (kind) {
    case MSE: return NAME(losses_of)(MSE, d, x, t, w, q, a, one, scale, n);
    case L1: return NAME(losses_of)(L1, d, x, t, w, q, a, one, scale, n);
    case HUBER: return NAME(losses_of)(HUBER, d, x, t, w, q, a, one, scale, n);
    case BCE: return NAME(losses_of)(BCE, d, x, t, w, q, a, one, scale, n);
    default: return NAME(losses_of)(GIVEN, d, x, t, w, q, a, one, scale, n);
    }
}

NOINLINE int NAME(same_signs)(const T *x, const T *t, ptrdiff_t n) {
    int same = 1;
    for (ptrdiff_t i = 0; i < n; i++) same &= (x[i] > 0) == (t[i] > (T)0.5);
    return same;
}

/* y = factor x, or y += factor x; with `squares` returns sum(x^2). y may be NULL. */
NOINLINE double NAME(scaled_row)(T *y, const T *x, T factor, int add, int squares, ptrdiff_t count) {
    NAME(wide) sum = {{{0}}};
    for (ptrdiff_t i = 0; i < count; i += VL) {
        const ptrdiff_t n = count - i;
        const V v = NAME(some)(x + i, n);
        if (squares) NAME(add_wide)(&sum, v * v);
        if (y) NAME(put)(y + i, add ? NAME(some)(y + i, n) + factor * v : factor * v, n);
    }
    return NAME(wide_total)(&sum);
}
#undef WIDE
