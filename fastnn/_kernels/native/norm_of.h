/* Normalisation, for one type T (see tiles.h): batch normalisation over the rows of x (rows, cols), each column by itself,
 * layer normalisation over the columns, each row by itself. A few rows are summed in T, such sums in double. */

#ifdef FLOAT64
#define SQRT sqrt
#else
#define SQRT sqrtf
#endif

/* FOUR_COLUMNS(f, ...): f for all columns, four vectors of them at a time, then one. f gets W, how many vectors, and n, how
 * many columns a vector has; its four accumulators are these vectors, or of one vector every fourth row. */
#define FOUR_COLUMNS(cols, f, ...)                                                                                     \
    ptrdiff_t j = 0;                                                                                                   \
    for (; j + 4 * VL <= (cols); j += 4 * VL) NAME(f)(__VA_ARGS__, 4, VL);                                             \
    for (; j < (cols); j += VL) NAME(f)(__VA_ARGS__, 1, (cols) - j < VL ? (cols) - j : VL);

/* The four accumulators' sums, in the W vectors that they are of. */
INLINE void NAME(fold)(T *to, const V *sums, const int W) {
    if (W == 4) UNROLL for (int w = 0; w < 4; w++) NAME(store)(to + w * VL, sums[w]);
    else NAME(store)(to, (sums[0] + sums[1]) + (sums[2] + sums[3]));
}

/* --- batch normalisation: statistics ------------------------------------------------------------------------------------ */

/* One part's mean and sum of squared deviations joined with those of the `count` rows before: Chan, Golub and LeVeque 1983,
 * "Algorithms for computing the sample variance", equation 2.1. The mean is a weighted one, so that infinity stays. */
INLINE void NAME(join)(double *mean, double *squares, double count, double more_mean, double more_squares, double more) {
    const double apart = more_mean - *mean, all = count + more;
    *squares = count > 0 ? *squares + more_squares + apart * apart * (count * (more / all)) : more_squares;
    *mean = count > 0 ? *mean * (count / all) + more_mean * (more / all) : more_mean;
}

/* Some more rows, which lie ld apart: their deviations from the mean of the rows before, at first from that of a few, and the
 * squares of these. Such a center is far from the rows' own mean only where the variance of all is as large, so that nothing is
 * lost in the difference. */
INLINE void NAME(moments)(double *restrict base, double *restrict mean, double *restrict squares, double count, const T *x,
                          ptrdiff_t rows, ptrdiff_t ld, const int W, ptrdiff_t n) {
    const int R = 4 / W;
    V center[4], first[4] = {{0}}, second[4] = {{0}};
    T centers[4 * LANES], sums[4 * LANES], sums_of_squares[4 * LANES];
    if (count > 0)
        for (ptrdiff_t k = 0; k < W * n; k++) centers[k] = (T)(base[k] + mean[k]);
    const ptrdiff_t few = rows < 16 ? rows : 16;
    UNROLL for (int t = 0; t < W; t++) {
        center[t] = (V){0};
        if (count > 0) center[t] = NAME(some)(centers + t * VL, n);
        else for (ptrdiff_t i = 0; i < few; i++) center[t] += NAME(some)(x + i * ld + t * VL, n) * ((T)1 / few);
        center[t] = (V)((NAME(ints))center[t] & (center[t] - center[t] == 0)); /* 0 for infinity and NaN */
        NAME(store)(centers + t * VL, center[t]);
    }
    ptrdiff_t i = 0;
    for (; i + R <= rows; i += R)
        UNROLL for (int t = 0; t < 4; t++) {
            const V d = NAME(some)(x + (i + t / W) * ld + t % W * VL, n) - center[t % W];
            first[t] += d;
            second[t] += d * d;
        }
    for (; i < rows; i++)
        UNROLL for (int t = 0; t < W; t++) {
            const V d = NAME(some)(x + i * ld + t * VL, n) - center[t];
            first[t] += d;
            second[t] += d * d;
        }
    NAME(fold)(sums, first, W);
    NAME(fold)(sums_of_squares, second, W);
    if (!(count > 0))
        for (ptrdiff_t k = 0; k < W * n; k++) base[k] = centers[k];
    const double share = 1.0 / rows;
    for (ptrdiff_t k = 0; k < W * n; k++) {
        const double off = sums[k] * share, left = sums_of_squares[k] - sums[k] * off;
        NAME(join)(mean + k, squares + k, count, (centers[k] - base[k]) + off, left < 0 ? 0 : left, rows);
    }
}

/* moments: three rows of n numbers, to which `rows` rows of x are added after `count` others. The means are relative to the
 * first row, the base, so that the digits of a large mean are not lost. */
NOINLINE void NAME(add_moments)(double *moments, ptrdiff_t n, double count, const T *x, ptrdiff_t rows, ptrdiff_t cols,
                                ptrdiff_t ld) {
    FOUR_COLUMNS(cols, moments, moments + j, moments + n + j, moments + 2 * n + j, count, x + j, rows, ld)
}

/* Those of two parts joined. */
NOINLINE void NAME(join_moments)(double *restrict into, double count, const double *restrict from, double more, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++)
        NAME(join)(into + n + i, into + 2 * n + i, count, from[i] - into[i] + from[n + i], from[2 * n + i], more);
}

NOINLINE void NAME(mean_and_variance)(T *restrict mean, T *restrict var, const double *restrict moments, double count,
                                      ptrdiff_t n) {
    const double share = 1 / count;
    for (ptrdiff_t i = 0; i < n; i++) {
        mean[i] = count > 0 ? (T)(moments[i] + moments[n + i]) : (T)NAN;
        var[i] = count > 0 ? (T)(moments[2 * n + i] * share) : (T)NAN;
    }
}

/* --- batch normalisation: each number ----------------------------------------------------------------------------------- */

/* What a column is multiplied by, and what is added. */
NOINLINE void NAME(scale_and_shift)(T *restrict scale, T *restrict shift, const T *restrict var, const T *restrict weight,
                                    const T *restrict bias, T eps, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) scale[i] = 1 / SQRT(var[i] + eps);
    if (weight)
        for (ptrdiff_t i = 0; i < n; i++) scale[i] *= weight[i];
    for (ptrdiff_t i = 0; i < n; i++) shift[i] = bias ? bias[i] : 0;
}

/* Of columns: NULL where there is none. deviation = x - mean. */
typedef struct {
    const T *mean, *scale, *shift, *constant, *slope;
} NAME(columns_t);

INLINE V NAME(normal_from)(V deviation, V scale, V shift) { return deviation * scale + shift; }

INLINE void NAME(normalize)(T *y, const T *x, const NAME(columns_t) * c, ptrdiff_t cols, const int relu, const int R) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        const V mean = NAME(some)(c->mean + j, n), scale = NAME(some)(c->scale + j, n);
        const V shift = NAME(some)(c->shift + j, n);
        UNROLL for (int r = 0; r < R; r++) {
            const V v = NAME(normal_from)(NAME(some)(x + r * cols + j, n) - mean, scale, shift);
            NAME(put)(y + r * cols + j, relu ? NAME(positive)(v) : v, n);
        }
    }
}

NOINLINE void NAME(normalize_rows)(T *y, const T *x, const NAME(columns_t) * c, ptrdiff_t rows, ptrdiff_t cols, int relu) {
    for (; rows >= 4; rows -= 4, x += 4 * cols, y += 4 * cols) {
        if (relu) NAME(normalize)(y, x, c, cols, 1, 4);
        else NAME(normalize)(y, x, c, cols, 0, 4);
    }
    for (; rows; rows--, x += cols, y += cols) {
        if (relu) NAME(normalize)(y, x, c, cols, 1, 1);
        else NAME(normalize)(y, x, c, cols, 0, 1);
    }
}

/* --- batch normalisation: backward -------------------------------------------------------------------------------------- */

/* The gradient before the ReLU after the normalisation, if there is one: its output is not kept but computed once more. */
INLINE V NAME(unrelu)(V dy, V deviation, V scale, V shift, const int relu) {
    return relu ? NAME(where_positive)(NAME(normal_from)(deviation, scale, shift), dy) : dy;
}

INLINE void NAME(products)(double *restrict sums, double *restrict products, const T *dy, const T *x,
                           const NAME(columns_t) * c, ptrdiff_t j, ptrdiff_t rows, ptrdiff_t ld, const int relu,
                           const int W, ptrdiff_t n) {
    const int R = 4 / W;
    V mean[4], scale[4], shift[4], first[4] = {{0}}, second[4] = {{0}};
    T folded[2][4 * LANES];
    UNROLL for (int t = 0; t < W; t++) {
        mean[t] = NAME(some)(c->mean + j + t * VL, n);
        scale[t] = NAME(some)(c->scale + j + t * VL, n);
        shift[t] = NAME(some)(c->shift + j + t * VL, n);
    }
    ptrdiff_t i = 0;
    for (; i + R <= rows; i += R)
        UNROLL for (int t = 0; t < 4; t++) {
            const ptrdiff_t at = (i + t / W) * ld + t % W * VL;
            const V d = NAME(some)(x + at, n) - mean[t % W];
            const V g = NAME(unrelu)(NAME(some)(dy + at, n), d, scale[t % W], shift[t % W], relu);
            first[t] += g;
            second[t] += g * d;
        }
    for (; i < rows; i++)
        UNROLL for (int t = 0; t < W; t++) {
            const V d = NAME(some)(x + i * ld + t * VL, n) - mean[t];
            const V g = NAME(unrelu)(NAME(some)(dy + i * ld + t * VL, n), d, scale[t], shift[t], relu);
            first[t] += g;
            second[t] += g * d;
        }
    NAME(fold)(folded[0], first, W);
    NAME(fold)(folded[1], second, W);
    for (ptrdiff_t k = 0; k < W * n; k++) {
        sums[k] += folded[0][k];
        products[k] += folded[1][k];
    }
}

/* sums += dy over rows, products += dy (x - mean) over rows. dy, x: at the first of these columns, as are those of c. */
NOINLINE void NAME(add_products)(double *sums, double *products, const T *dy, const T *x, const NAME(columns_t) * c,
                                 ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, int relu) {
    if (relu) {
        FOUR_COLUMNS(cols, products, sums + j, products + j, dy + j, x + j, c, j, rows, ld, 1)
    } else {
        FOUR_COLUMNS(cols, products, sums + j, products + j, dy + j, x + j, c, j, rows, ld, 0)
    }
}

/* From the sums over all `count` rows: the gradients of weight and bias, NULL where they are not wanted, and what dx takes. */
NOINLINE void NAME(finish_products)(T *dweight, T *dbias, T *constant, T *slope, const double *sums, const double *products,
                                    const T *var, T eps, double count, ptrdiff_t n, int add_weight, int add_bias) {
    for (ptrdiff_t i = 0; i < n; i++) {
        const double rstd = count > 0 ? 1 / SQRT(var[i] + eps) : 0; /* without samples var is NaN */
        if (dweight) dweight[i] = (T)(products[i] * rstd) + (add_weight ? dweight[i] : 0);
        if (dbias) dbias[i] = (T)sums[i] + (add_bias ? dbias[i] : 0);
        constant[i] = (T)(sums[i] / count);
        slope[i] = (T)(products[i] * rstd * rstd / count);
    }
}

INLINE void NAME(denormalize)(T *dx, const T *dy, const T *x, const NAME(columns_t) * c, ptrdiff_t cols, const int train,
                              const int relu, const int R) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        const V mean = NAME(some)(c->mean + j, n), scale = NAME(some)(c->scale + j, n);
        const V shift = NAME(some)(c->shift + j, n);
        const V constant = NAME(some)(c->constant + j, n), slope = NAME(some)(c->slope + j, n);
        UNROLL for (int r = 0; r < R; r++) {
            V g = NAME(some)(dy + r * cols + j, n), d = g;
            if (train || relu) d = NAME(some)(x + r * cols + j, n) - mean;
            g = NAME(unrelu)(g, d, scale, shift, relu);
            NAME(put)(dx + r * cols + j, scale * (train ? g - constant - d * slope : g), n);
        }
    }
}

#define DENORMALIZE(R)                                                                                                 \
    do {                                                                                                               \
        if (train && relu) NAME(denormalize)(dx, dy, x, c, cols, 1, 1, R);                                             \
        else if (train) NAME(denormalize)(dx, dy, x, c, cols, 1, 0, R);                                                \
        else if (relu) NAME(denormalize)(dx, dy, x, c, cols, 0, 1, R);                                                 \
        else NAME(denormalize)(dx, dy, x, c, cols, 0, 0, R);                                                           \
    } while (0)

/* dx = scale (dy - constant - (x - mean) slope), or with statistics that did not come from x, scale dy. */
NOINLINE void NAME(denormalize_rows)(T *dx, const T *dy, const T *x, const NAME(columns_t) * c, ptrdiff_t rows,
                                     ptrdiff_t cols, int train, int relu) {
    for (; rows >= 4; rows -= 4, dx += 4 * cols, dy += 4 * cols, x += 4 * cols) DENORMALIZE(4);
    for (; rows; rows--, dx += cols, dy += cols, x += cols) DENORMALIZE(1);
}

/* --- layer normalisation ------------------------------------------------------------------------------------------------ */

INLINE V NAME(halved)(V a, V b) {
    V low, high;
    NAME(zip)(&low, &high, a, b);
    return low + high;
}

/* The totals of R vectors, 4 or 1, added in the same order. */
INLINE void NAME(totals)(T *to, const V *v, const int R) {
    if (R == 1) {
        to[0] = NAME(total)(v[0]);
        return;
    }
    const V one = NAME(halved)(v[0], v[1]), two = NAME(halved)(v[2], v[3]);
    if (LANES < 4) {
        to[0] = one[0], to[1] = one[1], to[2] = two[0], to[3] = two[1];
        return;
    }
    V all = NAME(halved)(one, two);
    UNROLL for (int i = 4; i < LANES; i *= 2) all = NAME(halved)(all, all);
    to[0] = all[0], to[2] = all[LANES / 4], to[1] = all[LANES / 2], to[3] = all[3 * LANES / 4];
}

INLINE V NAME(only)(V v, ptrdiff_t n) { return n == VL ? v : NAME(choose)(NAME(among)(n), v, (V){0}); }

INLINE void NAME(layer_norm)(T *y, T *mean, T *rstd, const T *x, const T *weight, const T *bias, T eps, ptrdiff_t cols,
                             const int R) {
    V sums[4] = {{0}}, first[4] = {{0}}, second[4] = {{0}};
    T center[4], sum[4], square[4];
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        UNROLL for (int r = 0; r < R; r++) sums[r] += NAME(some)(x + r * cols + j, n);
    }
    NAME(totals)(center, sums, R);
    UNROLL for (int r = 0; r < R; r++) center[r] /= cols;
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        UNROLL for (int r = 0; r < R; r++) {
            const V d = NAME(only)(NAME(some)(x + r * cols + j, n) - center[r], n);
            first[r] += d;
            second[r] += d * d;
        }
    }
    NAME(totals)(sum, first, R);
    NAME(totals)(square, second, R);
    UNROLL for (int r = 0; r < R; r++) {
        const T off = sum[r] == sum[r] ? sum[r] / cols : 0, left = square[r] - sum[r] * off;
        mean[r] = center[r] + off;
        rstd[r] = 1 / SQRT((left < 0 ? 0 : left) / cols + eps);
    }
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        UNROLL for (int r = 0; r < R; r++) {
            V v = (NAME(some)(x + r * cols + j, n) - mean[r]) * rstd[r];
            if (weight) v *= NAME(some)(weight + j, n);
            if (bias) v += NAME(some)(bias + j, n);
            NAME(put)(y + r * cols + j, v, n);
        }
    }
}

/* y = (x - mean) rstd weight + bias of rows, each with its own mean and rstd; weight and bias may be NULL. */
NOINLINE void NAME(layer_norm_rows)(T *y, T *mean, T *rstd, const T *x, const T *weight, const T *bias, T eps, ptrdiff_t rows,
                                    ptrdiff_t cols) {
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4)
        NAME(layer_norm)(y + i * cols, mean + i, rstd + i, x + i * cols, weight, bias, eps, cols, 4);
    for (; i < rows; i++) NAME(layer_norm)(y + i * cols, mean + i, rstd + i, x + i * cols, weight, bias, eps, cols, 1);
}

INLINE void NAME(layer_norm_backward)(T *dx, const T *dy, const T *x, const T *weight, const T *mean, const T *rstd,
                                      ptrdiff_t cols, const int R) {
    V first[4] = {{0}}, second[4] = {{0}};
    T constant[4], slope[4];
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        UNROLL for (int r = 0; r < R; r++) {
            V g = NAME(some)(dy + r * cols + j, n);
            if (weight) g *= NAME(some)(weight + j, n);
            first[r] += g;
            second[r] += NAME(only)(g * (NAME(some)(x + r * cols + j, n) - mean[r]), n);
        }
    }
    NAME(totals)(constant, first, R);
    NAME(totals)(slope, second, R);
    UNROLL for (int r = 0; r < R; r++) {
        constant[r] /= cols;
        slope[r] *= rstd[r] * rstd[r] / cols;
    }
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        UNROLL for (int r = 0; r < R; r++) {
            V g = NAME(some)(dy + r * cols + j, n);
            if (weight) g *= NAME(some)(weight + j, n);
            const V d = NAME(some)(x + r * cols + j, n) - mean[r];
            NAME(put)(dx + r * cols + j, rstd[r] * (g - constant[r] - d * slope[r]), n);
        }
    }
}

/* dx = rstd (g - mean of g - xhat mean of (g xhat)), where xhat = (x - mean) rstd and g = dy weight, the means over a row. */
NOINLINE void NAME(layer_norm_backward_rows)(T *dx, const T *dy, const T *x, const T *weight, const T *mean, const T *rstd,
                                             ptrdiff_t rows, ptrdiff_t cols) {
    ptrdiff_t i = 0;
    for (; i + 4 <= rows; i += 4)
        NAME(layer_norm_backward)(dx + i * cols, dy + i * cols, x + i * cols, weight, mean + i, rstd + i, cols, 4);
    for (; i < rows; i++)
        NAME(layer_norm_backward)(dx + i * cols, dy + i * cols, x + i * cols, weight, mean + i, rstd + i, cols, 1);
}

INLINE void NAME(layer_products)(double *restrict sums, double *restrict products, const T *dy, const T *x, const T *mean,
                                 const T *rstd, ptrdiff_t rows, ptrdiff_t ld, const int W, ptrdiff_t n) {
    const int R = 4 / W;
    V first[4] = {{0}}, second[4] = {{0}};
    T folded[2][4 * LANES];
    ptrdiff_t i = 0;
    for (; i + R <= rows; i += R)
        UNROLL for (int t = 0; t < 4; t++) {
            const ptrdiff_t r = i + t / W, at = r * ld + t % W * VL;
            const V g = NAME(some)(dy + at, n);
            first[t] += g;
            second[t] += g * ((NAME(some)(x + at, n) - mean[r]) * rstd[r]);
        }
    for (; i < rows; i++)
        UNROLL for (int t = 0; t < W; t++) {
            const V g = NAME(some)(dy + i * ld + t * VL, n);
            first[t] += g;
            second[t] += g * ((NAME(some)(x + i * ld + t * VL, n) - mean[i]) * rstd[i]);
        }
    NAME(fold)(folded[0], first, W);
    NAME(fold)(folded[1], second, W);
    for (ptrdiff_t k = 0; k < W * n; k++) {
        sums[k] += folded[0][k];
        products[k] += folded[1][k];
    }
}

/* sums += dy over rows, products += dy (x - mean) rstd over rows, whose own mean and rstd are. */
NOINLINE void NAME(add_layer_products)(double *sums, double *products, const T *dy, const T *x, const T *mean,
                                       const T *rstd, ptrdiff_t rows, ptrdiff_t cols) {
    FOUR_COLUMNS(cols, layer_products, sums + j, products + j, dy + j, x + j, mean, rstd, rows, cols)
}

NOINLINE void NAME(add_doubles)(double *restrict total, const double *restrict more, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) total[i] += more[i];
}

NOINLINE void NAME(round_sums)(T *restrict y, const double *restrict sums, ptrdiff_t n, int add) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] = (T)sums[i] + (add ? y[i] : 0);
}

#undef FOUR_COLUMNS
#undef DENORMALIZE
#undef SQRT
