/* Rows of pixels that convolutions fused with ReLU and max pooling need beside the tiles, for one type T. */

#define NOWHERE 65535 /* the index of a maximum that ReLU makes 0: no tap has it, so no gradient passes */

/* n channels of one output pixel: the maximum of its window, then ReLU, and the place in the window that it came from. */
INLINE void NAME(pool_window)(T *y, uint16_t *index, const T *x, const ptrdiff_t height, const ptrdiff_t width,
                              ptrdiff_t line, ptrdiff_t channels, const int whole, ptrdiff_t n) {
    const M m = NAME(first)(n);
    V best = {0};
    NAME(ints) from = (NAME(ints)){0} + NOWHERE;
    UNROLL for (ptrdiff_t u = 0; u < height; u++) {
        UNROLL for (ptrdiff_t v = 0; v < width; v++) {
            const T *p = x + u * line + v * channels;
            V value = whole ? NAME(load)(p) : NAME(load_first)(p, m);
            NAME(ints) takes = (value > best) | (value != value);
            best = (V)(((NAME(ints))value & takes) | ((NAME(ints))best & ~takes));
            from = (((NAME(ints)){0} + (IT)(u * width + v)) & takes) | (from & ~takes);
        }
    }
    if (whole) NAME(store)(y, best);
    else NAME(store_first)(y, best, m);
    if (!index) return;
    NAME(store_places)(index, __builtin_convertvector(from, NAME(places)), whole ? VL : n);
}

/* The gradient of such a pixel: its dy goes to where the maximum came from, 0 to the others. */
INLINE void NAME(unpool_window)(T *dx, const T *dy, const uint16_t *index, const ptrdiff_t height, const ptrdiff_t width,
                                ptrdiff_t line, ptrdiff_t channels, const int whole, ptrdiff_t n) {
    const M m = NAME(first)(n);
    const NAME(places) from = NAME(load_places)(index, whole ? VL : n);
    const V g = whole ? NAME(load)(dy) : NAME(load_first)(dy, m);
    UNROLL for (ptrdiff_t u = 0; u < height; u++) {
        UNROLL for (ptrdiff_t v = 0; v < width; v++) {
            T *p = dx + u * line + v * channels;
            const V part = NAME(at_place)(g, from, (uint16_t)(u * width + v));
            if (whole) NAME(store)(p, part);
            else NAME(store_first)(p, part, m);
        }
    }
}

/* Rows of such pixels, the windows of (height, width) pixels side by side in x, whose rows lie `line` apart. */
#define EACH_PIXEL(WINDOW, big, small, index, height, width)                                                   \
    for (; pixels > 0; pixels--, big += (width) * channels, small += channels, index += index ? channels : 0) { \
        ptrdiff_t c = 0;                                                                                       \
        for (; c + VL <= channels; c += VL)                                                                    \
            WINDOW(height, width, 1, VL);                                                                      \
        if (c < channels) WINDOW(height, width, 0, channels - c);                                              \
    }
#define POOL(height, width, whole, n) \
    NAME(pool_window)(y + c, index ? index + c : index, x + c, height, width, line, channels, whole, n)
#define UNPOOL(height, width, whole, n) \
    NAME(unpool_window)(dx + c, dy + c, index + c, height, width, line, channels, whole, n)

NOINLINE void NAME(pool_relu)(T *y, uint16_t *index, const T *x, ptrdiff_t height, ptrdiff_t width, ptrdiff_t line,
                              ptrdiff_t channels, ptrdiff_t pixels) {
    if (height == 2 && width == 2) EACH_PIXEL(POOL, x, y, index, 2, 2) /* the usual window, unrolled */
    else EACH_PIXEL(POOL, x, y, index, height, width)
}

NOINLINE void NAME(unpool_relu)(T *dx, const T *dy, const uint16_t *index, ptrdiff_t height, ptrdiff_t width,
                                ptrdiff_t line, ptrdiff_t channels, ptrdiff_t pixels) {
    if (height == 2 && width == 2) EACH_PIXEL(UNPOOL, dx, dy, index, 2, 2)
    else EACH_PIXEL(UNPOOL, dx, dy, index, height, width)
}

#undef EACH_PIXEL
#undef POOL
#undef UNPOOL

/* y (rows, cols) has x (cols) in each row. */
NOINLINE void NAME(fill_rows)(T *y, const T *x, ptrdiff_t rows, ptrdiff_t cols) {
    for (ptrdiff_t i = 0; i < rows; i++, y += cols)
        for (ptrdiff_t j = 0; j < cols; j += VL) {
            if (cols - j >= VL) NAME(store)(y + j, NAME(load)(x + j));
            else NAME(store_first)(y + j, NAME(load_first)(x + j, NAME(first)(cols - j)), NAME(first)(cols - j));
        }
}
