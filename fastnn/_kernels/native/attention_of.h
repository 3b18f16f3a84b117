/* Attention, for one type T (see tiles.h): a block of scores of some keys (rows) by a panel of queries, whose numbers lie along
 * the vectors: W of them, whole vectors. So largest scores and sums of each query need no sums across lanes. */

/* Scores of what may not be attended become -inf: keys whose mask (NULL: all 1) is 0 and, if `causal`, those that come later
 * than the query; the first key comes `ahead` places after the first query. */
NOINLINE void NAME(mask_scores)(T *scores, const uint8_t *mask, ptrdiff_t keys, ptrdiff_t W, int causal, ptrdiff_t ahead) {
    for (ptrdiff_t j = 0; j < keys; j++) {
        ptrdiff_t hidden = mask && !mask[j] ? W : causal ? ahead + j : 0;
        if (hidden > W) hidden = W;
        for (ptrdiff_t i = 0; i < hidden; i++) scores[j * W + i] = -INFINITY;
    }
}

/* scores = exp(scores - top), where top (W) becomes the largest so far, and sum (W) that of all of them so far; factor (W)
 * is what earlier ones have to be multiplied by (Milakov and Gimelshein 2018, algorithm 3). */
NOINLINE void NAME(weigh_scores)(T *scores, T *top, T *sum, T *factor, ptrdiff_t keys, ptrdiff_t W) {
    for (ptrdiff_t i = 0; i < W; i += VL) {
        const V before = NAME(load)(top + i);
        V best = before, total = {0};
        for (ptrdiff_t j = 0; j < keys; j++) {
            const V v = NAME(load)(scores + j * W + i);
            best = NAME(choose)(v > best, v, best);
        }
        const V shift = NAME(choose)(best == -INFINITY, (V){0}, best), old = NAME(exp)(before - shift);
        for (ptrdiff_t j = 0; j < keys; j++) {
            const V e = NAME(exp)(NAME(load)(scores + j * W + i) - shift);
            NAME(store)(scores + j * W + i, e);
            total += e;
        }
        NAME(store)(top + i, best);
        NAME(store)(factor + i, old);
        NAME(store)(sum + i, NAME(load)(sum + i) * old + total);
    }
}

/* y (rows, W) *= factor (W). */
NOINLINE void NAME(scale_columns)(T *y, const T *factor, ptrdiff_t rows, ptrdiff_t W) {
    for (ptrdiff_t j = 0; j < rows; j++)
        for (ptrdiff_t i = 0; i < W; i += VL)
            NAME(store)(y + j * W + i, NAME(load)(y + j * W + i) * NAME(load)(factor + i));
}

/* factor = 1 / sum, or 0 for a query without keys; top becomes the logarithm of the sum of the exponentials of all scores. */
NOINLINE void NAME(finish_scores)(T *factor, T *top, const T *sum, ptrdiff_t W) {
    for (ptrdiff_t i = 0; i < W; i += VL) {
        const V s = NAME(load)(sum + i), t = NAME(load)(top + i);
        const NAME(ints) none = s == 0;
        NAME(store)(factor + i, NAME(choose)(none, (V){0}, 1 / s));
        NAME(store)(top + i, NAME(choose)(none, NAME(all)(-INFINITY), NAME(choose)(t == -INFINITY, (V){0}, t) + NAME(log)(s)));
    }
}

/* scores = exp(scores - logsumexp (W)): what the forward pass made of them in the end. */
NOINLINE void NAME(weigh_again)(T *scores, const T *logsumexp, ptrdiff_t keys, ptrdiff_t W) {
    for (ptrdiff_t j = 0; j < keys; j++)
        for (ptrdiff_t i = 0; i < W; i += VL)
            NAME(store)(scores + j * W + i, NAME(exp)(NAME(load)(scores + j * W + i) - NAME(load)(logsumexp + i)));
}

/* total (W) = the sum over rows of a b. */
NOINLINE void NAME(sum_products)(T *total, const T *a, const T *b, ptrdiff_t rows, ptrdiff_t W) {
    for (ptrdiff_t i = 0; i < W; i += VL) {
        V sum = {0};
        for (ptrdiff_t j = 0; j < rows; j++) sum += NAME(load)(a + j * W + i) * NAME(load)(b + j * W + i);
        NAME(store)(total + i, sum);
    }
}

/* The gradient by scores, from that by weights: dy = scale weights (dy - mean (W)). */
NOINLINE void NAME(score_gradients)(T *dy, const T *weights, const T *mean, T scale, ptrdiff_t keys, ptrdiff_t W) {
    for (ptrdiff_t j = 0; j < keys; j++)
        for (ptrdiff_t i = 0; i < W; i += VL) {
            const V d = NAME(load)(dy + j * W + i) - NAME(load)(mean + i);
            NAME(store)(dy + j * W + i, scale * NAME(load)(weights + j * W + i) * d);
        }
}
