/* Rows of scores, for one type T (see tiles.h): softmax, its gradients and the largest score. */

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

NOINLINE void NAME(log_softmax_row)(T *y, const T *scores, ptrdiff_t K) {
    T top;
    const T log_sum = (T)NAME(softmax_row)(NULL, scores, K, 1, &top);
    for (ptrdiff_t k = 0; k < K; k++) y[k] = scores[k] - top - log_sum;
}

/* dx = y (dy - Σ dy y), y being the softmax. */
NOINLINE void NAME(softmax_backward_row)(T *dx, const T *dy, const T *y, ptrdiff_t K) {
    V sum = {0};
    for (ptrdiff_t k = 0; k < K; k += VL) sum += NAME(some)(dy + k, K - k) * NAME(some)(y + k, K - k);
    const T total = NAME(total)(sum);
    for (ptrdiff_t k = 0; k < K; k++) dx[k] = y[k] * (dy[k] - total);
}

/* dx = dy - exp(y) Σ dy, y being the logarithm of the softmax. */
NOINLINE void NAME(log_softmax_backward_row)(T *dx, const T *dy, const T *y, ptrdiff_t K) {
    V sum = {0};
    for (ptrdiff_t k = 0; k < K; k += VL) sum += NAME(some)(dy + k, K - k);
    const T total = NAME(total)(sum);
    for (ptrdiff_t k = 0; k < K; k += VL) {
        const V v = NAME(some)(dy + k, K - k) - NAME(exp)(NAME(some)(y + k, K - k)) * total;
        if (K - k >= VL) NAME(store)(dx + k, v);
        else NAME(store_first)(dx + k, v, NAME(first)(K - k));
    }
}
