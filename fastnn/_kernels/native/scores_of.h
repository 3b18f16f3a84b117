/* Rows of scores, for one type T (see tiles.h): exponentials, softmax and the largest score. */

#ifndef FASTNN_FACTORIALS
#define FASTNN_FACTORIALS
static const double inverse_factorials[] = {1. / 2,       1. / 6,         1. / 24,         1. / 120,
                                            1. / 720,     1. / 5040,      1. / 40320,      1. / 362880,
                                            1. / 3628800, 1. / 39916800., 1. / 479001600., 1. / 6227020800.};
static const int8_t lane_numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif

#ifdef FLOAT64
#define TERMS 12 /* of the series after 1 + r: what is left out is 4e-18 of the sum for r up to ln(2) / 2, in float 5e-9 */
#define MANTISSA 52
#define BIAS 1023
#define LEAST -708.39 /* exp of less is less than the smallest normal number */
#define LN2_HIGH 6.93145751953125e-1 /* few enough bits for n times this to be exact */
#define LN2_LOW 1.42860682030941723212e-6
#else
#define TERMS 6
#define MANTISSA 23
#define BIAS 127
#define LEAST -87.33f
#define LN2_HIGH 0.693359375f
#define LN2_LOW -2.12194440e-4f
#endif

INLINE V NAME(choose)(NAME(ints) which, V yes, V no) { return (V)(((NAME(ints))yes & which) | ((NAME(ints))no & ~which)); }

/* exp(x) for x <= 0, NaN for NaN: with x = n ln(2) + r, 2^n times the Taylor series of exp(r). */
INLINE V NAME(exp)(V x) {
    const T round = (T)1.5 * (T)((int64_t)1 << MANTISSA); /* added, leaves a whole number in the last bits */
    const NAME(ints) tiny = x < (T)LEAST;
    x = NAME(choose)(tiny, NAME(all)((T)LEAST), x);
    const V shifted = x * (T)1.44269504088896340736 + round, n = shifted - round;
    const V r = x - n * (T)LN2_HIGH - n * (T)LN2_LOW;
    V sum = NAME(all)((T)inverse_factorials[TERMS - 1]);
    UNROLL for (int i = TERMS - 2; i >= 0; i--) sum = sum * r + (T)inverse_factorials[i];
    sum = sum * (r * r) + r + (T)1;
    return (V)((NAME(ints))(sum * (V)(((NAME(ints))shifted + BIAS) << MANTISSA)) & ~tiny);
}

/* Which of the VL lanes are among the first n. */
INLINE NAME(ints) NAME(among)(ptrdiff_t n) {
    NAME(ints) lane;
    UNROLL for (int i = 0; i < LANES; i++) lane[i] = lane_numbers[i];
    return lane < (IT)(n < VL ? n : VL);
}

INLINE T NAME(highest)(V v) {
    UNROLL for (int i = 1; i < LANES; i *= 2) {
        V low, high;
        NAME(zip)(&low, &high, v, v);
        v = NAME(choose)(low > high, low, high);
    }
    return v[0];
}

INLINE T NAME(total)(V v) {
    UNROLL for (int i = 1; i < LANES; i *= 2) {
        V low, high;
        NAME(zip)(&low, &high, v, v);
        v = low + high;
    }
    return v[0];
}

/* The next of a row's scores, with -inf for those after its end. */
INLINE V NAME(next)(const T *scores, ptrdiff_t n) {
    if (n >= VL) return NAME(load)(scores);
    return NAME(choose)(NAME(among)(n), NAME(load_first)(scores, NAME(first)(n)), NAME(all)(-INFINITY));
}

/* p = scale * softmax(scores), unless p is NULL; returns log(sum(exp(scores))) relative to the largest score, *top. */
NOINLINE double NAME(softmax_row)(T *p, const T *scores, ptrdiff_t K, T scale, T *top) {
    V best = NAME(next)(scores, K), sum = {0};
    for (ptrdiff_t k = VL; k < K; k += VL) {
        const V v = NAME(next)(scores + k, K - k);
        best = NAME(choose)(v > best, v, best);
    }
    *top = NAME(highest)(best);
    for (ptrdiff_t k = 0; k < K; k += VL) {
        const V e = NAME(exp)(NAME(next)(scores + k, K - k) - *top);
        sum += e;
        if (p && K - k >= VL) NAME(store)(p + k, e);
        else if (p) NAME(store_first)(p + k, e, NAME(first)(K - k));
    }
    const T total = NAME(total)(sum);
    if (p) NAME(scale_row)(p, scale / total, K);
    return log(total);
}

/* Whether the largest score is the one at `label`: the first of equals is the largest, and NaN is larger than any number. */
NOINLINE int NAME(is_largest)(const T *scores, ptrdiff_t K, ptrdiff_t label) {
    const T top = scores[label];
    if (top != top) {
        for (ptrdiff_t k = 0; k < label; k++)
            if (scores[k] != scores[k]) return 0;
        return 1;
    }
    NAME(ints) larger = {0};
    for (ptrdiff_t k = 0; k < K; k += VL) {
        const V v = NAME(next)(scores + k, K - k);
        larger |= ~(v <= top);
        if (k < label) larger |= (v == top) & NAME(among)(label - k);
    }
    IT any = 0;
    UNROLL for (int i = 0; i < LANES; i++) any |= larger[i];
    return !any;
}

#undef TERMS
#undef MANTISSA
#undef BIAS
#undef LEAST
#undef LN2_HIGH
#undef LN2_LOW
