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
                NAME(store_places)(index + c, __builtin_convertvector(from, NAME(places)), n);
            }
        }
}

/* n channels of one pixel's gradient: the sum of dy over the windows whose maximum came from it. `taps` lists, for each window
 * that has it, the window's offset in dy and the tap's number there. */
INLINE V NAME(unpooled)(const T *dy, const uint16_t *index, const ptrdiff_t *taps, const ptrdiff_t count, const int whole,
                        ptrdiff_t n) {
    const M m = NAME(first)(n);
    V sum = {0};
    for (ptrdiff_t t = 0; t < count; t++) {
        const NAME(places) chosen = NAME(load_places)(index + taps[2 * t], n);
        const T *from = dy + taps[2 * t];
        const V all = whole ? NAME(load)(from) : NAME(load_first)(from, m);
        const V part = NAME(at_place)(all, chosen, (uint16_t)taps[2 * t + 1]);
        sum = t ? sum + part : part;
    }
    return sum;
}

/* A row of such pixels, `step` apart in dx; from one to the next, windows move on by one. */
INLINE void NAME(unpool_row)(T *dx, const T *dy, const uint16_t *index, const ptrdiff_t *taps, const ptrdiff_t count,
                             ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step, const int add) {
    for (; pixels > 0; pixels--, dx += step, dy += channels, index += channels) {
        ptrdiff_t c = 0;
        for (; c + VL <= channels; c += VL) {
            const V sum = NAME(unpooled)(dy + c, index + c, taps, count, 1, VL);
            NAME(store)(dx + c, add ? NAME(load)(dx + c) + sum : sum);
        }
        if (c < channels) {
            const M m = NAME(first)(channels - c);
            const V sum = NAME(unpooled)(dy + c, index + c, taps, count, 0, channels - c);
            NAME(store_first)(dx + c, add ? NAME(load_first)(dx + c, m) + sum : sum, m);
        }
    }
}

NOINLINE void NAME(unpool_pixels)(T *restrict dx, const T *dy, const uint16_t *index, const ptrdiff_t *taps,
                                  ptrdiff_t count, ptrdiff_t channels, ptrdiff_t pixels, ptrdiff_t step, int add) {
#define UNPOOL_ROW(count, add) NAME(unpool_row)(dx, dy, index, taps, count, channels, pixels, step, add)
    if (add) UNPOOL_ROW(count, 1);
    else if (count == 1) UNPOOL_ROW(1, 0); /* windows side by side */
    else if (count == 2) UNPOOL_ROW(2, 0); /* overlapping windows, two strides wide */
    else if (count == 4) UNPOOL_ROW(4, 0);
    else UNPOOL_ROW(count, 0);
#undef UNPOOL_ROW
}

/* A row of blocks of `width` such pixels, each of one window of its own, whose taps there are numbered from `first` on. */
INLINE void NAME(unpool_blocks)(T *dx, const T *dy, const uint16_t *index, ptrdiff_t first, const ptrdiff_t width,
                                ptrdiff_t channels, ptrdiff_t windows, const int add) {
    for (; windows > 0; windows--, dy += channels, index += channels)
        for (ptrdiff_t v = 0; v < width; v++, dx += channels) {
            const ptrdiff_t tap[2] = {0, first + v};
            NAME(unpool_row)(dx, dy, index, tap, 1, channels, 1, 0, add);
        }
}

NOINLINE void NAME(unpool_apart)(T *restrict dx, const T *dy, const uint16_t *index, ptrdiff_t first, ptrdiff_t width,
                                 ptrdiff_t channels, ptrdiff_t windows, int add) {
    if (add) NAME(unpool_blocks)(dx, dy, index, first, width, channels, windows, 1);
    else if (width == 2) NAME(unpool_blocks)(dx, dy, index, first, 2, channels, windows, 0);
    else NAME(unpool_blocks)(dx, dy, index, first, width, channels, windows, 0);
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
