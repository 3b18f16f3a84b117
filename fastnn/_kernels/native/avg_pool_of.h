/* Average pooling of images, channels last, for one type T. */

/* A row of output pixels, all channels: y = scale times the sum of a window of (rows, cols) pixels of x, whose rows lie `line`
 * apart; the windows lie `step` apart. Each row of a window is summed by itself. */
INLINE V NAME(window_sum)(const T *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t line, ptrdiff_t channels, const int whole,
                          M m) {
    V sum = {0};
    for (ptrdiff_t u = 0; u < rows; u++, x += line) {
        V row = {0};
        const T *p = x;
        for (ptrdiff_t v = 0; v < cols; v++, p += channels) row += whole ? NAME(load)(p) : NAME(load_first)(p, m);
        sum += row;
    }
    return sum;
}

INLINE void NAME(average_row)(T *y, const T *x, const ptrdiff_t rows, const ptrdiff_t cols, ptrdiff_t line,
                              ptrdiff_t channels, T scale, ptrdiff_t pixels, ptrdiff_t step) {
    const ptrdiff_t whole = channels / VL * VL;
    const M m = NAME(first)(channels - whole ? channels - whole : VL);
    for (; pixels > 0; pixels--, x += step, y += channels) {
        for (ptrdiff_t c = 0; c < whole; c += VL)
            NAME(store)(y + c, NAME(window_sum)(x + c, rows, cols, line, channels, 1, m) * scale);
        if (whole < channels)
            NAME(store_first)(y + whole, NAME(window_sum)(x + whole, rows, cols, line, channels, 0, m) * scale, m);
    }
}

NOINLINE void NAME(average_pixels)(T *y, const T *x, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t line, ptrdiff_t channels,
                                   T scale, ptrdiff_t pixels, ptrdiff_t step) {
    if (rows == 2 && cols == 2) NAME(average_row)(y, x, 2, 2, line, channels, scale, pixels, step); /* the usual window */
    else NAME(average_row)(y, x, rows, cols, line, channels, scale, pixels, step);
}

/* The gradient of blocks of (rows, cols) pixels, side by side, of which each lies in the same windows: the sum, over these, of
 * dy times the window's scale; their places in dy are `at`. From block to block, windows move on by one. With `add`, it is
 * added to what is there. */
NOINLINE void NAME(spread_average)(T *restrict dx, ptrdiff_t rows, ptrdiff_t cols, ptrdiff_t line, const T *dy,
                                   const ptrdiff_t *at, const T *scale, ptrdiff_t count, ptrdiff_t channels,
                                   ptrdiff_t blocks, int add) {
    for (; blocks > 0; blocks--, dx += cols * channels, dy += channels)
        for (ptrdiff_t c = 0; c < channels; c += VL) {
            const ptrdiff_t n = channels - c < VL ? channels - c : VL;
            const M m = NAME(first)(n);
            V share = {0};
            for (ptrdiff_t t = 0; t < count; t++) {
                const T *p = dy + at[t] + c;
                share += (n == VL ? NAME(load)(p) : NAME(load_first)(p, m)) * scale[t];
            }
            for (ptrdiff_t u = 0; u < rows; u++) {
                T *p = dx + u * line + c;
                for (ptrdiff_t v = 0; v < cols; v++, p += channels) {
                    V part = share;
                    if (add) part += n == VL ? NAME(load)(p) : NAME(load_first)(p, m);
                    if (n == VL) NAME(store)(p, part);
                    else NAME(store_first)(p, part, m);
                }
            }
        }
}
