/* Rows of numbers. Results may lie where arguments do. */

NOINLINE void NAME(add_row)(T *restrict y, const T *restrict x, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] += x[i];
}

NOINLINE void NAME(scale_row)(T *y, T factor, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; i++) y[i] *= factor;
}

/* total (cols) = x (rows, cols) summed over rows: four partial sums of every fourth row, added in their order. */
NOINLINE void NAME(sum_rows)(T *total, const T *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t ld, int add) {
    for (ptrdiff_t j = 0; j < cols; j += VL) {
        const ptrdiff_t n = cols - j < VL ? cols - j : VL;
        const M m = NAME(first)(n);
        V sums[4] = {{0}, {0}, {0}, {0}};
        ptrdiff_t i = 0;
        for (; i + 4 <= rows; i += 4)
            UNROLL for (int r = 0; r < 4; r++) {
                const T *row = x + (i + r) * ld + j;
                sums[r] += n == VL ? NAME(load)(row) : NAME(load_first)(row, m);
            }
        for (; i < rows; i++) sums[0] += NAME(load_first)(x + i * ld + j, m);
        V all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        if (add) all += NAME(load_first)(total + j, m);
        NAME(store_first)(total + j, all, m);
    }
}

typedef uint16_t NAME(halves) __attribute__((vector_size(VBYTES / sizeof(T) * 2)));

/* A row of output pixels of max pooling, all channels: y and the index of the tap that each came from. The first maximum
 * wins a tie, NaN beats all (PyTorch's rule). `taps` lists, for each tap inside the image, its offset in x and its number;
 * the windows lie `step` apart in x. */
NOINLINE void NAME(max_pool_pixels)(T *y, uint16_t *index, const T *x, const ptrdiff_t *taps, ptrdiff_t count,
                                    ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step) {
    for (; pixels > 0; pixels--, x += step, y += channels, index += index ? channels : 0)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            V best = n == VL ? NAME(load)(x + taps[0] + c) : NAME(load_first)(x + taps[0] + c, m);
            NAME(ints) from = (NAME(ints)){0} + (IT)taps[1];
            for (ptrdiff_t t = 1; t < count; t++) {
                V v = n == VL ? NAME(load)(x + taps[2 * t] + c) : NAME(load_first)(x + taps[2 * t] + c, m);
                NAME(ints) takes = (v > best) | (v != v);
                best = (V)(((NAME(ints))v & takes) | ((NAME(ints))best & ~takes));
                from = (((NAME(ints)){0} + (IT)taps[2 * t + 1]) & takes) | (from & ~takes);
            }
            if (n == VL) NAME(store)(y + c, best);
            else NAME(store_first)(y + c, best, m);
            if (index) {
                NAME(halves) narrow = __builtin_convertvector(from, NAME(halves));
                if (n == VL) memcpy(index + c, &narrow, sizeof narrow);
                else memcpy(index + c, &narrow, n * sizeof *index);
            }
        }
}

/* The gradient of such a row: each dy goes to the tap that its maximum came from, the other taps get 0 (or, with `add`,
 * keep what they have). */
NOINLINE void NAME(unpool_pixels)(T *dx, const T *dy, const uint16_t *index, const ptrdiff_t *taps, ptrdiff_t count,
                                  ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step, int add) {
    for (; pixels > 0; pixels--, dx += step, dy += channels, index += channels)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            NAME(halves) narrow = {0};
            if (n == VL) memcpy(&narrow, index + c, sizeof narrow);
            else memcpy(&narrow, index + c, n * sizeof *index);
            const NAME(ints) from = __builtin_convertvector(narrow, NAME(ints));
            const V g = n == VL ? NAME(load)(dy + c) : NAME(load_first)(dy + c, m);
            for (ptrdiff_t t = 0; t < count; t++) {
                T *to = dx + taps[2 * t] + c;
                V part = (V)((NAME(ints))g & (from == (IT)taps[2 * t + 1]));
                if (add) part += n == VL ? NAME(load)(to) : NAME(load_first)(to, m);
                if (n == VL) NAME(store)(to, part);
                else NAME(store_first)(to, part, m);
            }
        }
}

typedef struct {
    T lr, momentum, undamped, decay, sign;
    int nesterov, started;
} NAME(sgd_t);

NOINLINE void NAME(sgd_row)(T *restrict w, const T *restrict grad, T *restrict buffer, NAME(sgd_t) h, ptrdiff_t n) {
    if (buffer && !h.started) { /* the first step takes the gradient whole, whatever the buffer held */
        memset(buffer, 0, n * sizeof(T));
        h.undamped = 1;
    }
    if (!buffer)
        for (ptrdiff_t i = 0; i < n; i++) w[i] -= h.lr * (h.sign * grad[i] + h.decay * w[i]);
    else if (h.nesterov)
        for (ptrdiff_t i = 0; i < n; i++) {
            T g = h.sign * grad[i] + h.decay * w[i];
            buffer[i] = h.momentum * buffer[i] + h.undamped * g;
            w[i] -= h.lr * (g + h.momentum * buffer[i]);
        }
    else
        for (ptrdiff_t i = 0; i < n; i++) {
            T g = h.sign * grad[i] + h.decay * w[i];
            buffer[i] = h.momentum * buffer[i] + h.undamped * g;
            w[i] -= h.lr * buffer[i];
        }
}

/* y = scale * x where the number's random word is at least `drop`, else 0. There is a whole vector of words at the end. */
typedef uint32_t NAME(words) __attribute__((vector_size(4 * LANES)));

NOINLINE void NAME(dropout_row)(T *y, const T *x, const uint32_t *words, uint64_t drop, T scale, ptrdiff_t n) {
    const uint32_t low = (uint32_t)drop;
    const NAME(ints) any = (NAME(ints)){0} - (drop <= 0xffffffff); /* or none */
    for (ptrdiff_t i = 0; i < n; i += VL) {
        NAME(words) word;
        memcpy(&word, words + i, sizeof word);
        const NAME(ints) keep = __builtin_convertvector(word >= low, NAME(ints)) & any;
        if (n - i >= VL) NAME(store)(y + i, (V)((NAME(ints))(NAME(load)(x + i) * scale) & keep));
        else {
            const M m = NAME(first)(n - i);
            NAME(store_first)(y + i, (V)((NAME(ints))(NAME(load_first)(x + i, m) * scale) & keep), m);
        }
    }
}
